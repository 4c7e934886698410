//! The shared read model: folds what the rooms tell (`Change`, `Fact`,
//! `Observed`) into maps that the admin side reads while calls go on. Written
//! by the signalling loop alone; asks nobody and decides nothing.

mod collision;
mod digest;
mod status;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dashmap::{DashMap, Entry};
use media::stats::LegCounts;
use media::{Component, Fact, StreamId};
use nat::Side;
use nat::relayed::Why;
use net::turn::Failure;
use proxy::{Observed, UpstreamState};
use registry::{Binding, BindingId, Call, CallKind, CallState, Change, Key, PassId, Record};
use wire::{ListenerId, Transport};

use crate::metrics::label::Label as _;
pub(crate) use collision::Collision;
use digest::Digesting;
pub(crate) use status::{Mapping, Reload, Router, Status};

/// What is going on, as last told.
#[derive(Debug, Default)]
pub(crate) struct View {
    bindings: DashMap<BindingId, Arc<Binding>, Digesting>,
    calls: DashMap<PassId, Box<CallRow>, Digesting>,
    streams: DashMap<StreamId, Box<StreamRow>>,
    upstreams: DashMap<usize, UpstreamState>,
    /// By which transport each is reached, where it has several.
    transports: DashMap<usize, Transport>,
    listeners: DashMap<u16, ListenerRow>,
    workers: DashMap<u8, bool>,
    kernel: AtomicBool,
    ports: DashMap<(IpAddr, u16), media::ports::Counts>,
    /// One row.
    turn: DashMap<(), TurnRow>,
}

/// What is known of TURN.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TurnRow {
    /// Why media of new calls goes through it, if it does.
    pub(crate) why: Option<Why>,
    /// Port pairs that have allocations.
    pub(crate) allocated: usize,
    /// The last trouble, until an allocation comes.
    pub(crate) trouble: Option<Failure>,
}

/// What the status shows of a call; texts and lists are those of the record.
#[derive(Debug, Clone)]
struct CallRow {
    kind: CallKind,
    state: CallState,
    from: Arc<[u8]>,
    to: Option<Arc<[u8]>>,
    streams: Arc<[StreamId]>,
    since: Instant,
    answered: Option<Instant>,
    phone: Option<usize>,
}

/// What the status shows of a stream.
#[derive(Debug, Clone, Default)]
struct StreamRow {
    sources: [Option<(IpAddr, u16)>; 2],
    /// Once they were told.
    legs: Option<Arc<[LegCounts; 2]>>,
}

/// What is known of a listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListenerRow {
    /// It is open.
    pub(crate) bound: bool,
    /// Why it is not, with the mend.
    pub(crate) trouble: Option<String>,
    /// The address that is written for it, where that had to be found.
    pub(crate) found: Option<SocketAddr>,
    /// How it was found.
    pub(crate) by: &'static str,
}

impl View {
    /// A mutation of the registry.
    pub(crate) fn change(&self, change: &Change) {
        match change {
            Change::Put(Record::Binding(binding)) => {
                self.bindings.insert(binding.id, binding.clone());
            }
            Change::Put(Record::Call(call)) => match self.calls.entry(call.id) {
                Entry::Occupied(mut row) => row.get_mut().follow(call),
                Entry::Vacant(place) => drop(place.insert(Box::new(CallRow::of(call)))),
            },
            Change::Delete(Key::Binding(id)) => {
                self.bindings.remove(id);
            }
            Change::Delete(Key::Call(id)) => {
                self.calls.remove(id);
            }
        }
    }

    /// News of a media worker.
    pub(crate) fn fact(&self, fact: &Fact) {
        match fact {
            Fact::Latched { stream, epoch: _, end, component: Component::Rtp, side: _, source, moved: _ } => {
                self.streams.entry(*stream).or_default().sources[end.index()] = Some((source.0.ip(), source.0.port()));
            }
            Fact::Counted { stream, legs } => {
                self.streams.entry(*stream).or_default().legs = Some(Arc::clone(legs));
            }
            Fact::Closed { stream, legs: _ } | Fact::Failed { stream } => {
                self.streams.remove(stream);
            }
            Fact::Latched { component: Component::Rtcp, .. }
            | Fact::Silent { .. }
            | Fact::Unheard { .. }
            | Fact::Heard { .. }
            | Fact::Spliced { .. }
            | Fact::Mapped { .. }
            | Fact::Totals(_) => {}
        }
    }

