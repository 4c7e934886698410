//! One call to two ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use peer::{Dialog, Draft, Kind, Message, Sockets, exchange};

use super::world::World;

pub(super) type Step<T = ()> = Result<T, String>;

const TAGS: [&str; 2] = ["one", "two"];
const RELIABLE: &str = "Require: 100rel\r\nRSeq: 1\r\n";
const STEP: Duration = Duration::from_millis(20);
/// Packets of early media of each fork.
const EARLY: usize = 8;
const LEAST: f64 = 0.97;

/// One of those that ring.
#[derive(Debug)]
struct Fork {
    dialog: Dialog,
    /// The INVITE as it came to whoever answers for it.
    invited: Message,
    sockets: Sockets,
    /// Where it sends to.
    target: SocketAddr,
    /// Where the caller sends to.
    told: Option<SocketAddr>,
    /// The last response that says who it is.
    said: Option<Message>,
}

#[derive(Debug)]
pub(super) struct Call {
    caller: Dialog,
    sockets: Sockets,
    invite: Draft,
    forks: [Fork; 2],
    /// Sends the responses of both, where a core forks.
    core: Option<Dialog>,
    worst: [f64; 2],
}

impl Call {
    /// Calls; `shared`: the media of both forks comes from one address.
    pub(super) fn new(world: &World, shared: bool) -> Step<Self> {
        let mut caller = Dialog::caller(&world.caller, world.at[0], &world.uri);
        let sockets = Sockets::new(world.caller.address.ip(), 1);
        let [one, two] = [0, 1].map(|at| Dialog::callee(&world.forks[at], world.at[1], &caller.call_id, TAGS[at]));
        let mut core = world.core.as_ref().map(|core| Dialog::callee(core, world.at[1], &caller.call_id, "core"));
        let invite = caller.draft("INVITE").add("Supported", "100rel").sdp(&sdp(&sockets));
        caller.send(&invite);
        let invited = core.as_mut().map(Dialog::invited).transpose()?;
        let ring = |at: usize, mut dialog: Dialog| -> Step<Fork> {
            let invited = match &invited {
                Some(invited) => {
                    dialog.join(invited);
                    invited.clone()
                }
                None => dialog.invited()?,
            };
            let line = &world.forks[if shared { 0 } else { at }];
            let target = invited.media().ok_or("no SDP in the INVITE")?;
            let sockets = Sockets::new(line.address.ip(), 2 + at as u8);
            Ok(Fork { dialog, invited, sockets, target, told: None, said: None })
        };
        let forks = [ring(0, one)?, ring(1, two)?];
        Ok(Self { caller, sockets, invite, forks, core, worst: [1.0; 2] })
    }

    /// A response of this fork to the INVITE.
    fn say(&self, at: usize, status: &str, more: &str, with_sdp: bool) {
        let fork = &self.forks[at];
        let body = if with_sdp { fork.sdp() } else { String::new() };
        let bytes = fork.dialog.answer(&fork.invited, status, more, &body);
        self.core.as_ref().unwrap_or(&fork.dialog).send_bytes(&bytes);
    }

    /// The caller gets it.
    fn hear(&mut self, at: usize, status: u16) -> Step<Message> {
        let tag = format!("tag={}", TAGS[at]);
        let fits = |m: &Message| m.status() == Some(status) && m.value("To").is_some_and(|to| to.contains(&tag));
        let got = self.caller.wait(&format!("{status} of fork {at}"), fits)?;
        let fork = &mut self.forks[at];
        fork.told = got.media().or(fork.told);
        fork.said = Some(got.clone());
        Ok(got)
    }

    /// A request of the caller in the dialog with this fork.
    fn within(&mut self, at: usize, method: &str) -> Draft {
        self.caller.learn(self.forks[at].said.as_ref().unwrap());
        self.caller.draft(method)
    }

    /// A 183 with SDP.
    pub(super) fn progress(&self, at: usize, more: &str) {
        self.say(at, "183 Session Progress", more, true);
    }

    /// Both send 183 with SDP, which is acknowledged if it is reliable.
    pub(super) fn ring(&mut self, reliable: bool) -> Step {
        for at in 0..2 {
            self.progress(at, if reliable { RELIABLE } else { "" });
            self.hear(at, 183)?;
            if reliable {
                let rack = format!("1 {}", self.invite.value("CSeq").unwrap_or_default());
                let prack = self.within(at, "PRACK").add("RAck", &rack);
                self.asked(at, &prack, "")?;
            }
        }
        Ok(())
    }

