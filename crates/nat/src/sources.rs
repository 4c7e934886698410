//! A table of what is known of sources, by network: of fixed size, so that
//! forged addresses cannot fill the memory. Where it is full, whoever came
//! first is forgotten first: a newcomer is never refused for the table's sake,
//! and to be forgotten on purpose costs as many messages as it has places.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::net::{IpAddr, Ipv6Addr};

/// Sources kept at most.
pub const MOST: usize = 16_384;

/// Who a source is: an IPv4 address, or the 64 bits of an IPv6 address that
/// one customer has for itself (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            v4 @ IpAddr::V4(_) => Self(v4),
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()),
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct Sources<T> {
    known: BTreeMap<Source, T>,
    order: VecDeque<Source>,
}

impl<T> Default for Sources<T> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<T> Sources<T> {
    /// What is known of a source; `new` if nothing is.
    pub fn of(&mut self, ip: IpAddr, new: impl FnOnce() -> T) -> &mut T {
        let source = Source::from(ip);
        if self.order.len() >= MOST
            && !self.known.contains_key(&source)
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        match self.known.entry(source) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                self.order.push_back(source);
                place.insert(new())
            }
        }
    }

    /// The same, if something is known.
    pub fn known(&mut self, ip: IpAddr) -> Option<&mut T> {
        self.known.get_mut(&Source::from(ip))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn the_table_is_bounded_and_a_newcomer_has_its_place() {
        let mut sources: Sources<u32> = Sources::default();
        for number in 0..40_000_u32 {
            *sources.of(Ipv4Addr::from_bits(number).into(), || 0) += 1;
        }
        assert_eq!((sources.known.len(), sources.order.len()), (MOST, MOST));
        assert_eq!(sources.known(Ipv4Addr::from_bits(39_999).into()), Some(&mut 1));
        assert_eq!(sources.known(Ipv4Addr::from_bits(1).into()), None);
    }

    #[test]
    fn one_customer_is_one_source() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }
}
