//! The roll of all connections, and who must leave when there are too many.
//!
//! Few strangers are allowed, in total and from one source, so that those who
//! have proven nothing cannot take the place of registered phones; these never
//! count. A newcomer is not refused for the sake of older strangers: the
//! oldest of them that has not sent a whole message leaves (a slow or half-open
//! connection), then the oldest that has. Those whose handshake goes on cost
//! the most memory for the least that they have sent, and have a limit of their
//! own. An IPv6 source is a /64, because that is what one subscriber has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::{Flow, ListenerId, Transport};

use super::line::{Line, Why};

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// All together; what came in beyond that is closed.
    pub total: usize,
    /// Strangers.
    pub strangers: usize,
    /// Strangers from one source.
    pub per_source: usize,
    /// Of these, those whose handshake of TLS or WebSocket goes on.
    pub handshakes: usize,
}

impl Caps {
    /// What so many file descriptors are good for, when media needs the most of them.
    pub fn of(descriptors: u64) -> Self {
        let total = usize::try_from(descriptors / 4).unwrap_or(usize::MAX).max(16);
        let strangers = (total / 2).min(4096);
        let per_source = (strangers / 2).min(512);
        // Enough for all phones of an office that come back at once.
        Self { total, strangers, per_source, handshakes: per_source.min(128) }
    }
}

/// Octets of messages that are not whole, of all strangers together. Beyond
/// that the message that was begun first is waited for no longer: what is meant
/// to be finished is finished soon.
const HELD: usize = 6 << 20;

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// All together, those included whose handshake goes on.
    pub total: usize,
    /// Of these, strangers.
    pub strangers: usize,
}

/// Numbers of connections that come in are below this, those of ours from it on.
const OURS: u32 = 1 << 31;

#[derive(Debug)]
pub(super) struct Roll {
    caps: Caps,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: u32,
    all: BTreeMap<u32, Member>,
    sources: BTreeMap<IpAddr, Source>,
    strangers: usize,
    /// Strangers with a message that is not whole, in the order in which these were begun.
    begun: BTreeMap<u64, u32>,
    beginnings: u64,
    held: usize,
}

#[derive(Debug)]
struct Member {
    line: Arc<Line>,
    listener: ListenerId,
    /// Where a stranger came from.
    source: Option<IpAddr>,
    /// Its message that is not whole: which beginning that was, and how many octets there are.
    begun: Option<(u64, usize)>,
}

/// The strangers of one source, the oldest first.
#[derive(Debug, Default)]
struct Source {
    /// They have not sent a whole message.
    silent: BTreeSet<u32>,
    /// Of these, those whose handshake goes on.
    handshakes: BTreeSet<u32>,
    spoken: BTreeSet<u32>,
}

impl Source {
    fn len(&self) -> usize {
        self.silent.len() + self.spoken.len()
    }

    fn oldest(&self) -> Option<u32> {
        self.silent.first().or_else(|| self.spoken.first()).copied()
    }
}

