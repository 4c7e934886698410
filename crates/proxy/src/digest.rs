//! Digest authentication for the embedded registrar: RFC 3261 §22, RFC 7616,
//! RFC 8760. Nonces are stateless: time and a MAC that also covers this run
//! of the program, so one from before a restart is merely stale.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512_256};
use wire::sip::{Message, Method, Name, Start, Status};
use wire::{Edit, Flow, Rule};

use crate::config::DigestAlgorithm;
use crate::request::Reject;
use crate::token::Key;
use crate::transaction::{Context, Purpose};
use crate::{Observed, Proxy};

/// A nonce is good for this long.
const LIFETIME: Duration = Duration::from_secs(300);
/// Nonces carry a time in steps of so many milliseconds.
const STEP: u64 = 32_000;
/// Nonces in use that are remembered; beyond, the oldest become stale.
const MOST: usize = 10_000;
const REALM: &str = "siplatch";

/// Makes and checks nonces.
#[derive(Debug)]
pub(crate) struct Nonces {
    epoch: Instant,
    key: Key,
    /// Highest count seen of each nonce in use, by creation (ms) and salt.
    counts: BTreeMap<(u64, u64), u32>,
    /// Nonces created before this (ms) are stale: their counts were forgotten.
    horizon: u64,
}

/// The bits of a salt that say whom the nonce was given to.
const GIVEN_TO: u64 = 0xff_ffff;

/// What a nonce is worth.
#[derive(Debug, PartialEq, Eq)]
enum Worth {
    Good(u64, u64),
    Stale,
}

impl Nonces {
    pub(crate) fn new(now: Instant, key: [u8; 32]) -> Self {
        Self { epoch: now, key: Key::new(&key), counts: BTreeMap::new(), horizon: 0 }
    }

    fn age(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    fn make(&self, now: Instant, salt: u64) -> String {
        let at = self.age(now) / STEP * STEP;
        let mac = self.key.digest("nonce", &[&at.to_be_bytes(), &salt.to_be_bytes()]);
        format!("{at:011x}{salt:016x}{mac:016x}")
    }

    fn read(&self, now: Instant, nonce: &str) -> Worth {
        let number = |range: std::ops::Range<usize>| nonce.get(range).and_then(|t| u64::from_str_radix(t, 16).ok());
        let (Some(at), Some(salt), Some(mac)) = (number(0..11), number(11..27), number(27..43)) else {
            return Worth::Stale;
        };
        let ours = nonce.len() == 43 && mac == self.key.digest("nonce", &[&at.to_be_bytes(), &salt.to_be_bytes()]);
        let fresh = at >= self.horizon && self.age(now).saturating_sub(at) <= LIFETIME.as_millis() as u64;
        if ours && fresh { Worth::Good(at, salt) } else { Worth::Stale }
    }

    /// What a salt says of the address that it was made for.
    fn given_to(&self, ip: IpAddr) -> u64 {
        self.key.digest("given to", &[ip.to_canonical().to_string().as_bytes()]) & GIVEN_TO
    }

    /// True when a nonce of this run, however old, was given to this address:
    /// whoever shows it does not forge its source.
    fn was_given_to(&self, nonce: &str, ip: IpAddr) -> bool {
        let number = |range: std::ops::Range<usize>| nonce.get(range).and_then(|t| u64::from_str_radix(t, 16).ok());
        let (Some(at), Some(salt), Some(mac)) = (number(0..11), number(11..27), number(27..43)) else { return false };
        mac == self.key.digest("nonce", &[&at.to_be_bytes(), &salt.to_be_bytes()])
            && salt & GIVEN_TO == self.given_to(ip)
    }

    /// True once for each nonce count, in rising order (RFC 7616 §3.4.5).
    fn count(&mut self, nonce: (u64, u64), count: u32) -> bool {
        let last = self.counts.entry(nonce).or_insert(0);
        let rises = count > *last;
        *last = count.max(*last);
        while self.counts.len() > MOST {
            if let Some(((at, _), _)) = self.counts.pop_first() {
                self.horizon = at + 1;
            }
        }
        rises
    }
}

impl DigestAlgorithm {
    /// By the name in a challenge or in credentials; none is MD5.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = if name.is_empty() { Self::Md5.as_str() } else { name };
        Self::PREFERRED.into_iter().find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(name))
    }

    pub(crate) fn hash(self, text: &[u8]) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Self::Sha256 => hex(&Sha256::digest(text)),
            Self::Sha512_256 => hex(&Sha512_256::digest(text)),
            Self::Md5 => hex(&Md5::digest(text)),
        }
    }
}

