//! Did every transaction end as it should: with a final response that is right
//! for what happened, in the time that RFC 3261 §17 gives it?
//!
//! Counted are the client transactions of phones and core. A silence or a
//! refusal is right only where the script broke the way, unplugged a phone, or
//! took the ports.

use std::collections::BTreeMap;
use std::time::Duration;

use proxy::config::Role;
use wire::Transport;

use crate::clock::Time;
use crate::layout::Scene;
use crate::phone::{CallLog, Ended, Phone};
use crate::plan::{Answer, CallPlan};
use crate::scenario::{FIRST_CALL, RECOVERS, REOPENS, REROUTES};
use crate::transaction::{LONG, Record, Result};
use crate::world::Node;

/// How many transactions there were, and which ended wrong.
#[derive(Debug, Default)]
pub(crate) struct Score {
    pub(crate) started: u64,
    /// Without the answer that was planned, because the script stood in the way.
    pub(crate) disturbed: u64,
    pub(crate) wrong: Vec<String>,
}

/// Looks at all transactions of a finished run.
pub(crate) fn score(scene: &Scene) -> Score {
    let mut score = Score::default();
    let phones: Vec<&Phone> = scene.world.phones().collect();
    let mut calls: BTreeMap<&str, Vec<&CallLog>> = BTreeMap::new();
    for log in phones.iter().flat_map(|phone| &phone.log) {
        calls.entry(&log.call_id).or_default().push(log);
    }
    // A run that was broken off says nothing of what was to come.
    if !scene.world.watch.holds() {
        return score;
    }
    let court = Court { scene, phones: &phones, calls };
    for phone in &phones {
        for record in &phone.transactions.records {
            court.count(&mut score, &phone.profile.user, Some(phone), record);
        }
    }
    for node in &scene.world.nodes {
        if let Node::Core(core) = node {
            for record in &core.transactions.records {
                court.count(&mut score, "core", None, record);
            }
        }
    }
    score
}

struct Court<'a> {
    scene: &'a Scene,
    phones: &'a [&'a Phone],
    calls: BTreeMap<&'a str, Vec<&'a CallLog>>,
}

