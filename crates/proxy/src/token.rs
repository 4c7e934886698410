//! Tokens: MACed routing cookies in Contact, Record-Route and Path.
//!
//! A token is 20 octets (kind, instance, 64-bit id, leg, 72 bits of
//! SipHash-2-4) in lower-case base32: 32 characters that any SIP element
//! carries unharmed. It reveals no address, and forging one means guessing
//! the MAC; the key outlives a restart, so a token does, too.

use std::cell::Cell;
use std::hash::Hasher as _;

use hmac::{Hmac, KeyInit, Mac};
use registry::{BindingId, FlowId, PassId};
use sha2::Sha256;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::hashes::Gathered;

/// The name of the URI parameter that carries a token in a Contact.
pub(crate) const PARAM: &str = "sl";

/// The text of a token.
pub(crate) type Text = [u8; LENGTH];
/// How long it is.
pub(crate) const LENGTH: usize = 32;

/// The same octet, or bits of one, eight times.
const fn eight(octet: u8) -> u64 {
    u64::from_ne_bytes([octet; 8])
}

/// Shards and replicas would have other numbers.
const INSTANCE: u8 = 0;
/// Octets of kind, instance, id and leg, and of the code over them.
const SAID: usize = 11;
const MAC: usize = 9;

/// What a token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A binding: in the Contact that a registrar stores.
    Binding(BindingId),
    /// One leg of a dialog: in the Contact of dialog-forming messages.
    Leg(PassId, u8),
    /// A pass, in Record-Route: the entry that faces the caller or the callee.
    Route(PassId, Facing),
    /// A flow, in the Path of a phone that keeps several (RFC 5626 §5.2).
    Flow(FlowId),
}

/// Which way a Record-Route entry faces (RFC 5658).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Facing {
    /// Toward whoever sent the dialog-forming request.
    Caller,
    /// Toward whoever received it.
    Callee,
}

/// The key that tokens are sealed with.
#[derive(Clone)]
pub(crate) struct Key {
    mac: SipHasher24,
    /// The token that was opened last: of one message it is asked for again.
    opened: Cell<Option<(Text, Token)>>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Key {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        // RFC 2104 §2: a short key is padded with zeros to the hash's block.
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        let derived = Hmac::<Sha256>::new(&block.into()).chain_update(b"siphash").finalize().into_bytes();
        let mut short = [0; 16];
        short.copy_from_slice(&derived[..16]);
        Self { mac: SipHasher24::new_with_key(&short), opened: Cell::new(None) }
    }

    /// A keyed digest over pieces, for ids and tags that must come out the
    /// same for a retransmission.
    pub(crate) fn digest(&self, label: &str, pieces: &[&[u8]]) -> u64 {
        let mut input = Gathered::new(self.mac);
        input.gather(label.as_bytes());
        for piece in pieces {
            input.gather(&(piece.len() as u64).to_be_bytes());
            input.gather(piece);
        }
        input.all().finish128().h1
    }

    /// Writes a token.
    pub(crate) fn seal(&self, token: Token) -> Text {
        let (kind, id, leg) = match token {
            Token::Binding(id) => (1, id.0, 0),
            Token::Leg(pass, leg) => (2, pass.0, leg),
            Token::Route(pass, Facing::Caller) => (3, pass.0, 0),
            Token::Route(pass, Facing::Callee) => (3, pass.0, 1),
            Token::Flow(flow) => (4, flow.0, 0),
        };
        let mut said = [0; SAID];
        said[0] = kind;
        said[1] = INSTANCE;
        said[2..10].copy_from_slice(&id.to_be_bytes());
        said[10] = leg;
        let mut bytes = [0; 20];
        bytes[..SAID].copy_from_slice(&said);
        bytes[SAID..].copy_from_slice(&self.mac(&said));
        base32(&bytes)
    }

