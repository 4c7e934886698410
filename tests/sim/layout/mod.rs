//! Where a seed happens: networks, NAT boxes, phones, the core, siplatch, one
//! arrangement per role.

mod people;
mod roles;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy::Config;
use proxy::config::Role;
use wire::Transport;

use crate::clock::Time;
use crate::edge::{Edge, Sabotage, Setup};
use crate::invariants::{Truth, Watch};
use crate::link::Link;
use crate::net::{NatId, Net, SegmentId};
use crate::phone::digest::Algorithm;
use crate::rng::Rng;
use crate::scenario::{Hang, Script, Weather};
use crate::world::{Act, Node, World};

/// A world that is ready to run.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) script: Script,
    pub(crate) role: Role,
    /// The boxes that stand between each phone and siplatch, or between siplatch and the core.
    pub(crate) boxes: Vec<Option<NatId>>,
    /// Boxes that were rebound, and when.
    pub(crate) rebound: Vec<(NatId, Time)>,
    /// What each phone speaks, and the core with siplatch.
    pub(crate) transports: Vec<Transport>,
    pub(crate) upstream: Option<Transport>,
    /// Until when the run goes.
    pub(crate) horizon: Time,
}

const USERS: [&str; 6] = ["alice", "bob", "carol", "dave", "erin", "frank"];
const PORTS: (u16, u16) = (30_000, 30_199);
/// A range that belongs to one phone.
const OWN: (u16, u16) = (30_100, 30_139);
/// When, in the first call, a source address is forged.
const SPOOF: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(6));
/// Last port where they are few: enough for two m-lines of a call that passes twice.
const FEW: u16 = 30_015;
const DOMAIN: &str = "provider.example";

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// Where a host speaks SIP over some transport.
fn door(ip: IpAddr, transport: Transport) -> SocketAddr {
    let port = match transport {
        Transport::Udp | Transport::Tcp => 5060,
        Transport::Tls => 5061,
        Transport::Ws => 8080,
        Transport::Wss => 8443,
    };
    SocketAddr::new(ip, port)
}

const fn sip(ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, 5060)
}

const EDGE: IpAddr = v4(203, 0, 113, 30);
const VICTIM: IpAddr = v4(203, 0, 113, 99);
const STUN: [IpAddr; 2] = [v4(203, 0, 113, 53), v4(203, 0, 113, 54)];

/// What is being built.
struct Stage {
    world: World,
    public: SegmentId,
    rng: Rng,
    script: Script,
    book: Rc<[String]>,
    passwords: bool,
    algorithm: Algorithm,
    friends: BTreeSet<IpAddr>,
    strangers: BTreeSet<IpAddr>,
    boxes: Vec<Option<NatId>>,
    gateways: Vec<NatId>,
    transports: Vec<Transport>,
    /// What siplatch speaks with the core.
    upstream: Transport,
    /// Segments of siplatch's own addresses.
    homes: Vec<(IpAddr, SegmentId)>,
}

/// Builds the world that the dice say.
pub(crate) fn build(
    mut rng: Rng,
    base: Instant,
    weather: Option<Weather>,
    sabotage: Option<Sabotage>,
    keep: usize,
) -> Scene {
    let role = rng.pick(&[Role::Border, Role::Office, Role::Standalone]);
    let phones = rng.between(2, 6) as usize;
    let mut script = Script::draw(&mut rng.branch(1), phones, weather);
    if sabotage.is_some() {
        script.attacked = true;
    }
    let mut net = Net::new(rng.fork(2));
    let public = net.segment();
    let plans = script.plans.clone().into();
    let world = World::new(net, plans, Watch::new(None), keep);
    let mut book: Vec<String> = USERS[..phones].iter().map(|user| (*user).to_owned()).collect();
    if let Some(last) = book.last_mut().filter(|_| script.twin) {
        USERS[0].clone_into(last);
    }
    let passwords = rng.chance(500);
    let algorithm = rng.pick(&[Algorithm::Md5, Algorithm::Sha256]);
    let upstream = rng.pick(&[Transport::Udp, Transport::Udp, Transport::Tcp, Transport::Tls]);
    let mut stage = Stage {
        world,
        public,
        rng,
        script,
        book: book.into(),
        passwords,
        algorithm,
        friends: BTreeSet::new(),
        strangers: BTreeSet::new(),
        boxes: Vec::new(),
        gateways: Vec::new(),
        transports: Vec::new(),
        upstream,
        homes: Vec::new(),
    };
    let (config, truth, target) = match role {
        Role::Border => stage.border(),
        Role::Office => stage.office(),
        Role::Standalone => stage.standalone(),
    };
    stage.finish((role, config, truth), target, base, sabotage)
}

