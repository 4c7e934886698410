//! What is expected of a run as a whole: planned calls come out as planned,
//! wherever nothing stood in their way.

use std::time::Duration;

use proxy::config::Role;

use crate::clock::Time;
use crate::flows::{Kind, Turn};
use crate::layout::Scene;
use crate::net::NatId;
use crate::phone::{CallLog, Ended, Phone, STRETCHES};
use crate::plan::{Answer, CallPlan, End, Survivor};
use crate::scenario::Weather;
use crate::stats::Outcome;
use crate::verdict::{Score, way_broken};
use crate::world::Node;

/// The records of both ends of a call.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    plan: &'a CallPlan,
    caller: Option<&'a CallLog>,
    callee: Option<&'a CallLog>,
}

impl Call<'_> {
    fn ended(&self, end: End) -> Option<Ended> {
        let log = if end == End::Caller { self.caller } else { self.callee };
        log.and_then(|log| log.ended).map(|(_, how)| how)
    }

    /// Both ends spoke, and one of them said goodbye to the other.
    fn completed(&self) -> bool {
        let answered = |log: Option<&CallLog>| log.is_some_and(|log| log.answered.is_some());
        let ends = (self.ended(End::Caller), self.ended(End::Callee));
        let goodbye = matches!(ends, (Some(Ended::HungUp), Some(Ended::Bye)) | (Some(Ended::Bye), Some(Ended::HungUp)));
        answered(self.caller) && answered(self.callee) && goodbye
    }

    /// Share of the counted packets that each end heard of the other: at the caller, at the callee.
    fn shares(&self) -> Option<[f64; 2]> {
        let (caller, callee) = (self.caller?, self.callee?);
        let share = |heard: u32, sent: u32| (sent >= 50).then(|| f64::from(heard) / f64::from(sent));
        let at_caller = share(caller.heard.heard, callee.heard.sent)?;
        let at_callee = share(callee.heard.heard, caller.heard.sent)?;
        Some([at_caller, at_callee])
    }
}

/// Figures of a finished run, and the first expectation that it failed.
pub(crate) fn judge(scene: &Scene, score: &Score) -> (Outcome, Option<String>) {
    let mut outcome = figures(scene);
    outcome.transactions = score.started;
    outcome.wrong = score.wrong.len() as u64;
    outcome.disturbed = score.disturbed;
    let mut failed = None;
    let phones: Vec<&Phone> = scene.world.phones().collect();
    for plan in &scene.script.plans {
        let logs = |end| phones.iter().flat_map(|p| &p.log).filter(move |log| log.plan == plan.id && log.end == end);
        let caller = logs(End::Caller).find(|log| !log.surplus);
        // Of several phones of the callee's, the one that had the conversation.
        let had = |log: &&CallLog| {
            let call = Call { plan, caller, callee: Some(*log) };
            (call.completed(), log.answered.is_some(), log.heard.any)
        };
        let call = Call { plan, caller, callee: logs(End::Callee).max_by_key(had) };
        count(&mut outcome, scene, &call);
        let wrong = expect(scene, &call).or_else(|| audio(scene, &call));
        failed = failed
            .or_else(|| wrong.map(|what| format!("call {}: {what}; {:?} {:?}", plan.id, call.caller, call.callee)));
    }
    let busy = phones.iter().find(|p| p.busy() > 0);
    failed = failed.or_else(|| busy.map(|p| format!("a call of {} never ended", p.profile.user)));
    if outcome.completed == 0 {
        failed.get_or_insert_with(|| "no call was completed".to_owned());
    }
    (outcome, failed)
}

fn figures(scene: &Scene) -> Outcome {
    let world = &scene.world;
    let mut outcome = Outcome {
        virtual_time: world.now,
        steps: world.steps,
        datagrams: world.ladder.datagrams,
        tally: world.watch.tally,
        calls: scene.script.plans.len() as u64,
        rebinds: scene.rebound.len() as u64,
        lost: world.lost[0],
        filtered: world.lost[2],
        ..Outcome::default()
    };
    for transport in &scene.transports {
        outcome.phones[*transport as usize] += 1;
    }
    if let Some(transport) = scene.upstream {
        outcome.upstreams[transport as usize] += 1;
    }
    outcome.hangs = scene.script.hangs.len() as u64;
    for node in &world.nodes {
        match node {
            Node::Phone(phone) => {
                outcome.retransmissions += phone.retransmitted();
                outcome.reopened += phone.reopened();
            }
            Node::Core(core) => outcome.retransmissions += core.retransmitted(),
            Node::Attacker(attacker) => {
                outcome.attack_packets += attacker.sent;
                outcome.attack_answers += attacker.refused;
            }
            Node::Stun(_) | Node::Bystander | Node::Edge(_) => {}
        }
    }
    outcome
}

