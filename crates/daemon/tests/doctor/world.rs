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

const TRANSLATE: &str = "chain post { type nat hook postrouting priority 100; oifname \"wan\" masquerade; }";
/// The kernel's own SIP helper, on port 5060 as routers have it.
pub(crate) const ALG: &str = r#"
    ct helper sip-udp { type "sip" protocol udp; }
    ct helper sip-tcp { type "sip" protocol tcp; }
    chain helpers { type filter hook prerouting priority 0;
        udp dport 5060 ct helper set "sip-udp"; tcp dport 5060 ct helper set "sip-tcp"; }"#;

/// Ends with the test, whatever runs inside of it.
#[derive(Debug)]
pub(crate) struct World {
    names: [String; 3],
    running: Vec<Child>,
}

impl World {
    /// `None`, with a word why, where this machine cannot have one. `rules`: more of the router's table.
    pub(crate) fn new(rules: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("sld{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let world = Self { names: ["in", "rt", "far"].map(|name| format!("{mark}{name}")), running: Vec::new() };
        match world.build(rules) {
            Ok(()) => Some(world),
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "no world: {why}");
                eprintln!("SKIPPED: network namespaces, nftables or the kernel's SIP helper are missing here: {why}");
                None
            }
        }
    }

    fn build(&self, rules: &str) -> Result<(), String> {
        let [inside, router, far] = &self.names;
        for name in &self.names {
            sh(&format!("ip netns add {name} && ip -n {name} link set lo up"))?;
        }
        sh(&format!(
            "ip link add lan0 netns {inside} type veth peer name lan netns {router} &&
             ip link add wan netns {router} type veth peer name net0 netns {far} &&
             ip -n {inside} addr add {INSIDE}/24 dev lan0 && ip -n {inside} link set lan0 up &&
             ip -n {router} addr add {ROUTER}/24 dev lan && ip -n {router} link set lan up &&
             ip -n {router} addr add {OUTSIDE}/24 dev wan && ip -n {router} link set wan up &&
             ip -n {far} addr add {}/24 dev net0 && ip -n {far} addr add {}/24 dev net0 && ip -n {far} link set net0 up &&
             ip -n {inside} route add default via {ROUTER} &&
             ip netns exec {router} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'",
            FAR[0], FAR[1],
        ))?;
        self.router(&format!("table ip world {{ {rules}\n {TRANSLATE}\n }}"))
    }

    /// Hands rules to the router's packet filter.
    pub(crate) fn router(&self, rules: &str) -> Result<(), String> {
        let mut nft = Command::new("ip");
        nft.args(["netns", "exec", &self.names[1], "nft", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut nft = nft.spawn().map_err(|error| error.to_string())?;
        nft.stdin.take().ok_or("no pipe")?.write_all(rules.as_bytes()).map_err(|error| error.to_string())?;
        succeeded(nft.wait_with_output().map_err(|error| error.to_string())?)
    }

    fn command(&self, place: usize, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[place], program]).args(args);
        command
    }

    /// Starts something out there; returns the first line that it prints.
    pub(crate) fn far(&mut self, program: &str, args: &[&str]) -> String {
        let mut child = self.command(2, program, args).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        self.running.push(child);
        said
    }

    /// A reflector on both far addresses.
    pub(crate) fn reflector(&mut self) {
        let said = self.far(super::SIPLATCH, &["reflect", "--address", FAR[0], "--other", FAR[1]]);
        assert!(said.starts_with("STUN and SIP probes are answered on 203.0.113.1:3478, "), "{said}");
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
    }
}

fn sh(script: &str) -> Result<(), String> {
    succeeded(Command::new("sh").args(["-c", script]).output().map_err(|error| error.to_string())?)
}

fn succeeded(output: Output) -> Result<(), String> {
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}
