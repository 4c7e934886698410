//! What happens in a seed: the weather on the links, the calls, and what goes
//! wrong in between. Where it happens is in `layout`.

use std::time::Duration;

use crate::clock::Time;
use crate::flows::{self, Turn};
use crate::link::Link;
use crate::net::Step;
use crate::plan::{Answer, CallPlan, End, Survivor, Vanish};
use crate::rng::Rng;

/// Links between phones and the rest of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// 5 % loss, 5 % copies, 10 % overtaken, 50 ms jitter.
    Foul,
    /// Up to 5 % loss, copies, reordering, jitter.
    Lossy,
    /// So slow that every message is sent twice.
    Slow,
    /// Every third packet arrives twice.
    Echoing,
}

impl Weather {
    fn draw(rng: &mut Rng) -> Self {
        match rng.below(20) {
            0..5 => Self::Fair,
            5..11 => Self::Foul,
            11..15 => Self::Lossy,
            15..18 => Self::Slow,
            _ => Self::Echoing,
        }
    }

    /// An access link in this weather.
    pub(crate) fn link(self, rng: &mut Rng) -> Link {
        let fair = Link { jitter: rng.millis(0, 8), ..Link::ideal(rng.millis(4, 40)) };
        match self {
            Self::Fair => fair,
            Self::Lossy => Link {
                loss: rng.between(5, 50) as u32,
                duplicate: rng.between(0, 40) as u32,
                reorder: rng.between(0, 80) as u32,
                jitter: rng.millis(0, 40),
                ..fair
            },
            Self::Foul => Link { loss: 50, duplicate: 50, reorder: 100, jitter: Duration::from_millis(50), ..fair },
            Self::Slow => Link::ideal(rng.millis(280, 420)),
            Self::Echoing => Link { duplicate: 330, ..fair },
        }
    }

    /// True when no message gets lost.
    pub(crate) fn calm(self) -> bool {
        !matches!(self, Self::Lossy | Self::Foul)
    }

    /// The share of audio that must arrive.
    pub(crate) fn audio(self) -> f64 {
        if self.calm() { 0.9 } else { 0.75 }
    }
}

/// A connection ends at once: a phone's, or all of the core's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hang {
    pub(crate) at: Time,
    pub(crate) phone: Option<usize>,
    pub(crate) step: Step,
}

/// The script of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) weather: Weather,
    pub(crate) plans: Vec<CallPlan>,
    /// Calls that come after a long time without traffic.
    pub(crate) idle: Vec<usize>,
    /// When a NAT box reboots, and whether with another address.
    pub(crate) rebinds: Vec<(Time, bool)>,
    pub(crate) hangs: Vec<Hang>,
    pub(crate) attacked: bool,
    /// Someone forges the source address of a phone while the first call is on.
    pub(crate) spoofed: bool,
    /// So few ports that some calls find none.
    pub(crate) tight: bool,
    /// The last phone is a second one of the first phone's user.
    pub(crate) twin: bool,
    /// Phones that unregister at the end.
    pub(crate) leaves: Vec<usize>,
    /// When siplatch is told to stop, in the middle of the last call.
    pub(crate) stop: Option<Time>,
    /// When the last call has ended at the latest.
    pub(crate) ends: Time,
}

/// Nothing happens before phones have registered and STUN has answered.
pub(crate) const FIRST_CALL: Duration = Duration::from_secs(12);
/// Media timeout of siplatch in these worlds.
pub(crate) const MEDIA_TIMEOUT: Duration = Duration::from_secs(20);
/// How long until a phone behind a new mapping is found again: one expiry
/// toward NATed phones, and a little.
pub(crate) const RECOVERS: Duration = Duration::from_secs(75);
/// How long until a phone on a stream finds out that a box has forgotten its connection, and is found again: one
/// ping, its answer that does not come, and a little.
pub(crate) const REROUTES: Duration = Duration::from_secs(150);
/// How long until a connection that was seen to end is there again, in both directions.
pub(crate) const REOPENS: Duration = Duration::from_secs(35);
/// Five minutes without a word, behind mappings that live for 30 s.
const IDLE: Duration = Duration::from_secs(300);

