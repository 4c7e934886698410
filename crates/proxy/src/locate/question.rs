//! What is asked of the domain name system, and what comes back. Each question
//! is single; which one follows from an answer is decided in
//! [`decide`](super::decide).

use std::net::IpAddr;
use std::time::Duration;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// A name, lower case; for [`Kind::Addresses`] also a numeric address, of
    /// which only the way there is wanted.
    pub name: String,
    /// What about it.
    pub kind: Kind,
}

/// What is asked about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Which transports a domain offers (RFC 3403, RFC 3263 §4.1).
    Naptr,
    /// Which servers offer a service over a transport (RFC 2782).
    Srv,
    /// The A and AAAA records of a host.
    Addresses,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// There are records.
    Found {
        /// Of the kind that was asked for.
        records: Records,
        /// How long they may be believed.
        ttl: Duration,
    },
    /// The name or the records do not exist (NXDOMAIN, NODATA).
    Nothing {
        /// How long that may be believed (RFC 2308).
        ttl: Duration,
    },
    /// Nobody could say: no server answered, or it failed.
    Failed,
}

/// Records of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// Of [`Kind::Naptr`].
    Naptr(Vec<Naptr>),
    /// Of [`Kind::Srv`].
    Srv(Vec<Srv>),
    /// Of [`Kind::Addresses`].
    Addresses(Vec<Address>),
}

/// A NAPTR record without a regular expression (RFC 3403 §4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naptr {
    /// Only the lowest order counts.
    pub order: u16,
    /// Within an order, lower first.
    pub preference: u16,
    /// `s` for SIP: the replacement is looked up as SRV.
    pub flags: String,
    /// As `SIP+D2U`.
    pub service: String,
    /// The next name.
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower first.
    pub priority: u16,
    /// Share among those of the same priority.
    pub weight: u16,
    /// Where it listens.
    pub port: u16,
    /// Its host; `.` or empty means that there is no such service.
    pub target: String,
}

/// An address of a host, and the local one that the kernel would send from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Where to.
    pub remote: IpAddr,
    /// From where; what a wildcard listener advertises on this way.
    pub local: IpAddr,
}
