//! The upstreams: does each of them answer, over which transport?

use std::net::SocketAddr;

use ::nat::options::Answer;
use net::dns::Reply;
use net::survey::reach::{self, Reached};
use net::transport::tls;
use proxy::config::Upstream;
use tokio::task::JoinSet;
use wire::Transport;

use super::finding::{Finding, Weight};
use super::seen::{Seen, Through, word};

/// One upstream, and what came of it over each transport that was tried.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) upstream: Upstream,
    pub(super) tried: Vec<(Transport, Option<SocketAddr>, Reached<Answer>)>,
    /// The wall clock when the answers came, seconds since 1970.
    pub(super) at: u64,
}

impl Asked {
    /// Its URI lets siplatch speak to it over this.
    pub(super) fn allows(&self, transport: Transport) -> bool {
        let upstream = &self.upstream;
        match transport {
            Transport::Udp => !upstream.sips && matches!(upstream.transport, None | Some(Transport::Udp)),
            Transport::Tcp => !upstream.sips && matches!(upstream.transport, None | Some(Transport::Tcp)),
            Transport::Tls => upstream.sips || upstream.transport == Some(Transport::Tls),
            Transport::Ws | Transport::Wss => false,
        }
    }

    /// What came of a transport.
    pub(super) fn over(&self, transport: Transport) -> Option<&Reached<Answer>> {
        self.tried.iter().find(|(of, ..)| *of == transport).map(|(.., reached)| reached)
    }

    /// The transports over which it answers, of those that its URI allows.
    pub(super) fn usable(&self) -> impl Iterator<Item = Transport> {
        let answers = |(transport, _, reached): &&(Transport, Option<SocketAddr>, Reached<Answer>)| {
            self.allows(*transport) && matches!(reached, Reached::Answers(..))
        };
        self.tried.iter().filter(answers).map(|(transport, ..)| *transport)
    }

    /// Over all transports that its URI allows, somebody says that there is nothing, or is not who we want.
    pub(super) fn is_refused(&self) -> bool {
        let mut allowed = self.tried.iter().filter(|(transport, ..)| self.allows(*transport)).peekable();
        let no = |reached: &Reached<Answer>| matches!(reached, Reached::Refused | Reached::Untrusted);
        allowed.peek().is_some() && allowed.all(|(.., reached)| no(reached))
    }
}

/// The transports that are tried: those that its URI allows, and beside UDP or TCP the other one, to compare.
fn transports(upstream: &Upstream) -> &'static [Transport] {
    match (upstream.sips, upstream.transport) {
        (true, _) | (false, Some(Transport::Tls)) => &[Transport::Tls],
        (false, None | Some(Transport::Udp | Transport::Tcp)) => &[Transport::Udp, Transport::Tcp],
        (false, Some(Transport::Ws | Transport::Wss)) => &[],
    }
}

/// Asks all of them at once.
pub(super) async fn ask(upstreams: &[Upstream], tls: &std::sync::Arc<tls::Settings>) -> Vec<Asked> {
    let mut tasks = JoinSet::new();
    for (index, upstream) in upstreams.iter().enumerate() {
        for transport in transports(upstream) {
            let (upstream, transport, tls) = (upstream.clone(), *transport, std::sync::Arc::clone(tls));
            tasks.spawn(async move {
                let at = find(&upstream, transport).await;
                let domain = upstream.domain.as_ref().unwrap_or(&upstream.host);
                let reached = match at {
                    Some(at) => reach::sip(at, transport, &name(&upstream, at), domain, &tls).await,
                    None => Reached::Silent,
                };
                (index, transport, at, reached, net::clock::unix_time().as_secs())
            });
        }
    }
    let new = |upstream: &Upstream| Asked { upstream: upstream.clone(), tried: Vec::new(), at: 0 };
    let mut all: Vec<Asked> = upstreams.iter().map(new).collect();
    while let Some(done) = tasks.join_next().await {
        let Ok((index, transport, at, reached, when)) = done else { continue };
        if matches!(reached, Reached::Answers(..)) {
            all[index].at = when;
        }
        all[index].tried.push((transport, at, reached));
    }
    for asked in &mut all {
        asked.tried.sort_by_key(|(transport, ..)| *transport);
    }
    all
}

