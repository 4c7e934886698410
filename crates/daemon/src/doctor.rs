//! `siplatch doctor`: what the network does to calls, said in plain words. Each
//! finding says what was tested, what was seen, what it means for calls and
//! what to do. What was not seen is unknown; silence alone proves nothing.

mod finding;
mod nat;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use ::nat::behaviour::Verdict;
use ::nat::lifetime::Bracket;
use serde::Serialize;
use tokio::runtime;

use crate::cli::{self, Examine, Overrides};
use crate::config::HostPort;
use crate::{complain, note, print};

use finding::{Finding, Weight};

/// The port of STUN servers that are named without one.
const STUN_PORT: u16 = 3478;

/// What is found out, for programs.
#[derive(Debug, Serialize)]
struct Report {
    /// "work", "fail" or "unknown".
    calls: &'static str,
    nat: nat::Facts,
    findings: Vec<Finding>,
}

impl Report {
    fn of(verdict: &Verdict, lifetime: Option<Option<Bracket>>, findings: Vec<Finding>) -> Self {
        let worst = findings.iter().map(|finding| finding.weight).max().unwrap_or(Weight::Unknown);
        let calls = match worst {
            Weight::Good | Weight::Notice => "work",
            Weight::Unknown => "unknown",
            Weight::Bad => "fail",
        };
        Self { calls, nat: nat::Facts::of(verdict, lifetime.flatten()), findings }
    }

    fn text(&self) -> String {
        let mut text: String = self.findings.iter().map(Finding::text).collect();
        let sum = match self.calls {
            "work" => "As far as STUN tells, calls will work.",
            "fail" => "Calls will not work before the lines marked with BAD are mended.",
            _ => "Whether calls will work is not known.",
        };
        text.push_str(sum);
        text.push('\n');
        text
    }
}

/// Examines the network and prints what was found. Exit code 0: calls will
/// work; 1: they will not; 2: it is not known.
pub(crate) fn run(asked: &Examine) -> ExitCode {
    let servers = match servers(asked) {
        Ok(servers) => servers,
        Err(why) => return complain(&why),
    };
    let examined = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(examine(&servers, asked)));
    let report = match examined {
        Ok(report) => report,
        Err(error) => return complain(&format!("the network cannot be examined: {error}\n")),
    };
    let shown = if asked.json {
        serde_json::to_string_pretty(&report).map_or_else(|error| error.to_string(), |text| text + "\n")
    } else {
        report.text()
    };
    print(&shown);
    ExitCode::from(match report.calls {
        "work" => 0,
        "fail" => 1,
        _ => 2,
    })
}

/// Those named on the command line, else those of the configuration.
fn servers(asked: &Examine) -> Result<Vec<HostPort>, String> {
    if !asked.stun.is_empty() {
        return asked.stun.iter().map(|text| HostPort::read(text, STUN_PORT)).collect();
    }
    let Some(file) = asked.config.as_deref() else { return Ok(Vec::new()) };
    let settings = cli::load(Some(file), &Overrides::of_status(None))?;
    Ok(settings.stun.into_iter().flatten().collect())
}

async fn examine(servers: &[HostPort], asked: &Examine) -> std::io::Result<Report> {
    let mut findings = Vec::new();
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for server in servers {
        match net::resolve(&server.host, server.port).await {
            Ok(found) => addresses.extend(found.iter().filter(|address| address.is_ipv4())),
            Err(error) => findings.push(nat::unresolved(&server.to_string(), &error)),
        }
    }
    let verdict = net::survey::behaviour(None, addresses.clone()).await?;
    findings.extend(nat::findings(&verdict, addresses.len()));
    let lifetime = match addresses.first() {
        Some(server) if asked.long && verdict.translated == Some(true) => {
            let say = |bracket: Bracket| {
                note(&format!("a silent mapping lives for {} s or more\n", bracket.survived.as_secs()))
            };
            Some(net::survey::lifetime(*server, say).await?)
        }
        Some(_) | None => None,
    };
    if verdict.translated == Some(true) {
        findings.push(nat::lifetime(lifetime));
    }
    Ok(Report::of(&verdict, lifetime, findings))
}

/// Answers STUN until it is stopped.
pub(crate) fn reflect(address: &str, other: Option<&str>) -> ExitCode {
    let read = |text: &str, port| {
        let whole = text.parse::<SocketAddr>().or_else(|_| text.parse().map(|ip| SocketAddr::new(ip, port)));
        whole
            .map_err(|_| format!("\"{text}\" is no address of this machine\n  write 203.0.113.1 or 203.0.113.1:3478\n"))
    };
    let both =
        read(address, STUN_PORT).and_then(|first| Ok((first, other.map(|o| read(o, STUN_PORT + 1)).transpose()?)));
    let (first, other) = match both {
        Ok(both) => both,
        Err(why) => return complain(&why),
    };
    if other.is_some_and(|other| other.ip() == first.ip() || other.port() == first.port()) {
        return complain("the two addresses must differ in IP and in port (RFC 5780 §6.1)\n");
    }
    let served = runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        runtime.block_on(async {
            let reflecting = net::survey::Reflecting::bind(first, other)?;
            let list: Vec<String> = reflecting.addresses().iter().map(ToString::to_string).collect();
            print(&format!("STUN is answered on {}\n", list.join(", ")));
            reflecting.serve().await
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("STUN cannot be answered: {error}\n")),
    }
}

/// Seconds, for people.
fn seconds(duration: Duration) -> String {
    format!("{:.0} s", duration.as_secs_f64())
}
