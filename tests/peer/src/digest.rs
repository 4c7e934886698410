//! What a phone does with a challenge: RFC 7616 with MD5.

use md5::{Digest as _, Md5};

use crate::Message;

/// The Authorization value that answers the MD5 challenge of a 401 or 407.
pub fn credentials(challenge: &Message, method: &str, uri: &str, user: &str, password: &str) -> String {
    let challenges = challenge.all("WWW-Authenticate").chain(challenge.all("Proxy-Authenticate"));
    let value = challenges.rev().find(|value| !value.contains("SHA")).unwrap();
    let field = |name: &str| value.split(&format!("{name}=\"")).nth(1).map(|rest| rest.split('"').next().unwrap());
    let (realm, nonce) = (field("realm").unwrap(), field("nonce").unwrap());
    let ha1 = hash(&format!("{user}:{realm}:{password}"));
    let ha2 = hash(&format!("{method}:{uri}"));
    let (nc, cnonce) = ("00000001", "0a4f113b");
    let response = hash(&format!("{ha1}:{nonce}:{nc}:{cnonce}:auth:{ha2}"));
    format!(
        "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm=MD5, qop=auth, \
         nc={nc}, cnonce=\"{cnonce}\", response=\"{response}\""
    )
}

fn hash(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().map(|octet| format!("{octet:02x}")).collect()
}