/// Draws one call after the other.
struct Draft<'a> {
    rng: &'a mut Rng,
    /// When each phone is free again; `None` when it has vanished.
    free: Vec<Option<Time>>,
    plans: Vec<CallPlan>,
    idle: Vec<usize>,
}

impl Script {
    /// A script for so many phones.
    pub(crate) fn draw(rng: &mut Rng, phones: usize, weather: Option<Weather>) -> Self {
        let drawn = Weather::draw(rng);
        let weather = weather.unwrap_or(drawn);
        let attacked = rng.chance(500);
        let spoofed = attacked && rng.chance(300);
        let twin = phones > 2 && rng.chance(200);
        // Two forks of two m-lines need more than the few.
        let tight = rng.chance(80) && !twin;
        let stopped = rng.chance(60);
        let leaves = (0..phones).filter(|_| rng.chance(150) && !stopped).collect();
        let calls = rng.between(3, 7);
        let idle_before = if rng.chance(160) { rng.between(1, calls - 1) } else { calls };
        let rebinds = if rng.chance(400) && !stopped { rng.between(1, 2) } else { 0 };
        let mut hung_draw = rng.branch(3);
        let callers = phones - usize::from(twin);
        let mut draft = Draft { rng, free: vec![Some(FIRST_CALL); callers], plans: Vec::new(), idle: Vec::new() };
        draft.simple();
        let first_over = draft.plans[0].at + draft.plans[0].lasts() + Duration::from_secs(5);
        if spoofed {
            draft.free.fill(Some(first_over));
        }
        for id in 1..calls {
            draft.call(id == idle_before);
        }
        let stop = if stopped { draft.stopped() } else { None };
        let Draft { rng, free, plans, idle } = draft;
        let ends = plans.iter().map(|p| p.at + p.lasts() + after_vanish(p)).chain(free.into_iter().flatten()).max();
        let ends = ends.unwrap_or(FIRST_CALL);
        let when = |rng: &mut Rng| {
            let latest = ends.max(first_over + Duration::from_secs(1));
            rng.millis(first_over.as_millis() as u64, latest.as_millis() as u64)
        };
        let rebinds = (0..rebinds).map(|_| (when(rng), rng.chance(400))).collect();
        let mut hang = |phone: Option<usize>| {
            // In the middle of what a call begins with, goes on with or ends with.
            let plan = &plans[rng.between(1, plans.len() as u64 - 1) as usize];
            let base = plan.at + rng.pick(&[Duration::ZERO, plan.ring, plan.ring + plan.talk]);
            Hang { at: base + rng.millis(0, 1_500), phone, step: rng.pick(&[Step::End, Step::Reset]) }
        };
        let mut hangs = Vec::new();
        if plans.len() > 1 && !stopped {
            hangs.extend((0..phones).filter(|_| hung_draw.chance(200)).map(|phone| hang(Some(phone))));
            hangs.extend(hung_draw.chance(100).then(|| hang(None)));
        }
        Self { weather, plans, idle, rebinds, hangs, attacked, spoofed, tight, twin, leaves, stop, ends }
    }
}

/// Ending a call whose phone has vanished takes its time.
fn after_vanish(plan: &CallPlan) -> Duration {
    if plan.vanish.is_some() { Duration::from_secs(80) } else { Duration::ZERO }
}

