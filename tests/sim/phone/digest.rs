//! Digest authentication (RFC 8760, RFC 7616), both ends of it.

use std::fmt::Write as _;

use md5::Md5;
use sha2::{Digest, Sha256};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    fn hash(self, text: &str) -> String {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::with_capacity(64), |mut hex, b| {
                let _ = write!(hex, "{b:02x}");
                hex
            })
        };
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

/// A challenge, as far as it is used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) realm: String,
    pub(crate) nonce: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) opaque: Option<String>,
    pub(crate) qop: bool,
    pub(crate) stale: bool,
}

/// A parameter of a Digest field value.
pub(crate) fn field(value: &str, name: &str) -> Option<String> {
    let rest = value.trim().strip_prefix("Digest ")?;
    crate::sip::commas(rest).find_map(|p| {
        let (n, v) = p.split_once('=')?;
        n.trim().eq_ignore_ascii_case(name).then(|| v.trim().trim_matches('"').to_owned())
    })
}

impl Challenge {
    /// Reads one field value; `None` for an algorithm that we do not know.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let algorithm = match field(value, "algorithm").as_deref() {
            None | Some("MD5") => Algorithm::Md5,
            Some("SHA-256") => Algorithm::Sha256,
            Some(_) => return None,
        };
        Some(Self {
            realm: field(value, "realm")?,
            nonce: field(value, "nonce")?,
            algorithm,
            opaque: field(value, "opaque"),
            qop: field(value, "qop").is_some(),
            stale: field(value, "stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
        })
    }

    /// The credentials for one request.
    pub(crate) fn answer(&self, user: &str, password: &str, method: &str, uri: &str, count: u32) -> String {
        let mut value = format!(
            "Digest username=\"{user}\", realm=\"{}\", nonce=\"{}\", uri=\"{uri}\", algorithm={}",
            self.realm,
            self.nonce,
            self.algorithm.name()
        );
        let (nc, cnonce) = (format!("{count:08x}"), "0a4f113b");
        let qop = self.qop.then_some((nc.as_str(), cnonce));
        let response = self.response(user, password, (method, uri), qop);
        let _ = write!(value, ", response=\"{response}\"");
        if self.qop {
            let _ = write!(value, ", qop=auth, nc={nc}, cnonce=\"{cnonce}\"");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(value, ", opaque=\"{opaque}\"");
        }
        value
    }

    /// The response hash (RFC 7616 §3.4.1).
    pub(crate) fn response(
        &self,
        user: &str,
        password: &str,
        (method, uri): (&str, &str),
        qop: Option<(&str, &str)>,
    ) -> String {
        let a1 = self.algorithm.hash(&format!("{user}:{}:{password}", self.realm));
        let a2 = self.algorithm.hash(&format!("{method}:{uri}"));
        match qop {
            Some((nc, cnonce)) => self.algorithm.hash(&format!("{a1}:{}:{nc}:{cnonce}:auth:{a2}", self.nonce)),
            None => self.algorithm.hash(&format!("{a1}:{}:{a2}", self.nonce)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1.
    #[test]
    fn the_examples_of_the_rfc() {
        for (algorithm, wanted) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let challenge = Challenge {
                realm: "http-auth@example.org".into(),
                nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v".into(),
                algorithm,
                opaque: None,
                qop: true,
                stale: false,
            };
            let qop = Some(("00000001", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"));
            let response = challenge.response("Mufasa", "Circle of Life", ("GET", "/dir/index.html"), qop);
            assert_eq!(response, wanted);
        }
    }
}
