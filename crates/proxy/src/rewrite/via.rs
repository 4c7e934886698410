//! Via: our own, pushed on requests and popped from responses, and where the
//! responses to a request go (RFC 3261 §18.2.2, RFC 3581).

use std::net::SocketAddr;

use wire::sip::{Message, Name, Via};
use wire::{Edit, Flow, Rule, sip};

use super::Own;
use crate::token::{long, short};
use crate::transaction::Id;

/// Our Via value: where we are reached, `rport`, and a branch that names the
/// context and one branch of it.
pub(crate) fn ours(own: Own, id: Id, number: u64) -> String {
    let context = short(u64::from(id.slot) << 32 | u64::from(id.generation));
    format!(
        "SIP/2.0/{} {};rport;branch=z9hG4bK{}{}",
        own.transport.via(),
        own.address,
        text(&context),
        text(&short(number)),
    )
}

/// Our Via value for a message without a context (an ACK to a 2xx); the same
/// for a retransmission.
pub(crate) fn stateless(own: Own, digest: u64) -> String {
    format!("SIP/2.0/{} {};rport;branch=z9hG4bK-{}", own.transport.via(), own.address, text(&short(digest)),)
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

fn text(ascii: &[u8; 13]) -> &str {
    std::str::from_utf8(ascii).unwrap_or_default()
}

/// Where responses to this request go: to where it came from when it asks for
/// that (`rport`) or shows a NAT, else to the port of its sent-by (§18.2.2).
pub(crate) fn reply(flow: Flow, message: Message<'_>) -> Flow {
    let Ok(via) = message.top_via() else { return flow };
    let here = via.host.ip().is_some_and(|ip| ip.to_canonical() == flow.remote.ip().to_canonical());
    if flow.transport.reliable() || via.params.find("rport").is_some() || !here {
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
pub(crate) fn push(message: Message<'_>, edit: &mut Edit, value: &str) {
    sip::edit::push(message, edit, Rule::Via, Name::Via, &[value.as_bytes()]);
}

/// Pops ours from a response.
pub(crate) fn pop(message: Message<'_>, edit: &mut Edit) {
    sip::edit::pop(message, edit, Rule::Via, Name::Via, 1);
}

/// What the far end saw of us: `received` and `rport` of our own Via.
pub(crate) fn observed(via: &Via<'_>) -> Option<SocketAddr> {
    let ip = match via.params.value("received") {
        Some(received) => sip::Host(received).ip()?,
        None => via.host.ip()?,
    };
    let port = via.params.value("rport").and_then(|p| std::str::from_utf8(p).ok()?.trim().parse().ok());
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
            let written = format!(
                "z9hG4bK{}{}",
                text(&short(u64::from(slot) << 32 | u64::from(generation))),
                text(&short(branch))
            );
            assert_eq!(read(written.as_bytes()), Some((id, branch)));
        }
        for foreign in [&b"z9hG4bK"[..], b"z9hG4bKaaaaaaaaaaaaa", b"1234", b"z9hG4bK!!!!!!!!!!!!!!!!!!!!!!!!!!"] {
            assert_eq!(read(foreign), None);
        }
    }
}
