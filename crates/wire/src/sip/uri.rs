//! URIs (RFC 3261 §19.1, RFC 3966 `tel`): any scheme is read, none is changed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Params, lex};
use crate::scan::{Block, NARROW, Narrow, WIDTH, Wide, below, find, first};
use crate::{Malformed, Span};

/// The schemes that siplatch routes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the scheme of that name")]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    Urn,
    /// Answered 416 in a Request-URI, passed everywhere else.
    Other,
}

impl Scheme {
    fn of(name: &[u8]) -> Self {
        match name {
            b"sip" => Self::Sip,
            b"sips" => Self::Sips,
            _ if name.eq_ignore_ascii_case(b"sip") => Self::Sip,
            _ if name.eq_ignore_ascii_case(b"sips") => Self::Sips,
            _ if name.eq_ignore_ascii_case(b"tel") => Self::Tel,
            _ if name.eq_ignore_ascii_case(b"urn") => Self::Urn,
            _ => Self::Other,
        }
    }
}

/// A host as written, with `[v6]` brackets if it has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'a>(pub &'a [u8]);

impl Host<'_> {
    /// The address, when the host is numeric (IPv4, or IPv6 in brackets or bare).
    /// The third colon of `[2001:db8:::192.0.2.1]`, a fault of RFC 3261's
    /// grammar, is left out (RFC 5118 §4.10).
    pub fn ip(self) -> Option<IpAddr> {
        if let Some(v4) = ipv4(self.0) {
            return Some(IpAddr::V4(v4));
        }
        let inner = self.0.strip_prefix(b"[").and_then(|v6| v6.strip_suffix(b"]"));
        let text = std::str::from_utf8(inner.unwrap_or(self.0)).ok()?;
        match inner {
            None if find(b':', self.0).is_none() => None,
            _ => text.parse::<Ipv6Addr>().or_else(|_| text.replacen(":::", "::", 1).parse()).ok().map(IpAddr::V6),
        }
    }
    /// Equal as names (any case) or as addresses.
    pub fn same_as(self, other: Host<'_>) -> bool {
        self.0.eq_ignore_ascii_case(other.0) || self.ip().is_some_and(|ip| other.ip() == Some(ip))
    }
}

/// Four decimal numbers up to 255 without leading zeros, as the standard
/// library reads them; every message has several.
pub(crate) fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut at = 0;
    for (place, octet) in octets.iter_mut().enumerate() {
        if place > 0 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let first = at;
        let mut number = 0u16;
        while let Some(digit) = text.get(at).filter(|byte| byte.is_ascii_digit() && at < first + 3) {
            number = number * 10 + u16::from(digit - b'0');
            at += 1;
        }
        let padded = at > first + 1 && text[first] == b'0';
        if at == first || padded {
            return None;
        }
        *octet = u8::try_from(number).ok()?;
    }
    (at == text.len()).then(|| Ipv4Addr::from(octets))
}