impl Roll {
    pub(super) fn new(caps: Caps) -> Self {
        Self { caps, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stranger came in: its number, unless there is no room. It counts among
    /// those whose handshake goes on until [`shaken`](Self::shaken), if its transport has one.
    pub(super) fn admit(
        &self,
        listener: ListenerId,
        transport: Transport,
        from: IpAddr,
        line: &Arc<Line>,
    ) -> Option<u32> {
        let source = subscriber(from);
        let shakes = match transport {
            Transport::Tls | Transport::Ws | Transport::Wss => true,
            Transport::Udp | Transport::Tcp => false,
        };
        let mut state = self.state();
        if shakes
            && let Some(handshakes) = state.sources.get(&source).map(|strangers| &strangers.handshakes)
            && handshakes.len() >= self.caps.handshakes
            && let Some(oldest) = handshakes.first().copied()
        {
            state.cut(oldest);
        }
        if state.sources.get(&source).is_some_and(|strangers| strangers.len() >= self.caps.per_source) {
            state.evict(source);
        }
        if state.strangers >= self.caps.strangers || state.all.len() >= self.caps.total {
            let crowded = state.crowded()?;
            state.evict(crowded);
        }
        let number = state.number();
        state.all.insert(number, Member { line: Arc::clone(line), listener, source: Some(source), begun: None });
        let strangers = state.sources.entry(source).or_default();
        strangers.silent.insert(number);
        if shakes {
            strangers.handshakes.insert(number);
        }
        state.strangers += 1;
        Some(number)
    }

    /// Its handshakes are done.
    pub(super) fn shaken(&self, number: u32) {
        let mut state = self.state();
        let source = state.all.get(&number).and_then(|member| member.source);
        if let Some(strangers) = source.and_then(|source| state.sources.get_mut(&source)) {
            strangers.handshakes.remove(&number);
        }
    }

    /// A connection of ours.
    pub(super) fn enter(&self, flow: Flow, line: Arc<Line>) {
        let member = Member { line, listener: flow.listener, source: None, begun: None };
        self.state().all.insert(flow.connection, member);
    }

    /// Its listener is gone: all of its connections end, once what is queued has left.
    pub(super) fn finish(&self, listener: ListenerId) {
        for member in self.state().all.values().filter(|member| member.listener == listener) {
            member.line.finish();
        }
    }

    /// It has sent a whole message.
    pub(super) fn spoke(&self, number: u32) {
        let mut state = self.state();
        let source = state.all.get(&number).and_then(|member| member.source);
        if let Some(strangers) = source.and_then(|source| state.sources.get_mut(&source))
            && strangers.silent.remove(&number)
        {
            strangers.spoken.insert(number);
        }
    }

    /// It has sent so many octets of a message, and not its end.
    pub(super) fn holds(&self, number: u32, octets: usize) {
        let mut state = self.state();
        state.hold(number, octets);
        while state.held > HELD {
            let Some((_, oldest)) = state.begun.first_key_value().map(|(at, number)| (*at, *number)) else { break };
            state.cut(oldest);
        }
    }

    /// It is no stranger any more.
    pub(super) fn prove(&self, number: u32) {
        let mut state = self.state();
        state.forget(number);
        if let Some(member) = state.all.get_mut(&number) {
            member.source = None;
            member.line.prove();
        }
    }

    /// It has ended.
    pub(super) fn remove(&self, number: u32) {
        self.state().remove(number);
    }

    /// Makes room by one stranger, when the system itself has none; false when there is none.
    pub(super) fn shed(&self) -> bool {
        let mut state = self.state();
        let Some(crowded) = state.crowded() else { return false };
        state.evict(crowded);
        true
    }

    pub(super) fn line(&self, number: u32) -> Option<Arc<Line>> {
        self.state().all.get(&number).map(|member| Arc::clone(&member.line))
    }

    pub(super) fn census(&self) -> Census {
        let state = self.state();
        Census { total: state.all.len(), strangers: state.strangers }
    }
}

impl State {
    /// A number that no connection has.
    fn number(&mut self) -> u32 {
        loop {
            self.last = if self.last + 1 < OURS { self.last + 1 } else { 1 };
            if !self.all.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    /// The source with the most strangers.
    fn crowded(&self) -> Option<IpAddr> {
        self.sources.iter().max_by_key(|(_, strangers)| strangers.len()).map(|(source, _)| *source)
    }

    fn evict(&mut self, source: IpAddr) {
        if let Some(number) = self.sources.get(&source).and_then(Source::oldest) {
            self.cut(number);
        }
    }

    fn cut(&mut self, number: u32) {
        if let Some(member) = self.all.get(&number) {
            member.line.cut(Why::Evicted);
        }
        self.remove(number);
    }

    /// Counts what a stranger holds.
    fn hold(&mut self, number: u32, octets: usize) {
        let Some(member) = self.all.get_mut(&number).filter(|member| member.source.is_some()) else { return };
        let before = member.begun.take();
        if let Some((_, octets)) = before {
            self.held -= octets;
        }
        match before {
            Some((at, _)) if octets == 0 => drop(self.begun.remove(&at)),
            Some((at, _)) => member.begun = Some((at, octets)),
            None if octets == 0 => {}
            None => {
                self.beginnings += 1;
                member.begun = Some((self.beginnings, octets));
                self.begun.insert(self.beginnings, number);
            }
        }
        self.held += octets;
    }

    fn remove(&mut self, number: u32) {
        self.forget(number);
        self.all.remove(&number);
    }

    /// Takes it from the strangers.
    fn forget(&mut self, number: u32) {
        self.hold(number, 0);
        let Some(source) = self.all.get(&number).and_then(|member| member.source) else { return };
        if let Some(strangers) = self.sources.get_mut(&source) {
            strangers.handshakes.remove(&number);
            if strangers.silent.remove(&number) || strangers.spoken.remove(&number) {
                self.strangers -= 1;
            }
            if strangers.len() == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

/// What one subscriber has of addresses.
fn subscriber(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        roll: Roll,
    }

    impl World {
        fn new(total: usize, strangers: usize, per_source: usize) -> Self {
            Self { roll: Roll::new(Caps { total, strangers, per_source, handshakes: 2 }) }
        }

        fn admit(&self, from: &str) -> Option<u32> {
            self.admit_over(Transport::Tcp, from)
        }

        fn admit_over(&self, transport: Transport, from: &str) -> Option<u32> {
            self.roll.admit(ListenerId(0), transport, from.parse().unwrap(), &Arc::new(Line::new(100, false)))
        }

        fn there(&self, number: u32) -> bool {
            self.roll.line(number).is_some()
        }
    }

    #[tokio::test]
    async fn the_oldest_silent_stranger_of_a_source_makes_room() {
        let world = World::new(100, 100, 3);
        let [one, two, three] = [(); 3].map(|()| world.admit("192.0.2.1").unwrap());
        world.roll.spoke(one);
        let line = world.roll.line(two).unwrap();
        let four = world.admit("192.0.2.1").unwrap();
        assert!(world.there(one) && !world.there(two) && world.there(three) && world.there(four));
        assert_eq!(line.ended().await, Why::Evicted);
        for number in [three, four] {
            world.roll.spoke(number);
        }
        world.admit("192.0.2.1").unwrap();
        assert!(!world.there(one), "when all have spoken, the oldest leaves");
        assert_eq!(world.roll.census(), Census { total: 3, strangers: 3 });
    }

    #[tokio::test]
    async fn the_oldest_handshake_of_a_source_makes_room_for_the_next() {
        let world = World::new(100, 100, 100);
        let lone = world.admit_over(Transport::Tls, "192.0.2.2").unwrap();
        let plain = world.admit("192.0.2.1").unwrap();
        let [done, one, two] = [Transport::Tls, Transport::Wss, Transport::Ws].map(|transport| {
            let number = world.admit_over(transport, "192.0.2.1").unwrap();
            if transport == Transport::Tls {
                world.roll.shaken(number);
            }
            number
        });
        let line = world.roll.line(one).unwrap();
        let three = world.admit_over(Transport::Tls, "192.0.2.1").unwrap();
        assert_eq!(line.ended().await, Why::Evicted);
        assert!([lone, plain, done, two, three].iter().all(|number| world.there(*number)));
        // One that has gone, or is known, leaves its place.
        world.roll.remove(two);
        let four = world.admit_over(Transport::Tls, "192.0.2.1").unwrap();
        world.roll.prove(four);
        world.admit_over(Transport::Tls, "192.0.2.1").unwrap();
        assert!(world.there(three) && world.there(four));
        assert_eq!(world.roll.census(), Census { total: 6, strangers: 5 });
    }

    #[test]
    fn who_is_known_does_not_count() {
        let world = World::new(100, 4, 2);
        for _ in 0..50 {
            let number = world.admit("192.0.2.1").unwrap();
            world.roll.spoke(number);
            world.roll.prove(number);
            assert!(world.roll.line(number).unwrap().proven());
        }
        assert_eq!(world.roll.census(), Census { total: 50, strangers: 0 });
    }

    #[tokio::test]
    async fn messages_that_are_not_whole_have_a_budget_together() {
        let world = World::new(100, 100, 100);
        let [first, second, phone] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|from| world.admit(from).unwrap());
        world.roll.prove(phone);
        let lines = [first, second].map(|number| world.roll.line(number).unwrap());
        world.roll.holds(phone, 10 * HELD);
        world.roll.holds(first, 1);
        world.roll.holds(second, HELD - 1);
        assert!(world.there(first) && world.there(second) && world.there(phone));
        world.roll.holds(first, 2);
        assert!(!world.there(first) && world.there(second), "the one that was begun first is given up");
        assert_eq!(lines[0].ended().await, Why::Evicted);
        // What was finished, proven or has ended does not count.
        world.roll.holds(second, 0);
        let third = world.admit("192.0.2.1").unwrap();
        world.roll.holds(third, HELD);
        world.roll.prove(third);
        world.roll.holds(second, HELD);
        world.roll.remove(second);
        let fourth = world.admit("192.0.2.1").unwrap();
        world.roll.holds(fourth, HELD);
        assert!(world.there(third) && world.there(fourth));
        assert_eq!(world.roll.state().begun.len(), 1);
    }

    #[test]
    fn the_crowded_source_makes_room_for_others() {
        let world = World::new(6, 4, 3);
        let crowd = [(); 3].map(|()| world.admit("2001:db8::1").unwrap());
        let lone = world.admit("192.0.2.1").unwrap();
        let next = world.admit("192.0.2.2").unwrap();
        assert!(!world.there(crowd[0]) && world.there(lone) && world.there(next));
        world.admit("2001:db8::ffff").unwrap();
        assert!(!world.there(crowd[1]), "a /64 is one source");
    }

    #[test]
    fn a_full_house_of_known_peers_refuses() {
        let world = World::new(2, 2, 2);
        for _ in 0..2 {
            let number = world.admit("192.0.2.1").unwrap();
            world.roll.prove(number);
        }
        assert_eq!(world.admit("192.0.2.2"), None);
        assert!(!world.roll.shed());
        world.roll.remove(1);
        assert_eq!(world.admit("192.0.2.2"), Some(3));
        assert!(world.roll.shed());
        assert_eq!(world.roll.census(), Census { total: 1, strangers: 0 });
    }

    #[test]
    fn caps_follow_the_descriptors() {
        assert_eq!(Caps::of(1024), Caps { total: 256, strangers: 128, per_source: 64, handshakes: 64 });
        assert_eq!(Caps::of(1 << 20), Caps { total: 1 << 18, strangers: 4096, per_source: 512, handshakes: 128 });
        assert_eq!(Caps::of(0), Caps { total: 16, strangers: 8, per_source: 4, handshakes: 4 });
    }
}
