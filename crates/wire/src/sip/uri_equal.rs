//! When two URIs name the same thing (RFC 3261 §19.1.4, RFC 3966 §4).

use memchr::memchr;

use super::{Param, Params, Scheme, Uri, lex};

/// Parameters that must be in both URIs or in neither.
const MUST_MATCH: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];

pub(super) fn equals(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    if a.scheme != b.scheme {
        return false;
    }
    match a.scheme {
        Scheme::Sip | Scheme::Sips => {
            same_option(a.user, b.user)
                && same(a.password(), b.password(), false)
                && a.port == b.port
                && a.host.zip(b.host).is_some_and(|(a, b)| a.same_as(b))
                && params_agree(a.params, b.params)
                && params_agree(b.params, a.params)
                && headers_within(a.headers, b.headers)
                && headers_within(b.headers, a.headers)
        }
        Scheme::Tel => {
            same_number(a.user.unwrap_or_default(), b.user.unwrap_or_default())
                && params_within(a.params, b.params)
                && params_within(b.params, a.params)
        }
        Scheme::Urn | Scheme::Other => {
            let split = |raw| memchr(b':', raw).unwrap_or(0);
            let (at, bt) = (split(a.raw), split(b.raw));
            lex::before(a.raw, at).eq_ignore_ascii_case(lex::before(b.raw, bt))
                && lex::tail(a.raw, at) == lex::tail(b.raw, bt)
        }
    }
}

/// An octet of a URI component, escapes decoded. An escaped reserved
/// character is not the same as that character itself.
#[derive(PartialEq)]
struct Octet {
    byte: u8,
    shielded: bool,
}

fn octets(text: &[u8], any_case: bool) -> impl Iterator<Item = Octet> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let hex = |b: &u8| (*b as char).to_digit(16).map(|d| d as u8);
        let (byte, escaped) = match rest {
            [b'%', high, low, ..] if hex(high).is_some() && hex(low).is_some() => {
                (hex(high).unwrap_or_default() << 4 | hex(low).unwrap_or_default(), true)
            }
            [byte, ..] => (*byte, false),
            [] => return None,
        };
        rest = lex::tail(rest, if escaped { 3 } else { 1 });
        let shielded = escaped && b";/?:@&=+$,".contains(&byte);
        Some(Octet { byte: if any_case { byte.to_ascii_lowercase() } else { byte }, shielded })
    })
}

fn same(a: &[u8], b: &[u8], any_case: bool) -> bool {
    octets(a, any_case).eq(octets(b, any_case))
}

fn same_option(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b, false),
        (None, None) => true,
        _ => false,
    }
}

fn same_param(a: &Param<'_>, b: &Param<'_>) -> bool {
    same(a.value.unwrap_or_default(), b.value.unwrap_or_default(), true)
}

/// Parameters of that name: one by the grammar, but a URI that repeats one must
/// still be the same as itself.
fn named<'a>(list: Params<'a>, name: &[u8]) -> impl Iterator<Item = Param<'a>> {
    list.iter().filter(move |p| same(p.name, name, true))
}

/// Each parameter of `a` is the same in `b`, or absent there and of no weight.
fn params_agree(a: Params<'_>, b: Params<'_>) -> bool {
    a.iter().all(|p| {
        let mut there = named(b, p.name).peekable();
        match there.peek() {
            Some(_) => there.any(|q| same_param(&p, &q)),
            None => !MUST_MATCH.iter().any(|name| p.is(name)),
        }
    })
}

/// Each parameter of `a` is in `b`.
fn params_within(a: Params<'_>, b: Params<'_>) -> bool {
    a.iter().all(|p| named(b, p.name).any(|q| same_param(&p, &q)))
}

/// Each header of `a` is in `b`; none may be left out.
fn headers_within(a: &[u8], b: &[u8]) -> bool {
    headers(a).all(|(name, value)| headers(b).any(|(n, v)| same(name, n, true) && same(value, v, false)))
}

fn headers(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lex::tail(text, 1).split(|b| *b == b'&').filter(|h| !h.is_empty()).map(|header| {
        let equals = memchr(b'=', header).unwrap_or(header.len());
        (lex::before(header, equals), lex::tail(header, equals + 1))
    })
}

fn same_number(a: &[u8], b: &[u8]) -> bool {
    digits(a).eq(digits(b))
}

/// A telephone number without its visual separators (RFC 3966 §4).
fn digits(number: &[u8]) -> impl Iterator<Item = u8> {
    number.iter().filter(|b| !b"-.()".contains(b)).map(u8::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(a: &str, b: &str) -> bool {
        let parse = |text| Uri::parse(str::as_bytes(text)).expect("valid URI");
        let (a, b) = (parse(a), parse(b));
        assert_eq!(a.equals(&b), b.equals(&a));
        assert!(a.equals(&a) && b.equals(&b));
        a.equals(&b)
    }

    #[test]
    fn same_uris() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            ("sip:alice@atlanta.com?subject=x&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=x"),
            ("sip:a@[2001:db8::1]", "sip:a@[2001:0DB8:0::1]"),
            ("tel:+1-201-555-0123", "tel:+1(201)5550123"),
            ("tel:7042;phone-context=example.com", "TEL:70-42;Phone-Context=EXAMPLE.com"),
            ("URN:service:sos", "urn:service:sos"),
            ("sip:a@b;x=1;x=2", "sip:a@b;x=2;x=1"),
            ("tel:1;x=1;x=2", "tel:1;x=1;x=2"),
        ] {
            assert!(equal(a, b), "{a} {b}");
        }
    }

    #[test]
    fn different_uris() {
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a%3Bb@c", "sip:a;b@c"),
            ("sip:a:one@c", "sip:a:two@c"),
            ("sip:a@c", "sip:c"),
            ("sip:a@c", "sips:a@c"),
            ("tel:7042;phone-context=a", "tel:7042"),
            ("urn:service:sos", "urn:service:sos.fire"),
            ("mailto:a", "http:a"),
            ("sip:a@b;x=1;x=2", "sip:a@b;x=1"),
        ] {
            assert!(!equal(a, b), "{a} {b}");
        }
    }
}
