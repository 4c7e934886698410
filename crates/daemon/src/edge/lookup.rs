//! What the loop must wait for: names. Each is looked up in a task beside it,
//! and the answer comes back as one more input, also when there is none.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use nat::Side;
use net::dns::{Reply, Resolver};
use proxy::question::{Address, Answer as DnsAnswer, Kind, Naptr, Question, Records, Srv};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::HostPort;

/// Most lookups under way; a further one is answered with nothing at once.
const MOST: usize = 256;

/// Lookups under way, and their answers.
#[derive(Debug)]
pub(super) struct Lookups {
    answering: UnboundedSender<Answer>,
    answers: UnboundedReceiver<Answer>,
    pending: usize,
    /// Where they run.
    beside: Handle,
    resolver: Arc<Resolver>,
}

/// What a lookup brings back.
#[derive(Debug)]
pub(super) enum Answer {
    /// What the domain name system says.
    Resolved {
        /// As asked.
        question: Question,
        /// What came of it.
        answer: DnsAnswer,
    },
    /// The STUN servers of a side.
    Servers {
        /// As asked.
        side: Side,
        /// In the order of their names.
        addresses: Vec<SocketAddr>,
        /// All names resolved.
        all: bool,
    },
}

impl Lookups {
    /// None under way.
    pub(super) fn new(beside: Handle) -> Self {
        let (answering, answers) = unbounded_channel();
        Self { answering, answers, pending: 0, beside, resolver: Arc::new(Resolver::system()) }
    }

    /// Asks a question of the signalling machine.
    pub(super) fn resolve(&mut self, question: Question) {
        let answering = self.answering.clone();
        self.pending += 1;
        if self.pending > MOST {
            return answer(&answering, Answer::Resolved { question, answer: DnsAnswer::Failed });
        }
        let resolver = Arc::clone(&self.resolver);
        self.beside.spawn(async move {
            let found = ask(&resolver, &question).await;
            answer(&answering, Answer::Resolved { question, answer: found });
        });
    }

    /// Looks the STUN servers of a side up.
    pub(super) fn servers(&mut self, side: Side, names: Vec<HostPort>) {
        let answering = self.answering.clone();
        self.pending += 1;
        self.beside.spawn(async move {
            let (mut addresses, mut all) = (Vec::new(), true);
            for name in names {
                match net::resolve(&name.host, name.port).await {
                    Ok(found) => addresses.extend(found),
                    Err(error) => {
                        tracing::warn!(%error, server = %name, "STUN server does not resolve; tried again in 5 s");
                        all = false;
                    }
                }
            }
            answer(&answering, Answer::Servers { side, addresses, all });
        });
    }

    /// The next answer.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Option<Answer> {
        let Poll::Ready(answer) = self.answers.poll_recv(cx) else { return None };
        self.pending = self.pending.saturating_sub(1);
        answer
    }
}

fn answer(answering: &UnboundedSender<Answer>, answer: Answer) {
    // Fails only when the loop has ended.
    let _unheard = answering.send(answer);
}

async fn ask(resolver: &Resolver, question: &Question) -> DnsAnswer {
    match question.kind {
        Kind::Naptr => {
            let naptr = |n: net::dns::Naptr| Naptr {
                order: n.order,
                preference: n.preference,
                flags: n.flags,
                service: n.service,
                replacement: n.replacement,
            };
            let reply = resolver.naptr(&question.name).await;
            told(question, reply, |found| Records::Naptr(found.into_iter().map(naptr).collect()))
        }
        Kind::Srv => {
            let srv = |s: net::dns::Srv| Srv { priority: s.priority, weight: s.weight, port: s.port, target: s.target };
            let reply = resolver.srv(&question.name).await;
            told(question, reply, |found| Records::Srv(found.into_iter().map(srv).collect()))
        }
        Kind::Addresses => {
            let reply = resolver.addresses(&question.name).await;
            told(question, reply, |found| Records::Addresses(found.into_iter().filter_map(reached).collect()))
        }
    }
}

/// An address that there is a way to, with the local one that the kernel would send from.
fn reached(remote: IpAddr) -> Option<Address> {
    let local = net::addresses::toward(SocketAddr::new(remote, 0)).ok()?;
    Some(Address { remote, local })
}

fn told<T>(question: &Question, reply: Reply<T>, records: impl FnOnce(Vec<T>) -> Records) -> DnsAnswer {
    match reply {
        Reply::Found(found, ttl) => DnsAnswer::Found { records: records(found), ttl },
        Reply::Nothing(ttl) => DnsAnswer::Nothing { ttl },
        Reply::Failed(why) => {
            tracing::warn!(name = ?question.name, kind = ?question.kind, why, "name is not resolved now; asked again in 5 s");
            DnsAnswer::Failed
        }
    }
}
