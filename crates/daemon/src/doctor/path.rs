//! What stands between us and our public address, and how large a packet may be.

use std::net::IpAddr;
use std::time::Duration;

use ::nat::path::{Evidence, Path};

use super::finding::{Finding, Weight};

/// Octets of the headers of IPv4 and UDP.
pub(super) const HEADERS: u16 = 28;
/// Above this siplatch tries TCP by itself (RFC 3261 §18.1.1).
const USUAL: u16 = 1300;

/// The router is asked for so long, in each of its languages.
const ROUTER: Duration = Duration::from_secs(6);

/// The address that the router of the default route says that it has outside (PCP, NAT-PMP, UPnP); it is asked
/// where there is a NAT at all.
async fn router(local: IpAddr, mapped: IpAddr) -> Option<IpAddr> {
    if local == mapped {
        return None;
    }
    let said = tokio::time::timeout(ROUTER, net::portmap::external_address()).await.ok()??;
    (IpAddr::from(said.gateway.local) == local).then_some(said.address.into())
}

/// Looks along the way: `local` is ours, `mapped` what is seen of it outside.
pub(super) async fn look(server: std::net::SocketAddr, local: IpAddr, mapped: IpAddr) -> Path {
    let (evidence, router) = tokio::join!(net::survey::path::hops(server, mapped), router(local, mapped));
    Path::of(local, mapped, &Evidence { router, ..evidence.unwrap_or_default() })
}

/// Where there is a NAT.
pub(super) fn nats(path: &Path) -> Finding {
    let tested = "NATs on the way";
    let hops = path.hops.iter().map(|hop| hop.map_or("?".to_owned(), |ip| ip.to_string()));
    let through = format!("through {}", hops.collect::<Vec<_>>().join(", "));
    match (path.double_nat, path.cgnat, path.public_hop) {
        (_, Some(true), _) => {
            let found = format!("the carrier has one of its own (CGNAT): {through}");
            let means = "nothing can be forwarded to us; calls through a provider work all the same";
            Finding::new(Weight::Notice, tested, found, means)
                .mend("ask the carrier for a public address, if phones outside are to reach us")
        }
        (Some(false), ..) => Finding::new(
            Weight::Good,
            tested,
            "one: the first router has our public address",
            "what it forwards is forwarded",
        ),
        (Some(true), ..) => {
            let found = format!("more than one: {through}");
            let means = "what the first router forwards does not come from the Internet";
            Finding::new(Weight::Notice, tested, found, means)
                .mend("make the inner router a bridge, or forward in both")
        }
        (None, _, Some(hop)) => {
            let found = format!("our public address is {hop} routers away ({through}): perhaps more than one NAT");
            let means = "if so, what the first router forwards does not come from the Internet";
            Finding::new(Weight::Notice, tested, found, means)
                .mend("compare the first router's own outer address with the public one")
        }
        (None, _, None) => {
            Finding::new(Weight::Notice, tested, "not known how many", "matters only for what is forwarded by hand")
        }
    }
}

pub(super) fn mtu(mtu: Option<u16>) -> Finding {
    let tested = "Largest packet";
    match mtu {
        Some(mtu) if mtu - HEADERS >= USUAL => {
            let found = format!("{mtu} octets, so SIP of {} over UDP", mtu - HEADERS);
            Finding::new(Weight::Good, tested, found, "SIP over UDP is not cut in pieces")
        }
        Some(mtu) => {
            let found = format!("{mtu} octets, so SIP of {} over UDP", mtu - HEADERS);
            let means = "longer messages are cut in pieces, and lost where pieces are";
            Finding::new(Weight::Notice, tested, found, means).mend("prefer TCP or TLS toward the upstream")
        }
        None => Finding::new(Weight::Notice, tested, "not known", "nobody answered who could tell"),
    }
}
