//! `siplatch doctor` asks `siplatch reflect` and a border: on loopback, and behind real NATs, a real ALG and real
//! firewalls in network namespaces.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what was counted, and what could not be tried")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

#[path = "doctor/alg.rs"]
mod alg;
#[path = "doctor/nats.rs"]
mod nats;
#[path = "doctor/servers.rs"]
mod servers;
#[path = "doctor/world.rs"]
mod world;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

const SIPLATCH: &str = env!("CARGO_BIN_EXE_siplatch");

use serde_json::Value;

/// A server that ends with the test.
struct Reflector(Child);

impl Reflector {
    /// On these addresses, once it says that it answers.
    fn start(address: &str, other: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_siplatch"));
        command.args(["reflect", "--address", address, "--other", other]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.starts_with("STUN and SIP probes are answered on "), "{said}");
        Self(child)
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn doctor(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_siplatch")).arg("doctor").args(flags).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn on_loopback_calls_work() {
    let _reflector = Reflector::start("127.0.11.1:34780", "127.0.11.2:34790");
    let spoken = doctor(&["--stun", "127.0.11.1:34780"]);
    assert_eq!(spoken.status.code(), Some(0), "{}", text(&spoken));
    assert!(
        text(&spoken).contains("ok    NAT: none") && text(&spoken).contains("\nCalls will work"),
        "{}",
        text(&spoken)
    );
    let report = doctor(&["--reflector", "127.0.11.1:34780", "--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!((&report["calls"], &report["nat"]["translated"]), (&"work".into(), &false.into()));
    let words = |of: &str| report[of].as_str().map(str::to_owned);
    assert_eq!(["udp", "tcp", "alg"].map(words), ["open", "open", "none"].map(|word| Some(word.to_owned())));
    assert_eq!((&report["nat"]["kind"], &report["mtu"], &report["turn"]), (&"open".into(), &1500.into(), &Value::Null));
    assert_eq!((&report["nat"]["cgnat"], &report["nat"]["double_nat"]), (&false.into(), &false.into()));
    for of in ["mapping", "filtering"] {
        assert_eq!(report["nat"][of], "endpoint-independent", "{report}");
    }
}

#[test]
fn what_cannot_be_seen_is_not_known() {
    let nobody = doctor(&[]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody).contains("name one: --stun HOST"));
    // A port where nobody answers: nothing comes back.
    let silent = std::net::UdpSocket::bind("127.0.11.3:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let deaf = doctor(&["--stun", &address]);
    assert_eq!(deaf.status.code(), Some(2), "silence proves nothing");
    assert!(text(&deaf).contains("?     UDP: no answer\n"), "{}", text(&deaf));
    let wrong = doctor(&["--stun", "no host:x"]);
    assert!(!wrong.status.success() && wrong.stdout.is_empty());
}
