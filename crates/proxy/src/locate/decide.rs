//! RFC 3263 §4.1 to §4.3 as a decision: from the host, port, transport and
//! scheme of a URI, and from what is known of the domain name system, the
//! addresses to try, in order. Asks nobody; what is not known yet is said.

use std::net::{IpAddr, SocketAddr};

use wire::Transport;
use wire::sip::Host;

use super::question::{Address, Kind, Naptr, Question, Records, Srv};
use super::weight::{self, Draw};

/// SRV records that are followed at most, over all transports.
const MOST_SERVERS: usize = 16;
/// NAPTR records that are followed at most.
const MOST_SERVICES: usize = 8;
/// Addresses that come out at most.
const MOST_ADDRESSES: usize = 16;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Goal {
    /// Host name or numeric address, without brackets, lower case.
    pub(crate) host: String,
    /// If written.
    pub(crate) port: Option<u16>,
    /// The `transport` parameter, if written.
    pub(crate) transport: Option<Transport>,
    /// The scheme is sips: nothing but TLS.
    pub(crate) sips: bool,
}

/// One address to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) transport: Transport,
    pub(crate) remote: SocketAddr,
    /// From where the kernel would send; not known of a numeric host that nobody asked about.
    pub(crate) local: Option<IpAddr>,
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// These, in this order, at least one.
    Found(Vec<Candidate>),
    /// Something that was asked about is not known yet.
    Wait,
    /// There is no such server, or none that speaks what we speak.
    Nowhere,
}

/// `can` lists the transports that we could leave by, the preferred one first;
/// `known` says what is known about a question, `None` for not yet; without
/// records means that there are none.
pub(crate) fn decide<'a>(
    goal: &Goal,
    can: &[Transport],
    seed: u64,
    known: &mut dyn FnMut(Question) -> Option<&'a Records>,
) -> Verdict {
    let can: Vec<Transport> = can.iter().copied().filter(|transport| !goal.sips || transport.is_secure()).collect();
    let mut search = Search { goal, known, missing: false, found: Vec::new(), draw: Draw(seed) };
    let absent = search.search(&can);
    if search.missing {
        Verdict::Wait
    } else if search.found.is_empty() || absent {
        Verdict::Nowhere
    } else {
        search.found.truncate(MOST_ADDRESSES);
        Verdict::Found(search.found)
    }
}

struct Search<'a, 'k> {
    goal: &'k Goal,
    known: &'k mut dyn FnMut(Question) -> Option<&'a Records>,
    missing: bool,
    found: Vec<Candidate>,
    draw: Draw,
}