    /// An event of the signalling machine. Most are for the metrics only.
    pub(crate) fn observe(&self, event: &Observed) {
        if let Observed::Upstream { upstream, state } = event {
            self.upstreams.insert(*upstream, *state);
        } else if let Observed::UpstreamTransport { upstream, transport } = event {
            self.transports.insert(*upstream, *transport);
        } else if let Observed::AdvertisedChanged { listener, address, by } = event {
            let mut row = self.listeners.entry(listener.0).or_default();
            row.found = *address;
            row.by = by;
        }
    }

    /// By which transport an upstream is reached, where it has several and that is known.
    pub(crate) fn transport(&self, upstream: usize) -> Option<Transport> {
        self.transports.get(&upstream).map(|transport| *transport)
    }

    /// A listener was opened, or could not be.
    pub(crate) fn listener(&self, listener: ListenerId, opened: Result<(), String>) {
        let mut row = self.listeners.entry(listener.0).or_default();
        row.bound = opened.is_ok();
        row.trouble = opened.err();
    }

    /// A listener is configured no longer.
    pub(crate) fn listener_gone(&self, listener: ListenerId) {
        self.listeners.remove(&listener.0);
    }

    /// The address that was found for a listener is written no longer.
    pub(crate) fn address_unknown(&self, listener: ListenerId) {
        if let Some(mut row) = self.listeners.get_mut(&listener.0) {
            row.found = None;
        }
    }

    /// Places in lists of the configuration mean something else now.
    pub(crate) fn forget_places(&self) {
        self.upstreams.clear();
        self.transports.clear();
        self.ports.clear();
    }

    /// What is known of a listener.
    pub(crate) fn listener_row(&self, listener: ListenerId) -> ListenerRow {
        self.listeners.get(&listener.0).map(|row| row.clone()).unwrap_or_default()
    }

    /// Whether media goes through TURN, and how that is going.
    pub(crate) fn turn(&self, why: Option<Why>, allocated: usize, trouble: Option<Failure>) {
        self.turn.insert((), TurnRow { why, allocated, trouble });
    }

    /// What is known of TURN.
    pub(crate) fn turn_row(&self) -> TurnRow {
        self.turn.get(&()).map(|row| *row).unwrap_or_default()
    }

    /// A worker runs, or has ended.
    pub(crate) fn worker(&self, worker: u8, alive: bool) {
        self.workers.insert(worker, alive);
    }

    /// Streams are forwarded in the kernel where that can be done.
    pub(crate) fn kernel(&self, used: bool) {
        self.kernel.store(used, Ordering::Relaxed);
    }

    /// Are they?
    pub(crate) fn in_kernel(&self) -> bool {
        self.kernel.load(Ordering::Relaxed)
    }

    /// Figures of a pool.
    pub(crate) fn ports(&self, ip: IpAddr, range: media::RangeId, counts: media::ports::Counts) {
        self.ports.insert((ip, range.0), counts);
    }

    /// Bindings now.
    pub(crate) fn bound(&self) -> usize {
        self.bindings.len()
    }

    /// Calls of a kind in a state.
    pub(crate) fn calls(&self, kind: CallKind, state: CallState) -> usize {
        self.calls.iter().filter(|row| row.kind == kind && row.state == state).count()
    }

    /// True when no call is up.
    pub(crate) fn quiet(&self) -> bool {
        self.calls.iter().all(|row| row.kind != CallKind::Invite)
    }

    /// Media workers that run.
    pub(crate) fn workers_alive(&self) -> usize {
        self.workers.iter().filter(|alive| **alive).count()
    }

