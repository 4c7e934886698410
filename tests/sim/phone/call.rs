//! One end of a call: its dialog (RFC 3261 §12), its timers, its record.

use std::net::SocketAddr;
use std::time::Duration;

use super::Phone;
use super::dialog::DEAF;
use super::ice::Credentials;
use super::media::{Heard, Media};
use super::sdp::{self, Remote, Session, Shape};
use crate::clock::{Time, earlier};
use crate::flows::{KINDS, Kind};
use crate::net::Packet;
use crate::plan::{CallPlan, End, Survivor};
use crate::sip::{self, Msg};
use crate::transaction::{ClientId, LONG, ServerId, T1, T2};

/// How a call ended for one of its ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    HungUp,
    /// BYE of the other end.
    Bye,
    /// BYE with a Reason: somebody between us ended it.
    ByeWithReason,
    Cancelled,
    Refused(u16),
    TimedOut,
    Vanished,
}

/// The record of one end of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallLog {
    pub(crate) plan: usize,
    pub(crate) call_id: String,
    pub(crate) end: End,
    pub(crate) answered: Option<Time>,
    pub(crate) ended: Option<(Time, Ended)>,
    pub(crate) heard: Heard,
    /// Exchanges of the plan that have come out as planned, a bit each.
    pub(crate) turned: u32,
    /// These, by kind.
    pub(crate) flows: [u32; KINDS],
    /// Video packets of the other end.
    pub(crate) seen: u32,
    pub(crate) informed: u32,
    /// The network changed under it.
    pub(crate) disturbed: bool,
    /// A second answer to one INVITE, hung up at once.
    pub(crate) surplus: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// INVITE sent or received, no final answer.
    Early,
    /// CANCEL sent or wanted.
    Cancelling,
    /// 2xx given, ACK awaited.
    Answered,
    Confirmed,
    /// BYE sent.
    Ending,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    Ring,
    Answer,
    Cancel,
    HangUp,
    /// This offer of the plan.
    Turn(usize),
    Info,
    Vanish,
    /// Says nothing more.
    Mute,
    /// Looks whether anything was heard of late.
    Deaf,
    /// Looks whether a re-INVITE still waits for its final answer.
    Stuck,
    /// An answer that should have come never did.
    Abandon,
}

/// Transactions inside the dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inside {
    Bye,
    Cancel,
    Info,
    /// The offer of this turn of the plan.
    Exchange(usize),
}

/// A 2xx that is repeated until its ACK comes (§13.3.1.4).
#[derive(Debug)]
pub(crate) struct Repeated {
    pub(crate) packet: Packet,
    pub(crate) cseq: u32,
    at: Time,
    interval: Duration,
    ends: Time,
    /// It carried an offer, so the ACK carries the answer.
    pub(crate) offered: bool,
}

/// What holds once an offer is taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft {
    pub(crate) shape: Shape,
    /// A new port.
    pub(crate) port: Option<u16>,
}

#[derive(Debug)]
pub(crate) struct Call {
    /// Names it within the phone.
    pub(crate) id: u64,
    pub(crate) plan: usize,
    pub(crate) end: End,
    pub(crate) state: State,
    pub(crate) call_id: String,
    pub(crate) local_tag: String,
    pub(crate) remote_tag: String,
    /// From or To values without tags.
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) target: String,
    pub(crate) route: Vec<String>,
    pub(crate) cseq: u32,
    pub(crate) invite: Option<ClientId>,
    pub(crate) provisional: bool,
    pub(crate) tries: u8,
    /// The INVITE that we are to answer.
    pub(crate) incoming: Option<(ServerId, Msg)>,
    pub(crate) inside: Vec<(ClientId, Inside)>,
    pub(crate) repeated: Option<Repeated>,
    /// ACKs that we sent, by CSeq, for repeated 2xx.
    pub(crate) acks: Vec<(u32, Packet)>,
    pub(crate) timers: Vec<(Time, Timer)>,
    pub(crate) media: Media,
    /// On the second m-line.
    pub(crate) video: Media,
    pub(crate) version: u64,
    /// What our SDP says now.
    pub(crate) shape: Shape,
    /// An offer of ours inside the dialog that has no answer yet.
    pub(crate) draft: Option<Draft>,
    pub(crate) log: CallLog,
}

