//! Offers and answers in the middle of a call (RFC 3264 §8, RFC 3311, RFC 6337):
//! what a phone changes, by which request, and the kinds that are counted.

use std::time::Duration;

use crate::phone::sdp::{Direction, Shape, Spelling};
use crate::plan::End;
use crate::rng::Rng;

/// The field that names the turn.
pub(crate) const FIELD: &str = "X-Sim-Turn";

/// What is new in an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// `true`: nothing is sent either (`inactive`).
    Hold(Spelling, bool),
    Resume,
    /// Another payload type.
    Codec(u8),
    /// A second m-line is put in use, or out of it.
    Video(bool),
    /// Audio gives way to T.38 on the same line, or comes back.
    Fax(bool),
    /// Media comes and goes by another port.
    Port,
    /// `a=rtcp-mux`, which the other end does not answer.
    Mux,
    /// ICE begins again, where it is spoken.
    Restart,
    /// The same again.
    Nothing,
}

/// What carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Invite,
    Update,
    /// A re-INVITE without SDP: the other end offers in its 2xx, and the ACK answers.
    Late,
}

/// One exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) by: End,
    /// After the call was confirmed.
    pub(crate) after: Duration,
    pub(crate) change: Change,
    pub(crate) how: How,
    /// The other end answers 488.
    pub(crate) refused: bool,
}

impl Change {
    /// What the offerer says then, but for its port.
    pub(crate) fn of(self, shape: Shape) -> Shape {
        match self {
            Self::Hold(spelling, silent) => {
                let direction = if silent { Direction::Inactive } else { Direction::SendOnly };
                Shape { direction, spelling, ..shape }
            }
            Self::Resume => Shape { direction: Direction::SendRecv, spelling: Spelling::Media, ..shape },
            Self::Codec(codec) => Shape { codec, ..shape },
            // A line stays once it is there (RFC 3264 §8).
            Self::Video(on) => Shape { video: if on { Some(true) } else { shape.video.map(|_| false) }, ..shape },
            Self::Fax(fax) => Shape { fax, ..shape },
            Self::Mux => Shape { mux: true, ..shape },
            Self::Restart => Shape { restarts: shape.restarts + 1, ..shape },
            Self::Port | Self::Nothing => shape,
        }
    }
}

/// Kinds of exchanges, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    SendOnly,
    Inactive,
    SessionLevel,
    Unspecified,
    Resumed,
    Codec,
    VideoOn,
    VideoOff,
    Fax,
    Voice,
    Port,
    Mux,
    Update,
    Late,
    Refused,
    Glare,
    Ice,
    Restart,
}

/// How many kinds there are.
pub(crate) const KINDS: usize = 18;

impl Kind {
    /// All, each with a few words.
    pub(crate) const ALL: [(Self, &str); KINDS] = [
        (Self::SendOnly, "held by sendonly"),
        (Self::Inactive, "by inactive"),
        (Self::SessionLevel, "by a session-level attribute"),
        (Self::Unspecified, "by c=0.0.0.0"),
        (Self::Resumed, "resumed"),
        (Self::Codec, "codec changed"),
        (Self::VideoOn, "video added"),
        (Self::VideoOff, "video removed"),
        (Self::Fax, "audio to T.38"),
        (Self::Voice, "T.38 to audio"),
        (Self::Port, "port changed"),
        (Self::Mux, "rtcp-mux on one end"),
        (Self::Update, "by UPDATE"),
        (Self::Late, "offered in the 2xx"),
        (Self::Refused, "refused by 488"),
        (Self::Glare, "glare (491)"),
        (Self::Ice, "ends with ICE"),
        (Self::Restart, "ICE begun again"),
    ];
}

