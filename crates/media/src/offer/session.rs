//! One session: its streams, and the offers that await an answer.

use std::sync::Arc;

use nat::ice_lite::Agent;
use wire::sdp::Body;

use super::EndPlan;
use super::body::{on_hold, signalled};
use super::crypto;
use super::formats;
use super::ice::{Ours, Said};
use super::moved::Sought;
use super::tcp;
use crate::command::Proto;
use crate::ports::Ready;
use crate::quality::Formats;
use crate::srtp::Key;
use crate::{Early, End, LegPlan, Sources, StreamId, Target};

/// Streams and pending offers of one branch of a call.
#[derive(Debug)]
pub(super) struct Session {
    /// End A and B, as of the last offer/answer.
    pub(super) ends: [EndPlan; 2],
    /// One place per m-line.
    pub(super) streams: Vec<Option<Stream>>,
    /// The dialogs of this branch: the INVITE's own offer first, then the callees by their legs.
    forks: Vec<Fork>,
    /// Whose 2xx came first: its exchanges alone move the streams while its dialog stands (RFC 3960).
    pub(super) owner: Option<u8>,
    /// Whose exchange the streams follow.
    pub(super) shown: Option<u8>,
    /// Counts completed offer/answers.
    pub(super) epoch: u32,
    /// Counts offers.
    asked: u32,
    /// An answer was final.
    pub(super) established: bool,
    /// One end holds.
    pub(super) held: bool,
    /// Our ICE toward end A and B.
    pub(super) ice: [Ours; 2],
    /// By how much the version in `o=` is raised toward end A and B, because
    /// we have offered in between (RFC 3264 §8).
    pub(super) raised: [u32; 2],
}

impl Session {
    pub(super) fn new(ends: [EndPlan; 2]) -> Self {
        Self {
            ends,
            streams: Vec::new(),
            forks: Vec::new(),
            owner: None,
            shown: None,
            epoch: 0,
            asked: 0,
            established: false,
            held: false,
            ice: Default::default(),
            raised: [0; 2],
        }
    }

    fn fork(&self, leg: u8) -> Option<&Fork> {
        self.forks.iter().find(|fork| fork.leg == leg)
    }

    /// The dialog with this callee, which may be new. Of too many the oldest that does not own the streams is forgotten.
    fn fork_mut(&mut self, leg: u8) -> &mut Fork {
        let at = self.forks.iter().position(|fork| fork.leg == leg).unwrap_or_else(|| {
            if self.forks.len() >= MOST_FORKS
                && let Some(oldest) = self.forks.iter().position(|f| f.leg != INVITE && Some(f.leg) != self.owner)
            {
                self.forks.remove(oldest);
            }
            // The INVITE's own and that of one callee, as a rule.
            self.forks.reserve_exact(if self.forks.is_empty() { 2 } else { 1 });
            self.forks.push(Fork { leg, ..Fork::default() });
            self.forks.len() - 1
        });
        &mut self.forks[at]
    }

    /// An offer of `by` in the dialog with this callee; that of the INVITE itself begins a new round of dialogs.
    pub(super) fn offered(&mut self, leg: u8, by: End, read: Pending, opened: Vec<usize>) {
        if leg == INVITE && !self.established {
            self.forks.retain(|fork| fork.leg == INVITE);
            self.shown = None;
        }
        self.asked = self.asked.wrapping_add(1).max(1);
        let number = self.asked;
        let pending = &mut self.fork_mut(leg).pending[by.index()];
        // What an earlier one opened is this one's, too.
        let before = pending.take();
        let before = before.as_ref().map(|before| &before.opened[..]).unwrap_or_default();
        *pending = Some(Arc::new(Pending { opened: [before, &opened].concat().into(), number, ..read }));
    }

    /// How many streams the offer of `by` that waits in this dialog has opened.
    pub(super) fn opened(&self, leg: u8, by: End) -> usize {
        self.fork(leg).and_then(|fork| fork.pending[by.index()].as_ref()).map_or(0, |pending| pending.opened.len())
    }

