//! Via (RFC 3261 §20.42).

use super::{Host, Param, Params, lex, uri};
use crate::{Malformed, Span};

/// One Via value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// The whole value.
    pub raw: &'a [u8],
    /// Transport token as written (`UDP`).
    pub transport: &'a [u8],
    /// sent-by host.
    pub host: Host<'a>,
    /// sent-by port.
    pub port: Option<u16>,
    /// `host[:port]` as written.
    pub sent_by: &'a [u8],
    /// Parameters.
    pub params: Params<'a>,
    pub(super) named: Named<'a>,
}

/// What is asked of the parameters all the time, read in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Named<'a> {
    /// What the first `branch` says.
    pub(super) branch: Option<&'a [u8]>,
    /// The first of each of these, from its semicolon on.
    pub(super) received: Option<&'a [u8]>,
    pub(super) rport: Option<&'a [u8]>,
    pub(super) keep: Option<&'a [u8]>,
}

impl<'a> Named<'a> {
    fn of(params: Params<'a>) -> Self {
        let mut named = Self::default();
        let note = |place: &mut Option<&'a [u8]>, param: &Param<'a>, name| {
            if place.is_none() && param.is(name) {
                *place = Some(param.raw);
            }
        };
        for param in params.iter() {
            match param.name.first().map(u8::to_ascii_lowercase) {
                Some(b'b') if named.branch.is_none() && param.is("branch") => {
                    named.branch = Some(param.value.unwrap_or_default());
                }
                Some(b'r') => {
                    note(&mut named.received, &param, "received");
                    note(&mut named.rport, &param, "rport");
                }
                Some(b'k') => note(&mut named.keep, &param, "keep"),
                Some(_) | None => {}
            }
        }
        named
    }
}

impl<'a> Via<'a> {
    /// Reads one value (no comma list). White space is allowed round `/` and `:`.
    pub fn parse(value: &'a [u8]) -> Result<Self, Malformed> {
        let refuse = |part: &[u8], what| Malformed { at: Span::of(part, value).start as usize, what };
        let raw = lex::trim(value);
        // As nearly everybody writes it, or else by the grammar.
        let (protocol, version, rest) = match raw.strip_prefix(b"SIP/2.0/") {
            Some(rest) => (lex::before(raw, 3), raw.get(4..7).unwrap_or_default(), lex::trim_start(rest)),
            None => {
                let (protocol, rest) = token(raw);
                let (version, rest) = token(slash(rest));
                (protocol, version, slash(rest))
            }
        };
        let (transport, rest) = token(rest);
        if protocol.is_empty() || version.is_empty() || transport.is_empty() {
            return Err(refuse(raw, "Via without protocol, version and transport"));
        }
        let sent_by = lex::trim_start(rest);
        if sent_by.len() == rest.len() {
            return Err(refuse(rest, "Via without white space before its host"));
        }
        let (host, port, rest) =
            uri::host_port(sent_by, lex::skip_space).map_err(|e| refuse(lex::tail(sent_by, e.at), e.what))?;
        let sent_by = lex::trim_end(lex::before(sent_by, sent_by.len() - rest.len()));
        let params = lex::trim_start(rest);
        if !matches!(params.first(), None | Some(b';')) {
            return Err(refuse(params, "Via with text after its host"));
        }
        if let Some(at) = bracket(params) {
            return Err(refuse(lex::tail(params, at), "Via with an angle bracket"));
        }
        let params = Params(params);
        Ok(Self { raw, transport, host, port, sent_by, params, named: Named::of(params) })
    }
    /// `branch`.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.named.branch
    }
    /// `received`, the first.
    pub fn received(&self) -> Option<Param<'a>> {
        Params(self.named.received?).iter().next()
    }
    /// `rport`, the first.
    pub fn rport(&self) -> Option<Param<'a>> {
        Params(self.named.rport?).iter().next()
    }
    /// True when it has an `rport`.
    pub fn has_rport(&self) -> bool {
        self.named.rport.is_some()
    }
    /// `keep`, the first, from its semicolon on.
    pub(super) fn keep(&self) -> Option<&'a [u8]> {
        self.named.keep
    }
}

