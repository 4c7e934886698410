//! Will calls work? From what was seen and what the configuration needs;
//! unknown wherever something that it needs was not seen.

use ::nat::behaviour::Dependence;
use proxy::config::Role;
use wire::Transport;

use super::plan::Written;
use super::seen::{Seen, Through};

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// They will.
    Work,
    /// They will not.
    Fail,
    /// It is not known.
    Unknown,
}

impl Calls {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// What the verdict is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) role: Option<Role>,
    /// Some upstream is known: from the configuration, or the command line.
    pub(super) upstreams: bool,
    /// One of them answers as its URI wants it, and over what: TLS alone, or also in the clear.
    pub(super) answered: Option<Clear>,
    /// All of them say no.
    pub(super) refused: bool,
    pub(super) udp: Through,
    pub(super) tcp: Through,
    pub(super) translated: Option<bool>,
    pub(super) mapping: Option<Dependence>,
    pub(super) filtering: Option<Dependence>,
    /// Strangers reach our ports: all that were tried, or none.
    pub(super) reached: Option<bool>,
    pub(super) written: Written,
    pub(super) comedia: bool,
    /// Over which transport the TURN server answers, and whether it has granted anything.
    pub(super) turn: Option<(Transport, bool)>,
    pub(super) alg: bool,
    pub(super) phones_outside: bool,
}

/// How an upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clear {
    /// By TLS.
    Hidden,
    /// Readable on the way.
    Readable,
}

impl Facts {
    pub(super) fn of(seen: &Seen) -> Self {
        let usable: Vec<Transport> = seen.upstreams.iter().flat_map(|asked| asked.usable()).collect();
        let answered = match &usable[..] {
            [] => None,
            all if all.iter().all(|transport| transport.is_secure()) => Some(Clear::Hidden),
            _ => Some(Clear::Readable),
        };
        let reached = match super::forwards::word(&seen.doors) {
            Some("open") => Some(true),
            Some("closed") => Some(false),
            _ if seen.one_to_one == Some(true) => Some(true),
            _ => None,
        };
        Self {
            role: seen.plan.role,
            upstreams: !seen.upstreams.is_empty(),
            answered,
            refused: !seen.upstreams.is_empty() && seen.upstreams.iter().all(super::upstream::Asked::is_refused),
            udp: seen.udp(),
            tcp: seen.tcp(),
            translated: seen.behaviour.translated,
            mapping: seen.behaviour.mapping,
            filtering: seen.behaviour.filtering,
            reached,
            written: seen.plan.written,
            comedia: seen.plan.comedia(),
            turn: seen.turn_state(),
            alg: super::alg::word(&seen.alg) == Some("found"),
            phones_outside: seen.plan.phones_outside,
        }
    }

    /// The verdict, and why.
    pub(super) fn judge(&self) -> (Calls, &'static str) {
        let parts = [self.signalling(), self.media(), self.phones()];
        let first = |wanted: Calls| parts.iter().find(|(calls, _)| *calls == wanted).copied();
        first(Calls::Fail).or_else(|| first(Calls::Unknown)).unwrap_or(match self.role.is_some() || self.upstreams {
            true => (Calls::Work, "signalling and media have their ways"),
            false => (Calls::Work, "as far as can be seen without a configuration"),
        })
    }

    fn signalling(&self) -> (Calls, &'static str) {
        match (self.upstreams, self.answered) {
            (false, _) if self.alg => (Calls::Unknown, "something on the way rewrites SIP"),
            (false, _) => (Calls::Work, ""),
            (true, Some(Clear::Readable)) if self.alg => (Calls::Unknown, "something on the way rewrites SIP"),
            (true, Some(_)) => (Calls::Work, ""),
            (true, None) if self.refused => (Calls::Fail, "the upstream is not to be had"),
            (true, None) if (self.udp, self.tcp) == (Through::Blocked, Through::Blocked) => {
                (Calls::Fail, "neither UDP nor TCP gets out")
            }
            (true, None) => (Calls::Unknown, "the upstream gives no answer"),
        }
    }

