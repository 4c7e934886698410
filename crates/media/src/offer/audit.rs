//! Do all ports that are lent belong to a call? What is found here is a fault
//! of ours; it costs ports until the next start.

use std::collections::BTreeSet;

use super::Offers;
use crate::PortPair;

impl Offers {
    /// Pairs that are in use and belong to no stream of a living pass, nor to
    /// one that is just closing: such a stream has until the next audit.
    /// `alive`: the pass (`registry::PassId`) has a call.
    pub fn audit(&mut self, alive: impl Fn(u64) -> bool) -> usize {
        let streams = self.sessions.iter().filter(|(key, _)| alive(key.pass));
        let streams = streams.flat_map(|(_, session)| session.streams.iter().flatten());
        let mut known: BTreeSet<PortPair> =
            streams.flat_map(|stream| stream.legs.each_ref().map(|leg| leg.pair)).collect();
        let fresh = self.closing.iter().filter(|(stream, _)| !self.closed_late.contains(stream));
        known.extend(fresh.flat_map(|(_, pairs)| pairs.map(|(pair, _)| pair)));
        self.closed_late = self.closing.keys().copied().collect();
        self.pools.live().filter(|pair| !known.contains(pair)).count()
    }
}
