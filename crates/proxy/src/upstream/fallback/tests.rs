//! UDP that does not get through, and comes back.

use std::time::Duration;

use nat::Side;
use nat::alg::{Outcome, Rewritten, Way};
use wire::{Flow, Transport};

use crate::config::{Fallback, Role, Upstream};
use crate::rig::{Rig, config, listener, upstream};
use crate::{Input, Observed, Output};

const UDP: Transport = Transport::Udp;
const TCP: Transport = Transport::Tcp;
const TLS: Transport = Transport::Tls;

/// An office whose provider answers OPTIONS over some transports only.
struct Office {
    rig: Rig,
    works: Vec<(Transport, u16)>,
    /// Ways that OPTIONS went: transport, our port, port there.
    asked: Vec<(Transport, u16, u16)>,
    /// Transports of first choice, as told.
    told: Vec<Transport>,
}

impl Office {
    fn new(fallback: &[(Transport, Option<u16>)], works: &[Transport]) -> Self {
        let stream = |transport, bind| crate::config::Listener { transport, ..listener(Side::Outer, bind) };
        let secure = crate::config::Listener { accepts: false, ..stream(TLS, "192.168.1.2:5061") };
        let listeners = vec![
            listener(Side::Inner, "192.168.1.2:5060"),
            listener(Side::Outer, "192.168.1.2:5070"),
            listener(Side::Outer, "192.168.1.2:15070"),
            stream(TCP, "192.168.1.2:5070"),
            secure,
        ];
        let mut config = config(Role::Office, listeners);
        let fallback = fallback.iter().map(|(transport, port)| Fallback { transport: *transport, port: *port });
        config.upstreams = vec![Upstream { transport: None, fallback: fallback.collect(), ..upstream("10.0.0.5") }];
        let mut office = Self { rig: Rig::new(config), works: Vec::new(), asked: Vec::new(), told: Vec::new() };
        office.works(works);
        office.answer();
        office
    }

    fn works(&mut self, works: &[Transport]) {
        let ports = [5070, 15070, 5060, 5061, 443];
        self.works = works.iter().flat_map(|transport| ports.map(|port| (*transport, port))).collect();
    }

    /// Answers what was asked, until nothing more is said.
    fn answer(&mut self) {
        loop {
            let said = std::mem::take(&mut self.rig.said);
            if said.is_empty() {
                return;
            }
            for output in said {
                match output {
                    Output::Transmit(transmit) => self.asked(transmit.flow, &transmit.bytes),
                    Output::Connect { flow, .. } if !self.answers(flow) => {
                        self.rig.proxy.handle_input(self.rig.now, Input::Closed { flow });
                    }
                    Output::Observed(Observed::UpstreamTransport { transport, .. }) => self.told.push(transport),
                    _ => {}
                }
            }
            self.rig.wait(Duration::ZERO);
        }
    }

    fn answers(&self, flow: Flow) -> bool {
        self.works.contains(&(flow.transport, flow.local.port()))
    }

    fn asked(&mut self, flow: Flow, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if !text.starts_with("OPTIONS") {
            return;
        }
        self.asked.push((flow.transport, flow.local.port(), flow.remote.port()));
        if self.answers(flow) {
            let kept = |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|n| line.starts_with(n));
            let lines: String = text.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
            let answer = format!("SIP/2.0 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
            self.rig.proxy.handle_input(self.rig.now, Input::Received { flow, bytes: answer.as_bytes() });
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.rig.wait(Duration::from_millis(250));
            self.answer();
        }
    }

    /// The transports of the ways that a request would be tried by.
    fn ways(&mut self) -> Vec<(Transport, u16)> {
        let now = self.rig.now;
        match self.rig.proxy.ways_to_upstreams(now, &[0], None, 0) {
            crate::locate::Located::At(ways) => {
                ways.iter().map(|way| (way.flow.transport, way.flow.local.port())).collect()
            }
            crate::locate::Located::Wait | crate::locate::Located::Nowhere(_) => Vec::new(),
        }
    }

    fn tried(&self, transport: Transport) -> bool {
        self.asked.iter().any(|(asked, ..)| *asked == transport)
    }
}

const ALL: [(Transport, Option<u16>); 3] = [(UDP, None), (TCP, None), (TLS, None)];

#[test]
fn who_is_reached_by_udp_is_not_connected_to() {
    let mut office = Office::new(&ALL, &[UDP, TCP, TLS]);
    office.pass(300);
    assert_eq!(office.ways(), [(UDP, 5070), (UDP, 15070), (TCP, 5070), (TLS, 5061)]);
    assert!(!office.tried(TLS));
    assert_eq!(office.told, [UDP]);
}

