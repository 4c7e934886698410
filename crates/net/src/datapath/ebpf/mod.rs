//! The backend in the kernel: a cache of decisions that `media::Relay` made.
//!
//! A program at the ingress of each interface that has media addresses
//! (`bpf/relay.bpf.c`, attached by tcx) forwards packets that a rule names and
//! that continue their stream; all others come up to the portable backend, in
//! the order of arrival. What is told here of a stream, and what is taken
//! back, is in `offload.rs`; this file loads, attaches, and looks after routes:
//! whenever links, addresses, routes or routing rules change, the epoch does,
//! and no rule of another epoch is obeyed.
//!
//! Everything hangs on descriptors of this process and nothing is pinned, so
//! the kernel removes program, maps and links when it ends, however it ends.
//! Must not decide what may be forwarded.

mod netlink;
mod offload;
mod rule;
mod rules;
mod sys;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use aya::maps::Map;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{SchedClassifierLinkId, TcAttachOptions};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};

use self::netlink::{BARE, ETHERNET, LOOPBACK, Netlink};
pub(super) use self::offload::Offload;
use self::rules::{OURS, Orders, Ours, PLACES, Rules, STREAMS};
use self::sys::Single;
use crate::poll::{Epoll, Ready, Waker};

/// The program, as `bpf/build` makes it.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/relay.bpf.o");

/// The maps of IPv4 and IPv6, of numbers and of rules.
const FAMILIES: [[&str; 2]; 2] = [["numbers4", "rules4"], ["numbers6", "rules6"]];

/// tcx: links that belong to a descriptor.
const SINCE: (u8, u8, u16) = (6, 6, 0);

const MISSING: &str = "the right is missing (CAP_BPF and CAP_NET_ADMIN)";
/// capabilities(7), by number.
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;

const NEWS: u64 = 0;
const END: u64 = 1;

/// The program and its maps, for as long as this lives.
#[derive(Debug)]
pub(super) struct Kernel {
    inner: Arc<Inner>,
    end: Arc<Waker>,
    watcher: Option<JoinHandle<()>>,
}

/// What workers and watcher share.
#[derive(Debug)]
struct Inner {
    rules: Rules,
    current: Single<4>,
    orders: Orders,
    workers: u32,
    /// Of each worker.
    streams: u32,
    epoch: AtomicU32,
    attached: Mutex<Attached>,
}

#[derive(Debug)]
struct Attached {
    ebpf: Ebpf,
    netlink: Netlink,
    /// By number of the interface.
    links: BTreeMap<u32, (&'static str, SchedClassifierLinkId)>,
    /// Interfaces that could not have it.
    refused: BTreeSet<u32>,
}

impl Kernel {
    /// Loads the program, with room for so many workers of so many streams each, and attaches it where
    /// `addresses` are: to `all` of their interfaces, or to those that can have
    /// it and are there. The error names what is missing: the right, the
    /// kernel's version, or an interface.
    pub(super) fn start(addresses: &[IpAddr], workers: u8, streams: u32, all: bool) -> io::Result<Self> {
        let (major, minor, patch) = SINCE;
        if KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(major, minor, patch)) {
            return Err(io::Error::other(format!("this kernel is older than {major}.{minor} and has no tcx")));
        }
        entitled()?;
        let netlink = Netlink::new()?;
        let all_streams = streams.saturating_mul(workers.into()).max(1);
        let (ours, left) = Ours::of(addresses);
        if let Some(address) = left.first() {
            let many = format!("there are more than {PLACES} addresses of its family before {address}");
            if all {
                return Err(io::Error::other(many));
            }
            tracing::info!("{many}: its media stays in user space");
        }
        if all_streams > STREAMS {
            tracing::info!(streams = STREAMS, "media of more streams than that stays in user space");
        }
        let Loaded { ebpf, rules, current, orders } = load(ours, all_streams).map_err(explain)?;
        current.set(1_u32.to_ne_bytes())?;
        let attached = Attached { ebpf, netlink, links: BTreeMap::new(), refused: BTreeSet::new() };
        let inner = Arc::new(Inner {
            rules,
            current,
            orders,
            workers: workers.into(),
            streams,
            epoch: AtomicU32::new(1),
            attached: Mutex::new(attached),
        });
        for address in addresses.iter().filter(|address| !address.is_unspecified()) {
            match inner.attached().cover(*address) {
                Err(error) if all => return Err(error),
                Err(error) => tracing::debug!(%error, "not yet in the kernel"),
                Ok(()) => {}
            }
        }
        let end = Arc::new(Waker::new()?);
        let news = Netlink::listening()?;
        let (watched, ended) = (Arc::clone(&inner), Arc::clone(&end));
        let watcher = Builder::new().name("media-kernel".to_owned()).spawn(move || watched.watch(news, &ended))?;
        Ok(Self { inner, end, watcher: Some(watcher) })
    }

