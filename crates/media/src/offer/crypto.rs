//! SDES keys in offers and answers (RFC 4568): which keys each end may send with.
//!
//! Decides what `a=crypto` lines of a section are worth to the latch. They pass
//! as they are; a line that is not understood gives no key and breaks no call,
//! and where it is not certain that all packets bear a tag of a key that we
//! know, none is known. Must not show a key.

use std::sync::Arc;

use wire::sdp::{Body, Crypto, Media};

use crate::srtp::Key;

/// Of an offer that nobody has answered, so many keys are tried on a packet.
const TRIED: usize = 4;
/// So many lines of a section are read; the others are as if not understood.
const READ: usize = 8;

/// What a section says.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// Lines that are understood, with their tags.
    lines: Vec<(u32, Key)>,
    /// It is not said that nothing but SRTP will come (RFC 8643 §3).
    plain: bool,
    /// There is another way to agree on keys: other lines, DTLS, MIKEY.
    otherwise: bool,
}

impl Said {
    /// Reads a body: a place for each section, or none at all where there is no
    /// such line. A key that stands in two sections does not tell their packets
    /// apart, so that those of the one could be sent again to the other.
    pub(super) fn read(sdp: &Body<'_>) -> Vec<Self> {
        if !sdp.media.iter().any(|media| media.attribute("crypto").is_some()) {
            return Vec::new();
        }
        let mut said: Vec<Self> = sdp.media.iter().map(|media| Self::of(sdp, media)).collect();
        let twice = |at: usize, key: &Key| {
            let others = said.iter().enumerate().filter(|(other, _)| *other != at);
            others.flat_map(|(_, said)| &said.lines).any(|(_, other)| other == key)
        };
        let shared: Vec<bool> =
            (0..said.len()).map(|at| said[at].lines.iter().any(|(_, key)| twice(at, key))).collect();
        for (said, _) in said.iter_mut().zip(shared).filter(|(_, shared)| *shared) {
            (said.lines, said.otherwise) = (Vec::new(), true);
        }
        said
    }

    /// Reads a section.
    fn of(sdp: &Body<'_>, media: &Media<'_>) -> Self {
        let is = |protocols: [&[u8]; 2]| protocols.iter().any(|known| media.protocol.eq_ignore_ascii_case(known));
        let secure = is([b"RTP/SAVP", b"RTP/SAVPF"]);
        if media.port == 0 || !secure && !is([b"RTP/AVP", b"RTP/AVPF"]) {
            return Self::default();
        }
        let mut said = Self { plain: !secure, ..Self::default() };
        for line in media.attributes.named("crypto") {
            match Crypto::parse(line.value).filter(|_| said.lines.len() < READ) {
                Some(crypto) => said.lines.push((crypto.tag, Key::new(&crypto))),
                None => said.otherwise = true,
            }
        }
        let has = |name| media.attribute(name).or_else(|| sdp.attribute(name)).is_some();
        said.otherwise |= has("fingerprint") || has("key-mgmt");
        said
    }

    /// The keys of an offer that awaits its answer: the offerer may send with any of them (§5.1.1).
    pub(super) fn offered(&self) -> Arc<[Key]> {
        if self.plain || self.otherwise || self.lines.len() > TRIED {
            return Arc::default();
        }
        self.lines.iter().map(|(_, key)| key.clone()).collect()
    }

    /// The keys that offerer and answerer send with: the answer's one line, and
    /// the line of the offer with that tag and suite (§5.1.2, §5.1.3).
    pub(super) fn agreed(&self, answer: &Self) -> [Arc<[Key]>; 2] {
        let [(tag, key)] = &answer.lines[..] else { return Default::default() };
        let mut named = self.lines.iter().filter(|(offered, _)| offered == tag);
        let (Some((_, chosen)), None) = (named.next(), named.next()) else { return Default::default() };
        // One key for both ways (which §5.1.2 forbids) would not tell who has sent a packet.
        if answer.otherwise || !chosen.suits(key) || chosen == key {
            return Default::default();
        }
        [[chosen.clone()].into(), [key.clone()].into()]
    }
}