/// The fields of a challenge or of credentials, quotes removed.
pub(crate) fn fields(value: &[u8]) -> Option<BTreeMap<String, String>> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, rest) = text.trim().split_once(char::is_whitespace)?;
    if !scheme.eq_ignore_ascii_case("digest") {
        return None;
    }
    let pairs = wire::sip::field::comma_list(rest.as_bytes());
    pairs
        .map(|pair| {
            let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
            let value = value.trim();
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            Some((name.trim().to_ascii_lowercase(), value.replace("\\\"", "\"").replace("\\\\", "\\")))
        })
        .collect()
}

impl Proxy {
    /// Checks the credentials of a request: the name of its user, or the challenge.
    pub(crate) fn digest(&mut self, now: Instant, flow: Flow, message: Message<'_>) -> Result<String, Reject> {
        let register = message.method() == Method::Register;
        let name = if register { Name::Authorization } else { Name::ProxyAuthorization };
        let mut stale = false;
        for field in message.fields_of(name) {
            let Some(given) = fields(message.slice(field.value)) else { continue };
            if given.get("realm").is_none_or(|r| r != REALM) {
                continue;
            }
            if !self.may_try(now, flow, message) {
                return Err(Reject::new(503, "Too many wrong passwords from your address").with("Retry-After: 60"));
            }
            match self.check(now, message, &given) {
                Checked::Good(user) => return Ok(user),
                Checked::Stale => stale = true,
                Checked::Wrong => {
                    self.tried_in_vain(now, flow, message, &given);
                    // One request is one guess.
                    break;
                }
            }
        }
        Err(self.challenge(now, flow, message, register, stale))
    }

    /// Is there budget left to look at credentials? A registered phone's own
    /// need none: it is not locked out by who else is behind its NAT.
    fn may_try(&mut self, now: Instant, flow: Flow, message: Message<'_>) -> bool {
        let user = message.to().and_then(|to| to.uri()).ok().and_then(|uri| uri.user);
        let refreshes = self.registry.on_flow(flow).any(|binding| Some(binding.aor()) == user);
        refreshes || self.attempts.allowed(now, flow.remote.ip())
    }

    fn tried_in_vain(&mut self, now: Instant, flow: Flow, message: Message<'_>, given: &BTreeMap<String, String>) {
        self.attempts.failed(now, flow.remote.ip());
        let nonce = given.get("nonce").map(String::as_str).unwrap_or_default();
        if flow.transport.reliable() || self.nonces.was_given_to(nonce, flow.remote.ip()) {
            let (side, method, source) = (self.side(flow), message.method().into(), flow.remote);
            self.observe(Observed::AuthenticationFailed { side, method, source });
        }
    }

    /// The upstream's final answer to a REGISTER: wrong credentials are
    /// reported, and a challenge is remembered with whom it goes to.
    pub(crate) fn note_challenge(&mut self, context: &Context, answer: Message<'_>) {
        if !matches!(context.purpose, Purpose::Register(_)) {
            return;
        }
        let parsed = |message: Message<'_>, names: [Name; 2]| -> Vec<BTreeMap<String, String>> {
            let wanted = message.fields().iter().filter(|field| names.contains(&field.name));
            wanted.filter_map(|field| fields(message.slice(field.value))).collect()
        };
        let (request, ip) = (context.request.message(), context.flow.remote.ip());
        let challenges = parsed(answer, [Name::WwwAuthenticate, Name::ProxyAuthenticate]);
        let stale = challenges.iter().any(|c| c.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")));
        if matches!(answer.status(), Some(Status(401 | 403 | 407))) && !stale {
            let nonces = parsed(request, [Name::Authorization, Name::ProxyAuthorization]);
            let mut nonces = nonces.iter().filter_map(|given| given.get("nonce"));
            if nonces.any(|nonce| self.given.was(ip, nonce)) {
                let (side, method, source) = (self.side(context.flow), request.method().into(), context.flow.remote);
                self.observe(Observed::AuthenticationFailed { side, method, source });
            }
        }
        for nonce in challenges.iter().filter_map(|challenge| challenge.get("nonce")) {
            self.given.note(ip, nonce);
        }
    }

