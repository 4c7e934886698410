//! A house of namespaces: two hosts behind a router that runs miniupnpd, and
//! the world beyond it with a STUN server on two addresses. All addresses are
//! of namespaces of our own; the public ones look public because miniupnpd
//! maps nothing for a router whose own address is reserved.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(crate) const HOST: &str = "192.168.77.2";
pub(crate) const OTHER: &str = "192.168.77.3";
pub(crate) const EXTERNAL: &str = "45.45.45.1";

/// Starts miniupnpd where it sees no console. Without a syslog it would write there, and a serial one takes a core away,
/// by interrupts, for up to seconds.
const UNHEARD: &str = "if [ -e /dev/console ]; then mount --bind /dev/null /dev/console; fi; exec miniupnpd \"$@\"";

/// Why the tests cannot run here, if they cannot. With `CI` set that is a failure.
pub(crate) fn missing() -> Option<String> {
    let has = |program: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).chain(["/usr/sbin".into()]).any(|dir: PathBuf| dir.join(program).exists())
    };
    let absent: Vec<&str> = ["ip", "nft", "miniupnpd", "sysctl"].into_iter().filter(|program| !has(program)).collect();
    let why = if !absent.is_empty() {
        format!("{} not installed; tests/lab/install does it", absent.join(", "))
    } else if !quiet("ip", &["netns", "add", &probe()]) {
        "no right to make network namespaces; run as root".to_owned()
    } else {
        assert!(quiet("ip", &["netns", "del", &probe()]));
        return None;
    };
    assert!(std::env::var_os("CI").is_none(), "{why}");
    println!("SKIPPED: {why}");
    Some(why)
}

fn probe() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("sprtp{}-{:?}", std::process::id(), NEXT.load(Ordering::Relaxed) + thread_number())
}

/// A number of its own for each thread.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local!(static OURS: usize = NEXT.fetch_add(1, Ordering::Relaxed));
    OURS.with(|ours| *ours)
}

