//! SRTP authentication (RFC 3711, RFC 6188, RFC 7714): did this packet come
//! from whoever has this key?
//!
//! Keys are those that SDP shows to everybody it passes (RFC 4568). Decides
//! whether the tag of a packet is right; which packets are asked about is
//! decided by [`crate::latch`], and which index a packet has in [`context`].
//! We never terminate SRTP: nothing here is kept of what a packet says.
//!
//! Must not show a key.

pub(crate) mod context;

use aes::{Aes128, Aes256};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use wire::sdp::{Crypto, Suite};
use zeroize::Zeroize;

/// Octets of the index that ends a packet of SRTCP, with the E flag (RFC 3711 §3.4).
const INDEX: usize = 4;
/// Octets of the tag of an SRTCP packet, which is never short (RFC 4568 §6.2).
const RTCP_TAG: usize = 10;
/// Octets of an AEAD's tag (RFC 7714 §13.1).
const AEAD_TAG: usize = 16;
/// No packet of media is longer.
const LONGEST: usize = 2048;

/// A master key, as far as authentication needs it: its session keys (RFC 3711 §4.3).
/// They are the same for a whole call, since a key derivation rate is not served.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    suite: Suite,
    /// Octets of the master key identifier, where packets bear one.
    mki: usize,
    rtp: Session,
    rtcp: Session,
}

/// What is derived for RTP, or for RTCP: the key of the HMAC, or key and salt of the AEAD.
#[derive(Clone, PartialEq, Eq, Default)]
struct Session {
    key: [u8; 32],
    salt: [u8; 12],
}

impl Drop for Session {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, …)", self.suite)
    }
}

impl Session {
    /// Labels of key and salt by RFC 3711 §4.3.1, for RTP and 3 more for RTCP.
    fn derive(crypto: &Crypto, first_label: u8) -> Self {
        let mut session = Self::default();
        if crypto.suite.is_aead() {
            let length = crypto.suite.lengths().0;
            derive(crypto, first_label, &mut session.key[..length]);
            derive(crypto, first_label + 2, &mut session.salt);
        } else {
            derive(crypto, first_label + 1, &mut session.key[..20]);
        }
        session
    }

    /// HMAC-SHA1 over both parts (RFC 3711 §4.2.1).
    fn hmac(&self, packet: &[u8], more: &[u8]) -> Option<Hmac<Sha1>> {
        let mut hmac = <Hmac<Sha1> as hmac::KeyInit>::new_from_slice(&self.key[..20]).ok()?;
        hmac.update(packet);
        hmac.update(more);
        Some(hmac)
    }

    /// The AEAD's tag (RFC 7714 §8, §9). The plain text is a by-product, and is wiped.
    fn opens(&self, suite: Suite, nonce: [u8; 12], known: [&[u8]; 2], sealed: &[u8]) -> bool {
        let Some((secret, tag)) = sealed.split_last_chunk::<AEAD_TAG>() else { return false };
        let (mut room, mut about) = ([0; LONGEST], [0; LONGEST]);
        let length = known[0].len() + known[1].len();
        let (Some(room), Some(about)) = (room.get_mut(..secret.len()), about.get_mut(..length)) else { return false };
        room.copy_from_slice(secret);
        about[..known[0].len()].copy_from_slice(known[0]);
        about[known[0].len()..].copy_from_slice(known[1]);
        let mut nonce = nonce;
        nonce.iter_mut().zip(&self.salt).for_each(|(octet, salt)| *octet ^= salt);
        let (nonce, tag) = (&nonce.into(), &(*tag).into());
        let opened = if suite == Suite::Gcm128 {
            Aes128Gcm::new_from_slice(&self.key[..16])
                .map(|gcm| gcm.decrypt_inout_detached(nonce, about, (&mut *room).into(), tag).is_ok())
        } else {
            Aes256Gcm::new_from_slice(&self.key)
                .map(|gcm| gcm.decrypt_inout_detached(nonce, about, (&mut *room).into(), tag).is_ok())
        };
        room.zeroize();
        opened.unwrap_or(false)
    }
}

/// RFC 3711 §4.3.3, RFC 6188 §3: AES in counter mode, from the salt with the
/// label in its eighth octet. A salt of 12 octets stands in front (RFC 7714 §11).
fn derive(crypto: &Crypto, label: u8, out: &mut [u8]) {
    let (key, salt) = crypto.key_and_salt();
    let mut start = [0; 16];
    start[..salt.len()].copy_from_slice(salt);
    start[7] ^= label;
    if key.len() == 16 {
        if let Ok(mut stream) = Ctr128BE::<Aes128>::new_from_slices(key, &start) {
            stream.apply_keystream(out);
        }
    } else if let Ok(mut stream) = Ctr128BE::<Aes256>::new_from_slices(key, &start) {
        stream.apply_keystream(out);
    }
    start.zeroize();
}

impl Key {
    /// Of a line of SDP.
    pub fn new(crypto: &Crypto) -> Self {
        Self {
            suite: crypto.suite,
            mki: crypto.mki.into(),
            rtp: Session::derive(crypto, 0),
            rtcp: Session::derive(crypto, 3),
        }
    }

    /// Can one end send with this key and the other with that?
    pub(crate) fn suits(&self, other: &Self) -> bool {
        self.suite == other.suite
    }

