//! A router of paper, and the time that passes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use wire::portmap::Proto;

use super::super::{Choice, Entry, Finding, Gateway, Input, Output, Portmap, Protocol, Question, Reply, Want};

pub(super) const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
pub(super) const ROUTER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 1), 5351);
pub(super) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

pub(super) fn want(name: &str, port: u16) -> Want {
    Want { name: name.to_owned(), proto: Proto::Udp, address: None, internal: port, external: port }
}

pub(super) struct Router {
    speaks: Vec<Protocol>,
    pub(super) silent: bool,
    pub(super) external: Ipv4Addr,
    /// The longest lease, seconds.
    pub(super) most: u32,
    /// Ports of somebody else.
    pub(super) taken: Vec<u16>,
    /// Its clock says something else each time.
    pub(super) jumps: bool,
    pub(super) permanent_only: bool,
    pub(super) entries: Vec<Entry>,
    pub(super) last_answer: Vec<u8>,
    began: Instant,
    now: Instant,
    start: Instant,
    told: u32,
    /// PCP and NAT-PMP: public port of each internal one.
    mapped: BTreeMap<u16, u16>,
    requests: Vec<(u16, Duration, [u8; 12])>,
}

impl Router {
    pub(super) fn reboot(&mut self) {
        self.began = self.now;
        self.mapped.clear();
        self.entries.clear();
    }

    /// Public ports that lead somewhere.
    pub(super) fn ports(&self) -> Vec<u16> {
        let listed = self.entries.iter().map(|entry| entry.external);
        let mut all: Vec<u16> = self.mapped.values().copied().chain(listed).collect();
        all.sort_unstable();
        all
    }

    /// When, and with which nonce, this port was asked for.
    pub(super) fn asked(&self, port: u16) -> Vec<(Duration, [u8; 12])> {
        self.requests.iter().filter(|(of, ..)| *of == port).map(|(_, at, nonce)| (*at, *nonce)).collect()
    }

    fn age(&mut self) -> u32 {
        self.told = self.told.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if self.jumps { self.told } else { (self.now - self.began).as_secs() as u32 }
    }

    /// What it sends to all when it has begun anew.
    pub(super) fn announcement(&mut self) -> Vec<u8> {
        let age = self.age().to_be_bytes();
        if self.speaks == [Protocol::Pcp] {
            let mut packet = vec![2, 0x80, 0, 0, 0, 0, 0, 0];
            packet.extend(age);
            packet.extend([0; 12]);
            packet
        } else {
            [&[0, 0x80, 0, 0][..], &age, &self.external.octets()].concat()
        }
    }

    fn datagram(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        if self.silent {
            return None;
        }
        let pcp = self.speaks.contains(&Protocol::Pcp);
        let natpmp = self.speaks.contains(&Protocol::NatPmp);
        let age = self.age().to_be_bytes();
        match (request[0], request[1]) {
            (2, 0) if pcp => Some(self.announcement()),
            (2, 1) if pcp => {
                let lifetime = u32::from_be_bytes(request[4..8].try_into().unwrap()).min(self.most);
                let [internal, wished] = [40, 42].map(|at| u16::from_be_bytes([request[at], request[at + 1]]));
                let external = self.map(internal, wished, lifetime, request[24..36].try_into().unwrap());
                let mut answer = request.to_vec();
                answer[1] |= 0x80;
                answer[3..8].fill(0);
                answer[4..8].copy_from_slice(&lifetime.to_be_bytes());
                answer[8..12].copy_from_slice(&age);
                answer[12..24].fill(0);
                answer[42..44].copy_from_slice(&external.to_be_bytes());
                answer[44..60].copy_from_slice(&self.external.to_ipv6_mapped().octets());
                self.last_answer.clone_from(&answer);
                Some(answer)
            }
            (2, op) if natpmp => Some([&[0, 0x80 | op, 0, 1][..], &age].concat()),
            (0, 0) if natpmp => Some([&[0, 0x80, 0, 0][..], &age, &self.external.octets()].concat()),
            (0, op @ (1 | 2)) if natpmp => {
                let lifetime = u32::from_be_bytes(request[8..12].try_into().unwrap()).min(self.most);
                let [internal, wished] = [4, 6].map(|at| u16::from_be_bytes([request[at], request[at + 1]]));
                let external = self.map(internal, wished, lifetime, [1; 12]);
                let ports = [internal.to_be_bytes(), external.to_be_bytes()].concat();
                Some([&[0, 0x80 | op, 0, 0][..], &age, &ports, &lifetime.to_be_bytes()].concat())
            }
            _ => None,
        }
    }

