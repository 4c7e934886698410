//! A call with a scripted end on each side of siplatch: every exchange checks
//! the SDP that comes out, and every step measures the streams that there are.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use peer::{Dialog, Draft, Kind, Message, Sockets, Ways, exchange};

use super::column::{Column, DOMAIN, Side};
use super::sdp::{PCMU, Plan, Reader, Writer};

/// What a step came to, or why it failed.
pub(super) type Step<T = ()> = Result<T, String>;

/// The least share that must arrive.
const LEAST: f64 = 0.97;

/// One end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) dialog: Dialog,
    facing: IpAddr,
    pub(super) sockets: Sockets,
    writer: Writer,
    reader: Reader,
}

impl End {
    fn new(dialog: Dialog, side: &Side, number: u8) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1000);
        let own = side.line.address.ip();
        let writer = Writer::new(NEXT.fetch_add(1, Ordering::Relaxed), own);
        Self { dialog, facing: side.at.ip(), sockets: Sockets::new(own, number), writer, reader: Reader::default() }
    }

    /// Its body for this plan.
    pub(super) fn say(&mut self, plan: &Plan) -> String {
        self.writer.write(plan, |kind| self.sockets.port(kind))
    }

    /// Reads a body that the other end sent so.
    pub(super) fn hear(&mut self, sent: &str, got: &Message) -> Step {
        self.reader.read(sent, got.body(), self.facing).map_err(|why| format!("{}: {why}", got.start()))
    }

    /// Checks an offer that it refuses: what was agreed on before stands, and the next one is compared with that.
    pub(super) fn refuse(&mut self, sent: &str, got: &Message) -> Step {
        let before = self.reader.clone();
        let fits = self.hear(sent, got);
        self.reader = before;
        fits
    }
}

/// A call; `ends[0]` has called `ends[1]`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) ends: [End; 2],
    /// The least share that arrived in any step: from the caller, and to it.
    pub(super) worst: [f64; 2],
}

impl Call {
    /// Ends that have not said anything yet; `incoming`: toward the phone.
    pub(super) fn new(column: &Column, incoming: bool) -> Self {
        let (from, to, uri) = if incoming {
            let uri = column.far.line.registered(&column.phone.line.name).unwrap();
            (&column.far, &column.phone, uri)
        } else {
            (&column.phone, &column.far, format!("sip:bob@{DOMAIN}"))
        };
        let caller = Dialog::caller(&from.line, from.at, &uri);
        let callee = Dialog::callee(&to.line, to.at, &caller.call_id, "there");
        Self { ends: [End::new(caller, from, 1), End::new(callee, to, 2)], worst: [1.0; 2] }
    }

    /// One that is up with audio both ways, measured.
    pub(super) fn up(column: &Column, incoming: bool) -> Step<Self> {
        let mut call = Self::new(column, incoming);
        let plan = Plan::of(&[PCMU]);
        let (invite, invited) = call.invite(Some(&plan))?;
        call.ends[1].dialog.reply(&invited, "180 Ringing", "", "");
        call.accept(&invite, &invited, Some(&plan))?;
        call.sounds("the answer")?;
        Ok(call)
    }

    /// The caller's INVITE, as sent and as it came.
    pub(super) fn invite(&mut self, offer: Option<&Plan>) -> Step<(Draft, Message)> {
        let [caller, callee] = &mut self.ends;
        let mut invite = caller.dialog.draft("INVITE").add("Supported", "100rel");
        let body = offer.map(|plan| caller.say(plan)).unwrap_or_default();
        if offer.is_some() {
            invite = invite.sdp(&body);
        }
        caller.dialog.send(&invite);
        let invited = callee.dialog.invited()?;
        if offer.is_some() {
            callee.hear(&body, &invited)?;
        }
        Ok((invite, invited))
    }

