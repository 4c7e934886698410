//! TCP media in offers and answers (RFC 4145): who opens the connection of each leg.
//!
//! Decides what `a=setup` and `a=connection` say toward either end, and what
//! the splice is told. Each end has a NAT before it as likely as not, so each
//! is asked to open its connection toward us (RFC 7362 §4), wherever §4.1 lets
//! it; where our own NAT stands in the way, we open it instead. Where the roles
//! of TCP are those of something above it, they stay opposite at the two ends.
//!
//! Must not let anybody choose where we connect to: see [`reach`].

use std::net::SocketAddr;

use nat::Advertise;
use wire::Edit;
use wire::sdp::{self, Body};

use super::body::{As, signalled};
use super::session::{Session, Stream};
use super::{EndPlan, Offers};
use crate::command::place;
use crate::command::{Early, LegPlan};
use crate::{Command, End, Part, Sources, Splice, SpliceLeg};

/// An active end names this port, and does not mean it (RFC 4145 §4.1: "discard").
const DISCARD: u16 = 9;

/// `a=setup` (RFC 4145 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setup {
    Active,
    Passive,
    ActPass,
    HoldConn,
}

impl Setup {
    fn read(value: &[u8]) -> Option<Self> {
        let all = [Self::Active, Self::Passive, Self::ActPass, Self::HoldConn];
        all.into_iter().find(|setup| value.trim_ascii().eq_ignore_ascii_case(setup.name().as_bytes()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::ActPass => "actpass",
            Self::HoldConn => "holdconn",
        }
    }
}

/// Does such a section have a connection that we can splice? The protocols
/// that are left out name addresses in attributes of their own: MSRP in `a=path`
/// (RFC 4975 §8), those over WebSocket in a URI (RFC 8857).
pub(super) fn is_spliced(protocol: &[u8]) -> bool {
    is(protocol)
        && !parts(protocol).any(|part| [&b"MSRP"[..], b"WS", b"WSS"].iter().any(|p| part.eq_ignore_ascii_case(p)))
}

/// Is its transport TCP?
pub(super) fn is(protocol: &[u8]) -> bool {
    protocol.get(..3).is_some_and(|p| p.eq_ignore_ascii_case(b"TCP"))
}

/// Active and passive mean more than who opens the connection: client and
/// server of TLS (RFC 8122 §4), of MRCP (RFC 6787 §4.2).
fn is_mirrored(protocol: &[u8]) -> bool {
    parts(protocol).any(|part| [&b"TLS"[..], b"DTLS", b"MRCPv2"].iter().any(|p| part.eq_ignore_ascii_case(p)))
}

fn parts(protocol: &[u8]) -> impl Iterator<Item = &[u8]> {
    protocol.split(|octet| *octet == b'/')
}

/// What a section says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    setup: Option<Setup>,
    /// `a=connection:existing`; anything else is `new` (§5).
    existing: bool,
    /// What it names, if we may send there at all.
    at: Option<SocketAddr>,
    mirrored: bool,
}

impl Said {
    /// `None` where there is no connection to splice.
    pub(super) fn read(sdp: &Body<'_>, media: &sdp::Media<'_>, end: &EndPlan) -> Option<Self> {
        let value = |name| media.attribute(name).or_else(|| sdp.attribute(name));
        is_spliced(media.protocol).then(|| Self {
            setup: value("setup").and_then(Setup::read),
            existing: value("connection").is_some_and(|v| v.trim_ascii().eq_ignore_ascii_case(b"existing")),
            at: signalled(sdp, media, end).map(|target| target.rtp()),
            mirrored: is_mirrored(media.protocol),
        })
    }

    /// An offer without `a=setup` (§4).
    fn offered(self) -> Setup {
        self.setup.unwrap_or(Setup::Active)
    }

    /// An answer without it.
    fn answered(self) -> Setup {
        self.setup.unwrap_or(Setup::Passive)
    }
}

