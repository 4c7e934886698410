//! What one worker has in the kernel: a rule for each socket whose packets may
//! pass unseen, put when they have been judged alike and taken back before
//! anything is judged that depends on what has passed.
//!
//! | event | what happens to the rule | what the relay is told |
//! | --- | --- | --- |
//! | a batch has been judged and sent, the stream has a pace | put | – |
//! | RTP of the held source came up: it does not continue the stream | taken; put again after the batch | all that passed |
//! | anything else came up on the socket | stays | all that passed |
//! | a timer of the stream is due | stays | all that passed |
//! | a command for the stream | void from the moment at which it is put; taken when it is obeyed; put again after the next packet | all that passed |
//! | the hold is over | taken | what passed counts |
//!
//! The program takes a packet only if it is the very next of its stream. So one
//! that is still on its way up is never overtaken: those behind it come up, too.
//! Must not decide what may pass: `Relay::pace` does. Must not wait for the
//! kernel: which way a stream leaves is asked, and known some packets later.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use media::{Component, End, Hold, Passed, Relay, Slot};
use socket2::SockRef;
use wire::demux::{self, Media};

use super::Kernel;
use super::routes::Passage;
use super::rule::{Known, Rule};
use super::rules::{Held, Standing};
use crate::clock;
use crate::datapath::epoll::Backend;
use crate::datapath::handle::Shared;

/// So many packets must have passed for a rule to have been worth its while.
const WORTH: u8 = 8;
/// At most so many packets are judged here before a rule is tried once more.
const REST: u8 = 128;

/// The rules of one worker.
#[derive(Debug)]
pub(in crate::datapath) struct Offload {
    kernel: Arc<Kernel>,
    worker: u8,
    shared: Arc<Shared>,
    /// How many orders were obeyed, by slot of the stream.
    obeyed: Vec<u32>,
    /// By slot of the RTP sockets, halved.
    lanes: Vec<Option<Box<Lane>>>,
    /// Sockets whose rule may be put after this batch.
    again: Vec<Slot>,
    batch: u64,
}

#[derive(Debug)]
struct Lane {
    hold: Hold,
    /// Its rule in the kernel.
    inside: Option<Inside>,
    /// Its rule is put after this batch, if it has a pace.
    again: bool,
    /// In which batch was asked last what had passed.
    looked: u64,
    /// As of its epoch.
    passage: Option<Arc<Passage>>,
    /// Packets to be judged here before the next rule, and how many it will be then.
    rest: u8,
    rests: u8,
}

#[derive(Debug, Clone, Copy)]
struct Inside {
    rule: Held,
    /// Of the stream, when the rule was put.
    sequence: u32,
    /// What the relay knows of.
    told: Standing,
}

impl Offload {
    /// Nothing in the kernel yet.
    pub(in crate::datapath) fn new(kernel: Arc<Kernel>, worker: u8, shared: Arc<Shared>) -> Self {
        Self { kernel, worker, shared, obeyed: Vec::new(), lanes: Vec::new(), again: Vec::new(), batch: 1 }
    }

    /// This holds from now on.
    pub(in crate::datapath) fn hold(&mut self, hold: Hold) {
        if hold.on.component() == Component::Rtcp {
            return;
        }
        let at = (hold.on.0 / 2) as usize;
        if self.lanes.len() <= at {
            self.lanes.resize_with(at + 1, || None);
        }
        self.lanes[at] =
            Some(Box::new(Lane { hold, inside: None, again: true, looked: 0, passage: None, rest: 0, rests: 0 }));
        self.again.push(hold.on);
    }

    /// It holds no more.
    pub(in crate::datapath) fn free(&mut self, relay: &mut Relay, on: Slot) {
        self.withdraw(relay, on);
        if on.component() == Component::Rtp
            && let Some(lane) = self.lanes.get_mut((on.0 / 2) as usize)
        {
            *lane = None;
        }
    }

    /// A packet came up, and is judged next.
    #[inline]
    pub(in crate::datapath) fn before(&mut self, relay: &mut Relay, on: Slot, from: SocketAddr, packet: &[u8]) {
        let on = Slot(on.0 & !1);
        let Some(Some(lane)) = self.lanes.get_mut((on.0 / 2) as usize) else { return };
        let next = lane.hold.from == from && demux::media(packet) == Media::Rtp;
        if next && !lane.again {
            lane.again = true;
            self.again.push(on);
        }
        if lane.inside.is_none() {
            return;
        }
        if next {
            self.withdraw(relay, on);
        } else if lane.looked != self.batch {
            lane.looked = self.batch;
            self.look(relay, on);
        }
    }

    /// What has passed on a stream's sockets is to be known.
    pub(in crate::datapath) fn look_at(&mut self, relay: &mut Relay, stream: u32) {
        for end in [End::A, End::B] {
            self.look(relay, Slot::of(stream, end, Component::Rtp));
        }
    }

    /// An order for this stream has been taken, and is obeyed before the next rule is put.
    pub(in crate::datapath) fn obey(&mut self, stream: u32) {
        let at = stream as usize;
        if self.obeyed.len() <= at {
            self.obeyed.resize(at + 1, 0);
        }
        self.obeyed[at] = self.obeyed[at].wrapping_add(1);
    }

