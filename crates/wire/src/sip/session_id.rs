//! Session-ID (RFC 7989 §5): who the two ends of a session are, as UUIDs.

use super::Params;

/// The UUID of an end that is not known.
pub const NIL: &[u8; 32] = b"00000000000000000000000000000000";

/// A parsed Session-ID, from its sender's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId<'a> {
    /// The sender's own UUID; `None` where it says that it has none.
    pub local: Option<&'a [u8]>,
    /// The UUID of its peer, as far as it knows.
    pub remote: Option<&'a [u8]>,
}

impl<'a> SessionId<'a> {
    /// Reads a header field value. Of what has another length than a UUID nothing is believed (§7).
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        let (local, params) = value.split_at(end);
        let local = uuid(local.trim_ascii())?;
        let remote = Params(params).value("remote").and_then(uuid);
        Some(Self { local: known(local), remote: remote.and_then(known) })
    }
}

/// A whole header line from `local` to `remote`; empty where both are unknown.
pub fn line(local: Option<&[u8]>, remote: Option<&[u8]>) -> Vec<u8> {
    if local.is_none() && remote.is_none() {
        return Vec::new();
    }
    [b"Session-ID: ", local.unwrap_or(NIL), b";remote=", remote.unwrap_or(NIL), b"\r\n"].concat()
}

fn uuid(text: &[u8]) -> Option<&[u8]> {
    (text.len() == 32 && text.iter().all(u8::is_ascii_hexdigit)).then_some(text)
}

fn known(uuid: &[u8]) -> Option<&[u8]> {
    (uuid != NIL).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = b"ab30317f1a784dc48ff824d0d3715d86";
    const B: &[u8] = b"47755a9de7794ba387653f2099600ef2";

    #[test]
    fn session_ids_and_what_is_none() {
        let both = [A, b";remote=", B].concat();
        assert_eq!(SessionId::parse(&both), Some(SessionId { local: Some(A), remote: Some(B) }));
        let one = [A, b" ; Remote=", NIL, b";x=y"].concat();
        assert_eq!(SessionId::parse(&one), Some(SessionId { local: Some(A), remote: None }));
        assert_eq!(SessionId::parse(NIL), Some(SessionId { local: None, remote: None }));
        for wrong in [&b""[..], &A[1..], b"ab30317f1a784dc48ff824d0d3715d8g", b"x"] {
            assert_eq!(SessionId::parse(wrong), None);
        }
        let short = [A, b";remote=47"].concat();
        assert_eq!(SessionId::parse(&short), Some(SessionId { local: Some(A), remote: None }));
    }

    #[test]
    fn a_line_names_who_is_known() {
        assert_eq!(line(None, None), b"");
        assert_eq!(line(None, Some(A)), [b"Session-ID: ", &NIL[..], b";remote=", A, b"\r\n"].concat());
        assert_eq!(line(Some(B), Some(A)), [b"Session-ID: ", B, b";remote=", A, b"\r\n"].concat());
    }
}