    /// Open and waiting listeners.
    pub(crate) fn listeners(&self) -> (usize, usize) {
        let bound = self.listeners.iter().filter(|row| row.bound).count();
        (bound, self.listeners.len() - bound)
    }

    /// Figures of the pools of a range, over all local addresses.
    pub(crate) fn range(&self, range: usize) -> media::ports::Counts {
        let mut sum = media::ports::Counts::default();
        for row in self.ports.iter().filter(|row| usize::from(row.key().1) == range) {
            sum.total += row.total;
            sum.free += row.free;
            sum.idle += row.idle;
            sum.live += row.live;
            sum.resting += row.resting;
        }
        sum
    }

    /// True when the address of every listener of the side that asks STUN is known.
    pub(crate) fn stun_up(&self, config: &proxy::Config, side: Side) -> bool {
        let mut asking = config.listeners.iter().enumerate().filter(|(_, l)| l.side == side && asks(l)).peekable();
        asking.peek().is_some()
            && asking.all(|(index, _)| {
                u16::try_from(index).is_ok_and(|id| self.listener_row(ListenerId(id)).found.is_some())
            })
    }

    /// Why the daemon is not ready to serve; empty when it is.
    pub(crate) fn troubles(&self, config: &proxy::Config) -> Vec<String> {
        let mut troubles = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate().filter(|(_, listener)| !listener.retired) {
            let row = u16::try_from(index).map(|id| self.listener_row(ListenerId(id))).unwrap_or_default();
            if listener.accepts && !row.bound {
                let why = row.trouble.unwrap_or_else(|| "not yet opened".to_owned());
                troubles.push(format!("listener {} {} is not open: {why}", listener.transport.label(), listener.bind));
            }
        }
        let turn = self.turn_row();
        if let (Some(_), Some(trouble)) = (turn.why, turn.trouble) {
            troubles.push(format!("media needs the TURN server: {}", trouble.in_words()));
        }
        let alive = self.workers_alive();
        if alive < usize::from(config.media.workers) {
            troubles.push(format!("{alive} of {} media workers run", config.media.workers));
        }
        troubles
    }
}

/// For people: whether media goes through a TURN server, and why.
pub(crate) fn relayed(row: &TurnRow) -> String {
    let state = match row.why {
        None => return "not needed now".to_owned(),
        Some(Why::Dependent) => "in use: the NAT is symmetric",
        Some(Why::Blocked) => "in use: no STUN server answers, UDP seems blocked",
    };
    match row.trouble {
        Some(trouble) if row.allocated == 0 => format!("{state}; NOT WORKING: {}", trouble.in_words()),
        Some(_) | None => format!("{state}; {} port pairs relayed", row.allocated),
    }
}

/// True when the listener asks STUN for its address; one for connections has that of its neighbour.
pub(crate) fn asks(listener: &proxy::config::Listener) -> bool {
    !listener.retired
        && listener.transport == wire::Transport::Udp
        && matches!(listener.advertise, nat::Advertise::Stun | nat::Advertise::StunAddress)
}

impl CallRow {
    /// It is this now. Who is in it seldom changes.
    fn follow(&mut self, call: &Call) {
        (self.kind, self.state, self.answered, self.phone) = (call.kind, call.state, call.answered, call.phone);
        self.since = call.since;
        if !Arc::ptr_eq(&self.from, &call.caller.identity) {
            self.from.clone_from(&call.caller.identity);
        }
        let to = call.callees.first().map(|callee| &callee.identity);
        if self.to.as_ref().map(Arc::as_ptr) != to.map(Arc::as_ptr) {
            self.to = to.cloned();
        }
        if !Arc::ptr_eq(&self.streams, &call.streams) {
            self.streams.clone_from(&call.streams);
        }
    }

    fn of(call: &Call) -> Self {
        Self {
            kind: call.kind,
            state: call.state,
            from: call.caller.identity.clone(),
            to: call.callees.first().map(|callee| callee.identity.clone()),
            streams: call.streams.clone(),
            since: call.since,
            answered: call.answered,
            phone: call.phone,
        }
    }
}
