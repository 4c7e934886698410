//! Ports and stream slots of a session: taken all or none, and given back.
//!
//! Decides what an offer's new streams are made of; which ports there are is
//! [`crate::ports`]'s business. Must not look at SDP.

use nat::{Advertise, Advertised};

use super::session::Pairs;
use super::{EndPlan, Offers, Refusal};
use crate::ports::{Past, Ready, Shortage};
use crate::{StreamId, Target};

/// Stream slots of one worker.
#[derive(Debug, Default)]
pub(super) struct Slots {
    generations: Vec<u32>,
    free: Vec<u32>,
}

impl Offers {
    /// Two pairs for each of so many new streams.
    pub(super) fn take_all(&mut self, ends: &[EndPlan; 2], streams: usize) -> Result<Vec<Pairs>, Refusal> {
        let shared = (ends[0].local, ends[0].range) == (ends[1].local, ends[1].range);
        for end in ends {
            self.want(end);
            if !self.pools.can_serve(end.local, end.range, if shared { 2 * streams } else { streams }) {
                return Err(Refusal::Exhausted(end.side));
            }
        }
        let mut taken: Vec<Ready> = Vec::with_capacity(2 * streams);
        let mut pairs = Vec::with_capacity(streams);
        for _ in 0..streams {
            match self.take_pairs(ends, &mut taken) {
                Ok(both) => pairs.push(both),
                Err(refusal) => {
                    self.expect(ends, streams);
                    for ready in taken {
                        self.pools.give_back(ready.pair, Past::Untold);
                    }
                    return Err(refusal);
                }
            }
        }
        Ok(pairs)
    }

    pub(super) fn expect(&mut self, ends: &[EndPlan; 2], streams: usize) {
        let pool = |end: &EndPlan| (end.local, end.range, discovered(end.advertise));
        let shared = pool(&ends[0]) == pool(&ends[1]);
        for (ip, range, discover) in ends.iter().map(pool) {
            self.pools.expect(ip, range, discover, if shared { 2 * streams } else { streams });
        }
    }

    fn take_pairs(&mut self, ends: &[EndPlan; 2], taken: &mut Vec<Ready>) -> Result<Pairs, Refusal> {
        let mut one = |end: &EndPlan| {
            let ready = self.take(end)?;
            taken.push(ready.clone());
            let advertised = advertised(end, &ready).ok_or(Refusal::NotReady)?;
            Ok((ready, advertised))
        };
        let (a, b) = (one(&ends[0])?, one(&ends[1])?);
        Ok(Pairs { legs: [a.0, b.0], advertised: [a.1, b.1] })
    }

    /// A pair of those that this end [wants](Offers::want).
    fn take(&mut self, end: &EndPlan) -> Result<Ready, Refusal> {
        self.pools.take(end.local, end.range, discovered(end.advertise)).map_err(|shortage| match shortage {
            Shortage::NotReady => Refusal::NotReady,
            Shortage::Exhausted => Refusal::Exhausted(end.side),
        })
    }

    /// The worker let go: pairs rest if they carried anything or a peer may send to them, the slot is free.
    pub(super) fn closed(&mut self, stream: StreamId, used: [bool; 2]) {
        let Some(pairs) = self.closing.remove(&stream) else { return };
        for ((pair, told), used) in pairs.into_iter().zip(used) {
            let past = match (used, told) {
                (true, _) => Past::Used,
                (false, true) => Past::Told,
                (false, false) => Past::Untold,
            };
            self.pools.give_back(pair, past);
        }
        if let Some(slots) = self.workers.get_mut(usize::from(stream.worker)) {
            slots.free.push(stream.slot);
        }
    }

    pub(super) fn slot(&mut self, worker: u8) -> StreamId {
        let slots = &mut self.workers[usize::from(worker)];
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.generations.push(0);
            slots.generations.len() as u32 - 1
        });
        let generation = &mut slots.generations[slot as usize];
        *generation = generation.wrapping_add(1);
        StreamId { worker, slot, generation: *generation }
    }
}

/// Does this policy need a mapped address per socket?
pub(super) fn discovered(advertise: Advertise) -> bool {
    matches!(advertise, Advertise::Stun | Advertise::StunAddress)
}

fn advertised(end: &EndPlan, leg: &Ready) -> Option<Target> {
    let [rtp, rtcp] = leg.mapped.as_deref().map_or([None; 2], |[rtp, rtcp]| [Some(*rtp), Some(*rtcp)]);
    Some(Target::new(
        Advertised::choose(end.advertise, leg.pair.rtp(), rtp)?.get(),
        Advertised::choose(end.advertise, leg.pair.rtcp(), rtcp)?.get(),
    ))
}