/// What the splice of a stream has come to.
#[derive(Debug)]
pub(super) struct State {
    /// What we are toward end A and B.
    ours: [Setup; 2],
    /// Where their SDP says that they are.
    at: [Option<SocketAddr>; 2],
    /// The offer that the connections were made for; 0 before the first.
    round: u32,
    /// Whom an offer that waits has asked to connect.
    asking: Option<End>,
    /// The answer counts: before that, nobody is connected to.
    settled: bool,
    /// The stream is one of TCP; false while that is only asked of one that carries datagrams.
    pub(super) agreed: bool,
}

/// What an offer becomes for the other end, `to`.
fn offered(said: Said, to: &EndPlan) -> Setup {
    let ours = match said.offered() {
        Setup::HoldConn => return Setup::HoldConn,
        given @ (Setup::Active | Setup::Passive) if said.mirrored => given,
        Setup::ActPass if said.mirrored && to.signalled_from.is_none() => Setup::Active,
        Setup::Active | Setup::Passive | Setup::ActPass => Setup::Passive,
    };
    if behind_nat(to) && !said.mirrored { Setup::Active } else { ours }
}

/// What we are toward the offerer and toward the answerer.
fn agreed(offer: Said, answer: Said, offerer: &EndPlan) -> (Setup, Setup) {
    let toward_answerer = match answer.answered() {
        Setup::HoldConn => Setup::HoldConn,
        Setup::Active | Setup::ActPass => Setup::Passive,
        Setup::Passive => Setup::Active,
    };
    if toward_answerer == Setup::HoldConn || offer.offered() == Setup::HoldConn {
        return (Setup::HoldConn, Setup::HoldConn);
    }
    let toward_offerer = match offer.offered() {
        Setup::Active | Setup::HoldConn => Setup::Passive,
        Setup::Passive => Setup::Active,
        Setup::ActPass if offer.mirrored && toward_answerer == Setup::Passive => Setup::Active,
        Setup::ActPass if !offer.mirrored && behind_nat(offerer) => Setup::Active,
        Setup::ActPass => Setup::Passive,
    };
    (toward_offerer, toward_answerer)
}

/// What STUN says of a UDP socket says nothing of TCP: nobody reaches us there.
fn behind_nat(end: &EndPlan) -> bool {
    matches!(end.advertise, Advertise::Stun)
}

/// Where we may connect to. Octets of the other end would go there, so nobody
/// may name a third: the upstream, whose SDP we believe; an end whose signalling
/// comes from that very address; a network whose media may come from anywhere in it.
fn reach(end: &EndPlan, at: SocketAddr) -> bool {
    let proven = end.signalled_from.is_none_or(|ip| ip.to_canonical() == at.ip().to_canonical())
        || end.prefixes.iter().any(|prefix| prefix.contains(at.ip()));
    let own_word = end.signalled_from.is_some_and(|ip| ip.to_canonical() == at.ip().to_canonical());
    let open = own_word || end.private_targets || !nat::address::is_private(at.ip());
    at.port() != 0 && at.port() != DISCARD && proven && open
}

/// Who may connect: the IP that signalling comes from, and the one that SDP
/// names where that could be one of the peer's.
fn sources(end: &EndPlan, at: Option<SocketAddr>) -> Sources {
    let named = at.map(|at| at.ip());
    let ips = match end.signalled_from {
        None => [named, None],
        Some(ip) => [Some(ip), named.filter(|named| !nat::address::is_private(*named))],
    };
    Sources { exact: None, ips, prefixes: end.prefixes.clone() }
}

/// What the sockets for datagrams are told meanwhile: to hear nobody, and to send nothing.
pub(super) fn silent(mut plans: Box<[LegPlan; 2]>) -> Box<[LegPlan; 2]> {
    for plan in plans.iter_mut() {
        (plan.target, plan.sources, plan.early, plan.open) = (None, Sources::default(), Early::Never, false);
        plan.ice = None;
    }
    plans
}

