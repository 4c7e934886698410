//! Controls: the peers are honest, and the invariants are awake.
//!
//! Without siplatch, phones on one network talk to each other through the
//! core; behind NAT boxes they do not. With a deliberate fault in the glue
//! around the machines, the rule that forbids it says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use wire::Transport;

use crate::core::Core;
use crate::edge::Sabotage;
use crate::flows::{Change, How, Kind, Turn};
use crate::invariants::Watch;
use crate::ladder::SHORT;
use crate::link::Link;
use crate::nat::Behaviour;
use crate::net::Net;
use crate::phone::digest::Algorithm;
use crate::phone::sdp::{Looks, Spelling};
use crate::phone::{CallLog, Ended, Phone, Profile};
use crate::plan::{Answer, CallPlan, End};
use crate::rng::Rng;
use crate::run;
use crate::world::{Act, Node, World};

fn at(text: &str) -> SocketAddr {
    text.parse().expect("a literal address")
}

fn profile(user: &str, local: &str, password: Option<&str>) -> Profile {
    Profile {
        user: user.to_owned(),
        domain: "provider.example".to_owned(),
        ip: at(local).ip(),
        port: 5060,
        transport: Transport::Udp,
        pings: Duration::from_secs(100),
        repeats: true,
        proxy: at("203.0.113.5:5060"),
        password: password.map(str::to_owned),
        expires: 600,
        compact: false,
        odd: true,
        comedia: true,
        new_source: false,
        looks: Looks::default(),
        interval: Duration::from_millis(20),
        meddled: false,
        misnamed: false,
    }
}

/// Two phones and a core; `behaviour`: each phone is behind a box of its own.
fn without_siplatch(plans: Vec<CallPlan>, behaviour: Option<Behaviour>, link: Link) -> World {
    let mut rng = Rng::new(11);
    let mut net = Net::new(rng.fork(1));
    let public = net.segment();
    let book: Rc<[String]> = ["alice", "bob"].map(str::to_owned).to_vec().into();
    let plans: Rc<[CallPlan]> = plans.into();
    let mut world = World::new(net, Rc::clone(&plans), Watch::new(None), SHORT);
    let passwords = BTreeMap::from([("alice".to_owned(), "wonder".to_owned())]);
    let core = Core::new(at("203.0.113.5:5060"), "provider.example", passwords, Algorithm::Sha256, true, rng.fork(2));
    let id = world.add("core", Node::Core(Box::new(core)));
    world.net.attach(public, at("203.0.113.5:0").ip(), id, Link::LAN);
    for (n, user) in book.iter().enumerate() {
        let public_ip = format!("198.51.100.{}:0", n + 1);
        let local = if behaviour.is_some() { "192.168.1.10:0" } else { &public_ip };
        let password = (n == 0).then_some("wonder");
        let phone = Phone::new(
            profile(user, local, password),
            n,
            Rc::clone(&plans),
            Rc::clone(&book),
            Duration::from_secs(1),
            rng.fork(5),
        );
        let id = world.add(user.clone(), Node::Phone(Box::new(phone)));
        let segment = match behaviour {
            Some(behaviour) => {
                let lan = world.net.segment();
                world.net.gateway((lan, public), behaviour, at(&public_ip).ip(), link);
                lan
            }
            None => public,
        };
        world.net.attach(segment, at(local).ip(), id, link);
    }
    for plan in plans.iter() {
        world.script(plan.at, Act::Place(plan.id));
    }
    world
}

fn log(world: &World, plan: usize, end: End) -> CallLog {
    let mut logs = world.phones().flat_map(|phone| phone.log.iter());
    logs.find(|log| log.plan == plan && log.end == end).cloned().expect("both ends keep a record")
}