    /// A stream is about to change.
    pub(in crate::datapath) fn recall(&mut self, relay: &mut Relay, stream: u32) {
        for end in [End::A, End::B] {
            let on = Slot::of(stream, end, Component::Rtp);
            self.withdraw(relay, on);
            if let Some(lane) = lane(&mut self.lanes, on) {
                lane.passage = None;
            }
        }
    }

    /// A batch has been judged and sent.
    pub(in crate::datapath) fn after(&mut self, relay: &Relay, backend: &Backend) {
        self.batch += 1;
        let mut again = std::mem::take(&mut self.again);
        for on in again.drain(..) {
            self.put(relay, backend, on);
        }
        self.again = again;
    }

    fn put(&mut self, relay: &Relay, backend: &Backend, on: Slot) {
        let Some(lane) = lane(&mut self.lanes, on) else { return };
        lane.again = false;
        if lane.inside.is_some() || lane.rest > 0 {
            lane.rest = lane.rest.saturating_sub(1);
            return;
        }
        let Some(pace) = relay.pace(on) else { return };
        let Some(epoch) = self.kernel.epoch() else { return };
        let passage = match &lane.passage {
            Some(passage) if passage.epoch == epoch => passage,
            Some(_) | None => {
                let stream = self.kernel.number(self.worker, on.stream());
                let passage = stream.and_then(|stream| passage(&self.kernel, backend, &lane.hold, epoch, stream));
                let Some(passage) = passage.map(Arc::new).filter(|passage| self.kernel.ask(passage)) else {
                    lane.rest = REST;
                    return;
                };
                lane.passage.insert(passage)
            }
        };
        // Not known yet, and one of the next packets looks again; or there is no way.
        let Some(exit) = passage.exit() else { return };
        let orders = self.obeyed.get(on.stream() as usize).copied().unwrap_or_default();
        let known = Known { epoch, orders };
        match self.kernel.rules().put(passage.place, &Rule::new(known, passage.local, lane.hold.from, &exit, &pace)) {
            Some((rule, told)) => lane.inside = Some(Inside { rule, sequence: told.highest, told }),
            None => {
                tracing::debug!("no room for a rule");
                lane.rest = REST;
            }
        }
    }

    /// Takes the rule of a socket, if it has one, and tells what has passed.
    fn withdraw(&mut self, relay: &mut Relay, on: Slot) {
        let Some(lane) = lane(&mut self.lanes, on) else { return };
        let Some(mut inside) = lane.inside.take() else { return };
        let Some(now) = self.kernel.rules().take(inside.rule) else { return };
        inside.tell(&self.shared, relay, &lane.hold, now);
        // A sender whose numbers do not go on is not worth a rule a packet.
        let worth = now.highest.wrapping_sub(inside.sequence) >= WORTH.into();
        lane.rests = if worth { 0 } else { lane.rests.saturating_mul(2).saturating_add(1).min(REST) };
        lane.rest = if lane.rests > WORTH { lane.rests } else { 0 };
    }

    fn look(&mut self, relay: &mut Relay, on: Slot) {
        let Some(lane) = lane(&mut self.lanes, on) else { return };
        if let Some(inside) = &mut lane.inside
            && let Some(now) = self.kernel.rules().look(inside.rule)
        {
            inside.tell(&self.shared, relay, &lane.hold, now);
        }
    }
}

impl Inside {
    fn tell(&mut self, shared: &Shared, relay: &mut Relay, hold: &Hold, now: Standing) {
        let packets = now.highest.wrapping_sub(self.told.highest).into();
        if packets == 0 {
            return;
        }
        let bytes = now.bytes.wrapping_sub(self.told.bytes);
        let (at, timestamp, jitter) = (clock::of_boot(now.at), now.timestamp, now.jitter);
        self.told = now;
        relay.passed(hold, &Passed { packets, bytes, at, timestamp, jitter });
        shared.counts.kernel.fetch_add(packets, Ordering::Relaxed);
    }
}

fn lane(lanes: &mut [Option<Box<Lane>>], on: Slot) -> Option<&mut Lane> {
    lanes.get_mut((on.0 / 2) as usize)?.as_deref_mut().filter(|lane| lane.hold.on == on)
}

/// What is to be found out for this hold, if it is of a kind that the program can serve.
fn passage(kernel: &Kernel, backend: &Backend, hold: &Hold, epoch: u32, stream: u32) -> Option<Passage> {
    let (entry, socket) = (backend.plain(hold.on)?, backend.plain(hold.via)?);
    let (local, from) = (entry.local_addr().ok()?, socket.local_addr().ok()?);
    let ipv4 = local.is_ipv4();
    let addresses = [local, hold.from, from, hold.to].map(|address| address.ip());
    let plain = |ip: &IpAddr| {
        let scoped = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some());
        ip.is_ipv4() == ipv4 && !ip.is_unspecified() && !ip.is_multicast() && !scoped
    };
    if !addresses.iter().all(plain) {
        return None;
    }
    let place = kernel.rules().place(local, stream, hold.on.end())?;
    let socket = SockRef::from(socket);
    let (tos, ttl) = if ipv4 {
        (socket.tos_v4().ok()?, socket.ttl_v4().ok()?)
    } else {
        (socket.tclass_v6().ok()?, socket.unicast_hops_v6().ok()?)
    };
    let (tos, ttl) = (u8::try_from(tos).ok()?, u8::try_from(ttl).ok()?);
    let (source, to) = (hold.from.ip(), hold.to);
    Some(Passage { epoch, place, local, source, from, to, tos, ttl, found: OnceLock::new() })
}
