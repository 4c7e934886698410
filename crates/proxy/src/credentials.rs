//! Digest from the client's end (RFC 7616 §3.4, RFC 8760 §2.4): the answer to
//! a challenge. Only the first challenge of the one realm that the password is
//! for is answered, by the first algorithm in it that we know; `auth` is the
//! only quality of protection. Where a server speaks RFC 2069, so do we.

use wire::sip::{Message, Name};

use crate::config::DigestAlgorithm;
use crate::digest::fields;

/// Who answers, to whom.
#[derive(Debug)]
pub(crate) struct Login<'a> {
    pub(crate) username: &'a str,
    pub(crate) password: &'a str,
    pub(crate) realm: &'a str,
}

/// Realm and user name of the credentials that a request shows: the
/// registrar's, or else those of the first proxy.
pub(crate) fn whose(message: Message<'_>) -> Option<(String, String)> {
    let shown = [Name::Authorization, Name::ProxyAuthorization].into_iter().flat_map(|name| message.fields_of(name));
    shown.filter_map(|field| fields(message.slice(field.value))).find_map(|mut given| {
        let realm = given.remove("realm")?;
        Some((realm, given.remove("username")?))
    })
}

/// The value of an Authorization field; `None` where no challenge is ours to answer.
pub(crate) fn answer<'a>(
    challenges: impl Iterator<Item = &'a [u8]>,
    login: &Login<'_>,
    method: &[u8],
    uri: &str,
    cnonce: &str,
) -> Option<String> {
    if login.realm.is_empty() {
        return None;
    }
    challenges.filter_map(fields).find_map(|challenge| {
        let get = |name: &str| challenge.get(name).map(String::as_str);
        let algorithm = DigestAlgorithm::named(get("algorithm").unwrap_or_default())?;
        let nonce = get("nonce")?;
        let auth = match get("qop") {
            Some(list) if list.split(',').any(|one| one.trim().eq_ignore_ascii_case("auth")) => true,
            Some(_) => return None,
            None => false,
        };
        let copied = [Some(login.username), Some(login.realm), Some(nonce), get("opaque"), Some(uri)];
        let plain = copied.into_iter().flatten().all(|text| !text.contains(char::is_control));
        if get("realm") != Some(login.realm) || !plain {
            return None;
        }
        let ha1 = algorithm.hash(format!("{}:{}:{}", login.username, login.realm, login.password).as_bytes());
        let ha2 = algorithm.hash(&[method, b":", uri.as_bytes()].concat());
        let response = match auth {
            true => algorithm.hash(format!("{ha1}:{nonce}:00000001:{cnonce}:auth:{ha2}").as_bytes()),
            false => algorithm.hash(format!("{ha1}:{nonce}:{ha2}").as_bytes()),
        };
        let mut value = format!(
            "Digest username={}, realm={}, nonce={}, uri=\"{uri}\", response=\"{response}\"",
            quoted(login.username),
            quoted(login.realm),
            quoted(nonce),
        );
        if let Some(written) = get("algorithm") {
            value.push_str(&format!(", algorithm={written}"));
        }
        if auth {
            value.push_str(&format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = get("opaque") {
            value.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        Some(value)
    })
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Login<'_> = Login { username: "Mufasa", password: "Circle of Life", realm: "http-auth@example.org" };
    const REST: &str = "realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                        nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\"";

    fn to(challenges: &[String]) -> Option<String> {
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        answer(challenges.iter().map(String::as_bytes), &LOGIN, b"GET", "/dir/index.html", cnonce)
    }

    /// RFC 7616 §3.9.1.
    #[test]
    fn the_answers_are_those_of_the_rfc() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let value = to(&[format!("Digest {REST}, algorithm={algorithm}")]).expect(algorithm);
            assert!(value.contains(&format!("response=\"{response}\"")), "{value}");
            assert!(value.contains("qop=auth, nc=00000001") && value.contains("opaque=\"FQhe"), "{value}");
        }
    }

    #[test]
    fn the_first_challenge_that_can_be_answered_is() {
        let all: Vec<String> =
            ["SHA-512", "SHA-256", "MD5"].iter().map(|name| format!("Digest {REST}, algorithm={name}")).collect();
        assert!(to(&all).expect("two are known").contains("algorithm=SHA-256"));
    }

    #[test]
    fn no_other_realm_sees_a_digest() {
        let other = REST.replace("http-auth", "evil");
        assert_eq!(to(&[format!("Digest {other}, algorithm=MD5")]), None);
        assert_eq!(to(&["Digest realm=\"http-auth@example.org\", qop=\"auth-int\", nonce=\"1\"".to_owned()]), None);
        assert_eq!(to(&["Basic realm=\"http-auth@example.org\"".to_owned()]), None);
        let nobody = Login { realm: "", ..LOGIN };
        let challenge = "Digest realm=\"\", nonce=\"1\"";
        assert_eq!(answer([challenge.as_bytes()].into_iter(), &nobody, b"REGISTER", "sip:r", "c"), None);
    }

    #[test]
    fn an_old_server_gets_an_old_answer() {
        let value = to(&["Digest realm=\"http-auth@example.org\", nonce=\"a\\\"b\"".to_owned()]).expect("RFC 2069");
        assert!(!value.contains("qop") && value.contains("nonce=\"a\\\"b\""), "{value}");
    }
}