    /// The offer of `by` that this callee has not answered: its dialog's own, or else that of the INVITE, which each fork answers for itself.
    pub(super) fn asked(&self, leg: u8, by: End) -> Option<&Arc<Pending>> {
        let fork = self.fork(leg);
        fork.and_then(|fork| fork.pending[by.index()].as_ref()).or_else(|| {
            let all = self.fork(INVITE).filter(|_| fork.is_none_or(|fork| !fork.settled))?;
            all.pending[by.index()].as_ref()
        })
    }

    /// The same, which is answered now.
    pub(super) fn take_asked(&mut self, leg: u8, by: End) -> Option<Arc<Pending>> {
        let asked = self.asked(leg, by).cloned();
        let fork = self.fork_mut(leg);
        fork.settled = true;
        fork.pending[by.index()] = None;
        asked
    }

    /// The offer of `by` in this dialog was refused.
    pub(super) fn take_refused(&mut self, leg: u8, by: End) -> Option<Arc<Pending>> {
        self.fork_mut(leg).pending[by.index()].take()
    }

    /// What was offered and answered last in this dialog.
    pub(super) fn agree(&mut self, leg: u8, agreed: Agreed) {
        self.fork_mut(leg).agreed = Some(agreed);
    }

    pub(super) fn agreed(&self, leg: u8) -> Option<&Agreed> {
        self.fork(leg)?.agreed.as_ref()
    }

    /// What this end said of a line in the exchange that the streams follow.
    pub(super) fn agreed_line(&self, end: End, line: usize) -> Option<&Line> {
        self.agreed(self.shown?)?.media(end).media.get(line)
    }

    /// Other callees than this one have said where their media is.
    pub(super) fn has_rivals(&self, leg: u8) -> bool {
        self.forks.iter().any(|fork| fork.leg != leg && fork.agreed.is_some())
    }

    /// On this line another callee has its media at the same address, and another port.
    fn rivals(&self, line: usize) -> bool {
        let at = |fork: &Fork| {
            let agreed = fork.agreed.as_ref()?;
            agreed.media(End::B).media.get(line)?.target.map(|target| target.rtp())
        };
        let shown = self.shown.and_then(|leg| self.fork(leg)).and_then(at);
        let rival = |fork: &Fork| at(fork).zip(shown).is_some_and(|(a, b)| a != b && a.ip() == b.ip());
        self.forks.iter().any(rival)
    }

    /// What the worker must know of a stream.
    pub(super) fn plans(&self, line: usize, stream: &Stream) -> Box<[LegPlan; 2]> {
        let mut plans = stream.plans(&self.ends);
        let sources = &mut plans[End::B.index()].sources;
        // Its port alone tells the callee that answered from one that goes on ringing there.
        if sources.exact.is_some() && self.rivals(line) {
            sources.ips = [None; 2];
        }
        plans
    }

    /// Makes room for an m-line.
    pub(super) fn reach(&mut self, line: usize) {
        if self.streams.len() <= line {
            self.streams.reserve_exact(line + 1 - self.streams.len());
            self.streams.resize_with(line + 1, || None);
        }
    }

    /// An end says this of the m-lines.
    pub(super) fn said(&mut self, by: End, lines: &[Line]) {
        for (stream, line) in self.streams.iter_mut().zip(lines) {
            if let Some(stream) = stream {
                stream.said[by.index()] = line.spoken();
            }
        }
    }

    /// This end gets SDP that names our pairs.
    pub(super) fn told(&mut self, end: End) {
        self.streams.iter_mut().flatten().for_each(|stream| stream.told[end.index()] = true);
    }

    pub(super) fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.iter_mut().flatten().find(|s| s.id == id)
    }
}

/// The leg that stands for the INVITE itself, before anybody has said who answers it.
pub(super) const INVITE: u8 = 0;
/// Dialogs of one branch that are told apart; a core may fork without end.
const MOST_FORKS: usize = 8;

/// The offers and answers of one dialog.
#[derive(Debug, Default)]
struct Fork {
    /// The callee's, or [`INVITE`].
    leg: u8,
    /// Unanswered offers by end A and B (both at once is glare, which the ends settle by 491).
    pending: [Option<Arc<Pending>>; 2],
    /// It has answered the INVITE's offer for good.
    settled: bool,
    /// The last exchange, a preview included.
    agreed: Option<Agreed>,
}

