//! Calls that stay up while our public address changes.
//!
//! The sockets of a leg are asked anew where they are seen, because a new
//! uplink need not keep their ports; then the far end is told by an offer that
//! says what the end behind us said last (RFC 3264 §8), with a version above
//! all that it has seen. An answer about another IP than signalling is seen
//! from now is not believed: one server alone may lie.
//!
//! Must not decide when to ask or to offer: the proxy knows which request may
//! go out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nat::{Advertise, Mapped};
use rand_core::Rng as _;
use wire::Edit;

use super::body::{As, write};
use super::session::{Pending, Session, Stream};
use super::{EndPlan, Key, News, Offers, Text, parse};
use crate::command::place;
use crate::{Command, Component, End, StreamId, Target};

/// What has been found of one leg.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sought {
    /// The only IP that is believed.
    ip: IpAddr,
    /// RTP and RTCP.
    seen: [Option<SocketAddr>; 2],
}

impl Offers {
    /// The STUN servers that sockets of a call may be told to ask.
    pub fn stun_servers(&mut self, servers: Vec<SocketAddr>) {
        self.servers = servers;
    }

    /// Toward this end we are seen as another IP than before: the legs of a session
    /// that face it are not where they were. One that was at none of the former
    /// addresses is on a TURN server, and stays.
    pub fn seek(&mut self, key: Key, end: End, former: &[Option<IpAddr>], ip: IpAddr) {
        let Some(mut session) = self.sessions.remove(&key) else { return };
        let advertise = session.ends[end.index()].advertise;
        let there = |stream: &&mut Stream| former.contains(&Some(stream.advertised[end.index()].rtp().ip()));
        for stream in session.streams.iter_mut().flatten().filter(there) {
            match advertise {
                // Its ports are forwarded as they are.
                Advertise::StunAddress => {
                    let pair = stream.legs[end.index()].pair;
                    let at = |local: SocketAddr| SocketAddr::new(ip, local.port());
                    self.readdress(stream, end, Target::new(at(pair.rtp()), at(pair.rtcp())));
                }
                Advertise::Stun => stream.sought[end.index()] = Some(Box::new(Sought { ip, seen: [None; 2] })),
                Advertise::Listen | Advertise::Ip(_) => {}
            }
        }
        self.sessions.insert(key, session);
    }

    /// Has the sockets whose address is not known yet ask; `round` picks the
    /// server. False: all are known.
    pub fn ask(&mut self, key: Key, end: End, round: usize) -> bool {
        let Some(session) = self.sessions.get(&key) else { return false };
        let mut asking = false;
        for stream in session.streams.iter().flatten().filter(|stream| stream.sought[end.index()].is_some()) {
            asking = true;
            let ipv4 = stream.legs[end.index()].pair.ip.is_ipv4();
            let family: Vec<SocketAddr> = self.servers.iter().copied().filter(|s| s.is_ipv4() == ipv4).collect();
            let Some(server) = family.get(round % family.len().max(1)) else { continue };
            let mut transactions = [[0; 12]; 2];
            transactions.iter_mut().for_each(|transaction| self.rng.fill_bytes(transaction));
            self.out.push_back(Command::Ask { stream: stream.id, end, server: *server, transactions });
        }
        asking
    }

    /// No answer will come any more: most routers leave the port as it was.
    pub fn guess(&mut self, key: Key, end: End) {
        let Some(mut session) = self.sessions.remove(&key) else { return };
        for stream in session.streams.iter_mut().flatten() {
            if let Some(Sought { ip, seen: [rtp, rtcp] }) = stream.sought[end.index()].take().map(|sought| *sought) {
                let told = stream.advertised[end.index()];
                let at = |seen: Option<SocketAddr>, told: SocketAddr| seen.unwrap_or(SocketAddr::new(ip, told.port()));
                self.readdress(stream, end, Target::new(at(rtp, told.rtp()), at(rtcp, told.rtcp())));
            }
        }
        self.sessions.insert(key, session);
    }

    /// A server has said where a socket is seen.
    pub(super) fn found(&mut self, id: StreamId, end: End, component: Component, mapped: Mapped) -> Option<News> {
        let key = *self.by_stream.get(&id)?;
        let mut session = self.sessions.remove(&key)?;
        let mut whole = false;
        if let Some(stream) = session.stream_mut(id)
            && let Some(sought) = &mut stream.sought[end.index()]
            && sought.ip == mapped.0.ip()
            && mapped.0.port() != 0
        {
            sought.seen[usize::from(component == Component::Rtcp)] = Some(mapped.0);
            let muxed = stream.muxed[end.index()];
            if let [Some(rtp), rtcp] = sought.seen
                && let Some(rtcp) = rtcp.or(muxed.then_some(stream.advertised[end.index()].rtcp()))
            {
                stream.sought[end.index()] = None;
                stream.legs[end.index()].mapped = Some(Arc::new([Mapped(rtp), Mapped(rtcp)]));
                self.readdress(stream, end, Target::new(rtp, rtcp));
                whole = session.streams.iter().flatten().all(|stream| stream.sought[end.index()].is_none());
            }
        }
        self.sessions.insert(key, session);
        whole.then_some(News::Found(key, end))
    }

    /// A leg is written as this from here on.
    fn readdress(&mut self, stream: &mut Stream, end: End, target: Target) {
        let former = std::mem::replace(&mut stream.advertised[end.index()], target);
        self.live.remove(&place(former.rtp()));
        self.live.insert(place(target.rtp()), (stream.id, end));
    }

    /// The offer that tells the other end of `by` where its legs are now: what
    /// `by` said last in the dialog with this callee. `None` where nothing was
    /// agreed on, or somebody's offer waits for its answer. It is answered, or
    /// has failed, like any other ([`Offers::answer`], [`Offers::fail`]).
    pub fn offer_again(&mut self, key: Key, leg: u8, by: End, ends: [EndPlan; 2]) -> Option<Vec<u8>> {
        if self.pending(key, leg, End::A) || self.pending(key, leg, End::B) {
            return None;
        }
        let mut session = self.sessions.remove(&key)?;
        let said = session.agreed(leg).and_then(|agreed| agreed.media(by).body.clone());
        let offer = said.and_then(|body| self.say_again(&mut session, leg, by, ends, &body));
        self.sessions.insert(key, session);
        offer
    }

    fn say_again(
        &mut self,
        session: &mut Session,
        leg: u8,
        by: End,
        ends: [EndPlan; 2],
        body: &Arc<[u8]>,
    ) -> Option<Vec<u8>> {
        let to = by.other();
        let text = Text { whole: body, body };
        let sdp = parse(text.body).ok()?;
        let read = self.read(&sdp, &ends[by.index()]).ok()?;
        let read = Pending { body: Some(Arc::clone(body)), ..read };
        session.ends = ends;
        session.raised[to.index()] += 1;
        session.ice[to.index()].restart(&mut self.rng);
        session.said(by, &read.media);
        let mut edit = Edit::new();
        write(session, to, As::Offer, text.whole, &sdp, &mut edit);
        session.told(to);
        session.offered(leg, by, read, Vec::new());
        let mut out = Vec::with_capacity(body.len() + 64);
        edit.apply(body, &mut out);
        Some(out)
    }
}
