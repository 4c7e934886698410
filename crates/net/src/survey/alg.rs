//! The sockets of [`Alg`]: one for each way that is tried, all at once.

use std::net::SocketAddr;

use nat::alg::{Alg, Outcome, Output, Way};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::line::{next_message, open};
use super::{ROOM, Sockets};
use crate::{addresses, clock, entropy};

/// Tries these servers, over TCP where the word before is true, else over UDP; some 10 s at most.
/// In the order asked; ways that cannot be begun (no route, no socket) are silent.
pub async fn alg(servers: &[(bool, SocketAddr)]) -> Vec<(Way, Outcome)> {
    let mut tasks = JoinSet::new();
    for (at, (reliable, server)) in servers.iter().copied().enumerate() {
        tasks.spawn(async move {
            let unspecified = SocketAddr::new(server.ip(), 0);
            let silent = (Way { reliable, local: unspecified, server }, Outcome::Silent);
            let done = if reliable { over_tcp(server).await } else { over_udp(server).await };
            (at, done.unwrap_or(silent))
        });
    }
    let mut all: Vec<(usize, (Way, Outcome))> = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done.ok());
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, done)| done).collect()
}

async fn over_udp(server: SocketAddr) -> Option<(Way, Outcome)> {
    let sockets = Sockets::open(SocketAddr::new(addresses::toward(server).ok()?, 0), 1).ok()?;
    let way = Way { reliable: false, local: sockets.0[0].local_addr().ok()?, server };
    let mut machine = Alg::new(clock::now(), way, entropy::seed().ok()?);
    let mut room = [0; ROOM];
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                Output::Transmit(bytes) => sockets.send(0, server, &bytes),
                Output::Done(outcome) => return Some((way, outcome)),
            }
        }
        let due = machine.poll_timeout().unwrap_or_else(clock::now);
        match sockets.next(&mut room, due).await {
            Some((_, from, len)) => machine.receive(clock::now(), from, &room[..len]),
            None => machine.handle_timeout(clock::now()),
        }
    }
}

async fn over_tcp(server: SocketAddr) -> Option<(Way, Outcome)> {
    let (stream, local) = open(server, None).await.ok()?;
    let (mut read, mut write) = tokio::io::split(stream);
    let way = Way { reliable: true, local, server };
    let mut machine = Alg::new(clock::now(), way, entropy::seed().ok()?);
    let mut buffer = Vec::new();
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                // A connection that takes nothing will give nothing either: that shows below.
                Output::Transmit(bytes) => drop(write.write_all(&bytes).await),
                Output::Done(outcome) => return Some((way, outcome)),
            }
        }
        let due = machine.poll_timeout().unwrap_or_else(clock::now);
        let left = due.saturating_duration_since(clock::now());
        match tokio::time::timeout(left, next_message(&mut read, &mut buffer)).await {
            Ok(Ok(Some(message))) => machine.receive(clock::now(), server, &message),
            Ok(Ok(None) | Err(_)) => machine.closed(),
            Err(_elapsed) => machine.handle_timeout(clock::now()),
        }
    }
}
