//! A machine and its clock in the hand of a test, for what no transcript shows.

pub(crate) mod house;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::{PortRange, ports};
use nat::{Advertise, Side};
use wire::{Flow, ListenerId, Transport};

use crate::config::{Config, DigestAlgorithm, Listener, Media, MediaKeepAlive, Phone, Role, Upstream};
use crate::{Input, Output, Proxy, Traced};

pub(crate) fn listener(side: Side, bind: &str) -> Listener {
    Listener {
        side,
        transport: Transport::Udp,
        accepts: true,
        secure: false,
        bind: bind.parse().unwrap(),
        advertise: Advertise::Listen,
        advertise_port: None,
        phone: None,
        retired: false,
    }
}

pub(crate) fn phone(name: &str, user: &str) -> Phone {
    Phone { name: name.to_owned(), user: Some(user.to_owned()), ..Phone::default() }
}

pub(crate) fn upstream(host: &str) -> Upstream {
    Upstream {
        host: host.to_owned(),
        port: Some(5060),
        transport: Some(Transport::Udp),
        sips: false,
        domain: None,
        comedia: false,
        default_phone: None,
        fallback: Vec::new(),
    }
}

pub(crate) fn config(role: Role, listeners: Vec<Listener>) -> Config {
    Config {
        role,
        listeners,
        upstreams: if role == Role::Standalone { Vec::new() } else { vec![upstream("10.0.0.5")] },
        networks: Vec::new(),
        phones: vec![phone("lobby", "carol"), phone("reception", "alice")],
        digest: DigestAlgorithm::PREFERRED.to_vec(),
        users: Vec::new(),
        names: Vec::new(),
        media: Media {
            ranges: vec![PortRange { first: 30_000, last: 30_099 }],
            keepalive: MediaKeepAlive::Stun,
            timeout: Duration::from_secs(60),
            workers: 1,
            reserve: 4,
        },
        limits: wire::sip::Limits::default(),
    }
}

/// Does what is due until a moment; what was said on the way.
pub(crate) fn outputs(proxy: &mut Proxy, until: Instant) -> Vec<Output> {
    let mut outputs = Vec::new();
    loop {
        while let Some(output) = proxy.poll_output() {
            if let Output::Ports(ports::Command::Bind { pair, discover: _ }) = output {
                proxy.handle_input(until, Input::Ports(ports::Event::Bound { pair }));
            }
            outputs.push(output);
        }
        match proxy.poll_timeout().filter(|at| *at <= until) {
            Some(at) => proxy.handle_timeout(at),
            None => return outputs,
        }
    }
}

pub(crate) fn register(proxy: &mut Proxy, now: Instant, listener: u16, user: &str, from: &str) {
    let flow = flow(proxy, listener, from);
    let local = flow.local;
    let text = format!(
        "REGISTER sip:{local} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{user}\r\nMax-Forwards: 70\r\nFrom: \
         <sip:{user}@{local}>;tag=1\r\nTo: <sip:{user}@{local}>\r\nCall-ID: {user}\r\nCSeq: 1 REGISTER\r\nContact: \
         <sip:{user}@{from}>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
    );
    proxy.handle_input(now, Input::Received { flow, bytes: text.as_bytes() });
}

/// The flow over UDP from an address to a listener.
pub(crate) fn flow(proxy: &Proxy, listener: u16, from: &str) -> Flow {
    let local = proxy.config.listeners[usize::from(listener)].bind;
    let remote: SocketAddr = from.parse().unwrap();
    Flow { transport: Transport::Udp, listener: ListenerId(listener), connection: 0, local, remote }
}

/// A machine, its time, and all that it said.
pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    pub(crate) now: Instant,
    pub(crate) said: Vec<Output>,
}

impl Rig {
    /// Started, its ports bound.
    pub(crate) fn new(config: Config) -> Self {
        let now = Instant::now();
        let proxy = Proxy::new(now, Arc::new(config), [7; 32], [9; 32]);
        let mut rig = Self { proxy, now, said: Vec::new() };
        rig.wait(Duration::ZERO);
        rig
    }

    /// Standalone on `192.168.1.2`, nobody registered.
    pub(crate) fn standalone() -> Self {
        Self::new(config(Role::Standalone, vec![listener(Side::Inner, "192.168.1.2:5060")]))
    }

    /// In front of the core `10.0.0.5`: listener 0 faces it, listener 1 the phones.
    pub(crate) fn border() -> Self {
        let listeners = vec![listener(Side::Inner, "10.0.0.2:5060"), listener(Side::Outer, "203.0.113.30:5060")];
        Self::new(config(Role::Border, listeners))
    }

    /// A message comes to a listener.
    pub(crate) fn receive(&mut self, listener: u16, from: &str, text: &str) {
        let flow = flow(&self.proxy, listener, from);
        self.proxy.handle_input(self.now, Input::Received { flow, bytes: text.as_bytes() });
        self.wait(Duration::ZERO);
    }

    /// Time passes.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.said.append(&mut outputs(&mut self.proxy, self.now));
    }

    /// What was traced since the last time that this was asked.
    pub(crate) fn traced(&mut self) -> Vec<Traced> {
        let said = std::mem::take(&mut self.said);
        let traced = said.into_iter().filter_map(|output| match output {
            Output::Traced(traced) => Some(*traced),
            _ => None,
        });
        traced.collect()
    }

    /// What was sent to an address since it was last taken, as text.
    pub(crate) fn sent(&mut self, to: &str) -> Vec<String> {
        let said = std::mem::take(&mut self.said);
        let sent = said.into_iter().filter_map(|output| match output {
            Output::Transmit(t) if t.flow.remote.to_string() == to => Some(String::from_utf8(t.bytes).unwrap()),
            _ => None,
        });
        sent.collect()
    }

    /// In a border: a phone registers through us, and its registrar says yes.
    pub(crate) fn registered(&mut self, domain: &str, user: &str, from: &str, core: &str) {
        let text = format!(
            "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{user}.{domain}\r\nMax-Forwards: 70\r\nFrom: \
             <sip:{user}@{domain}>;tag=1\r\nTo: <sip:{user}@{domain}>\r\nCall-ID: {user}\r\nCSeq: 1 REGISTER\r\nContact: \
             <sip:{user}@{from}>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
        );
        self.said.clear();
        self.receive(1, from, &text);
        let asked = self.sent(core).into_iter().find(|text| text.starts_with("REGISTER")).expect("it goes on");
        let kept =
            |line: &&str| ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Contact:"].iter().any(|n| line.starts_with(n));
        let lines: String = asked.lines().filter(kept).map(|line| format!("{line}\r\n")).collect();
        self.receive(0, core, &format!("SIP/2.0 200 OK\r\n{lines}Expires: 3600\r\nContent-Length: 0\r\n\r\n"));
        assert!(self.sent(from).iter().any(|text| text.starts_with("SIP/2.0 200 ")), "{user} is registered");
    }
}
