//! The machine against a server of a few lines, in virtual time. A real one is
//! asked in `net`.

use wire::stun::turn::{Asked, read_request, response, wrap_channel, wrap_data};

use super::*;

const REALM: &str = "example.net";

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an IP")
}

struct World {
    now: Instant,
    turn: Turn,
    key: Key,
    nonce: String,
    lifetime: u32,
    /// Answers, instead of success.
    refuse: Vec<(Method, u16)>,
    silent: bool,
    asked: Vec<(u64, Method)>,
    last: Option<Asked>,
    start: Instant,
    events: Vec<Output>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a test needs some moment to begin with")]
    fn new(config: Config) -> Self {
        let now = Instant::now();
        Self {
            now,
            turn: Turn::new(now, config, [7; 32]),
            key: Key::of("office", REALM, "secret"),
            nonce: "n1".to_owned(),
            lifetime: 600,
            refuse: Vec::new(),
            silent: false,
            asked: Vec::new(),
            last: None,
            start: now,
            events: Vec::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.turn.poll_output() {
            match &output {
                Output::Transmit(bytes) => match read_request(bytes, &self.key) {
                    Some(asked) => {
                        self.asked.push((self.now.duration_since(self.start).as_secs(), asked.method));
                        if let Some(answer) = self.answer(&asked) {
                            self.turn.handle_input(self.now, Input::Received(&answer));
                        }
                        self.last = Some(asked);
                    }
                    None => panic!("no request"),
                },
                Output::Allocated(_) | Output::Denied(..) | Output::Unanswered | Output::Ended(_) => {
                    self.events.push(output)
                }
            }
        }
    }

    fn answer(&mut self, asked: &Asked) -> Option<Vec<u8>> {
        if self.silent {
            return None;
        }
        let challenge = Some((REALM.to_owned(), self.nonce.clone()));
        let refused = |code, challenge| Err(Refused { code, challenge });
        let (outcome, key) = if asked.nonce.is_none() || !asked.signed {
            (refused(401, challenge), None)
        } else if asked.nonce.as_deref() != Some(&self.nonce) {
            (refused(438, challenge), None)
        } else if let Some(at) = self.refuse.iter().position(|(method, _)| *method == asked.method) {
            (refused(self.refuse.remove(at).1, None), Some(&self.key))
        } else {
            let allocate = asked.method == Method::Allocate;
            let lifetime = asked.lifetime.map(|asked| asked.min(self.lifetime));
            let granted = Granted {
                relayed: allocate.then(|| at("203.0.113.5:50000")),
                mapped: allocate.then(|| at("198.51.100.1:40000")),
                lifetime,
                token: asked.even.then_some([9; 8]),
            };
            (Ok(granted), Some(&self.key))
        };
        response(asked.method, asked.id, &outcome, key)
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        let mut steps = 0;
        while let Some(due) = self.turn.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.turn.handle_timeout(self.now);
            self.drain();
            steps += 1;
            assert!(steps < 10_000, "it spins");
        }
        self.now = end;
    }

    fn permit(&mut self, peers: &[&str]) {
        let peers: Vec<IpAddr> = peers.iter().map(|peer| ip(peer)).collect();
        self.turn.handle_input(self.now, Input::Permit(&peers));
        self.drain();
    }

    fn send(&mut self, peer: &str) -> Option<u8> {
        let mut out = Vec::new();
        let sent = self.turn.send(self.now, at(peer), b"media", &mut out);
        self.drain();
        assert_eq!(sent, !out.is_empty());
        sent.then(|| out[0])
    }

    fn times(&self, method: Method) -> Vec<u64> {
        self.asked.iter().filter(|(_, asked)| *asked == method).map(|(at, _)| *at).collect()
    }
}

fn config() -> Config {
    let credentials = Credentials { username: "office".to_owned(), password: "secret".to_owned() };
    Config { credentials, ipv6: false, port: Port::Any, stream: false, refresh: Duration::from_secs(3600) }
}

fn ready(port: Port) -> World {
    let mut world = World::new(Config { port, ..config() });
    world.drain();
    assert!(matches!(world.events[..], [Output::Allocated(_)]), "{:?}", world.events);
    world
}

#[test]
fn an_allocation_is_asked_for_with_credentials_and_given_back() {
    let mut world = ready(Port::Even);
    let expected = Allocated {
        relayed: at("203.0.113.5:50000"),
        mapped: Some(Mapped(at("198.51.100.1:40000"))),
        token: Some([9; 8]),
    };
    assert_eq!(world.events, [Output::Allocated(expected)]);
    assert_eq!(world.asked.len(), 2, "one without credentials, one with");
    world.turn.handle_input(world.now, Input::Close);
    world.drain();
    assert_eq!(world.last.as_ref().and_then(|asked| asked.lifetime), Some(0));
    assert_eq!(world.events[1..], [Output::Ended(End::Closed)]);
    assert_eq!(world.turn.poll_timeout(), None);
    let other = ready(Port::Reserved([9; 8]));
    assert_eq!(other.last.and_then(|asked| asked.token), Some([9; 8]));
}

