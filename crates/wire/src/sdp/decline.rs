//! The answer that declines everything (RFC 3264 §6): for who must answer an
//! offer only to end the call that it came with (RFC 3261 §13.2.2.4).

use std::net::IpAddr;

use super::Body;
use super::attributes::next_line;
use super::body::content;
use crate::text::Text;

/// An answer to `offer` with every stream at port 0, in the order, with the
/// formats and the times of the offer. `address` stands in `o=` and `c=`,
/// `session` is the session id.
pub fn decline(offer: &Body<'_>, address: IpAddr, session: u32) -> Vec<u8> {
    let (address, session) = (Text::ip(address), Text::number(session.into()));
    let mut out = Vec::with_capacity(256);
    let mut write = |pieces: &[&[u8]]| pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    write(&[b"v=0\r\no=- ", session.get(), b" 1 IN ", address.get(), b"\r\ns=-\r\nc=IN ", address.get(), b"\r\n"]);
    write(&[b"t=", times(offer.session()).unwrap_or(b"0 0"), b"\r\n"]);
    for media in &offer.media {
        write(&[b"m=", media.kind, b" 0 ", media.protocol, b" ", media.formats, b"\r\n"]);
    }
    out
}

/// What the first `t=` line says.
fn times(mut session: &[u8]) -> Option<&[u8]> {
    while !session.is_empty() {
        let line;
        (line, session) = next_line(session);
        if line.starts_with(b"t=") {
            return Some(content(line));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_declined_as_it_was_offered() {
        let offer = "v=0\r\no=b 7 7 IN IP4 10.0.0.9\r\ns=talk\r\nt=5 9\r\nm=audio 4000/2 RTP/AVP 0 8\r\n\
            c=IN IP4 10.0.0.9\r\na=sendonly\r\nm=image 0 udptl t38\nm=video 9 UDP/TLS/RTP/SAVPF 96";
        let answer =
            decline(&Body::parse(offer.as_bytes()).expect("reads"), "2001:db8::1".parse().expect("address"), 42);
        let expected = "v=0\r\no=- 42 1 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=5 9\r\n\
            m=audio 0 RTP/AVP 0 8\r\nm=image 0 udptl t38\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\n";
        assert_eq!(String::from_utf8_lossy(&answer), expected);
        assert!(Body::parse(&answer).expect("reads back").media.iter().all(super::super::Media::is_rejected));
    }

    #[test]
    fn an_offer_without_times_and_streams_has_an_answer() {
        let answer = decline(&Body::parse(b"v=0\r\n").expect("reads"), "192.0.2.1".parse().expect("address"), 1);
        assert!(answer.ends_with(b"c=IN IP4 192.0.2.1\r\nt=0 0\r\n"));
    }
}
