//! The machine in virtual time, against routers that grant, refuse, forget, lie and fall silent.

mod router;

use std::net::Ipv4Addr;
use std::time::Duration;

use wire::portmap::{Answer, Proto};

use super::{Choice, Entry, Finding, Input, Nonsense, Protocol, Refusal, State};
use router::{EXTERNAL, LOCAL, ROUTER, World, want};

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

#[test]
fn each_protocol_installs_and_removes_the_plan() {
    for protocol in [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp] {
        let mut world = World::new(&[protocol]);
        world.begin(Choice::Auto, &[want("signalling", 5070), want("reception", 10_000), want("reception", 10_001)]);
        world.run(seconds(4.0));
        assert_eq!(world.protocol(), Some(protocol));
        assert_eq!(world.router.ports(), [5070, 10_000, 10_001], "{protocol:?}");
        assert_eq!(world.states(), ["installed"; 3]);
        assert_eq!((world.machine.snapshot().external, world.findings()), (Some(EXTERNAL), vec![]));
        world.input(Input::Stop);
        assert!(world.stopped && world.router.ports().is_empty(), "{protocol:?}");
    }
}

#[test]
fn a_natpmp_router_that_refuses_pcp_is_asked_in_natpmp_at_once() {
    let mut world = World::new(&[Protocol::NatPmp]);
    world.begin(Choice::Auto, &[want("signalling", 5070)]);
    world.run(seconds(0.1));
    assert_eq!((world.protocol(), world.states()), (Some(Protocol::NatPmp), vec!["installed"]));
}

#[test]
fn leases_are_renewed_between_half_and_five_eighths_with_the_same_nonce() {
    let mut world = World::new(&[Protocol::Pcp]);
    world.begin(Choice::Auto, &[want("signalling", 5070), want("reception", 10_000)]);
    world.run(seconds(3600.0 * 3.0));
    for port in [5070, 10_000] {
        let asked = world.router.asked(port);
        assert!(asked.len() > 4, "{asked:?}");
        assert!(asked.iter().all(|(_, nonce)| *nonce == asked[0].1 && *nonce != [0; 12]));
        for pair in asked.windows(2) {
            let pause = pair[1].0 - pair[0].0;
            assert!((seconds(1799.0)..=seconds(2251.0)).contains(&pause), "{pause:?}");
        }
    }
    let nonces: Vec<_> = [5070, 10_000].map(|port| world.router.asked(port)[0].1).into();
    assert_ne!(nonces[0], nonces[1]);
    assert_eq!(world.states(), ["installed"; 2]);

    let mut world = World::new(&[Protocol::NatPmp]);
    world.begin(Choice::Auto, &[want("signalling", 5070)]);
    world.run(seconds(3500.0));
    let asked = world.router.asked(5070);
    assert_eq!(asked.len(), 2);
    assert!((seconds(1799.0)..=seconds(1801.0)).contains(&(asked[1].0 - asked[0].0)));
}

#[test]
fn a_router_that_forgot_has_everything_again_within_five_seconds() {
    for protocol in [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp] {
        for pause in [0.0, 1.3, 30.0, 400.0] {
            let mut world = World::new(&[protocol]);
            world.begin(Choice::Auto, &[want("signalling", 5070), want("reception", 10_000)]);
            world.run(seconds(60.0));
            world.router.silent = true;
            world.run(seconds(60.0 + pause));
            world.router.silent = false;
            world.router.reboot();
            world.run(seconds(60.0 + pause + 5.0));
            assert_eq!(world.router.ports(), [5070, 10_000], "{protocol:?} {pause}");
            assert_eq!(world.states(), ["installed"; 2]);
            assert!(world.findings().contains(&Finding::Forgot));
        }
    }
}

#[test]
fn an_announcement_repairs_at_once() {
    for protocol in [Protocol::Pcp, Protocol::NatPmp] {
        let mut world = World::new(&[protocol]);
        world.begin(Choice::Auto, &[want("signalling", 5070)]);
        // Just after a poll: the next one is far away.
        world.run(seconds(60.1));
        world.router.reboot();
        let announcement = world.router.announcement();
        world.input(Input::Announced { from: ROUTER.into(), packet: &announcement });
        world.run(seconds(61.7));
        assert_eq!(world.router.ports(), [5070], "{protocol:?}");
        // Nobody else is believed.
        let asked = world.router.asked(5070).len();
        world.input(Input::Announced { from: "192.168.1.66:5351".parse().unwrap(), packet: &announcement });
        world.run(seconds(62.0));
        assert_eq!(world.router.asked(5070).len(), asked);
    }
}