impl Call {
    pub(crate) fn next(&self) -> Option<Time> {
        let timers = self.timers.iter().map(|(at, _)| Some(*at)).fold(None, earlier);
        earlier(earlier(timers, earlier(self.media.next(), self.video.next())), self.repeated.as_ref().map(|r| r.at))
    }

    /// Takes out a timer that has run down.
    pub(crate) fn due(&mut self, now: Time) -> Option<Timer> {
        let at = self.timers.iter().position(|(at, _)| *at <= now)?;
        Some(self.timers.remove(at).1)
    }

    pub(crate) fn repeat(&mut self, now: Time, packet: Packet, cseq: u32, offered: bool) {
        let (at, ends) = (now + T1, now + LONG);
        self.repeated = Some(Repeated { packet, cseq, at, interval: T1, ends, offered });
    }

    pub(crate) fn repeat_answer(&mut self, now: Time, out: &mut Vec<Packet>) {
        let Some(repeated) = self.repeated.as_mut().filter(|r| r.at <= now) else { return };
        if repeated.ends <= now {
            // §13.3.1.4: no ACK came; the session is ended by BYE.
            self.repeated = None;
            self.timers.push((now, Timer::HangUp));
            return;
        }
        out.push(repeated.packet.clone());
        repeated.interval = (repeated.interval * 2).min(T2);
        repeated.at = now + repeated.interval;
    }

    /// What the dialog learns from a 2xx or an INVITE.
    pub(crate) fn learn(&mut self, msg: &Msg) {
        if let Some(contact) = msg.all("contact").next() {
            self.target = sip::uri_of(contact).to_owned();
        }
        if self.remote_tag.is_empty() {
            self.route = msg.all("record-route").map(str::to_owned).collect();
            if self.end == End::Caller {
                self.route.reverse();
            }
            let remote = if self.end == End::Caller { "to" } else { "from" };
            self.remote_tag = msg.tag(remote).to_owned();
        }
    }

    /// The other's SDP takes effect, and what we said ourselves.
    pub(crate) fn agree(&mut self, now: Time, remote: Remote) {
        // A line that the other end does not want is out of use.
        if let (Some(ours), Some(theirs)) = (&mut self.shape.video, remote.shape.video) {
            *ours &= theirs;
        }
        self.media.apply(now, remote, self.shape);
        match remote.video.filter(|_| self.shape.video == Some(true)) {
            Some(rtp) => {
                let rtcp = SocketAddr::new(rtp.ip(), rtp.port() + 1);
                let shape = |shape: Shape| Shape { fax: false, mux: false, codec: VIDEO, ..shape };
                self.video.apply(
                    now,
                    Remote { rtp, rtcp, ice: None, shape: shape(remote.shape), ..remote },
                    shape(self.shape),
                );
            }
            None => self.video.stop(),
        }
        if self.log.answered.is_some() {
            self.media.count_from(now + Duration::from_millis(1500));
        }
    }

    /// The record, with what was heard so far.
    pub(crate) fn record(&self) -> CallLog {
        let mut log = CallLog { heard: self.media.figures, seen: self.video.figures.any, ..self.log.clone() };
        log.flows[Kind::Ice as usize] = u32::from(log.heard.checked > 0);
        log
    }

    pub(crate) fn over(&mut self, now: Time, how: Ended) {
        self.state = State::Over;
        self.repeated = None;
        self.timers.clear();
        self.mute();
        self.log.ended.get_or_insert((now, how));
    }

    pub(crate) fn answered(&mut self, now: Time) {
        self.state = State::Confirmed;
        self.media.confirmed = true;
        self.log.answered = Some(now);
        self.media.count_from(now + Duration::from_millis(1500));
    }

    /// Says nothing more.
    pub(crate) fn mute(&mut self) {
        self.media.stop();
        self.video.stop();
    }

    /// Counts what came out as planned.
    pub(crate) fn count(&mut self, kind: Kind) {
        self.log.flows[kind as usize] += 1;
    }

    /// Our offer.
    pub(crate) fn offer(&self, looks: sdp::Looks) -> String {
        let port = self.draft.and_then(|draft| draft.port);
        let mut shape = self.draft.map_or(self.shape, |draft| draft.shape);
        if looks.video && self.log.answered.is_none() {
            shape.video = Some(true);
        }
        let ice = self.media.credentials(shape);
        self.sdp(looks, (shape, ice), port, true)
    }

