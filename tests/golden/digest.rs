//! Digest credentials (RFC 7616, RFC 8760) as a phone computes them.

use std::fmt::Write as _;

use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512_256};

/// Expands `…Authorization: digest user password METHOD uri algorithm nonce [count]` lines.
pub(crate) fn expand(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| match line.split_once(": digest ") {
        Some((name, rest)) => format!("{name}: {}\n", value(rest.trim())),
        None => line.to_owned(),
    });
    lines.collect()
}

fn value(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [user, password, method, uri, algorithm, nonce, rest @ ..] = &words[..] else { panic!("what is {text}?") };
    let count = format!("{:08x}", rest.first().map_or(1, |n| n.parse::<u32>().expect("a nonce count")));
    let hash = |text: String| match *algorithm {
        "MD5" => hex(&Md5::digest(text)),
        "SHA-512-256" => hex(&Sha512_256::digest(text)),
        _ => hex(&Sha256::digest(text)),
    };
    let ha1 = hash(format!("{user}:siplatch:{password}"));
    let ha2 = hash(format!("{method}:{uri}"));
    let response = hash(format!("{ha1}:{nonce}:{count}:c0ffee:auth:{ha2}"));
    format!(
        "Digest username=\"{user}\", realm=\"siplatch\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={algorithm}, \
         qop=auth, nc={count}, cnonce=\"c0ffee\", response=\"{response}\""
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, b| {
        let _ = write!(hex, "{b:02x}");
        hex
    })
}
