//! Discovery in virtual time, against servers that answer, lie, differ and fall silent.

mod world;

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::{Config, Discovery, Finding, Input, Mapping, SocketId};
use crate::Mapped;
use world::{A, B, C, SOCKET, TRIP, World, X, address, response, says, seconds};

#[test]
fn two_servers_that_agree_need_one_round_trip() {
    let mut world = World::watching(&[A, B], |_, _, to, request| says(to, request, X));
    assert_eq!(world.mapped(), None);
    world.run_until(seconds(1.0));
    assert_eq!(world.reports(), [(TRIP, Some((address(X), false)))]);
    assert_eq!(world.findings(), []);
    assert_eq!(world.discovery.mapped(SOCKET), Some(Mapped(address(X))));
}

#[test]
fn one_server_is_asked_twice_at_once() {
    let mut world = World::watching(&[A], |_, _, to, request| says(to, request, X));
    world.run_until(seconds(1.0));
    assert_eq!(world.reports(), [(TRIP * 2, Some((address(X), false)))]);
    assert_eq!(world.sent.len(), 2);
    assert_ne!(world.sent[0].3, world.sent[1].3, "another transaction id");
}

#[test]
fn a_silent_server_beside_a_good_one_delays_nothing() {
    let mut world =
        World::watching(&[A, B], |_, _, to, request| if to == address(B) { says(to, request, X) } else { Vec::new() });
    world.run_until(seconds(120.0));
    assert_eq!(world.reports(), [(TRIP * 2, Some((address(X), false)))]);
    assert_eq!(world.findings(), [Finding::NoAnswer(address(A))]);
}

#[test]
fn requests_are_retransmitted_and_given_up() {
    let mut world = World::watching(&[A], |_, _, _, _| Vec::new());
    world.run_until(seconds(39.6));
    let times: Vec<u128> = world.sent.iter().map(|(at, ..)| at.as_millis()).collect();
    assert_eq!(times, [0, 500, 1500, 3500, 7500, 15500, 31500]);
    assert!(world.sent.iter().all(|(.., bytes)| *bytes == world.sent[0].3), "the same request each time");
    assert_eq!(world.heard.len(), 1);
    assert_eq!(world.heard[0].0, seconds(39.5));
    world.run_until(seconds(3600.0));
    assert_eq!(world.findings(), [Finding::NoAnswer(address(A))], "one finding per outage");
    let times: Vec<Duration> = world.sent.iter().map(|(at, ..)| *at).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= seconds(38.1)), "it goes on trying");
}

#[test]
fn an_answer_to_a_retransmission_counts() {
    let mut world =
        World::watching(&[A], |at, _, to, request| if at < seconds(3.0) { Vec::new() } else { says(to, request, X) });
    world.run_until(seconds(4.0));
    assert_eq!(world.reports(), [(seconds(3.5) + TRIP * 2, Some((address(X), false)))]);
}

#[test]
fn a_second_answer_to_one_request_is_no_forgery() {
    let mut world = World::watching(&[A], |_, _, to, request| [says(to, request, X), says(to, request, X)].concat());
    world.run_until(seconds(60.0));
    assert_eq!(world.findings(), []);
    assert_eq!(world.mapped(), Some(address(X)));
}

#[test]
fn a_known_address_is_kept_warm() {
    for (fast, most, least) in [(false, 15, 12), (true, 5, 4)] {
        let mut world = World::new(Config::default(), &[A, B], |_, _, to, request| says(to, request, X));
        world.input(Input::Watch { socket: SOCKET, fast });
        world.run_until(seconds(600.0));
        let refreshes: Vec<Duration> = world.sent.iter().map(|(at, ..)| *at).filter(|at| *at > seconds(1.0)).collect();
        let gaps = refreshes.windows(2).map(|pair| pair[1] - pair[0]);
        for gap in gaps {
            assert!(gap >= Duration::from_secs(least) && gap <= Duration::from_secs(most) + TRIP * 2, "{gap:?}");
        }
        assert!(world.sent.iter().skip(4).all(|(_, _, to, _)| *to == address(A)), "only the anchor is asked");
        assert_eq!(world.reports().len(), 1);
    }
}

