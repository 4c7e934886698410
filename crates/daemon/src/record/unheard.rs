//! An end of a call that is not heard, in plain words.

use std::fmt;

use media::silence::Reason;
use media::{End, Fact, Silence};
use registry::PassId;

use super::{Records, user};

/// Who is not heard, and why.
#[derive(Debug)]
pub(crate) struct Unheard {
    /// In which call.
    pub(crate) call: PassId,
    /// Caller or callee.
    pub(crate) end: End,
    /// Its user part, as the call was made.
    pub(crate) who: String,
    /// What is known.
    pub(crate) silence: Silence,
}

impl Records {
    /// What a worker says of a silence, with the names of those who are in the call.
    pub(crate) fn unheard(&self, fact: &Fact) -> Option<Unheard> {
        let Fact::Unheard { stream, epoch: _, end, silence } = fact else { return None };
        let call = *self.by_stream.get(stream)?;
        let row = self.calls.get(&call)?;
        let who = match end {
            End::A => user(&row.from).into_owned(),
            End::B => row.to.clone().into_string(),
        };
        Some(Unheard { call, end: *end, who, silence: *silence })
    }
}

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match self.end {
            End::A => "caller",
            End::B => "callee",
        };
        // The name came from outside: quoted and escaped.
        write!(f, "no audio from the {end} {:?}: ", self.who)?;
        let Silence { side: _, reason, target, refused } = self.silence;
        match (reason, refused, target) {
            (Reason::Refused, Some(from), _) => {
                write!(f, "packets come from {}, which may not send for it", from.ip())?;
            }
            (Reason::Unauthenticated, Some(from), _) => {
                write!(f, "packets come from {}, for which no SRTP key of its SDP vouches", from.ip())?;
            }
            (Reason::Unauthenticated, None, _) => write!(f, "packets come for which no SRTP key of its SDP vouches")?,
            (Reason::Refused, None, _) => write!(f, "packets come from where they may not")?,
            (Reason::Stopped, ..) => return write!(f, "it came before and has stopped"),
            (Reason::Family | Reason::Private | Reason::Never, ..) => write!(f, "nothing ever came")?,
        }
        match (reason, target) {
            (Reason::Private, Some(target)) => write!(f, "; its SDP names the private address {}", target.ip()),
            (Reason::Family, Some(target)) => {
                let (its, ours) = if target.is_ipv4() { ("IPv4", "IPv6") } else { ("IPv6", "IPv4") };
                write!(f, "; its SDP names the {its} address {}, and our port is {ours}", target.ip())
            }
            (Reason::Never | Reason::Refused | Reason::Unauthenticated, Some(target)) => {
                write!(f, "; its SDP names {}", target.ip())
            }
            (_, None) => write!(f, "; its SDP names no address"),
            (Reason::Stopped, Some(_)) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use nat::Side;

    use super::*;

    #[test]
    fn a_silence_is_told_in_plain_words() {
        let told = |reason, target: Option<&str>, refused: Option<&str>| {
            let address = |text: &str| text.parse().unwrap();
            let (target, refused) = (target.map(address), refused.map(address));
            let silence = Silence { side: Side::Outer, reason, target, refused };
            Unheard { call: PassId(1), end: End::B, who: "bob\n".to_owned(), silence }.to_string()
        };
        for (text, expected) in [
            (
                told(Reason::Private, Some("10.0.0.5:4000"), None),
                "nothing ever came; its SDP names the private address 10.0.0.5",
            ),
            (told(Reason::Never, Some("192.0.2.5:4000"), None), "nothing ever came; its SDP names 192.0.2.5"),
            (told(Reason::Never, None, None), "nothing ever came; its SDP names no address"),
            (told(Reason::Stopped, Some("192.0.2.5:4000"), None), "it came before and has stopped"),
            (
                told(Reason::Refused, Some("192.0.2.5:4000"), Some("198.51.100.9:6")),
                "packets come from 198.51.100.9, which may not send for it; its SDP names 192.0.2.5",
            ),
            (
                told(Reason::Unauthenticated, Some("192.0.2.5:4000"), Some("198.51.100.9:6")),
                "packets come from 198.51.100.9, for which no SRTP key of its SDP vouches; its SDP names 192.0.2.5",
            ),
            (
                told(Reason::Family, Some("[2001:db8::5]:4000"), None),
                "nothing ever came; its SDP names the IPv6 address 2001:db8::5, and our port is IPv4",
            ),
        ] {
            assert_eq!(text, format!("no audio from the callee \"bob\\n\": {expected}"));
        }
    }
}
