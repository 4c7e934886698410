//! Mappings of every lifetime, and servers that cannot help.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wire::stun;
use wire::stun::behaviour::{answer_probe, read_probe};

use super::{Bracket, Lifetime, Output, SIBLINGS, Socket};

#[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
fn start() -> Instant {
    Instant::now()
}

/// A NAT that keeps mappings for `lifetime` after a packet from inside, with
/// the port of the inside kept; a server behind it.
struct World {
    lifetime: Duration,
    /// The server does what RESPONSE-PORT asks for.
    able: bool,
    /// It stops answering after so long.
    until: Option<Duration>,
    heard: [Option<Instant>; SIBLINGS + 1],
    loss: Option<u64>,
    dice: u64,
}

impl World {
    fn new(lifetime: u64) -> Self {
        let lifetime = Duration::from_secs(lifetime);
        Self { lifetime, able: true, until: None, heard: [None; SIBLINGS + 1], loss: None, dice: 7 }
    }

    fn lost(&mut self) -> bool {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.loss.is_some_and(|one_in| (self.dice >> 33).is_multiple_of(one_in))
    }

    /// The last word, when it came, and how many packets it took.
    fn run(&mut self) -> (Option<Bracket>, Duration, usize) {
        self.follow(Lifetime::new)
    }

    /// The same for a single silence.
    fn trial(&mut self, silence: u64) -> Option<Bracket> {
        self.follow(|now, server, seed| Lifetime::trial(now, server, Duration::from_secs(silence), seed)).0
    }

    fn follow(
        &mut self,
        begin: impl FnOnce(Instant, SocketAddr, [u8; 32]) -> Lifetime,
    ) -> (Option<Bracket>, Duration, usize) {
        let server: SocketAddr = "203.0.113.1:3478".parse().expect("an address");
        let start = start();
        let (mut now, mut sent) = (start, 0);
        let mut lifetime = begin(now, server, [9; 32]);
        loop {
            while let Some(output) = lifetime.poll_output() {
                match output {
                    Output::Unknown => return (None, now - start, sent),
                    Output::Bracket(bracket) if bracket.last => {
                        assert_eq!(lifetime.poll_timeout(), None);
                        return (Some(bracket), now - start, sent);
                    }
                    Output::Bracket(_) => {}
                    Output::Transmit { socket, bytes } => {
                        sent += 1;
                        let at = if let Socket::Sibling(at) = socket { at } else { SIBLINGS };
                        if self.lost() || self.until.is_some_and(|until| now - start > until) {
                            continue;
                        }
                        self.heard[at] = Some(now);
                        let from = SocketAddr::new([198, 51, 100, 7].into(), 40_000 + at as u16);
                        let wish = read_probe(&bytes).expect("a probe");
                        let answer = match wish.to_port {
                            Some(_) if !self.able => stun::answer(&bytes, from),
                            _ => answer_probe(&bytes, from, server, None, 0),
                        };
                        let port = wish.to_port.filter(|_| self.able).unwrap_or(from.port());
                        let to = usize::from(port) - 40_000;
                        let lives = self.heard[to].is_some_and(|heard| now - heard <= self.lifetime);
                        if lives && !self.lost() {
                            let to = if to == SIBLINGS { Socket::Asker } else { Socket::Sibling(to) };
                            lifetime.receive(now, to, server, &answer.expect("an answer"));
                        }
                    }
                }
            }
            now = lifetime.poll_timeout().expect("more to do");
            lifetime.handle_timeout(now);
        }
    }
}

#[test]
fn any_lifetime_is_found_within_a_few_percent_and_few_rounds() {
    for seconds in [5, 17, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1800, 6000] {
        let (bracket, took, sent) = World::new(seconds).run();
        let bracket = bracket.expect("found");
        let off = bracket.estimate().as_secs_f64() / seconds as f64;
        assert!((0.9..=1.1).contains(&off), "{seconds} s: {bracket:?}");
        assert!(took < Duration::from_secs(40) + Duration::from_secs(seconds) * 7, "{seconds} s took {took:?}");
        assert!(sent < 120, "{sent}");
    }
}

#[test]
fn beyond_two_hours_is_not_looked_for() {
    let (bracket, _, _) = World::new(1_000_000).run();
    let bracket = bracket.expect("an answer");
    assert_eq!((bracket.survived, bracket.lost), (Duration::from_secs(7200), None));
    assert_eq!(bracket.estimate(), Duration::from_secs(7200));
}

#[test]
fn what_cannot_be_told_is_unknown() {
    let deaf = World { until: Some(Duration::ZERO), ..World::new(60) }.run();
    let unable = World { able: false, ..World::new(60) }.run();
    assert_eq!((deaf.0, unable.0), (None, None));
    assert!(deaf.1 < Duration::from_secs(10) && unable.1 < Duration::from_secs(10));
    // A server that goes away is no NAT that forgets.
    let gone = World { until: Some(Duration::from_secs(20)), ..World::new(60) }.run();
    assert!(gone.0.is_none_or(|bracket| bracket.lost.is_none()), "{gone:?}");
}

#[test]
fn a_single_silence_is_survived_or_lost() {
    for (silence, lost) in [(1, false), (59, false), (61, true), (600, true)] {
        let bracket = World::new(60).trial(silence).expect("an answer");
        let silence = Duration::from_secs(silence);
        assert_eq!((bracket.lost, bracket.last), (lost.then_some(silence), true));
        assert_eq!(bracket.survived, if lost { Duration::ZERO } else { silence });
    }
    assert_eq!(World { until: Some(Duration::from_secs(20)), ..World::new(60) }.trial(30), None);
}

#[test]
fn loss_shifts_little() {
    for seed in 0..200 {
        let mut world = World { loss: Some(10), dice: seed * 31 + 1, ..World::new(60) };
        if let (Some(bracket), _, _) = world.run() {
            let off = bracket.estimate().as_secs_f64() / 60.0;
            assert!((0.85..=1.15).contains(&off), "{seed}: {bracket:?}");
        }
    }
}