/// An offer and its answer.
#[derive(Debug, Clone)]
pub(super) struct Agreed {
    /// Who answered.
    pub(super) by: End,
    pub(super) offer: Arc<Pending>,
    pub(super) answer: Arc<Pending>,
}

impl Agreed {
    /// What this end said.
    pub(super) fn media(&self, end: End) -> &Pending {
        if self.by == end { &self.answer } else { &self.offer }
    }

    /// This line is refused by either end.
    pub(super) fn refuses(&self, line: usize) -> bool {
        [&self.offer, &self.answer].into_iter().any(|said| said.media.get(line).is_some_and(|line| line.refused))
    }
}

/// Ports of a new stream, facing end A and B, and what is written for them.
pub(super) struct Pairs {
    pub(super) legs: [Ready; 2],
    pub(super) advertised: [Target; 2],
}

/// One relayed m-line.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    /// Port pairs facing end A and B.
    pub(super) legs: [Ready; 2],
    /// What is written for them.
    pub(super) advertised: [Target; 2],
    /// What end A and B said in SDP.
    pub(super) targets: [Option<Target>; 2],
    /// What is known so far of where each leg's sockets are seen now, while that is asked.
    pub(super) sought: [Option<Box<Sought>>; 2],
    /// Which end has been told the address of its pair.
    pub(super) told: [bool; 2],
    /// The stream of ours that a leg faces, in a spiral.
    pub(super) joined: [Option<(StreamId, End)>; 2],
    /// What end A and B said of it last.
    pub(super) said: [Spoken; 2],
    /// Legs whose RTCP shares the RTP socket (RFC 5761).
    pub(super) muxed: [bool; 2],
    /// Legs with ICE.
    pub(super) ice: [Option<Box<Agent>>; 2],
    /// Keys that end A and B send with, where they are known.
    pub(super) srtp: [Arc<[Key]>; 2],
    /// What the worker takes it for.
    pub(super) proto: Proto,
    /// The splice, where TCP is spoken or at least asked for.
    pub(super) tcp: Option<Box<tcp::State>>,
    /// What the worker knows of its payload types.
    pub(super) formats: Option<Arc<Formats>>,
    /// The worker reported silence, and nothing since.
    pub(super) silent: bool,
    /// Packets heard when last counted.
    pub(super) heard: u64,
}

impl Stream {
    pub(super) fn new(id: StreamId, Pairs { legs, advertised }: Pairs) -> Self {
        Self {
            id,
            legs,
            advertised,
            targets: [None; 2],
            sought: Default::default(),
            told: [false; 2],
            joined: [None; 2],
            said: Default::default(),
            muxed: [false; 2],
            ice: [None, None],
            srtp: Default::default(),
            proto: Proto::Rtp,
            tcp: None,
            formats: None,
            silent: false,
            heard: 0,
        }
    }

    /// Its octets go through a splice: a worker hears nothing of it.
    pub(super) fn is_tcp(&self) -> bool {
        self.tcp.as_ref().is_some_and(|tcp| tcp.agreed)
    }

    /// What the worker must know.
    pub(super) fn plans(&self, ends: &[EndPlan; 2]) -> Box<[LegPlan; 2]> {
        let plans = Box::new([self.plan(End::A, &ends[0]), self.plan(End::B, &ends[1])]);
        if self.is_tcp() { tcp::silent(plans) } else { plans }
    }