    /// Rules must be of this epoch.
    fn epoch(&self) -> u32 {
        self.inner.epoch.load(Ordering::Acquire)
    }

    /// A worker is about to be given an order for this stream: no rule that it has put before is obeyed any more.
    pub(super) fn give(&self, worker: u8, stream: u32) {
        if let Some(at) = self.number(worker, stream) {
            self.inner.orders.give(at);
        }
    }

    /// A stream among those of all workers; `None` for one that no rule may be put for.
    fn number(&self, worker: u8, stream: u32) -> Option<u32> {
        // The first of each worker lie side by side.
        (stream < self.inner.streams).then(|| stream * self.inner.workers + u32::from(worker))
    }

    fn rules(&self) -> &Rules {
        &self.inner.rules
    }

    /// Sees to it that the program sees what comes in for this address.
    fn covers(&self, address: IpAddr) -> bool {
        self.inner.attached().cover(address).is_ok()
    }

    /// The same for what comes in by this interface.
    fn covers_link(&self, ifindex: u32) -> bool {
        self.inner.attached().cover_link(ifindex).is_ok()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.end.wake();
        if let Some(watcher) = self.watcher.take()
            && watcher.join().is_err()
        {
            tracing::error!("the watcher of routes panicked");
        }
    }
}

impl Inner {
    fn attached(&self) -> MutexGuard<'_, Attached> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for changes of links, addresses and routes, until told to end.
    fn watch(&self, mut news: Netlink, end: &Waker) {
        let waited = Epoll::new().and_then(|epoll| {
            epoll.add(news.as_fd(), NEWS)?;
            epoll.add(end.as_fd(), END)?;
            Ok(epoll)
        });
        let epoll = match waited {
            Ok(epoll) => epoll,
            Err(error) => return self.give_up(&error),
        };
        let mut ready = Ready::new(2);
        loop {
            if let Err(error) = epoll.wait(&mut ready, None) {
                return self.give_up(&error);
            }
            for token in ready.by_ref() {
                if token == END {
                    return;
                }
                if news.heard() {
                    self.changed();
                }
            }
        }
    }

    /// Rules that nobody looks after are worse than none.
    fn give_up(&self, error: &io::Error) {
        tracing::error!(%error, "routes cannot be watched: media is relayed in user space");
        self.renew(0);
    }

    fn changed(&self) {
        let epoch = self.epoch.load(Ordering::Acquire);
        // 0 is nobody's.
        self.renew(epoch.wrapping_add(1).max(1));
        self.attached().forget();
    }

    fn renew(&self, epoch: u32) {
        // First the kernel: what a worker puts meanwhile is void at once.
        if let Err(error) = self.current.set(epoch.to_ne_bytes()) {
            tracing::error!(%error, "rules cannot be revoked");
        }
        self.epoch.store(epoch, Ordering::Release);
    }
}

impl Attached {
    /// Attaches the program to the interface that has this address, unless it is there.
    fn cover(&mut self, address: IpAddr) -> io::Result<()> {
        let found = self.netlink.addresses()?.into_iter().find(|(ip, _)| *ip == address);
        // All of 127.0.0.0/8 is ours, and no list has it.
        let local = || self.netlink.way(address, address).filter(|way| way.local).map(|way| way.ifindex);
        let ifindex = found.map(|(_, ifindex)| ifindex).or_else(local);
        self.cover_link(ifindex.ok_or_else(|| io::Error::other(format!("no interface has the address {address}")))?)
    }

    fn cover_link(&mut self, ifindex: u32) -> io::Result<()> {
        if self.links.contains_key(&ifindex) {
            return Ok(());
        }
        let link = self.netlink.link(ifindex);
        let link = link.ok_or_else(|| io::Error::other(format!("interface {ifindex} has gone")))?;
        let attached = match link.kind {
            ETHERNET | LOOPBACK => self.attach("relay_ethernet", &link.name),
            BARE => self.attach("relay_bare", &link.name),
            _ => Err(io::Error::other("neither an Ethernet nor a tunnel")),
        };
        match attached {
            Ok(attached) => {
                tracing::info!(interface = link.name, "media is forwarded in the kernel");
                self.links.insert(ifindex, attached);
                Ok(())
            }
            Err(error) => {
                if self.refused.insert(ifindex) {
                    tracing::warn!(%error, interface = link.name, "media of this interface stays in user space");
                }
                Err(io::Error::other(format!("interface {}: {error}", link.name)))
            }
        }
    }

