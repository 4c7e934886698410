//! The payload types of an m-line, as its figures need them: codecs, clocks,
//! packet time (RFC 8866 §6.4, §6.6). Nothing here changes a body.

use std::sync::Arc;

use wire::sdp;

use super::Offers;
use super::session::{Pending, Session};
use crate::Command;
use crate::quality::{Codec, Format, Formats};

/// Nobody offers more; the rest is taken for what RFC 3551 says.
const MOST: usize = 32;

/// What a section says.
pub(super) fn read(media: &sdp::Media<'_>) -> Formats {
    // Gathered where they are not moved again.
    let mut all = [Format { payload_type: 0, codec: Codec::Other, clock: 0 }; MOST];
    let (mut count, mut packet) = (0, None);
    for attribute in media.attributes.iter() {
        match attribute.name {
            b"rtpmap" => {
                if let (Some(slot), Some(format)) = (all.get_mut(count), format(attribute.value)) {
                    *slot = format;
                    count += 1;
                }
            }
            b"ptime" => packet = packet.or(Some(attribute.value)),
            _ => {}
        }
    }
    let packet = packet.and_then(number).filter(|ms| (1..=200).contains(ms));
    Formats {
        audio: media.kind.eq_ignore_ascii_case(b"audio"),
        video: media.kind.eq_ignore_ascii_case(b"video"),
        secure: media.protocol.windows(4).any(|part| part.eq_ignore_ascii_case(b"SAVP")),
        packet_ms: packet.and_then(|ms| u8::try_from(ms).ok()).unwrap_or(0),
        list: all[..count].into(),
    }
}

/// `96 opus/48000/2`.
fn format(value: &[u8]) -> Option<Format> {
    let (payload_type, rest) = leading(value.trim_ascii_start())?;
    let word = rest.first().is_some_and(u8::is_ascii_whitespace).then(|| rest.trim_ascii_start())?;
    let end = word.iter().position(|octet| *octet == b'/' || octet.is_ascii_whitespace())?;
    let (name, rest) = word.split_at(end);
    let (clock, rest) = leading(rest.strip_prefix(b"/")?)?;
    let whole = rest.first().is_none_or(|octet| *octet == b'/' || octet.is_ascii_whitespace());
    let payload_type = u8::try_from(payload_type).ok().filter(|number| whole && *number < 128)?;
    Some(Format { payload_type, codec: Codec::named(name), clock })
}

/// A number, and nothing else.
fn number(text: &[u8]) -> Option<u32> {
    leading(text.trim_ascii()).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

/// The number that a text begins with, and what follows.
fn leading(text: &[u8]) -> Option<(u32, &[u8])> {
    let (mut number, mut rest) = (0_u32, text);
    while let [digit @ b'0'..=b'9', more @ ..] = rest {
        number = number.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
        rest = more;
    }
    (rest.len() < text.len()).then_some((number, rest))
}

/// Of both: the answer's word counts where the two differ.
fn both(offer: &Formats, answer: &Formats) -> Formats {
    let more = offer.list.iter().filter(|format| answer.list.iter().all(|own| own.payload_type != format.payload_type));
    let mut list = Vec::with_capacity(answer.list.len() + more.clone().count());
    list.extend(answer.list.iter().chain(more).copied());
    Formats {
        audio: answer.audio && offer.audio,
        video: answer.video && offer.video,
        secure: answer.secure || offer.secure,
        packet_ms: if answer.packet_ms == 0 { offer.packet_ms } else { answer.packet_ms },
        list: list.into(),
    }
}

impl Offers {
    /// Tells the worker what an offer and its answer have agreed on for a line, if that is news.
    pub(super) fn tell_formats(&mut self, session: &mut Session, line: usize, offered: &Pending, answered: &Pending) {
        let (Some(offer), Some(answer)) = (offered.formats.get(line), answered.formats.get(line)) else { return };
        let formats = both(offer, answer);
        if let Some(stream) = &mut session.streams[line]
            && stream.formats.as_deref() != Some(&formats)
        {
            let formats = Arc::new(formats);
            stream.formats = Some(Arc::clone(&formats));
            self.out.push_back(Command::Formats { stream: stream.id, formats });
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::sdp::Body;

    use super::*;

    fn formats(media: &str) -> Formats {
        let text = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{media}");
        read(&Body::parse(text.as_bytes()).expect("SDP").media[0])
    }

    #[test]
    fn codecs_clocks_and_packet_time_are_read() {
        let read = formats(
            "m=audio 4000 RTP/SAVP 111 0 101\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:0 PCMU/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=ptime:30\r\n",
        );
        let format = |payload_type, codec, clock| Format { payload_type, codec, clock };
        let list =
            [format(111, Codec::Opus, 48_000), format(0, Codec::Pcmu, 8000), format(101, Codec::Event, 8000)].into();
        assert_eq!(read, Formats { audio: true, video: false, secure: true, packet_ms: 30, list });
        let odd = "m=video 4000 RTP/AVP 96\r\na=rtpmap:\r\na=rtpmap:300 x/1\r\na=rtpmap:96\r\na=rtpmap:97 x\r\n\
                   a=rtpmap:98 x/fast\r\na=ptime:0\r\n";
        assert_eq!(formats(odd), Formats { video: true, ..Formats::default() });
    }

    #[test]
    fn the_answer_counts_before_the_offer() {
        let offer =
            formats("m=audio 4000 RTP/AVP 96 97\r\na=rtpmap:96 opus/48000\r\na=rtpmap:97 speex/8000\r\na=ptime:20\r\n");
        let answer = formats("m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 iLBC/8000\r\n");
        let both = both(&offer, &answer);
        let codecs: Vec<_> = both.list.iter().map(|format| (format.payload_type, format.codec)).collect();
        assert_eq!(codecs, [(97, Codec::Ilbc), (96, Codec::Opus)]);
        assert_eq!((both.packet_ms, both.secure), (20, false));
    }
}