impl Draft<'_> {
    /// The first call: nothing goes wrong in it.
    fn simple(&mut self) {
        let Some((from, to)) = self.pair() else { return };
        let talk = self.rng.millis(6_000, 9_000);
        let plan = CallPlan::simple(0, (from, to), FIRST_CALL, talk);
        self.book(plan, FIRST_CALL);
    }

    /// Two phones that have not vanished.
    fn pair(&mut self) -> Option<(usize, usize)> {
        let standing: Vec<usize> = (0..self.free.len()).filter(|p| self.free[*p].is_some()).collect();
        if standing.len() < 2 {
            return None;
        }
        let from = self.rng.below(standing.len());
        let to = (from + 1 + self.rng.below(standing.len() - 1)) % standing.len();
        Some((standing[from], standing[to]))
    }

    /// A last, long call, in the middle of which siplatch stops.
    fn stopped(&mut self) -> Option<Time> {
        let (from, to) = self.pair()?;
        let at = self.free.iter().flatten().copied().max()? + Duration::from_secs(4);
        let id = self.plans.len();
        let plan = CallPlan { stopped: true, ..CallPlan::simple(id, (from, to), at, Duration::from_secs(60)) };
        self.book(plan, at);
        Some(at + Duration::from_secs(10))
    }

    fn call(&mut self, after_idle: bool) {
        let Some((from, to)) = self.pair() else { return };
        let id = self.plans.len();
        let everybody = self.free.iter().flatten().copied().max().unwrap_or(FIRST_CALL);
        let both = self.free[from].max(self.free[to]).unwrap_or(FIRST_CALL);
        let gap = self.rng.millis(500, 8_000);
        let at = if after_idle { everybody + IDLE } else { both + gap };
        let talk = self.rng.millis(4_000, 15_000);
        let rng = &mut *self.rng;
        let mut plan = CallPlan { ring: rng.millis(200, 4_000), ..CallPlan::simple(id, (from, to), at, talk) };
        plan.hangs_up = rng.pick(&[End::Caller, End::Callee]);
        plan.delayed_offer = rng.chance(150);
        plan.early_media = rng.chance(250);
        if rng.chance(250) {
            plan.inside = Some(rng.pick(&["INFO", "UPDATE", "MESSAGE", "OPTIONS", "NOTIFY", "REFER", "DANCE"]));
        }
        // Two offers in two 2xx to one INVITE need media per To tag, which siplatch does not have yet.
        let twins = [Answer::Never, Answer::Reject(486), Answer::Accept];
        plan.twin = rng.pick(if plan.delayed_offer { &twins[..2] } else { &twins });
        match rng.below(12) {
            0 => {
                // A 603 of one phone ends it for all (RFC 3261 §16.7(5)), a 486 does not.
                let status = rng.pick(&[486, 603]);
                plan.answer = Answer::Reject(status);
                plan.twin = if status == 603 { Answer::Never } else { plan.answer };
            }
            1 => plan.answer = Answer::Never,
            2 => {
                // Too late for the callee to have answered, also on a slow link.
                let after = rng.millis(0, 3_500);
                plan.cancel = Some(after);
                plan.ring = after + Duration::from_secs(2);
                plan.twin = Answer::Never;
            }
            3 | 4 => plan.turns = self.hold(&mut plan.talk),
            6..=9 => {
                plan.turns = flows::draw(rng);
                let last = plan.turns.iter().map(|turn| turn.after).max().unwrap_or_default();
                plan.talk = last + rng.millis(6_000, 9_000);
            }
            5 if !after_idle => {
                plan.vanish = Some(Vanish {
                    end: rng.pick(&[End::Caller, End::Callee]),
                    after: rng.millis(1_000, 4_000),
                    other: rng.pick(&[Survivor::Talks, Survivor::Mute, Survivor::Vanishes]),
                });
                plan.talk = Duration::from_secs(100);
            }
            _ => {}
        }
        if plan.answer == Answer::Never {
            plan.cancel = Some(self.rng.millis(4_000, 12_000));
            plan.twin = Answer::Never;
        }
        if after_idle {
            self.idle.push(id);
        }
        self.book(plan, at);
    }

    /// Some holds are longer than a mapping lives.
    fn hold(&mut self, talk: &mut Duration) -> Vec<Turn> {
        let length = if self.rng.chance(350) { Duration::from_secs(90) } else { self.rng.millis(2_000, 8_000) };
        let after = self.rng.millis(3_000, 5_000);
        *talk = after + length + self.rng.millis(5_000, 8_000);
        let by = self.rng.pick(&[End::Caller, End::Callee]);
        Turn::hold(by, after, length, flows::hold(self.rng)).to_vec()
    }

    fn book(&mut self, plan: CallPlan, at: Time) {
        let over = at + plan.lasts();
        for (phone, end) in [(plan.from, End::Caller), (plan.to, End::Callee)] {
            self.free[phone] = match plan.vanish {
                Some(vanish) if vanish.end == end || vanish.other == Survivor::Vanishes => None,
                Some(_) => Some(at + plan.ring + Duration::from_secs(60)),
                None => Some(over),
            };
        }
        self.plans.push(plan);
    }
}
