//! How long does the router in front of us remember a silent mapping? Sibling
//! sockets find it out by STUN for as long as the program runs, and keep-alives
//! follow (`nat::keepalive::Learner`). Needs a server that answers elsewhere
//! than it was asked from (RFC 5780 §7.6); without one, what is usual stays.

use std::net::SocketAddr;
use std::time::Duration;

use nat::keepalive::{Bounds, Learner};
use tokio::task::JoinSet;

use super::beside::Telling;

/// A silence that every router remembers: does the server do what is needed?
const NEXT_TO_NONE: Duration = Duration::from_secs(1);
/// A server that was of no use is tried again after this.
const PAUSE: Duration = Duration::from_secs(600);

/// Keep-alives come so often where nothing is known.
pub(super) const USUAL: Duration = Bounds::UDP.start;

/// Finds a server that can tell, and goes on by it.
pub(super) async fn learn(servers: Vec<SocketAddr>, telling: Telling<Duration>) {
    loop {
        for server in &servers {
            if let Ok(Some(true)) = net::survey::remembered(*server, NEXT_TO_NONE).await {
                try_for_ever(*server, &telling).await;
                telling.forget();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Ends when the server is silent.
async fn try_for_ever(server: SocketAddr, telling: &Telling<Duration>) {
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
            telling.tell(interval);
        }
    }
}