fn name(upstream: &Upstream, at: SocketAddr) -> String {
    let host = if upstream.host.contains(':') { format!("[{}]", upstream.host) } else { upstream.host.clone() };
    format!("{host}:{}", at.port())
}

/// RFC 3263 §4.2, as far as a look needs it: SRV where no port is written, then the first address, of IPv4 if there is one.
async fn find(upstream: &Upstream, transport: Transport) -> Option<SocketAddr> {
    let mut host = upstream.host.clone();
    let mut port = upstream.port.unwrap_or_else(|| transport.default_port());
    if upstream.port.is_none() && host.parse::<std::net::IpAddr>().is_err() {
        let service = match transport {
            Transport::Udp => "_sip._udp",
            Transport::Tcp => "_sip._tcp",
            Transport::Tls | Transport::Ws | Transport::Wss => "_sips._tcp",
        };
        if let Reply::Found(records, _) = net::Resolver::system().srv(&format!("{service}.{host}")).await
            && let Some(first) = records.into_iter().min_by_key(|record| record.priority)
        {
            (host, port) = (first.target, first.port);
        }
    }
    let found = net::resolve(&host, port).await.ok()?;
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
}

/// One for each upstream.
pub(super) fn findings(seen: &Seen) -> Vec<Finding> {
    seen.upstreams.iter().map(|asked| finding(asked, seen)).collect()
}

fn finding(asked: &Asked, seen: &Seen) -> Finding {
    let tested = format!("Upstream {}", asked.upstream.uri());
    let told = |(transport, at, reached): &(Transport, Option<SocketAddr>, Reached<Answer>)| match (at, reached) {
        (None, _) => format!("no address for {}", transport.via()),
        (Some(_), Reached::Answers(answer, _)) => format!("answers over {} ({})", transport.via(), answer.status),
        (Some(_), Reached::Connects) => format!("connects over {} without a SIP answer", transport.via()),
        (Some(_), Reached::Untrusted) => format!("{}: its certificate does not verify", transport.via()),
        (Some(_), other) => format!("{} over {}", word(other), transport.via()),
    };
    let found = asked.tried.iter().map(told).collect::<Vec<_>>().join(", ");
    let usable: Vec<&str> = asked.usable().map(Transport::via).collect();
    let udp = asked.allows(Transport::Udp).then(|| asked.over(Transport::Udp)).flatten();
    if asked.tried.is_empty() {
        let means = "WebSocket upstreams are not examined";
        return Finding::new(Weight::Unknown, &tested, "not tried", means);
    }
    if usable.is_empty() {
        if asked.is_refused() {
            let means = "no call comes or goes through it";
            let mend = "check its address and port, and its certificate; [tls] ca names further authorities";
            return Finding::new(Weight::Bad, &tested, found, means).mend(mend);
        }
        let means = match asked
            .tried
            .iter()
            .any(|(of, _, reached)| !asked.allows(*of) && matches!(reached, Reached::Answers(..)))
        {
            true => "it is there, and does not answer over the transport that its URI asks for",
            false => "it is down, or blocked on the way, or gives no answer to strangers",
        };
        let mend = "compare with another network; try uri = \"sip:HOST;transport=tcp\" or \"sips:HOST\"";
        return Finding::new(Weight::Unknown, &tested, found, means).mend(mend);
    }
    match udp {
        Some(Reached::Silent | Reached::Refused) => {
            let means = match seen.udp() {
                Through::Blocked => "UDP is blocked on the way; signalling goes over TCP",
                Through::Open | Through::Untrusted | Through::Unknown => "signalling goes over TCP",
            };
            Finding::new(Weight::Notice, &tested, found, means)
        }
        _ => Finding::new(Weight::Good, &tested, found, "signalling reaches it"),
    }
}
