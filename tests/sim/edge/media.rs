//! The part of the datapath: hands sockets to workers, asks `forward` about
//! each packet, sends what it says, and carries facts up.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ::media::relay::Output;
use ::media::{Command, Component, End, Fact, Hold, PortPair, Slot, StreamId, Verdict};
use nat::discovery;
use wire::demux::{self, Media};

use super::{Edge, Entry, Waiting};
use crate::clock::Time;
use crate::net::Packet;

/// Which worker's which slot a socket is, and back.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    by_address: BTreeMap<SocketAddr, (u8, Slot)>,
    by_slot: BTreeMap<(u8, Slot), SocketAddr>,
    /// Pairs of each stream slot, and whose they are.
    lent: BTreeMap<(u8, u32), [PortPair; 2]>,
    /// Released, until `Closed` says whether they were used.
    released: BTreeMap<(u8, u32), [PortPair; 2]>,
    /// Of which of them a peer was told.
    told: BTreeMap<StreamId, [bool; 2]>,
    /// What workers said they would do with every packet of a source.
    holds: BTreeMap<(u8, Slot), Hold>,
}

impl Sockets {
    fn open(&mut self, stream: StreamId, pairs: [PortPair; 2]) {
        for (end, pair) in [End::A, End::B].into_iter().zip(pairs) {
            for (component, address) in [(Component::Rtp, pair.rtp()), (Component::Rtcp, pair.rtcp())] {
                let slot = Slot::of(stream.slot, end, component);
                self.by_address.insert(address, (stream.worker, slot));
                self.by_slot.insert((stream.worker, slot), address);
            }
        }
        self.lent.insert((stream.worker, stream.slot), pairs);
    }

    fn release(&mut self, worker: u8, slot: u32) {
        if let Some(pairs) = self.lent.remove(&(worker, slot)) {
            for (end, pair) in [End::A, End::B].into_iter().zip(pairs) {
                for (component, address) in [(Component::Rtp, pair.rtp()), (Component::Rtcp, pair.rtcp())] {
                    self.by_address.remove(&address);
                    self.by_slot.remove(&(worker, Slot::of(slot, end, component)));
                }
            }
            self.released.insert((worker, slot), pairs);
        }
    }
}

impl Edge {
    /// An order to a worker; sockets go with an `Open`.
    pub(super) fn command(&mut self, now: Time, command: Command) {
        if let Command::Open { stream, legs, .. } = &command {
            let pairs = [legs[0].pair, legs[1].pair];
            for pair in pairs {
                self.ports.lend(self.base + now, pair, &mut self.discovery);
            }
            self.sockets.open(*stream, pairs);
        }
        if let Command::Close { stream, told } = &command {
            self.sockets.told.insert(*stream, *told);
        }
        let worker = command.streams().next().map_or(0, |stream| stream.worker);
        if let Some(relay) = self.workers.get_mut(usize::from(worker)) {
            relay.handle_input(self.base + now, command.clone());
        }
        self.journal.push(Entry::Command(command));
    }

    /// A packet on a media socket: a worker's, or one at rest.
    pub(super) fn media(&mut self, now: Time, packet: &Packet, out: &mut Vec<Packet>) {
        let (on, from, bytes) = (packet.to, packet.from, packet.bytes.as_slice());
        let Some((worker, slot)) = self.sockets.by_address.get(&on).copied() else {
            if let Some(socket) = self.ports.disturbed(now, on) {
                let input = discovery::Input::Received { socket, from, packet: bytes };
                self.discovery.handle_input(self.base + now, input);
            }
            return;
        };
        let relay = &mut self.workers[usize::from(worker)];
        relay.arrive(self.base + now);
        let verdict = relay.forward(self.base + now, slot, from, bytes);
        if let Some(hold) = self.sockets.holds.get(&(worker, slot))
            && hold.from == from
            && demux::media(bytes) == Media::Rtp
            && slot.component() == Component::Rtp
        {
            assert_eq!(verdict, Verdict::Forward { via: hold.via, to: hold.to }, "not as was held: {hold:?}");
        }
        let verdict = self.sabotaged_verdict(packet, verdict, (worker, slot));
        let sent = match verdict {
            Verdict::Forward { via, to } => self.sockets.by_slot.get(&(worker, via)).map(|via| (*via, to)),
            Verdict::Consumed | Verdict::Drop(_) => None,
        };
        self.journal.push(Entry::Judged { on, from, len: bytes.len(), verdict, sent });
        if let Some((from, to)) = sent {
            out.push(Packet::datagram(from, to, packet.bytes.clone()));
        }
    }

    /// A socket of the stream behind a slot, for sabotage.
    pub(super) fn address_of(&self, worker: u8, slot: Slot) -> Option<SocketAddr> {
        self.sockets.by_slot.get(&(worker, slot)).copied()
    }

    pub(super) fn drain_workers(&mut self, now: Time, out: &mut Vec<Packet>) {
        for index in 0..self.workers.len() {
            while let Some(output) = self.workers[index].poll_output() {
                self.worker_output(now, index as u8, output, out);
            }
        }
    }

    fn worker_output(&mut self, now: Time, worker: u8, output: Output, out: &mut Vec<Packet>) {
        match output {
            Output::Fact(fact) => {
                if let Fact::Closed { stream, legs } = &fact {
                    let pairs = self.sockets.released.remove(&(worker, stream.slot));
                    let told = self.sockets.told.remove(stream).unwrap_or_default();
                    for ((pair, leg), told) in pairs.into_iter().flatten().zip(legs.iter()).zip(told) {
                        let at = self.base + now;
                        self.ports.give_back(now, at, pair, leg.used() || told, &mut self.discovery);
                    }
                }
                self.fact(now, fact);
            }
            Output::Transmit { via, to, packet: (bytes, len) } => {
                if let Some(from) = self.address_of(worker, via) {
                    self.journal.push(Entry::Own { from, to });
                    out.push(Packet::datagram(from, to, bytes[..usize::from(len)].to_vec()));
                }
            }
            Output::Hold(hold) => drop(self.sockets.holds.insert((worker, hold.on), hold)),
            Output::Free { on } => drop(self.sockets.holds.remove(&(worker, on))),
            Output::Release { slot } => self.sockets.release(worker, slot),
        }
    }

    /// A fact goes up; it may be under way for a while.
    fn fact(&mut self, now: Time, fact: Fact) {
        if self.sabotages_fact(&fact) {
            return;
        }
        if !matches!(fact, Fact::Counted { .. } | Fact::Totals(_)) {
            self.journal.push(Entry::Fact(fact.clone()));
        }
        if self.setup.fact_delay.is_zero() {
            self.inbox.push_back(Waiting::Fact(fact));
        } else {
            self.order += 1;
            self.later.insert((now + self.setup.fact_delay, self.order), Waiting::Fact(fact));
        }
    }
}
