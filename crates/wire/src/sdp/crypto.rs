//! `a=crypto` (RFC 4568): a key for the media that the writer of a body sends.
//!
//! Decides what a line says, strictly: suites of RFC 4568, RFC 6188 and RFC
//! 7714, one inline key of just the right length, and session parameters that
//! leave authentication as it is. Whatever else there may be gives no key, so
//! whoever asks cannot take half of it for the whole. Must not show a key.

use super::body::fields;
use super::number;

/// Octets of the longest key and salt together: AES-256 in counter mode.
const LONGEST: usize = 32 + 14;

/// How packets are encrypted and authenticated (RFC 4568 §6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// `AES_CM_128_HMAC_SHA1_80`.
    AesCm128Sha1Long,
    /// `AES_CM_128_HMAC_SHA1_32`: 32 bits for RTP, 80 for RTCP.
    AesCm128Sha1Short,
    /// `AES_256_CM_HMAC_SHA1_80` (RFC 6188).
    AesCm256Sha1Long,
    /// `AES_256_CM_HMAC_SHA1_32` (RFC 6188).
    AesCm256Sha1Short,
    /// `AEAD_AES_128_GCM` (RFC 7714).
    Gcm128,
    /// `AEAD_AES_256_GCM` (RFC 7714).
    Gcm256,
}

impl Suite {
    fn from_name(name: &[u8]) -> Option<Self> {
        let suites: [(&[u8], Self); 6] = [
            (b"AES_CM_128_HMAC_SHA1_80", Self::AesCm128Sha1Long),
            (b"AES_CM_128_HMAC_SHA1_32", Self::AesCm128Sha1Short),
            (b"AES_256_CM_HMAC_SHA1_80", Self::AesCm256Sha1Long),
            (b"AES_256_CM_HMAC_SHA1_32", Self::AesCm256Sha1Short),
            (b"AEAD_AES_128_GCM", Self::Gcm128),
            (b"AEAD_AES_256_GCM", Self::Gcm256),
        ];
        suites.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, suite)| suite)
    }

    /// An AEAD of RFC 7714: packets are authenticated as they are encrypted.
    pub fn is_aead(self) -> bool {
        matches!(self, Self::Gcm128 | Self::Gcm256)
    }

    /// Octets of the master key, and of the master salt.
    pub fn lengths(self) -> (usize, usize) {
        match self {
            Self::AesCm128Sha1Long | Self::AesCm128Sha1Short => (16, 14),
            Self::AesCm256Sha1Long | Self::AesCm256Sha1Short => (32, 14),
            Self::Gcm128 => (16, 12),
            Self::Gcm256 => (32, 12),
        }
    }
}

/// One `a=crypto` line that can be used.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    /// What an answer names the line of an offer by (§4.1).
    pub tag: u32,
    /// The suite.
    pub suite: Suite,
    /// Octets of the master key identifier in each packet, 0 if there is none (§6.1).
    pub mki: u8,
    key_and_salt: [u8; LONGEST],
}

impl Crypto {
    /// Reads an attribute's value: `tag suite inline:key||salt[|lifetime][|mki:length] [parameters]`.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut fields = fields(value);
        let tag = fields.next().filter(|tag| tag.len() <= 9)?;
        let suite = Suite::from_name(fields.next()?)?;
        let (key_and_salt, mki) = inline(fields.next()?, suite)?;
        fields.all(|parameter| is_harmless(parameter, suite)).then_some(())?;
        Some(Self { tag: number(tag)?, suite, mki, key_and_salt })
    }

    /// Master key and master salt.
    pub fn key_and_salt(&self) -> (&[u8], &[u8]) {
        let (key, salt) = self.suite.lengths();
        (&self.key_and_salt[..key], &self.key_and_salt[key..key + salt])
    }
}

impl std::fmt::Debug for Crypto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crypto({}, {:?}, …)", self.tag, self.suite)
    }
}

/// One key (§6.1). Of several, none is used: which of them a packet is
/// authenticated by, each packet says for itself.
fn inline(parameter: &[u8], suite: Suite) -> Option<([u8; LONGEST], u8)> {
    let (method, value) = parameter.split_at_checked(7)?;
    let mut parts = value.split(|byte| *byte == b'|');
    let (key, salt) = suite.lengths();
    let key_and_salt = base64(parts.next()?, key + salt).filter(|_| method.eq_ignore_ascii_case(b"inline:"))?;
    let mut mki = 0;
    let mut next = parts.next();
    if let Some(lifetime) = next.filter(|part| !part.contains(&b':')) {
        number::<u64>(lifetime.strip_prefix(b"2^").unwrap_or(lifetime))?;
        next = parts.next();
    }
    if let Some(part) = next {
        let colon = part.iter().position(|byte| *byte == b':')?;
        part[..colon].iter().all(u8::is_ascii_digit).then_some(())?;
        mki = number(&part[colon + 1..]).filter(|length| (1..=128).contains(length))?;
    }
    parts.next().is_none().then_some((key_and_salt, mki))
}

