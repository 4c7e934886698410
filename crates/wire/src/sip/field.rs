//! Header fields: names in any case, compact forms (RFC 3261 §7.3), and
//! comma lists.

use super::lex;
use crate::Span;

/// Header fields that siplatch reads; all others are `Other` and pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each variant is the header field of that name")]
pub enum Name {
    Via,
    From,
    To,
    CallId,
    CSeq,
    Contact,
    MaxForwards,
    Route,
    RecordRoute,
    ContentLength,
    ContentType,
    ContentEncoding,
    ContentDisposition,
    Expires,
    MinExpires,
    Path,
    ServiceRoute,
    Require,
    ProxyRequire,
    Supported,
    Unsupported,
    Allow,
    Accept,
    Authorization,
    ProxyAuthorization,
    WwwAuthenticate,
    ProxyAuthenticate,
    Event,
    SubscriptionState,
    ReferTo,
    ReferredBy,
    Replaces,
    SessionExpires,
    MinSe,
    RAck,
    RSeq,
    RetryAfter,
    Reason,
    Warning,
    UserAgent,
    Server,
    Date,
    Privacy,
    PAssertedIdentity,
    PPreferredIdentity,
    SessionId,
    MaxBreadth,
    FlowTimer,
    Other,
}

impl Name {
    /// Recognises a field name in any case, long or compact.
    pub fn of(name: &[u8]) -> Self {
        let (Some(first), Some(last)) = (name.first(), name.last()) else { return Self::Other };
        let candidate = match (name.len(), first | 0x20, last | 0x20) {
            (1, letter, _) => return Self::compact(letter),
            (2, b't', _) => Self::To,
            (3, b'v', _) => Self::Via,
            (4, b'f', _) => Self::From,
            (4, b'c', _) => Self::CSeq,
            (4, b'p', _) => Self::Path,
            (4, b'r', b'k') => Self::RAck,
            (4, b'r', _) => Self::RSeq,
            (4, b'd', _) => Self::Date,
            (5, b'r', _) => Self::Route,
            (5, b'a', _) => Self::Allow,
            (5, b'e', _) => Self::Event,
            (6, b'a', _) => Self::Accept,
            (6, b'm', _) => Self::MinSe,
            (6, b'r', _) => Self::Reason,
            (6, b's', _) => Self::Server,
            (7, b'c', b'd') => Self::CallId,
            (7, b'c', _) => Self::Contact,
            (7, b'e', _) => Self::Expires,
            (7, b'r', _) => Self::Require,
            (7, b'p', _) => Self::Privacy,
            (7, b'w', _) => Self::Warning,
            (8, b'r', b'o') => Self::ReferTo,
            (8, b'r', _) => Self::Replaces,
            (9, b's', _) => Self::Supported,
            (10, b'u', _) => Self::UserAgent,
            (10, b's', _) => Self::SessionId,
            (10, b'f', _) => Self::FlowTimer,
            (11, b'm', b's') => Self::MinExpires,
            (11, b'm', _) => Self::MaxBreadth,
            (11, b'u', _) => Self::Unsupported,
            (11, b'r', b'y') => Self::ReferredBy,
            (11, b'r', _) => Self::RetryAfter,
            (12, b'm', _) => Self::MaxForwards,
            (12, b'r', _) => Self::RecordRoute,
            (12, b'c', _) => Self::ContentType,
            (13, b's', _) => Self::ServiceRoute,
            (13, b'p', _) => Self::ProxyRequire,
            (13, b'a', _) => Self::Authorization,
            (14, b'c', _) => Self::ContentLength,
            (15, b's', _) => Self::SessionExpires,
            (16, b'c', _) => Self::ContentEncoding,
            (16, b'w', _) => Self::WwwAuthenticate,
            (18, b'p', _) => Self::ProxyAuthenticate,
            (18, b's', _) => Self::SubscriptionState,
            (19, b'c', _) => Self::ContentDisposition,
            (19, b'p', b'n') => Self::ProxyAuthorization,
            (19, b'p', _) => Self::PAssertedIdentity,
            (20, b'p', _) => Self::PPreferredIdentity,
            _ => return Self::Other,
        };
        let long = candidate.as_str().as_bytes();
        if name == long || name.eq_ignore_ascii_case(long) { candidate } else { Self::Other }
    }