impl Stage {
    /// Strangers, siplatch itself, and the script.
    fn finish(
        mut self,
        (role, config, mut truth): (Role, Config, Truth),
        target: SocketAddr,
        base: Instant,
        sabotage: Option<Sabotage>,
    ) -> Scene {
        self.strangers(role, target);
        truth.sides = config.listeners.iter().map(|l| l.side).collect();
        truth.friends = self.friends.clone();
        truth.strangers = self.strangers.clone();
        let core = truth.upstream.map(sip);
        let truth_upstream = core.is_some();
        let names = core.map(|core| ("sip.provider.example".to_owned(), core));
        let setup = Setup {
            config: Arc::new(config),
            names: names.into_iter().collect::<BTreeMap<_, _>>(),
            stun: STUN.map(|ip| SocketAddr::new(ip, 3478)).to_vec(),
            resolving: self.rng.millis(0, 40),
            fact_delay: if self.rng.chance(500) { Duration::ZERO } else { self.rng.millis(1, 30) },
            sabotage,
        };
        let edge = Edge::new(setup, base, &mut self.rng);
        self.world.watch = Watch::new(Some(truth));
        let id = self.world.add("siplatch", Node::Edge(Box::new(edge)));
        for (ip, segment) in self.homes {
            self.world.net.attach(segment, ip, id, Link::LAN);
        }
        for plan in &self.script.plans {
            self.world.script(plan.at, Act::Place(plan.id));
        }
        for phone in &self.script.leaves {
            self.world.script(self.script.ends + Duration::from_secs(3), Act::Leave(*phone));
        }
        for Hang { at, phone, step } in self.script.hangs.clone() {
            self.world.script(at, phone.map_or(Act::HangCore(step), |phone| Act::Hang(phone, step)));
        }
        if let Some(at) = self.script.stop {
            self.world.script(at, Act::Stop);
        }
        let mut rebound = Vec::new();
        for (at, elsewhere) in self.script.rebinds.clone() {
            if self.gateways.is_empty() {
                break;
            }
            let nat = self.rng.pick(&self.gateways);
            let face = self.world.net.nat(nat).public;
            let public = elsewhere.then(|| other_face(face)).filter(|_| rebound.is_empty());
            self.world.script(at, Act::Rebind(nat, public));
            rebound.push((nat, at));
        }
        // A lost final response is made up for by Timer C, after three minutes (RFC 3261 §16.6(11)); a lost BYE
        // of a held call by the second time that its ends are asked in vain.
        let settling = if rebound.is_empty() && self.script.weather.calm() { 130 } else { 420 };
        let horizon = self.script.ends + Duration::from_secs(settling);
        let upstream = truth_upstream.then_some(self.upstream);
        let (boxes, transports) = (self.boxes, self.transports);
        Scene { world: self.world, script: self.script, role, boxes, rebound, transports, upstream, horizon }
    }
}

/// Where a box comes back after a change of its address.
fn other_face(face: IpAddr) -> IpAddr {
    match face {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip) ^ 0x80)),
        IpAddr::V6(_) => face,
    }
}
