//! Router control against a real miniupnpd, in namespaces: the plan installed,
//! kept, repaired and removed, in PCP, NAT-PMP and UPnP. Prints the seconds.
//! Needs root and miniupnpd; says SKIPPED without, and fails where `CI` is set.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its clock and its processes")]
#![allow(clippy::print_stdout, reason = "what was measured, and why nothing was, is for people to read")]

#[path = "router/house.rs"]
mod house;

use house::{EXTERNAL, HOST, House, OTHER, missing, until};

/// Signalling and reception's eight media ports.
const PLAN: [u16; 9] = [5070, 10_000, 10_001, 10_002, 10_003, 10_004, 10_005, 10_006, 10_007];
const NONE: [u16; 0] = [];
const MEDIA: &str = "10000-10007";

/// Within 5 s everything is to be there again; a machine with other work to do is given some more.
const REPAIRED: f64 = 8.0;

/// What was measured in one protocol, in seconds.
struct Row {
    protocol: &'static str,
    installed: f64,
    green: f64,
    repaired: f64,
    announced: f64,
    removed: f64,
}

#[test]
fn plan_is_installed_repaired_and_removed_in_each_protocol() {
    if missing().is_some() {
        return;
    }
    let all = [("pcp", "PCP"), ("nat-pmp", "NAT-PMP"), ("upnp", "UPnP")];
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let threads: Vec<_> = all.map(|(word, protocol)| scope.spawn(move || measured(word, protocol))).into();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!("\nseconds    installed  green outside  repaired, router crashed  repaired, router restarted  removed");
    for row in &rows {
        println!(
            "{:<10} {:>9.2}  {:>13.2}  {:>24.2}  {:>26.2}  {:>7.2}",
            row.protocol, row.installed, row.green, row.repaired, row.announced, row.removed
        );
    }
}

fn measured(word: &str, protocol: &'static str) -> Row {
    let house = House::build(word);
    let router = house.miniupnpd("");
    let (siplatch, _) = house.siplatch("h", word, MEDIA);
    let installed = until("the plan in the router's rules", 10.0, || house.ports() == PLAN);
    let green = until("a green light", 10.0, || house.mapping("h", "5070", "outside") == "green");
    let status = house.status("h");
    assert_eq!((&status["protocol"], &status["external"]), (&protocol.into(), &EXTERNAL.into()), "{status}");
    assert_eq!(house.mapping("h", MEDIA, "state"), "installed");

    // A router that is no older than the drift that RFC 6886 §3.6 allows for cannot be told from a younger one.
    let ages = || {
        let begun = std::time::Instant::now();
        until("the router has been up for a while", 15.0, || begun.elapsed().as_secs() >= 10)
    };
    ages();

    // The router loses power: nothing is said, its rules and what it knew are gone.
    router.crash();
    house.firewall(true);
    assert_eq!(house.ports(), NONE);
    let router = house.miniupnpd("");
    let repaired = until("the plan after a crash of the router", REPAIRED, || house.ports() == PLAN);

    ages();
    // It is restarted in good order, and away for longer than we wait for an answer.
    router.end();
    house.firewall(true);
    until("silence is noticed", 15.0, || house.status("h")["alarms"].to_string().contains("answers no more"));
    let _router = house.miniupnpd("");
    let announced = until("the plan after a restart of the router", REPAIRED, || house.ports() == PLAN);
    until("no alarm is left", 5.0, || !house.status("h")["alarms"].to_string().contains("answers no more"));

    let removed = siplatch.end();
    assert_eq!(house.ports(), NONE, "something stays behind");
    Row { protocol, installed, green, repaired, announced, removed }
}

#[test]
fn leases_are_renewed_before_they_end() {
    if missing().is_some() {
        return;
    }
    // miniupnpd shortens leases in PCP only.
    let house = House::build("lease");
    let _router = house.miniupnpd("min_lifetime=10\nmax_lifetime=14");
    let _siplatch = house.siplatch("h", "pcp", MEDIA);
    until("the plan", 10.0, || house.ports() == PLAN);
    let ends = || house.mapping("h", "5070", "ends_s").parse::<u64>().unwrap_or(u64::MAX);
    until("a lease of 14 s", 3.0, || ends() <= 14);
    for _ in 0..2 {
        until("the lease runs down", 10.0, || ends() <= 8);
        let renewed = until("the lease is renewed", 5.0, || ends() >= 12);
        assert_eq!(house.ports(), PLAN);
        println!("PCP: a lease of 14 s was renewed {renewed:.1} s after 8 s were left");
    }
}

