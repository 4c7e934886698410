//! Another configuration while a call is up, by signal and by command.

use super::*;

impl Daemon {
    /// Writes the configuration anew, with the rest that every test has.
    pub(super) fn rewrite(&self, config: &str) {
        let (metrics, dir) = (self.metrics, self.dir.display());
        let rest = format!("[metrics]\nlisten = \"{metrics}\"\n[state]\ndir = \"{dir}/state\"\n");
        std::fs::write(self.dir.join("siplatch.toml"), format!("{config}\n{rest}")).unwrap();
    }

    fn hang_up(&self) {
        assert!(Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap().success());
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.status(&["--json"]).stdout).unwrap()
    }

    /// The status once a reload is in it.
    fn reloaded(&self, applied: bool) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let status = self.json();
            if status["reload"]["applied"] == applied {
                return status;
            }
            assert!(Instant::now() < deadline, "{status}");
        }
    }

    pub(super) fn reload(&self, flags: &[&str]) -> Output {
        let state = format!("{}/state", self.dir.display());
        Command::new(env!("CARGO_BIN_EXE_siplatch"))
            .args(["reload", "--state-dir", &state])
            .args(flags)
            .current_dir(&self.dir)
            .output()
            .unwrap()
    }
}

fn answers(sip: SocketAddr) -> bool {
    let (phone, from) = udp();
    phone.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    phone.send_to(options(sip, from).as_bytes(), sip).unwrap();
    phone.recv(&mut [0; 4096]).is_ok()
}

/// Ports and directories differ with every run.
fn golden(name: &str, text: &str, replace: &[(&str, &str)]) {
    let mut text = text.to_owned();
    for (from, to) in replace {
        text = text.replace(from, to);
    }
    let path = format!("{}/../../tests/golden/reload/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{name}");
}

