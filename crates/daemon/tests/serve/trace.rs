//! `siplatch trace` beside a running daemon.

use super::*;

impl Daemon {
    fn trace(&self, flags: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siplatch"));
        command.arg("trace").args(flags).arg("--config").arg(self.dir.join("siplatch.toml"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// A trace that watches already.
fn watching(daemon: &Daemon, flags: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = daemon.trace(flags);
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.starts_with("watching "), "{line}");
    (child, said)
}

fn printed(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_call_is_traced_until_its_end_and_others_are_not() {
    let sip = free();
    let daemon = Daemon::start("trace", &format!("[inner]\nlisten = [\"udp:{sip}\"]"));
    let (alice, bob) = (Phone::register("alice", sip), Phone::register("bob", sip));
    let (ladder, _said) = watching(&daemon, &["alice", "--calls", "1"]);
    let (json, _told) = watching(&daemon, &["127.0.0.1", "--calls", "1", "--json"]);
    let (other, _heard) = watching(&daemon, &["carol", "--for", "1"]);
    let contact = |phone: &Phone| format!("Contact: <sip:{}@{}>\r\n", phone.name, phone.address);
    alice.send("INVITE", &format!("sip:bob@{sip}"), "bob", "", 1, &contact(&alice));
    bob.answer(&bob.receive("INVITE "), &contact(&bob));
    let answered = alice.receive("SIP/2.0 200 ");
    let field = |name: &str| answered.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let (route, target) = (format!("Route: {}\r\n", field("Record-Route:")), field("Contact:"));
    let target = target.trim_start_matches('<').split('>').next().unwrap().to_owned();
    alice.send("ACK", &target, "bob", ";tag=callee", 1, &route);
    bob.receive("ACK ");
    alice.send("BYE", &target, "bob", ";tag=callee", 2, &route);
    bob.answer(&bob.receive("BYE "), "");
    alice.receive("SIP/2.0 200 ");

    let ladder = printed(ladder);
    for line in [
        &format!("call bob@{}", alice.address),
        "- Max-Forwards: 70",
        "+ Max-Forwards: 69",
        "(rule: max-forwards, RFC 3261 §16.6(3))",
        &format!("- Contact: <sip:alice@{}>", alice.address),
        "(made by siplatch)",
    ] {
        assert!(ladder.lines().any(|found| found.trim() == line), "{line} is missing in\n{ladder}");
    }
    let last = ladder.lines().rfind(|line| line.contains('|')).unwrap();
    assert!(last.contains("|<------- 200 BYE 2 -------|") && last.ends_with(&alice.address.to_string()), "{ladder}");
    let entries: Vec<serde_json::Value> =
        printed(json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ways: Vec<_> = entries.iter().map(|entry| entry["message"]["method"].as_str().unwrap()).collect();
    assert_eq!(ways.iter().filter(|method| **method == "INVITE").count(), 5, "in, 100, out, 200 in, 200 out: {ways:?}");
    assert_eq!(printed(other), "");
}

#[test]
fn what_cannot_be_traced_is_said() {
    let sip = free();
    let daemon = Daemon::start("untraced", &format!("[inner]\nlisten = [\"udp:{sip}\"]"));
    let nothing = daemon.trace(&[" "]).wait_with_output().unwrap();
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("what is to be traced?"));
    let mut all: Vec<_> = (0..8).map(|_| watching(&daemon, &["alice"])).collect();
    let more = daemon.trace(&["alice"]).wait_with_output().unwrap();
    assert_eq!(more.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&more.stderr).contains("8 others are watching"));
    let (mut gone, _said) = all.pop().unwrap();
    gone.kill().unwrap();
    gone.wait().unwrap();
    // The daemon notices that the connection has ended.
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut child = daemon.trace(&["alice", "--for", "1"]);
        if child.wait().unwrap().success() {
            break;
        }
        assert!(Instant::now() < deadline, "the place was not given back");
    }
    for (mut child, _said) in all {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