#[test]
fn a_changed_mapping_is_confirmed_before_it_is_reported() {
    let later = "203.0.113.99:41999";
    for list in [&[A][..], &[A, B][..]] {
        let mut world = World::watching(list, move |at, _, to, request| {
            says(to, request, if at < seconds(100.0) { X } else { later })
        });
        world.run_until(seconds(200.0));
        let reports = world.reports();
        assert_eq!(reports.len(), 2);
        assert_eq!(reports[1].1, Some((address(later), true)));
        assert!(reports[1].0 > seconds(100.0) && reports[1].0 < seconds(116.0), "{:?}", reports[1].0);
        assert_eq!(world.findings(), []);
    }
}

#[test]
fn where_one_socket_has_another_ip_all_are_asked_at_once() {
    let moved = seconds(100.0);
    let mut world = World::new(Config::default(), &[A, B], move |at, socket, to, request| {
        let ip = if at < moved { "203.0.113.1" } else { "203.0.113.9" };
        says(to, request, &format!("{ip}:{}", 41_000 + socket.0))
    });
    let sockets = (0..12).map(SocketId);
    for socket in sockets.clone() {
        world.input(Input::Watch { socket, fast: socket.0 == 0 });
        world.run_until(seconds(0.1 + f64::from(socket.0 as u32)));
    }
    world.run_until(moved);
    world.heard.clear();
    world.run_until(moved + seconds(5.5));
    let changed: Vec<Duration> = world.reports().iter().map(|(at, _)| *at).collect();
    assert_eq!(changed.len(), 12, "{:?}", world.reports());
    assert!(changed[11] - changed[0] < TRIP * 3, "{changed:?}");
    for socket in sockets {
        let expected = Mapped(address(&format!("203.0.113.9:{}", 41_000 + socket.0)));
        assert_eq!(world.discovery.mapped(socket), Some(expected));
    }
}

#[test]
fn one_server_cannot_move_what_two_agreed_on() {
    let mut world = World::watching(&[A, B], |at, _, to, request| {
        says(to, request, if at > seconds(100.0) && to == address(A) { "198.51.100.66:1" } else { X })
    });
    world.run_until(seconds(3000.0));
    assert_eq!(world.reports(), [(TRIP, Some((address(X), false)))]);
    assert_eq!(world.findings(), [Finding::ServersDisagreeOnIp]);
}

#[test]
fn what_two_agreed_on_moves_at_the_word_of_one_once_the_other_is_silent() {
    let mut world = World::watching(&[A, B], |at, _, to, request| match to == address(A) {
        true => says(to, request, if at > seconds(100.0) { "203.0.113.99:1" } else { X }),
        false if at > seconds(50.0) => Vec::new(),
        false => says(to, request, X),
    });
    world.run_until(seconds(300.0));
    let reports = world.reports();
    assert_eq!((reports.len(), reports[1].1), (2, Some((address("203.0.113.99:1"), true))));
    assert!(reports[1].0 < seconds(117.0), "{:?}", reports[1].0);
}

#[test]
fn servers_that_disagree_on_the_ip_are_not_believed() {
    let mut world = World::watching(&[A, B], |_, _, to, request| {
        says(to, request, if to == address(A) { X } else { "198.51.100.66:1" })
    });
    world.run_until(seconds(300.0));
    assert_eq!(world.reports(), []);
    assert_eq!(world.findings(), [Finding::ServersDisagreeOnIp]);
    assert!(world.sent.len() < 80, "{}", world.sent.len());
}

#[test]
fn of_three_servers_two_prevail() {
    let mut world = World::watching(&[A, B, C], |_, _, to, request| {
        says(to, request, if to == address(A) { "198.51.100.66:1" } else { X })
    });
    world.run_until(seconds(300.0));
    assert_eq!(world.reports(), [(TRIP, Some((address(X), false)))]);
    assert_eq!(world.findings(), [Finding::ServersDisagreeOnIp]);
}