    /// Reads a token; `None` if it is not one of ours.
    pub(crate) fn open(&self, text: &[u8]) -> Option<Token> {
        let text: &Text = text.try_into().ok()?;
        if let Some((last, token)) = self.opened.get()
            && last == *text
        {
            return Some(token);
        }
        let token = self.read(text)?;
        self.opened.set(Some((*text, token)));
        Some(token)
    }

    fn read(&self, text: &Text) -> Option<Token> {
        let bytes = unbase32(text)?;
        let (said, shown) = bytes.split_first_chunk::<SAID>()?;
        let differs = self.mac(said).iter().zip(shown).fold(0, |d, (a, b)| d | (a ^ b));
        if differs != 0 || bytes[1] != INSTANCE {
            return None;
        }
        let id = bytes[2..10].iter().fold(0, |n, b| n << 8 | u64::from(*b));
        match (bytes[0], bytes[10]) {
            (1, _) => Some(Token::Binding(BindingId(id))),
            (2, leg) => Some(Token::Leg(PassId(id), leg)),
            (3, 0) => Some(Token::Route(PassId(id), Facing::Caller)),
            (3, 1) => Some(Token::Route(PassId(id), Facing::Callee)),
            (4, _) => Some(Token::Flow(FlowId(id))),
            _ => None,
        }
    }

    fn mac(&self, bytes: &[u8; SAID]) -> [u8; MAC] {
        // One write: whatever is written piece by piece is gathered first.
        let mut input = *b"token\0\0\0\0\0\0\0\0\0\0\0";
        input[5..].copy_from_slice(bytes);
        let mut mac = self.mac;
        mac.write(&input);
        let mut short = [0; MAC];
        short.copy_from_slice(&mac.finish128().as_bytes()[..MAC]);
        short
    }
}

fn base32(bytes: &[u8; 20]) -> Text {
    let mut text = [0; 32];
    for (chunk, out) in bytes.chunks_exact(5).zip(text.as_chunks_mut().0) {
        *out = letters(chunk.iter().fold(0, |n, b| n << 8 | u64::from(*b)));
    }
    text
}

fn unbase32(text: &Text) -> Option<[u8; 20]> {
    let mut bytes = [0; 20];
    for (chunk, out) in text.as_chunks().0.iter().zip(bytes.chunks_exact_mut(5)) {
        out.copy_from_slice(&bits(chunk)?.to_be_bytes()[3..]);
    }
    Some(bytes)
}

/// A 64-bit number as 13 base32 characters: for tags, branches and Call-IDs.
pub(crate) fn short(number: u64) -> [u8; 13] {
    let mut text = [0; 13];
    text[..8].copy_from_slice(&letters(number >> 25));
    text[8..].copy_from_slice(&letters(number << 15)[..5]);
    text
}

/// The number that [`short`] wrote.
pub(crate) fn long(text: &[u8]) -> Option<u64> {
    let text: &[u8; 13] = text.try_into().ok()?;
    let (high, low) = (bits(text.first_chunk()?)?, bits(text.last_chunk()?)?);
    // What would not fit, or is a capital letter, was not written by us.
    let small = is_small(text.first_chunk()?) && is_small(text.last_chunk()?);
    (small && high >> 39 == 0).then_some(high << 25 | low & 0x1ff_ffff)
}

/// True where none of eight letters is a capital one.
fn is_small(letters: &[u8; 8]) -> bool {
    let text = u64::from_ne_bytes(*letters);
    text >> 1 & !text & eight(0x20) == 0
}

/// The low 40 bits of a number as eight letters, `a` to `z` and `2` to `7`; all
/// of them at once, each in an octet of its own.
fn letters(number: u64) -> [u8; 8] {
    let halves = number & 0xf_ffff | (number >> 20 & 0xf_ffff) << 32;
    let quarters = halves & 0x3ff_0000_03ff | (halves & 0xf_fc00_000f_fc00) << 6;
    let values = quarters & 0x1f_001f_001f_001f | (quarters & 0x3e0_03e0_03e0_03e0) << 3;
    let figures = is_figure(values);
    (values + eight(b'a') - figures * u64::from(b'a' + 26 - b'2')).to_be_bytes()
}

