//! Calls of an office whose media goes through a TURN server, coturn, over UDP,
//! TCP and TLS: the running program, a phone and a provider with real packets.
//!
//! No STUN server answers here, so nothing cheaper works. What a symmetric NAT
//! does is shown in `tests/lab`.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use peer::{Agent, Call, Coturn, Daemon, Loopback, Message, accept, accept_registrations, announce};

const PATIENCE: Duration = Duration::from_secs(20);
const PASSWORD: &str = "a secret";

struct Office {
    net: Loopback,
    daemon: Daemon,
    phone: Agent,
    provider: Agent,
    sip: SocketAddr,
}

impl Office {
    /// `server` is its TURN server; `more` stands at the end of its configuration.
    fn new(net: Loopback, coturn: &Coturn, server: &str, password: &str, more: &str) -> Self {
        let (sip, outer, stun) = (net.at(1, 5060), net.at(4, 5060), net.at(9, 3478));
        let provider = Agent::new("core", net.at(10, 5060), accept_registrations());
        let config = format!(
            "role = \"office\"\n[inner]\nlisten = [\"udp:{sip}\"]\n[outer]\nlisten = [\"udp:{outer}\"]\nadvertise = \
             \"stun\"\nstun_servers = [\"{stun}\"]\n[[upstream]]\nuri = \"sip:{}\"\n{more}[tls]\nca = \
             \"DIR/turn.pem\"\n[turn]\nserver = \"{server}\"\nusername = \"office\"\npassword = \"{password}\"\n",
            provider.address
        );
        let daemon = Daemon::start_with(net, &config, "info", |dir| coturn.write_authority(&dir.join("turn.pem")));
        let phone = Agent::new("alice", net.at(20, 5060), accept());
        let status = phone.register(sip, "example.net", "secret");
        assert_eq!(status == 200, password == PASSWORD, "{status}");
        Self { net, daemon, phone, provider, sip }
    }