    /// The name that a line begins with and its length, for the usual ones as they
    /// are usually written; `None` says nothing.
    #[inline]
    pub(super) fn of_line(line: &[u8]) -> Option<(Self, usize)> {
        match line.first_chunk()? {
            b"Via:" => Some((Self::Via, 3)),
            [b'T', b'o', b':', _] => Some((Self::To, 2)),
            b"From" => begins(line, b"From:", Self::From),
            b"CSeq" => begins(line, b"CSeq:", Self::CSeq),
            b"Call" => begins(line, b"Call-ID:", Self::CallId),
            b"Max-" => begins(line, b"Max-Forwards:", Self::MaxForwards),
            b"Cont" => match line.get(8) {
                Some(b'L') => begins(line, b"Content-Length:", Self::ContentLength),
                Some(b'T') => begins(line, b"Content-Type:", Self::ContentType),
                _ => begins(line, b"Contact:", Self::Contact),
            },
            b"Reco" => begins(line, b"Record-Route:", Self::RecordRoute),
            b"Rout" => begins(line, b"Route:", Self::Route),
            b"User" => begins(line, b"User-Agent:", Self::UserAgent),
            b"Allo" => begins(line, b"Allow:", Self::Allow),
            b"Supp" => begins(line, b"Supported:", Self::Supported),
            b"Expi" => begins(line, b"Expires:", Self::Expires),
            _ => None,
        }
    }

    /// Its bit in a set of names.
    #[inline]
    pub(super) fn bit(self) -> u64 {
        const { assert!((Self::Other as u32) < u64::BITS) };
        1 << self as u32
    }

    /// The compact forms of RFC 3261 §7.3.3 and its extensions.
    fn compact(letter: u8) -> Self {
        match letter {
            b'b' => Self::ReferredBy,
            b'c' => Self::ContentType,
            b'e' => Self::ContentEncoding,
            b'f' => Self::From,
            b'i' => Self::CallId,
            b'k' => Self::Supported,
            b'l' => Self::ContentLength,
            b'm' => Self::Contact,
            b'o' => Self::Event,
            b'r' => Self::ReferTo,
            b't' => Self::To,
            b'v' => Self::Via,
            b'x' => Self::SessionExpires,
            _ => Self::Other,
        }
    }

    /// The long name as the registry spells it; empty for `Other`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Via => "Via",
            Self::From => "From",
            Self::To => "To",
            Self::CallId => "Call-ID",
            Self::CSeq => "CSeq",
            Self::Contact => "Contact",
            Self::MaxForwards => "Max-Forwards",
            Self::Route => "Route",
            Self::RecordRoute => "Record-Route",
            Self::ContentLength => "Content-Length",
            Self::ContentType => "Content-Type",
            Self::ContentEncoding => "Content-Encoding",
            Self::ContentDisposition => "Content-Disposition",
            Self::Expires => "Expires",
            Self::MinExpires => "Min-Expires",
            Self::Path => "Path",
            Self::ServiceRoute => "Service-Route",
            Self::Require => "Require",
            Self::ProxyRequire => "Proxy-Require",
            Self::Supported => "Supported",
            Self::Unsupported => "Unsupported",
            Self::Allow => "Allow",
            Self::Accept => "Accept",
            Self::Authorization => "Authorization",
            Self::ProxyAuthorization => "Proxy-Authorization",
            Self::WwwAuthenticate => "WWW-Authenticate",
            Self::ProxyAuthenticate => "Proxy-Authenticate",
            Self::Event => "Event",
            Self::SubscriptionState => "Subscription-State",
            Self::ReferTo => "Refer-To",
            Self::ReferredBy => "Referred-By",
            Self::Replaces => "Replaces",
            Self::SessionExpires => "Session-Expires",
            Self::MinSe => "Min-SE",
            Self::RAck => "RAck",
            Self::RSeq => "RSeq",
            Self::RetryAfter => "Retry-After",
            Self::Reason => "Reason",
            Self::Warning => "Warning",
            Self::UserAgent => "User-Agent",
            Self::Server => "Server",
            Self::Date => "Date",
            Self::Privacy => "Privacy",
            Self::PAssertedIdentity => "P-Asserted-Identity",
            Self::PPreferredIdentity => "P-Preferred-Identity",
            Self::SessionId => "Session-ID",
            Self::MaxBreadth => "Max-Breadth",
            Self::FlowTimer => "Flow-Timer",
            Self::Other => "",
        }
    }
}

/// Whether a line begins with this name, its colon included. Inlined, so that
/// the length is known and the octets are compared a word at a time.
#[inline(always)]
fn begins<const N: usize>(line: &[u8], start: &[u8; N], name: Name) -> Option<(Name, usize)> {
    (line.first_chunk() == Some(start)).then_some((name, N - 1))
}