#[test]
fn what_rests_on_one_server_falls_when_another_contradicts() {
    // B's first answer is lost: A is believed alone until B speaks.
    let mut world = World::watching(&[A, B], |at, _, to, request| match to == address(A) {
        true => says(to, request, X),
        false if at < seconds(0.4) => Vec::new(),
        false => says(to, request, "198.51.100.66:1"),
    });
    world.run_until(seconds(300.0));
    assert_eq!(world.reports(), [(TRIP * 2, Some((address(X), false))), (seconds(0.5) + TRIP, None)]);
    assert_eq!(world.findings(), [Finding::ServersDisagreeOnIp]);
}

#[test]
fn a_symmetric_nat_is_told_and_the_first_server_gives_the_port() {
    for order in [[A, B], [B, A]] {
        let mut world = World::watching(&order, move |_, _, to, request| {
            says(to, request, if to == address(A) { "203.0.113.1:1001" } else { "203.0.113.1:1002" })
        });
        world.run_until(seconds(600.0));
        let expected = if order[0] == A { "203.0.113.1:1001" } else { "203.0.113.1:1002" };
        assert_eq!(world.reports(), [(TRIP, Some((address(expected), false)))]);
        assert_eq!(world.findings(), [Finding::ServersDisagreeOnPort]);
        assert_eq!(world.discovery.mapping(), Mapping::Dependent);
    }
}

#[test]
fn a_changed_port_of_a_symmetric_nat_is_the_anchors() {
    let mut world = World::watching(&[A, B], |at, _, to, request| {
        let port = if to == address(A) { 1000 } else { 2000 } + u16::from(at > seconds(60.0));
        says(to, request, &format!("203.0.113.1:{port}"))
    });
    world.run_until(seconds(600.0));
    let last = world.reports().last().map(|(_, report)| *report);
    assert_eq!((world.reports().len(), last), (2, Some(Some((address("203.0.113.1:1001"), true)))));
}

#[test]
fn a_server_that_dies_is_replaced_without_a_change() {
    let mut world = World::watching(&[A, B], |at, _, to, request| {
        if to == address(A) && at > seconds(50.0) { Vec::new() } else { says(to, request, X) }
    });
    world.run_until(seconds(1200.0));
    assert_eq!(world.reports(), [(TRIP, Some((address(X), false)))]);
    assert_eq!(world.findings(), [Finding::NoAnswer(address(A))]);
    let late: Vec<Duration> = world.sent.iter().filter(|(_, _, to, _)| *to == address(B)).map(|(at, ..)| *at).collect();
    let gap = late.windows(2).filter(|pair| pair[0] > seconds(70.0)).map(|pair| pair[1] - pair[0]).max();
    assert!(gap.is_some_and(|gap| gap <= seconds(15.1)), "B keeps the mapping warm: {gap:?}");
}

#[test]
fn silence_changes_nothing_for_ten_minutes() {
    let mut world = World::watching(&[A, B], |at, _, to, request| {
        if at < seconds(60.0) || at > seconds(1000.0) { says(to, request, X) } else { Vec::new() }
    });
    world.run_until(seconds(600.0));
    assert_eq!(world.mapped(), Some(address(X)));
    assert_eq!(world.findings(), [Finding::NoAnswer(address(A)), Finding::NoAnswer(address(B))]);
    world.run_until(seconds(1100.0));
    let reports = world.reports();
    assert_eq!(reports.len(), 3);
    assert_eq!(reports[1].1, None);
    assert!(reports[1].0 > seconds(640.0) && reports[1].0 < seconds(661.0), "{:?}", reports[1].0);
    assert_eq!(reports[2].1, Some((address(X), false)), "the same address is no change");
    assert_eq!(world.findings().len(), 2);
}

