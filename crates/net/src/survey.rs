//! Measures the network in front of us, and serves those who measure theirs: the
//! sockets and the clock of `nat::behaviour`, `nat::lifetime`, `nat::alg`,
//! `nat::reflector` and the like. Decides nothing. Nothing waits longer than its
//! deadline, whoever is silent.

pub mod line;
pub mod path;
pub mod reach;

mod alg;
mod reflecting;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nat::behaviour::{self, Behaviour, Verdict};
use nat::lifetime::{self, Bracket, Lifetime, SIBLINGS};
use nat::unasked::{self, Unasked};
use tokio::net::UdpSocket;

pub use alg::alg;
pub use reflecting::Reflecting;

use crate::dscp::Dscp;
use crate::sockopt::{Class, bind_udp};
use crate::{addresses, clock, entropy};

/// Octets of the largest datagram that is looked at.
const ROOM: usize = 2048;

/// Several sockets, waited for together.
struct Sockets(Vec<UdpSocket>);

impl Sockets {
    /// So many on this IP, on ports of the system's choice.
    fn open(local: SocketAddr, count: usize) -> io::Result<Self> {
        (0..count).map(|_| bind(local)).collect::<io::Result<_>>().map(Self)
    }

    /// The next datagram: on which socket, from where, how long. `None` when `due` comes first.
    async fn next(&self, room: &mut [u8], due: Instant) -> Option<(usize, SocketAddr, usize)> {
        let left = due.saturating_duration_since(clock::now());
        tokio::time::timeout(left, async {
            loop {
                let ready = self.0.iter().map(|socket| Box::pin(socket.readable()));
                // Whatever it says, all are tried: a readiness may be a false one.
                let _ = first_of(ready.collect()).await;
                for (at, socket) in self.0.iter().enumerate() {
                    if let Ok((len, from)) = socket.try_recv_from(room) {
                        return (at, from, len);
                    }
                }
            }
        })
        .await
        .ok()
    }

    /// A datagram that cannot be sent is one that is lost.
    fn send(&self, at: usize, to: SocketAddr, bytes: &[u8]) {
        if let Some(Err(error)) = self.0.get(at).map(|socket| socket.try_send_to(bytes, to)) {
            tracing::debug!(%error, %to, "a probe was not sent");
        }
    }
}

fn bind(local: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::from_std(bind_udp(local, Class::Signalling(Dscp::DEFAULT))?)
}

/// The first of several futures to be ready.
async fn first_of<F: Future + Unpin>(mut all: Vec<F>) -> F::Output {
    std::future::poll_fn(|context| {
        let ready = all.iter_mut().find_map(|one| match std::pin::Pin::new(one).poll(context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        });
        ready.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await
}

/// Finds out what kind of NAT there is, by these servers of one family; some
/// 15 s at most. `local`: the IP to ask from, its port is not used. Fails when
/// sockets cannot be had, or no route leads to the first server.
pub async fn behaviour(local: Option<std::net::IpAddr>, servers: Vec<SocketAddr>) -> io::Result<Verdict> {
    let Some(first) = servers.first() else { return Ok(Verdict::default()) };
    let ip = match local {
        Some(ip) => ip,
        None => addresses::toward(*first)?,
    };
    let sockets = Sockets::open(SocketAddr::new(ip, 0), 3)?;
    let which = [behaviour::Socket::A, behaviour::Socket::B, behaviour::Socket::C];
    let mut machine = Behaviour::new(clock::now(), sockets.0[0].local_addr()?, servers, entropy::seed()?);
    let mut room = [0; ROOM];
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                behaviour::Output::Done(verdict) => return Ok(verdict),
                behaviour::Output::Transmit { socket, to, bytes } => sockets.send(socket as usize, to, &bytes),
            }
        }
        let due = machine.poll_timeout().unwrap_or_else(clock::now);
        match sockets.next(&mut room, due).await {
            Some((at, from, len)) => machine.receive(clock::now(), which[at], from, &room[..len]),
            None => machine.handle_timeout(clock::now()),
        }
    }
}

/// Measures how long the NAT keeps a silent mapping, by this server. `so_far`
/// hears of each step. `None`: it cannot be told. Fails as [`behaviour`] does.
pub async fn lifetime(server: SocketAddr, so_far: impl FnMut(Bracket)) -> io::Result<Option<Bracket>> {
    measure(Lifetime::new(clock::now(), server, entropy::seed()?), so_far).await
}

/// Likewise, with one round of these silences.
pub async fn outlives(server: SocketAddr, silences: &[Duration]) -> io::Result<Option<Bracket>> {
    measure(Lifetime::once(clock::now(), server, silences, entropy::seed()?), |_| ()).await
}

