//! Which nonces of the upstream went to which source. Wrong credentials are
//! held against a source only if it shows one: who forges its address has
//! never seen what was sent there, and gets nobody banned.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::IpAddr;

use nat::sources::Sources;

/// Remembered per source; a source may be a NAT with many phones.
const MOST: usize = 32;

/// Hashes of nonces, by source.
#[derive(Debug, Default)]
pub(crate) struct Given {
    nonces: Sources<VecDeque<u64>>,
}

impl Given {
    /// A challenge with this nonce goes to the source.
    pub(crate) fn note(&mut self, ip: IpAddr, nonce: &str) {
        let nonces = self.nonces.of(ip, VecDeque::new);
        let hash = hash(nonce);
        if !nonces.contains(&hash) {
            if nonces.len() >= MOST {
                nonces.pop_front();
            }
            nonces.push_back(hash);
        }
    }

    /// Was it given to this source?
    pub(crate) fn was(&mut self, ip: IpAddr, nonce: &str) -> bool {
        self.nonces.known(ip).is_some_and(|nonces| nonces.contains(&hash(nonce)))
    }
}

fn hash(nonce: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(nonce.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_speaks_for_whom_it_went_to() {
        let (mut given, one, other) = (Given::default(), IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        given.note(one, "n0");
        assert!(given.was(one, "n0") && !given.was(other, "n0") && !given.was(one, "n1"));
        (1..=MOST).for_each(|number| given.note(one, &format!("n{number}")));
        assert!(!given.was(one, "n0") && given.was(one, "n1"));
    }
}
