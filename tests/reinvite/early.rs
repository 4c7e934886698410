//! Cases of a dialog that is not answered yet: reliable provisional responses
//! (RFC 3262 §5) and UPDATE (RFC 3311 §5), each with offers of its own.

use peer::Kind;

use super::call::{Call, Step};
use super::column::Column;
use super::sdp::{G722, OPUS, PCMU, Plan, VIDEO};

type Shares = Step<[f64; 2]>;

const RELIABLE: &str = "Require: 100rel\r\nRSeq: 1\r\n";

/// The callee's reliable 183 with this body, which the caller reads and acknowledges; the PRACK carries
/// `offer`, and its 200 `answer`.
fn progress(
    call: &mut Call,
    invite: &peer::Draft,
    invited: &peer::Message,
    said: &Plan,
    offer: Option<&Plan>,
    answer: Option<&Plan>,
) -> Step {
    let [caller, callee] = &mut call.ends;
    let body = callee.say(said);
    callee.dialog.reply(invited, "183 Session Progress", RELIABLE, &body);
    let progress = caller.dialog.response(invite, 183)?;
    caller.dialog.learn(&progress);
    caller.hear(&body, &progress)?;
    if progress.value("RSeq") != Some("1") {
        return Err("the RSeq is lost".to_owned());
    }
    let rack = format!("1 {}", invite.value("CSeq").unwrap_or_default());
    let mut prack = caller.dialog.draft("PRACK").add("RAck", &rack);
    let mut body = String::new();
    if let Some(plan) = offer {
        body = caller.say(plan);
        prack = prack.sdp(&body);
    }
    caller.dialog.send(&prack);
    let got = callee.dialog.request("PRACK")?;
    if got.value("RAck") != Some(&rack) {
        return Err("the RAck is lost".to_owned());
    }
    if offer.is_some() {
        callee.hear(&body, &got)?;
    }
    let body = answer.map(|plan| callee.say(plan)).unwrap_or_default();
    callee.dialog.reply(&got, "200 OK", "", &body);
    let ok = caller.dialog.response(&prack, 200)?;
    if answer.is_some() {
        caller.hear(&body, &ok)?;
    }
    Ok(())
}

/// The offer in the reliable 183, its answer in PRACK.
pub(super) fn prack_answers(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::new(column, incoming);
    let (invite, invited) = call.invite(None)?;
    let plan = Plan::of(&[PCMU]);
    progress(&mut call, &invite, &invited, &plan, Some(&plan), None)?;
    call.sounds("early")?;
    call.accept(&invite, &invited, None)?;
    call.sounds("answered")?;
    call.hang_up(0)
}

/// Offer and answer are done with the reliable 183; PRACK offers again, its 200 answers.
pub(super) fn prack_offers(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::new(column, incoming);
    let (invite, invited) = call.invite(Some(&Plan::of(&[PCMU])))?;
    let second = Plan::of(&[OPUS, VIDEO]);
    progress(&mut call, &invite, &invited, &Plan::of(&[PCMU]), Some(&second), Some(&second))?;
    call.flows("early", &[Kind::Audio, Kind::Video], [true; 2])?;
    call.accept(&invite, &invited, None)?;
    call.flows("answered", &[Kind::Audio, Kind::Video], [true; 2])?;
    call.hang_up(1)
}

/// UPDATE by either end before the answer.
pub(super) fn update(column: &Column, incoming: bool) -> Shares {
    let mut call = Call::new(column, incoming);
    let (invite, invited) = call.invite(Some(&Plan::of(&[PCMU])))?;
    progress(&mut call, &invite, &invited, &Plan::of(&[PCMU]), None, None)?;
    call.sounds("early")?;
    for (by, line) in [(0, OPUS), (1, G722)] {
        call.modify("UPDATE", by, &Plan::of(&[line]), &Plan::of(&[line]))?;
        call.sounds("updated early")?;
    }
    call.accept(&invite, &invited, None)?;
    call.sounds("answered")?;
    call.modify("UPDATE", 0, &Plan::of(&[PCMU]), &Plan::of(&[PCMU]))?;
    call.sounds("updated")?;
    call.hang_up(0)
}