#[test]
fn udp_that_never_passes_leads_to_tcp_and_its_end_back() {
    let mut office = Office::new(&ALL, &[TCP, TLS]);
    office.pass(10);
    assert_eq!(office.ways()[0], (TCP, 5070));
    assert!(!office.tried(TLS), "TCP works");
    assert!(office.asked.contains(&(UDP, 15070, 5060)), "another port of ours was tried before");
    office.pass(300);
    assert_eq!(office.ways()[0], (TCP, 5070), "it is kept to");
    let asked = office.asked.iter().filter(|(transport, port, _)| (*transport, *port) == (UDP, 5070)).count();
    assert!((8..80).contains(&asked), "UDP is asked on, slowly: {asked}");
    office.works(&[UDP, TCP, TLS]);
    office.pass(60);
    assert_eq!(office.ways()[0], (UDP, 5070));
    assert_eq!(office.told, [UDP, TCP, UDP]);
}

#[test]
fn another_port_of_ours_is_enough_where_only_one_is_meddled_with() {
    let mut office = Office::new(&ALL, &[]);
    office.works = vec![(UDP, 15070), (TCP, 5070)];
    office.pass(15);
    assert_eq!(office.ways()[0], (UDP, 15070));
    assert!(!office.tried(TLS));
}

#[test]
fn tls_comes_last_at_the_port_that_is_written() {
    let mut office = Office::new(&[(TCP, None), (TLS, Some(443))], &[TLS]);
    office.pass(15);
    assert_eq!(office.ways()[0], (TLS, 5061));
    assert!(office.asked.contains(&(TLS, 5061, 443)), "{:?}", office.asked);
    assert_eq!(office.told.last(), Some(&TLS));
}

#[test]
fn udp_that_ends_later_is_left_within_seconds_and_comes_back_slowly() {
    let mut office = Office::new(&ALL, &[UDP, TCP]);
    office.pass(60);
    assert_eq!(office.ways()[0], (UDP, 5070));
    office.works(&[TCP]);
    office.pass(45);
    assert_eq!(office.ways()[0], (TCP, 5070));
    office.works(&[UDP, TCP]);
    office.pass(20);
    assert_eq!(office.ways()[0], (TCP, 5070), "not after the first answer");
    office.pass(60);
    assert_eq!(office.ways()[0], (UDP, 5070));
}

#[test]
fn nothing_that_works_is_no_reason_to_hurry_and_no_other_ways_are_none() {
    let mut office = Office::new(&ALL, &[]);
    office.pass(600);
    let asked = office.asked.len();
    assert!(asked < 1200, "{asked} OPTIONS in ten minutes, copies included");
    let mut office = Office::new(&[], &[TCP]);
    office.pass(60);
    assert_eq!(office.ways(), [(UDP, 5070)]);
    assert!(!office.tried(TLS));
    assert_eq!(office.told, []);
}

/// UDP port 5060 and TCP port 5060 tried, and whether what arrived was changed.
fn tried(udp: bool, tcp: bool) -> Rewritten {
    let trial = |reliable, changed| {
        let at = |port| ([192, 0, 2, 9], port).into();
        let lists = Outcome::Changed { out: vec!["contact".to_owned()], back: Vec::new() };
        (Way { reliable, local: at(4000), server: at(5060) }, if changed { lists } else { Outcome::Same })
    };
    Rewritten::of(&[trial(false, udp), trial(true, tcp)]).unwrap()
}

#[test]
fn a_way_on_which_sip_is_rewritten_is_left_for_one_on_which_it_is_not() {
    let mut office = Office::new(&ALL, &[UDP, TCP, TLS]);
    office.pass(60);
    office.rig.proxy.handle_input(office.rig.now, Input::Rewritten(tried(true, true)));
    office.pass(15);
    assert_eq!(office.ways()[0], (TLS, 5061));
    office.pass(300);
    assert_eq!(office.ways()[0], (TLS, 5061), "it is kept to");
    office.works(&[UDP, TCP]);
    office.pass(60);
    assert_eq!(office.ways()[0], (UDP, 5070), "rewritten is better than not at all");
    office.works(&[UDP, TCP, TLS]);
    office.rig.proxy.handle_input(office.rig.now, Input::Rewritten(tried(false, false)));
    office.pass(60);
    assert_eq!(office.ways()[0], (UDP, 5070));
    assert_eq!(office.told, [UDP, TLS, UDP]);
}

#[test]
fn tcp_is_enough_where_only_udp_is_rewritten() {
    let mut office = Office::new(&ALL, &[UDP, TCP, TLS]);
    office.rig.proxy.handle_input(office.rig.now, Input::Rewritten(tried(true, false)));
    office.pass(15);
    assert_eq!(office.ways()[0], (TCP, 5070));
    assert!(!office.tried(TLS));
}