fn quiet(program: &str, arguments: &[&str]) -> bool {
    let run = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

fn output(program: &str, arguments: &[&str]) -> String {
    let run = Command::new(program).args(arguments).output().unwrap();
    assert!(run.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// A process that ends with the test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn signal(&self, signal: &str) {
        assert!(quiet("kill", &[signal, &self.0.id().to_string()]));
    }

    /// Asks it to end, and waits. In seconds, how long that took.
    pub(crate) fn end(mut self) -> f64 {
        let began = Instant::now();
        self.signal("-TERM");
        self.0.wait().unwrap();
        began.elapsed().as_secs_f64()
    }

    /// Ends it as a crash would.
    pub(crate) fn crash(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct House {
    name: String,
    dir: PathBuf,
    reflector: Option<Running>,
}

impl House {
    pub(crate) fn build(name: &str) -> Self {
        let name = format!("sprt{}{name}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        fs::create_dir_all(&dir).unwrap();
        let mut house = Self { name, dir, reflector: None };
        let [w, r, h, o] = ["w", "r", "h", "o"].map(|of| house.ns(of));
        for ns in [&w, &r, &h, &o] {
            output("ip", &["netns", "add", ns]);
            output("ip", &["-n", ns, "link", "set", "lo", "up"]);
        }
        let ip = |line: &str| drop(output("ip", &line.split(' ').collect::<Vec<_>>()));
        ip(&format!("-n {r} link add wan type veth peer name eth0 netns {w}"));
        ip(&format!("-n {r} link add lan type bridge"));
        for (port, ns) in [("lan1", &h), ("lan2", &o)] {
            ip(&format!("-n {r} link add {port} type veth peer name eth0 netns {ns}"));
            ip(&format!("-n {r} link set {port} master lan up"));
        }
        for (ns, link, addresses) in [
            (&r, "wan", &["45.45.45.1/24"][..]),
            (&r, "lan", &["192.168.77.1/24"]),
            (&w, "eth0", &["45.45.45.10/24", "45.45.45.11/24"]),
            (&h, "eth0", &["192.168.77.2/24"]),
            (&o, "eth0", &["192.168.77.3/24"]),
        ] {
            for address in addresses {
                ip(&format!("-n {ns} addr add {address} dev {link}"));
            }
            ip(&format!("-n {ns} link set {link} up"));
        }
        for ns in [&h, &o] {
            ip(&format!("-n {ns} route add default via 192.168.77.1"));
        }
        output("ip", &["netns", "exec", &r, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        house.firewall(true);
        let binary = env!("CARGO_BIN_EXE_siplatch");
        let reflect = ["reflect", "--address", "45.45.45.10", "--other", "45.45.45.11"];
        let (running, _) = house.start("w", binary, &reflect, "answered on");
        house.reflector = Some(running);
        house
    }

    fn ns(&self, of: &str) -> String {
        format!("{}{of}", self.name)
    }

    /// The router's rules as after its start. `passes`: what it maps is let through.
    pub(crate) fn firewall(&self, passes: bool) {
        let jump = if passes { "jump miniupnpd;" } else { "" };
        let rules = format!(
            "flush ruleset\ntable inet filter {{
             chain miniupnpd {{ }}
             chain prerouting_miniupnpd {{ }}
             chain postrouting_miniupnpd {{ }}
             chain forward {{ type filter hook forward priority 0; policy drop;
               ct state established,related accept; iifname \"lan\" accept; {jump} }}
             chain prerouting {{ type nat hook prerouting priority -100; jump prerouting_miniupnpd; }}
             chain postrouting {{ type nat hook postrouting priority 100;
               jump postrouting_miniupnpd; oifname \"wan\" masquerade; }}\n}}\n"
        );
        let file = self.dir.join("rules.nft");
        fs::write(&file, rules).unwrap();
        output("ip", &["netns", "exec", &self.ns("r"), "nft", "-f", file.to_str().unwrap()]);
    }

    /// Starts miniupnpd; further lines of its configuration.
    pub(crate) fn miniupnpd(&self, lines: &str) -> Running {
        let config = format!(
            "ext_ifname=wan\nlistening_ip=lan\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\nsystem_uptime=no\n\
             upnp_table_name=filter\nupnp_nat_table_name=filter\nupnp_forward_chain=miniupnpd\n\
             upnp_nat_chain=prerouting_miniupnpd\nupnp_nat_postrouting_chain=postrouting_miniupnpd\n\
             uuid=fc4ec57e-b051-11db-88f8-0060085db3f6\n{lines}\nallow 1024-65535 192.168.77.0/24 1024-65535\n\
             deny 0-65535 0.0.0.0/0 0-65535\n"
        );
        let file = self.dir.join("miniupnpd.conf");
        fs::write(&file, config).unwrap();
        let pid = self.dir.join("miniupnpd.pid");
        let arguments = ["-c", UNHEARD, "sh", "-d", "-f", file.to_str().unwrap(), "-P", pid.to_str().unwrap()];
        let mut command = self.command("r", "sh", &arguments);
        let log = fs::File::create(self.dir.join("miniupnpd.log")).unwrap();
        Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    fn command(&self, of: &str, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns(of), program]).args(arguments);
        command
    }

    /// Starts a program, and waits until it says this. In seconds, how long that took.
    fn start(&self, of: &str, program: &str, arguments: &[&str], says: &str) -> (Running, f64) {
        let began = Instant::now();
        let mut command = self.command(of, program, arguments);
        let log = fs::File::create(self.dir.join(format!("{of}.log"))).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.by_ref().map_while(Result::ok).find(|line| line.contains(says));
        assert!(said.is_some(), "{program} did not say \"{says}\"");
        let took = began.elapsed().as_secs_f64();
        // What it says later must find a reader.
        std::thread::spawn(move || lines.count());
        (Running(child), took)
    }

    /// Starts siplatch on one of the hosts, with reception's ports behind port 5070. `of`: "h" or "o".
    pub(crate) fn siplatch(&self, of: &str, router: &str, media: &str) -> (Running, f64) {
        let address = if of == "h" { HOST } else { OTHER };
        let state = self.state(of);
        let config = format!(
            "role = \"office\"\n[inner]\nlisten = [\"udp:127.0.0.1:5060\"]\n[outer]\nlisten = [\"udp:{address}:5070\"]\n\
             advertise = \"stun-address\"\nstun_servers = [\"45.45.45.10\"]\nrouter = \"{router}\"\n[[upstream]]\n\
             uri = \"sip:45.45.45.10\"\n[[phone]]\nname = \"reception\"\nuser = \"reception\"\nmedia_ports = \"{media}\"\n\
             [state]\ndir = \"{state}\"\n"
        );
        let file = self.dir.join(format!("{of}.toml"));
        fs::write(&file, config).unwrap();
        self.start(of, env!("CARGO_BIN_EXE_siplatch"), &["run", "--config", file.to_str().unwrap()], "Status ")
    }

    fn state(&self, of: &str) -> String {
        self.dir.join(format!("state-{of}")).display().to_string()
    }

    /// The router's part of the status.
    pub(crate) fn status(&self, of: &str) -> serde_json::Value {
        let run = Command::new(env!("CARGO_BIN_EXE_siplatch"))
            .args(["status", "--json", "--state-dir", &self.state(of)])
            .output()
            .unwrap();
        let status: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap_or_default();
        status["router"].clone()
    }

    /// State and light of the mapping of a public port.
    pub(crate) fn mapping(&self, of: &str, external: &str, field: &str) -> String {
        let status = self.status(of);
        let rows = status["mappings"].as_array().cloned().unwrap_or_default();
        let row = rows.iter().find(|row| row["external"] == external);
        row.map(|row| row[field].as_str().map_or(row[field].to_string(), str::to_owned)).unwrap_or_default()
    }

    /// Public UDP ports that the router's rules forward.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let chain = ["nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"];
        let rules = output("ip", &[&["netns", "exec", &self.ns("r")][..], &chain].concat());
        let mut ports: Vec<u16> =
            rules.split("dport ").skip(1).filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect();
        ports.sort_unstable();
        ports
    }

    pub(crate) fn log(&self, of: &str) -> String {
        fs::read_to_string(self.dir.join(format!("{of}.log"))).unwrap_or_default()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}:\n{}\n{:#}\n{:?}", self.name, self.log("h"), self.status("h"), self.ports());
        }
        drop(self.reflector.take());
        for of in ["w", "r", "h", "o"] {
            quiet("ip", &["netns", "del", &self.ns(of)]);
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// In seconds, when this came true; fails after the limit.
pub(crate) fn until(what: &str, limit: f64, mut holds: impl FnMut() -> bool) -> f64 {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed().as_secs_f64() < limit, "not within {limit} s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    began.elapsed().as_secs_f64()
}
