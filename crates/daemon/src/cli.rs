//! The command line: what can be asked of the program, and from which file,
//! variables and flags a configuration is put together. Runs nothing itself.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Machine, PREFIX, Settings, Sources};
use crate::state;
use crate::trace::Until;

/// Stands between SIP phones and the world and makes calls work through NAT.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve, until SIGTERM or SIGINT; on SIGHUP read the configuration again. Without configuration: standalone, on all local addresses, port 5060.
    Run(Run),
    /// Explain every fault of a configuration; exit code 1 if there is one.
    Check {
        /// The configuration file.
        file: Option<PathBuf>,
        #[command(flatten)]
        overrides: Overrides,
    },
    /// Phones, flows, calls and ports of the running daemon.
    Status {
        /// The configuration file that the daemon runs with: its [state] dir is where it is asked.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// That directory, where no file names it.
        #[arg(long, value_name = "DIR")]
        state_dir: Option<String>,
        /// Print JSON instead of tables.
        #[arg(long)]
        json: bool,
    },
    /// Make the running daemon take its configuration anew, whole or not at all; no call is lost.
    /// Prints what changed, or every fault; exit code 1 if it was refused.
    Reload {
        /// Hand this file in. Without it, the daemon reads again what it was started with, as on SIGHUP.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where the daemon is asked, where the file does not name [state] dir.
        #[arg(long, value_name = "DIR")]
        state_dir: Option<String>,
    },
    /// Print the ladder of one call, or everything of one phone, as it happens: each line that siplatch changes, and why.
    Trace(Trace),
    /// Find out what the network does to calls, and say what to do. Exit code 0: calls will work; 1: they will not;
    /// 2: it is not known.
    Doctor(Examine),
    /// Write a first configuration: asks three questions at most, examines the network, and leaves a file that check finds no
    /// fault with.
    Init(Init),
    /// Give each phone ports of its own, as configuration and as a sheet to type into the router.
    Plan(Planned),
    /// Answer STUN on two addresses (RFC 5780), so that others can measure their NAT, and say what arrives of SIP, so that
    /// they find whoever rewrites it.
    Reflect {
        /// An address of this machine, with or without a port (3478).
        #[arg(long, value_name = "ADDRESS[:PORT]")]
        address: String,
        /// Another one; its port must differ, too (3479). Without it NATs can be seen, but not their filters.
        #[arg(long, value_name = "ADDRESS[:PORT]")]
        other: Option<String>,
        /// The port on which SIP is looked for by those who rewrite it; 0 for none beside the others.
        #[arg(long, value_name = "PORT", default_value_t = 5060)]
        sip: u16,
    },
    /// Print every key of the configuration with its default.
    Reference,
    /// Print docs/metrics.md.
    #[command(hide = true)]
    MetricsDoc,
}

/// Flags of `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Run {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// What is logged: error, warn, info, debug, trace, or a filter such as "info,proxy=debug";
    /// also from the variable SIPLATCH_LOG [default: info].
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

/// Flags of `init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where it is written.
    #[arg(default_value = "siplatch.toml")]
    pub(crate) file: PathBuf,
    /// Where siplatch stands.
    #[arg(long, value_enum)]
    pub(crate) role: Option<InitRole>,
    /// The provider (office) or the core (border).
    #[arg(long, value_name = "URI|HOST")]
    pub(crate) upstream: Option<String>,
    /// A STUN server (office), may be repeated.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) stun: Vec<String>,
    /// The public address that phones use (border), if it is not this machine's own.
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,
    /// A far siplatch that says what arrived.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) reflector: Option<String>,
    /// Do not examine the network.
    #[arg(long)]
    pub(crate) no_doctor: bool,
    /// Replace the file if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