    /// The callee's 200 to it, with or without an answer, and the ACK.
    pub(super) fn accept(&mut self, invite: &Draft, invited: &Message, answer: Option<&Plan>) -> Step {
        let [caller, callee] = &mut self.ends;
        let body = answer.map(|plan| callee.say(plan)).unwrap_or_default();
        callee.dialog.reply(invited, "200 OK", "", &body);
        let ok = caller.dialog.response(invite, 200)?;
        caller.dialog.learn(&ok);
        if answer.is_some() {
            caller.hear(&body, &ok)?;
        }
        let ack = caller.dialog.ack(invite);
        caller.dialog.send(&ack);
        callee.dialog.request("ACK").map(drop)
    }

    /// An offer by one end in INVITE or UPDATE that the other answers with 200.
    pub(super) fn modify(&mut self, method: &str, by: usize, offer: &Plan, answer: &Plan) -> Step<(Draft, Message)> {
        self.modify_with(method, by, offer, answer, "")
    }

    /// The same with a session interval, as "1800;refresher=uac".
    pub(super) fn modify_with(
        &mut self,
        method: &str,
        by: usize,
        offer: &Plan,
        answer: &Plan,
        interval: &str,
    ) -> Step<(Draft, Message)> {
        let [from, to] = pair(&mut self.ends, by);
        let body = from.say(offer);
        let mut draft = from.dialog.draft(method).sdp(&body);
        let mut more = String::new();
        if !interval.is_empty() {
            draft = draft.add("Supported", "timer").add("Session-Expires", interval);
            more = format!("Require: timer\r\nSession-Expires: {interval}\r\n");
        }
        from.dialog.send(&draft);
        let got = to.dialog.request(method)?;
        to.hear(&body, &got)?;
        let body = to.say(answer);
        to.dialog.reply(&got, "200 OK", &more, &body);
        let ok = from.dialog.response(&draft, 200)?;
        from.hear(&body, &ok)?;
        if method == "INVITE" {
            let ack = from.dialog.ack(&draft);
            from.dialog.send(&ack);
            to.dialog.request("ACK")?;
        }
        Ok((draft, ok))
    }

    /// Audio alone, both ways.
    pub(super) fn sounds(&mut self, step: &str) -> Step {
        self.flows(step, &[Kind::Audio], [true; 2])
    }

    /// Measures the streams of these m-lines, in these directions.
    pub(super) fn flows(&mut self, step: &str, lines: &[Kind], wanted: [bool; 2]) -> Step {
        let lines: Vec<(usize, Kind)> = lines.iter().copied().enumerate().collect();
        self.flows_at(step, &lines, wanted)
    }

    /// The same by number of the m-line.
    pub(super) fn flows_at(&mut self, step: &str, lines: &[(usize, Kind)], wanted: [bool; 2]) -> Step {
        let mut streams: Vec<(Kind, Ways)> = Vec::new();
        for (line, kind) in lines {
            let mut ways = [None; 2];
            for (end, way) in ways.iter_mut().enumerate().filter(|(end, _)| wanted[*end]) {
                let target = self.ends[end].reader.targets.get(*line).copied().flatten();
                *way = Some(target.ok_or_else(|| format!("{step}: end {end} has no target for line {line}"))?);
            }
            streams.push((*kind, ways));
        }
        let [a, b] = &mut self.ends;
        let shares = exchange([&mut a.sockets, &mut b.sockets], &streams).map_err(|why| format!("{step}: {why}"))?;
        for (worst, share) in self.worst.iter_mut().zip(shares) {
            *worst = worst.min(share);
        }
        if shares.iter().any(|share| *share < LEAST) {
            return Err(format!("{step}: {:.3}/{:.3}", shares[0], shares[1]));
        }
        Ok(())
    }

    /// BYE by one end.
    pub(super) fn hang_up(mut self, by: usize) -> Step<[f64; 2]> {
        let [from, to] = pair(&mut self.ends, by);
        let bye = from.dialog.draft("BYE");
        from.dialog.send(&bye);
        let got = to.dialog.request("BYE")?;
        to.dialog.reply(&got, "200 OK", "", "");
        from.dialog.response(&bye, 200)?;
        Ok(self.worst)
    }
}

/// The end that asks, and the other.
pub(super) fn pair(ends: &mut [End; 2], by: usize) -> [&mut End; 2] {
    let [a, b] = ends;
    if by == 0 { [a, b] } else { [b, a] }
}