/// One header field of an indexed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Which field.
    pub name: Name,
    /// The name as written (never empty).
    pub written: Span,
    /// The whole field, folded lines and the final line end included.
    pub line: Span,
    /// The value without surrounding white space; folds inside are kept.
    pub value: Span,
}

/// The values of a comma list (§7.3.1), each trimmed; commas inside quotes
/// and angle brackets do not split. Empty values are skipped.
pub fn comma_list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = lex::item_end(rest);
            let item = lex::trim(lex::before(rest, end));
            rest = lex::tail(rest, end + 1);
            if !item.is_empty() {
                return Some(item);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Name; 48] = [
        Name::Via,
        Name::From,
        Name::To,
        Name::CallId,
        Name::CSeq,
        Name::Contact,
        Name::MaxForwards,
        Name::Route,
        Name::RecordRoute,
        Name::ContentLength,
        Name::ContentType,
        Name::ContentEncoding,
        Name::ContentDisposition,
        Name::Expires,
        Name::MinExpires,
        Name::Path,
        Name::ServiceRoute,
        Name::Require,
        Name::ProxyRequire,
        Name::Supported,
        Name::Unsupported,
        Name::Allow,
        Name::Accept,
        Name::Authorization,
        Name::ProxyAuthorization,
        Name::WwwAuthenticate,
        Name::ProxyAuthenticate,
        Name::Event,
        Name::SubscriptionState,
        Name::ReferTo,
        Name::ReferredBy,
        Name::Replaces,
        Name::SessionExpires,
        Name::MinSe,
        Name::RAck,
        Name::RSeq,
        Name::RetryAfter,
        Name::Reason,
        Name::Warning,
        Name::UserAgent,
        Name::Server,
        Name::Date,
        Name::Privacy,
        Name::PAssertedIdentity,
        Name::PPreferredIdentity,
        Name::SessionId,
        Name::MaxBreadth,
        Name::FlowTimer,
    ];

    #[test]
    fn every_name_in_any_case() {
        for name in ALL {
            let long = name.as_str();
            assert_eq!(Name::of(long.as_bytes()), name);
            assert_eq!(Name::of(long.to_ascii_uppercase().as_bytes()), name);
            assert_eq!(Name::of(long.to_ascii_lowercase().as_bytes()), name);
            assert_eq!(Name::of(format!("{long}s").as_bytes()), Name::Other);
            assert!(
                Name::of_line(format!("{long}: x").as_bytes()).is_none_or(|known| known == (name, long.len())),
                "{long}"
            );
            assert_eq!(Name::of_line(format!("{long}s: x").as_bytes()), None, "{long}");
            assert_eq!(Name::of_line(format!("{long} : x").as_bytes()), None, "{long}");
        }
        assert_eq!(Name::of_line(b"To: x"), Some((Name::To, 2)));
        assert_eq!(Name::of_line(b"To"), None);
        assert_eq!(Name::of(b""), Name::Other);
        assert_eq!(Name::of(b"Subject"), Name::Other);
        assert_eq!(Name::of(b"Content"), Name::Other);
    }

    #[test]
    fn compact_forms() {
        for (letter, name) in [
            ("v", Name::Via),
            ("F", Name::From),
            ("t", Name::To),
            ("i", Name::CallId),
            ("M", Name::Contact),
            ("l", Name::ContentLength),
            ("c", Name::ContentType),
            ("e", Name::ContentEncoding),
            ("k", Name::Supported),
            ("o", Name::Event),
            ("r", Name::ReferTo),
            ("b", Name::ReferredBy),
            ("x", Name::SessionExpires),
            ("s", Name::Other),
        ] {
            assert_eq!(Name::of(letter.as_bytes()), name, "{letter}");
        }
    }

    #[test]
    fn comma_lists() {
        let read = |value: &'static str| -> Vec<&str> {
            comma_list(value.as_bytes()).map(|v| std::str::from_utf8(v).expect("ASCII")).collect()
        };
        assert_eq!(read(""), [""; 0]);
        assert_eq!(read(" , ,,"), [""; 0]);
        assert_eq!(read("a"), ["a"]);
        assert_eq!(read("a , b,,\r\n c"), ["a", "b", "c"]);
        assert_eq!(read("\"a, \\\"b\" <sip:c,d@e>;x=\",\", <sip:f>"), ["\"a, \\\"b\" <sip:c,d@e>;x=\",\"", "<sip:f>"]);
        assert_eq!(read("<sip:a, <sip:b>, c"), ["<sip:a, <sip:b>", "c"]);
        assert_eq!(read("\"open, <sip:a>"), ["\"open, <sip:a>"]);
    }
}
