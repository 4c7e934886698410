//! GRUUs (RFC 5627): URIs that a registrar makes for one instance of a user.
//!
//! They pass in the Contact of its 200 as they are. What they are remembered
//! for: a request that reaches us by one goes to exactly that phone. Must not:
//! make any; an instance that we do not know by its GRUU is the registrar's.

use registry::Binding;
use wire::sip::{NameAddr, Uri};

use crate::Proxy;

/// GRUUs kept of one binding: each refresh may bring another temporary one, and all stay valid (§3.1.2).
const MOST: usize = 8;
/// Octets of one; longer ones are not remembered.
const LONGEST: usize = 512;

/// Adds what a Contact of the registrar's 200 names (§4.3), the latest last.
pub(crate) fn learn(known: &mut Vec<Vec<u8>>, contact: &NameAddr<'_>) {
    for name in ["pub-gruu", "temp-gruu"] {
        let Some(value) = contact.params.value(name) else { continue };
        let uri = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        if uri.len() <= LONGEST && is_gruu(uri) {
            known.retain(|k| k != uri);
            known.push(uri.to_vec());
        }
    }
    known.drain(..known.len().saturating_sub(MOST));
}

/// True for a URI that says it is one (§3.4).
fn is_gruu(uri: &[u8]) -> bool {
    Uri::parse(uri).is_ok_and(|uri| uri.params.find("gr").is_some())
}

/// True when the registrar gave this one to this phone.
pub(crate) fn names(binding: &Binding, uri: &Uri<'_>) -> bool {
    binding.confirmed.gruus.iter().any(|known| Uri::parse(known).is_ok_and(|known| known.equals(uri)))
}

impl Proxy {
    /// The phone that a GRUU names; of its flows the one that was refreshed last.
    pub(crate) fn of_gruu(&self, uri: &Uri<'_>) -> Option<&Binding> {
        uri.params.find("gr")?;
        let reachable = |b: &&Binding| names(b, uri) && !b.gone() && self.connections.is_open(b.flow.get());
        self.registry.bindings().filter(reachable).max_by_key(|b| b.expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_of_a_contact() {
        let mut known = vec![b"sip:a@h;gr=old".to_vec()];
        for (value, expected) in [
            ("<sip:a@c>;pub-gruu=\"sip:a@h;gr=urn:uuid:1\"", 2),
            ("<sip:a@c>;temp-gruu=\"sip:t1@h;gr\";pub-gruu=\"sip:a@h;gr=urn:uuid:1\"", 3),
            ("<sip:a@c>;pub-gruu=\"sip:a@h\"", 3),
            ("<sip:a@c>;temp-gruu=\"not a uri\";pub-gruu", 3),
        ] {
            learn(&mut known, &NameAddr::parse(value.as_bytes()).expect(value));
            assert_eq!(known.len(), expected, "{value}");
        }
        for n in 0..20 {
            let value = format!("<sip:a@c>;temp-gruu=\"sip:x{n}@h;gr\"");
            learn(&mut known, &NameAddr::parse(value.as_bytes()).expect("an address"));
        }
        assert_eq!((known.len(), known.last().map(Vec::as_slice)), (MOST, Some(&b"sip:x19@h;gr"[..])));
    }
}