fn out(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_call_outlives_a_reload_by_signal() {
    let (sip, more) = (free(), free());
    let phone = |name: &str, user: &str| format!("[[phone]]\nname = \"{name}\"\nuser = \"{user}\"\nmax_calls = 2\n");
    let phones = phone("lobby", "carol") + &phone("reception", "alice");
    let daemon = Daemon::start("hangup", &format!("[inner]\nlisten = [\"udp:{sip}\"]\n{phones}"));
    let (alice, bob) = (Phone::register("alice", sip), Phone::register("bob", sip));
    let contact = |phone: &Phone| format!("Contact: <sip:{}@{}>\r\n", phone.name, phone.address);
    alice.send("INVITE", &format!("sip:bob@{sip}"), "bob", "", 1, &contact(&alice));
    bob.answer(&bob.receive("INVITE "), &contact(&bob));
    let answered = alice.receive("SIP/2.0 200 ");
    let field = |name: &str| answered.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (route, target) = (format!("Route: {}\r\n", field("Record-Route:")), field("Contact:"));
    let target = target.trim_start_matches('<').split('>').next().unwrap().to_owned();
    alice.send("ACK", &target, "bob", ";tag=callee", 1, &route);
    bob.receive("ACK ");
    assert!(!answers(more));

    let phones = phone("reception", "alice") + &phone("desk", "bob");
    daemon.rewrite(&format!(
        "[inner]\nlisten = [\"udp:{more}\", \"udp:{sip}\"]\n{phones}[media]\nports = \"32000-32099\"\n"
    ));
    daemon.hang_up();
    let status = daemon.reloaded(true);
    let name = |aor: &str| {
        let phones = status["phones"].as_array().unwrap();
        phones.iter().find(|phone| phone["aor"].as_str().unwrap().starts_with(aor)).unwrap()["name"].clone()
    };
    assert_eq!((name("alice"), name("bob")), ("reception".into(), "desk".into()), "{status}");
    assert_eq!(status["calls"][0]["state"], "confirmed", "{status}");
    assert_eq!(status["calls"][0]["phone"], "reception", "{status}");
    assert_eq!(status["listeners"].as_array().map(Vec::len), Some(4), "{status}");
    assert!(answers(more) && answers(sip));
    assert!(daemon.http("/healthz").contains("200 OK"));
    let page = daemon.http("/metrics");
    for line in [
        r#"siplatch_reloads_total{result="applied"} 1"#,
        "siplatch_reload_refused 0",
        r#"siplatch_ports_free{range="32000-32099"} 50"#,
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    assert!(!page.contains("30000-30999"), "a range that is gone has no figures");

    // In the middle of the call, over the flow that it always had.
    alice.send("BYE", &target, "bob", ";tag=callee", 2, &route);
    bob.answer(&bob.receive("BYE "), "");
    assert!(alice.receive("SIP/2.0 200 ").contains("CSeq: 2 BYE"));

    // A listener that goes is closed, and what is bound to it ends.
    daemon.rewrite(&format!("[inner]\nlisten = [\"udp:{more}\"]\n{phones}"));
    let reload = daemon.reload(&["--config", "siplatch.toml"]);
    assert!(reload.status.success());
    golden("applied", &out(&reload.stdout), &[(&sip.to_string(), "127.0.0.1:5060")]);
    assert!(answers(more) && !answers(sip));
    let status = daemon.json();
    assert_eq!(status["phones"].as_array().map(Vec::len), Some(0), "{status}");
    assert!(daemon.http("/healthz").contains("200 OK"));
}

#[test]
fn a_configuration_that_cannot_be_applied_changes_nothing() {
    let (sip, metrics) = (free(), free());
    let daemon = Daemon::start("unchanged", &format!("[inner]\nlisten = [\"udp:{sip}\"]"));
    let alice = Phone::register("alice", sip);

    daemon.rewrite(&format!("[inner]\nlisten = [\"udp:{sip}\"]\nlissten = 1\n[media]\nports = \"32000\"\n"));
    daemon.hang_up();
    let status = daemon.reloaded(false);
    assert_eq!(status["phones"].as_array().map(Vec::len), Some(1), "{status}");
    let page = daemon.http("/metrics");
    assert!(page.lines().any(|line| line == "siplatch_reload_refused 1"), "{page}");
    assert!(page.contains("30000-30999"), "{page}");
    assert!(out(&daemon.status(&[]).stdout).contains("REFUSED; what ran before still runs"));
    // The daemon explains it as a check does, with the path that it was started with.
    let dir = daemon.dir.display().to_string();
    golden("faults", &out(&daemon.reload(&[]).stderr), &[(&dir, "/etc/siplatch")]);

    // One socket that cannot be had, and the rest stays undone.
    let ((busy, taken), unused) = (udp(), free());
    daemon.rewrite(&format!("[inner]\nlisten = [\"udp:{sip}\", \"udp:{unused}\", \"udp:{taken}\"]"));
    let refused = daemon.reload(&["--config", "siplatch.toml"]);
    assert_eq!(refused.status.code(), Some(1));
    let replace = [(taken.to_string(), "127.0.0.1:5070"), (format!(":{}\"", taken.port()), ":5070\"")];
    let replace: Vec<_> = replace.iter().map(|(from, to)| (from.as_str(), *to)).collect();
    golden("busy", &out(&refused.stderr), &replace);
    assert!(answers(sip) && !answers(unused));
    drop(busy);

    // What needs a restart says so.
    daemon.rewrite(&format!("[inner]\nlisten = [\"udp:{sip}\"]"));
    let file = daemon.dir.join("siplatch.toml");
    let text = std::fs::read_to_string(&file).unwrap().replace(&daemon.metrics.to_string(), &metrics.to_string());
    std::fs::write(&file, text).unwrap();
    let refused = daemon.reload(&[]);
    assert!(out(&refused.stderr).contains("metrics.listen cannot change"), "{}", out(&refused.stderr));
    daemon.rewrite(&format!("[inner]\nlisten = [\"udp:{sip}\"]\nstun_servers = [\"stun.invalid\"]"));
    let refused = daemon.reload(&[]);
    assert!(out(&refused.stderr).contains("stun.invalid cannot be looked up"), "{}", out(&refused.stderr));

    daemon.rewrite(&format!("[inner]\nlisten = [\"udp:{sip}\", \"udp:{unused}\"]"));
    daemon.hang_up();
    daemon.reloaded(true);
    assert!(answers(unused));
    assert!(daemon.http("/metrics").contains("siplatch_reload_refused 0"));
    assert_eq!(out(&daemon.reload(&[]).stdout), "nothing has changed in the configuration\n");
    alice.send("OPTIONS", &format!("sip:{sip}"), "alice", "", 9, "");
    assert!(alice.receive("SIP/2.0").contains("CSeq: 9 OPTIONS"));
}