    /// Credentials for our realm are not shown to whom the request is for (§22.3).
    pub(crate) fn strip_credentials(&self, message: Message<'_>, edit: &mut Edit) {
        if self.config.users.is_empty() {
            return;
        }
        for field in message.fields_of(Name::ProxyAuthorization) {
            let realm = fields(message.slice(field.value)).and_then(|given| given.get("realm").cloned());
            if realm.is_some_and(|realm| realm == REALM) {
                edit.delete(field.line, Rule::Credentials);
            }
        }
    }

    fn check(&mut self, now: Instant, message: Message<'_>, given: &BTreeMap<String, String>) -> Checked {
        let get = |name: &str| given.get(name).map(String::as_str).unwrap_or_default();
        let named = DigestAlgorithm::named(get("algorithm"));
        let Some(algorithm) = named.filter(|algorithm| self.config.digest.contains(algorithm)) else {
            return Checked::Wrong;
        };
        let method = match message.start() {
            Some(Start::Request { method, .. }) => message.slice(method),
            Some(Start::Response { .. }) | None => return Checked::Wrong,
        };
        // An unknown user costs the same work and gets the same answer as a wrong password.
        let user = self.config.users.iter().find(|u| u.name == get("username"));
        let password = user.map_or("", |u| u.password.as_str());
        let ha1 = algorithm.hash(format!("{}:{REALM}:{password}", get("username")).as_bytes());
        let mut a2 = method.to_vec();
        a2.push(b':');
        a2.extend_from_slice(get("uri").as_bytes());
        let ha2 = algorithm.hash(&a2);
        let expected = if get("qop").eq_ignore_ascii_case("auth") {
            format!("{ha1}:{}:{}:{}:{}:{ha2}", get("nonce"), get("nc"), get("cnonce"), get("qop"))
        } else {
            format!("{ha1}:{}:{ha2}", get("nonce"))
        };
        let expected = algorithm.hash(expected.as_bytes());
        let response = get("response").to_ascii_lowercase();
        let differs = expected.len() != response.len()
            || expected.bytes().zip(response.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) != 0;
        if user.is_none() || differs {
            return Checked::Wrong;
        }
        let Worth::Good(at, salt) = self.nonces.read(now, get("nonce")) else { return Checked::Stale };
        if get("qop").eq_ignore_ascii_case("auth") {
            let Ok(count) = u32::from_str_radix(get("nc"), 16) else { return Checked::Wrong };
            if !self.nonces.count((at, salt), count) {
                return Checked::Stale;
            }
        }
        Checked::Good(get("username").to_owned())
    }

    /// A challenge for each algorithm in the order of the configuration
    /// (RFC 8760 §2.4), with one nonce.
    fn challenge(&self, now: Instant, flow: Flow, message: Message<'_>, register: bool, stale: bool) -> Reject {
        // A retransmitted request that we keep no state of gets the same challenge.
        let branch = message.branch();
        let number = self.key.digest("salt", &[branch, message.call_id()]);
        let salt = number & !GIVEN_TO | self.nonces.given_to(flow.remote.ip());
        let nonce = self.nonces.make(now, salt);
        let stale = if stale { ", stale=true" } else { "" };
        let (status, reason, name) = if register {
            (401, "Unauthorized", "WWW-Authenticate")
        } else {
            (407, "Proxy Authentication Required", "Proxy-Authenticate")
        };
        let line = |algorithm: &DigestAlgorithm| {
            let algorithm = algorithm.as_str();
            format!("{name}: Digest realm=\"{REALM}\", nonce=\"{nonce}\", qop=\"auth\", algorithm={algorithm}{stale}")
        };
        self.config.digest.iter().fold(Reject::new(status, reason), |reject, algorithm| reject.with(&line(algorithm)))
    }
}