/// A URI, in pieces that are sub-slices of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// All of it.
    pub raw: &'a [u8],
    /// Scheme.
    pub scheme: Scheme,
    /// User part as written, without password; for `tel` the number; for `urn` and unknown schemes `None`.
    pub user: Option<&'a [u8]>,
    /// Host; `None` for schemes without one.
    pub host: Option<Host<'a>>,
    /// Port, if written.
    pub port: Option<u16>,
    /// `host[:port]` as written, for an edit; empty for schemes without host.
    pub host_port: &'a [u8],
    /// URI parameters.
    pub params: Params<'a>,
    /// From `?` on, or empty.
    pub headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Reads a whole URI. Escapes are left as they are. Refuses white space,
    /// controls, `<`, `>`, `"` and non-ASCII octets; a sip(s) URI without a
    /// host; a port outside 0–65535.
    pub fn parse(raw: &'a [u8]) -> Result<Self, Malformed> {
        let marks = Marks::of(raw)?;
        let Some(colon) = marks.colon else {
            return Err(Malformed { at: 0, what: "URI without a scheme" });
        };
        let name = lex::before(raw, colon);
        let scheme = Scheme::of(name);
        if scheme == Scheme::Other {
            let spelt = name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
            if !spelt || !name.first().is_some_and(u8::is_ascii_alphabetic) {
                return Err(Malformed { at: 0, what: "URI without a scheme" });
            }
        }
        let rest = lex::tail(raw, colon + 1);
        if rest.is_empty() {
            return Err(Malformed { at: raw.len(), what: "URI with nothing after its scheme" });
        }
        match scheme {
            Scheme::Sip | Scheme::Sips => Self::sip(raw, scheme, colon + 1, marks),
            Scheme::Tel => Self::tel(raw, rest),
            Scheme::Urn | Scheme::Other => Ok(Self { raw, scheme, ..Self::EMPTY }),
        }
    }

    /// The scheme that a URI begins with, whatever follows it.
    pub fn scheme_of(raw: &[u8]) -> Scheme {
        raw.get(..raw.len().min(5))
            .and_then(|start| find(b':', start))
            .map_or(Scheme::Other, |colon| Scheme::of(&raw[..colon]))
    }

    const EMPTY: Uri<'static> = Uri {
        raw: &[],
        scheme: Scheme::Other,
        user: None,
        host: None,
        port: None,
        host_port: &[],
        params: Params(&[]),
        headers: &[],
    };

    /// `[user[:password]@]host[:port][;params][?headers]` (§19.1.1). A user
    /// part may hold `;`, `?` and `/`, so the first `@` is looked for first.
    fn sip(raw: &'a [u8], scheme: Scheme, start: usize, marks: Marks) -> Result<Self, Malformed> {
        let (user, offset) = match marks.at {
            Some(at) => (raw.get(start..marks.password.unwrap_or(at).min(at)), at + 1),
            None => (None, start),
        };
        let place = lex::tail(raw, offset);
        let (host, port, after) =
            host_port(place, |_, at| at).map_err(|e| Malformed { at: offset + e.at, what: e.what })?;
        if !matches!(after.first(), None | Some(b';' | b'?')) {
            return Err(Malformed { at: raw.len() - after.len(), what: "URI with text after its host" });
        }
        let end = raw.len() - after.len();
        let question = marks.question.unwrap_or(raw.len());
        Ok(Self {
            raw,
            scheme,
            user,
            host: Some(host),
            port,
            host_port: raw.get(offset..end).unwrap_or_default(),
            params: Params(raw.get(end..question).unwrap_or_default()),
            headers: lex::tail(raw, question),
        })
    }

    /// `tel:number[;params]` (RFC 3966 §3).
    fn tel(raw: &'a [u8], rest: &'a [u8]) -> Result<Self, Malformed> {
        let end = find(b';', rest).unwrap_or(rest.len());
        let number = lex::before(rest, end);
        if number.is_empty() {
            return Err(Malformed { at: raw.len() - rest.len(), what: "tel URI without a number" });
        }
        let params = Params(lex::tail(rest, end));
        Ok(Self { raw, scheme: Scheme::Tel, user: Some(number), params, ..Self::EMPTY })
    }

    /// URI equality by RFC 3261 §19.1.4 (escapes decoded, parameters that
    /// count compared, `user`, `ttl`, `method`, `maddr`, `transport` must match).
    pub fn equals(&self, other: &Uri<'_>) -> bool {
        super::uri_equal::equals(self, other)
    }

    /// The password, from its colon on, or empty.
    pub(super) fn password(&self) -> &'a [u8] {
        let Some(user) = self.user else { return &[] };
        let start = Span::of(user, self.raw).end as usize;
        let end = Span::of(self.host_port, self.raw).start as usize;
        self.raw.get(start..end.saturating_sub(1)).unwrap_or_default()
    }
}

/// Where the pieces of a URI meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    /// Behind the scheme.
    colon: Option<usize>,
    /// The next one, where there is a user part.
    password: Option<usize>,
    /// The first `@`.
    at: Option<usize>,
    /// The first `?` behind that.
    question: Option<usize>,
}

