//! `siplatch doctor`: what the network does to calls, said in plain words. Each
//! finding says what was tested, what was seen, what it means for calls and
//! what to do. What was not seen is unknown; silence alone proves nothing.

mod alg;
mod clock;
mod finding;
mod forwards;
mod nat;
mod path;
mod plan;
mod reflect;
mod report;
mod seen;
mod turn;
mod upstream;
mod verdict;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ::nat::lifetime::Bracket;
use net::survey;
use tokio::runtime;
use tokio::task::JoinHandle;

use crate::cli::{self, Examine, Overrides, Part};
use crate::config::{HostPort, Settings};
use crate::{complain, note, print};

use finding::Finding;
use plan::Plan;
use seen::Seen;

pub(crate) use alg::try_it as try_ways;
pub(crate) use reflect::reflect;
pub(crate) use report::{Advice, Report};

/// Silences that a mapping is asked to outlive: our keep-alives come every 25 s at least.
const SILENCES: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(18), nat::KEPT];
/// So many STUN servers are asked: more tell nothing new.
const MOST_SERVERS: usize = 4;

/// The same, where names and servers were slow: the whole is to take half a minute.
fn silences(late: Duration) -> [Duration; 3] {
    let [one, two, longest] = SILENCES;
    [one, two, longest.saturating_sub(Duration::from_secs(late.as_secs())).max(two)]
}

/// Examines the network and prints what was found. Exit code 0: calls will
/// work; 1: they will not; 2: it is not known.
pub(crate) fn run(asked: &Examine) -> ExitCode {
    let report = match load(asked).and_then(|settings| examined(asked, settings.as_ref())) {
        Ok(report) => report,
        Err(why) => return complain(&why),
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

/// The configuration that was named, if one was.
fn load(asked: &Examine) -> Result<Option<Settings>, String> {
    asked.config.as_deref().map(|file| cli::load(Some(file), &Overrides::of_status(None))).transpose()
}

/// What `run` prints, about this configuration if there is one.
pub(crate) fn examined(asked: &Examine, settings: Option<&Settings>) -> Result<Report, String> {
    let plan = Plan::of(asked, settings)?;
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(examine(plan, asked)))
        .map_err(|error| format!("the network cannot be examined: {error}\n"))
}

/// Where a server is: its IPv4 addresses.
async fn resolve(server: &HostPort, findings: &mut Vec<Finding>) -> Vec<SocketAddr> {
    match net::resolve(&server.host, server.port).await {
        Ok(found) => found.into_iter().filter(SocketAddr::is_ipv4).collect(),
        Err(error) => {
            findings.push(nat::unresolved(&server.to_string(), &error));
            Vec::new()
        }
    }
}

async fn examine(plan: Plan, asked: &Examine) -> std::io::Result<Report> {
    let begun = net::clock::now();
    let mut findings = Vec::new();
    let mut named: Vec<(String, Vec<SocketAddr>)> = Vec::new();
    let mut reflector = None;
    if let Some(server) = &plan.reflector {
        reflector = resolve(server, &mut findings).await.first().copied();
    }
    for server in plan.stun.iter().take(MOST_SERVERS) {
        named.push((server.to_string(), resolve(server, &mut findings).await));
    }
    // All that needs nothing of the others goes at once.
    let servers_too = asked.wants(Part::Servers);
    let upstreams = servers_too.then(|| {
        let (upstreams, tls) = (plan.upstreams.clone(), Arc::clone(&plan.tls));
        tokio::spawn(async move { upstream::ask(&upstreams, &tls).await })
    });
    let turn = plan.turn.clone().filter(|_| servers_too).map(|turn| {
        let tls = Arc::clone(&plan.tls);
        tokio::spawn(async move { turn::try_it(turn, tls).await })
    });
    let alg = reflector.filter(|_| asked.wants(Part::Alg)).map(|reflector| tokio::spawn(alg::try_it(reflector)));

    // Then those STUN servers that are there, the reflector first: it can tell more than others.
    let all = reflector.into_iter().chain(named.iter().flat_map(|(_, at)| at.iter().copied()).take(MOST_SERVERS));
    let servers = living(all.collect()).await;
    let first = servers.first().copied();
    let stun: Vec<(String, Option<SocketAddr>, bool)> = named
        .into_iter()
        .filter(|_| servers_too)
        .map(|(name, at)| {
            let answers = at.iter().any(|at| servers.contains(at));
            (name, at.first().copied(), answers)
        })
        .collect();
    let mtu = first.filter(|_| asked.wants(Part::Mtu)).map(|server| tokio::spawn(survey::path::mtu(server)));
    let lifetime = first.filter(|_| asked.wants(Part::Nat) && !asked.quick).map(|server| {
        let (long, late) = (asked.long, net::clock::now().saturating_duration_since(begun));
        tokio::spawn(async move {
            match long {
                true => survey::lifetime(server, say).await,
                false => survey::outlives(server, &silences(late)).await,
            }
        })
    });
    let asked_of = if asked.wants(Part::Nat) { servers.clone() } else { Vec::new() };
    let behaviour = survey::behaviour(None, asked_of).await?;
    // Where our own address is the public one, nobody translates.
    let none = behaviour.translated.filter(|translated| !translated);
    let mut path = ::nat::path::Path { double_nat: none, cgnat: none, ..Default::default() };
    let (mut one_to_one, mut doors) = (None, plan.doors.iter().map(|door| (*door, None)).collect());
    if let (Some(server), Some(mapped)) = (first, behaviour.mapped) {
        let local = net::addresses::toward(server)?;
        if behaviour.translated == Some(true) {
            path = path::look(server, local, mapped.0.ip()).await;
        }
        (one_to_one, doors) = forwards::look(server, &plan.doors, &behaviour).await;
    }
    let seen = Seen {
        upstreams: done(upstreams).await.unwrap_or_default(),
        turn: done(turn).await,
        alg: done(alg).await.unwrap_or_default(),
        mtu: done(mtu).await.and_then(Result::ok).flatten(),
        lifetime: match behaviour.translated {
            Some(true) => done(lifetime).await.and_then(Result::ok).flatten(),
            Some(false) | None => {
                if let Some(task) = lifetime {
                    task.abort();
                }
                None
            }
        },
        stun,
        plan,
        behaviour,
        path,
        one_to_one,
        doors,
    };
    Ok(Report::of(&seen, net::clock::unix_time().as_secs(), findings))
}

/// Those of the servers that answer, in their order, each once.
async fn living(servers: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let tasks: Vec<_> = servers.into_iter().map(|at| (at, tokio::spawn(survey::reach::stun(at)))).collect();
    let mut living = Vec::new();
    for (at, task) in tasks {
        if task.await.unwrap_or(false) && !living.contains(&at) {
            living.push(at);
        }
    }
    living
}

/// What a task found, if there was one and it came to an end.
async fn done<T>(task: Option<JoinHandle<T>>) -> Option<T> {
    task?.await.ok()
}

fn say(bracket: Bracket) {
    note(&format!("a silent mapping lives for {} s or more\n", bracket.survived.as_secs()));
}

/// Seconds, for people.
fn seconds(duration: Duration) -> String {
    format!("{:.0} s", duration.as_secs_f64())
}