    fn await_figure(&self, name: &str, labels: &str, wanted: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(self.daemon.figure(name, labels)) {
            let log = String::from_utf8_lossy(&self.daemon.log()).into_owned();
            assert!(Instant::now() < deadline, "{name} {labels}: {}\n{log}", self.daemon.metrics());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn call(&self) -> Call<'_> {
        Call::up(&self.phone, self.sip, "sip:bob@example.net", &self.provider)
    }
}

#[test]
fn calls_go_through_turn_over_udp_tcp_and_tls() {
    for scheme in ["turn:HOST:3478", "turn:HOST:3478?transport=tcp", "turns:HOST:5349"] {
        let net = Loopback::new();
        let Some(coturn) = Coturn::start(net, 3, &[]) else { return };
        let office = Office::new(net, &coturn, &scheme.replace("HOST", &net.ip(3).to_string()), PASSWORD, "");
        let banner = &office.daemon.banner;
        assert!(banner.contains("in use: no STUN server answers, UDP seems blocked"), "{banner}");
        assert!(banner.contains(", as the TURN server sees it"), "{banner}");
        office.await_figure("siplatch_turn_allocations", "", |pairs| pairs >= 2.0);
        let call = office.call();
        let offered = call.invited.media().unwrap();
        assert_eq!(offered.ip(), net.ip(3), "the provider sends to the relay");
        let sdp = call.invited.body();
        assert!(sdp.contains(&format!("a=rtcp:{}", offered.port() + 1)), "{sdp}");
        // A stranger has no permission, whatever it guesses.
        let stranger = UdpSocket::bind(net.at(66, 0)).unwrap();
        stranger.send_to(&[0x80; 172], offered).unwrap();
        // Another call beside it has addresses of its own.
        let other = Agent::new("carol", net.at(21, 5060), accept());
        assert_eq!(other.register(office.sip, "example.net", "secret"), 200);
        let invite = other.draft("INVITE", "sip:bob@example.net").add("Contact", &other.contact()).sdp(&other.sdp());
        assert_eq!(other.ask(office.sip, &invite).and_then(|answer| answer.status()), Some(200));
        let same = |message: &Message| {
            message.method() == Some("INVITE") && message.value("Call-ID") == invite.value("Call-ID")
        };
        let second = office.provider.wait(PATIENCE, same).and_then(|invited| invited.media()).unwrap();
        assert!(second.ip() == net.ip(3) && second != offered, "{second}");
        let audio = call.hang_up();
        announce(&format!("TURN {scheme}: {audio}"));
        assert!(audio.is_unharmed(), "{scheme}: {audio:?}");
        let contact = office.provider.heard().iter().find_map(|m| m.uri_of("Contact").map(str::to_owned)).unwrap();
        assert!(contact.contains(&net.at(4, 5060).to_string()), "{contact}");
        let status = String::from_utf8_lossy(&office.daemon.status(&[]).stdout).into_owned();
        assert!(status.contains("TURN: turn") && status.contains("port pairs relayed"), "{status}");
        assert_eq!(office.daemon.figure("siplatch_turn_used", "udp_blocked"), 1.0);
    }
}

#[test]
fn a_turn_server_that_is_no_help_holds_nothing_up() {
    let net = Loopback::new();
    let Some(mut coturn) = Coturn::start(net, 3, &[]) else { return };
    peer::binary();
    let begun = Instant::now();
    let office = Office::new(net, &coturn, &format!("turn:{}:3478", net.ip(3)), "wrong", "");
    assert!(begun.elapsed() < Duration::from_secs(10));
    office.await_figure("siplatch_turn_failures_total", "unauthorized", |count| count >= 1.0);
    let status = String::from_utf8_lossy(&office.daemon.status(&[]).stdout).into_owned();
    assert!(status.contains("trouble: media needs the TURN server"), "{status}");
    // Whoever calls is refused at once, and need not wait.
    let invite = office.phone.draft("INVITE", "sip:bob@example.net").add("Contact", &office.phone.contact());
    let answer = office.phone.ask(office.sip, &invite.sdp(&office.phone.sdp())).and_then(|answer| answer.status());
    assert!(matches!(answer, Some(403 | 503)), "{answer:?}");
    drop(office);

    // One that goes while a call is up, and comes back with nothing that it knew.
    let net = Loopback::new();
    coturn = Coturn::start(net, 3, &[]).unwrap();
    let office = Office::new(net, &coturn, &format!("turn:{}:3478?transport=tcp", net.ip(3)), PASSWORD, "");
    office.await_figure("siplatch_turn_allocations", "", |pairs| pairs >= 2.0);
    let call = office.call();
    coturn.kill();
    office.await_figure("siplatch_turn_failures_total", "unreachable", |count| count >= 1.0);
    office.await_figure("siplatch_turn_allocations", "", |pairs| pairs == 0.0);
    coturn.restart(&[]);
    office.await_figure("siplatch_turn_allocations", "", |pairs| pairs >= 2.0);
    let _left = call.leave();
    let audio = office.call().hang_up();
    assert!(audio.is_unharmed(), "{audio:?}");
    assert_eq!(office.net, net);
}

#[test]
fn what_comes_to_be_known_by_stun_is_cheaper() {
    let net = Loopback::new();
    let Some(coturn) = Coturn::start(net, 3, &[]) else { return };
    let server = format!("turn:{}:3478", net.ip(3));
    // The provider latches, but nothing reaches it by UDP as far as anybody knows: TURN.
    let office = Office::new(net, &coturn, &server, PASSWORD, "comedia = true\n");
    office.await_figure("siplatch_turn_used", "udp_blocked", |used| used == 1.0);
    office.await_figure("siplatch_turn_allocations", "", |pairs| pairs >= 2.0);
    // Without the section the same program goes on without it; its call stays as it is.
    let call = office.call();
    assert_eq!(call.invited.media().unwrap().ip(), net.ip(3));
    let file = office.daemon.dir().join("siplatch.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let at = text.find("[turn]").unwrap();
    let end = at + text[at..].find("[metrics]").unwrap();
    std::fs::write(&file, format!("{}{}", &text[..at], &text[end..])).unwrap();
    let id = office.daemon.id().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    office.await_figure("siplatch_turn_used", "udp_blocked", |used| used == 0.0);
    let audio = call.hang_up();
    assert!(audio.is_unharmed(), "{audio:?}");
    office.await_figure("siplatch_turn_allocations", "", |pairs| pairs == 0.0);
}
