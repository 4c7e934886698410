//! Talks to the router: the sockets and the clock of `nat::portmap`, in one
//! task. Decides nothing.

mod external;
mod pcp;
mod upnp;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::time::{Duration, Instant};

use nat::portmap::{Choice, Finding, Gateway, Input, Output, Portmap, Question, Reply, Snapshot, Want};
use tokio::sync::mpsc::UnboundedReceiver;
use wire::upnp::Service;

pub use external::{External, external_address};
use pcp::Sockets;

use crate::{addresses, clock};

/// How often the default route is looked at.
const ROUTE: Duration = Duration::from_secs(5);
/// How long a router may take to remove our mappings at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// What the task is told.
#[derive(Debug, Clone)]
pub enum Order {
    /// In which protocol the router is asked, if at all.
    Choose(Choice),
    /// All mappings that are wanted.
    Want(Vec<Want>),
    /// Our public address as STUN servers see it.
    Seen(Option<Ipv4Addr>),
    /// Remove them all, and end.
    Stop,
}

/// What it tells.
#[derive(Debug, Clone)]
pub enum News {
    /// The state has changed.
    Snapshot(Snapshot),
    /// An operator should hear of this.
    Finding(Finding),
}

type Asking = Pin<Box<dyn Future<Output = (Reply, Option<Service>)> + Send>>;

/// Where the default route leads, and our address on that link. `None`: there
/// is none, or not one by IPv4. Linux only.
pub fn gateway() -> Option<Gateway> {
    let table = std::fs::read_to_string("/proc/net/route").ok()?;
    let router = default_route(&table)?;
    let IpAddr::V4(local) = addresses::toward(SocketAddr::from((router, 9))).ok()? else { return None };
    Some(Gateway { router, local })
}

/// The gateway of the default route with the lowest metric.
fn default_route(table: &str) -> Option<Ipv4Addr> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let (destination, router, flags, mask) = (hex(1)?, hex(2)?, hex(3)?, hex(7)?);
        let metric: u32 = fields.get(6)?.parse().ok()?;
        // RTF_UP and RTF_GATEWAY. The kernel prints the octets as its own processor reads them.
        let leads = destination == 0 && mask == 0 && flags & 3 == 3 && router != 0;
        leads.then(|| (metric, Ipv4Addr::from(router.to_ne_bytes())))
    });
    routes.min().map(|(_, router)| router)
}

/// Keeps the mappings, until it is told to stop or nobody is left who could
/// tell; then removes them. `seed` as of [`Portmap::new`]. Must be called
/// inside a runtime.
pub async fn run(seed: [u8; 32], mut orders: UnboundedReceiver<Order>, mut tell: impl FnMut(News)) {
    let mut machine = Portmap::new(clock::now(), seed);
    let mut sockets = Sockets::default();
    let mut service: Option<Service> = None;
    let mut asking: Option<Asking> = None;
    let mut present: Option<Gateway> = None;
    // A router that is to be left alone is not even looked for.
    let mut look: Option<Instant> = None;
    let mut end: Option<Instant> = None;
    let mut room = [0; pcp::ROOM];
    loop {
        let now = clock::now();
        if look.is_some_and(|look| now >= look) {
            look = Some(now + ROUTE);
            let found = gateway();
            if found != present {
                present = found;
                service = None;
                sockets.open(present);
            }
            machine.handle_input(now, Input::Gateway(present.filter(|_| sockets.ready())));
        }
        if machine.poll_timeout().is_some_and(|due| due <= now) {
            machine.handle_timeout(now);
        }
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Transmit(packet) => sockets.send(&packet),
                Output::Igd(question) => {
                    asking = present.map(|gateway| ask(gateway, question, service.clone()));
                }
                Output::Changed => tell(News::Snapshot(machine.snapshot())),
                Output::Finding(finding) => tell(News::Finding(finding)),
                Output::Stopped => return,
            }
        }
        if end.is_some_and(|end| now >= end) {
            tracing::warn!("the router did not confirm that all mappings are removed; they end by themselves");
            return;
        }
        let due = machine.poll_timeout().into_iter().chain(look).chain(end).min();
        let left = due.map_or(ROUTE, |due| due.saturating_duration_since(now));
        tokio::select! {
            order = orders.recv(), if end.is_none() => {
                let now = clock::now();
                match order.unwrap_or(Order::Stop) {
                    Order::Choose(choice) => {
                        if choice != Choice::Off {
                            look = look.or(Some(now));
                        }
                        machine.handle_input(now, Input::Choose(choice));
                    }
                    Order::Want(wants) => machine.handle_input(now, Input::Want(wants)),
                    Order::Seen(seen) => machine.handle_input(now, Input::Seen(seen)),
                    Order::Stop => {
                        end = Some(now + FAREWELL);
                        machine.handle_input(now, Input::Stop);
                    }
                }
            }
            (from, len, multicast) = sockets.next(&mut room) => {
                let packet = &room[..len];
                let input =
                    if multicast { Input::Announced { from, packet } } else { Input::Received { from, packet } };
                machine.handle_input(clock::now(), input);
            }
            (reply, found) = answered(&mut asking) => {
                asking = None;
                service = found;
                machine.handle_input(clock::now(), Input::Igd(reply));
            }
            () = tokio::time::sleep(left), if due.is_some() => {}
        }
    }
}

/// A question under way; what is known of the router's service goes with it and comes back.
fn ask(gateway: Gateway, question: Question, service: Option<Service>) -> Asking {
    Box::pin(async move {
        if question == Question::Find {
            let found = upnp::find(gateway).await;
            return (if found.is_some() { Reply::Found } else { Reply::Failed }, found);
        }
        match service {
            Some(service) => (upnp::ask(gateway, &service, question).await, Some(service)),
            None => (Reply::Failed, None),
        }
    })
}

async fn answered(asking: &mut Option<Asking>) -> (Reply, Option<Service>) {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

/// A router's address with a port.
fn at(gateway: Gateway, port: u16) -> SocketAddr {
    SocketAddrV4::new(gateway.router, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_is_the_one_with_the_lowest_metric() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let line = |destination: u32, router: [u8; 4], flags: u32, metric: u32, mask: u32| {
            let router = u32::from_ne_bytes(router);
            format!("eth0\t{destination:08X}\t{router:08X}\t{flags:04X}\t0\t0\t{metric}\t{mask:08X}\t0\t0\t0\n")
        };
        let table = [
            head.to_owned(),
            line(0, [192, 168, 1, 1], 3, 100, 0),
            line(0, [10, 0, 0, 1], 3, 50, 0),
            line(0, [10, 0, 0, 2], 2, 10, 0),
            line(0x0001_a8c0, [0, 0, 0, 0], 1, 0, 0x00ff_ffff),
        ]
        .concat();
        assert_eq!(default_route(&table), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(default_route(head), None);
        assert_eq!(default_route("garbage\nmore garbage\n"), None);
    }
}