#[test]
fn honest_phones_need_no_help_on_one_network() {
    let s = Duration::from_secs;
    let call = |id, start, talk| CallPlan::simple(id, (0, 1), s(start), s(talk));
    let hold = Turn::hold(End::Callee, s(3), s(4), Change::Hold(Spelling::Media, false)).to_vec();
    let turn = |by, after, change, how| Turn { by, after: s(after), change, how, refused: false };
    let turns = vec![
        turn(End::Caller, 3, Change::Video(true), How::Invite),
        turn(End::Callee, 8, Change::Fax(true), How::Update),
        turn(End::Caller, 13, Change::Fax(false), How::Invite),
        turn(End::Callee, 18, Change::Port, How::Invite),
        turn(End::Caller, 23, Change::Nothing, How::Late),
        Turn { refused: true, ..turn(End::Callee, 28, Change::Codec(9), How::Invite) },
        turn(End::Callee, 33, Change::Video(false), How::Invite),
    ];
    let all = (1 << turns.len()) - 1;
    let plans = vec![
        call(0, 5, 5),
        CallPlan { delayed_offer: true, hangs_up: End::Callee, inside: Some("INFO"), ..call(1, 20, 6) },
        CallPlan { early_media: true, ring: s(3), turns: hold, ..call(2, 40, 15) },
        CallPlan { answer: Answer::Reject(486), ..call(3, 70, 1) },
        CallPlan { answer: Answer::Never, cancel: Some(s(2)), ..call(4, 80, 1) },
        CallPlan { turns, ..call(5, 100, 42) },
    ];
    for loss in [0, 50] {
        let link = Link { loss, duplicate: loss, ..Link::ideal(Duration::from_millis(20)) };
        let mut world = without_siplatch(plans.clone(), None, link);
        world.run(s(200));
        assert_eq!(world.watch.broken, None, "{}", world.ladder.text());
        assert!(world.phones().all(|phone| phone.registered() && phone.busy() == 0));
        for (plan, hung_up) in [(0, End::Caller), (1, End::Callee), (2, End::Caller), (5, End::Caller)] {
            let (near, far) = (log(&world, plan, hung_up), log(&world, plan, hung_up.other()));
            assert_eq!(near.ended.map(|(_, how)| how), Some(Ended::HungUp), "call {plan}");
            assert_eq!(far.ended.map(|(_, how)| how), Some(Ended::Bye), "call {plan}");
            let heard = |a: &CallLog, b: &CallLog| f64::from(a.heard.heard) / f64::from(b.heard.sent);
            let least = if loss == 0 { 0.95 } else { 0.8 };
            assert!(heard(&near, &far) >= least && heard(&far, &near) >= least, "call {plan}: {near:?} {far:?}");
            assert!(loss > 0 || (near.heard.rtcp > 0 && far.heard.rtcp > 0));
        }
        assert_eq!(log(&world, 1, End::Caller).informed, 1);
        assert_eq!(log(&world, 2, End::Callee).flows[Kind::Resumed as usize], 1);
        let (caller, callee) = (log(&world, 5, End::Caller), log(&world, 5, End::Callee));
        assert_eq!(caller.turned | callee.turned, all, "{caller:?} {callee:?}");
        for log in [caller, callee] {
            assert!(log.heard.faxed > 100 && log.seen > 100, "{log:?}");
        }
        assert!(log(&world, 2, End::Caller).heard.early > 50, "the announcement");
        assert_eq!(log(&world, 3, End::Caller).ended.map(|(_, how)| how), Some(Ended::Refused(486)));
        assert_eq!(log(&world, 4, End::Caller).ended.map(|(_, how)| how), Some(Ended::Cancelled));
        assert_eq!(log(&world, 4, End::Callee).ended.map(|(_, how)| how), Some(Ended::Cancelled));
    }
}

#[test]
fn behind_nat_boxes_they_fail_without_siplatch() {
    let life = Duration::from_secs(30);
    for behaviour in [Behaviour::full_cone(life), Behaviour::port_restricted(life), Behaviour::symmetric(life)] {
        let plan = CallPlan::simple(0, (0, 1), Duration::from_secs(5), Duration::from_secs(5));
        let mut world = without_siplatch(vec![plan], Some(behaviour), Link::ideal(Duration::from_millis(20)));
        world.run(Duration::from_secs(120));
        assert!(world.phones().all(Phone::registered), "REGISTER itself passes");
        let caller = log(&world, 0, End::Caller);
        assert_eq!((caller.answered, caller.heard.any), (None, 0), "{behaviour:?}");
    }
}

const LINES: &str = "m-lines and ports stay within a dialog";
const STREAMS: &str = "connections are used as RFC 3261 §18 and RFC 5923 say";

/// Each deliberate fault is caught, by the rule that forbids it.
#[test]
fn a_broken_rule_is_caught() {
    let stranger = at("203.0.113.90:5060");
    let bystander = at("203.0.113.99:5060");
    let faults = [
        (Sabotage::InjectedMedia, "media only to and from the parties of a call"),
        (Sabotage::LeakedMedia(stranger), "media only to and from the parties of a call"),
        (Sabotage::InnerContact, "no inner address on the outer side, and our own on each"),
        (Sabotage::InnerSdp, "no inner address on the outer side, and our own on each"),
        (Sabotage::MovedPort, LINES),
        (Sabotage::RevivedLine, LINES),
        (Sabotage::LostLine, LINES),
        (Sabotage::LostPort, "every port comes back"),
        (Sabotage::SecondFinal, "exactly one final response per request"),
        (Sabotage::ChangedField, "bytes outside edits are unchanged"),
        (Sabotage::LostChange, "the fold of all changes is the registry"),
        (Sabotage::Bloat, "no output grows without bound"),
        (Sabotage::Stray(bystander), "no request to an unlisted address"),
        (Sabotage::UnheardEnd, STREAMS),
        (Sabotage::CrossedConnections, STREAMS),
        (Sabotage::Stutter, STREAMS),
        (Sabotage::Forgetful, "a retransmission in gives the same bytes out"),
    ];
    let base = run::base();
    for (fault, rule) in faults {
        let caught = (0..60).any(|seed| {
            let report = run::run(seed, base, None, Some(fault), SHORT);
            report.sabotaged > 0 && report.rules_broken.contains(&rule)
        });
        assert!(caught, "{fault:?} should break “{rule}”");
    }
}

#[test]
fn a_run_that_draws_on_more_than_its_seed_is_caught() {
    let base = run::base();
    let struck = (0..60).find(|seed| run::run(*seed, base, None, Some(Sabotage::Moody), SHORT).sabotaged > 0);
    let seed = struck.expect("some seed has a phone that is pinged");
    let [first, second] = [0, 1].map(|_| run::run(seed, base, None, Some(Sabotage::Moody), SHORT).hash);
    assert_ne!(first, second);
    let [first, second] = [0, 1].map(|_| run::run(seed, base, None, None, SHORT).hash);
    assert_eq!(first, second);
}