/// Writes the port, `a=setup` and, where it changes, `a=connection` of a section for the end `to`.
#[expect(clippy::too_many_arguments, reason = "a step takes what it needs by name, not through a blackboard")]
pub(super) fn write(
    session: &Session,
    stream: &Stream,
    to: End,
    what: As,
    whole: &[u8],
    edit: &mut Edit,
    body: &Body<'_>,
    media: &sdp::Media<'_>,
) {
    let from = &session.ends[to.other().index()];
    let Some(said) = Said::read(body, media, from) else { return };
    let (end, before) = (&session.ends[to.index()], stream.said[to.index()].tcp.as_deref().copied());
    let (ours, existing) = match what {
        As::Offer => (offered(said, end), said.existing && stream.tcp.as_ref().is_some_and(|tcp| tcp.round != 0)),
        As::Answer => match before {
            Some(offer) => (agreed(offer, said, end).0, said.existing && offer.existing),
            None => (said.answered(), said.existing),
        },
    };
    let port = if ours == Setup::Active { DISCARD } else { stream.advertised[to.index()].rtp().port() };
    sdp::edit::port(whole, edit, media, port);
    sdp::edit::set_attribute(whole, edit, media, "setup", &[b"setup:", ours.name().as_bytes()]);
    if existing != said.existing {
        let value: &[u8] = if existing { b"connection:existing" } else { b"connection:new" };
        sdp::edit::set_attribute(whole, edit, media, "connection", &[value]);
    }
    sdp::edit::remove_media_attributes(whole, edit, media, &["rtcp"]);
}

impl State {
    /// `agreed`: nothing else was ever offered.
    pub(super) fn new(agreed: bool) -> Self {
        Self { ours: [Setup::HoldConn; 2], at: [None; 2], round: 0, asking: None, settled: false, agreed }
    }

    /// `by` offers this. Whoever is asked to connect may do so before we have heard that it will.
    fn ask(&mut self, by: End, said: Said, ends: &[EndPlan; 2]) {
        let other = by.other();
        let anew = self.round == 0 || !said.existing;
        self.asking = (anew && offered(said, &ends[other.index()]) == Setup::Passive).then_some(other);
        if self.round == 0 {
            self.at[by.index()] = said.at;
        }
    }

    /// What `by` answered to offer number `asked`. `commit`: it counts.
    fn settle(&mut self, by: End, asked: u32, offer: Said, answer: Said, ends: &[EndPlan; 2], commit: bool) {
        let (toward_offerer, toward_answerer) = agreed(offer, answer, &ends[by.other().index()]);
        self.ours[by.other().index()] = toward_offerer;
        self.ours[by.index()] = toward_answerer;
        self.at[by.other().index()] = offer.at;
        self.at[by.index()] = answer.at;
        if toward_answerer != Setup::HoldConn && !(self.round != 0 && offer.existing && answer.existing) {
            self.round = asked;
        }
        self.settled = commit;
        self.agreed = true;
        if commit {
            self.stand();
        }
    }

    /// What was previewed holds.
    pub(super) fn stand(&mut self) {
        (self.settled, self.asking) = (true, None);
    }
}

impl Offers {
    /// An offer of `by` has been read: the splices of its TCP lines wait for who is asked to connect.
    pub(super) fn ask_tcp(&mut self, session: &mut Session, by: End) {
        for line in 0..session.streams.len() {
            let Some(stream) = &mut session.streams[line] else { continue };
            let Some(said) = stream.said[by.index()].tcp.as_deref().copied() else { continue };
            stream.tcp.get_or_insert_with(|| Box::new(State::new(false))).ask(by, said, &session.ends);
            self.splice(session, line);
        }
    }

