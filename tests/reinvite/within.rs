//! Cases of a call that is up: hold, codecs, streams that come and go, fax,
//! UPDATE, offers that are late, refused, or meet each other; refreshes.

use std::time::Duration;

use peer::Kind;

use super::call::{Call, Step, pair};
use super::column::{Column, TIMEOUT_S};
use super::sdp::{FAX, G722, INACTIVE, OPUS, PCMU, Plan, RECVONLY, SENDONLY, VIDEO};

type Shares = Step<[f64; 2]>;

fn audio() -> Plan {
    Plan::of(&[PCMU])
}

/// Each end holds, and resumes after a silence that would end a call that is not on hold.
fn hold(column: &Column, incoming: bool, offer: &Plan, answer: &Plan, music: bool) -> Shares {
    let mut call = Call::up(column, incoming)?;
    for by in 0..2 {
        let holder = |on: bool| if by == 0 { [on, false] } else { [false, on] };
        call.modify("INVITE", by, offer, answer)?;
        call.flows("on hold", &[Kind::Audio], holder(music))?;
        if by == 0 {
            let silence = Duration::from_secs(TIMEOUT_S) + Duration::from_millis(1500);
            for end in &mut call.ends {
                let half = silence / 2;
                if !end.dialog.hears_no("BYE", half) {
                    return Err("a BYE on hold".to_owned());
                }
            }
        }
        call.modify("INVITE", by, &audio(), &audio())?;
        call.sounds("resumed")?;
    }
    call.hang_up(0)
}

pub(super) fn hold_sendonly(column: &Column, incoming: bool) -> Shares {
    hold(column, incoming, &Plan::of(&[SENDONLY]), &Plan::of(&[RECVONLY]), true)
}

pub(super) fn hold_inactive(column: &Column, incoming: bool) -> Shares {
    hold(column, incoming, &Plan::of(&[INACTIVE]), &Plan::of(&[INACTIVE]), false)
}

pub(super) fn hold_zero(column: &Column, incoming: bool) -> Shares {
    hold(column, incoming, &audio().zero(), &audio(), true)
}

pub(super) fn hold_session(column: &Column, incoming: bool) -> Shares {
    let (offer, answer) = (audio().session("a=sendonly\r\n"), audio().session("a=recvonly\r\n"));
    hold(column, incoming, &offer, &answer, true)
}

pub(super) fn codec(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::up(column, incoming)?;
    for (by, line) in [(0, OPUS), (1, G722), (0, PCMU)] {
        call.modify("INVITE", by, &Plan::of(&[line]), &Plan::of(&[line]))?;
        call.sounds("another codec")?;
    }
    call.hang_up(1)
}

pub(super) fn video(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::up(column, incoming)?;
    let both = Plan::of(&[PCMU, VIDEO]);
    let gone = Plan::of(&[PCMU, VIDEO.off()]);
    call.modify("INVITE", 0, &both, &both)?;
    call.flows("video added", &[Kind::Audio, Kind::Video], [true; 2])?;
    call.modify("INVITE", 1, &gone, &gone)?;
    call.sounds("video removed")?;
    call.modify("INVITE", 0, &gone, &gone)?;
    call.sounds("video still away")?;
    call.modify("INVITE", 1, &both, &both)?;
    call.flows("video again", &[Kind::Audio, Kind::Video], [true; 2])?;
    call.modify("INVITE", 0, &both, &gone)?;
    call.sounds("video refused")?;
    call.hang_up(0)
}

/// T.38 in the place of audio, as most gateways do.
pub(super) fn fax_in_place(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::up(column, incoming)?;
    for by in [1, 0] {
        call.modify("INVITE", by, &Plan::of(&[FAX]), &Plan::of(&[FAX]))?;
        call.flows("fax", &[Kind::Fax], [true; 2])?;
        call.modify("INVITE", by, &audio(), &audio())?;
        call.sounds("audio again")?;
    }
    call.hang_up(0)
}

/// T.38 on an m-line of its own, beside audio that is switched off.
pub(super) fn fax_beside(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::up(column, incoming)?;
    let fax = Plan::of(&[PCMU.off(), FAX]);
    let back = Plan::of(&[PCMU, FAX.off()]);
    for by in [1, 0] {
        call.modify("INVITE", by, &fax, &fax)?;
        call.flows_at("fax", &[(1, Kind::Fax)], [true; 2])?;
        call.modify("INVITE", by, &back, &back)?;
        call.sounds("audio again")?;
    }
    call.hang_up(0)
}

pub(super) fn update(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::up(column, incoming)?;
    for (by, line) in [(0, OPUS), (1, G722), (0, PCMU)] {
        call.modify("UPDATE", by, &Plan::of(&[line]), &Plan::of(&[line]))?;
        call.sounds("updated")?;
    }
    call.hang_up(1)
}