    fn plan(&self, which: End, end: &EndPlan) -> LegPlan {
        let target = self.targets[which.index()];
        let private = target.is_some_and(|t| nat::address::is_private(t.rtp().ip()));
        let proven = |ip| target.is_some_and(|t| t.rtp().ip() == ip && t.rtcp().ip() == ip);
        let (sources, early) = match end.signalled_from {
            None => (
                Sources {
                    exact: target,
                    ips: [target.map(|t| t.rtp().ip()), target.map(|t| t.rtcp().ip())],
                    prefixes: end.prefixes.clone(),
                },
                Early::Uncapped,
            ),
            Some(ip) => (
                Sources { exact: target.filter(|_| !private), ips: [Some(ip), None], prefixes: end.prefixes.clone() },
                if proven(ip) {
                    Early::Proven
                } else if private && !end.private_targets {
                    Early::Never
                } else {
                    Early::Capped
                },
            ),
        };
        let (muxed, ice) = (self.muxed[which.index()], self.ice[which.index()].clone());
        // Who checks has not consented before its first check (RFC 7675 §5.1); what ALGs have made of it, we cannot know.
        let early = match early {
            Early::Uncapped | Early::Proven if ice.is_some() && self.said[which.index()].ice.checks() => Early::Capped,
            Early::Never | Early::Capped | Early::Proven | Early::Uncapped => early,
        };
        LegPlan {
            pair: self.legs[which.index()].pair,
            side: end.side,
            target,
            sources,
            early,
            open: end.open,
            muxed,
            ice,
            srtp: Arc::clone(&self.srtp[which.index()]),
        }
    }
}

/// What one offer or answer said of each m-line.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    pub(super) media: Box<[Line]>,
    /// What its payload types mean.
    pub(super) formats: Box<[Formats]>,
    /// What it says of SRTP keys.
    pub(super) crypto: Box<[crypto::Said]>,
    /// Some section asks for less than both directions.
    pub(super) held: bool,
    /// m-lines whose streams this offer opened.
    pub(super) opened: Box<[usize]>,
    /// Which offer of the session it is.
    pub(super) number: u32,
    /// The body as it came, where we may have to say it again.
    pub(super) body: Option<Arc<[u8]>>,
}

/// What it said of one m-line.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// Port 0.
    pub(super) refused: bool,
    /// `a=rtcp-mux`.
    pub(super) muxed: bool,
    /// Of ICE.
    pub(super) ice: Said,
    /// What the section carries; `None` if it was not there.
    pub(super) proto: Option<Proto>,
    /// Of TCP, if it is that.
    pub(super) tcp: Option<Box<tcp::Said>>,
    target: Option<Target>,
}

/// What counts of that beyond the exchange in which it was said.
#[derive(Debug, Clone, Default)]
pub(super) struct Spoken {
    /// As of [`Line::muxed`].
    pub(super) muxed: bool,
    /// As of [`Line::ice`].
    pub(super) ice: Said,
    /// As of [`Line::tcp`].
    pub(super) tcp: Option<Box<tcp::Said>>,
}

impl Line {
    /// What a stream remembers of it.
    pub(super) fn spoken(&self) -> Spoken {
        Spoken { muxed: self.muxed, ice: self.ice, tcp: self.tcp.clone() }
    }

    /// With mux agreed on both sides RTCP goes where RTP goes (RFC 5761 §5.1.1).
    pub(super) fn target(&self, muxed: bool) -> Option<Target> {
        self.target.map(|t| if muxed { Target::new(t.rtp(), t.rtp()) } else { t })
    }
}

impl Pending {
    /// Reads a body.
    pub(super) fn read(sdp: &Body<'_>, end: &EndPlan) -> Self {
        let line = |(line, m): (usize, &wire::sdp::Media<'_>)| Line {
            refused: m.port == 0,
            muxed: m.rtcp_mux,
            ice: if tcp::is(m.protocol) { Said::Nothing } else { Said::of(sdp, m, line) },
            proto: Some(if m.protocol.eq_ignore_ascii_case(b"udptl") { Proto::Udptl } else { Proto::Rtp }),
            tcp: tcp::Said::read(sdp, m, end).map(Box::new),
            target: signalled(sdp, m, end).filter(|_| !tcp::is(m.protocol)),
        };
        let media: Box<[Line]> = sdp.media.iter().enumerate().map(line).collect();
        let held = |(m, line): (&wire::sdp::Media<'_>, &Line)| {
            m.port != 0 && !tcp::is(m.protocol) && on_hold(sdp, m, line.ice != Said::Nothing)
        };
        Self {
            held: sdp.media.iter().zip(&media).any(held),
            media,
            formats: sdp.media.iter().map(formats::read).collect(),
            crypto: crypto::Said::read(sdp).into(),
            ..Self::default()
        }
    }
}