impl Marks {
    fn of(raw: &[u8]) -> Result<Self, Malformed> {
        let length = raw.len();
        let marks = if length <= NARROW {
            Self::of_block(&Narrow::of(raw), length)
        } else if length <= WIDTH {
            Self::of_block(&Wide::of(raw), length)
        } else {
            None
        };
        if let Some(marks) = marks {
            return Ok(marks);
        }
        // All octets at once first: the search for a bad one begins where there is one.
        if !raw.iter().fold(true, |good, byte| good & lex::is_uri_byte(*byte)) {
            let at = raw.iter().position(|byte| !lex::is_uri_byte(*byte)).unwrap_or_default();
            return Err(Malformed { at, what: "URI with a character that must be escaped" });
        }
        let beyond = |start: usize, mark| find(mark, lex::tail(raw, start)).map(|at| start + at);
        let colon = find(b':', raw);
        let at = find(b'@', raw);
        let password = colon.filter(|_| at.is_some()).and_then(|colon| beyond(colon + 1, b':'));
        Ok(Self { colon, password, at, question: beyond(at.unwrap_or_default(), b'?') })
    }

    /// The same of a URI that is `length` octets of a block; `None` if one of them is bad.
    #[inline]
    fn of_block<const PARTS: usize>(block: &Block<PARTS>, length: usize) -> Option<Self> {
        let good = block.within(b'!', b'~', [b'"', b'<', b'>']);
        if good & below(length) != below(length) {
            return None;
        }
        let colons = block.equal(b':');
        let at = first(block.equal(b'@'));
        let password = at.and_then(|_| first(colons & colons.wrapping_sub(1)));
        let question = first(block.equal(b'?') & !below(at.unwrap_or_default()));
        Some(Self { colon: first(colons), password, at, question })
    }
}

