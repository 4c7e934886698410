//! A small world of network namespaces: a machine inside, a router that
//! translates, and the Internet with a reflector. Needs root, `ip` and `nft`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Our machine, its router inside and outside, and the two addresses of the reflector.
pub(crate) const INSIDE: &str = "192.168.7.2";
pub(crate) const ROUTER: &str = "192.168.7.1";
pub(crate) const OUTSIDE: &str = "203.0.113.7";
pub(crate) const FAR: [&str; 2] = ["203.0.113.1", "203.0.113.2"];

/// The usual NAT: one port for all destinations, kept where it is free; only who was sent to may answer.
pub(crate) const TRANSLATE: &str = "chain post { type nat hook postrouting priority 100; oifname \"wan\" masquerade; }";
/// Another port for each destination.
pub(crate) const SYMMETRIC: &str =
    "chain post { type nat hook postrouting priority 100; oifname \"wan\" masquerade random,fully-random; }";
/// All of the public address is ours.
pub(crate) const ONE_TO_ONE: &str =
    "chain pre { type nat hook prerouting priority -100; ip daddr 203.0.113.7 dnat to 192.168.7.2; }
    chain post { type nat hook postrouting priority 100; oifname \"wan\" snat to 203.0.113.7; }";
/// The kernel's own SIP helper, on port 5060 as routers have it.
pub(crate) const ALG: &str = r#"
    ct helper sip-udp { type "sip" protocol udp; }
    ct helper sip-tcp { type "sip" protocol tcp; }
    chain helpers { type filter hook prerouting priority 0;
        udp dport 5060 ct helper set "sip-udp"; tcp dport 5060 ct helper set "sip-tcp"; }"#;

/// Ends with the test, whatever runs inside of it.
#[derive(Debug)]
pub(crate) struct World {
    /// The machine, its router, the far end; and the carrier in between, if there is one.
    names: [String; 4],
    running: Vec<Child>,
}

impl World {
    /// With the usual NAT and more rules beside it. `None`, with a word why, where this machine cannot have one.
    pub(crate) fn new(rules: &str) -> Option<Self> {
        Self::with(&format!("{rules}\n{TRANSLATE}"), None)
    }

    /// `rules`: all of the router's table. `carrier`: the first three octets of a network between the router and a
    /// second NAT.
    pub(crate) fn with(rules: &str, carrier: Option<&str>) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("sld{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let world = Self { names: ["in", "rt", "far", "car"].map(|name| format!("{mark}{name}")), running: Vec::new() };
        match world.build(rules, carrier) {
            Ok(()) => Some(world),
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "no world: {why}");
                eprintln!("SKIPPED: network namespaces, nftables or the kernel's SIP helper are missing here: {why}");
                None
            }
        }
    }

    fn build(&self, rules: &str, carrier: Option<&str>) -> Result<(), String> {
        let [inside, router, far, between] = &self.names;
        for name in &self.names {
            sh(&format!("ip netns add {name} && ip -n {name} link set lo up"))?;
        }
        sh(&format!(
            "ip link add lan0 netns {inside} type veth peer name lan netns {router} && ip -n {inside} addr add {INSIDE}/24 dev lan0 && ip -n {inside} link set lan0 up &&
             ip -n {router} addr add {ROUTER}/24 dev lan && ip -n {router} link set lan up &&
             ip -n {inside} route add default via {ROUTER}",
        ))?;
        let last = if carrier.is_some() { between } else { router };
        if let Some(net) = carrier {
            sh(&format!(
                "ip link add wan netns {router} type veth peer name lan netns {between} &&
                 ip -n {router} addr add {net}.2/24 dev wan && ip -n {router} link set wan up &&
                 ip -n {between} addr add {net}.1/24 dev lan && ip -n {between} link set lan up &&
                 ip -n {router} route add default via {net}.1"
            ))?;
        }
        sh(&format!(
            "ip link add wan netns {last} type veth peer name net0 netns {far} &&
             ip -n {last} addr add {OUTSIDE}/24 dev wan && ip -n {last} link set wan up &&
             ip -n {far} addr add {}/24 dev net0 && ip -n {far} addr add {}/24 dev net0 && ip -n {far} link set net0 up",
            FAR[0], FAR[1],
        ))?;
        for name in [router, between] {
            sh(&format!("ip netns exec {name} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"))?;
        }
        if carrier.is_some() {
            filter(between, TRANSLATE)?;
        }
        filter(router, rules)
    }

    /// Runs a command at the router.
    pub(crate) fn at_router(&self, command: &str) {
        sh(&format!("ip netns exec {} {command}", self.names[1])).unwrap();
    }

    /// Runs a command inside.
    pub(crate) fn inside(&self, program: &str, args: &[&str]) -> Output {
        self.command(0, program, args).output().unwrap()
    }

    fn command(&self, place: usize, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[place], program]).args(args);
        command
    }

    /// Starts something out there; returns what it prints, as far as the first line that begins with `last`.
    pub(crate) fn far(&mut self, program: &str, args: &[&str], last: &str) -> String {
        let mut child = self.command(2, program, args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        loop {
            let before = said.len();
            assert!(lines.read_line(&mut said).unwrap() > 0, "{program} has ended: {said}");
            if said[before..].starts_with(last) {
                break;
            }
        }
        // What follows is not read; the pipe must stay open all the same.
        std::mem::forget(lines);
        self.running.push(child);
        said
    }

    /// Starts a server out there, which listens on this TCP port once it is up.
    pub(crate) fn started(&mut self, program: &str, args: &[&str], port: u16) {
        let child = self.command(2, program, args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.running.push(child);
        let listens = format!("ip netns exec {} ss -Hltn sport = :{port} | grep -q .", self.names[2]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while sh(&listens).is_err() {
            assert!(std::time::Instant::now() < deadline, "{program} does not come up");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// A reflector on both far addresses.
    pub(crate) fn reflector(&mut self) {
        let said = self.far(super::SIPLATCH, &["reflect", "--address", FAR[0], "--other", FAR[1]], "STUN");
        assert!(said.contains(" are answered on 203.0.113.1:3478, "), "{said}");
    }

    /// A provider that answers OPTIONS over UDP and tells the time: its address.
    pub(crate) fn provider(&mut self) -> String {
        const ANSWER: &str = r#"
import socket, sys, email.utils
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("203.0.113.2", 5080))
print("ready", flush=True)
while True:
    text, peer = s.recvfrom(4000)
    lines = text.decode().split("\r\n")
    kept = [l for l in lines if l.split(":")[0] in ("Via", "From", "To", "Call-ID", "CSeq")]
    date = "Date: " + email.utils.formatdate(usegmt=True)
    answer = ["SIP/2.0 200 OK"] + kept + [date, "Content-Length: 0", "", ""]
    s.sendto("\r\n".join(answer).encode(), peer)
"#;
        self.far("python3", &["-c", ANSWER], "ready");
        "203.0.113.2:5080".to_owned()
    }

    /// A border on both far addresses.
    pub(crate) fn border(&mut self) {
        let dir = std::env::temp_dir().join(&self.names[2]);
        std::fs::create_dir_all(&dir).unwrap();
        let file = dir.join("border.toml");
        let text = format!(
            "role = \"border\"\n[inner]\nlisten = [\"udp:127.0.0.1:5070\"]\n[outer]\nlisten = [\"udp:{}:5060\", \
             \"udp:{}:5062\", \"tcp:{}:5060\"]\n[[upstream]]\nuri = \"sip:127.0.0.1:5080\"\n[state]\ndir = \"{}\"\n",
            FAR[0],
            FAR[1],
            FAR[0],
            dir.display()
        );
        std::fs::write(&file, text).unwrap();
        self.far(super::SIPLATCH, &["run", "--log", "warn", "--config", file.to_str().unwrap()], "Status ");
    }

    /// A doctor inside, not yet waited for.
    pub(crate) fn doctor(&self, flags: &[&str]) -> Child {
        let mut command = self.command(0, super::SIPLATCH, &["doctor", "--json"]);
        command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What a doctor inside says.
    pub(crate) fn examined(&self, flags: &[&str]) -> serde_json::Value {
        report(self.doctor(flags))
    }
}

/// What a doctor said.
pub(crate) fn report(doctor: Child) -> serde_json::Value {
    let output = doctor.wait_with_output().unwrap();
    let read = serde_json::from_slice(&output.stdout);
    read.unwrap_or_else(|error| panic!("{error}: {} {}", super::text(&output), String::from_utf8_lossy(&output.stderr)))
}

impl Drop for World {
    fn drop(&mut self) {
        for child in &mut self.running {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in &self.names {
            let _ = sh(&format!("ip netns del {name}"));
        }
        let _ = std::fs::remove_dir_all(std::env::temp_dir().join(&self.names[2]));
    }
}

fn sh(script: &str) -> Result<(), String> {
    succeeded(Command::new("sh").args(["-c", script]).output().map_err(|error| error.to_string())?)
}

fn succeeded(output: Output) -> Result<(), String> {
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// Gives a place a packet filter of these chains.
fn filter(place: &str, rules: &str) -> Result<(), String> {
    let mut nft = Command::new("ip");
    nft.args(["netns", "exec", place, "nft", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut nft = nft.spawn().map_err(|error| error.to_string())?;
    let rules = format!("table ip world {{ {rules}\n }}");
    nft.stdin.take().ok_or("no pipe")?.write_all(rules.as_bytes()).map_err(|error| error.to_string())?;
    succeeded(nft.wait_with_output().map_err(|error| error.to_string())?)
}