#[test]
fn allocation_permission_and_channel_are_refreshed_in_time() {
    let mut world = ready(Port::Any);
    world.permit(&["198.51.100.7"]);
    world.send("198.51.100.7:4000");
    world.asked.clear();
    for _ in 0..1800 {
        world.pass(1);
        assert_eq!(world.send("198.51.100.7:4000"), Some(0x40), "ChannelData all the time");
    }
    assert_eq!(world.times(Method::Refresh), [540, 1080, 1620]);
    assert_eq!(world.times(Method::CreatePermission), [240, 480, 720, 960, 1200, 1440, 1680]);
    assert_eq!(world.times(Method::ChannelBind), [540, 1080, 1620]);
    // A channel that nobody uses, and a permission that nobody wants, run out.
    world.permit(&[]);
    world.asked.clear();
    world.pass(3600);
    assert_eq!(world.times(Method::CreatePermission).len() + world.times(Method::ChannelBind).len(), 0);
    assert_eq!(world.events.len(), 1);
}

#[test]
fn short_lifetimes_are_kept_too() {
    let mut world = World::new(config());
    world.lifetime = 10;
    world.drain();
    world.asked.clear();
    world.pass(60);
    assert_eq!(world.times(Method::Refresh), [8, 16, 24, 32, 40, 48, 56]);
    assert_eq!(world.events.len(), 1, "it was never lost");
}

#[test]
fn a_stale_nonce_costs_one_more_request() {
    let mut world = ready(Port::Any);
    world.permit(&["198.51.100.7"]);
    world.nonce = "n2".to_owned();
    world.asked.clear();
    world.pass(541);
    assert_eq!(world.times(Method::CreatePermission), [240, 240, 480]);
    assert_eq!(world.times(Method::Refresh), [540]);
    assert_eq!(world.events.len(), 1);
}

#[test]
fn who_never_accepts_a_nonce_is_not_asked_for_ever() {
    let mut world = World::new(config());
    world.key = Key::of("office", REALM, "another");
    world.drain();
    assert_eq!(world.events, [Output::Ended(End::Unauthorized)]);
    assert_eq!(world.asked.len(), 2);
    // Every nonce is stale at once.
    let mut world = World::new(config());
    for number in 0..20 {
        let bytes = match world.turn.poll_output() {
            Some(Output::Transmit(bytes)) => bytes,
            Some(other) => {
                world.events.push(other);
                break;
            }
            None => break,
        };
        let asked = read_request(&bytes, &world.key).expect("reads");
        let challenge = Some((REALM.to_owned(), format!("n{number}")));
        let answer = response(asked.method, asked.id, &Err(Refused { code: 438, challenge }), None).expect("fits");
        world.turn.handle_input(world.now, Input::Received(&answer));
        world.asked.push((0, asked.method));
    }
    assert_eq!((world.asked.len(), &world.events[..]), (4, &[Output::Ended(End::Unauthorized)][..]));
}

#[test]
fn an_allocation_that_the_server_does_not_know_is_lost() {
    for method in [Method::Refresh, Method::CreatePermission, Method::ChannelBind] {
        let mut world = ready(Port::Any);
        world.permit(&["198.51.100.7"]);
        world.send("198.51.100.7:4000");
        world.refuse.push((method, 437));
        world.pass(600);
        assert_eq!(world.events[1..], [Output::Ended(End::Lost)], "{method:?}");
        assert_eq!(world.send("198.51.100.7:4000"), None);
    }
    let mut world = World::new(config());
    world.refuse.push((Method::Allocate, 437));
    world.drain();
    assert_eq!(world.events, [Output::Ended(End::Lost)]);
}

#[test]
fn refusals_say_why_and_others_are_tried_again_while_there_is_time() {
    let mut world = World::new(config());
    world.refuse.push((Method::Allocate, 486));
    world.drain();
    assert_eq!(world.events, [Output::Ended(End::Refused(486))]);

    let mut world = ready(Port::Any);
    world.refuse.extend([(Method::Refresh, 500), (Method::Refresh, 500), (Method::CreatePermission, 500)]);
    world.permit(&["198.51.100.7"]);
    assert_eq!(world.send("198.51.100.7:4000"), None);
    world.pass(11);
    assert!(world.turn.is_permitted(ip("198.51.100.7")));
    world.pass(600);
    assert_eq!(world.times(Method::Refresh)[..3], [540, 550, 560]);
    assert_eq!(world.events.len(), 1);

    // A peer that the server does not allow is not asked about again.
    let mut world = ready(Port::Any);
    world.refuse.push((Method::CreatePermission, 403));
    world.permit(&["10.0.0.1"]);
    world.pass(500);
    assert_eq!(world.events[1..], [Output::Denied(ip("10.0.0.1"), 403)]);
    assert_eq!(world.times(Method::CreatePermission).len(), 1);

    // Without a channel, Send indications go on.
    let mut world = ready(Port::Any);
    world.permit(&["198.51.100.7"]);
    world.refuse.push((Method::ChannelBind, 400));
    for _ in 0..5 {
        assert_eq!(world.send("198.51.100.7:4000"), Some(0x00));
        world.pass(10);
    }
    assert_eq!(world.times(Method::ChannelBind).len(), 1);
}