/// INVITE without SDP, then re-INVITEs without by both ends.
pub(super) fn delayed(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::new(column, incoming);
    let (invite, invited) = call.invite(None)?;
    call.ends[1].dialog.reply(&invited, "180 Ringing", "", "");
    late_offer(&mut call, 0, &invite, &invited, &audio())?;
    call.sounds("the answer in the ACK")?;
    for (by, line) in [(0, PCMU), (1, OPUS), (0, G722)] {
        let [from, to] = pair(&mut call.ends, by);
        let invite = from.dialog.draft("INVITE");
        from.dialog.send(&invite);
        let invited = to.dialog.request("INVITE")?;
        late_offer(&mut call, by, &invite, &invited, &Plan::of(&[line]))?;
        call.sounds("a re-INVITE without SDP")?;
    }
    call.hang_up(0)
}

/// The offer in the 200, the answer in the ACK.
fn late_offer(call: &mut Call, by: usize, invite: &peer::Draft, invited: &peer::Message, plan: &Plan) -> Step {
    let [from, to] = pair(&mut call.ends, by);
    let offer = to.say(plan);
    to.dialog.reply(invited, "200 OK", "", &offer);
    let ok = from.dialog.response(invite, 200)?;
    from.hear(&offer, &ok)?;
    // The first one makes the dialog, the others refresh its target.
    from.dialog.learn(&ok);
    let answer = from.say(plan);
    let ack = from.dialog.ack(invite).sdp(&answer);
    from.dialog.send(&ack);
    let acked = to.dialog.request("ACK")?;
    to.hear(&answer, &acked)
}

/// Re-INVITEs that get 488: with another codec and with more streams.
pub(super) fn refused(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::up(column, incoming)?;
    for (by, plan) in [(0, Plan::of(&[OPUS, VIDEO])), (1, Plan::of(&[FAX])), (0, Plan::of(&[INACTIVE]))] {
        let [from, to] = pair(&mut call.ends, by);
        let body = from.say(&plan);
        let invite = from.dialog.draft("INVITE").sdp(&body);
        from.dialog.send(&invite);
        let invited = to.dialog.request("INVITE")?;
        to.refuse(&body, &invited)?;
        call.sounds("while the offer is open")?;
        let [from, to] = pair(&mut call.ends, by);
        to.dialog.reply(&invited, "488 Not Acceptable Here", "", "");
        let failed = from.dialog.response(&invite, 488)?;
        let ack = from.dialog.of_same_branch(&invite, "ACK", Some(&failed));
        from.dialog.send(&ack);
        to.dialog.request("ACK")?;
        call.sounds("refused")?;
        // Silence that ends a call must not be switched off by an offer that failed.
        call.modify("INVITE", by, &audio(), &audio())?;
        call.sounds("as before")?;
    }
    call.hang_up(1)
}

/// Both ends offer at once: 491 to both, and each tries again.
pub(super) fn glare(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::up(column, incoming)?;
    let plans = [Plan::of(&[OPUS]), Plan::of(&[G722, VIDEO])];
    let mut sent = Vec::new();
    for (end, plan) in call.ends.iter_mut().zip(&plans) {
        let body = end.say(plan);
        let invite = end.dialog.draft("INVITE").sdp(&body);
        sent.push((invite, body));
    }
    call.ends.iter().zip(&sent).for_each(|(end, (invite, _))| end.dialog.send(invite));
    for (by, (invite, body)) in sent.iter().enumerate() {
        let [from, to] = pair(&mut call.ends, by);
        let invited = to.dialog.request("INVITE")?;
        to.refuse(body, &invited)?;
        to.dialog.reply(&invited, "491 Request Pending", "", "");
        let failed = from.dialog.response(invite, 491)?;
        let ack = from.dialog.of_same_branch(invite, "ACK", Some(&failed));
        from.dialog.send(&ack);
        to.dialog.request("ACK")?;
        call.sounds("491")?;
    }
    call.modify("INVITE", 1, &Plan::of(&[G722, VIDEO]), &Plan::of(&[G722, VIDEO.off()]))?;
    call.sounds("tried again")?;
    call.modify("INVITE", 0, &Plan::of(&[OPUS, VIDEO.off()]), &Plan::of(&[OPUS, VIDEO.off()]))?;
    call.sounds("tried again by the other")?;
    call.hang_up(0)
}

/// Session refreshes (RFC 4028 §7.4): nothing has changed, and nothing may change.
pub(super) fn refresh(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::up(column, incoming)?;
    for (by, method, refresher) in
        [(0, "INVITE", "uac"), (1, "INVITE", "uas"), (0, "UPDATE", "uac"), (1, "UPDATE", "uac")]
    {
        call.modify_with(method, by, &audio(), &audio(), &format!("1800;refresher={refresher}"))?;
        call.sounds("refreshed")?;
    }
    call.hang_up(1)
}