    /// Octets of the tag of an RTP packet.
    fn tag(&self) -> usize {
        match self.suite {
            Suite::AesCm128Sha1Short | Suite::AesCm256Sha1Short => 4,
            Suite::AesCm128Sha1Long | Suite::AesCm256Sha1Long => 10,
            Suite::Gcm128 | Suite::Gcm256 => AEAD_TAG,
        }
    }

    /// Some write an identifier into SDP and none into packets: both are tried.
    fn identifiers(&self) -> impl Iterator<Item = usize> {
        [Some(0), Some(self.mki).filter(|mki| *mki > 0)].into_iter().flatten()
    }

    /// Was this RTP packet sent with this key, and this roll-over counter (RFC 3711 §3.3)?
    pub(crate) fn vouches(&self, packet: &[u8], roc: u32) -> bool {
        let Some(header) = header(packet) else { return false };
        self.identifiers().any(|mki| {
            let tag = self.tag();
            if self.suite.is_aead() {
                let [_, _, s0, s1, .., c0, c1, c2, c3] = packet[..12] else { return false };
                let [r0, r1, r2, r3] = roc.to_be_bytes();
                let nonce = [0, 0, c0, c1, c2, c3, r0, r1, r2, r3, s0, s1];
                let sealed = packet.len().checked_sub(mki).and_then(|end| packet.get(header..end));
                return sealed
                    .is_some_and(|sealed| self.rtp.opens(self.suite, nonce, [&packet[..header], &[]], sealed));
            }
            let end = packet.len().checked_sub(mki + tag).filter(|end| *end >= header);
            let hmac = end.and_then(|end| self.rtp.hmac(&packet[..end], &roc.to_be_bytes()));
            hmac.is_some_and(|hmac| hmac.verify_truncated_left(&packet[packet.len() - tag..]).is_ok())
        })
    }

    /// The index of this RTCP packet, if it was sent with this key (RFC 3711 §3.4).
    pub(crate) fn vouches_rtcp(&self, packet: &[u8]) -> Option<u32> {
        self.identifiers().find_map(|mki| {
            let trailer = if self.suite.is_aead() { mki } else { mki + RTCP_TAG };
            let index = rtcp_index(packet, trailer)?;
            let (whole, _) = packet.split_at(packet.len() - trailer);
            let genuine = if self.suite.is_aead() {
                self.opens_rtcp(whole, index)
            } else {
                let hmac = self.rtcp.hmac(whole, &[])?;
                hmac.verify_truncated_left(&packet[packet.len() - RTCP_TAG..]).is_ok()
            };
            genuine.then_some(index)
        })
    }

    /// RFC 7714 §9: what is not encrypted, and the index, is authenticated beside the rest.
    fn opens_rtcp(&self, whole: &[u8], index: u32) -> bool {
        let Some((body, word)) = whole.split_last_chunk::<INDEX>() else { return false };
        let [_, _, _, _, c0, c1, c2, c3, ..] = *body else { return false };
        let [i0, i1, i2, i3] = index.to_be_bytes();
        let encrypted = word[0] & 0x80 != 0;
        let clear = if encrypted { Some(8) } else { body.len().checked_sub(AEAD_TAG) };
        let Some((clear, sealed)) = clear.and_then(|clear| body.split_at_checked(clear)) else { return false };
        self.rtcp.opens(self.suite, [0, 0, c0, c1, c2, c3, 0, 0, i0, i1, i2, i3], [clear, word], sealed)
    }

    /// A packet of RTP that bears its tag, as whoever has the key would send it
    /// without encryption; `None` for an AEAD. Tests speak so.
    pub fn seal(&self, packet: &[u8], roc: u32) -> Option<Vec<u8>> {
        let hmac = self.rtp.hmac(packet, &roc.to_be_bytes()).filter(|_| !self.suite.is_aead())?;
        Some([packet, &hmac.finalize().into_bytes()[..self.tag()]].concat())
    }

    /// The same of RTCP.
    pub fn seal_rtcp(&self, packet: &[u8], index: u32) -> Option<Vec<u8>> {
        let hmac = self.rtcp.hmac(packet, &index.to_be_bytes()).filter(|_| !self.suite.is_aead())?;
        Some([packet, &index.to_be_bytes(), &hmac.finalize().into_bytes()[..RTCP_TAG]].concat())
    }
}

/// Octets of an RTP header, with contributing sources and extension (RFC 3550 §5.1, §5.3.1).
fn header(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let fixed = 12 + 4 * usize::from(first & 0x0f);
    let length = if first & 0x10 == 0 {
        fixed
    } else {
        let words = packet.get(fixed + 2..fixed + 4)?;
        fixed + 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]))
    };
    (length <= packet.len()).then_some(length)
}

/// The index of an SRTCP packet, with so many octets behind it.
fn rtcp_index(packet: &[u8], trailer: usize) -> Option<u32> {
    let (whole, _) = packet.split_at_checked(packet.len().checked_sub(trailer)?)?;
    let word = whole.get(8..)?.last_chunk::<INDEX>()?;
    Some(u32::from_be_bytes(*word) & !(1 << 31))
}

#[cfg(test)]
mod tests;
