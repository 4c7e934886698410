//! The kernel's SIP helper is a real ALG: found every time that it is on, never when it is off.

use serde_json::Value;

use super::world::{ALG, FAR, World, report};

/// So many doctors at a time: their probes are one source to the reflector.
const WAVE: usize = 10;

fn runs(world: &World, count: usize) -> Vec<Value> {
    let mut all = Vec::new();
    while all.len() < count {
        let wave: Vec<_> =
            (0..WAVE.min(count - all.len())).map(|_| world.doctor(&["--only", "alg", "--reflector", FAR[0]])).collect();
        all.extend(wave.into_iter().map(report));
    }
    all
}

#[test]
fn the_kernels_helper_is_found_twenty_times_of_twenty() {
    let Some(mut world) = World::new(ALG) else { return };
    world.reflector();
    let all = runs(&world, 20);
    let found = all.iter().filter(|report| report["alg"] == "found").count();
    assert_eq!(found, 20, "{:#}", all[0]["alg_tests"]);
    println!("ALG on: found {found} of {}", all.len());
    for report in &all {
        let row = |transport: &str, port: u16| {
            let rows = report["alg_tests"].as_array().unwrap().iter();
            rows.clone().find(|row| row["transport"] == transport && row["port"] == port).cloned().unwrap()
        };
        for transport in ["udp", "tcp"] {
            let usual = row(transport, 5060);
            assert_eq!(usual["result"], "changed", "{usual}");
            for line in ["Via", "Contact"] {
                assert!(usual["out"].as_array().unwrap().contains(&line.into()), "{usual}");
            }
            assert_eq!(row(transport, 3478)["result"], "same", "the helper looks at port 5060 alone");
        }
        assert!(row("udp", 5060)["out"].as_array().unwrap().contains(&"c=".into()));
        assert_eq!(report["calls"], "unknown");
    }
}

#[test]
fn without_a_helper_nothing_is_found_in_twenty_runs() {
    let Some(mut world) = World::new("") else { return };
    world.reflector();
    let all = runs(&world, 20);
    let count = |word: &str| all.iter().filter(|report| report["alg"] == word).count();
    println!("ALG off: found {} of {}, none said {} times", count("found"), all.len(), count("none"));
    assert_eq!((count("found"), count("none")), (0, 20), "make lab-nat counts a hundred");
}

#[test]
fn a_router_that_swallows_sip_is_no_proof() {
    let drop = "chain forward { type filter hook forward priority 0; udp dport 5060 drop; }";
    let Some(mut world) = World::new(drop) else { return };
    world.reflector();
    let report = world.examined(&["--only", "alg", "--reflector", FAR[0]]);
    assert_eq!(report["alg"], Value::Null, "{:#}", report["alg_tests"]);
}
