use super::*;
use crate::config::{Machine, Sources, load};

const BEFORE: &str = r#"
role = "border"
[inner]
listen = ["udp:10.0.0.2:5060"]
[outer]
listen = ["udp:203.0.113.30:5060", "udp:203.0.113.30:5062"]
[[upstream]]
uri = "sip:10.0.0.5"
[[phone]]
name = "reception"
user = "alice"
[[phone]]
name = "lobby"
user = "bob"
media_ports = "31000-31019"
"#;

fn settings(text: &str) -> Settings {
    let sources = Sources { file: Some(("border.toml".into(), text.into())), ..Sources::default() };
    let machine =
        Machine { ipv6: false, processors: 2, state_dirs: vec!["/var/lib/siplatch".into()], metrics_open: false };
    load(&sources, &machine).unwrap()
}

/// Without the TCP listeners that nobody wrote: the others are enough to count.
fn udp(text: &str) -> Settings {
    let mut settings = settings(text);
    Arc::make_mut(&mut settings.proxy).listeners.retain(|listener| !listener.transport.reliable());
    settings
}

fn places(settings: &Settings) -> Vec<(u16, bool)> {
    settings.proxy.listeners.iter().map(|listener| (listener.bind.port(), listener.retired)).collect()
}

fn ids(ids: &[ListenerId]) -> Vec<u16> {
    ids.iter().map(|id| id.0).collect()
}

#[test]
fn listeners_keep_their_ids_and_no_id_is_used_twice() {
    let before = udp(BEFORE);
    let one = plan(&before, &udp(&BEFORE.replace("30:5060", "30:5064"))).unwrap();
    assert_eq!(places(&one.settings), [(5060, false), (5060, true), (5062, false), (5064, false)]);
    assert_eq!((ids(&one.added), ids(&one.removed)), (vec![3], vec![1]));
    assert_eq!(
        one.changes,
        ["removed: listener udp 203.0.113.30:5060 (outer)", "added: listener udp 203.0.113.30:5064 (outer)"]
    );
    // What comes back is new; what was gone before is not said again.
    let two = plan(&one.settings, &before).unwrap();
    assert_eq!(places(&two.settings), [(5060, false), (5060, true), (5062, false), (5064, true), (5060, false)]);
    assert_eq!((ids(&two.added), ids(&two.removed)), (vec![4], vec![3]));
    let three = plan(&two.settings, &before).unwrap();
    assert_eq!(places(&three.settings), places(&two.settings));
    assert!(three.added.is_empty() && three.removed.is_empty() && three.changes.is_empty());
}

#[test]
fn a_phones_own_listener_is_found_in_its_new_place() {
    let office = |ports: [u16; 2]| {
        let [side, own] = ports;
        udp(&format!(
            "role = \"office\"\n[inner]\nlisten = [\"udp:192.168.1.2:5060\"]\n[outer]\nlisten = \
             [\"udp:192.168.1.2:{side}\"]\nadvertise = \"203.0.113.7\"\n[[upstream]]\nuri = \"sip:203.0.113.5\"\n\
             [[phone]]\nname = \"a\"\nuser = \"a\"\nouter_listen = \"udp:192.168.1.2:{own}\"\n"
        ))
    };
    let plan = plan(&office([5070, 5080]), &office([5071, 5080])).unwrap();
    assert_eq!(places(&plan.settings), [(5060, false), (5070, true), (5080, false), (5071, false)]);
    assert_eq!(plan.settings.proxy.phones[0].outer_listener, Some(2));
    assert_eq!(plan.settings.proxy.listeners[2].phone, Some(0));
    assert!(plan.changes.iter().all(|line| !line.contains("phone")), "{:?}", plan.changes);
}

#[test]
fn every_change_is_said() {
    let after = BEFORE
        .replace("sip:10.0.0.5", "sip:core.example:5062")
        .replace("name = \"reception\"", "name = \"desk\"")
        .replace("31000-31019", "31000-31039")
        + "[[network]]\nprefix = \"10.20.0.0/16\"\nlatch = true\n[media]\nports = \"40000-40999\"\ntimeout_s = 30\n\
           [limits]\nheader_fields = 128\n";
    let plan = plan(&settings(BEFORE), &settings(&after)).unwrap();
    assert_eq!(
        plan.changes,
        [
            "added: upstream sip:core.example:5062",
            "removed: upstream sip:10.0.0.5",
            "added: network 10.20.0.0/16",
            "added: phone \"desk\"",
            "changed: phone \"lobby\"",
            "removed: phone \"reception\"",
            "changed: media.ports from 30000-30999 to 40000-40999",
            "changed: media.timeout_s from 60 to 30",
            "changed: limits.header_fields from 256 to 128",
        ]
    );
    assert_eq!(plan.names, [HostPort { host: "core.example".into(), port: 5062 }]);
}

#[test]
fn what_needs_a_restart_is_refused_whole() {
    let before = settings(BEFORE);
    let after = r#"
role = "office"
[inner]
listen = ["udp:203.0.113.30:5060"]
[outer]
listen = ["udp:10.0.0.2:5060"]
advertise = "203.0.113.7"
[[upstream]]
uri = "sip:203.0.113.5"
[media]
keepalive = "off"
[dscp]
signalling = "cs5"
audio = "keep"
[metrics]
listen = "127.0.0.1:9091"
[state]
dir = "/srv/siplatch"
"#;
    let text = plan(&before, &settings(after)).unwrap_err();
    let path = format!("{}/../../tests/golden/reload/refused.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text);
}