    fn attach(&mut self, program: &'static str, interface: &str) -> io::Result<(&'static str, SchedClassifierLinkId)> {
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let link = self.program(program)?.attach_with_options(interface, TcAttachType::Ingress, options);
        link.map(|link| (program, link)).map_err(explain)
    }

    fn program(&mut self, name: &str) -> io::Result<&mut SchedClassifier> {
        let program = self.ebpf.program_mut(name).ok_or_else(|| io::Error::other("no such program"))?;
        program.try_into().map_err(explain)
    }

    /// Lets go of interfaces that are not there any more.
    fn forget(&mut self) {
        self.refused.clear();
        let netlink = &mut self.netlink;
        let gone: Vec<u32> = self.links.keys().copied().filter(|index| netlink.link(*index).is_none()).collect();
        for ifindex in gone {
            if let Some((program, link)) = self.links.remove(&ifindex)
                && let Ok(program) = self.program(program)
                && let Err(error) = program.detach(link)
            {
                tracing::debug!(%error, "the interface took the program along");
            }
        }
    }
}

struct Loaded {
    ebpf: Ebpf,
    rules: Rules,
    current: Single<4>,
    orders: Orders,
}

/// The program, with room for rules of these addresses and for so many streams.
fn load(ours: Ours, streams: u32) -> Result<Loaded, Box<dyn Error + Send + Sync>> {
    let mut loader = EbpfLoader::new();
    // Nothing here depends on the layout of the kernel's own structures.
    loader.btf(None).verifier_log_level(VerifierLogLevel::DISABLE);
    for ([numbers, rules], room) in FAMILIES.into_iter().zip(ours.room(streams)) {
        loader.map_max_entries(numbers, room.0).map_max_entries(rules, room.1);
    }
    loader.map_max_entries("orders", streams);
    let mut ebpf = loader.load(OBJECT)?;
    for name in ["relay_ethernet", "relay_bare"] {
        let program: &mut SchedClassifier = ebpf.program_mut(name).ok_or("no such program")?.try_into()?;
        program.load()?;
    }
    let map = |ebpf: &Ebpf, name| -> Result<OwnedFd, Box<dyn Error + Send + Sync>> {
        match ebpf.map(name) {
            Some(Map::Array(map)) => Ok(map.fd().as_fd().try_clone_to_owned()?),
            Some(_) | None => Err("no such map".into()),
        }
    };
    Single::<OURS>(map(&ebpf, "ours")?).set(ours.octets())?;
    let [[numbers4, rules4], [numbers6, rules6]] = FAMILIES.map(|names| names.map(|name| map(&ebpf, name)));
    let (numbers4, rules4, numbers6, rules6) = (numbers4?, rules4?, numbers6?, rules6?);
    let families = [[numbers4.as_fd(), rules4.as_fd()], [numbers6.as_fd(), rules6.as_fd()]];
    let rules = Rules::new(ours, families, streams)?;
    let current = Single(map(&ebpf, "epoch")?);
    let orders = Orders::new(map(&ebpf, "orders")?.as_fd(), streams)?;
    Ok(Loaded { ebpf, rules, current, orders })
}

/// Asks for our rights before bpf(2) does: a filter of system calls, such as
/// that of a service, may end the process for asking.
fn entitled() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let has = |capability: u32| effective & (1 << capability) != 0;
    if has(SYS_ADMIN) || (has(BPF) && has(NET_ADMIN)) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, MISSING))
}

/// The cause behind an error of the loader, in the words of whoever can mend it.
fn explain(error: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    let error = error.into();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error.as_ref());
    let mut text = error.to_string();
    while let Some(next) = cause {
        if let Some(system) = next.downcast_ref::<io::Error>() {
            if system.kind() == io::ErrorKind::PermissionDenied {
                return io::Error::new(io::ErrorKind::PermissionDenied, MISSING);
            }
            text = format!("{text}: {system}");
        }
        cause = next.source();
    }
    io::Error::other(text)
}

#[cfg(test)]
mod tests;