#[test]
fn nonsense_changes_nothing_and_does_not_loop() {
    let mut world = World::new(&[Protocol::Pcp]);
    world.begin(Choice::Auto, &[want("signalling", 5070)]);
    world.run(seconds(1.0));
    let before = world.machine.snapshot().rows;
    let good = world.router.last_answer.clone();
    let mut forged = good.clone();
    forged[24] ^= 1;
    world.input(Input::Received { from: ROUTER.into(), packet: &forged });
    world.input(Input::Received { from: "192.168.1.66:5351".parse().unwrap(), packet: &good });
    world.input(Input::Received { from: ROUTER.into(), packet: &good[..30] });
    let stranger = Nonsense::Stranger("192.168.1.66:5351".parse().unwrap());
    let all = [Nonsense::WrongNonce, stranger, Nonsense::Unreadable].map(Finding::Nonsense);
    assert_eq!(world.findings(), all);
    assert_eq!(world.machine.snapshot().rows, before);
    assert_eq!(world.machine.snapshot().alarms.len(), 1);

    // A clock that jumps at each answer: believed three times, then not for ten minutes.
    let asked = world.router.asked(5070).len();
    world.router.jumps = true;
    world.run(seconds(300.0));
    assert!(world.findings().contains(&Finding::Nonsense(Nonsense::Epoch)));
    let more = world.router.asked(5070).len() - asked;
    assert!(more <= 4, "{more}");
    assert_eq!(world.states(), ["installed"]);
}

#[test]
fn short_leases_and_absurd_addresses_are_refused_ever_more_seldom() {
    for (lifetime, external, refusal) in [
        (5, EXTERNAL, Refusal::ShortLease(5)),
        (3600, Ipv4Addr::new(127, 0, 0, 1), Refusal::External(Ipv4Addr::new(127, 0, 0, 1))),
        (3600, LOCAL, Refusal::External(LOCAL)),
        (3600, Ipv4Addr::new(255, 255, 255, 255), Refusal::External(Ipv4Addr::BROADCAST)),
    ] {
        let mut world = World::new(&[Protocol::Pcp]);
        (world.router.most, world.router.external) = (lifetime, external);
        world.begin(Choice::Auto, &[want("signalling", 5070)]);
        world.run(seconds(1.0));
        assert_eq!(world.machine.snapshot().rows[0].state, State::Refused(refusal));
        world.run(seconds(3600.0));
        let asked = world.router.asked(5070).len();
        assert!((4..=8).contains(&asked), "{asked} times in an hour");
    }
    // What was granted before stays until its end.
    let mut world = World::new(&[Protocol::Pcp]);
    world.begin(Choice::Auto, &[want("signalling", 5070)]);
    world.run(seconds(1.0));
    world.router.most = 5;
    world.run(seconds(3000.0));
    assert_eq!(world.states(), ["installed"]);
    world.run(seconds(3700.0));
    assert_eq!(world.states(), ["refused"]);
}

#[test]
fn another_port_than_the_wanted_is_given_back() {
    for protocol in [Protocol::Pcp, Protocol::NatPmp] {
        let mut world = World::new(&[protocol]);
        world.router.taken.push(5070);
        world.begin(Choice::Auto, &[want("signalling", 5070), want("reception", 10_000)]);
        world.run(seconds(3.0));
        assert_eq!(world.states(), ["conflict", "installed"], "{protocol:?}");
        assert_eq!(world.router.ports(), [10_000], "{protocol:?}");
        assert_eq!(
            world.findings(),
            [Finding::Conflict { name: "signalling".to_owned(), external: 5070, owner: None }]
        );
    }
}

#[test]
fn upnp_names_the_owner_and_touches_nothing_of_others() {
    let mut world = World::new(&[Protocol::Upnp]);
    let entry = |external, client: &str, description: &str| Entry {
        proto: Proto::Udp,
        external,
        client: client.to_owned(),
        internal: external,
        description: description.to_owned(),
    };
    let others = [entry(5070, "192.168.1.9", "console"), entry(7000, "192.168.1.9", "siplatch desk")];
    world.router.entries = others.to_vec();
    world.router.entries.insert(0, entry(6000, "192.168.1.2", "siplatch reception"));
    world.router.entries.push(entry(6002, "192.168.1.2", "siplatch reception"));
    world.router.entries.push(entry(9000, "192.168.1.2", "something else"));
    world.begin(Choice::Only(Protocol::Upnp), &[want("signalling", 5070), want("reception", 10_000)]);
    world.run(seconds(3.0));
    assert_eq!(world.states(), ["conflict", "installed"]);
    let owner = Some("192.168.1.9:5070 (\"console\")".to_owned());
    assert_eq!(world.machine.snapshot().rows[0].state, State::Conflict(owner));
    // What an earlier process left is gone; what others have is as it was.
    assert_eq!(world.router.ports(), [5070, 7000, 9000, 10_000]);
    assert_eq!(world.router.entries[..2], others);
}

