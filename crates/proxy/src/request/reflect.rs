//! A far siplatch wants to know how its message arrived ([`nat::alg`]).
//! Answered on the outer side of a border, without state and before
//! authentication: the answer says nothing but hashes of what was sent to us.
//! Must not: send more octets to anybody than came from there.

use std::time::Instant;

use nat::Side;
use nat::alg::echo;
use wire::Flow;
use wire::sip::{Message, Status};

use crate::config::Role;
use crate::rewrite::via;
use crate::{DropReason, Observed, Proxy};

impl Proxy {
    /// True for a probe that is meant for us.
    pub(super) fn is_probe(&self, flow: Flow, message: Message<'_>) -> bool {
        let here = self.config.role == Role::Border && self.side(flow) == Side::Outer;
        here && echo::is_probe(message) && message.uri().is_ok_and(|uri| self.names_us(flow, &uri))
    }

    pub(super) fn reflect(&mut self, now: Instant, flow: Flow, message: Message<'_>) {
        let tag = self.tag_for(message);
        let Some(bytes) = echo::answer(message, flow.remote, &tag) else {
            let side = self.side(flow);
            return self.observe(Observed::Dropped { side, reason: DropReason::Budget });
        };
        let status = Status(480);
        if self.is_proven(flow) || self.books(now, flow, status, bytes.len()) {
            self.count_out(flow, status);
            self.transmit(via::reply(flow, message), bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use nat::alg::{Alg, Outcome, Output, Way};

    use crate::Input;
    use crate::rig::house::sent;
    use crate::rig::{Rig, flow};

    const STRANGER: &str = "198.51.100.7:40000";
    const BORDER: &str = "203.0.113.30:5060";

    fn way() -> Way {
        Way { reliable: false, local: STRANGER.parse().unwrap(), server: BORDER.parse().unwrap() }
    }

    /// What a prober finds out whose messages come to this listener.
    fn probed(rig: &mut Rig, listener: u16, rewrite: impl Fn(String) -> String) -> (Option<Outcome>, usize, usize) {
        let mut alg = Alg::new(rig.now, way(), [1; 32]);
        let server: SocketAddr = BORDER.parse().unwrap();
        let (mut came, mut went) = (0, 0);
        while let Some(output) = alg.poll_output() {
            match output {
                Output::Done(outcome) => return (Some(outcome), came, went),
                Output::Transmit(bytes) => {
                    came += bytes.len();
                    rig.receive(listener, STRANGER, &rewrite(String::from_utf8(bytes).unwrap()));
                    for (to, text) in sent(rig) {
                        if to == STRANGER {
                            went += text.len();
                            alg.receive(rig.now, server, text.as_bytes());
                        } else {
                            assert!(listener == 0 || !text.contains("siplatch-reflect@203"), "it goes on: {text}");
                        }
                    }
                }
            }
        }
        (None, came, went)
    }

    #[test]
    fn a_border_says_what_arrived_and_keeps_nothing() {
        let mut rig = Rig::border();
        let before = rig.proxy.work();
        let (outcome, came, went) = probed(&mut rig, 1, |text| text);
        assert_eq!(outcome, Some(Outcome::Same));
        assert!(went <= came, "{went} for {came}");
        assert_eq!(rig.proxy.work(), before);
        let contact =
            |text: String| text.replace("Contact: <sip:siplatch-reflect@198.51.100.7", "Contact: <sip:x@192.0.2.1");
        let (outcome, ..) = probed(&mut rig, 1, contact);
        let Some(Outcome::Changed { out, back }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((out, back), (vec!["Contact".to_owned()], Vec::new()));
    }

    #[test]
    fn only_the_outer_side_of_a_border_is_a_reflector() {
        for (mut rig, listener) in [(Rig::border(), 0), (Rig::standalone(), 0)] {
            let (outcome, ..) = probed(&mut rig, listener, |text| text);
            assert!(!matches!(outcome, Some(Outcome::Same | Outcome::Changed { .. })), "{outcome:?}");
        }
        let mut rig = Rig::border();
        let elsewhere =
            |text: String| text.replace("siplatch-reflect@203.0.113.30:5060 ", "siplatch-reflect@192.0.2.9 ");
        assert!(!matches!(probed(&mut rig, 1, elsewhere).0, Some(Outcome::Same | Outcome::Changed { .. })));
    }

    #[test]
    fn a_flood_of_probes_gets_no_more_than_it_sends() {
        let mut rig = Rig::border();
        let mut alg = Alg::new(rig.now, way(), [1; 32]);
        let Some(Output::Transmit(bytes)) = alg.poll_output() else { panic!("nothing sent") };
        let at = flow(&rig.proxy, 1, STRANGER);
        let (mut came, mut went) = (0, 0);
        for _ in 0..2000 {
            came += bytes.len();
            rig.proxy.handle_input(rig.now, Input::Received { flow: at, bytes: &bytes });
            rig.wait(std::time::Duration::ZERO);
            went += rig.sent(STRANGER).iter().map(String::len).sum::<usize>();
        }
        assert!(went <= came && went > came / 2, "{went} for {came}");
    }
}
