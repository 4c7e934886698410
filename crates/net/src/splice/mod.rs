//! TCP media (RFC 4145): two connections of a stream, one with each end, and
//! the octets that pass between them.
//!
//! One task for each stream, on a small runtime of its own that is started with
//! the first: a peer that sends a gigabyte costs neither the signalling thread
//! nor a media worker anything. Holds what a stream may cost: a listener and
//! a connection for each end, a few that wait while it is not known yet who may connect
//! and, for each direction, 64 KiB.
//!
//! Must not decide who may connect or where to: `media::Splice` says so.

mod leg;
mod link;
mod task;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;

use media::{Command, End, Fact, Part, Splice, SpliceCounts, StreamId};
use tokio::io::DuplexStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender, unbounded_channel};

use self::task::Task;
use crate::dscp::Dscp;
use crate::{Report, sockopt};

/// Descriptors that a splice needs at most, but for those that wait: listeners, connections.
pub const DESCRIPTORS: u64 = 5;

/// The splices of all TCP streams, as the signalling thread sees them.
#[derive(Debug)]
pub struct Splices {
    /// There from the first splice to the end; it must not be dropped where blocking is forbidden.
    runtime: Option<Runtime>,
    most: usize,
    mark: Dscp,
    streams: BTreeMap<StreamId, Stream>,
    reports: UnboundedSender<Report>,
}

/// The way to the task of a stream.
#[derive(Debug)]
struct Stream {
    orders: UnboundedSender<Order>,
    /// Legs that have been given a listener.
    listens: [bool; 2],
}

/// What a leg gets along with its plan.
#[derive(Debug, Default)]
struct Means {
    /// The way to the splice that it faces.
    face: Option<WeakUnboundedSender<Order>>,
    /// What it listens on from now on. Opened before SDP names it, for whoever reads that may connect at once.
    listener: Option<TcpListener>,
    /// How its packets are marked.
    mark: Dscp,
}

/// What a splice is told.
#[derive(Debug)]
enum Order {
    /// This is to be.
    Plan(Box<Splice>, [Means; 2]),
    /// At this end another peer than before has the call.
    Replace(End),
    /// A leg of another splice connects to this one.
    Join(End, DuplexStream),
}

impl Splices {
    /// None yet, and never more than `most`; `mark` is on what they send. What they do goes to `reports`.
    pub fn new(most: usize, mark: Dscp, reports: UnboundedSender<Report>) -> Self {
        Self { runtime: None, most, mark, streams: BTreeMap::new(), reports }
    }

    /// Obeys a command, as far as it is about a splice.
    pub fn handle(&mut self, command: &Command) {
        match command {
            Command::Splice { stream, splice: Some(splice) } => self.plan(*stream, splice.clone()),
            Command::Splice { stream, splice: None } | Command::Close { stream, told: _ } => {
                self.streams.remove(stream);
            }
            Command::Replace { stream, end } => {
                if let Some(Stream { orders, .. }) = self.streams.get(stream) {
                    // Refused only when the runtime is gone.
                    let _ = orders.send(Order::Replace(*end));
                }
            }
            Command::Open { .. }
            | Command::Update { .. }
            | Command::Carry { .. }
            | Command::Formats { .. }
            | Command::Ask { .. }
            | Command::Join { .. }
            | Command::Part { .. } => {}
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    fn plan(&mut self, stream: StreamId, splice: Box<Splice>) {
        let faces = splice.legs.each_ref().map(|leg| match leg.part {
            Part::Face(other, _) => self.streams.get(&other).map(|stream| stream.orders.downgrade()),
            Part::Listen | Part::Dial(_) | Part::Rest | Part::Shut => None,
        });
        if !self.streams.contains_key(&stream) {
            match self.start(stream) {
                Ok(orders) => drop(self.streams.insert(stream, Stream { orders, listens: [false; 2] })),
                Err(error) => {
                    tracing::warn!(?stream, %error, "TCP media cannot be carried; the stream stays silent");
                    return self.tell_unbound(stream, &splice);
                }
            }
        }
        let Some(Stream { orders, listens }) = self.streams.get_mut(&stream) else { return };
        let mut means = faces.map(|face| Means { face, listener: None, mark: self.mark });
        for ((leg, means), listens) in splice.legs.iter().zip(&mut means).zip(listens) {
            let before = std::mem::replace(listens, leg.part == Part::Listen);
            if *listens && !before {
                // What cannot be had now, its task asks for again, and tells.
                means.listener = sockopt::listen_tcp(leg.at, means.mark).ok();
            }
        }
        // Refused only when the runtime is gone.
        let _ = orders.send(Order::Plan(splice, means));
    }

    fn tell_unbound(&self, stream: StreamId, splice: &Splice) {
        let none = SpliceCounts { unbound: 1, ..SpliceCounts::default() };
        let legs = Box::new(splice.legs.each_ref().map(|leg| (leg.side, none)));
        // Nobody listens any more: the program ends.
        let _ = self.reports.send(Report::Fact { worker: stream.worker, fact: Fact::Spliced { stream, legs } });
    }

    fn start(&mut self, stream: StreamId) -> io::Result<UnboundedSender<Order>> {
        if self.streams.len() >= self.most {
            return Err(io::Error::other("there are too many of them for the limit of open files"));
        }
        let runtime = match self.runtime.take() {
            Some(runtime) => self.runtime.insert(runtime),
            None => {
                let runtime =
                    Builder::new_multi_thread().worker_threads(1).thread_name("splices").enable_all().build()?;
                self.runtime.insert(runtime)
            }
        };
        let (sender, orders) = unbounded_channel();
        runtime.spawn(Task::new(stream, orders, self.reports.clone()).run());
        Ok(sender)
    }
}

impl Drop for Splices {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests;
