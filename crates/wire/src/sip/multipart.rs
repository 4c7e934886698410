//! Bodies of several parts (RFC 2046 §5.1, RFC 5621 §3.1): finding the one
//! that counts, in place.
//!
//! Decides where a part begins and ends. Parts of parts are not looked into,
//! nor what is encoded (`Content-Transfer-Encoding: base64`): nobody sends SDP so.

use super::params::Params;

/// Is `value`, a Content-Type, of this type (`type/subtype`, lower case)?
pub fn is(value: &[u8], kind: &[u8]) -> bool {
    value.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
        && value.get(kind.len()).is_none_or(|next| matches!(next, b';' | b' ' | b'\t'))
}

/// The first part of type `wanted` in a `multipart` body whose Content-Type is `value`.
pub fn part<'a>(value: &[u8], body: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    if !value.get(..10)?.eq_ignore_ascii_case(b"multipart/") {
        return None;
    }
    let boundary = boundary(value)?;
    let mut rest = after_delimiter(body, boundary, 0)?;
    loop {
        let end = delimiter(body, boundary, rest)?;
        let part = &body[rest..end.0];
        let (head, content) = split(part);
        if field(head, b"content-type").is_some_and(|kind| is(kind, wanted)) {
            let plain = field(head, b"content-transfer-encoding").is_none_or(|encoding| {
                [&b"7bit"[..], b"8bit", b"binary"].iter().any(|p| encoding.eq_ignore_ascii_case(p))
            });
            return plain.then_some(content).filter(|content| !content.is_empty());
        }
        rest = end.1?;
    }
}

fn boundary(value: &[u8]) -> Option<&[u8]> {
    let start = value.iter().position(|byte| *byte == b';')?;
    let text = Params(&value[start..]).value("boundary")?;
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text);
    (1..=70).contains(&text.len()).then_some(text)
}

/// From `at` on: where the text before the next delimiter ends, and where the
/// part behind it begins (`None` after the last).
fn delimiter(body: &[u8], boundary: &[u8], at: usize) -> Option<(usize, Option<usize>)> {
    let mut from = at;
    loop {
        let dashes = from + memchr::memmem::find(body.get(from..)?, b"--")?;
        let behind = dashes + 2 + boundary.len();
        let at_line = dashes == 0 || body[dashes - 1] == b'\n';
        if at_line && body.get(dashes + 2..behind) == Some(boundary) {
            let end = body[..dashes].strip_suffix(b"\n").unwrap_or(&body[..dashes]);
            let end = end.strip_suffix(b"\r").unwrap_or(end).len().max(at);
            let line = memchr::memchr(b'\n', &body[behind..]).map(|feed| behind + feed + 1);
            let last = body[behind..].starts_with(b"--");
            return Some((end, line.filter(|_| !last)));
        }
        from = dashes + 1;
    }
}

fn after_delimiter(body: &[u8], boundary: &[u8], at: usize) -> Option<usize> {
    delimiter(body, boundary, at)?.1
}

/// The fields of a part, and what follows the empty line.
fn split(part: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    while let Some(feed) = memchr::memchr(b'\n', &part[at..]) {
        let line = &part[at..at + feed];
        at += feed + 1;
        if matches!(line, b"" | b"\r") {
            return (&part[..at], &part[at..]);
        }
    }
    (part, b"")
}

fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        line[..colon].trim_ascii().eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &[u8] = b"multipart/mixed; boundary=\"ab--c\"";

    fn sdp(body: &str) -> Option<&str> {
        part(KIND, body.as_bytes(), b"application/sdp").map(|part| std::str::from_utf8(part).expect("text"))
    }

    #[test]
    fn the_part_that_counts_is_found_wherever_it_stands() {
        let picture = "--ab--c\r\nContent-Type: image/gif\r\n\r\nx--ab--c\r\n--ab-\r\n";
        let part =
            "--ab--c\r\ncontent-type : application/SDP ;x=y\r\nContent-Disposition: session\r\n\r\nv=0\r\ns=-\r\n";
        assert_eq!(sdp(&format!("{part}\r\n--ab--c--")), Some("v=0\r\ns=-\r\n"));
        assert_eq!(sdp(&format!("preamble\r\n{picture}{part}\r\n{picture}--ab--c--\r\n")), Some("v=0\r\ns=-\r\n"));
        assert_eq!(sdp(&format!("{part}--ab--c--").replace('\r', "")), Some("v=0\ns=-"));
    }

    #[test]
    fn what_is_not_there_or_not_plain_is_not_found() {
        for body in [
            "",
            "--ab--c",
            "--ab--c--\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--ab--c--",
            "--ab--c\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n",
            "--ab--c\r\nContent-Type: application/sdp\r\n\r\n--ab--c--",
            "--ab--c\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0w\r\n--ab--c--",
        ] {
            assert_eq!(sdp(body), None, "{body:?}");
        }
        let body = b"--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--x--";
        for kind in ["multipart/mixed", "multipart/mixed;boundary=", "text/plain;boundary=x", "multi", ""] {
            assert_eq!(part(kind.as_bytes(), body, b"application/sdp"), None, "{kind}");
        }
        assert!(part(b"Multipart/Related; type=a; boundary=x", body, b"application/sdp").is_some());
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_read_or_not(body in "(--b\r?\n|--b--|Content-Type: application/sdp\r?\n|\r?\n|v=0|-){0,24}") {
            if let Some(part) = part(b"multipart/mixed;boundary=b", body.as_bytes(), b"application/sdp") {
                proptest::prop_assert!(!part.is_empty() && body.as_bytes().windows(part.len()).any(|w| w == part));
            }
        }
    }
}