#[test]
fn crash_of_ours_leaves_nothing_behind() {
    if missing().is_some() {
        return;
    }
    std::thread::scope(|scope| {
        for word in ["pcp", "upnp"] {
            scope.spawn(move || {
                let house = House::build(&format!("c{word}"));
                let _router = house.miniupnpd("");
                let (siplatch, _) = house.siplatch("h", word, MEDIA);
                until("the plan", 10.0, || house.ports() == PLAN);
                siplatch.crash();
                assert_eq!(house.ports(), PLAN);
                // With UPnP what is wanted no more is found in the router's list and removed; with PCP what is wanted
                // is ours again by its nonce.
                let (media, plan) = if word == "upnp" { ("10002-10007", &PLAN[..]) } else { (MEDIA, &PLAN[..]) };
                let plan: Vec<u16> =
                    plan.iter().copied().filter(|port| word != "upnp" || !(10_000..10_002).contains(port)).collect();
                let (siplatch, _) = house.siplatch("h", word, media);
                until("all is installed", 10.0, || {
                    house.mapping("h", "5070", "state") == "installed"
                        && house.mapping("h", media, "state") == "installed"
                });
                assert_eq!(house.ports(), plan, "{word}");
                siplatch.end();
                assert_eq!(house.ports(), NONE, "{word}");
            });
        }
    });
}

#[test]
fn port_of_another_host_is_left_alone_and_its_owner_named() {
    if missing().is_some() {
        return;
    }
    let house = House::build("o");
    let _router = house.miniupnpd("");
    let (other, _) = house.siplatch("o", "upnp", MEDIA);
    until("the other host's plan", 10.0, || house.ports() == PLAN);
    let (_ours, _) = house.siplatch("h", "upnp", "10020-10023");
    until("a conflict", 10.0, || house.mapping("h", "5070", "state") == "conflict");
    let why = house.mapping("h", "5070", "why");
    assert!(why.contains(&format!("{OTHER}:5070 (\"siplatch signalling\")")), "{why}");
    until("the rest of the plan", 10.0, || house.mapping("h", "10020-10023", "state") == "installed");
    assert!(house.log("h").contains("port 5070, wanted for signalling, belongs to"), "{}", house.log("h"));
    // The other host's mapping still leads to it.
    assert_eq!(house.mapping("o", "5070", "state"), "installed");
    other.end();

    // In PCP the router gives another port instead, which is of no use and given back.
    let house = House::build("p");
    let _router = house.miniupnpd("");
    let _other = house.siplatch("o", "pcp", MEDIA);
    until("the other host's plan", 10.0, || house.ports() == PLAN);
    let (_ours, _) = house.siplatch("h", "pcp", "10020-10021");
    until("a conflict", 10.0, || house.mapping("h", "5070", "state") == "conflict");
    until("the rest of the plan", 10.0, || house.mapping("h", "10020-10021", "state") == "installed");
    until("nothing but both plans", 3.0, || house.ports() == [&PLAN[..], &[10_020, 10_021]].concat());
}

#[test]
fn forward_that_lets_nobody_in_is_red() {
    if missing().is_some() {
        return;
    }
    let house = House::build("red");
    house.firewall(false);
    let _router = house.miniupnpd("");
    let (_siplatch, _) = house.siplatch("h", "auto", MEDIA);
    until("the plan", 10.0, || house.ports() == PLAN);
    let red = until("a red light", 10.0, || house.mapping("h", "5070", "outside") == "red");
    assert_eq!(house.mapping("h", "5070", "state"), "installed");
    println!("a forward that the router says it has, and its firewall drops: red after {red:.1} s");
}

#[test]
fn router_that_says_another_address_than_stun_is_an_alarm() {
    if missing().is_some() {
        return;
    }
    let house = House::build("two");
    let _router = house.miniupnpd("ext_ip=45.45.46.9");
    let (_siplatch, _) = house.siplatch("h", "auto", MEDIA);
    let alarm = "the router says that its address is 45.45.46.9, STUN sees 45.45.45.1";
    until("an alarm", 10.0, || house.status("h")["alarms"].to_string().contains(alarm));
    until("the plan all the same", 10.0, || house.ports() == PLAN);
    assert!(house.log("h").contains(alarm));
}

#[test]
fn start_is_not_held_up_where_no_router_answers() {
    if missing().is_some() {
        return;
    }
    let house = House::build("none");
    let (siplatch, took) = house.siplatch("h", "auto", MEDIA);
    assert!(took < 2.0, "{took} s until the banner of {HOST}");
    until("an alarm", 15.0, || house.status("h")["alarms"].to_string().contains("forward the ports by hand"));
    assert!(siplatch.end() < 3.0);
}