#[test]
fn a_router_that_knows_no_end_is_served_all_the_same() {
    let mut world = World::new(&[Protocol::Upnp]);
    world.router.permanent_only = true;
    world.begin(Choice::Auto, &[want("signalling", 5070)]);
    world.run(seconds(8.0));
    assert_eq!(world.states(), ["installed"]);
    assert_eq!(world.machine.snapshot().rows[0].until, None);
    world.input(Input::Stop);
    assert!(world.stopped && world.router.ports().is_empty());
}

#[test]
fn where_no_protocol_answers_start_and_stop_are_not_held_up() {
    let mut world = World::new(&[]);
    world.begin(Choice::Auto, &[want("signalling", 5070)]);
    world.run(seconds(600.0));
    assert_eq!(world.findings(), [Finding::Barren(Choice::Auto)]);
    assert!(world.transmitted < 60, "{} packets in ten minutes", world.transmitted);
    world.input(Input::Stop);
    assert!(world.stopped);
}

#[test]
fn a_router_that_falls_silent_keeps_its_rows_and_is_asked_seldom() {
    let mut world = World::new(&[Protocol::Pcp]);
    world.begin(Choice::Only(Protocol::Pcp), &[want("signalling", 5070)]);
    world.run(seconds(60.0));
    world.router.silent = true;
    world.run(seconds(80.0));
    assert_eq!((world.states(), world.findings()), (vec!["installed"], vec![Finding::Silent]));
    let before = world.transmitted;
    world.run(seconds(3660.0));
    assert!(world.transmitted - before < 1000, "{}", world.transmitted - before);
    assert_eq!(world.states(), ["waiting"]);
    world.input(Input::Stop);
    world.run(seconds(3662.0));
    assert!(world.stopped);
}

#[test]
fn the_world_beyond_is_compared_with_what_stun_sees() {
    let mut world = World::new(&[Protocol::NatPmp]);
    world.router.external = Ipv4Addr::new(100, 64, 3, 4);
    world.begin(Choice::Auto, &[want("signalling", 5070)]);
    world.run(seconds(1.0));
    assert_eq!(world.findings(), [Finding::PrivateExternal(Ipv4Addr::new(100, 64, 3, 4))]);
    assert_eq!(world.states(), ["installed"]);
    world.input(Input::Seen(Some(EXTERNAL)));
    let foreign = Finding::ForeignExternal { router: Ipv4Addr::new(100, 64, 3, 4), seen: EXTERNAL };
    assert_eq!(world.findings().last(), Some(&foreign));
    world.input(Input::Seen(Some(EXTERNAL)));
    assert_eq!(world.findings().len(), 2);
}

#[test]
fn what_is_wanted_no_more_is_removed_and_the_rest_stays() {
    for protocol in [Protocol::Pcp, Protocol::NatPmp, Protocol::Upnp] {
        let mut world = World::new(&[protocol]);
        world.begin(Choice::Auto, &[want("signalling", 5070), want("reception", 10_000)]);
        world.run(seconds(4.0));
        world.input(Input::Want(vec![want("reception", 10_000), want("door", 10_020)]));
        world.run(seconds(5.0));
        assert_eq!(world.router.ports(), [10_000, 10_020], "{protocol:?}");
        assert_eq!(world.router.asked(10_000).len(), 1);
        world.input(Input::Choose(Choice::Off));
        world.run(seconds(6.0));
        assert!(world.router.ports().is_empty(), "{protocol:?}");
    }
}

#[test]
fn a_restart_asks_with_the_same_nonce() {
    let nonce = || {
        let mut world = World::new(&[Protocol::Pcp]);
        world.begin(Choice::Auto, &[want("signalling", 5070)]);
        world.run(seconds(1.0));
        let Some(Answer::Pcp { map: Some(map), .. }) = wire::portmap::read(&world.router.last_answer) else {
            panic!("no mapping")
        };
        map.nonce
    };
    assert_eq!(nonce(), nonce());
}

#[test]
fn only_our_own_address_is_asked_for() {
    let mut world = World::new(&[Protocol::Pcp]);
    let elsewhere = super::Want { address: Some(Ipv4Addr::new(10, 0, 0, 7)), ..want("door", 5080) };
    let here = super::Want { address: Some(LOCAL), ..want("signalling", 5070) };
    world.begin(Choice::Auto, &[elsewhere, here]);
    world.run(seconds(10.0));
    assert_eq!((world.states(), world.router.ports()), (vec!["refused", "installed"], vec![5070]));
    assert_eq!(world.machine.snapshot().rows[0].state, State::Refused(Refusal::Elsewhere(LOCAL)));
}