fn count(outcome: &mut Outcome, scene: &Scene, call: &Call<'_>) {
    let plan = call.plan;
    let completed = call.completed();
    outcome.completed += u64::from(completed);
    if completed {
        let of = |phone: usize| scene.transports[phone];
        let (caller, callee) = (of(plan.from), of(plan.to));
        outcome.streamed += u64::from(caller.reliable() || callee.reliable());
        outcome.crossed += u64::from(caller != callee);
        outcome.kinds |= 1 << (caller as u32 * 5 + callee as u32);
        if let Some(upstream) = scene.upstream {
            outcome.ways |= [caller, callee].iter().fold(0, |set, t| set | 1 << (*t as u32 * 3 + upstream as u32));
        }
    }
    outcome.idle_calls += u64::from(completed && scene.script.idle.contains(&plan.id));
    outcome.audible += u64::from(completed && call.shares().is_some_and(|s| s.iter().all(|s| *s >= 0.9)));
    outcome.early += u64::from(call.caller.is_some_and(|log| log.heard.early > 0));
    outcome.cancelled += u64::from(call.ended(End::Caller) == Some(Ended::Cancelled));
    outcome.rejected += u64::from(matches!(call.ended(End::Caller), Some(Ended::Refused(486 | 603))));
    let logs = [call.caller, call.callee].into_iter().flatten();
    for log in logs.clone() {
        for (sum, count) in outcome.flows.iter_mut().zip(log.flows) {
            *sum += u64::from(count);
        }
        outcome.checked += u64::from(log.heard.checked);
        outcome.muxed += u64::from(log.heard.muxed);
        outcome.faxed += u64::from(log.heard.faxed);
        outcome.seen += u64::from(log.seen);
    }
    outcome.informed += logs.map(|log| u64::from(log.informed)).sum::<u64>();
    outcome.vanished += u64::from(plan.vanish.is_some());
    outcome.surplus += logs_of_surplus(scene, plan);
    let refused = matches!(call.ended(End::Caller), Some(Ended::Refused(500 | 503)));
    outcome.exhausted += u64::from(refused);
    outcome.failed += u64::from(plan.talks() && plan.vanish.is_none() && !plan.stopped && !refused && !completed);
}

/// Forks that were answered beside the one that counts.
fn logs_of_surplus(scene: &Scene, plan: &CallPlan) -> u64 {
    let logs = scene.world.phones().flat_map(|phone| &phone.log);
    logs.filter(|log| log.plan == plan.id && log.surplus).count() as u64
}

/// True when a rebind or the end of a connection may stand in a call's way, or in its phones'.
fn rebound(scene: &Scene, plan: &CallPlan) -> bool {
    let ends = plan.at + plan.lasts() + Duration::from_secs(2);
    [plan.from, plan.to].into_iter().any(|phone| way_broken(scene, phone, plan.at, ends))
}

/// In fair weather a call comes out as planned.
fn expect(scene: &Scene, call: &Call<'_>) -> Option<String> {
    let plan = call.plan;
    if !scene.script.weather.calm() || rebound(scene, plan) {
        return None;
    }
    let (caller, callee) = (call.ended(End::Caller), call.ended(End::Callee));
    // A call that siplatch's stop overtakes ends with the rest.
    if !plan.stopped && scene.script.stop.is_some_and(|at| at < plan.at + plan.lasts()) {
        return None;
    }
    // With few ports a call may find none, and is told so.
    if scene.script.tight && matches!(caller, Some(Ended::Refused(480 | 486 | 500 | 503))) {
        return None;
    }
    if let Some(vanish) = plan.vanish {
        let survivor = call.ended(vanish.end.other());
        let wanted = match vanish.other {
            Survivor::Talks => Ended::HungUp,
            Survivor::Mute => Ended::ByeWithReason,
            Survivor::Vanishes => Ended::Vanished,
        };
        return (survivor != Some(wanted)).then(|| format!("the survivor should have ended by {wanted:?}"));
    }
    if plan.stopped {
        let told = |how| matches!(how, Some(Ended::ByeWithReason | Ended::Bye));
        return (!told(caller) || !told(callee)).then(|| format!("not ended by the stop: {caller:?}, {callee:?}"));
    }
    if plan.cancel.is_some() {
        // Who gives up on the way to an authenticated INVITE stays refused.
        let gave_up = matches!(caller, Some(Ended::Cancelled | Ended::Refused(401 | 407)));
        let fine = gave_up || call.completed();
        return (!fine).then(|| "neither cancelled nor completed".to_owned());
    }
    if let Answer::Reject(status) = plan.answer {
        return (caller != Some(Ended::Refused(status))).then(|| format!("not refused with {status}"));
    }
    if !call.completed() {
        return Some(format!("not completed: {caller:?}, {callee:?}"));
    }
    let log = |end| if end == End::Caller { call.caller } else { call.callee };
    let done = |(index, turn): &(usize, &Turn)| log(turn.by).is_some_and(|log| log.turned & 1 << index != 0);
    if let Some((_, turn)) = plan.turns.iter().enumerate().find(|turn| !done(turn)).filter(|_| !scene.script.tight) {
        return Some(format!("its {turn:?} did not come out as planned"));
    }
    if plan.inside.is_some() && call.caller.is_none_or(|log| log.informed == 0) {
        return Some("its request inside the dialog was not answered".to_owned());
    }
    let announced = plan.early_media && !plan.delayed_offer && plan.ring > Duration::from_secs(2);
    if announced && call.caller.is_none_or(|log| log.heard.early == 0) {
        return Some("its announcement was not heard".to_owned());
    }
    let long = plan.talk > Duration::from_secs(6);
    let rtcp = |log: Option<&CallLog>| log.is_some_and(|log| log.heard.rtcp > 0);
    let both = rtcp(call.caller) && rtcp(call.callee);
    (long && !both && scene.script.weather != Weather::Slow).then(|| "RTCP did not reach both ends".to_owned())
}