    /// Our answer, after [`Call::answering`].
    pub(crate) fn answer(&self, looks: sdp::Looks, remote: Remote) -> String {
        let shape = Shape { mux: self.shape.mux && remote.shape.mux, ..self.shape };
        let direction = remote.direction.answer(shape.direction);
        let ice = remote.ice.and_then(|_| self.media.credentials(shape));
        self.sdp(looks, (Shape { direction, ..shape }, ice), None, false)
    }

    /// What our answer to such an offer will say. Video is taken in a call that has been answered.
    pub(crate) fn answering(&mut self, remote: Remote) {
        let video = remote.shape.video.map(|on| on && self.log.answered.is_some());
        let Shape { fax, codec, .. } = remote.shape;
        self.shape = Shape { fax, codec, video, ..self.shape };
    }

    fn sdp(
        &self,
        looks: sdp::Looks,
        (shape, ice): (Shape, Option<Credentials>),
        port: Option<u16>,
        offer: bool,
    ) -> String {
        let session = Session {
            ip: self.media.rtp.ip(),
            port: port.unwrap_or(self.media.rtp.port()),
            video: self.video.rtp.port(),
            id: self.id + 4000,
            version: self.version,
            shape,
            ice,
            offer,
        };
        sdp::write(&session, looks)
    }
}

/// Payload type of video.
pub(crate) const VIDEO: u8 = 96;
/// Between two packets of video.
const FRAME: Duration = Duration::from_millis(100);
/// What tells video's tone from the audio's.
const SHOWN: u32 = 0x0080_0000;

impl Phone {
    /// Four ports: RTP and RTCP of two m-lines.
    pub(crate) fn port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = if port > 60_000 { 16_384 } else { port + 4 };
        port
    }

    pub(crate) fn new_call(&mut self, plan: &CallPlan, end: End, call_id: String) -> Call {
        let port = self.port();
        let (ours, theirs) = (plan.tone(end), plan.tone(end.other()));
        let Self { profile, rng, .. } = self;
        let mut media = Media::new((profile.ip, port), (ours, theirs), profile.interval, profile.comedia, rng);
        media.ice = profile.looks.ice.then_some(u64::from(port));
        let (seen, shown) = (theirs + SHOWN, ours + SHOWN);
        let video = Media::new((profile.ip, port + 2), (shown, seen), FRAME, profile.comedia, rng);
        let log = CallLog {
            plan: plan.id,
            call_id: call_id.clone(),
            end,
            answered: None,
            ended: None,
            heard: Heard::default(),
            turned: 0,
            flows: [0; KINDS],
            seen: 0,
            informed: 0,
            disturbed: false,
            surplus: false,
        };
        Call {
            id: u64::from(port),
            plan: plan.id,
            end,
            state: State::Early,
            call_id,
            local_tag: rng.word(),
            remote_tag: String::new(),
            local: String::new(),
            remote: String::new(),
            target: String::new(),
            route: Vec::new(),
            cseq: 100,
            invite: None,
            provisional: false,
            tries: 0,
            incoming: None,
            inside: Vec::new(),
            repeated: None,
            acks: Vec::new(),
            timers: Vec::new(),
            media,
            video,
            version: 1,
            shape: Shape::default(),
            draft: None,
            log,
        }
    }

    /// Timers that run from the moment a call is confirmed.
    pub(crate) fn confirmed(&mut self, now: Time, at: usize) {
        let call = &mut self.calls[at];
        let Some(plan) = self.plans.get(call.plan) else { return };
        call.answered(now);
        if plan.hangs_up == call.end {
            call.timers.push((now + plan.talk, Timer::HangUp));
        }
        let turns = plan.turns.iter().enumerate().filter(|(_, turn)| turn.by == call.end);
        call.timers.extend(turns.map(|(index, turn)| (now + turn.after, Timer::Turn(index))));
        if plan.inside.is_some() && call.end == End::Caller {
            call.timers.push((now + plan.talk / 3, Timer::Info));
        }
        call.timers.push((now + DEAF, Timer::Deaf));
        if let Some(vanish) = plan.vanish {
            let timer = match (vanish.end == call.end, vanish.other) {
                (true, _) | (false, Survivor::Vanishes) => Some(Timer::Vanish),
                (false, Survivor::Mute) => Some(Timer::Mute),
                (false, Survivor::Talks) => None,
            };
            call.timers.extend(timer.map(|timer| (now + vanish.after, timer)));
        }
    }
}
