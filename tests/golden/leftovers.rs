//! Whatever peers do, and in whatever order: when all of them have fallen
//! silent, no transaction, call, stream or port is left. `SIPLATCH_SEED=17`
//! replays one seed and prints it, `SIPLATCH_SEEDS=20000` takes more of them.

use std::time::Duration;

use crate::inputs::message;
use crate::world::{Head, World};

/// One peer's place: the side it is on, its address, its user.
type Place = (&'static str, &'static str, &'static str);

/// Phones first, the core or provider last; standalone has phones only.
fn places(role: &str) -> &'static [Place] {
    match role {
        "border" => &[
            ("outer", "198.51.100.7:51000", "alice"),
            ("outer", "198.51.100.9:53000", "booth"),
            ("inner", "10.0.0.5:5060", ""),
        ],
        "office" => &[
            ("inner", "192.168.1.10:5060", "alice"),
            ("inner", "192.168.1.11:5060", "bob"),
            ("outer", "203.0.113.5:5060", ""),
        ],
        _ => &[
            ("inner", "192.168.1.10:5060", "alice"),
            ("inner", "192.168.1.11:5060", "bob"),
            ("inner", "192.168.1.12:5060", "bob"),
        ],
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// What a peer received from us.
struct Letter {
    place: Place,
    text: String,
}

/// All peers at once, without any manners.
struct Crowd {
    world: World,
    dice: Dice,
    places: &'static [Place],
    letters: Vec<Letter>,
    sent: Vec<(Place, Vec<u8>)>,
    count: usize,
    /// Print everything.
    loud: bool,
}

impl Crowd {
    fn send(&mut self, place: Place, text: &str) {
        self.deliver(place, message(text));
    }

    fn deliver(&mut self, place: Place, bytes: Vec<u8>) {
        if self.loud {
            println!("<<< {} {}\n{}", place.0, place.1, String::from_utf8_lossy(&bytes).replace('\r', ""));
        }
        let events = self.world.receive(place.0, place.1, &bytes);
        self.sent.push((place, bytes));
        self.read(&events);
    }

    /// Sorts what came out by whom it is for.
    fn read(&mut self, events: &[String]) {
        for event in events.iter().filter(|_| self.loud) {
            println!("{event}");
        }
        for event in events {
            let Some((head, text)) = event.strip_prefix(">>> ").and_then(|e| e.split_once('\n')) else { continue };
            let at = self.places.iter().find(|place| head == format!("{} {}", place.0, place.1));
            if let Some(place) = at {
                self.letters.push(Letter { place: *place, text: text.to_owned() });
            }
        }
    }

    /// One random deed.
    fn act(&mut self) {
        self.count += 1;
        match self.dice.below(40) {
            0 | 1 => self.register(),
            2..=4 => self.invite(),
            5 => self.other(),
            6 => self.cancel(),
            7 | 8 => self.again(),
            9 => self.corrupt(),
            10 | 11 => {
                let most = [2_000, 2_000, 2_000, 40_000][self.dice.below(4)];
                let events = self.world.wait(Duration::from_millis(self.dice.below(most) as u64));
                self.read(&events);
            }
            12 if self.dice.below(4) == 0 => {
                let events = self.world.silence();
                self.read(&events);
            }
            13 if self.dice.below(4) == 0 => {
                let place = self.places[self.dice.below(self.places.len())];
                let events = self.world.unsent(place.0, place.1);
                self.read(&events);
            }
            14 if self.dice.below(16) == 0 => {
                let events = self.world.restart();
                self.read(&events);
            }
            _ => self.react(),
        }
    }

    fn phone(&mut self) -> Place {
        let phones = self.places.iter().filter(|place| !place.2.is_empty()).count();
        self.places[self.dice.below(phones)]
    }

    fn via(&self, place: Place) -> String {
        format!("Via: SIP/2.0/UDP {};rport;branch=z9hG4bKc{}", place.1, self.count)
    }

    fn register(&mut self) {
        let place = self.phone();
        let (via, user, at) = (self.via(place), place.2, place.1);
        let contact = if self.dice.below(20) == 0 { "*".to_owned() } else { format!("<sip:{user}@{at}>") };
        let expires = if contact == "*" { 0 } else { [0, 60, 600, 600, 600, 600, 600][self.dice.below(7)] };
        let count = self.count;
        self.send(
            place,
            &format!(
                "REGISTER sip:example.com SIP/2.0\n{via}\nMax-Forwards: 70\nFrom: <sip:{user}@example.com>;tag=r\n\
                 To: <sip:{user}@example.com>\nCall-ID: r-{user}-{at}\nCSeq: {count} REGISTER\nContact: {contact}\n\
                 Expires: {expires}\n"
            ),
        );
    }

    /// Where a call goes: a user, or a Contact that the core has seen.
    fn callee(&mut self, place: Place) -> String {
        let bound: Vec<String> = self
            .letters
            .iter()
            .filter(|letter| letter.place == place && letter.text.starts_with("REGISTER "))
            .filter_map(|letter| uri(&letter.text, "Contact"))
            .collect();
        match self.dice.pick(&bound) {
            Some(uri) => uri.clone(),
            None => format!("sip:{}@example.com", ["alice", "bob"][self.dice.below(2)]),
        }
    }

    fn body(&mut self) -> String {
        let ip = ["192.168.1.77", "10.0.0.9", "198.51.100.7", "0.0.0.0"][self.dice.below(4)];
        let audio = [0, 4000, 4010, 5000][self.dice.below(4)];
        let direction = ["sendrecv", "sendonly", "inactive"][self.dice.below(3)];
        let video = ["", "m=video 4020 RTP/AVP 31\n", "m=video 0 RTP/AVP 31\n"][self.dice.below(3)];
        match self.dice.below(12) {
            0 => String::new(),
            1 => "Content-Type: application/sdp\n\nv=0\nm=audio what RTP/AVP 0\n".to_owned(),
            _ => format!(
                "Content-Type: application/sdp\n\nv=0\no=- 1 1 IN IP4 {ip}\ns=-\nc=IN IP4 {ip}\nt=0 0\n\
                 m=audio {audio} RTP/AVP 0\na={direction}\n{video}"
            ),
        }
    }

    fn invite(&mut self) {
        let place = self.places[self.dice.below(self.places.len())];
        let (via, callee, body, count) = (self.via(place), self.callee(place), self.body(), self.count);
        let (user, at) = (place.2, place.1);
        self.send(
            place,
            &format!(
                "INVITE {callee} SIP/2.0\n{via}\nMax-Forwards: 70\nFrom: <sip:{user}@example.com>;tag=f{count}\n\
                 To: <{callee}>\nCall-ID: c-{count}\nCSeq: 1 INVITE\nContact: <sip:{user}@{at}>\n{body}"
            ),
        );
    }

    fn other(&mut self) {
        let place = self.places[self.dice.below(self.places.len())];
        let (via, callee, count) = (self.via(place), self.callee(place), self.count);
        let (method, at) = (["MESSAGE", "SUBSCRIBE", "REFER", "OPTIONS", "PUBLISH"][self.dice.below(5)], place.1);
        self.send(
            place,
            &format!(
                "{method} {callee} SIP/2.0\n{via}\nMax-Forwards: 70\nFrom: <sip:x@example.com>;tag=f{count}\n\
                 To: <{callee}>\nCall-ID: o-{count}\nCSeq: 1 {method}\nContact: <sip:x@{at}>\nExpires: 60\n"
            ),
        );
    }

    /// Does something about a message that came.
    fn react(&mut self) {
        if self.letters.is_empty() {
            return;
        }
        let recent = self.letters.len().saturating_sub(12);
        let index = recent + self.dice.below(self.letters.len() - recent);
        let Letter { place, text } = &self.letters[index];
        let (place, text) = (*place, text.clone());
        let is_response = text.starts_with("SIP/2.0 ");
        match (is_response, self.dice.below(8)) {
            (false, 0..=5) if !text.starts_with("ACK ") => self.respond(place, &text),
            (false, 6) if place.2.is_empty() && text.starts_with("INVITE ") => self.pass_on(place, &text),
            (true, 0..=2) if text.contains(" INVITE\n") => self.acknowledge(place, &text),
            (true, 3) if place.2.is_empty() => self.pass_back(place, &text),
            _ => self.within(place, &text, is_response),
        }
    }

    fn respond(&mut self, place: Place, text: &str) {
        let invite = [100, 180, 180, 183, 183, 200, 200, 200, 200, 200, 302, 407, 486, 491, 503, 603];
        let others = [200, 200, 200, 200, 200, 200, 182, 401, 481, 500];
        let known: &[u16] = if text.starts_with("INVITE ") { &invite } else { &others };
        let status = known[self.dice.below(known.len())];
        let tag = if lines(text, "To").concat().contains(";tag=") {
            String::new()
        } else {
            format!(";tag=t{}", self.dice.below(3))
        };
        let reliable = if status == 183 && self.dice.below(2) == 0 { "Require: 100rel\nRSeq: 1\n" } else { "" };
        let session = if self.dice.below(6) == 0 { "Session-Expires: 90;refresher=uac\n" } else { "" };
        let body = if (180..300).contains(&status) && text.contains(" INVITE\n") { self.body() } else { String::new() };
        let contact = uri(text, "Contact").map(|_| format!("Contact: <sip:x@{}>\n", place.1)).unwrap_or_default();
        let registered = if text.starts_with("REGISTER ") { lines(text, "Contact").concat() } else { contact };
        let copied: String =
            ["Record-Route", "Via", "From", "Call-ID", "CSeq"].iter().flat_map(|name| lines(text, name)).collect();
        let to = lines(text, "To").concat();
        let to = to.trim_end();
        let answer =
            format!("SIP/2.0 {status} Some\n{copied}{to}{tag}\n{registered}{reliable}{session}Expires: 60\n{body}");
        self.send(place, &answer);
    }

    fn acknowledge(&mut self, place: Place, text: &str) {
        if text.starts_with("SIP/2.0 2") {
            return self.request(place, text, true, "ACK");
        }
        let copied: String = ["From", "To", "Call-ID"].iter().flat_map(|name| lines(text, name)).collect();
        let via = lines(text, "Via").first().cloned().unwrap_or_default();
        let number = number(text);
        self.send(
            place,
            &format!("ACK sip:x@example.com SIP/2.0\n{via}Max-Forwards: 70\n{copied}CSeq: {number} ACK\n"),
        );
    }

    fn within(&mut self, place: Place, text: &str, is_response: bool) {
        let methods = ["BYE", "INVITE", "INVITE", "UPDATE", "INFO", "PRACK", "NOTIFY", "REFER", "SUBSCRIBE"];
        let method = methods[self.dice.below(methods.len())];
        self.request(place, text, is_response, method);
    }

    /// A request in the dialog that a message belongs to.
    fn request(&mut self, place: Place, text: &str, is_response: bool, method: &str) {
        let Some(target) = uri(text, "Contact") else { return };
        let mut route: Vec<String> = lines(text, "Record-Route")
            .iter()
            .flat_map(|line| {
                line.trim_end().trim_start_matches("Record-Route: ").split(", ").map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        let (from, to) = (lines(text, "From").concat(), lines(text, "To").concat());
        let (from, to) = (from.trim_end().trim_start_matches("From: "), to.trim_end().trim_start_matches("To: "));
        let tag = if to.contains(";tag=") { "" } else { ";tag=t0" };
        let parties = if is_response {
            route.reverse();
            format!("From: {from}\nTo: {to}\n")
        } else {
            format!("From: {to}{tag}\nTo: {from}\n")
        };
        let route = if route.is_empty() { String::new() } else { format!("Route: {}\n", route.join(", ")) };
        let next = if method == "ACK" { number(text) } else { self.count as u64 };
        let body = if matches!(method, "INVITE" | "UPDATE" | "PRACK" | "ACK") { self.body() } else { String::new() };
        let (via, at, call_id) = (self.via(place), place.1, lines(text, "Call-ID").concat());
        let call_id = call_id.trim_end();
        self.send(
            place,
            &format!(
                "{method} {target} SIP/2.0\n{route}{via}\nMax-Forwards: 70\n{parties}{call_id}\nCSeq: {next} {method}\n\
                 Contact: <sip:x@{at}>\nSubscription-State: active;expires=60\n{body}"
            ),
        );
    }

    /// The core sends an INVITE on, perhaps back to us: a spiral.
    fn pass_on(&mut self, place: Place, text: &str) {
        let callee = self.callee(place);
        let (via, at) = (self.via(place), place.1);
        let Some((_, rest)) = text.split_once('\n') else { return };
        let route = if self.dice.below(2) == 0 { format!("Record-Route: <sip:{at};lr>\n") } else { String::new() };
        let rest = rest.replacen("Via: ", &format!("{route}{via}\nVia: "), 1);
        let rest: String = rest.split_inclusive('\n').filter(|line| !line.starts_with("Content-Length")).collect();
        self.send(place, &format!("INVITE {callee} SIP/2.0\n{rest}"));
    }

    /// And its answer back.
    fn pass_back(&mut self, place: Place, text: &str) {
        let mut vias = 0;
        let rest: String = text
            .split_inclusive('\n')
            .filter(|line| {
                vias += usize::from(line.starts_with("Via: "));
                !(line.starts_with("Content-Length") || line.starts_with("Via: ") && vias == 1)
            })
            .collect();
        if vias > 1 {
            self.send(place, &rest);
        }
    }

    fn cancel(&mut self) {
        let invites: Vec<(Place, Vec<u8>)> =
            self.sent.iter().filter(|(_, bytes)| bytes.starts_with(b"INVITE ")).cloned().collect();
        let Some((place, bytes)) = self.dice.pick(&invites) else { return };
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        let (head, _) = text.split_once("\n\n").unwrap_or((&text, ""));
        let text = head.replacen("INVITE ", "CANCEL ", 1).replace(" INVITE", " CANCEL");
        let lines = text.lines().filter(|line| !line.starts_with("Content-")).collect::<Vec<_>>();
        self.send(*place, &lines.join("\n"));
    }

    fn again(&mut self) {
        if let Some((place, bytes)) = self.dice.pick(&self.sent).cloned() {
            self.deliver(place, bytes);
        }
    }

    fn corrupt(&mut self) {
        if let Some((place, mut bytes)) = self.dice.pick(&self.sent).cloned() {
            let at = self.dice.below(bytes.len());
            bytes[at] = self.dice.below(256) as u8;
            self.deliver(place, bytes);
        }
    }
}

/// All lines of a header field, with their line ends.
fn lines(text: &str, name: &str) -> Vec<String> {
    let head = text.split("\n\n").next().unwrap_or_default();
    head.lines()
        .filter(|line| line.split_once(": ").is_some_and(|(n, _)| n == name))
        .map(|l| format!("{l}\n"))
        .collect()
}

/// The URI in a field's first value.
fn uri(text: &str, name: &str) -> Option<String> {
    let line = lines(text, name).first()?.clone();
    let (_, rest) = line.split_once('<')?;
    rest.split_once('>').map(|(uri, _)| uri.to_owned())
}

fn number(text: &str) -> u64 {
    let line = lines(text, "CSeq").concat();
    line.trim_start_matches("CSeq: ").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[test]
fn when_all_peers_have_fallen_silent_nothing_is_left() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let replayed = number("SIPLATCH_SEED");
    let seeds = replayed.map_or(0..number("SIPLATCH_SEEDS").unwrap_or(300), |seed| seed..seed + 1);
    let mut most = if replayed.is_some() { usize::MAX } else { 0 };
    for seed in seeds {
        let role = ["border", "office", "standalone"][seed as usize % 3];
        let mut crowd = Crowd {
            world: World::new(role, Head::default()),
            dice: Dice(seed),
            places: places(role),
            letters: Vec::new(),
            sent: Vec::new(),
            count: 0,
            loud: replayed == Some(seed),
        };
        for _ in 0..400 {
            crowd.act();
            most = most.max(crowd.world.work().streams);
        }
        let world = &mut crowd.world;
        world.wait(Duration::from_secs(400));
        world.silence();
        world.wait(Duration::from_secs(400));
        let parked = world.work().parked;
        assert_eq!(parked, 0, "{role}, seed {seed}: {:?}", world.work());
        // What is left are calls without media: they end when we stop, or by their timer.
        if seed % 5 == 0 {
            world.wait(Duration::from_secs(13 * 3600));
        } else {
            world.stop();
            world.wait(Duration::from_secs(3700));
        }
        // Pings come and go; between two of them there must be a moment without any work.
        let idle = (0..40).any(|_| {
            world.wait(Duration::from_secs(1));
            world.work() == proxy::Work::default()
        });
        assert!(idle, "{role}, seed {seed}: {:?}", world.work());
        assert_eq!(world.live_ports(), 0, "{role}, seed {seed}");
    }
    assert!(most > 8, "only {most} streams at a time");
}
