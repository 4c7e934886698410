//! A call between two agents, with audio while it is up.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rtp::{Audio, Pump};
use crate::{Agent, Draft, Message};

const PATIENCE: Duration = Duration::from_secs(8);

/// A call that is up. [`Call::hang_up`] ends it and gives the figures.
#[derive(Debug)]
pub struct Call<'a> {
    caller: &'a Agent,
    callee: &'a Agent,
    sip: SocketAddr,
    invite: Draft,
    /// The 200 as the caller got it.
    pub answered: Message,
    /// The INVITE as the callee got it.
    pub invited: Message,
    pump: Pump,
}

impl<'a> Call<'a> {
    /// Calls `uri` through `sip`; `callee` is who answers. `password` is for whoever asks for one.
    pub fn up(caller: &'a Agent, sip: SocketAddr, uri: &str, callee: &'a Agent) -> Self {
        let invite = caller.draft("INVITE", uri).add("Contact", &caller.contact()).sdp(&caller.sdp());
        let answered = caller.ask(sip, &invite).expect("the INVITE is answered");
        assert_eq!(answered.status(), Some(200), "{answered:?}");
        let invited = callee.wait(PATIENCE, |message| {
            message.method() == Some("INVITE") && message.value("Call-ID") == invite.value("Call-ID")
        });
        let invited = invited.expect("the callee is called");
        let cseq = invite.value("CSeq").unwrap().replace("INVITE", "ACK");
        let ack = within(caller, &invite, &answered, "ACK").set("CSeq", &cseq);
        caller.send(sip, &ack.bytes());
        callee.wait(PATIENCE, |message| message.method() == Some("ACK")).expect("the ACK arrives");
        let (to_callee, to_caller) = (answered.media().unwrap(), invited.media().unwrap());
        let pump = Pump::start([(caller.media(), to_callee), (callee.media(), to_caller)]);
        Self { caller, callee, sip, invite, answered, invited, pump }
    }

    /// A request of the caller within the dialog.
    pub fn within(&self, method: &str) -> Draft {
        within(self.caller, &self.invite, &self.answered, method)
    }

    /// A request of the callee within the dialog.
    pub fn within_back(&self, method: &str) -> Draft {
        let invited = &self.invited;
        let mut draft = self.callee.draft(method, invited.uri_of("Contact").unwrap());
        for route in invited.all("Record-Route") {
            draft = draft.add("Route", route);
        }
        let from = format!("{};tag=answered", invited.value("To").unwrap());
        let draft = draft.set("From", &from).set("To", invited.value("From").unwrap());
        draft.set("Call-ID", invited.value("Call-ID").unwrap())
    }

    /// How the audio fared until now; the caller's BYE must then reach the callee and be answered.
    pub fn hang_up(self) -> Audio {
        let bye = self.within("BYE");
        let audio = self.pump.finish();
        let answer = self.caller.ask(self.sip, &bye).expect("the BYE is answered");
        assert_eq!(answer.status(), Some(200), "{answer:?}");
        self.callee.wait(PATIENCE, |message| message.method() == Some("BYE")).expect("the BYE arrives");
        audio
    }

    /// How the audio fared until now; the call is left as it is.
    pub fn leave(self) -> Audio {
        self.pump.finish()
    }
}

fn within(caller: &Agent, invite: &Draft, answered: &Message, method: &str) -> Draft {
    let target = answered.uri_of("Contact").unwrap();
    let mut draft = caller.draft(method, target);
    let routes: Vec<&str> = answered.all("Record-Route").collect();
    for route in routes.into_iter().rev() {
        draft = draft.add("Route", route);
    }
    let draft = draft.set("From", invite.value("From").unwrap()).set("To", answered.value("To").unwrap());
    draft.set("Call-ID", invite.value("Call-ID").unwrap())
}
