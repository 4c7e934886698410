//! S14: figures and control are for this machine alone, unless somebody says
//! in so many words that they are not.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use peer::{Loopback, World, binary};

use crate::{turn, verdict};

/// Local addresses of the listening TCP sockets of a process, from the kernel.
fn listening(process: u32) -> Vec<(String, u16)> {
    let mut inodes = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
        let Ok(link) = std::fs::read_link(entry.unwrap().path()) else { continue };
        let link = link.to_string_lossy().into_owned();
        inodes.extend(link.strip_prefix("socket:[").map(|rest| rest.trim_end_matches(']').to_owned()));
    }
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split_whitespace().collect();
            if cells[3] == "0A" && inodes.iter().any(|inode| inode == cells[9]) {
                let (address, port) = cells[1].split_once(':').unwrap();
                found.push((address.to_owned(), u16::from_str_radix(port, 16).unwrap()));
            }
        }
    }
    found
}

#[test]
fn s14_management_plane() {
    let _turn = turn();
    let world = World::standalone(true, "info");
    let call = world.call();

    // Nothing but the configured SIP address and loopback is listened on.
    let sockets = listening(world.daemon.id());
    let loopback = |address: &str| address.len() == 8 && address.ends_with("7F");
    assert!(sockets.iter().all(|(address, _)| loopback(address)), "{sockets:?}");
    assert!(sockets.iter().any(|(_, port)| *port == 9090), "{sockets:?}");

    // The control socket and what else is kept are for our user alone.
    let state = world.daemon.dir().join("state");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut modes = Vec::new();
    for entry in std::fs::read_dir(&state).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}: {:o}", path.display(), mode(&path));
        modes.push(mode(&path));
    }
    assert!(modes.len() >= 2, "the key and the socket");

    // Open to the world only by a flag that says so.
    let net = Loopback::new();
    let file = world.daemon.dir().join("open.toml");
    let mut refused = 0;
    for listen in ["0.0.0.0:9091", "[::]:9091"] {
        let text = format!("[inner]\nlisten = [\"udp:{}\"]\n[metrics]\nlisten = \"{listen}\"\n", net.at(1, 5060));
        std::fs::write(&file, text).unwrap();
        for verb in [&["check"][..], &["run", "--config"][..]] {
            let output = Command::new(binary()).args(verb).arg(&file).output().unwrap();
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(!output.status.success() && said.contains("--metrics-open"), "{said}");
            refused += 1;
        }
    }
    let figure = format!(
        "{} sockets, all on loopback; files of the state 0600; {refused} of {refused} open addresses refused",
        sockets.len()
    );
    verdict("S14 management plane", &figure, &call.hang_up());
}
