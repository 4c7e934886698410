//! Which way streams leave, found on a thread of its own: what the kernel is
//! asked there waits for whoever configures links, and media waits for nobody.
//! A worker asks, goes on judging packets itself, and looks for the answer when
//! the next of the stream has come.
//!
//! All that is found is of one epoch, and forgotten with it. Must not put rules.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::Inner;
use super::attach::Attached;
use super::netlink::Way;
use super::rule::Exit;
use super::rules::Place;

/// So many questions may wait; who finds no room asks later.
const QUESTIONS: usize = 1024;

/// Where packets of a hold come in and where they leave, and a question: which way is that?
#[derive(Debug)]
pub(super) struct Passage {
    /// Of the question, and so of the answer.
    pub(super) epoch: u32,
    /// Of its rule.
    pub(super) place: Place,
    /// Our address on the near leg.
    pub(super) local: SocketAddr,
    /// The peer there.
    pub(super) source: IpAddr,
    /// Our address on the far leg.
    pub(super) from: SocketAddr,
    /// The peer there.
    pub(super) to: SocketAddr,
    /// The octet of DSCP and ECN.
    pub(super) tos: u8,
    /// Hop limit of a fresh packet.
    pub(super) ttl: u8,
    /// The answer; `None` in it: no way that the program can go.
    pub(super) found: OnceLock<Option<Found>>,
}

/// The way of a passage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    way: Way,
    mtu: u32,
    /// The kernel is to find the route itself.
    routed: bool,
}

impl Passage {
    /// How packets leave, if that is known and there is a way.
    pub(super) fn exit(&self) -> Option<Exit> {
        let Found { way, mtu, routed } = (*self.found.get()?)?;
        let Self { from, to, tos, ttl, .. } = *self;
        Some(Exit { from, to, tos, ttl, way, mtu, routed })
    }
}

/// The thread that finds them. Dropping this waits for its end, and detaches the program.
#[derive(Debug)]
pub(super) struct Routes {
    questions: Option<Sender<Arc<Passage>>>,
    thread: Option<JoinHandle<()>>,
}

impl Routes {
    /// Nothing asked yet. `attached` is where the program is so far.
    pub(super) fn start(inner: Arc<Inner>, attached: Attached) -> std::io::Result<Self> {
        let (questions, asked) = channel(QUESTIONS);
        let finder = Finder { attached, known: Known::default() };
        let thread = Builder::new().name("media-routes".to_owned()).spawn(move || finder.run(&inner, asked))?;
        Ok(Self { questions: Some(questions), thread: Some(thread) })
    }

    /// Has one found. Never waits: false when there is no room for the question.
    pub(super) fn ask(&self, passage: Arc<Passage>) -> bool {
        self.questions.as_ref().is_some_and(|questions| questions.try_send(passage).is_ok())
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        drop(self.questions.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that finds routes panicked");
        }
    }
}

struct Finder {
    attached: Attached,
    known: Known,
}

/// What was found in an epoch.
#[derive(Default)]
struct Known {
    epoch: u32,
    /// Whether the program sees what comes in for an address of ours, or by an interface.
    addresses: BTreeMap<IpAddr, bool>,
    links: BTreeMap<u32, bool>,
    /// By interface, if it is there.
    mtus: BTreeMap<u32, Option<u32>>,
}

impl Finder {
    /// Answers until nobody can ask any more.
    fn run(mut self, inner: &Inner, mut asked: Receiver<Arc<Passage>>) {
        while let Some(passage) = asked.blocking_recv() {
            let Some(epoch) = inner.epoch() else { continue };
            // Whoever asked in another epoch asks anew.
            if passage.epoch != epoch {
                continue;
            }
            if self.known.epoch != epoch {
                self.known = Known { epoch, ..Known::default() };
                self.attached.forget();
            }
            let found = self.find(&passage);
            // Asked once, answered once.
            let _first = passage.found.set(found);
        }
    }

    fn find(&mut self, passage: &Passage) -> Option<Found> {
        let Self { attached, known } = self;
        let local = passage.local.ip();
        // A peer on this machine comes in by the loopback, whatever its address.
        let back = attached.netlink.way(local, passage.source)?;
        let seen = if back.local {
            *known.links.entry(back.ifindex).or_insert_with(|| attached.cover_link(back.ifindex).is_ok())
        } else {
            *known.addresses.entry(local).or_insert_with(|| attached.cover(local).is_ok())
        };
        if !seen {
            return None;
        }
        let way = attached.netlink.way(passage.from.ip(), passage.to.ip())?;
        let mtu = || attached.netlink.link(way.ifindex).map(|link| link.mtu);
        let mtu = (*known.mtus.entry(way.ifindex).or_insert_with(mtu))?;
        // What came in by the loopback has a route within this machine already.
        let routed = way.local && !back.local;
        Some(Found { way, mtu, routed })
    }
}