    fn map(&mut self, internal: u16, wished: u16, lifetime: u32, nonce: [u8; 12]) -> u16 {
        if lifetime == 0 {
            self.mapped.remove(&internal);
            return 0;
        }
        self.requests.push((internal, self.now - self.start, nonce));
        let granted = if self.taken.contains(&wished) { wished + 1 } else { wished };
        self.mapped.insert(internal, granted);
        granted
    }

    fn igd(&mut self, question: Question) -> Reply {
        if self.silent || !self.speaks.contains(&Protocol::Upnp) {
            return Reply::Failed;
        }
        let place = |entries: &[Entry], proto, external| {
            entries.iter().position(|entry| entry.proto == proto && entry.external == external)
        };
        match question {
            Question::Find => Reply::Found,
            Question::External => Reply::External(self.external),
            Question::Add { lease, .. } if self.permanent_only && lease > 0 => Reply::Fault(725),
            Question::Add { proto, external, client, internal, description, lease: _ } => {
                self.requests.push((internal, self.now - self.start, [0; 12]));
                let entry = Entry { proto, external, client: client.to_string(), internal, description };
                match place(&self.entries, proto, external) {
                    Some(at) if self.entries[at].client != entry.client => return Reply::Fault(718),
                    Some(at) => self.entries[at] = entry,
                    None => self.entries.push(entry),
                }
                Reply::Done
            }
            Question::Delete(proto, external) => match place(&self.entries, proto, external) {
                Some(at) => {
                    self.entries.remove(at);
                    Reply::Done
                }
                None => Reply::Fault(714),
            },
            Question::Look(proto, external) => place(&self.entries, proto, external)
                .map_or(Reply::Fault(714), |at| Reply::Entry(self.entries[at].clone())),
            Question::List(at) => self.entries.get(usize::from(at)).cloned().map_or(Reply::Fault(713), Reply::Entry),
        }
    }
}

pub(super) struct World {
    pub(super) machine: Portmap,
    pub(super) router: Router,
    pub(super) stopped: bool,
    pub(super) transmitted: usize,
    now: Instant,
    start: Instant,
    found: Vec<Finding>,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "virtual time has to start somewhere")]
    pub(super) fn new(speaks: &[Protocol]) -> Self {
        let start = Instant::now();
        let router = Router {
            speaks: speaks.to_vec(),
            silent: false,
            external: EXTERNAL,
            most: u32::MAX,
            taken: Vec::new(),
            jumps: false,
            permanent_only: false,
            entries: Vec::new(),
            last_answer: Vec::new(),
            began: start,
            now: start + Duration::from_secs(1000),
            start: start + Duration::from_secs(1000),
            told: 1,
            mapped: BTreeMap::new(),
            requests: Vec::new(),
        };
        let start = start + Duration::from_secs(1000);
        let machine = Portmap::new(start, [7; 32]);
        Self { machine, router, stopped: false, transmitted: 0, now: start, start, found: Vec::new() }
    }

    pub(super) fn begin(&mut self, choice: Choice, wants: &[Want]) {
        self.input(Input::Choose(choice));
        self.input(Input::Want(wants.to_vec()));
        self.input(Input::Gateway(Some(Gateway { router: *ROUTER.ip(), local: LOCAL })));
    }

    /// An event, and all that follows at once.
    pub(super) fn input(&mut self, input: Input<'_>) {
        self.router.now = self.now;
        self.machine.handle_input(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        for _ in 0..10_000 {
            let Some(output) = self.machine.poll_output() else { return };
            match output {
                Output::Transmit(packet) => {
                    self.transmitted += 1;
                    if let Some(answer) = self.router.datagram(&packet) {
                        self.machine.handle_input(self.now, Input::Received { from: ROUTER.into(), packet: &answer });
                    }
                }
                Output::Igd(question) => {
                    let reply = self.router.igd(question);
                    self.machine.handle_input(self.now, Input::Igd(reply));
                }
                Output::Finding(finding) => self.found.push(finding),
                Output::Changed => {}
                Output::Stopped => self.stopped = true,
            }
        }
        panic!("no end of it");
    }

    /// Until so long after the start.
    pub(super) fn run(&mut self, until: Duration) {
        let until = self.start + until;
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.router.now = self.now;
            self.machine.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
        self.router.now = until;
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        self.found.clone()
    }

    pub(super) fn protocol(&self) -> Option<Protocol> {
        self.machine.snapshot().protocol
    }

    pub(super) fn states(&self) -> Vec<&'static str> {
        self.machine.snapshot().rows.iter().map(|row| row.state.as_str()).collect()
    }
}
