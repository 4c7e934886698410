//! The ways in which calls come and go.

use std::time::Duration;

use peer::{Dialog, Draft, Message};

use super::world::World;

pub(super) type Step<T = ()> = Result<T, String>;

/// What is left to do where an end has to be waited for; those of one way wait equally long.
pub(super) type Rest = Box<dyn FnOnce() -> Step + Send>;

type Way = fn(&World, usize) -> Step<Option<Rest>>;

pub(super) const WAYS: [(&str, Way); 16] = [
    ("BYE by the caller", |world, number| bye(world, number, 0)),
    ("BYE by the callee", |world, number| bye(world, number, 1)),
    ("CANCEL while it rings", cancelled),
    ("486", |world, number| refused(world, number, "486 Busy Here")),
    ("603", |world, number| refused(world, number, "603 Decline")),
    ("the offer is refused by 488", |world, number| refused(world, number, "488 Not Acceptable Here")),
    ("the offer is refused in the answer", declined),
    ("the 200 crosses the CANCEL", crossed),
    ("a re-INVITE fails, then BYE", reinvited),
    ("401 or 407, then again with credentials", challenged),
    ("the offer comes in the 200", delayed),
    ("the ACK is lost", ack_lost),
    ("the caller vanishes before the ACK", unacknowledged),
    ("the caller is killed in mid-call", |world, number| killed(world, number, 0)),
    ("the callee is killed in mid-call", |world, number| killed(world, number, 1)),
    ("the callee has vanished", unanswered),
];

/// 64·T1 and whatever a busy machine adds.
const LONG: Duration = Duration::from_secs(50);

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.9.9.9\r\ns=-\r\nc=IN IP4 127.9.9.9\r\nt=0 0\r\nm=audio 4000 RTP/AVP \
                   0\r\na=rtpmap:0 PCMU/8000\r\n";
const DECLINED: &str =
    "v=0\r\no=- 1 1 IN IP4 127.9.9.9\r\ns=-\r\nc=IN IP4 127.9.9.9\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\n";

/// It rings.
fn ring(ends: &mut [Dialog; 2], body: &str) -> Step<(Draft, Message)> {
    let [caller, callee] = ends;
    let mut invite = caller.draft("INVITE");
    if !body.is_empty() {
        invite = invite.sdp(body);
    }
    caller.send(&invite);
    let invited = callee.invited()?;
    callee.reply(&invited, "180 Ringing", "", "");
    caller.response(&invite, 180)?;
    Ok((invite, invited))
}

/// It is answered, and the answer acknowledged.
fn answer(ends: &mut [Dialog; 2], invite: &Draft, invited: &Message, body: &str) -> Step {
    let [caller, callee] = ends;
    callee.reply(invited, "200 OK", "", body);
    let ok = caller.response(invite, 200)?;
    caller.learn(&ok);
    let ack = caller.ack(invite);
    caller.send(&ack);
    callee.request("ACK").map(drop)
}

fn up(world: &World, number: usize) -> Step<[Dialog; 2]> {
    let mut ends = world.ends(number);
    let (invite, invited) = ring(&mut ends, SDP)?;
    answer(&mut ends, &invite, &invited, SDP)?;
    Ok(ends)
}

fn hang_up(ends: &mut [Dialog; 2], by: usize) -> Step<Option<Rest>> {
    let [caller, callee] = ends;
    let (from, to) = if by == 0 { (caller, callee) } else { (callee, caller) };
    let bye = from.draft("BYE");
    from.send(&bye);
    let got = to.request("BYE")?;
    to.reply(&got, "200 OK", "", "");
    from.response(&bye, 200)?;
    Ok(None)
}

/// The failure of an INVITE, and its ACK on both sides.
fn fail(from: &mut Dialog, to: &mut Dialog, invite: &Draft, invited: &Message, status: &str) -> Step {
    to.reply(invited, status, "", "");
    let failed = from.response(invite, status[..3].parse().unwrap())?;
    from.send(&from.of_same_branch(invite, "ACK", Some(&failed)));
    to.request("ACK").map(drop)
}

fn bye(world: &World, number: usize, by: usize) -> Step<Option<Rest>> {
    hang_up(&mut up(world, number)?, by)
}

fn cancelled(world: &World, number: usize) -> Step<Option<Rest>> {
    let mut ends = world.ends(number);
    let (invite, invited) = ring(&mut ends, SDP)?;
    let [caller, callee] = &mut ends;
    let cancel = caller.of_same_branch(&invite, "CANCEL", None);
    caller.send(&cancel);
    caller.response(&cancel, 200)?;
    let got = callee.request("CANCEL")?;
    callee.reply(&got, "200 OK", "", "");
    fail(caller, callee, &invite, &invited, "487 Request Terminated")?;
    Ok(None)
}

fn refused(world: &World, number: usize, status: &str) -> Step<Option<Rest>> {
    let mut ends = world.ends(number);
    let (invite, invited) = ring(&mut ends, SDP)?;
    let [caller, callee] = &mut ends;
    fail(caller, callee, &invite, &invited, status)?;
    Ok(None)
}

fn declined(world: &World, number: usize) -> Step<Option<Rest>> {
    let mut ends = world.ends(number);
    let (invite, invited) = ring(&mut ends, SDP)?;
    answer(&mut ends, &invite, &invited, DECLINED)?;
    hang_up(&mut ends, number % 2)
}

