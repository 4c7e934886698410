//! How long does the router in front of us remember a silent mapping? Sibling
//! sockets find it out by STUN for as long as the program runs, and keep-alives
//! follow (`nat::keepalive::Learner`). Needs a server that answers elsewhere
//! than it was asked from (RFC 5780 §7.6); without one, what is usual stays.

use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use nat::keepalive::{Bounds, Learner};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};

/// A silence that every router remembers: does the server do what is needed?
const NEXT_TO_NONE: Duration = Duration::from_secs(1);
/// A server that was of no use is tried again after this.
const PAUSE: Duration = Duration::from_secs(600);

/// The trials that run, and what they say.
#[derive(Debug)]
pub(super) struct Uplink {
    servers: Vec<SocketAddr>,
    task: Option<AbortHandle>,
    telling: UnboundedSender<Duration>,
    told: UnboundedReceiver<Duration>,
}

impl Uplink {
    /// Nothing runs yet.
    pub(super) fn new() -> Self {
        let (telling, told) = unbounded_channel();
        Self { servers: Vec::new(), task: None, telling, told }
    }

    /// Asks these servers from here on, none to stop; others than before begin anew, and until they have told
    /// something the usual interval counts. Must be called inside a runtime.
    pub(super) fn set_servers(&mut self, servers: Vec<SocketAddr>) {
        if servers == self.servers {
            return;
        }
        self.stop();
        self.servers.clone_from(&servers);
        if !servers.is_empty() {
            self.task = Some(tokio::spawn(learn(servers, self.telling.clone())).abort_handle());
        }
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            forget(&self.telling);
        }
    }

    /// Another interval for keep-alives.
    pub(super) fn poll_interval(&mut self, cx: &mut Context<'_>) -> Option<Duration> {
        let Poll::Ready(told) = self.told.poll_recv(cx) else { return None };
        told
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Finds a server that can tell, and goes on by it.
async fn learn(servers: Vec<SocketAddr>, telling: UnboundedSender<Duration>) {
    loop {
        for server in &servers {
            if let Ok(Some(true)) = net::survey::remembered(*server, NEXT_TO_NONE).await {
                try_for_ever(*server, &telling).await;
                forget(&telling);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What nobody watches any more may not be true any more.
fn forget(telling: &UnboundedSender<Duration>) {
    // Unheard only when the loop has ended.
    let _unheard = telling.send(Bounds::UDP.start);
}

/// Ends when the server is silent.
async fn try_for_ever(server: SocketAddr, telling: &UnboundedSender<Duration>) {
    let mut learner = Learner::new(Bounds::UDP);
    let mut said = learner.interval();
    let mut running = JoinSet::new();
    let mut busy: Vec<bool> = Vec::new();
    loop {
        for (at, silence) in learner.trials(net::clock::now()).into_iter().enumerate() {
            if busy.len() <= at {
                busy.push(false);
            }
            if !std::mem::replace(&mut busy[at], true) {
                running.spawn(async move { (at, silence, net::survey::remembered(server, silence).await) });
            }
        }
        let Some(Ok((at, silence, remembered))) = running.join_next().await else { return };
        busy[at] = false;
        match remembered {
            Ok(Some(true)) => learner.survived(silence),
            Ok(Some(false)) => learner.lost(net::clock::now(), silence),
            Ok(None) | Err(_) => return,
        }
        let interval = learner.interval();
        if interval != said {
            said = interval;
            tracing::debug!(%server, ?silence, ?remembered, ?interval, "the router's memory");
            // Unheard only when the loop has ended.
            let _unheard = telling.send(interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn what_nobody_watches_any_more_is_forgotten() {
        let mut uplink = Uplink::new();
        uplink.set_servers(vec![SocketAddr::from(([127, 0, 0, 1], 9))]);
        uplink.set_servers(Vec::new());
        let told = poll_fn(|cx| Poll::Ready(uplink.poll_interval(cx))).await;
        assert_eq!(told, Some(Bounds::UDP.start));
        uplink.set_servers(Vec::new());
        assert_eq!(poll_fn(|cx| Poll::Ready(uplink.poll_interval(cx))).await, None, "said once");
    }
}
