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
    let packet = media.attribute("ptime").and_then(number).filter(|ms| (1..=200).contains(ms));
    Formats {
        audio: media.kind.eq_ignore_ascii_case(b"audio"),
        video: media.kind.eq_ignore_ascii_case(b"video"),
        secure: media.protocol.windows(4).any(|part| part.eq_ignore_ascii_case(b"SAVP")),
        packet_ms: packet.and_then(|ms| u8::try_from(ms).ok()).unwrap_or(0),
        list: media.attributes.named("rtpmap").filter_map(|a| format(a.value)).take(MOST).collect(),
    }
}

/// `96 opus/48000/2`.
fn format(value: &[u8]) -> Option<Format> {
    let mut words = value.split(|octet| octet.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let payload_type = words.next().and_then(number).and_then(|number| u8::try_from(number).ok())?;
    let mut parts = words.next()?.split(|octet| *octet == b'/');
    let codec = Codec::named(parts.next()?);
    let clock = parts.next().and_then(number)?;
    (payload_type < 128).then_some(Format { payload_type, codec, clock })
}

fn number(text: &[u8]) -> Option<u32> {
    let digits = text.trim_ascii();
    let add = |number: u32, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    digits.iter().try_fold(0, add).filter(|_| !digits.is_empty())
}

/// Of both: the answer's word counts where the two differ.
fn both(offer: &Formats, answer: &Formats) -> Formats {
    let more = offer.list.iter().filter(|format| answer.list.iter().all(|own| own.payload_type != format.payload_type));
    Formats {
        audio: answer.audio && offer.audio,
        video: answer.video && offer.video,
        secure: answer.secure || offer.secure,
        packet_ms: if answer.packet_ms == 0 { offer.packet_ms } else { answer.packet_ms },
        list: answer.list.iter().chain(more).copied().collect(),
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
