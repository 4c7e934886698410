//! One session: its streams, and the offers that await an answer.

use std::sync::Arc;

use nat::ice_lite::Agent;
use wire::sdp::Body;

use super::EndPlan;
use super::body::{on_hold, signalled};
use super::formats;
use super::ice::{Ours, Said};
use crate::command::Proto;
use crate::ports::Ready;
use crate::quality::Formats;
use crate::{Early, End, LegPlan, Sources, StreamId, Target};

/// Streams and pending offers of one branch of a call.
#[derive(Debug)]
pub(super) struct Session {
    /// End A and B, as of the last offer/answer.
    pub(super) ends: [EndPlan; 2],
    /// One place per m-line.
    pub(super) streams: Vec<Option<Stream>>,
    /// Unanswered offers by end A and B (both at once is glare, which the ends settle by 491).
    pub(super) pending: [Option<Pending>; 2],
    /// Counts completed offer/answers.
    pub(super) epoch: u32,
    /// An answer was final.
    pub(super) established: bool,
    /// One end holds.
    pub(super) held: bool,
    /// Our ICE toward end A and B.
    pub(super) ice: [Ours; 2],
}

impl Session {
    pub(super) fn new(ends: [EndPlan; 2]) -> Self {
        Self {
            ends,
            streams: Vec::new(),
            pending: [None, None],
            epoch: 0,
            established: false,
            held: false,
            ice: Default::default(),
        }
    }

    /// Makes room for an m-line.
    pub(super) fn reach(&mut self, line: usize) {
        if self.streams.len() <= line {
            self.streams.resize_with(line + 1, || None);
        }
    }

    /// An end says this of the m-lines.
    pub(super) fn said(&mut self, by: End, lines: &[Line]) {
        for (stream, line) in self.streams.iter_mut().zip(lines) {
            if let Some(stream) = stream {
                stream.said[by.index()] = *line;
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
    /// Which end has been told the address of its pair.
    pub(super) told: [bool; 2],
    /// The stream of ours that a leg faces, in a spiral.
    pub(super) joined: [Option<(StreamId, End)>; 2],
    /// What end A and B said of it last.
    pub(super) said: [Line; 2],
    /// Legs whose RTCP shares the RTP socket (RFC 5761).
    pub(super) muxed: [bool; 2],
    /// Legs with ICE.
    pub(super) ice: [Option<Box<Agent>>; 2],
    /// What the worker takes it for.
    pub(super) proto: Proto,
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
            told: [false; 2],
            joined: [None; 2],
            said: [Line::default(); 2],
            muxed: [false; 2],
            ice: [None, None],
            proto: Proto::Rtp,
            formats: None,
            silent: false,
            heard: 0,
        }
    }

    /// What the worker must know.
    pub(super) fn plans(&self, ends: &[EndPlan; 2]) -> Box<[LegPlan; 2]> {
        Box::new([self.plan(End::A, &ends[0]), self.plan(End::B, &ends[1])])
    }

    fn plan(&self, which: End, end: &EndPlan) -> LegPlan {
        let target = self.targets[which.index()];
        let private = target.is_some_and(|t| nat::address::is_private(t.rtp.ip()));
        let proven = |ip| target.is_some_and(|t| t.rtp.ip() == ip && t.rtcp.ip() == ip);
        let (sources, early) = match end.signalled_from {
            None => (
                Sources {
                    exact: target,
                    ips: [target.map(|t| t.rtp.ip()), target.map(|t| t.rtcp.ip())],
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
        }
    }
}

/// What one offer or answer said of each m-line.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    pub(super) media: Vec<Line>,
    /// What its payload types mean.
    pub(super) formats: Vec<Formats>,
    /// Some section asks for less than both directions.
    pub(super) held: bool,
    /// m-lines whose streams this offer opened.
    pub(super) opened: Vec<usize>,
}

/// What it said of one m-line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Line {
    /// Port 0.
    pub(super) refused: bool,
    /// `a=rtcp-mux`.
    pub(super) muxed: bool,
    /// Of ICE.
    pub(super) ice: Said,
    /// What the section carries; `None` if it was not there.
    pub(super) proto: Option<Proto>,
    target: Option<Target>,
}

impl Line {
    /// With mux agreed on both sides RTCP goes where RTP goes (RFC 5761 §5.1.1).
    pub(super) fn target(&self, muxed: bool) -> Option<Target> {
        self.target.map(|t| if muxed { Target { rtp: t.rtp, rtcp: t.rtp } } else { t })
    }
}

impl Pending {
    /// Reads a body, forgetting an earlier one but not what that opened.
    pub(super) fn read(&mut self, sdp: &Body<'_>, end: &EndPlan) {
        let line = |(line, m): (usize, &wire::sdp::Media<'_>)| Line {
            refused: m.port == 0,
            muxed: m.rtcp_mux,
            ice: Said::of(sdp, m, line),
            proto: Some(if m.protocol.eq_ignore_ascii_case(b"udptl") { Proto::Udptl } else { Proto::Rtp }),
            target: signalled(sdp, m, end),
        };
        self.media = sdp.media.iter().enumerate().map(line).collect();
        let held =
            |(m, line): (&wire::sdp::Media<'_>, &Line)| m.port != 0 && on_hold(sdp, m, line.ice != Said::Nothing);
        self.held = sdp.media.iter().zip(&self.media).any(held);
        self.formats = sdp.media.iter().map(formats::read).collect();
    }
}