fn crossed(world: &World, number: usize) -> Step<Option<Rest>> {
    let mut ends = world.ends(number);
    let (invite, invited) = ring(&mut ends, SDP)?;
    let [caller, callee] = &mut ends;
    let cancel = caller.of_same_branch(&invite, "CANCEL", None);
    caller.send(&cancel);
    callee.reply(&invited, "200 OK", "", SDP);
    caller.response(&cancel, 200)?;
    let ok = caller.response(&invite, 200)?;
    caller.learn(&ok);
    let ack = caller.ack(&invite);
    caller.send(&ack);
    // Where the 200 was faster, no CANCEL is sent on.
    if let Ok(got) = callee.wait_for(Duration::from_millis(50), "CANCEL", |m| m.method() == Some("CANCEL")) {
        callee.reply(&got, "200 OK", "", "");
    }
    callee.request("ACK")?;
    hang_up(&mut ends, 0)
}

fn reinvited(world: &World, number: usize) -> Step<Option<Rest>> {
    let mut ends = up(world, number)?;
    let [caller, callee] = &mut ends;
    let (from, to) = if number % 4 < 2 { (caller, callee) } else { (callee, caller) };
    let video = format!("{SDP}m=video 4002 RTP/AVP 97\r\n");
    let invite = from.draft("INVITE").sdp(&video);
    from.send(&invite);
    let invited = to.request("INVITE")?;
    fail(from, to, &invite, &invited, "488 Not Acceptable Here")?;
    hang_up(&mut ends, number % 2)
}

fn challenged(world: &World, number: usize) -> Step<Option<Rest>> {
    // Only a core may ask for a password.
    let mut ends = world.outgoing(number);
    let (status, asks, gives) = if number.is_multiple_of(2) {
        ("407 Proxy Authentication Required", "Proxy-Authenticate", "Proxy-Authorization")
    } else {
        ("401 Unauthorized", "WWW-Authenticate", "Authorization")
    };
    let [caller, callee] = &mut ends;
    let first = caller.draft("INVITE").sdp(SDP);
    caller.send(&first);
    let invited = callee.invited()?;
    let more = format!("{asks}: Digest realm=\"core\", nonce=\"0123456789abcdef\", algorithm=MD5\r\n");
    callee.reply(&invited, status, &more, "");
    let failed = caller.response(&first, status[..3].parse().unwrap())?;
    caller.send(&caller.of_same_branch(&first, "ACK", Some(&failed)));
    callee.request("ACK")?;
    let given = "Digest username=\"alice\", realm=\"core\", nonce=\"0123456789abcdef\", uri=\"sip:core\", \
                 response=\"0123456789abcdef0123456789abcdef\"";
    let again = caller.draft("INVITE").add(gives, given).sdp(SDP);
    caller.send(&again);
    let invited = callee.invited()?;
    answer(&mut ends, &again, &invited, SDP)?;
    hang_up(&mut ends, number % 2)
}

fn delayed(world: &World, number: usize) -> Step<Option<Rest>> {
    let mut ends = world.ends(number);
    let (invite, invited) = ring(&mut ends, "")?;
    let [caller, callee] = &mut ends;
    callee.reply(&invited, "200 OK", "", SDP);
    let ok = caller.response(&invite, 200)?;
    caller.learn(&ok);
    let ack = caller.ack(&invite).sdp(SDP);
    caller.send(&ack);
    callee.request("ACK")?;
    hang_up(&mut ends, number % 2)
}

fn ack_lost(world: &World, number: usize) -> Step<Option<Rest>> {
    let mut ends = world.ends(number);
    let (invite, invited) = ring(&mut ends, SDP)?;
    answer(&mut ends, &invite, &invited, SDP)?;
    // The callee did not get it, and says so.
    let [caller, callee] = &mut ends;
    callee.reply(&invited, "200 OK", "", SDP);
    caller.response(&invite, 200)?;
    let ack = caller.ack(&invite);
    caller.send(&ack);
    callee.request("ACK")?;
    hang_up(&mut ends, number % 2)
}

fn unacknowledged(world: &World, number: usize) -> Step<Option<Rest>> {
    let mut ends = world.ends(number);
    let (invite, invited) = ring(&mut ends, SDP)?;
    let [mut caller, callee] = ends;
    callee.reply(&invited, "200 OK", "", SDP);
    caller.response(&invite, 200)?;
    Ok(Some(ended_by_us(callee)))
}

/// Nothing comes from one end any more, and of media nothing comes at all.
fn killed(world: &World, number: usize, end: usize) -> Step<Option<Rest>> {
    let [caller, callee] = up(world, number)?;
    Ok(Some(ended_by_us(if end == 0 { callee } else { caller })))
}

/// siplatch ends the call, and tells whoever is still there.
fn ended_by_us(mut left: Dialog) -> Rest {
    Box::new(move || {
        let got = left.wait_for(LONG, "BYE", |message| message.method() == Some("BYE"))?;
        left.reply(&got, "200 OK", "", "");
        Ok(())
    })
}

fn unanswered(world: &World, number: usize) -> Step<Option<Rest>> {
    let [mut caller, callee] = world.incoming(number);
    drop(callee);
    let invite = caller.draft("INVITE").sdp(SDP);
    caller.send(&invite);
    Ok(Some(Box::new(move || {
        let failed = caller.wait_for(LONG, "408", |message| message.status() == Some(408))?;
        caller.send(&caller.of_same_branch(&invite, "ACK", Some(&failed)));
        Ok(())
    })))
}