/// Where an angle bracket stands outside of quotes. The grammar has none here
/// (RFC 3261 §25.1), and a comma in brackets would be a value's end or not,
/// by what is edited beside it.
fn bracket(params: &[u8]) -> Option<usize> {
    memchr::memchr2(b'<', b'>', params)?;
    let (mut quoted, mut escaped) = (false, false);
    params.iter().position(|byte| {
        let bare = !quoted && matches!(byte, b'<' | b'>');
        quoted ^= *byte == b'"' && !escaped;
        escaped = quoted && *byte == b'\\' && !escaped;
        bare
    })
}

/// Splits off the token that `bytes` begin with.
fn token(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = lex::token_length(bytes);
    (lex::before(bytes, length), lex::tail(bytes, length))
}

/// What follows a slash and the white space round it; empty if there is none.
fn slash(bytes: &[u8]) -> &[u8] {
    lex::trim_start(lex::trim_start(bytes).strip_prefix(b"/").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values() {
        type Pieces<'a> = (&'a str, &'a str, Option<u16>, &'a str, &'a str);
        let table: [(&str, Pieces<'_>); 9] = [
            (
                "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1",
                ("UDP", "192.0.2.1", Some(5060), "192.0.2.1:5060", ";branch=z9hG4bK1"),
            ),
            ("SIP/2.0/TLS host", ("TLS", "host", None, "host", "")),
            (
                "SIP / 2.0\r\n / UDP first.example.com : 4000 ;ttl=16",
                ("UDP", "first.example.com", Some(4000), "first.example.com : 4000", ";ttl=16"),
            ),
            (
                "SIP/2.0/TCP     spindle  ;\r\n  branch  =   x",
                ("TCP", "spindle", None, "spindle", ";\r\n  branch  =   x"),
            ),
            (
                "SIP/2.0/UDP [2001:db8::9:1]:5062;rport",
                ("UDP", "[2001:db8::9:1]", Some(5062), "[2001:db8::9:1]:5062", ";rport"),
            ),
            ("SIP/2.0/UDP [::1]", ("UDP", "[::1]", None, "[::1]", "")),
            ("SIP/2.0/UDP h;x=\"<\\\">\"", ("UDP", "h", None, "h", ";x=\"<\\\">\"")),
            ("sip/2.0/udp a_b.c", ("udp", "a_b.c", None, "a_b.c", "")),
            (
                "SIP/2.0/WSS df7jal23ls0d.invalid;rport",
                ("WSS", "df7jal23ls0d.invalid", None, "df7jal23ls0d.invalid", ";rport"),
            ),
        ];
        for (value, (transport, host, port, sent_by, params)) in table {
            let via = Via::parse(value.as_bytes()).expect(value);
            assert_eq!(via.transport, transport.as_bytes(), "{value}");
            assert_eq!(via.host.0, host.as_bytes(), "{value}");
            assert_eq!(via.port, port, "{value}");
            assert_eq!(via.sent_by, sent_by.as_bytes(), "{value}");
            assert_eq!(via.params.0, params.as_bytes(), "{value}");
        }
    }

    #[test]
    fn refuses_values() {
        for value in [
            "",
            ";",
            "SIP/2.0",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0/UDP;branch=x",
            "SIP 2.0 UDP host",
            "SIP/2.0/UDP host:",
            "SIP/2.0/UDP host:70000",
            "SIP/2.0/UDP host:5o60",
            "SIP/2.0/UDP host extra",
            "SIP/2.0/UDP 2001:db8::9:1;branch=x",
            "SIP/2.0/UDP [2001:db8::9:1",
            "SIP/2.0/UDP [];x",
            "SIP/2.0/UDP h<o>st",
            "SIP/2.0/UDP host;x=<a,b>",
            "SIP/2.0/UDP host;x=\"\\\"\";y=<",
            "SIP/2.0/UDP[::1]",
        ] {
            assert!(Via::parse(value.as_bytes()).is_err(), "{value}");
        }
    }

    #[test]
    fn branch_in_any_case_and_folded() {
        let via = Via::parse(b"SIP/2.0/UDP h ; Branch=\r\n z9hG4bK3").expect("valid");
        assert_eq!(via.branch(), Some(&b"z9hG4bK3"[..]));
    }
}
