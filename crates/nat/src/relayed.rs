//! Is media relayed by a TURN server?
//!
//! Decides by what discovery knows: a relay costs money, bandwidth and delay,
//! so it is used only where nothing cheaper works. It must not open or close
//! anything, and running calls are not asked.
//!
//! | TURN is set up | the upstream latches | the mapping | STUN servers | media goes |
//! | --- | --- | --- | --- | --- |
//! | no | any | any | any | directly |
//! | yes | yes (`comedia`) | any | answer, or were not asked long enough | directly |
//! | yes | no | depends on the destination | answer | by TURN |
//! | yes | no | does not, or is not known | answer, or were not asked long enough | directly |
//! | yes | any | any | none answers | by TURN |

use crate::discovery::Mapping;

/// What is known of a side and its upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Situation {
    /// There is a TURN server.
    pub configured: bool,
    /// All upstreams latch (RFC 7362), so that our address in SDP need not be true.
    pub comedia: bool,
    /// What servers say of the mapping.
    pub mapping: Mapping,
    /// No STUN server answers: UDP does not come through, or not back.
    pub unanswered: bool,
}

/// Why media is relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// The NAT is symmetric: nobody can send to what STUN finds.
    Dependent,
    /// UDP does not pass.
    Blocked,
}

impl Situation {
    /// Why media is relayed; `None` where it is not.
    pub fn relayed(self) -> Option<Why> {
        match self {
            Self { configured: false, .. } => None,
            // An upstream that latches needs packets from us, which do not come.
            Self { unanswered: true, .. } => Some(Why::Blocked),
            Self { comedia: true, .. } => None,
            Self { mapping: Mapping::Dependent, .. } => Some(Why::Dependent),
            Self { mapping: Mapping::Independent | Mapping::Unknown, .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_the_last_resort() {
        use Mapping::{Dependent, Independent, Unknown};
        let table = [
            // configured, comedia, mapping, unanswered
            ((false, false, Dependent, true), None),
            ((false, true, Unknown, false), None),
            ((true, false, Unknown, false), None),
            ((true, false, Independent, false), None),
            ((true, false, Dependent, false), Some(Why::Dependent)),
            ((true, true, Dependent, false), None),
            ((true, true, Independent, false), None),
            ((true, true, Unknown, true), Some(Why::Blocked)),
            ((true, false, Unknown, true), Some(Why::Blocked)),
            ((true, false, Dependent, true), Some(Why::Blocked)),
        ];
        for ((configured, comedia, mapping, unanswered), expected) in table {
            let situation = Situation { configured, comedia, mapping, unanswered };
            assert_eq!(situation.relayed(), expected, "{situation:?}");
        }
    }
}
