//! `siplatch doctor` asks `siplatch reflect`, on loopback: no NAT, and everything passes.
#![allow(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]
#![allow(clippy::disallowed_methods, reason = "the test is the world around the program: its sockets and its clock")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

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
        assert!(said.starts_with("STUN is answered on "), "{said}");
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
        text(&spoken).contains("ok    NAT: none")
            && text(&spoken).ends_with("As far as STUN tells, calls will work.\n")
    );
    let report = doctor(&["--stun", "127.0.11.1:34780", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!((&report["calls"], &report["nat"]["translated"]), (&"work".into(), &false.into()));
    assert_eq!(report["nat"]["formerly"], "open Internet");
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
    assert_eq!(deaf.status.code(), Some(1));
    assert!(text(&deaf).contains("BAD   UDP, by STUN: no answer from 1 server\n"), "{}", text(&deaf));
    let wrong = doctor(&["--stun", "no host:x"]);
    assert!(!wrong.status.success() && wrong.stdout.is_empty());
}