/// Who talked was heard.
fn audio(scene: &Scene, call: &Call<'_>) -> Option<String> {
    if !call.completed() {
        return None;
    }
    let rebound = rebound(scene, call.plan);
    let answered = call.caller.and_then(|log| log.answered).max(call.callee.and_then(|log| log.answered));
    let before = |(_, at): &(NatId, Time)| answered.is_none_or(|answered| *at < answered + Duration::from_secs(1));
    // Who is moved while a call is set up may miss the answer or its ACK until it registers again.
    if rebound && scene.rebound.iter().any(before) {
        return None;
    }
    // While an ACK with the answer is lost, and lost again, one end talks into the void.
    let since = |log: Option<&CallLog>| log.and_then(|log| log.answered).unwrap_or_default();
    let late = since(call.callee).saturating_sub(since(call.caller)) > Duration::from_secs(1);
    if late && !scene.script.weather.calm() {
        return None;
    }
    // While a BYE is lost, and lost again, or goes to where the other end was, that one talks to nobody.
    let ended = |log: Option<&CallLog>| log.and_then(|log| log.ended).map_or(Time::ZERO, |(at, _)| at);
    let apart = ended(call.caller).abs_diff(ended(call.callee)) > Duration::from_secs(1);
    if apart && (rebound || !scene.script.weather.calm()) {
        return None;
    }
    // Of two phones that answer, siplatch gives the caller's one stream to the last: media per To tag comes later.
    if logs_of_surplus(scene, call.plan) > 0 {
        return None;
    }
    // A phone on a stream is seen at its NAT's new address only when it has registered again.
    let moved = |phone: usize| {
        let nat = scene.boxes.get(phone).copied().flatten();
        scene.transports[phone].reliable() && scene.rebound.iter().any(|(id, _)| nat == Some(*id))
    };
    if rebound && (moved(call.plan.from) || moved(call.plan.to)) {
        return None;
    }
    // A provider that does not latch keeps sending to an office's old mapping.
    if rebound && scene.role == Role::Office {
        return None;
    }
    let least = if rebound { 0.6 } else { scene.script.weather.audio() };
    let withheld = [call.caller, call.callee].into_iter().flatten().map(|log| log.heard.withheld).max();
    if scene.script.weather.calm() && !rebound && withheld > Some(150) {
        return Some(format!("{withheld:?} packets waited for ICE"));
    }
    let [caller, callee] = call.shares()?;
    if caller < least || callee < least {
        return Some(format!("the caller heard {caller:.2} of the callee, the callee {callee:.2}; {least} are due"));
    }
    if rebound {
        return None;
    }
    // After each exchange audio flows again, and so does what else was agreed.
    let calm = scene.script.weather.calm();
    let (enough, part) = if calm { (50, least) } else { (150, 0.5) };
    for (listener, speaker, end) in [(call.caller?, call.callee?, "caller"), (call.callee?, call.caller?, "callee")] {
        for stretch in 0..STRETCHES {
            let (sent, heard) = (speaker.heard.stretches[stretch][0], listener.heard.stretches[stretch][1]);
            if sent >= enough && f64::from(heard) < part * f64::from(sent) {
                return Some(format!(
                    "the {end} heard {heard} of {sent} packets after exchange {stretch} of the other"
                ));
            }
        }
        let flowed =
            |kind: Kind| call.plan.turns.iter().filter(|turn| !turn.refused).any(|t| t.kinds().any(|k| k == kind));
        if calm && !scene.script.tight && flowed(Kind::Fax) && listener.heard.faxed == 0 {
            return Some(format!("no T.38 reached the {end}"));
        }
        if calm && !scene.script.tight && flowed(Kind::VideoOn) && listener.seen == 0 {
            return Some(format!("no video reached the {end}"));
        }
    }
    None
}