/// A challenge that must be short does without the algorithm that hardly any
/// phone knows, unless it is the only one.
pub(crate) fn shortened(lines: &[u8]) -> Vec<u8> {
    let rare = DigestAlgorithm::Sha512_256.as_str().as_bytes();
    let kept = |line: &&[u8]| !line.windows(rare.len()).any(|part| part == rare);
    let short: Vec<u8> = lines.split_inclusive(|b| *b == b'\n').filter(kept).flatten().copied().collect();
    if short.is_empty() { lines.to_vec() } else { short }
}

enum Checked {
    Good(String),
    Stale,
    Wrong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_ages_and_one_from_another_run_is_stale() {
        let now = Instant::now();
        let nonces = Nonces::new(now, [1; 32]);
        let nonce = nonces.make(now, 42);
        assert!(matches!(nonces.read(now, &nonce), Worth::Good(_, 42)));
        assert_eq!(nonces.read(now + LIFETIME + Duration::from_secs(1), &nonce), Worth::Stale);
        assert_eq!(Nonces::new(now, [2; 32]).read(now, &nonce), Worth::Stale);
        for forged in ["", "zz", &nonce[1..], &nonce.replace(char::is_numeric, "é")] {
            assert_eq!(nonces.read(now, forged), Worth::Stale);
        }
    }

