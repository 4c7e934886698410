//! What the loop must wait for: names. Each is looked up in a task beside it,
//! and the answer comes back as one more input, also when there is none.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use nat::Side;
use proxy::Location;
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
}

/// What a lookup brings back.
#[derive(Debug)]
pub(super) enum Answer {
    /// A next hop.
    Located {
        /// As asked.
        host: String,
        /// As asked.
        port: u16,
        /// Empty when the name does not resolve now.
        locations: Vec<Location>,
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
    pub(super) fn new() -> Self {
        let (answering, answers) = unbounded_channel();
        Self { answering, answers, pending: 0 }
    }

    /// Looks a next hop up, for a listener that is bound so.
    pub(super) fn locate(&mut self, host: String, port: u16, bind: Option<SocketAddr>) {
        let answering = self.answering.clone();
        self.pending += 1;
        let bind = match bind {
            Some(bind) if self.pending <= MOST => bind,
            Some(_) | None => return answer(&answering, Answer::Located { host, port, locations: Vec::new() }),
        };
        tokio::spawn(async move {
            let found = net::resolve(&host, port).await.unwrap_or_else(|error| {
                tracing::warn!(%error, ?host, "next hop does not resolve now");
                Vec::new()
            });
            let locations = found
                .into_iter()
                .filter(|remote| remote.is_ipv4() == bind.is_ipv4())
                .filter_map(|remote| {
                    let local = if bind.ip().is_unspecified() { net::addresses::toward(remote) } else { Ok(bind.ip()) };
                    local.ok().map(|local| Location { remote, local })
                })
                .collect();
            answer(&answering, Answer::Located { host, port, locations });
        });
    }

    /// Looks the STUN servers of a side up.
    pub(super) fn servers(&mut self, side: Side, names: Vec<HostPort>) {
        let answering = self.answering.clone();
        self.pending += 1;
        tokio::spawn(async move {
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