#[test]
fn silence_ends_what_was_asked_for_and_loses_what_was_there() {
    let mut world = World::new(config());
    world.silent = true;
    world.drain();
    world.pass(60);
    assert_eq!(world.times(Method::Allocate), [0, 0, 1, 3, 7, 15]);
    assert_eq!(world.events, [Output::Ended(End::Silent)]);
    let mut world = World::new(Config { stream: true, ..config() });
    world.silent = true;
    world.drain();
    world.pass(60);
    assert_eq!((world.asked.len(), &world.events[..]), (1, &[Output::Ended(End::Silent)][..]));

    let mut world = ready(Port::Any);
    world.silent = true;
    world.pass(599);
    assert_eq!(world.events[1..], [Output::Unanswered, Output::Unanswered], "until its end it may still be there");
    world.pass(2);
    assert_eq!(world.events[3..], [Output::Ended(End::Lost)]);
}

#[test]
fn refreshes_come_as_often_as_is_wanted() {
    let mut world = World::new(Config { refresh: Duration::from_secs(25), ..config() });
    world.drain();
    world.asked.clear();
    world.pass(110);
    assert_eq!(world.times(Method::Refresh), [25, 50, 75, 100]);
    // A short silence does no harm.
    world.silent = true;
    world.pass(40);
    world.silent = false;
    world.pass(600);
    assert_eq!(world.events[1..], [Output::Unanswered]);
}

#[test]
fn media_passes_by_indications_then_by_a_channel() {
    let mut world = ready(Port::Any);
    assert_eq!(world.send("198.51.100.7:4000"), None, "no permission yet");
    world.permit(&["198.51.100.7"]);
    assert_eq!(world.send("198.51.100.7:4000"), Some(0x00));
    assert_eq!(world.send("198.51.100.7:4000"), Some(0x40));
    assert_eq!(world.send("198.51.100.8:4000"), None);
    let mut channel = Vec::new();
    assert!(wrap_channel(0x4000, b"voice", false, &mut channel));
    assert_eq!(world.turn.receive(&channel), Some((at("198.51.100.7:4000"), &b"voice"[..])));
    let mut data = Vec::new();
    assert!(wrap_data([1; 12], at("198.51.100.7:5000"), b"voice", &mut data));
    assert_eq!(world.turn.receive(&data), Some((at("198.51.100.7:5000"), &b"voice"[..])));
    let mut unknown = Vec::new();
    assert!(wrap_channel(0x4001, b"voice", false, &mut unknown));
    assert_eq!(world.turn.receive(&unknown), None);
    // More peers than there are channels.
    world.permit(&["198.51.100.7"]);
    for port in 5000..5020 {
        assert!(world.send(&format!("198.51.100.7:{port}")).is_some());
    }
    assert_eq!(world.times(Method::ChannelBind).len(), 8);
}

#[test]
fn lies_are_not_believed() {
    let mut world = World::new(config());
    let Some(Output::Transmit(bytes)) = world.turn.poll_output() else { panic!("a request") };
    let asked = read_request(&bytes, &world.key).expect("reads");
    let granted = |relayed: &str, lifetime| {
        Ok(Granted { relayed: Some(at(relayed)), mapped: None, lifetime: Some(lifetime), token: None })
    };
    // Not signed, of another transaction, or no answer at all.
    for (id, packet) in [(asked.id, None), ([0; 12], None), (asked.id, Some(vec![1, 2, 3]))] {
        let made = response(Method::Allocate, id, &granted("203.0.113.5:50000", 600), None).expect("fits");
        world.turn.handle_input(world.now, Input::Received(&packet.unwrap_or(made)));
        assert_eq!(world.turn.poll_output(), None);
    }
    for (relayed, lifetime) in
        [("0.0.0.0:5000", 600), ("224.0.0.1:5000", 600), ("203.0.113.5:0", 600), ("203.0.113.5:1", 0)]
    {
        let mut world = World::new(config());
        let mut ended = Vec::new();
        while let Some(output) = world.turn.poll_output() {
            let Output::Transmit(bytes) = output else {
                ended.push(output);
                continue;
            };
            let asked = read_request(&bytes, &world.key).expect("reads");
            let challenge = Some((REALM.to_owned(), "n1".to_owned()));
            let (outcome, key) = match asked.nonce {
                None => (Err(Refused { code: 401, challenge }), None),
                Some(_) => (granted(relayed, lifetime), Some(&world.key)),
            };
            let answer = response(asked.method, asked.id, &outcome, key).expect("fits");
            world.turn.handle_input(world.now, Input::Received(&answer));
        }
        assert_eq!(ended, [Output::Ended(End::Absurd)], "{relayed} {lifetime}");
    }
    // A nonce beyond all bounds.
    let challenge = Some((REALM.to_owned(), "n".repeat(600)));
    if let Some(answer) = response(Method::Allocate, asked.id, &Err(Refused { code: 401, challenge }), None) {
        world.turn.handle_input(world.now, Input::Received(&answer));
        assert_eq!(world.turn.poll_output(), Some(Output::Ended(End::Absurd)));
    }
}