    fn media(&self) -> (Calls, &'static str) {
        let stream = |transport: Transport| transport != Transport::Udp;
        let turn = |granted: bool| match granted {
            true => (Calls::Work, ""),
            false => (Calls::Unknown, "media needs the TURN server, and whether it takes our credentials is not known"),
        };
        if self.role == Some(Role::Standalone) && !self.phones_outside {
            // Phones of one network need no way out of it.
            return (Calls::Work, "");
        }
        match (self.udp, self.turn) {
            (Through::Open, _) => {}
            (_, Some((transport, granted))) if stream(transport) => return turn(granted),
            (Through::Blocked, _) => return (Calls::Fail, "UDP is blocked, and media has no other way"),
            (Through::Unknown | Through::Untrusted, _) => {
                return (Calls::Unknown, "whether UDP gets through is not known");
            }
        }
        if self.comedia || self.translated == Some(false) {
            return (Calls::Work, "");
        }
        let endpoint_independent = self.mapping == Some(Dependence::EndpointIndependent);
        match self.written {
            Written::Found if endpoint_independent => return (Calls::Work, ""),
            Written::Fixed if self.reached == Some(true) => return (Calls::Work, ""),
            Written::Found | Written::Fixed | Written::Own => {}
        }
        if let Some((_, granted)) = self.turn {
            return turn(granted);
        }
        let symmetric = self.mapping.is_some() && !endpoint_independent;
        match self.written {
            Written::Own if self.translated == Some(true) => {
                (Calls::Unknown, "outside we have another address than the one that is advertised")
            }
            // A port that the NAT happens to keep is as good as a forwarded one.
            Written::Fixed if endpoint_independent => {
                (Calls::Unknown, "the advertised ports were not seen to be forwarded")
            }
            _ if symmetric && self.role.is_some() && self.reached != Some(true) => {
                (Calls::Fail, "the NAT is symmetric, and neither comedia nor TURN nor forwarded ports help")
            }
            _ if symmetric => (Calls::Unknown, "the NAT is symmetric: it depends on the provider"),
            _ => (Calls::Unknown, "how the NAT chooses its ports is not known"),
        }
    }

