//! Sockets that carry a call ask where they are seen (RFC 8489 §6.1).
//!
//! A mapping belongs to its very socket, and while a call is up that socket is
//! a worker's. Whom to ask, how often, and whether to believe the answer is
//! the control half's business ([`crate::offer`]). Here an answer counts when it
//! comes from the server that was asked, with the id that was drawn for this
//! socket (§6.3); it never touches a latch.

use std::net::SocketAddr;

use nat::Mapped;
use wire::stun;

use crate::relay::Output;
use crate::{Component, End, Fact, Relay, Slot, StreamId};

/// A question that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    server: SocketAddr,
    transaction: [u8; 12],
}

impl Relay {
    /// Sends a Binding request from both sockets of a leg.
    pub(crate) fn ask(&mut self, id: StreamId, end: End, server: SocketAddr, transactions: [[u8; 12]; 2]) {
        let Some(stream) = self.stream_mut(id) else { return };
        let asked = stream.asked.get_or_insert_default();
        for (component, transaction) in [Component::Rtp, Component::Rtcp].into_iter().zip(transactions) {
            let via = Slot::of(id.slot, end, component);
            asked[(via.0 % 4) as usize] = Some(Asked { server, transaction });
        }
        for (component, transaction) in [Component::Rtp, Component::Rtcp].into_iter().zip(transactions) {
            let via = Slot::of(id.slot, end, component);
            let request = stun::request(transaction);
            let mut packet = ([0; 96], 0);
            let room = packet.0.iter_mut().zip(&request);
            packet.1 = room.map(|(place, octet)| *place = *octet).count() as u8;
            self.outputs.push_back(Output::Transmit { via, to: server, packet });
        }
    }

    /// Takes the answer of a server that was asked. False: it is none.
    pub(crate) fn answered(&mut self, on: Slot, from: SocketAddr, packet: &[u8]) -> bool {
        let Some(Some(stream)) = self.streams.get_mut(on.stream() as usize) else { return false };
        let Some(place) = stream.asked.as_mut().map(|asked| &mut asked[(on.0 % 4) as usize]) else { return false };
        let Some(asked) = place.filter(|asked| asked.server == from) else { return false };
        let Some(answer) = stun::read_answer(packet).ok().filter(|a| a.transaction == asked.transaction) else {
            return false;
        };
        *place = None;
        let seen = answer.xor_mapped.or(answer.mapped).filter(|_| answer.error.is_none() && !answer.unknown);
        if let Some(mapped) = seen.map(Mapped) {
            let (stream, end, component) = (stream.id, on.end(), on.component());
            self.outputs.push_back(Output::Fact(Fact::Mapped { stream, end, component, mapped }));
        }
        true
    }
}
