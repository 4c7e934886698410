//! What must become of each message on the wire: the table's verdict, and where
//! a role or a transport makes a difference.

use crate::sender::Then;
use crate::table::{Case, Layer};

/// Where siplatch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Standalone,
    Border,
    Office,
}

/// What brings the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The final responses that come back.
    pub(crate) answer: Option<u16>,
    /// It reaches the far end.
    pub(crate) passed: bool,
    pub(crate) then: Then,
}

const DROPPED: Verdict = Verdict { answer: None, passed: false, then: Then::Goes };
const PASSED: Verdict = Verdict { answer: Some(200), passed: true, then: Then::Goes };

fn answered(status: u16) -> Verdict {
    Verdict { answer: Some(status), ..DROPPED }
}

/// The verdict on one message.
pub(crate) fn verdict(case: &Case, role: Role, transport: Transport) -> Verdict {
    let usual = match case.layer {
        Layer::Wire(_, status) | Layer::Proxy(status) => status.map_or(DROPPED, answered),
        Layer::Passes if case.bytes.starts_with(b"SIP/2.0 ") => DROPPED, // It answers nothing that we sent.
        Layer::Passes => match (case.name, role) {
            // A To tag, and no such dialog: who relays media can do nothing with it.
            ("wsinv" | "via-received-param-with-delim" | "mult-ip-in-header", _) => answered(481),
            (_, Role::Border | Role::Office) => PASSED,
            // We are the registrar, and nobody else is registered.
            ("unksm2", Role::Standalone) => answered(400),
            (_, Role::Standalone) if case.bytes.starts_with(b"REGISTER ") => answered(200),
            (_, Role::Standalone) => answered(404),
        },
    };
    match (transport, case.name) {
        (Transport::Udp, _) => usual,
        // No length, or two, or none that is a number (RFC 3261 §18.3).
        (Transport::Tcp, "ncl" | "mcl01" | "inv2543") => Verdict { then: Then::Closed, ..DROPPED },
        // What a datagram ignores behind the message is the next one here, and its length is as wrong as those below.
        (Transport::Tcp, "dblreq") => Verdict { answer: None, then: Then::Closed, ..usual },
        // The length promises more, or the header has no end.
        (Transport::Tcp, "clerr" | "ipv6-in-sdp" | "baddn") => Verdict { then: Then::Waits, ..DROPPED },
        // The length is too short: what is left over begins another message.
        (Transport::Tcp, "mult-ip-in-sdp" | "ipv4-mapped-ipv6") => Verdict { then: Then::Waits, ..usual },
        (Transport::Tcp, _) => usual,
    }
}