    /// Phones on the outer side come to us by themselves.
    fn phones(&self) -> (Calls, &'static str) {
        if !self.phones_outside {
            return (Calls::Work, "");
        }
        let open = self.translated == Some(false) && self.filtering == Some(Dependence::EndpointIndependent);
        match self.reached {
            Some(true) => (Calls::Work, ""),
            Some(false) => (Calls::Fail, "phones outside do not reach us"),
            None if open => (Calls::Work, ""),
            None => (Calls::Unknown, "whether phones outside reach us is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Dependence::{AddressAndPortDependent as Symmetric, EndpointIndependent as Cone};

    /// An office with an upstream that answers over UDP, behind a NAT of this mapping.
    fn office(mapping: Dependence) -> Facts {
        Facts {
            role: Some(Role::Office),
            upstreams: true,
            answered: Some(Clear::Readable),
            refused: false,
            udp: Through::Open,
            tcp: Through::Open,
            translated: Some(true),
            mapping: Some(mapping),
            filtering: Some(Symmetric),
            reached: None,
            written: Written::Found,
            comedia: false,
            turn: None,
            alg: false,
            phones_outside: false,
        }
    }

    fn calls(facts: Facts) -> Calls {
        facts.judge().0
    }

    #[test]
    fn a_plain_upstream_needs_a_mapping_that_can_be_foretold() {
        assert_eq!(calls(office(Cone)), Calls::Work);
        let none = Facts { translated: Some(false), mapping: None, ..office(Symmetric) };
        assert_eq!(calls(none), Calls::Work);
        let symmetric = office(Symmetric);
        assert_eq!(calls(symmetric), Calls::Fail);
        assert_eq!(calls(Facts { mapping: None, ..symmetric }), Calls::Unknown);
        assert_eq!(calls(Facts { comedia: true, ..symmetric }), Calls::Work);
        assert_eq!(calls(Facts { turn: Some((Transport::Udp, true)), ..symmetric }), Calls::Work);
        assert_eq!(calls(Facts { turn: Some((Transport::Udp, false)), ..symmetric }), Calls::Unknown);
        let forwarded = Facts { written: Written::Fixed, reached: Some(true), ..symmetric };
        assert_eq!(calls(forwarded), Calls::Work);
        assert_eq!(calls(Facts { reached: Some(false), ..forwarded }), Calls::Fail);
        // Forwarded, and not said so in the configuration: no promise either way.
        assert_eq!(calls(Facts { written: Written::Found, ..forwarded }), Calls::Unknown);
        // Said so, and not seen to be.
        let kept = Facts { written: Written::Fixed, reached: Some(false), ..office(Cone) };
        assert_eq!(calls(kept), Calls::Unknown);
        assert_eq!(calls(Facts { reached: None, ..kept }), Calls::Unknown);
        // Our own address is no use to anybody outside.
        let own = Facts { written: Written::Own, ..office(Cone) };
        assert_eq!(calls(own), Calls::Unknown);
        assert_eq!(calls(Facts { comedia: true, ..own }), Calls::Work);
        assert_eq!(calls(Facts { translated: Some(false), ..own }), Calls::Work);
        // Without a configuration nobody knows what the provider does.
        assert_eq!(calls(Facts { role: None, upstreams: false, answered: None, ..symmetric }), Calls::Unknown);
    }

    #[test]
    fn without_udp_media_needs_turn_over_a_stream() {
        let blocked = Facts { udp: Through::Blocked, mapping: None, translated: None, ..office(Cone) };
        assert_eq!(calls(blocked), Calls::Fail);
        assert_eq!(calls(Facts { comedia: true, ..blocked }), Calls::Fail);
        assert_eq!(calls(Facts { turn: Some((Transport::Udp, true)), ..blocked }), Calls::Fail);
        assert_eq!(calls(Facts { turn: Some((Transport::Tls, true)), ..blocked }), Calls::Work);
        assert_eq!(calls(Facts { turn: Some((Transport::Tcp, false)), ..blocked }), Calls::Unknown);
        let silent = Facts { udp: Through::Unknown, ..blocked };
        assert_eq!(calls(silent), Calls::Unknown);
        assert_eq!(calls(Facts { turn: Some((Transport::Tls, true)), ..silent }), Calls::Work);
    }

    #[test]
    fn an_upstream_that_is_not_had_takes_no_calls() {
        let silent = Facts { answered: None, ..office(Cone) };
        assert_eq!(calls(silent), Calls::Unknown);
        assert_eq!(calls(Facts { refused: true, ..silent }), Calls::Fail);
        assert_eq!(calls(Facts { udp: Through::Blocked, tcp: Through::Blocked, ..silent }), Calls::Fail);
    }

    #[test]
    fn an_alg_is_no_promise_unless_it_cannot_read() {
        let alg = Facts { alg: true, ..office(Cone) };
        assert_eq!(calls(alg), Calls::Unknown);
        assert_eq!(calls(Facts { answered: Some(Clear::Hidden), ..alg }), Calls::Work);
        assert_eq!(calls(Facts { role: None, upstreams: false, answered: None, ..alg }), Calls::Unknown);
    }

    #[test]
    fn phones_outside_must_reach_us() {
        let border = Facts {
            role: Some(Role::Border),
            translated: Some(false),
            mapping: Some(Cone),
            filtering: Some(Cone),
            phones_outside: true,
            ..office(Cone)
        };
        assert_eq!(calls(border), Calls::Work);
        assert_eq!(calls(Facts { filtering: None, ..border }), Calls::Unknown);
        assert_eq!(calls(Facts { reached: Some(false), ..border }), Calls::Fail);
        assert_eq!(calls(Facts { filtering: None, reached: Some(true), ..border }), Calls::Work);
    }

    #[test]
    fn phones_of_one_network_need_nobody_outside() {
        let alone = Facts {
            role: Some(Role::Standalone),
            upstreams: false,
            answered: None,
            udp: Through::Unknown,
            translated: None,
            mapping: None,
            ..office(Cone)
        };
        assert_eq!(calls(alone), Calls::Work);
    }
}