    /// No offer waits any more that was to change this line.
    pub(super) fn unask_tcp(&mut self, session: &mut Session) {
        for line in 0..session.streams.len() {
            let Some(stream) = &mut session.streams[line] else { continue };
            if stream.tcp.as_ref().is_some_and(|tcp| !tcp.agreed) {
                stream.tcp = None;
                self.out.push_back(Command::Splice { stream: stream.id, splice: None });
            } else if let Some(tcp) = &mut stream.tcp {
                tcp.asking = None;
                self.splice(session, line);
            }
        }
    }

    /// A line was offered and answered; it may be one of TCP now, or no longer.
    pub(super) fn settle_tcp(&mut self, session: &mut Session, line: usize, by: End, asked: u32, commit: bool) {
        let said = |end| session.agreed_line(end, line)?.tcp.as_deref().copied();
        let [offer, answer] = [by.other(), by].map(said);
        let Some(stream) = &mut session.streams[line] else { return };
        match (offer, answer) {
            (Some(offer), Some(answer)) => {
                let tcp = stream.tcp.get_or_insert_with(|| Box::new(State::new(true)));
                tcp.settle(by, asked, offer, answer, &session.ends, commit);
            }
            (_, _) if stream.tcp.take().is_some() => {
                self.out.push_back(Command::Splice { stream: stream.id, splice: None });
            }
            (_, _) => {}
        }
    }

    /// Tells the splice of a line, if it has one, what is to be.
    pub(super) fn splice(&mut self, session: &Session, line: usize) {
        let Some(stream) = &session.streams[line] else { return };
        let Some(tcp) = &stream.tcp else { return };
        let leg = |end: End| {
            let (plan, at) = (&session.ends[end.index()], tcp.at[end.index()]);
            SpliceLeg {
                at: stream.legs[end.index()].pair.rtp(),
                side: plan.side,
                sources: sources(plan, at),
                part: match tcp.ours[end.index()] {
                    _ if tcp.asking == Some(end) => Part::Listen,
                    Setup::Passive | Setup::ActPass => Part::Listen,
                    Setup::Active if tcp.settled => self.connect(session, stream, plan, at),
                    Setup::Active | Setup::HoldConn => Part::Rest,
                },
            }
        };
        let splice =
            Splice { legs: [leg(End::A), leg(End::B)], round: tcp.round, turn: session.epoch, asked: tcp.asking };
        self.out.push_back(Command::Splice { stream: stream.id, splice: Some(Box::new(splice)) });
    }

    /// Where our connection goes to, if anywhere: never to this machine, but for a leg of another stream.
    fn connect(&self, session: &Session, stream: &Stream, end: &EndPlan, at: Option<SocketAddr>) -> Part {
        let Some(at) = at else { return Part::Rest };
        if let Some((id, other)) = self.live.get(&place(at)) {
            return if *id == stream.id { Part::Rest } else { Part::Face(*id, *other) };
        }
        let own = session.ends.iter().flat_map(|end| [end.local, end.own]);
        let own = own.chain(stream.advertised.iter().map(|target| target.rtp().ip()));
        let ours = own.map(|ip| ip.to_canonical()).any(|ip| ip == at.ip().to_canonical()) || self.pools.owns(at);
        if ours || !reach(end, at) {
            tracing::debug!(%at, "no connection is opened to where TCP media should go");
            return Part::Rest;
        }
        Part::Dial(at)
    }
}

/// Another branch was answered: this one's connection with the caller ends.
pub(super) fn hush(stream: &Stream, ends: &[EndPlan; 2], epoch: u32) -> Option<Command> {
    let tcp = stream.tcp.as_ref()?;
    let leg = |end: End, part| SpliceLeg {
        at: stream.legs[end.index()].pair.rtp(),
        side: ends[end.index()].side,
        sources: Sources::default(),
        part,
    };
    let legs = [leg(End::A, Part::Shut), leg(End::B, Part::Rest)];
    let splice = Splice { legs, round: tcp.round, turn: epoch, asked: None };
    Some(Command::Splice { stream: stream.id, splice: Some(Box::new(splice)) })
}
