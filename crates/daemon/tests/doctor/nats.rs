//! The doctor behind real NATs: what it says, and that it says nothing wrong.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::world::{ALG, FAR, ONE_TO_ONE, SYMMETRIC, TRANSLATE, World};

/// A configuration of an office inside, written where the doctor finds it.
struct Office(PathBuf);

impl Office {
    fn new(name: &str, advertise: &str, upstream: &str) -> Self {
        let path = std::env::temp_dir().join(format!("siplatch-doctor-{name}-{}.toml", std::process::id()));
        let text = format!(
            "role = \"office\"\n[inner]\nlisten = [\"udp:192.168.7.2:5060\"]\n[outer]\nlisten = [\"udp:192.168.7.2:5070\"]\n\
             advertise = \"{advertise}\"\nstun_servers = [\"{}\"]\n[doctor]\nreflector = \"{}\"\n[[upstream]]\n{upstream}\n\
             [media]\nports = \"30000-30003\"\n",
            FAR[0], FAR[0]
        );
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn examined(&self, world: &World, more: &[&str]) -> Value {
        let flags = [&["--config", self.0.to_str().unwrap()], more].concat();
        world.examined(&flags)
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        // It lies among temporary files, should it stay.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// These fields of a report, joined: `nat.kind`, `udp`.
pub(crate) fn fields(report: &Value, names: &[&str]) -> Value {
    let field = |name: &&str| name.split('.').fold(report, |value, part| &value[part]).clone();
    names.iter().map(field).collect()
}

const NAT: [&str; 7] =
    ["nat.translated", "nat.kind", "nat.mapping", "nat.one_to_one", "nat.double_nat", "nat.cgnat", "nat.public_hop"];

#[test]
fn the_usual_nat_and_all_that_is_known_of_it() {
    let Some(mut world) = World::new("") else { return };
    world.reflector();
    let begun = std::time::Instant::now();
    let report = world.examined(&["--reflector", FAR[0], "--upstream", "sip:203.0.113.2"]);
    assert!(begun.elapsed().as_secs() <= 30, "{:?}", begun.elapsed());
    let expected = json!([true, "port-restricted-cone", "endpoint-independent", false, false, false, 1]);
    assert_eq!(fields(&report, &NAT), expected, "{report:#}");
    let rest = ["nat.hairpin", "udp", "tcp", "alg", "mtu", "nat.lifetime_s", "nat.lifetime_exact", "calls"];
    // Linux translates back nothing that comes from inside; an upstream that knows no OPTIONS is silent.
    assert_eq!(
        fields(&report, &rest),
        json!([false, "open", "open", "none", 1500, 25.0, false, "unknown"]),
        "{report:#}"
    );
    assert_eq!(report["nat"]["hops"], json!(["192.168.7.1"]));
}

#[test]
fn a_symmetric_nat_needs_a_provider_that_latches() {
    let Some(mut world) = World::with(SYMMETRIC, None) else { return };
    world.reflector();
    let provider = world.provider();
    let plain = Office::new("plain", "stun", &format!("uri = \"sip:{provider}\""));
    let report = plain.examined(&world, &["--quick"]);
    assert_eq!(fields(&report, &["nat.kind", "calls"]), json!(["symmetric", "fail"]), "{report:#}");
    let row = json!({"uri": format!("sip:{provider}"), "udp": "answers", "tcp": "refused", "tls": null});
    assert_eq!(report["upstreams"][0], row);
    let comedia = Office::new("comedia", "stun", &format!("uri = \"sip:{provider}\"\ncomedia = true"));
    let report = comedia.examined(&world, &["--quick"]);
    assert_eq!(fields(&report, &["nat.kind", "calls", "clock"]), json!(["symmetric", "work", "right"]), "{report:#}");
}

#[test]
fn one_to_one_all_ports_are_ours() {
    let Some(mut world) = World::with(ONE_TO_ONE, None) else { return };
    world.reflector();
    let report = world.examined(&["--reflector", FAR[0], "--quick"]);
    assert_eq!(fields(&report, &NAT[..4]), json!([true, "full-cone", "endpoint-independent", true]), "{report:#}");
}

#[test]
fn static_forwards_are_seen_and_their_lack_too() {
    let dnat = |ports: &str| {
        format!(
            "chain pre {{ type nat hook prerouting priority -100;
             iifname \"wan\" udp dport {{ {ports} }} dnat to 192.168.7.2; }}\n{SYMMETRIC}"
        )
    };
    for (ports, forwards, calls) in
        [("5070, 30000-30003", "open", "work"), ("5070", "some", "fail"), ("9", "closed", "fail")]
    {
        let Some(mut world) = World::with(&dnat(ports), None) else { return };
        world.reflector();
        let provider = world.provider();
        let office = Office::new("forwards", "203.0.113.7", &format!("uri = \"sip:{provider}\""));
        let report = office.examined(&world, &["--quick"]);
        assert_eq!(
            fields(&report, &["nat.kind", "forwards", "calls"]),
            json!(["symmetric", forwards, calls]),
            "{report:#}"
        );
    }
}

#[test]
fn a_carriers_nat_is_known_by_its_addresses_and_a_second_nat_not_for_sure() {
    let seen = |network: &str| {
        let mut world = World::with(TRANSLATE, Some(network))?;
        world.reflector();
        Some(world.examined(&["--reflector", FAR[0], "--quick"]))
    };
    let Some(carrier) = seen("100.64.9") else { return };
    let expected = json!([true, "port-restricted-cone", "endpoint-independent", false, true, true, 2]);
    assert_eq!(fields(&carrier, &NAT), expected, "{carrier:#}");
    assert_eq!(carrier["nat"]["hops"], json!(["192.168.7.1", "100.64.9.1"]));
    let Some(second) = seen("10.99.9") else { return };
    let expected = json!([true, "port-restricted-cone", "endpoint-independent", false, null, null, 2]);
    assert_eq!(fields(&second, &NAT), expected, "{second:#}");
}

#[test]
fn blocked_udp_is_told_from_a_dead_server() {
    let drop = "chain forward { type filter hook forward priority 0; meta l4proto udp drop; }";
    let Some(mut world) = World::new(drop) else { return };
    // Nobody there: nothing is known.
    let dead = world.examined(&["--reflector", FAR[0], "--stun", FAR[1], "--quick"]);
    assert_eq!(fields(&dead, &["udp", "tcp", "stun", "calls"]), json!([null, null, "silent", "unknown"]), "{dead:#}");
    world.reflector();
    let blocked = world.examined(&["--reflector", FAR[0], "--quick"]);
    assert_eq!(fields(&blocked, &["udp", "tcp", "calls"]), json!(["blocked", "open", "fail"]), "{blocked:#}");
}

#[test]
fn a_narrow_way_is_measured() {
    let Some(mut world) = World::new("") else { return };
    world.at_router("ip link set wan mtu 1420");
    world.reflector();
    let report = world.examined(&["--reflector", FAR[0], "--only", "mtu"]);
    assert_eq!(fields(&report, &["mtu", "largest_sip"]), json!([1420, 1392]), "{report:#}");
}

#[test]
fn a_border_with_two_addresses_tells_of_nats() {
    let Some(mut world) = World::new(ALG) else { return };
    world.border();
    let report = world.examined(&["--reflector", "203.0.113.1:5060", "--quick"]);
    // The helper rewrites nothing of STUN, and all of SIP.
    let names = ["nat.kind", "nat.one_to_one", "alg", "tcp"];
    assert_eq!(fields(&report, &names), json!(["port-restricted-cone", false, "found", "open"]), "{report:#}");
    let tests = report["alg_tests"].as_array().unwrap();
    assert!(tests.iter().all(|row| row["result"] == "changed") && tests.len() == 2, "{tests:?}");
}

#[test]
fn init_writes_what_was_seen() {
    let Some(mut world) = World::with(ONE_TO_ONE, None) else { return };
    world.reflector();
    let path = std::env::temp_dir().join(format!("siplatch-init-{}.toml", std::process::id()));
    let file = path.to_str().unwrap();
    let flags = ["init", file, "--upstream", "203.0.113.2", "--stun", FAR[0], "--reflector", FAR[0]];
    let first = world.inside(super::SIPLATCH, &flags);
    assert!(first.status.success(), "{first:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("advertise = \"203.0.113.7\"") && text.contains("listen = [\"udp:192.168.7.2:5070\"]"),
        "{text}"
    );
    assert!(world.inside(super::SIPLATCH, &["check", file]).status.success());
    let again = world.inside(super::SIPLATCH, &flags);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("--force"));
    std::fs::remove_file(&path).unwrap();
}