#[test]
fn forged_answers_are_counted_and_ignored() {
    let forged = "198.51.100.66:6";
    type Forge = fn(SocketAddr, &[u8], &str) -> (SocketAddr, Vec<u8>);
    let wrong_id: Forge = |to, request, mapped| {
        let mut other = request.to_vec();
        other[10] ^= 1;
        (
            to,
            wire::stun::answer(&wire::stun::request([9; 12]), address(mapped))
                .filter(|_| other != request)
                .expect("a request"),
        )
    };
    let wrong_source: Forge =
        |_, request, mapped| (address("198.51.100.99:3478"), says(address(A), request, mapped).remove(0).1);
    let wrong_port: Forge =
        |to, request, mapped| (SocketAddr::new(to.ip(), 3479), says(address(A), request, mapped).remove(0).1);
    let damaged: Forge = |to, request, mapped| {
        let mut packet = says(to, request, mapped).remove(0).1;
        packet[27] ^= 0x40;
        (to, packet)
    };
    for forge in [wrong_id, wrong_source, wrong_port, damaged] {
        let mut world = World::watching(&[A, B], move |_, _, to, request| {
            let mut replies = vec![forge(to, request, forged)];
            replies.extend(says(to, request, X));
            replies
        });
        world.run_until(seconds(30.0));
        assert_eq!(world.reports(), [(TRIP, Some((address(X), false)))]);
        assert_eq!(world.findings().len(), world.sent.len());
        assert!(world.findings().iter().all(|finding| *finding == Finding::Forged));
    }
}

#[test]
fn addresses_that_no_nat_maps_to_are_refused() {
    for absurd in [
        "127.0.0.1:1",
        "0.0.0.0:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "[::1]:1",
        "[ff02::1]:1",
        "[::]:9",
        "203.0.113.1:0",
    ] {
        for accept_private in [false, true] {
            let config = Config { accept_private, ..Config::default() };
            let mut world = World::new(config, &[A, B], move |_, _, to, request| says(to, request, absurd));
            world.input(Input::Watch { socket: SOCKET, fast: true });
            world.run_until(seconds(100.0));
            assert_eq!(world.reports(), [], "{absurd}");
            assert!(world.findings().contains(&Finding::Forged));
        }
    }
}

#[test]
fn private_addresses_need_leave() {
    for (accept_private, private) in [(false, "10.0.0.1:9"), (true, "10.0.0.1:9"), (false, "100.64.0.1:9")] {
        let config = Config { accept_private, ..Config::default() };
        let mut world = World::new(config, &[A], move |_, _, to, request| says(to, request, private));
        world.input(Input::Watch { socket: SOCKET, fast: false });
        world.run_until(seconds(100.0));
        if accept_private {
            assert_eq!((world.mapped(), world.findings()), (Some(address(private)), vec![]));
        } else {
            assert_eq!((world.mapped(), world.findings()), (None, vec![Finding::PrivateMapped(address(private).ip())]));
        }
    }
}

#[test]
fn old_servers_and_meddling_routers() {
    let plain: &[u8] = &[0, 1, 0x12, 0x34, 203, 0, 113, 1];
    let mut old = World::watching(&[A], move |_, _, to, request| vec![(to, response(request, &[(0x0001, plain)]))]);
    old.run_until(seconds(30.0));
    assert_eq!((old.mapped(), old.findings()), (Some(address("203.0.113.1:4660")), vec![]));
    // XOR-MAPPED says 203.0.113.1:4660; an ALG has put the inner address into the other.
    let xor: &[u8] = &[0, 1, 0x12 ^ 0x21, 0x34 ^ 0x12, 203 ^ 0x21, 0x12, 113 ^ 0xa4, 1 ^ 0x42];
    let inner: &[u8] = &[0, 1, 0x13, 0xc4, 192, 168, 1, 2];
    let mut alg = World::watching(&[A], move |_, _, to, request| {
        vec![(to, response(request, &[(0x0001, inner), (0x0020, xor)]))]
    });
    alg.run_until(seconds(60.0));
    assert_eq!(
        (alg.mapped(), alg.findings()),
        (Some(address("203.0.113.1:4660")), vec![Finding::XorDiffersFromMapped])
    );
}

#[test]
fn errors_and_unknown_attributes_are_no_answers() {
    let strange =
        |request: &[u8]| response(request, &[(0x7777, &[0; 4]), (0x0001, &[0, 1, 0x12, 0x34, 203, 0, 113, 1])]);
    let error = |request: &[u8]| {
        let mut packet = response(request, &[(0x0009, &[0, 0, 5, 0])]);
        packet[1] = 0x11;
        packet
    };
    let empty = |request: &[u8]| response(request, &[]);
    type Bad = fn(&[u8]) -> Vec<u8>;
    for bad in [strange as Bad, error, empty] {
        let mut world =
            World::watching(
                &[A, B],
                move |_, _, to, request| {
                    if to == address(A) { vec![(to, bad(request))] } else { says(to, request, X) }
                },
            );
        world.run_until(seconds(60.0));
        assert_eq!(world.reports(), [(TRIP * 2, Some((address(X), false)))]);
        assert_eq!(world.findings(), [Finding::NoAnswer(address(A))]);
    }
}