/// A parameter (§6.3) that changes nothing of how a packet is authenticated.
fn is_harmless(parameter: &[u8], suite: Suite) -> bool {
    match parameter {
        b"UNENCRYPTED_SRTCP" => true,
        b"UNENCRYPTED_SRTP" => !suite.is_aead(),
        _ => parameter.strip_prefix(b"WSH=").is_some_and(|size| number::<u32>(size).is_some()),
    }
}

/// So many octets (RFC 4648 §4), with or without padding, and not one bit over.
fn base64(text: &[u8], length: usize) -> Option<[u8; LONGEST]> {
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let padded = digits.len() != text.len();
    if digits.len() != (length * 8).div_ceil(6) || padded && !text.len().is_multiple_of(4) {
        return None;
    }
    let mut octets = [0; LONGEST];
    let (mut bits, mut held, mut at) = (0u32, 0, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            *octets.get_mut(at)? = (bits >> held) as u8;
            bits &= (1 << held) - 1;
            at += 1;
        }
    }
    (bits == 0 && at == length).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    fn parse(text: &str) -> Option<Crypto> {
        Crypto::parse(text.as_bytes())
    }

    #[test]
    fn lines_of_every_suite() {
        for (suite, key, lengths) in [
            ("AES_CM_128_HMAC_SHA1_80", KEY.to_owned(), (16, 14)),
            ("AES_CM_128_HMAC_SHA1_32", KEY.to_owned(), (16, 14)),
            ("aes_cm_128_hmac_sha1_80", KEY.to_owned(), (16, 14)),
            ("AES_256_CM_HMAC_SHA1_80", format!("{}==", "Q".repeat(62)), (32, 14)),
            ("AES_256_CM_HMAC_SHA1_32", "Q".repeat(62), (32, 14)),
            ("AEAD_AES_128_GCM", format!("{}Q==", "a".repeat(37)), (16, 12)),
            ("AEAD_AES_256_GCM", format!("{}A=", "a".repeat(58)), (32, 12)),
        ] {
            let crypto = parse(&format!("7 {suite} inline:{key}")).expect(suite);
            assert_eq!((crypto.tag, crypto.mki), (7, 0));
            let (key, salt) = crypto.key_and_salt();
            assert_eq!((key.len(), salt.len()), lengths, "{suite}");
        }
        let crypto = parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")).expect("a line");
        assert_eq!(crypto.key_and_salt(), (&b"YS___semctl () {"[..], &b"\t220;}\n}\nunles"[..]));
    }

    #[test]
    fn lifetime_identifier_and_parameters() {
        for (rest, mki) in [
            ("|2^20", 0),
            ("|1048576", 0),
            ("|2^20|1:4", 4),
            ("|66051:4", 4),
            ("|1:128", 128),
            (" WSH=64", 0),
            ("\tUNENCRYPTED_SRTCP  UNENCRYPTED_SRTP", 0),
        ] {
            let crypto = parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{rest}"));
            assert_eq!(crypto.map(|crypto| crypto.mki), Some(mki), "{rest:?}");
        }
    }

    #[test]
    fn what_is_not_understood_gives_no_key() {
        let line = |tag: &str, suite: &str, key: &str, rest: &str| format!("{tag} {suite} inline:{key}{rest}");
        let suite = "AES_CM_128_HMAC_SHA1_80";
        for bad in [
            String::new(),
            "1".to_owned(),
            format!("1 {suite}"),
            format!("1 {suite} {KEY}"),
            format!("1 {suite} uri:{KEY}"),
            line("one", suite, KEY, ""),
            line("1234567890", suite, KEY, ""),
            line("1", "F8_128_HMAC_SHA1_80", KEY, ""),
            line("1", "AES_CM_128_NULL_AUTH", KEY, ""),
            line("1", suite, &KEY[1..], ""),
            line("1", suite, &format!("{KEY}AA"), ""),
            line("1", suite, &format!("{KEY}="), ""),
            line("1", suite, &KEY.replace('W', "*"), ""),
            line("1", "AEAD_AES_128_GCM", &format!("{}B==", "a".repeat(37)), ""),
            line("1", suite, KEY, "|"),
            line("1", suite, KEY, "|2^"),
            line("1", suite, KEY, "|2^20|"),
            line("1", suite, KEY, "|1:4|2^20"),
            line("1", suite, KEY, "|1:0"),
            line("1", suite, KEY, "|1:129"),
            line("1", suite, KEY, "|x:4"),
            line("1", suite, KEY, &format!("|1:4;inline:{KEY}|2:4")),
            line("1", suite, KEY, &format!(";inline:{KEY}")),
            line("1", suite, KEY, " UNAUTHENTICATED_SRTP"),
            line("1", suite, KEY, " KDR=0"),
            line("1", suite, KEY, " FEC_ORDER=FEC_SRTP"),
            line("1", suite, KEY, " WSH=wide"),
            line("1", suite, KEY, " -extension"),
            line("1", "AEAD_AES_128_GCM", &format!("{}Q==", "a".repeat(37)), " UNENCRYPTED_SRTP"),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_key_is_not_for_logs() {
        let crypto = parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")).expect("a line");
        assert_eq!(format!("{crypto:?}"), "Crypto(1, AesCm128Sha1Long, …)");
    }
}