impl<'a> Search<'a, '_> {
    /// True when there is decidedly nothing.
    fn search(&mut self, can: &[Transport]) -> bool {
        // §4.1: the transport parameter says it; a numeric host or a port that
        // is written leave UDP, or TLS for sips.
        let wanted = self.goal.transport.map(|transport| if self.goal.sips { over_tls(transport) } else { transport });
        let plain = || {
            let usual = if self.goal.sips { Transport::Tls } else { Transport::Udp };
            if can.contains(&usual) { Some(usual) } else { can.first().copied() }
        };
        let chosen = match wanted {
            Some(wanted) if can.contains(&wanted) => Some(wanted),
            Some(_) => return true,
            None => None,
        };
        let numeric = Host(self.goal.host.as_bytes()).ip();
        if numeric.is_some() || self.goal.port.is_some() {
            let Some(transport) = chosen.or_else(plain) else { return true };
            let port = self.goal.port.unwrap_or(transport.default_port());
            match numeric {
                Some(ip) => self.found.push(Candidate { transport, remote: SocketAddr::new(ip, port), local: None }),
                None => self.addresses(&self.goal.host.clone(), transport, port),
            }
            return false;
        }
        // §4.1: services of the domain, unless the transport is known.
        let services = match chosen {
            Some(transport) => vec![(transport, service_name(transport, &self.goal.host))],
            None => match self.services(can) {
                Some(services) if !services.is_empty() => services,
                Some(_) => {
                    // Without NAPTR: SRV for each transport of the scheme.
                    let of_scheme = can.iter().filter(|transport| self.goal.sips || !transport.is_secure());
                    of_scheme.map(|transport| (*transport, service_name(*transport, &self.goal.host))).collect()
                }
                None => return false,
            },
        };
        // §4.2: servers of these services; none at all leaves the host's own addresses.
        let mut any = false;
        for (transport, name) in services {
            let Some(servers) = self.servers(name) else { continue };
            any |= !servers.is_empty();
            for srv in servers {
                if !matches!(srv.target.as_str(), "" | ".") {
                    self.addresses(srv.target.trim_end_matches('.'), transport, srv.port);
                }
            }
        }
        if !any && !self.missing {
            let Some(transport) = chosen.or_else(plain) else { return true };
            self.addresses(&self.goal.host.clone(), transport, transport.default_port());
        }
        false
    }

    /// The NAPTR services that we can use, in order; `None` while they are not known.
    fn services(&mut self, can: &[Transport]) -> Option<Vec<(Transport, String)>> {
        let records = self.ask(&self.goal.host.clone(), Kind::Naptr)?;
        let Records::Naptr(records) = records else { return Some(Vec::new()) };
        let fits = |naptr: &&Naptr| {
            naptr.flags.eq_ignore_ascii_case("s") && transport_of(&naptr.service).is_some_and(|t| can.contains(&t))
        };
        let mut records: Vec<&Naptr> = records.iter().filter(fits).collect();
        records.sort_by_key(|naptr| (naptr.order, naptr.preference));
        // RFC 3403 §4.1: once one of an order fits, higher orders do not count.
        let order = records.first().map(|naptr| naptr.order);
        records.retain(|naptr| Some(naptr.order) == order);
        records.truncate(MOST_SERVICES);
        let name = |naptr: &Naptr| naptr.replacement.trim_end_matches('.').to_ascii_lowercase();
        Some(records.into_iter().filter_map(|n| transport_of(&n.service).map(|t| (t, name(n)))).collect())
    }

    fn servers(&mut self, name: String) -> Option<Vec<Srv>> {
        let records = self.ask(&name, Kind::Srv)?;
        let Records::Srv(records) = records else { return Some(Vec::new()) };
        let mut ordered = weight::order(&records[..records.len().min(MOST_SERVERS)], &mut self.draw);
        ordered.truncate(MOST_SERVERS);
        Some(ordered)
    }

    /// Adds the addresses of a host, its families by turns, so that a family
    /// whose path is dead costs one attempt (RFC 7984 §3.1).
    fn addresses(&mut self, host: &str, transport: Transport, port: u16) {
        if self.found.len() >= MOST_ADDRESSES {
            return;
        }
        let Some(Records::Addresses(addresses)) = self.ask(host, Kind::Addresses) else { return };
        for address in by_turns(addresses).into_iter().take(MOST_ADDRESSES) {
            let remote = SocketAddr::new(address.remote, port);
            let candidate = Candidate { transport, remote, local: Some(address.local) };
            if !self.found.iter().any(|known| known.transport == transport && known.remote == remote) {
                self.found.push(candidate);
            }
        }
    }

    fn ask(&mut self, name: &str, kind: Kind) -> Option<&'a Records> {
        let known = (self.known)(Question { name: name.to_ascii_lowercase(), kind });
        self.missing |= known.is_none();
        known
    }
}

/// What a `transport` parameter means in a sips URI (RFC 3261 §26.2.2, RFC 7118 §5).
fn over_tls(transport: Transport) -> Transport {
    match transport {
        Transport::Tcp | Transport::Tls => Transport::Tls,
        Transport::Ws | Transport::Wss => Transport::Wss,
        Transport::Udp => Transport::Udp,
    }
}

/// NAPTR services (RFC 3263 §4.1, RFC 7118 §8.4).
fn transport_of(service: &str) -> Option<Transport> {
    let services = [
        ("SIP+D2U", Transport::Udp),
        ("SIP+D2T", Transport::Tcp),
        ("SIPS+D2T", Transport::Tls),
        ("SIP+D2W", Transport::Ws),
        ("SIPS+D2W", Transport::Wss),
    ];
    services.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(service)).map(|(_, transport)| transport)
}

fn service_name(transport: Transport, host: &str) -> String {
    let prefix = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        Transport::Ws => "_sip._ws",
        Transport::Wss => "_sips._ws",
    };
    format!("{prefix}.{host}")
}

/// One of each family by turns, beginning with the family that the resolver put first.
fn by_turns(addresses: &[Address]) -> Vec<Address> {
    let first_is_v4 = addresses.first().is_some_and(|address| address.remote.is_ipv4());
    let (mut one, mut other): (Vec<Address>, Vec<Address>) =
        addresses.iter().partition(|address| address.remote.is_ipv4() == first_is_v4);
    one.reverse();
    other.reverse();
    let mut ordered = Vec::with_capacity(addresses.len());
    while !(one.is_empty() && other.is_empty()) {
        ordered.extend(one.pop());
        ordered.extend(other.pop());
    }
    ordered
}

#[cfg(test)]
mod tests;
