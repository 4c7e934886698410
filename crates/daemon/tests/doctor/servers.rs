//! Servers out there: TLS whose certificate is trusted or not, and coturn.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::nats::fields;
use super::world::{FAR, SYMMETRIC, World};

/// A certificate of its own for 203.0.113.2, and a siplatch that shows it on port 443.
struct Secure(PathBuf);

impl Secure {
    fn start(name: &str, world: &mut World) -> Self {
        let dir = std::env::temp_dir().join(format!("siplatch-doctor-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = |file: &str| dir.join(file).to_str().unwrap().to_owned();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=far", "-addext", "subjectAltName=IP:203.0.113.2"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .args(["-keyout", &path("key"), "-out", &path("crt")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let text = format!(
            "role = \"standalone\"\n[inner]\nlisten = [\"tls:203.0.113.2:443\"]\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n\
             [state]\ndir = \"{}\"\n",
            path("crt"),
            path("key"),
            path("state")
        );
        std::fs::write(dir.join("far.toml"), text).unwrap();
        world.far(super::SIPLATCH, &["run", "--log", "warn", "--config", &path("far.toml")], "Status ");
        Self(dir)
    }

    /// An office whose upstream it is, and that trusts its certificate or not.
    fn office(&self, trusts: bool) -> String {
        let path = |file: &str| self.0.join(file).to_str().unwrap().to_owned();
        let ca = if trusts { format!("[tls]\nca = \"{}\"\n", path("crt")) } else { String::new() };
        let text = format!(
            "role = \"office\"\n[inner]\nlisten = [\"udp:192.168.7.2:5060\"]\n[outer]\nlisten = [\"udp:192.168.7.2:5070\"]\n\
             stun_servers = [\"{}\"]\n[doctor]\nreflector = \"{}\"\n[[upstream]]\nuri = \"sips:203.0.113.2:443\"\n{ca}",
            FAR[0], FAR[0]
        );
        std::fs::write(path("office.toml"), text).unwrap();
        path("office.toml")
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        // It lies among temporary files, should it stay.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn where_only_port_443_is_open_signalling_may_pass_and_media_needs_turn() {
    let rules = "chain forward { type filter hook forward priority 0; ct state established accept; tcp dport 443 accept; drop; }";
    let Some(mut world) = World::new(rules) else { return };
    let secure = Secure::start("443", &mut world);
    world.reflector();
    let report = world.examined(&["--config", &secure.office(true), "--quick"]);
    let names = ["udp", "tcp", "tls", "stun", "alg", "turn", "calls"];
    // One silent server may be down.
    assert_eq!(fields(&report, &names), json!([null, "open", "open", "silent", null, null, "unknown"]), "{report:#}");
    assert_eq!(report["upstreams"][0]["tls"], "answers", "{report:#}");
    // Two are not.
    let report = world.examined(&["--config", &secure.office(true), "--quick", "--stun", FAR[1], "--stun", FAR[0]]);
    assert_eq!(fields(&report, &names), json!(["blocked", "open", "open", "silent", null, null, "fail"]), "{report:#}");
    let stranger = world.examined(&["--config", &secure.office(false), "--only", "servers"]);
    assert_eq!(fields(&stranger, &["tls", "calls"]), json!(["untrusted", "fail"]), "{stranger:#}");
}

#[test]
fn a_turn_server_is_seen_and_its_silence_too() {
    let Some(mut world) = World::with(SYMMETRIC, None) else { return };
    if Command::new("turnserver").arg("-h").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "coturn is missing");
        eprintln!("SKIPPED: coturn is missing");
        return;
    }
    world.reflector();
    let turn = |world: &World, uri: &str| world.examined(&["--reflector", FAR[0], "--turn", uri, "--only", "servers"]);
    let silent = turn(&world, "turn:203.0.113.2:3500");
    assert_eq!(fields(&silent, &["turn", "turn_transport"]), json!(["silent", null]), "{silent:#}");
    let args = [
        "-n",
        "--no-tls",
        "--no-dtls",
        "--no-cli",
        "-L",
        "203.0.113.2",
        "-p",
        "3500",
        "-a",
        "-u",
        "u:p",
        "-r",
        "far.example",
    ];
    world.started("turnserver", &args, 3500);
    for (uri, transport) in [("turn:203.0.113.2:3500", "udp"), ("turn:203.0.113.2:3500?transport=tcp", "tcp")] {
        let there = turn(&world, uri);
        assert_eq!(fields(&there, &["turn", "turn_transport"]), json!(["answers", transport]), "{there:#}");
    }
}