impl Turn {
    /// What it counts as, once it has come out as planned.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> {
        let change = match self.change {
            Change::Hold(Spelling::Media, false) => Some(Kind::SendOnly),
            Change::Hold(Spelling::Media, true) => Some(Kind::Inactive),
            Change::Hold(Spelling::Session, _) => Some(Kind::SessionLevel),
            Change::Hold(Spelling::Unspecified, _) => Some(Kind::Unspecified),
            Change::Resume => Some(Kind::Resumed),
            Change::Codec(_) => Some(Kind::Codec),
            Change::Video(true) => Some(Kind::VideoOn),
            Change::Video(false) => Some(Kind::VideoOff),
            Change::Fax(true) => Some(Kind::Fax),
            Change::Fax(false) => Some(Kind::Voice),
            Change::Port => Some(Kind::Port),
            Change::Mux => Some(Kind::Mux),
            Change::Restart => Some(Kind::Restart),
            Change::Nothing => None,
        };
        let how = match self.how {
            How::Invite => None,
            How::Update => Some(Kind::Update),
            How::Late => Some(Kind::Late),
        };
        let kinds = if self.refused { [Some(Kind::Refused), None] } else { [change, how] };
        kinds.into_iter().flatten()
    }

    /// A hold, and its end.
    pub(crate) fn hold(by: End, after: Duration, length: Duration, change: Change) -> [Self; 2] {
        let turn = Self { by, after, change, how: How::Invite, refused: false };
        [turn, Self { after: after + length, change: Change::Resume, ..turn }]
    }
}

/// Some exchanges of a call, in order.
pub(crate) fn draw(rng: &mut Rng) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut after = rng.millis(3_000, 4_500);
    for _ in 0..rng.between(1, 3) {
        let by = rng.pick(&[End::Caller, End::Callee]);
        let how = if rng.chance(250) { How::Update } else { How::Invite };
        let turn = Turn { by, after, change: Change::Nothing, how, refused: false };
        let pause = rng.millis(5_000, 6_500);
        let back = Turn { by: rng.pick(&[by, by.other()]), after: after + pause, ..turn };
        match rng.below(11) {
            0 | 1 => {
                let change = hold(rng);
                let resume = Turn { by, change: Change::Resume, ..back };
                turns.extend([Turn { change, ..turn }, resume]);
            }
            2 => turns.push(Turn { change: Change::Codec(rng.pick(&[0, 8, 9])), ..turn }),
            3 => {
                turns.push(Turn { change: Change::Video(true), ..turn });
                turns.extend(rng.chance(700).then_some(Turn { change: Change::Video(false), ..back }));
            }
            4 => {
                turns.extend([Turn { change: Change::Fax(true), ..turn }, Turn { change: Change::Fax(false), ..back }])
            }
            5 => turns.push(Turn { change: Change::Port, ..turn }),
            6 => turns.push(Turn { change: Change::Mux, ..turn }),
            10 => turns.push(Turn { change: Change::Restart, ..turn }),
            7 => turns.push(Turn { how: How::Late, ..turn }),
            8 => {
                let refusable =
                    [Change::Codec(9), Change::Video(true), Change::Fax(true), Change::Port, Change::Mux, hold(rng)];
                turns.push(Turn { change: rng.pick(&refusable), refused: true, ..turn });
            }
            _ => {
                // Both at once: the callee knows of the answer a little later than the caller.
                let early = rng.millis(10, 60);
                let change = rng.pick(&[Change::Codec(8), Change::Port, Change::Nothing]);
                turns.push(Turn { by: End::Caller, how: How::Invite, change, ..turn });
                turns.push(Turn { by: End::Callee, how: How::Invite, after: after - early, ..turn });
                // A retry takes its time (RFC 3261 §14.1).
                after += Duration::from_secs(5);
            }
        }
        let last = turns.iter().map(|turn| turn.after).max().unwrap_or(after);
        after = after.max(last) + rng.millis(5_000, 6_500);
    }
    turns
}

/// A hold in one of its spellings.
pub(crate) fn hold(rng: &mut Rng) -> Change {
    let spelling = rng.pick(&[Spelling::Media, Spelling::Media, Spelling::Session, Spelling::Unspecified]);
    Change::Hold(spelling, spelling != Spelling::Unspecified && rng.chance(400))
}