    #[test]
    fn a_nonce_tells_whom_it_was_given_to() {
        let now = Instant::now();
        let nonces = Nonces::new(now, [1; 32]);
        let [one, other] = [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])];
        let nonce = nonces.make(now, 77 << 24 | nonces.given_to(one));
        assert!(nonces.was_given_to(&nonce, one));
        assert!(!nonces.was_given_to(&nonce, other));
        assert!(matches!(nonces.read(now, &nonce), Worth::Good(..)), "a phone may move");
        assert!(!Nonces::new(now, [2; 32]).was_given_to(&nonce, one));
        assert!(!nonces.was_given_to("", one));
    }

    #[test]
    fn a_nonce_count_is_taken_once() {
        let mut nonces = Nonces::new(Instant::now(), [1; 32]);
        assert!(nonces.count((1, 1), 1));
        assert!(!nonces.count((1, 1), 1));
        assert!(nonces.count((1, 1), 2));
        for n in 0..MOST as u64 + 5 {
            nonces.count((n + 2, n), 1);
        }
        assert_eq!(nonces.counts.len(), MOST);
        assert_eq!(nonces.horizon, 7, "six were forgotten, the last of them made at 6");
        assert!(nonces.count((100, 98), 5) && !nonces.count((100, 98), 3) && !nonces.count((100, 98), 5));
    }

    #[test]
    fn a_nonce_whose_count_was_forgotten_is_stale() {
        let now = Instant::now();
        let mut nonces = Nonces::new(now, [1; 32]);
        let made = now + Duration::from_millis(STEP);
        let nonce = nonces.make(made, 42);
        nonces.horizon = STEP;
        assert_eq!(nonces.read(made, &nonce), Worth::Good(STEP, 42));
        nonces.horizon = STEP + 1;
        assert_eq!(nonces.read(made, &nonce), Worth::Stale);
        nonces.horizon = 0;
        assert_eq!(nonces.read(made + LIFETIME, &nonce), Worth::Good(STEP, 42));
        assert_eq!(nonces.read(made + LIFETIME + Duration::from_millis(1), &nonce), Worth::Stale);
    }

    #[test]
    fn what_credentials_are_worth() {
        let mut rig = crate::rig::Rig::standalone();
        let mut config = (*rig.proxy.config).clone();
        config.users = vec![crate::config::User { name: "alice".to_owned(), password: "secret".to_owned() }];
        rig.proxy.config = config.into();
        let text = b"REGISTER sip:b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\r\n".to_vec();
        let stored = wire::sip::Stored::parse(text, &wire::sip::Limits::default()).unwrap();
        let nonce = rig.proxy.nonces.make(rig.now, 5);
        let ha1 = DigestAlgorithm::Sha256.hash(format!("alice:{REALM}:secret").as_bytes());
        let ha2 = DigestAlgorithm::Sha256.hash(b"REGISTER:sip:b");
        let plain = DigestAlgorithm::Sha256.hash(format!("{ha1}:{nonce}:{ha2}").as_bytes());
        let counted = |nc: &str| DigestAlgorithm::Sha256.hash(format!("{ha1}:{nonce}:{nc}:c:auth:{ha2}").as_bytes());
        let now = rig.now;
        let mut worth = |later: u64, changed: &[(&str, &str)], response: &str| {
            let mut given = BTreeMap::new();
            let usual =
                [("username", "alice"), ("algorithm", "SHA-256"), ("uri", "sip:b"), ("nonce", &nonce), ("cnonce", "c")];
            for (name, value) in usual.iter().chain(changed).chain(&[("response", response)]) {
                given.insert((*name).to_owned(), (*value).to_owned());
            }
            match rig.proxy.check(now + Duration::from_secs(later), stored.message(), &given) {
                Checked::Good(user) => user,
                Checked::Stale => "stale".to_owned(),
                Checked::Wrong => "wrong".to_owned(),
            }
        };
        assert_eq!(worth(0, &[], &plain), "alice");
        assert_eq!(worth(0, &[], &plain.to_uppercase()), "alice");
        assert_eq!(worth(301, &[], &plain), "stale");
        assert_eq!(worth(0, &[("username", "bob")], &plain), "wrong");
        assert_eq!(worth(0, &[("uri", "sip:c")], &plain), "wrong");
        assert_eq!(worth(0, &[("algorithm", "MD5")], &plain), "wrong");
        assert_eq!(worth(0, &[("algorithm", "ROT13")], &plain), "wrong");
        assert_eq!(worth(0, &[], &plain[1..]), "wrong");
        assert_eq!(worth(0, &[], ""), "wrong");
        // Two characters that have changed places are wrong, too.
        let at = (1..64).find(|at| plain.as_bytes()[*at] != plain.as_bytes()[0]).unwrap();
        let mut swapped = plain.clone().into_bytes();
        swapped.swap(0, at);
        assert_eq!(worth(0, &[], &String::from_utf8(swapped).unwrap()), "wrong");
        let one = ("nc", "00000001");
        assert_eq!(worth(0, &[("qop", "auth"), one], &counted("00000001")), "alice");
        assert_eq!(worth(0, &[("qop", "auth"), one], &counted("00000001")), "stale", "a count is taken once");
        assert_eq!(worth(0, &[("qop", "auth"), ("nc", "0000000a")], &counted("0000000a")), "alice");
        assert_eq!(worth(0, &[("qop", "auth"), ("nc", "one")], &counted("one")), "wrong");
    }

    #[test]
    fn a_short_challenge_leaves_out_one_algorithm() {
        let lines =
            b"WWW-Authenticate: Digest algorithm=SHA-256\r\nWWW-Authenticate: Digest algorithm=SHA-512-256\r\nX: y\r\n";
        assert_eq!(shortened(lines), b"WWW-Authenticate: Digest algorithm=SHA-256\r\nX: y\r\n");
    }

    /// RFC 7616 §3.9.1, and the third algorithm by the same formula.
    #[test]
    fn the_hashes_are_those_of_the_rfc() {
        for (algorithm, response) in [
            (DigestAlgorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (DigestAlgorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
            (DigestAlgorithm::Sha512_256, "430d05014cecc49cab6fbe03176d41a1da86cbfe24a16580e22aaad928d960d0"),
        ] {
            let ha1 = algorithm.hash(b"Mufasa:http-auth@example.org:Circle of Life");
            let ha2 = algorithm.hash(b"GET:/dir/index.html");
            let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
            let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
            let text = format!("{ha1}:{nonce}:00000001:{cnonce}:auth:{ha2}");
            assert_eq!(algorithm.hash(text.as_bytes()), response);
        }
    }
}