#[test]
fn addresses_that_change_all_the_time_are_reported_at_a_rate() {
    let config = Config { fast_refresh: seconds(1.0), ..Config::default() };
    let mut world = World::new(config, &[A, B], |at, _, to, request| {
        says(to, request, &format!("203.0.113.{}:9", 1 + at.as_millis() / 500 % 200))
    });
    world.input(Input::Watch { socket: SOCKET, fast: true });
    world.run_until(seconds(300.0));
    let times: Vec<Duration> =
        world.reports().iter().filter(|(_, report)| report.is_some()).map(|(at, _)| *at).collect();
    assert!(times.len() > 5 && times.len() <= 31, "{}", times.len());
    assert!(times[1..].windows(3).all(|some| some[2] - some[0] >= seconds(20.0)), "two changes in twenty seconds");
}

#[test]
fn a_port_that_changes_with_each_packet_is_not_believed_nor_chased() {
    let mut port = 1000;
    let mut world = World::watching(&[A], move |_, _, to, request| {
        port += 1;
        says(to, request, &format!("203.0.113.1:{port}"))
    });
    world.run_until(seconds(300.0));
    assert_eq!(world.reports(), []);
    assert!(world.sent.len() < 70, "{}", world.sent.len());
}

#[test]
fn forgotten_sockets_are_silent() {
    let mut world = World::watching(&[A], |_, _, to, request| says(to, request, X));
    world.run_until(seconds(10.0));
    world.input(Input::Forget { socket: SOCKET });
    world.input(Input::Forget { socket: SOCKET });
    assert_eq!((world.discovery.poll_timeout(), world.mapped()), (None, None));
    let sent = world.sent.len();
    world.run_until(seconds(100.0));
    assert_eq!(world.sent.len(), sent);
    world.input(Input::Received { socket: SOCKET, from: address(A), packet: &[0; 20] });
    assert_eq!(world.findings(), []);
}

#[test]
fn servers_may_come_late_change_and_go() {
    let mut world = World::new(Config::default(), &[], |_, _, to, request| says(to, request, X));
    world.input(Input::Watch { socket: SOCKET, fast: false });
    world.run_until(seconds(10.0));
    assert_eq!((world.sent.len(), world.discovery.poll_timeout()), (0, None));
    world.input(Input::Servers(vec![address(A), address(A)]));
    world.run_until(seconds(20.0));
    assert_eq!(world.mapped(), Some(address(X)));
    let sent = world.sent.len();
    world.input(Input::Servers(vec![address(A)]));
    assert_eq!(world.sent.len(), sent, "the same list is no news");
    world.input(Input::Servers(vec![address(B), address(C)]));
    world.run_until(seconds(40.0));
    assert!(world.sent[sent..].iter().all(|(_, _, to, _)| *to != address(A)));
    world.input(Input::Servers(Vec::new()));
    world.run_until(seconds(600.0));
    assert_eq!(world.reports().len(), 1);
    world.run_until(seconds(700.0));
    assert_eq!(world.reports().last().map(|(_, report)| *report), Some(None), "nobody confirms it any more");
}

#[test]
fn hundreds_of_sockets_are_kept_apart() {
    let mapped = |socket: SocketId| format!("203.0.113.1:{}", 10_000 + socket.0);
    let mut world =
        World::new(Config::default(), &[A, B, C], move |_, socket, to, request| says(to, request, &mapped(socket)));
    for socket in 0..500 {
        world.input(Input::Watch { socket: SocketId(socket), fast: socket % 10 == 0 });
    }
    world.run_until(seconds(120.0));
    for socket in (0..500).map(SocketId) {
        assert_eq!(world.discovery.mapped(socket), Some(Mapped(address(&mapped(socket)))));
    }
    assert_eq!(world.findings(), []);
    assert_eq!(world.discovery.timers.len(), 500, "one deadline each");
    let ids: std::collections::BTreeSet<_> = world.sent.iter().map(|(.., bytes)| &bytes[8..20]).collect();
    assert_eq!(ids.len(), world.sent.len(), "ids never repeat");
}