/// The roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InitRole {
    /// In front of phones behind one NAT.
    Office,
    /// In front of a core.
    Border,
    /// No provider and no core.
    Standalone,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Examine {
    /// A configuration: what it needs is examined, and the verdict is about it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A STUN server, may be repeated; instead of those of the configuration.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) stun: Vec<String>,
    /// A far siplatch that says what arrived; instead of [doctor] reflector.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) reflector: Option<String>,
    /// A SIP server that is to be reached, may be repeated; instead of the upstreams of the configuration.
    #[arg(long, value_name = "URI")]
    pub(crate) upstream: Vec<String>,
    /// A TURN server: turn:HOST[:PORT], turn:HOST[:PORT]?transport=tcp or turns:HOST[:PORT].
    #[arg(long, value_name = "URI")]
    pub(crate) turn: Option<String>,
    /// Examine nothing but this, may be repeated.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(crate) only: Vec<Part>,
    /// Leave out what needs waiting: whether a silent mapping lives for 25 s.
    #[arg(long, conflicts_with = "long")]
    pub(crate) quick: bool,
    /// Measure also what takes minutes: how long the NAT keeps a silent mapping.
    #[arg(long)]
    pub(crate) long: bool,
    /// Print JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the doctor can be asked for by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The NAT: mapping, filter, hairpin, lifetime, hops, forwards.
    Nat,
    /// A router that rewrites SIP.
    Alg,
    /// Upstreams, STUN and TURN servers, the clock.
    Servers,
    /// The largest packet.
    Mtu,
}

impl Examine {
    /// Is this to be examined?
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

/// Flags of `plan`.
#[derive(Debug, Args)]
pub(crate) struct Planned {
    /// The phones, a word each, with commas between: reception,desk2,door. NAME:CALLS for another number of
    /// calls; NAME@ADDRESS for one with a public address of its own, NAME@ADDRESS/OURS on an uplink of its own.
    /// Without it, the phones of the configuration.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub(crate) phones: Vec<String>,
    /// Calls that a phone may have at a time.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) calls: u16,
    /// Streams of a call: 1 for sound, 2 with video.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    pub(crate) streams: u16,
    /// The configuration that the plan is for: what it has is kept, and the plan fits beside it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Our address that the router forwards to [default: that of [outer] listen, or this machine's].
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<std::net::Ipv4Addr>,
    /// The first signalling port; the others follow at a distance of ten.
    #[arg(long, value_name = "PORT", default_value_t = 5060, value_parser = clap::value_parser!(u16).range(1024..))]
    pub(crate) signalling_from: u16,
    /// Where ranges of media ports are looked for.
    #[arg(long, value_name = "FIRST-LAST", default_value = "10000-29999", value_parser = crate::plan::range)]
    pub(crate) media: media::PortRange,
    /// Write the sheet as a page for a browser, to be printed.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the configuration: a new file, or that of --config with the plan in it.
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}

/// Flags of `trace`.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// A Call-ID or its beginning, a user or user@domain, the name of a [[phone]], an IP address,
    /// or the id of a call in the status.
    #[arg(value_name = "CALL-OR-PHONE")]
    pub(crate) target: String,
    /// The configuration file that the daemon runs with: its [state] dir is where it is asked.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// That directory, where no file names it.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<String>,
    /// Print one JSON object a line instead of a ladder.
    #[arg(long)]
    pub(crate) json: bool,
    /// End when so many calls have ended.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,
    /// End after so many seconds.
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    seconds: Option<u64>,
}