    /// UPDATE of the caller with an offer.
    pub(super) fn update(&mut self, at: usize) -> Step {
        let offer = sdp(&self.sockets).replace("1 1 IN", "1 2 IN");
        let update = self.within(at, "UPDATE").sdp(&offer);
        let answer = self.forks[at].sdp();
        self.asked(at, &update, &answer)
    }

    /// A request of the caller that the fork answers with 200.
    fn asked(&mut self, at: usize, draft: &Draft, body: &str) -> Step {
        self.caller.send(draft);
        let method = draft.value("CSeq").unwrap_or_default().split(' ').nth(1).unwrap_or_default();
        let dialog = &mut self.forks[at].dialog;
        let got = dialog.request(method)?;
        dialog.reply(&got, "200 OK", "", body);
        self.caller.response(draft, 200).map(drop)
    }

    /// Both forks send, `first` the first packet; says who is heard.
    pub(super) fn early_media(&mut self, first: usize) -> Step<[bool; 2]> {
        let mut heard = [0; 2];
        for _ in 0..EARLY {
            for at in [first, 1 - first] {
                let fork = &mut self.forks[at];
                fork.sockets.send(Kind::Audio, fork.target);
                std::thread::sleep(STEP / 2);
            }
            for (_, packet) in self.sockets.heard() {
                let number = usize::from(packet[11]);
                *heard.get_mut(number.wrapping_sub(2)).ok_or("a packet that nobody sent")? += 1;
            }
        }
        Ok(heard.map(|packets| packets > EARLY / 2))
    }

    /// This fork answers, and gets its ACK.
    pub(super) fn answer(&mut self, at: usize, with_sdp: bool) -> Step {
        self.say(at, "200 OK", "", with_sdp);
        let ok = self.hear(at, 200)?;
        if with_sdp != ok.media().is_some() {
            return Err("the SDP of the 200 is lost".to_owned());
        }
        self.caller.learn(&ok);
        let ack = self.caller.ack(&self.invite);
        self.caller.send(&ack);
        self.forks[at].dialog.request("ACK").map(drop)
    }

    /// This fork is told that the other one answered.
    pub(super) fn cancelled(&mut self, at: usize) -> Step {
        let fork = &mut self.forks[at];
        let cancel = fork.dialog.request("CANCEL")?;
        fork.dialog.reply(&cancel, "200 OK", "", "");
        fork.dialog.reply(&fork.invited, "487 Request Terminated", "", "");
        fork.dialog.request("ACK").map(drop)
    }

    /// Measures the stream between the caller and this fork, while the other one sends, too.
    pub(super) fn owned_by(&mut self, at: usize) -> Step {
        let [one, two] = &mut self.forks;
        let (owner, other) = if at == 0 { (one, two) } else { (two, one) };
        let told = owner.told.ok_or("the caller knows no port")?;
        let over = AtomicBool::new(false);
        let shares = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    other.sockets.send(Kind::Audio, other.target);
                    std::thread::sleep(STEP);
                }
            });
            let streams = [(Kind::Audio, [Some(told), Some(owner.target)])];
            let shares = exchange([&mut self.sockets, &mut owner.sockets], &streams);
            over.store(true, Ordering::Relaxed);
            shares
        })?;
        for (worst, share) in self.worst.iter_mut().zip(shares) {
            *worst = worst.min(share);
        }
        if shares.iter().any(|share| *share < LEAST) {
            return Err(format!("{:.3}/{:.3} with fork {at}", shares[0], shares[1]));
        }
        if !other.sockets.heard().is_empty() {
            return Err("the caller is heard by the other fork".to_owned());
        }
        Ok(())
    }

    /// BYE of the caller to one of those that answered.
    pub(super) fn leave(&mut self, at: usize) -> Step {
        let bye = self.within(at, "BYE");
        self.asked(at, &bye, "")
    }

    /// The last BYE.
    pub(super) fn hang_up(mut self, at: usize) -> Step<[f64; 2]> {
        self.leave(at)?;
        Ok(self.worst)
    }
}

impl Fork {
    fn sdp(&self) -> String {
        sdp(&self.sockets)
    }
}

fn sdp(sockets: &Sockets) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\na=rtpmap:0 \
         PCMU/8000\r\n",
        sockets.ip(),
        sockets.port(Kind::Audio)
    )
}
