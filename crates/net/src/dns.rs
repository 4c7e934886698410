//! Names to addresses, with a deadline. Asks and reports; which of the
//! addresses is tried first, and what is asked next, is decided by whoever
//! asked (RFC 3263).
//!
//! A [`Resolver`] asks the servers of `/etc/resolv.conf` for NAPTR, SRV, A and
//! AAAA records and says how long they may be believed. What it does not find
//! for a plain host name the system's own resolver is asked for, which knows
//! `/etc/hosts` and whatever else nsswitch.conf names.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use hickory_resolver::{TokioResolver, system_conf};

/// How long [`resolve`] waits.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// The addresses of `host` (a name, an IPv4 address, an IPv6 address with or
/// without brackets), each with `port`, in the resolver's order, each once.
///
/// Fails with `TimedOut` after [`DEADLINE`], `NotFound` when the name has no
/// address, and with whatever the system's resolver reports.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let answer = tokio::time::timeout(DEADLINE, tokio::net::lookup_host((bare, port))).await;
    let found = answer.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
}

/// Where the servers are written.
const SYSTEM: &str = "/etc/resolv.conf";
/// One copy of a question waits this long for its answer; there are two.
const ATTEMPT: Duration = Duration::from_millis(900);
/// How long an answer of the system's resolver is believed: it does not say.
const SYSTEM_TTL: Duration = Duration::from_secs(60);
/// How long it is believed that there is nothing, where the answer does not say.
const NOTHING_TTL: Duration = Duration::from_secs(60);

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<T> {
    /// Records, at least one, and for how long they may be believed.
    Found(Vec<T>, Duration),
    /// Somebody who knows says that there is none, and for how long that may be believed (RFC 2308).
    Nothing(Duration),
    /// Nobody who knows could be asked; the text says why.
    Failed(String),
}

/// A NAPTR record (RFC 3403 §4.1) that has no regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naptr {
    /// Order.
    pub order: u16,
    /// Preference.
    pub preference: u16,
    /// Flags.
    pub flags: String,
    /// Service.
    pub service: String,
    /// Replacement, without the last dot.
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Priority.
    pub priority: u16,
    /// Weight.
    pub weight: u16,
    /// Port.
    pub port: u16,
    /// Target without the last dot; empty if there is decidedly no such service.
    pub target: String,
}

/// Asks name servers.
pub struct Resolver {
    /// `None`: those of the system, read again when they change.
    fixed: Option<TokioResolver>,
    system: Mutex<Option<(Edition, TokioResolver)>>,
}

/// Tells one state of a file from another.
type Edition = (u64, i64, i64, u64);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("fixed", &self.fixed.is_some()).finish_non_exhaustive()
    }
}

impl Resolver {
    /// Asks the servers of `/etc/resolv.conf`, as it is at the time of each question.
    pub fn system() -> Self {
        Self { fixed: None, system: Mutex::new(None) }
    }

    /// Asks these servers only.
    pub fn of(servers: &[SocketAddr]) -> io::Result<Self> {
        use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
        let server = |address: &SocketAddr| {
            let mut connection = ConnectionConfig::udp();
            connection.port = address.port();
            let mut server = NameServerConfig::udp(address.ip());
            server.connections = vec![connection];
            server
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect());
        let fixed = Some(build(config, ResolverOpts::default())?);
        Ok(Self { fixed, system: Mutex::new(None) })
    }

    /// NAPTR records of a domain; those with a regular expression are left out.
    pub async fn naptr(&self, name: &str) -> Reply<Naptr> {
        let read = |data: &RData| {
            let RData::NAPTR(naptr) = data else { return None };
            naptr.regexp.is_empty().then(|| Naptr {
                order: naptr.order,
                preference: naptr.preference,
                flags: text(&naptr.flags),
                service: text(&naptr.services),
                replacement: plain(&naptr.replacement.to_utf8()),
            })
        };
        self.records(name, RecordType::NAPTR, read).await
    }

