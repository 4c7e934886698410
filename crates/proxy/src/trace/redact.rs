//! What must not be shown of a message: credentials (RFC 3261 §22), keys of
//! media (RFC 4568) and passwords of ICE (RFC 8839). The lines stay, their
//! values give way.

/// Stands in their place.
const HIDDEN: &[u8] = b"(not shown)";

/// Header fields that prove who somebody is.
const FIELDS: [&[u8]; 3] = [b"authorization", b"proxy-authorization", b"authentication-info"];

/// SDP lines, as far as they may be shown.
const LINES: [&[u8]; 3] = [b"a=ice-pwd:", b"a=key-mgmt:", b"k="];

/// A copy of a message, or of whole lines of one, without its secrets.
pub(super) fn redacted(text: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(text.len());
    let mut hiding = false;
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        let folded = line.first().is_some_and(|octet| matches!(octet, b' ' | b'\t'));
        if hiding && folded {
            continue;
        }
        let keep = kept(line);
        hiding = keep.is_some();
        match keep {
            Some(length) => {
                shown.extend_from_slice(&line[..length]);
                shown.extend_from_slice(HIDDEN);
                let end = line.len() - line.iter().rev().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
                shown.extend_from_slice(&line[end..]);
            }
            None => shown.extend_from_slice(line),
        }
    }
    shown
}

/// How much of a line with a secret may be shown; `None` for one without.
fn kept(line: &[u8]) -> Option<usize> {
    let begins = |start: &[u8]| line.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
    if begins(b"a=crypto:") {
        // The tag and the suite.
        let words = line.iter().enumerate().filter(|(_, octet)| **octet == b' ').map(|(at, _)| at + 1);
        return Some(words.take(2).last().unwrap_or(b"a=crypto:".len()));
    }
    if let Some(start) = LINES.iter().find(|start| begins(start)) {
        return Some(start.len());
    }
    let colon = line.iter().position(|octet| *octet == b':')?;
    let name = line[..colon].trim_ascii_end();
    if !FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field)) {
        return None;
    }
    // The scheme, and the space behind it.
    let spaces = line[colon + 1..].iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
    let start = colon + 1 + spaces;
    let value = &line[start..];
    let scheme = value.iter().take_while(|octet| octet.is_ascii_alphabetic()).count();
    let digest = value.get(scheme).is_some_and(|octet| *octet == b' ');
    Some(if digest { start + scheme + 1 } else { start })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        String::from_utf8(redacted(text.as_bytes())).expect("ASCII")
    }

    #[test]
    fn credentials_and_keys_are_not_shown() {
        for (line, expected) in [
            ("Authorization: Digest username=\"a\", response=\"0f\"\r\n", "Authorization: Digest (not shown)\r\n"),
            ("authorization :Basic c2VjcmV0\n", "authorization :Basic (not shown)\n"),
            (
                "Proxy-Authorization: Digest a=b,\r\n response=\"0f\"\r\nTo: t\r\n",
                "Proxy-Authorization: Digest (not shown)\r\nTo: t\r\n",
            ),
            ("Authorization:\r\n Digest response=\"0f\"\r\nTo: t\r\n", "Authorization:(not shown)\r\nTo: t\r\n"),
            ("Authentication-Info: rspauth=\"0f\"\r\n", "Authentication-Info: (not shown)\r\n"),
            ("Authorization: response=\"0f\"", "Authorization: (not shown)"),
            (
                "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\n",
                "a=crypto:1 AES_CM_128_HMAC_SHA1_80 (not shown)\r\n",
            ),
            ("a=crypto:inline:c2VjcmV0\r\n", "a=crypto:(not shown)\r\n"),
            ("a=ice-pwd:secret\r\na=ice-ufrag:u\r\n", "a=ice-pwd:(not shown)\r\na=ice-ufrag:u\r\n"),
            ("k=clear:secret\r\n", "k=(not shown)\r\n"),
        ] {
            assert_eq!(shown(line), expected);
        }
    }

    #[test]
    fn everything_else_is_shown() {
        let text = "INVITE sip:b SIP/2.0\r\nWWW-Authenticate: Digest nonce=\"1\"\r\n X\r\nl: 0\r\n\r\nno colon\r\n";
        assert_eq!(shown(text), text);
        assert_eq!(shown(""), "");
    }
}
