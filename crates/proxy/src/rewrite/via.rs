//! Via: our own, pushed on requests and popped from responses, and where the
//! responses to a request go (RFC 3261 §18.2.2, RFC 3581).

use std::net::SocketAddr;

use wire::sip::{Message, Name, Via};
use wire::{Edit, Flow, Rule, Text, Transport, sip};

use super::Own;
use crate::token::{long, short};
use crate::transaction::Id;

/// Our Via value: where we are reached, `rport`, and a branch.
#[derive(Debug)]
pub(crate) struct Ours {
    transport: Transport,
    at: Text,
    /// `None` in a message without one.
    context: Option<[u8; 13]>,
    branch: [u8; 13],
    /// We offer to keep the way open (RFC 6223).
    pub(crate) keep: bool,
}

impl Ours {
    /// With a branch that names the context and one branch of it.
    pub(crate) fn new(own: Own, id: Id, number: u64) -> Self {
        let context = short(u64::from(id.slot) << 32 | u64::from(id.generation));
        Self { context: Some(context), ..Self::stateless(own, number) }
    }

    /// For a message without a context (an ACK to a 2xx); the same for a retransmission.
    pub(crate) fn stateless(own: Own, digest: u64) -> Self {
        let at = Text::socket(own.address);
        Self { transport: own.transport, at, context: None, branch: short(digest), keep: false }
    }

    /// The text of it.
    pub(crate) fn pieces(&self) -> [&[u8]; 8] {
        let transport = self.transport.via().as_bytes();
        let context = self.context.as_ref().map_or(&b"-"[..], |context| context);
        let keep: &[u8] = if self.keep { b";keep" } else { b"" };
        [b"SIP/2.0/", transport, b" ", self.at.get(), b";rport;branch=z9hG4bK", context, &self.branch, keep]
    }
}

/// The context and branch number that a branch of ours names.
pub(crate) fn read(branch: &[u8]) -> Option<(Id, u64)> {
    let rest = branch.strip_prefix(b"z9hG4bK")?;
    if rest.len() != 26 {
        return None;
    }
    let id = long(&rest[..13])?;
    Some((Id { slot: (id >> 32) as u32, generation: id as u32 }, long(&rest[13..])?))
}

/// Where responses to this request go: to where it came from when it asks for
/// that (`rport`) or shows a NAT, else to the port of its sent-by (§18.2.2).
pub(crate) fn reply(flow: Flow, message: Message<'_>) -> Flow {
    if flow.transport.reliable() || message.has_rport() {
        return flow;
    }
    let Ok(via) = message.top_via() else { return flow };
    let here = || via.host.ip().is_some_and(|ip| ip.to_canonical() == flow.remote.ip().to_canonical());
    if !here() {
        return flow;
    }
    let port = via.port.unwrap_or(flow.transport.default_port());
    Flow { remote: SocketAddr::new(flow.remote.ip(), port), ..flow }
}

/// The flow by which a sender is known: where it listens. One that shows no
/// NAT and does not ask for `rport` may send from any port (old phones do, from
/// a new one each time). Believed of private addresses only: a public one may
/// be a NAT's, whose ports belong to different people.
pub(crate) fn home(flow: Flow, message: Message<'_>) -> Flow {
    if nat::address::is_private(flow.remote.ip()) { reply(flow, message) } else { flow }
}

/// Pushes our Via on top.
pub(crate) fn push(message: Message<'_>, edit: &mut Edit, value: &Ours) {
    sip::edit::push(message, edit, Rule::Via, Name::Via, &value.pieces());
}

/// Pops ours from a response.
pub(crate) fn pop(message: Message<'_>, edit: &mut Edit) {
    sip::edit::pop(message, edit, Rule::Via, Name::Via, 1);
}

/// What the far end saw of us: `received` and `rport` of our own Via.
pub(crate) fn observed(via: &Via<'_>) -> Option<SocketAddr> {
    let ip = match via.received() {
        Some(received) => sip::Host(received.value.unwrap_or_default()).ip()?,
        None => via.host.ip()?,
    };
    let port = via.rport().and_then(|p| std::str::from_utf8(p.value?).ok()?.trim().parse().ok());
    Some(SocketAddr::new(ip, port.or(via.port)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_names_its_context_again() {
        for (slot, generation, branch) in [(0, 0, 0), (1, 2, 3), (u32::MAX, u32::MAX, u64::MAX), (7, 1 << 31, 1 << 63)]
        {
            let id = Id { slot, generation };
            let own = Own { address: ([192, 0, 2, 1], 5060).into(), transport: Transport::Udp };
            let written = Ours::new(own, id, branch).pieces().concat();
            let via = Via::parse(&written).expect("ours");
            assert_eq!((via.sent_by, via.branch().and_then(read)), (&b"192.0.2.1:5060"[..], Some((id, branch))));
        }
        for foreign in [&b"z9hG4bK"[..], b"z9hG4bKaaaaaaaaaaaaa", b"1234", b"z9hG4bK!!!!!!!!!!!!!!!!!!!!!!!!!!"] {
            assert_eq!(read(foreign), None);
        }
    }
}