async fn measure(mut machine: Lifetime, mut so_far: impl FnMut(Bracket)) -> io::Result<Option<Bracket>> {
    let server = machine.server();
    let sockets = Sockets::open(SocketAddr::new(addresses::toward(server)?, 0), SIBLINGS + 1)?;
    let mut room = [0; ROOM];
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                lifetime::Output::Unknown => return Ok(None),
                lifetime::Output::Bracket(bracket) if bracket.last => return Ok(Some(bracket)),
                lifetime::Output::Bracket(bracket) => so_far(bracket),
                lifetime::Output::Transmit { socket, bytes } => {
                    let at = if let lifetime::Socket::Sibling(at) = socket { at } else { SIBLINGS };
                    sockets.send(at, server, &bytes);
                }
            }
        }
        let due = machine.poll_timeout().unwrap_or_else(clock::now);
        match sockets.next(&mut room, due).await {
            Some((at, from, len)) => {
                let socket = if at < SIBLINGS { lifetime::Socket::Sibling(at) } else { lifetime::Socket::Asker };
                machine.receive(clock::now(), socket, from, &room[..len]);
            }
            None => machine.handle_timeout(clock::now()),
        }
    }
}

/// Whether strangers reach these sockets of ours at the same ports of our
/// public address, by a server that does RESPONSE-PORT; 5 s at most. For each
/// `None` where it cannot be told: it may be that the port is taken.
pub async fn unasked(server: SocketAddr, locals: &[SocketAddr]) -> io::Result<Vec<Option<bool>>> {
    let ip = addresses::toward(server)?;
    let mut found = vec![None; locals.len()];
    let mut sockets = Sockets::open(SocketAddr::new(ip, 0), 2)?;
    let mut which = Vec::new();
    for (at, local) in locals.iter().enumerate() {
        if let Ok(socket) = bind(*local) {
            sockets.0.push(socket);
            which.push(at);
        }
    }
    let ports = sockets.0[2..].iter().map(|socket| Ok(socket.local_addr()?.port())).collect::<io::Result<_>>()?;
    let mut machine = Unasked::new(clock::now(), server, ports, entropy::seed()?);
    let mut room = [0; ROOM];
    loop {
        while let Some(output) = machine.poll_output() {
            match output {
                unasked::Output::Transmit { socket: unasked::Socket::Asker, bytes } => sockets.send(0, server, &bytes),
                unasked::Output::Transmit { socket: _, bytes } => sockets.send(1, server, &bytes),
                unasked::Output::Done(all) => {
                    for (at, reached) in which.into_iter().zip(all) {
                        found[at] = reached;
                    }
                    return Ok(found);
                }
            }
        }
        let due = machine.poll_timeout().unwrap_or_else(clock::now);
        match sockets.next(&mut room, due).await {
            Some((at, from, len)) => {
                let socket = match at {
                    0 => unasked::Socket::Asker,
                    1 => unasked::Socket::Control,
                    at => unasked::Socket::Listener(at - 2),
                };
                machine.receive(clock::now(), socket, from, &room[..len]);
            }
            None => machine.handle_timeout(clock::now()),
        }
    }
}

#[cfg(test)]
mod tests {
    use nat::behaviour::Dependence;

    use super::*;

    async fn reflecting() -> Vec<SocketAddr> {
        // Ports of the system's choice are not the same on two addresses: try until four are free.
        loop {
            let port = |ip: &str| bind(format!("{ip}:0").parse().unwrap()).unwrap().local_addr().unwrap();
            let (first, other) = (port("127.0.9.1"), port("127.0.9.2"));
            if let Ok(reflecting) = Reflecting::bind(first, Some(other), &[]) {
                let addresses = reflecting.addresses().to_vec();
                tokio::spawn(reflecting.serve());
                return addresses;
            }
        }
    }

    #[tokio::test]
    async fn on_loopback_there_is_no_nat_and_everything_passes() {
        let servers = reflecting().await;
        let verdict = behaviour(Some([127, 0, 0, 1].into()), vec![servers[0]]).await.unwrap();
        assert_eq!((verdict.answered, verdict.translated), (true, Some(false)));
        assert_eq!(verdict.mapping, Some(Dependence::EndpointIndependent));
        assert_eq!(verdict.filtering, Some(Dependence::EndpointIndependent));
        assert_eq!(verdict.fragments, Some(true));
    }

    #[tokio::test]
    async fn where_nobody_answers_nothing_is_known() {
        assert_eq!(behaviour(None, Vec::new()).await.unwrap(), Verdict::default());
    }
}