impl Court<'_> {
    fn count(&self, score: &mut Score, who: &str, phone: Option<&Phone>, record: &Record) {
        let pending = record.result == Result::Open;
        // What the end of the run overtakes has not ended.
        if pending && record.started + LONG + LONG > self.scene.world.now {
            return;
        }
        score.started += 1;
        if self.planned(phone, record) {
            return;
        }
        if self.disturbed(phone, self.plan(record), record.started, self.until(record)) {
            score.disturbed += 1;
            return;
        }
        let Record { method, uri, call_id, inside, transport, started, ended, result } = record;
        let place = if *inside { "inside a dialog" } else { "outside" };
        let (from, to) = (started.as_secs_f64(), ended.as_secs_f64());
        score.wrong.push(format!(
            "{method} {uri} of {who} {place} over {}, call {call_id:.6}: {result:?}, {from:.3} to {to:.3} s",
            transport.via()
        ));
    }

    fn logs(&self, record: &Record) -> &[&CallLog] {
        self.calls.get(record.call_id.as_str()).map(Vec::as_slice).unwrap_or_default()
    }

    fn plan(&self, record: &Record) -> Option<&CallPlan> {
        self.logs(record).first().map(|log| &self.scene.script.plans[log.plan])
    }

    fn until(&self, record: &Record) -> Time {
        if record.result == Result::Open { self.scene.world.now } else { record.ended }
    }

    /// The final response fits the plan.
    fn planned(&self, phone: Option<&Phone>, record: &Record) -> bool {
        let Result::Final(status) = record.result else { return false };
        let plan = self.plan(record);
        let over = self.logs(record).iter().any(|log| log.ended.is_some_and(|(at, _)| at <= record.ended));
        match (record.method.as_str(), record.inside, status) {
            (_, _, 401 | 407) => phone.is_some_and(|phone| phone.profile.password.is_some()),
            ("REGISTER", ..) => status == 200 || status == 503 && self.unmapped(record.started),
            ("INVITE", false, _) => plan.is_some_and(|plan| self.answers(plan, status)),
            ("INVITE" | "UPDATE", true, _) => {
                let refused = plan.is_some_and(|plan| plan.turns.iter().any(|turn| turn.refused));
                let scarce = self.scene.script.tight && matches!(status, 500 | 503);
                matches!(status, 200 | 491) || refused && status == 488 || scarce || over && status == 481
            }
            ("CANCEL" | "BYE", ..) => matches!(status, 200 | 481),
            _ => status == 200 || over && status == 481,
        }
    }

    /// An office does not know its public address before STUN has answered.
    fn unmapped(&self, at: Time) -> bool {
        self.scene.role == Role::Office && at < FIRST_CALL
    }

    /// What an INVITE of this plan may be answered with.
    fn answers(&self, plan: &CallPlan, status: u16) -> bool {
        let forked = self.scene.script.twin && self.phones.iter().any(|p| self.is_twin(p, plan));
        let wanted = |answer: Answer| match answer {
            Answer::Accept => (200..300).contains(&status),
            Answer::Reject(refusal) => status == refusal,
            Answer::Never => false,
        };
        let scarce = self.scene.script.tight && matches!(status, 480 | 486 | 500 | 503);
        wanted(plan.answer)
            || forked && wanted(plan.twin)
            || scarce
            || status == 487 && (plan.cancel.is_some() || forked)
    }

    fn is_twin(&self, phone: &Phone, plan: &CallPlan) -> bool {
        let callee = self.phones.iter().find(|p| p.me == plan.to);
        phone.me != plan.to && callee.is_some_and(|callee| callee.profile.user == phone.profile.user)
    }

    /// Something that the script did stood in the way of a transaction.
    fn disturbed(&self, phone: Option<&Phone>, plan: Option<&CallPlan>, from: Time, until: Time) -> bool {
        let ends = plan.into_iter().flat_map(|plan| [plan.from, plan.to]);
        let twins = self.phones.iter().filter(|p| plan.is_some_and(|plan| self.is_twin(p, plan))).map(|p| p.me);
        let involved: Vec<usize> = phone.map(|phone| phone.me).into_iter().chain(ends).chain(twins).collect();
        let of = |me: &usize| self.phones.iter().find(|p| p.me == *me);
        let vanished = |me: &usize| {
            let gone =
                of(me).and_then(|p| p.log.iter().find(|log| log.ended.is_some_and(|(_, how)| how == Ended::Vanished)));
            gone.and_then(|log| log.ended).is_some_and(|(at, _)| at <= until)
        };
        let stopped = self.scene.script.stop.is_some_and(|at| at <= until + LONG);
        stopped || involved.iter().any(|me| vanished(me) || way_broken(self.scene, *me, from, until))
    }
}

/// True when the script broke the way between a phone and siplatch, or between siplatch and the core, so late that
/// it still was broken then.
pub(crate) fn way_broken(scene: &Scene, phone: usize, from: Time, until: Time) -> bool {
    let between = |at: Time, recovers: Duration| at <= until && at + recovers > from;
    let stream = scene.transports.get(phone).is_some_and(|t| *t != Transport::Udp);
    let nat = scene.boxes.get(phone).copied().flatten();
    let rebound = scene.rebound.iter().filter(|(id, _)| nat == Some(*id)).any(|(id, at)| {
        let meddles = scene.world.net.nat(*id).behaviour.meddles && !stream;
        // Behind a router that rewrites SIP a phone shows no NAT and keeps its long expiry, so it is away for as long.
        meddles && *at <= until || between(*at, if stream { REROUTES } else { RECOVERS })
    });
    let hung = scene.script.hangs.iter().any(|hang| {
        let core = hang.phone.is_none() && scene.role != Role::Standalone;
        (core || hang.phone == Some(phone)) && between(hang.at, REOPENS)
    });
    rebound || hung
}
