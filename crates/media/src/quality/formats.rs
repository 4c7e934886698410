//! What the payload types of a stream mean: its codecs and their clocks, from
//! SDP (`a=rtpmap`, RFC 8866 §6.6) and, where SDP is silent, from the static
//! table of RFC 3551 §6.

/// A way to code audio, as far as its figures differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// G.711 μ-law.
    Pcmu,
    /// G.711 A-law.
    Pcma,
    /// G.722 at 64 kbit/s.
    G722,
    /// G.723.1.
    G723,
    /// G.729, with or without annexes A and B.
    G729,
    /// GSM full rate.
    Gsm,
    /// RFC 3951.
    Ilbc,
    /// RFC 6716.
    Opus,
    /// AMR narrowband (RFC 4867).
    Amr,
    /// AMR wideband (RFC 4867).
    AmrWb,
    /// Speex (RFC 5574).
    Speex,
    /// DTMF digits and tones (RFC 4733): repeated packets keep the timestamp of their start.
    Event,
    /// Comfort noise (RFC 3389): sent when there is something to say about silence.
    Noise,
    /// Anything else.
    Other,
}

/// Encoding names (the registry of RFC 4855).
static NAMES: [(&[u8], Codec); 13] = [
    (b"PCMU", Codec::Pcmu),
    (b"PCMA", Codec::Pcma),
    (b"G722", Codec::G722),
    (b"G723", Codec::G723),
    (b"G729", Codec::G729),
    (b"GSM", Codec::Gsm),
    (b"iLBC", Codec::Ilbc),
    (b"opus", Codec::Opus),
    (b"AMR", Codec::Amr),
    (b"AMR-WB", Codec::AmrWb),
    (b"speex", Codec::Speex),
    (b"telephone-event", Codec::Event),
    (b"CN", Codec::Noise),
];

impl Codec {
    /// The encoding name of `a=rtpmap` (case does not count).
    pub fn named(name: &[u8]) -> Self {
        NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map_or(Self::Other, |(_, codec)| *codec)
    }

    /// For records and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::G723 => "G723",
            Self::G729 => "G729",
            Self::Gsm => "GSM",
            Self::Ilbc => "iLBC",
            Self::Opus => "opus",
            Self::Amr => "AMR",
            Self::AmrWb => "AMR-WB",
            Self::Speex => "speex",
            Self::Event => "telephone-event",
            Self::Noise => "CN",
            Self::Other => "other",
        }
    }

    /// Packets of it come when they are needed, not at a pace.
    pub(crate) fn sporadic(self) -> bool {
        matches!(self, Self::Event | Self::Noise)
    }
}

/// What one payload type means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// 0–127.
    pub payload_type: u8,
    /// What it carries.
    pub codec: Codec,
    /// Ticks of its timestamps a second.
    pub clock: u32,
}

/// What SDP says of a stream's payload types.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Formats {
    /// `m=audio`: its silence is worth a word.
    pub audio: bool,
    /// `m=video`: its packets are marked in a way of their own.
    pub video: bool,
    /// SRTP, whose RTCP cannot be read (RFC 3711 §3.4).
    pub secure: bool,
    /// `a=ptime` (RFC 8866 §6.4), milliseconds of audio a packet; 20 where it is not written.
    pub packet_ms: u8,
    /// One per payload type; the first of a number counts.
    pub list: Box<[Format]>,
}

/// When nobody says what a payload type is: the clock of nearly all telephony.
const CLOCK: u32 = 8000;

/// RFC 3551 §6, tables 4 and 5: (payload type, codec, clock).
const STATIC: [(u8, Codec, u32); 26] = [
    (0, Codec::Pcmu, 8000),
    (3, Codec::Gsm, 8000),
    (4, Codec::G723, 8000),
    (5, Codec::Other, 8000),
    (6, Codec::Other, 16_000),
    (7, Codec::Other, 8000),
    (8, Codec::Pcma, 8000),
    (9, Codec::G722, 8000),
    (10, Codec::Other, 44_100),
    (11, Codec::Other, 44_100),
    (12, Codec::Other, 8000),
    (13, Codec::Noise, 8000),
    (14, Codec::Other, 90_000),
    (15, Codec::Other, 8000),
    (16, Codec::Other, 11_025),
    (17, Codec::Other, 22_050),
    (18, Codec::G729, 8000),
    (19, Codec::Noise, 8000),
    // Keep-alives (RFC 6263 §4.6), ours among them.
    (20, Codec::Noise, 8000),
    (25, Codec::Other, 90_000),
    (26, Codec::Other, 90_000),
    (28, Codec::Other, 90_000),
    (31, Codec::Other, 90_000),
    (32, Codec::Other, 90_000),
    (33, Codec::Other, 90_000),
    (34, Codec::Other, 90_000),
];

/// The meaning of a payload type, from SDP, else from RFC 3551.
pub(crate) fn look_up(formats: Option<&Formats>, payload_type: u8) -> Format {
    let said = formats.and_then(|formats| formats.list.iter().find(|format| format.payload_type == payload_type));
    said.copied().unwrap_or_else(|| {
        let known = STATIC.iter().find(|(number, ..)| *number == payload_type);
        let (codec, clock) = known.map_or((Codec::Other, CLOCK), |(_, codec, clock)| (*codec, *clock));
        Format { payload_type, codec, clock }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sdp_counts_before_the_static_table() {
        let said = Format { payload_type: 0, codec: Codec::Opus, clock: 48_000 };
        let formats = Formats { list: [said].into(), ..Formats::default() };
        assert_eq!(look_up(Some(&formats), 0), said);
        assert_eq!(look_up(Some(&formats), 18).codec, Codec::G729);
        assert_eq!(look_up(None, 34).clock, 90_000);
        assert_eq!(look_up(None, 96), Format { payload_type: 96, codec: Codec::Other, clock: 8000 });
    }

    #[test]
    fn names_are_read_in_any_case_and_written_as_registered() {
        for name in ["pcmu", "G729", "OPUS", "amr-wb", "Telephone-Event"] {
            assert!(Codec::named(name.as_bytes()).as_str().eq_ignore_ascii_case(name));
        }
        assert_eq!(Codec::named(b"H264"), Codec::Other);
    }
}
