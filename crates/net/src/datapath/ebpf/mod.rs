//! The backend in the kernel: a cache of decisions that `media::Relay` made.
//!
//! A program at the ingress of each interface that has media addresses
//! (`bpf/relay.bpf.c`, attached by tcx) forwards packets that a rule names and
//! that continue their stream; all others come up to the portable backend, in
//! the order of arrival. What is told here of a stream, and what is taken
//! back, is in `offload.rs`. Which way a stream leaves is found in `routes.rs`,
//! on a thread of its own. This file loads, and watches: whenever links,
//! addresses, routes or routing rules change, the epoch does, and no rule of
//! another epoch is obeyed.
//!
//! Everything hangs on descriptors of this process and nothing is pinned, so
//! the kernel removes program, maps and links when it ends, however it ends.
//! Must not decide what may be forwarded.

mod attach;
mod netlink;
mod offload;
mod routes;
mod rule;
mod rules;
mod sys;

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{Builder, JoinHandle};

use aya::maps::Map;
use aya::programs::SchedClassifier;
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};

use self::attach::Attached;
use self::netlink::Netlink;
pub(super) use self::offload::Offload;
use self::routes::{Passage, Routes};
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

/// The epoch of no rule.
const NOBODYS: u32 = 0;

const NEWS: u64 = 0;
const END: u64 = 1;

/// The program and its maps, for as long as this lives.
#[derive(Debug)]
pub(super) struct Kernel {
    inner: Arc<Inner>,
    routes: Routes,
    end: Arc<Waker>,
    watcher: Option<JoinHandle<()>>,
}

/// What workers and both threads behind them share.
#[derive(Debug)]
struct Inner {
    rules: Rules,
    current: Single<4>,
    orders: Orders,
    workers: u32,
    /// Of each worker.
    streams: u32,
    epoch: AtomicU32,
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
        let news = Netlink::listening()?;
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
        let mut attached = Attached::new(ebpf, netlink);
        let inner =
            Arc::new(Inner { rules, current, orders, workers: workers.into(), streams, epoch: AtomicU32::new(1) });
        for address in addresses.iter().filter(|address| !address.is_unspecified()) {
            match attached.cover(*address) {
                Err(error) if all => return Err(error),
                Err(error) => tracing::debug!(%error, "not yet in the kernel"),
                Ok(()) => {}
            }
        }
        let routes = Routes::start(Arc::clone(&inner), attached)?;
        let end = Arc::new(Waker::new()?);
        let (watched, ended) = (Arc::clone(&inner), Arc::clone(&end));
        let watcher = Builder::new().name("media-kernel".to_owned()).spawn(move || watched.watch(news, &ended))?;
        Ok(Self { inner, routes, end, watcher: Some(watcher) })
    }

    /// Rules must be of this epoch; `None`: there may be none.
    fn epoch(&self) -> Option<u32> {
        self.inner.epoch()
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

    /// Has a way out looked for. False: not now, too many others are being looked for.
    fn ask(&self, passage: &Arc<Passage>) -> bool {
        self.routes.ask(Arc::clone(passage))
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
    fn epoch(&self) -> Option<u32> {
        Some(self.epoch.load(Ordering::Acquire)).filter(|epoch| *epoch != NOBODYS)
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
        self.renew(NOBODYS);
    }

    fn changed(&self) {
        let epoch = self.epoch.load(Ordering::Acquire);
        self.renew(epoch.wrapping_add(1).max(NOBODYS + 1));
    }

    fn renew(&self, epoch: u32) {
        // First the kernel: what a worker puts meanwhile is void at once.
        if let Err(error) = self.current.set(epoch.to_ne_bytes()) {
            tracing::error!(%error, "rules cannot be revoked");
        }
        self.epoch.store(epoch, Ordering::Release);
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