impl Trace {
    /// When it ends by itself.
    pub(crate) fn until(&self) -> Until {
        Until { calls: self.calls, time: self.seconds.map(Duration::from_secs) }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags that override single keys.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Overrides {
    /// office, border or standalone [key: role].
    #[arg(long)]
    role: Option<String>,
    /// Where to listen, may be repeated [key: inner.listen].
    #[arg(long, value_name = "udp:ADDRESS:PORT")]
    listen: Vec<String>,
    /// Where the first upstream is [key: upstream.0.uri].
    #[arg(long, value_name = "URI")]
    upstream: Option<String>,
    /// Ports of the media relay [key: media.ports].
    #[arg(long, value_name = "FIRST-LAST")]
    media_ports: Option<String>,
    /// Where /metrics and /healthz are served [key: metrics.listen].
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Option<String>,
    /// Allow the metrics on all addresses of the machine.
    #[arg(long)]
    metrics_open: bool,
    /// Directory for what must outlive a restart [key: state.dir].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// Any key, may be repeated: --set outer.advertise=stun.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Overrides {
    /// Those of `status`, which opens nothing and so forbids nothing.
    pub(crate) fn of_status(state_dir: Option<String>) -> Self {
        Self { state_dir, metrics_open: true, ..Self::default() }
    }

    fn flags(&self) -> Vec<(String, String, String)> {
        let mut flags = Vec::new();
        let mut flag = |name: &str, key: &str, value: String| flags.push((name.to_owned(), key.to_owned(), value));
        for text in &self.set {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            flag(&format!("--set {key}"), key.trim(), value.trim().to_owned());
        }
        let single = [
            ("--role", "role", &self.role),
            ("--upstream", "upstream.0.uri", &self.upstream),
            ("--media-ports", "media.ports", &self.media_ports),
            ("--metrics-listen", "metrics.listen", &self.metrics_listen),
            ("--state-dir", "state.dir", &self.state_dir),
        ];
        for (name, key, value) in single {
            if let Some(value) = value {
                flag(name, key, value.clone());
            }
        }
        if !self.listen.is_empty() {
            flag("--listen", "inner.listen", self.listen.join(","));
        }
        flags
    }
}

/// Puts the layers together; faults come back as text for people.
pub(crate) fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Settings, String> {
    let sources = Sources { file: file.map(named).transpose()?, environment: environment(), flags: overrides.flags() };
    config::load(&sources, &machine(overrides.metrics_open))
}

/// As [`load`], with the file's name and text at hand.
pub(crate) fn load_text(file: (String, String), overrides: &Overrides) -> Result<Settings, String> {
    let sources = Sources { file: Some(file), environment: environment(), flags: overrides.flags() };
    config::load(&sources, &machine(overrides.metrics_open))
}

/// A file's name, for people, and its text.
pub(crate) fn named(path: &Path) -> Result<(String, String), String> {
    Ok((path.display().to_string(), read(path)?))
}

/// Where a running daemon is asked. A faulty file still tells its state
/// directory: the daemon runs with what was there before.
pub(crate) fn state_dirs(file: Option<&Path>, overrides: &Overrides) -> Result<Vec<PathBuf>, String> {
    match load(file, overrides) {
        Ok(settings) => Ok(settings.state_dirs),
        Err(faults) => {
            let Some(path) = file else { return Err(faults) };
            let written = read(path)?.parse::<toml::Table>().ok();
            let dir = written.as_ref().and_then(|table| table.get("state")?.get("dir")?.as_str()).map(PathBuf::from);
            let flag = overrides.state_dir.as_ref().map(PathBuf::from);
            Ok(flag.or(dir).filter(|dir| dir.is_absolute()).map_or_else(state::candidates, |dir| vec![dir]))
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| {
        let mend = if error.kind() == io::ErrorKind::NotFound {
            "write the path of an existing file; config/ has one for each role"
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            "run as a user that may read it"
        } else {
            "name a readable file"
        };
        format!("fault: {shown} cannot be read: {error}\n  mend: {mend}\n")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        format!("fault: this is not UTF-8 text\n  --> {shown}, line {line}\n  mend: save the file as UTF-8\n")
    })
}

/// The variables that name our keys.
fn environment() -> Vec<(String, String)> {
    let ours = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(PREFIX));
    let mut variables: Vec<_> = ours.collect();
    variables.sort();
    variables
}

fn machine(metrics_open: bool) -> Machine {
    // A kernel without IPv6, or with it switched off, has no such file or an empty one.
    let ipv6 = std::fs::read("/proc/net/if_inet6").is_ok_and(|list| !list.is_empty());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Machine { ipv6, processors, state_dirs: state::candidates(), metrics_open }
}