proptest! {
    /// Whatever servers and forgers do: time goes forward (checked by the
    /// world), no address is reported that no server said from its own
    /// address, and memory and traffic stay bounded.
    #[test]
    fn any_weather(seed in any::<[u8; 32]>(), weather in prop::collection::vec(any::<(u8, u8)>(), 1..64)) {
        let mut turn = 0;
        let mut world = World::watching(&[A, B, C], move |_, _, to, request| {
            turn += 1;
            let (kind, value) = weather[turn % weather.len()];
            let mapped = format!("203.0.113.{}:{}", 1 + value % 3, 1000 + u16::from(value % 4));
            match kind % 8 {
                0 | 1 => Vec::new(),
                2 => vec![(to, vec![value; 40])],
                3 => says(address("198.51.100.99:1"), request, "198.51.100.66:6"),
                4 => vec![(to, response(request, &[(u16::from(value), &[value; 4])]))],
                _ => says(to, request, &mapped),
            }
        });
        world.discovery.rng = rand_core::SeedableRng::from_seed(seed);
        world.run_until(seconds(1200.0));
        for (_, report) in world.reports() {
            if let Some((mapped, _)) = report {
                prop_assert!(mapped.ip().to_string().starts_with("203.0.113."));
            }
        }
        prop_assert!(world.discovery.timers.len() <= 1);
        prop_assert!(world.sent.len() < 1200 * 4);
    }
}

#[test]
fn whether_the_mapping_depends_on_the_destination_takes_two_servers_to_say() {
    for (list, expected) in [(&[A][..], Mapping::Unknown), (&[A, B], Mapping::Independent)] {
        let mut world = World::watching(list, |_, _, to, request| says(to, request, X));
        world.run_until(seconds(60.0));
        assert_eq!(world.discovery.mapping(), expected);
        assert!(!world.discovery.is_unanswered());
    }
    // Another NAT, by its other IP: what was said of the first one does not hold.
    let mut world = World::watching(&[A, B], |at, _, to, request| match (at < seconds(100.0), to == address(A)) {
        (true, true) => says(to, request, "203.0.113.1:1001"),
        (true, false) => says(to, request, "203.0.113.1:1002"),
        (false, _) => says(to, request, "198.51.100.1:1003"),
    });
    world.run_until(seconds(90.0));
    assert_eq!(world.discovery.mapping(), Mapping::Dependent);
    world.run_until(seconds(200.0));
    assert_eq!(world.discovery.mapping(), Mapping::Independent);
}

#[test]
fn servers_that_never_answer_are_noticed_and_an_answer_undoes_it() {
    let mut world = World::watching(
        &[A, B],
        |at, _, to, request| {
            if at < seconds(50.0) { Vec::new() } else { says(to, request, X) }
        },
    );
    world.run_until(seconds(1.4));
    assert!(!world.discovery.is_unanswered());
    world.run_until(seconds(1.6));
    assert!(world.discovery.is_unanswered());
    world.run_until(seconds(49.0));
    assert!(world.discovery.is_unanswered());
    world.run_until(seconds(120.0));
    assert!(!world.discovery.is_unanswered());
    // Servers that fall silent later: the address stays known for a while, the silence is told.
    let mut world = World::watching(
        &[A, B],
        |at, _, to, request| {
            if at < seconds(60.0) { says(to, request, X) } else { Vec::new() }
        },
    );
    world.run_until(seconds(59.0));
    assert!(!world.discovery.is_silent());
    world.run_until(seconds(180.0));
    assert!(world.discovery.is_silent() && !world.discovery.is_unanswered() && world.mapped().is_some());
    // Nobody to ask, or nobody who asks.
    assert!(!Discovery::new(Config::default(), [1; 32]).is_unanswered());
    assert!(!World::watching(&[], |_, _, _, _| Vec::new()).discovery.is_unanswered());
}