/// What eight letters, small or capital, stand for; `None` if one of them is no letter of ours.
fn bits(letters: &[u8; 8]) -> Option<u64> {
    let text = u64::from_be_bytes(*letters);
    let alphabetic = text >> 6 & eight(1);
    let start = eight(b'2' - 26) + alphabetic * u64::from(b'a' + 26 - b'2');
    // The eighth bit keeps one octet from borrowing of the next.
    let values = ((text | alphabetic << 5 | eight(0x80)) - start) ^ eight(0x80);
    let fits = (text & eight(0x80)) | (values & eight(0xe0)) == 0;
    // Letters stand for the values below 26, figures for the others.
    if !fits || is_figure(values) ^ alphabetic != eight(1) {
        return None;
    }
    let quarters = values & 0x1f_001f_001f_001f | (values & 0x1f00_1f00_1f00_1f00) >> 3;
    let halves = quarters & 0x3ff_0000_03ff | (quarters & 0x3ff_0000_03ff_0000) >> 6;
    Some(halves & 0xf_ffff | (halves & 0xf_ffff_0000_0000) >> 12)
}

/// One in each octet whose value, at most 31, a figure stands for.
fn is_figure(values: u64) -> u64 {
    ((values + eight(128 - 26)) >> 7) & eight(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stand_for_five_bits_each() {
        let text = *b"mzxw6ytbojtg633cmfzgm33pmjqxeztp";
        assert_eq!(base32(b"foobarfoobarfoobarfo"), text);
        assert_eq!(unbase32(&text), Some(*b"foobarfoobarfoobarfo"));
        for (number, written) in
            [(0, b"aaaaaaaaaaaaa"), (1, b"aaaaaaaaaaaab"), (u64::MAX, b"p777777777777"), (1 << 60, b"baaaaaaaaaaaa")]
        {
            assert_eq!(short(number), *written);
        }
    }

    #[test]
    fn a_number_is_known_again_in_the_letters_that_it_was_written_in() {
        for number in (0..64).map(|bit| 1 << bit).chain([0, u64::MAX, 0x0123_4567_89ab_cdef]) {
            let text = short(number);
            assert_eq!(long(&text), Some(number));
            for at in 0..text.len() {
                let mut other = text;
                other[at] = text[at].to_ascii_uppercase();
                assert_eq!(long(&other), (other == text).then_some(number), "{at}");
                other[at] = b'1';
                assert_eq!(long(&other), None);
            }
        }
        assert_eq!(long(b"q777777777777"), None, "beyond 64 bits");
        assert_eq!((long(b"aaaaaaaaaaaa"), long(b"aaaaaaaaaaaaaa")), (None, None));
    }

    #[test]
    fn a_letter_of_either_case_stands_for_its_place_in_the_alphabet() {
        let alphabet = b"abcdefghijklmnopqrstuvwxyz234567";
        for octet in 0..=u8::MAX {
            let value = alphabet.iter().position(|letter| *letter == octet.to_ascii_lowercase());
            for at in 0..8 {
                let mut text = [b'h'; 8];
                text[at] = octet;
                let expected = value.map(|value| {
                    let mut values = [7; 8];
                    values[at] = value as u64;
                    values.into_iter().fold(0, |number, value| number << 5 | value)
                });
                assert_eq!(bits(&text), expected, "{octet} at {at}");
                if let Some(number) = expected {
                    assert_eq!(letters(number), text.map(|letter| letter.to_ascii_lowercase()));
                }
            }
        }
    }

    #[test]
    fn what_is_sealed_but_means_nothing_is_no_token() {
        let key = Key::new(&[7; 32]);
        let open = |kind, instance, leg| {
            let mut bytes = [0; 20];
            (bytes[0], bytes[1], bytes[9], bytes[10]) = (kind, instance, 9, leg);
            let mac = key.mac(bytes.first_chunk().unwrap());
            bytes[11..].copy_from_slice(&mac);
            key.open(&base32(&bytes))
        };
        assert_eq!(open(1, INSTANCE, 0), Some(Token::Binding(BindingId(9))));
        assert_eq!(open(2, INSTANCE, 3), Some(Token::Leg(PassId(9), 3)));
        assert_eq!(open(3, INSTANCE, 0), Some(Token::Route(PassId(9), Facing::Caller)));
        assert_eq!(open(3, INSTANCE, 1), Some(Token::Route(PassId(9), Facing::Callee)));
        assert_eq!(open(4, INSTANCE, 0), Some(Token::Flow(FlowId(9))));
        for (kind, instance, leg) in [(0, INSTANCE, 0), (5, INSTANCE, 0), (3, INSTANCE, 2), (1, INSTANCE ^ 1, 0)] {
            assert_eq!(open(kind, instance, leg), None, "{kind} {instance} {leg}");
        }
    }

    #[test]
    fn a_digest_knows_its_label_and_where_a_piece_ends() {
        let key = Key::new(&[7; 32]);
        let one = key.digest("a", &[b"bc", b"d"]);
        assert_eq!(key.digest("a", &[b"bc", b"d"]), one);
        for other in [
            key.digest("a", &[b"b", b"cd"]),
            key.digest("b", &[b"bc", b"d"]),
            Key::new(&[8; 32]).digest("a", &[b"bc", b"d"]),
        ] {
            assert_ne!(other, one);
        }
        // Every octet of it counts.
        let octets = (0..64u64).fold(0, |seen, n| seen | key.digest("n", &[&n.to_be_bytes()]));
        assert_eq!(octets, u64::MAX);
    }

    #[test]
    fn a_digest_is_the_same_however_its_pieces_are_gathered() {
        let key = Key::new(&[7; 32]);
        let long: Vec<u8> = (0..=255).cycle().take(700).collect();
        for lengths in [vec![0], vec![5, 240, 9], vec![200, 200, 200], vec![700], vec![3, 600, 3]] {
            let pieces: Vec<&[u8]> = lengths.iter().map(|length| &long[..*length]).collect();
            let mut mac = key.mac;
            mac.write(b"label");
            for piece in &pieces {
                mac.write(&(piece.len() as u64).to_be_bytes());
                mac.write(piece);
            }
            assert_eq!(key.digest("label", &pieces), mac.finish128().h1, "{lengths:?}");
        }
    }

    #[test]
    fn every_token_comes_back_and_no_changed_one_does() {
        let key = Key::new(&[7; 32]);
        let tokens = [
            Token::Binding(BindingId(u64::MAX)),
            Token::Leg(PassId(1), 250),
            Token::Route(PassId(0x0123_4567_89ab_cdef), Facing::Caller),
            Token::Route(PassId(0), Facing::Callee),
            Token::Flow(FlowId(0xfedc_ba98_7654_3210)),
        ];
        for token in tokens {
            let text = key.seal(token);
            assert_eq!(key.open(&text), Some(token));
            assert_eq!(key.open(text.to_ascii_uppercase().as_slice()), Some(token), "host parts may change case");
            for i in 0..text.len() {
                let mut forged = text;
                forged[i] = if forged[i] == b'a' { b'b' } else { b'a' };
                assert_eq!(key.open(&forged), None);
            }
            assert_eq!(Key::new(&[8; 32]).open(&text), None, "another key");
        }
        // Two octets of the code that are wrong alike do not make up for each other.
        let mut forged = unbase32(&key.seal(tokens[0])).unwrap();
        forged[11] ^= 1;
        forged[12] ^= 1;
        assert_eq!(key.open(&base32(&forged)), None);
        for text in [&b""[..], b"alice", &[b'a'; 31], &[b'a'; 33], &[0xff; 32], &[b'1'; 32]] {
            assert_eq!(key.open(text), None);
        }
    }
}