/// Reads `host[:port]` and gives back what follows it. `skip` steps over the
/// white space that is allowed before and after the colon.
pub(super) fn host_port(
    bytes: &[u8],
    skip: fn(&[u8], usize) -> usize,
) -> Result<(Host<'_>, Option<u16>, &[u8]), Malformed> {
    let refuse = |at, what| Err(Malformed { at, what });
    let length = match bytes.first() {
        Some(b'[') => match find(b']', bytes) {
            Some(end) => end + 1,
            None => return refuse(0, "IPv6 address without its closing bracket"),
        },
        _ => lex::length_of(bytes, lex::is_host_byte),
    };
    let host = lex::before(bytes, length);
    if host.first() == Some(&b'[') {
        let inner = host.get(1..length - 1).unwrap_or_default();
        let spelt = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
        if find(b':', inner).is_none() || !inner.iter().all(spelt) {
            return refuse(0, "brackets without an IPv6 address");
        }
    }
    if host.is_empty() {
        return refuse(0, "host missing");
    }
    let colon = skip(bytes, length);
    if bytes.get(colon) != Some(&b':') {
        return Ok((Host(host), None, lex::tail(bytes, length)));
    }
    let start = skip(bytes, colon + 1);
    let digits = lex::tail(bytes, start);
    let digits = lex::before(digits, lex::length_of(digits, |byte| byte.is_ascii_digit()));
    match lex::decimal(digits).and_then(|port| u16::try_from(port).ok()) {
        Some(port) => Ok((Host(host), Some(port), lex::tail(bytes, start + digits.len()))),
        None => refuse(start, "port is not a number up to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sip_uris_in_pieces() {
        type Pieces<'a> = (Option<&'a str>, &'a str, Option<u16>, &'a str, &'a str);
        let table: [(&str, Pieces<'_>); 12] = [
            ("sip:host", (None, "host", None, "", "")),
            ("SIP:a@host:5060", (Some("a"), "host", Some(5060), "", "")),
            ("sips:a:pw@h.example.;lr;x=1?y=z&k", (Some("a"), "h.example.", None, ";lr;x=1", "?y=z&k")),
            ("sip:h?Route=%3Csip:a%3E", (None, "h", None, "", "?Route=%3Csip:a%3E")),
            ("sip:a;b?c/d#@h", (Some("a;b?c/d#"), "h", None, "", "")),
            (
                "sip:user;par=u%40example.net@example.com",
                (Some("user;par=u%40example.net"), "example.com", None, "", ""),
            ),
            ("sip:a@[2001:db8::10]:5070;lr", (Some("a"), "[2001:db8::10]", Some(5070), ";lr", "")),
            ("sip:[2001:db8::10:5070]", (None, "[2001:db8::10:5070]", None, "", "")),
            ("sip:[::ffff:192.0.2.1]", (None, "[::ffff:192.0.2.1]", None, "", "")),
            ("sip:null-%00-null@h", (Some("null-%00-null"), "h", None, "", "")),
            ("sip:@h", (Some(""), "h", None, "", "")),
            ("sip:h;;lr;", (None, "h", None, ";;lr;", "")),
        ];
        for (text, (user, host, port, params, headers)) in table {
            let uri = Uri::parse(text.as_bytes()).expect(text);
            assert_eq!(uri.user, user.map(str::as_bytes), "{text}");
            assert_eq!(uri.host, Some(Host(host.as_bytes())), "{text}");
            assert_eq!(uri.port, port, "{text}");
            assert_eq!(uri.params.0, params.as_bytes(), "{text}");
            assert_eq!(uri.headers, headers.as_bytes(), "{text}");
            assert!(uri.host_port.starts_with(host.as_bytes()), "{text}");
        }
    }

    #[test]
    fn other_schemes() {
        let table = [
            ("tel:+1-201-555-0123;phone-context=x", Scheme::Tel, Some("+1-201-555-0123")),
            ("urn:service:sos", Scheme::Urn, None),
            ("nobodyKnowsThisScheme:totallyopaquecontent", Scheme::Other, None),
            ("soap.beep://192.0.2.103:3002", Scheme::Other, None),
        ];
        for (text, scheme, user) in table {
            let uri = Uri::parse(text.as_bytes()).expect(text);
            assert_eq!((uri.scheme, uri.user), (scheme, user.map(str::as_bytes)), "{text}");
            assert_eq!((uri.host, uri.host_port), (None, &b""[..]), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "sip",
            "sip:",
            ":a@b",
            "5ip:a@b",
            "s ip:a",
            "<sip:a@b>",
            "sip:a b@c",
            "sip:a@b\tc",
            "sip:a\"b@c",
            "sip:a@b\u{e9}",
            "sip:a@b\u{7f}",
            "sip:a@",
            "sip:a@:5060",
            "sip:;lr",
            "sip:a@b:",
            "sip:a@b:70000",
            "sip:a@b:99999999999999999999",
            "sip:a@b:5o60",
            "sip:a@b/c",
            "sip:a@b@c",
            "sip:a@[::1",
            "sip:a@[]",
            "sip:a@[host]",
            "sip:2001:db8::10",
            "tel:",
            "tel:;phone-context=x",
        ] {
            assert!(Uri::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_short_uri_is_read_as_a_long_one(text in "[sip:@?;a\"< ]{0,70}") {
            let short = Marks::of(text.as_bytes());
            let long = format!("{text}{}", "x".repeat(WIDTH));
            assert_eq!(short, Marks::of(long.as_bytes()), "{text}");
        }

        #[test]
        fn ipv4_as_the_standard_library_reads_it(text in "[0-9]{0,4}(\\.[0-9]{0,3}){2,4}[.x]?") {
            assert_eq!(ipv4(text.as_bytes()), text.parse().ok(), "{text}");
        }

        #[test]
        fn ipv4_of_every_address(address: u32) {
            let ip = Ipv4Addr::from_bits(address);
            assert_eq!(ipv4(ip.to_string().as_bytes()), Some(ip));
        }
    }

    #[test]
    fn hosts() {
        let ip = |text: &str| Host(text.as_bytes()).ip().map(|ip| ip.to_string());
        assert_eq!(ip("192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(ip("[2001:DB8::0:1]").as_deref(), Some("2001:db8::1"));
        assert_eq!(ip("2001:db8::1").as_deref(), Some("2001:db8::1"));
        assert_eq!(ip("[2001:db8:::192.0.2.1]").as_deref(), Some("2001:db8::c000:201"));
        for text in ["", "host", "192.0.2.256", "::::1", "192.0.2.1.example", "[192.0.2.1]", "[::1", "dead.beef"] {
            assert_eq!(ip(text), None, "{text}");
        }
        assert!(Host(b"Example.com").same_as(Host(b"eXAMPLE.COM")));
        assert!(Host(b"[::1]").same_as(Host(b"0:0::1")));
        assert!(!Host(b"192.0.2.1").same_as(Host(b"192.0.2.2")));
        assert!(!Host(b"a").same_as(Host(b"b")));
    }
}
