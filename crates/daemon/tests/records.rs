//! One call through the running program leaves its line in `calls.jsonl`, with
//! figures that are those of the audio that passed.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use peer::{Agent, Daemon, Loopback, World, accept, accept_registrations, silent};
use serde_json::Value;

/// Longer than a busy machine takes to write a line.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lines, once there are so many.
fn lines(path: &Path, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.len() >= count {
            return lines;
        }
        assert!(Instant::now() < deadline, "{count} lines are not in {}: {text}", path.display());
        std::thread::yield_now();
    }
}

#[test]
fn a_call_with_audio_is_written_down() {
    let world = World::border("info");
    let path = world.daemon.dir().join("state/calls.jsonl");
    let call = world.call();
    std::thread::sleep(Duration::from_secs(1));
    let audio = call.hang_up();
    assert!(audio.is_unharmed(), "{audio}");
    let written = lines(&path, 1);
    let line = &written[0];
    assert_eq!((&line["from"], &line["to"]), (&Value::from("alice"), &Value::from("bob")));
    assert_eq!((&line["ended_by"], &line["cause"]), (&Value::from("outer"), &Value::from("caller_bye")));
    assert!(line["duration_s"].as_f64().unwrap() >= 1.0, "{line}");
    for (end, side) in [("caller", "outer"), ("callee", "inner")] {
        let leg = &line["streams"][0][end];
        let figure = |key: &str| leg[key].as_f64().unwrap_or(f64::NAN);
        assert_eq!(leg["side"], side);
        assert!(figure("packets_in") >= 40.0 && figure("packets_out") >= 40.0, "{leg}");
        assert!(figure("lost") <= figure("expected") * 0.03 && figure("expected") <= figure("packets_in"), "{leg}");
        assert!(figure("mos") > 4.0 && figure("jitter_ms") < 20.0, "{leg}");
        assert!(leg["source"].as_str().is_some_and(|source| source.starts_with("127.")), "{leg}");
    }
    assert_eq!(world.daemon.figure("siplatch_media_mos_count", ""), 2.0);
    // Moved away, as logrotate does: the next call begins a new file.
    std::fs::rename(&path, path.with_extension("old")).unwrap();
    world.call().hang_up();
    assert_eq!(lines(&path, 1).len(), 1);
}

/// The phone names a private address and says nothing: the other end hears nothing, and the log says why.
#[test]
fn one_way_audio_is_told_with_its_reason() {
    let net = Loopback::new();
    let (sip, upstream) = (net.at(1, 5060), net.at(2, 5060));
    let core = Agent::new("core", net.at(10, 5060), accept_registrations());
    let daemon = Daemon::start(net, &border(sip, upstream, &core, ""), "info");
    let alice = Agent::new("alice", net.at(20, 5060), silent());
    assert_eq!(alice.register(sip, "example.net", "secret"), 200);
    let sdp = alice.sdp();
    let port = sdp.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let invite = alice.draft("INVITE", "sip:bob@example.net").add("Contact", &alice.contact());
    let answered = alice.ask(sip, &invite.sdp(&sdp.replace(&alice.address.ip().to_string(), "10.9.9.9"))).unwrap();
    assert_eq!(answered.status(), Some(200), "{answered:?} ({port})");
    let deadline = Instant::now() + PATIENCE;
    let told = r#"no audio from the caller "alice": nothing ever came; its SDP names the private address 10.9.9.9"#;
    // The log quotes what it is given.
    let log = loop {
        let log = String::from_utf8(daemon.log()).unwrap();
        if log.contains(told) || Instant::now() > deadline {
            break log;
        }
        std::thread::yield_now();
    };
    assert_eq!(log.matches(told).count(), 1, "{log}");
    assert_eq!(daemon.figure("siplatch_media_unheard_total", "reason=\"private\""), 1.0);
    assert_eq!(daemon.figure("siplatch_ports_orphaned", ""), 0.0);
}

/// Ports for two calls: the log warns while they are up, and the next one hears 503 at once, with when to try again.
#[test]
fn exhausted_ports_are_told_before_and_refused_at_once() {
    let net = Loopback::new();
    let (sip, upstream) = (net.at(1, 5060), net.at(2, 5060));
    let core = Agent::new("core", net.at(10, 5060), accept_registrations());
    let config = border(sip, upstream, &core, "[media]\nports = \"30000-30003\"\n");
    let daemon = Daemon::start(net, &config, "info");
    let alice = Agent::new("alice", net.at(20, 5060), accept());
    assert_eq!(alice.register(sip, "example.net", "secret"), 200);
    let invite = || alice.draft("INVITE", "sip:bob@example.net").add("Contact", &alice.contact()).sdp(&alice.sdp());
    for _ in 0..2 {
        assert_eq!(alice.ask(sip, &invite()).unwrap().status(), Some(200));
    }
    let once = || {
        let began = Instant::now();
        let refused = alice.ask(sip, &invite()).unwrap();
        (began.elapsed(), refused)
    };
    // The quickest of three: the machine has other things to do as well.
    let (took, refused) = (0..3).map(|_| once()).min_by_key(|(took, _)| *took).unwrap();
    assert_eq!(refused.status(), Some(503), "{refused:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert!(refused.value("Retry-After").is_some() && refused.value("Reason").is_some(), "{refused:?}");
    let log = String::from_utf8(daemon.log()).unwrap();
    assert!(log.contains("media ports run short"), "{log}");
    assert_eq!(daemon.figure("siplatch_ports_used_ratio", "30000-30003"), 1.0);
    assert_eq!(daemon.figure("siplatch_ports_orphaned", ""), 0.0);
}

/// Phones outside, the core inside.
fn border(sip: SocketAddr, upstream: SocketAddr, core: &Agent, more: &str) -> String {
    format!(
        "role = \"border\"\n[outer]\nlisten = [\"udp:{sip}\"]\nadvertise = \"listen\"\n[inner]\nlisten = \
         [\"udp:{upstream}\"]\nadvertise = \"listen\"\n[[upstream]]\nuri = \"sip:{}\"\n{more}",
        core.address
    )
}