    /// SRV records of a service.
    pub async fn srv(&self, name: &str) -> Reply<Srv> {
        let read = |data: &RData| {
            let RData::SRV(srv) = data else { return None };
            let target = plain(&srv.target.to_utf8());
            Some(Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target })
        };
        self.records(name, RecordType::SRV, read).await
    }

    /// Addresses of a host, IPv6 before IPv4 (RFC 6724 §2.1), each once.
    pub async fn addresses(&self, name: &str) -> Reply<IpAddr> {
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        if let Ok(ip) = bare.parse() {
            return Reply::Found(vec![ip], Duration::MAX);
        }
        let asked = self.host(bare).await;
        if let Reply::Found(..) = asked {
            return asked;
        }
        match resolve(bare, 0).await {
            Ok(found) => Reply::Found(ordered(found.into_iter().map(|address| address.ip())), SYSTEM_TTL),
            Err(_) => asked,
        }
    }

    async fn host(&self, name: &str) -> Reply<IpAddr> {
        let resolver = match self.resolver() {
            Ok(resolver) => resolver,
            Err(error) => return Reply::Failed(error.to_string()),
        };
        match tokio::time::timeout(DEADLINE, resolver.lookup_ip(absolute(name))).await {
            Err(_elapsed) => Reply::Failed("no name server answers".to_owned()),
            Ok(Err(error)) => reply(&error),
            Ok(Ok(found)) => {
                let addresses = ordered(found.iter());
                if addresses.is_empty() {
                    return Reply::Nothing(NOTHING_TTL);
                }
                Reply::Found(addresses, ttl(found.as_lookup().answers()))
            }
        }
    }

    async fn records<T>(&self, name: &str, kind: RecordType, read: impl Fn(&RData) -> Option<T>) -> Reply<T> {
        let resolver = match self.resolver() {
            Ok(resolver) => resolver,
            Err(error) => return Reply::Failed(error.to_string()),
        };
        match tokio::time::timeout(DEADLINE, resolver.lookup(absolute(name), kind)).await {
            Err(_elapsed) => Reply::Failed("no name server answers".to_owned()),
            Ok(Err(error)) => reply(&error),
            Ok(Ok(found)) => {
                let records: Vec<T> = found.answers().iter().filter_map(|record| read(&record.data)).collect();
                let ttl = ttl(found.answers());
                if records.is_empty() { Reply::Nothing(ttl) } else { Reply::Found(records, ttl) }
            }
        }
    }

    fn resolver(&self) -> io::Result<TokioResolver> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let file = std::fs::metadata(SYSTEM)?;
        let edition = (file.ino(), file.mtime(), file.mtime_nsec(), file.len());
        let mut known = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, resolver)) = known.as_ref().filter(|(of, _)| *of == edition) {
            return Ok(resolver.clone());
        }
        let (config, options) = system_conf::read_system_conf().map_err(io::Error::other)?;
        let resolver = build(config, options)?;
        *known = Some((edition, resolver.clone()));
        Ok(resolver)
    }
}

fn build(config: ResolverConfig, mut options: ResolverOpts) -> io::Result<TokioResolver> {
    // Answers are kept by whoever asks, by their TTL.
    options.cache_size = 0;
    options.timeout = ATTEMPT;
    options.attempts = 2;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().map_err(io::Error::other)
}

/// A name with a dot in it is whole: no search list is tried behind it.
fn absolute(name: &str) -> String {
    if name.contains('.') && !name.ends_with('.') { format!("{name}.") } else { name.to_owned() }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn ordered(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all.sort_by_key(IpAddr::is_ipv4);
    all
}

/// The shortest of all records that led here.
fn ttl(records: &[Record]) -> Duration {
    Duration::from_secs(records.iter().map(|record| record.ttl).min().unwrap_or(0).into())
}

fn reply<T>(error: &NetError) -> Reply<T> {
    if let NetError::Dns(DnsError::NoRecordsFound(none)) = error
        && matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
    {
        let seconds = none.negative_ttl.map(u64::from);
        Reply::Nothing(seconds.map_or(NOTHING_TTL, Duration::from_secs))
    } else {
        Reply::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests;
