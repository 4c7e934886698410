//! One pair's task: makes its two allocations, carries its media, keeps them
//! alive, and makes them anew when they are lost and nobody uses them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nat::turn::{self, Allocated, End, Input, Output, Port, Turn};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::connection::Connection;
use super::{AllocationId, Failure, Over, Report, Settings};
use crate::mmsg::tunnel::{HEADER, decode, send};
use crate::{clock, dns, entropy};

/// How long a server has to take an allocation back.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);
/// Before the second try; doubled after each further one, up to a minute.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Packets taken from a tunnel in a turn.
const BITE: usize = 32;
/// The longest packet, with the peer before it.
const ROOM: usize = 9216 + HEADER;
/// Dropped packets are told of so often at most.
const TOLD: Duration = Duration::from_secs(1);

/// What a task is told.
#[derive(Debug)]
pub(super) enum Order {
    /// A worker has the other ends: RTP, RTCP.
    Attach([std::os::unix::net::UnixDatagram; 2]),
    Permit(Vec<IpAddr>),
    Release,
}

/// One of the two allocations.
struct Lane {
    connection: Connection,
    turn: Turn,
    local: Option<UnixDatagram>,
    /// A message on its way out.
    scratch: Vec<u8>,
    /// Packets that had no room.
    dropped: u64,
}

/// How a try came out.
enum Outcome {
    Released,
    Failed(Failure),
}

/// Until it is released.
pub(super) async fn run(
    settings: Arc<Settings>,
    id: AllocationId,
    local: IpAddr,
    mut orders: UnboundedReceiver<Order>,
    reports: UnboundedSender<Report>,
) {
    let mut task = Task { settings, id, local, reports, peers: Vec::new(), attached: false, even: true };
    let mut pause = PAUSE;
    loop {
        let begun = clock::now();
        let Outcome::Failed(why) = task.attempt(&mut orders).await else { return };
        task.report(Report::Ended { id, why });
        // One that held for long was no failure to begin with.
        pause = if clock::now() - begun > LONGEST_PAUSE { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        let until = tokio::time::sleep(pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    None | Some(Order::Release) => return,
                    Some(Order::Permit(_)) => {}
                    // A worker came too late, and gets nothing: its call ends for silence.
                    Some(Order::Attach(_)) => task.attached = true,
                },
                () = &mut until, if !task.attached => break,
            }
        }
    }
}

struct Task {
    settings: Arc<Settings>,
    id: AllocationId,
    local: IpAddr,
    reports: UnboundedSender<Report>,
    peers: Vec<IpAddr>,
    attached: bool,
    /// The server may have an even port with the next one reserved.
    even: bool,
}

impl Task {
    fn report(&self, report: Report) {
        // Nobody listens any more: the program ends.
        let _unheard = self.reports.send(report);
    }

    async fn attempt(&mut self, orders: &mut UnboundedReceiver<Order>) -> Outcome {
        let settings = Arc::clone(&self.settings);
        let made = {
            let making = make(&settings, self.local, &mut self.even);
            tokio::pin!(making);
            loop {
                tokio::select! {
                    made = &mut making => break made,
                    order = orders.recv() => match order {
                        None | Some(Order::Release) => return Outcome::Released,
                        Some(Order::Permit(peers)) => self.peers = peers,
                        Some(Order::Attach(_)) => self.attached = true,
                    },
                }
            }
        };
        match made {
            Ok(([mut rtp, mut rtcp], allocated)) => {
                let relayed = allocated.map(|allocated| allocated.relayed);
                self.report(Report::Allocated { id: self.id, relayed, mapped: allocated[0].mapped });
                for lane in [&mut rtp, &mut rtcp] {
                    lane.turn.handle_input(clock::now(), Input::Permit(&self.peers));
                }
                self.carry(&mut rtp, &mut rtcp, orders).await
            }
            Err(why) => Outcome::Failed(why),
        }
    }

    /// Carries media until the end.
    async fn carry(&mut self, rtp: &mut Lane, rtcp: &mut Lane, orders: &mut UnboundedReceiver<Order>) -> Outcome {
        let mut told = clock::now();
        loop {
            for lane in [&mut *rtp, &mut *rtcp] {
                match self.drain(lane) {
                    Ok(None) => {}
                    Ok(Some(end)) => return Outcome::Failed(Failure::Turn(end)),
                    Err(error) => return self.lost(&error),
                }
            }
            let dropped = rtp.dropped + rtcp.dropped;
            if dropped > 0 && clock::now() >= told + TOLD {
                told = clock::now();
                (rtp.dropped, rtcp.dropped) = (0, 0);
                self.report(Report::Dropped { id: self.id, packets: dropped });
            }
            let step = tokio::select! {
                order = orders.recv() => match order {
                    None | Some(Order::Release) => {
                        let both = async { tokio::join!(rtp.leave(), rtcp.leave()) };
                        let _left = tokio::time::timeout(FAREWELL, both).await;
                        return Outcome::Released;
                    }
                    Some(Order::Permit(peers)) => {
                        for lane in [&mut *rtp, &mut *rtcp] {
                            lane.turn.handle_input(clock::now(), Input::Permit(&peers));
                        }
                        self.peers = peers;
                        Ok(())
                    }
                    Some(Order::Attach([one, two])) => {
                        self.attached = true;
                        rtp.attach(one).and_then(|()| rtcp.attach(two))
                    }
                },
                step = rtp.wait() => step,
                step = rtcp.wait() => step,
            };
            if let Err(error) = step {
                return self.lost(&error);
            }
        }
    }

    fn lost(&self, error: &io::Error) -> Outcome {
        tracing::debug!(%error, server = %self.settings.server, "connection to the TURN server is lost");
        Outcome::Failed(Failure::Unreachable)
    }

    fn drain(&self, lane: &mut Lane) -> io::Result<Option<End>> {
        while let Some(output) = lane.turn.poll_output() {
            match output {
                Output::Transmit(message) => lane.connection.send(&message)?,
                Output::Denied(peer, code) => self.report(Report::Denied { id: self.id, peer, code }),
                // A call keeps what may still be there; nobody else takes it.
                Output::Unanswered if !self.attached => return Ok(Some(End::Silent)),
                Output::Allocated(_) | Output::Unanswered => {}
                Output::Ended(end) => return Ok(Some(end)),
            }
        }
        Ok(None)
    }
}

/// Both allocations, one after the other: the second may need the token of the first.
async fn make(settings: &Settings, local: IpAddr, even: &mut bool) -> Result<([Lane; 2], [Allocated; 2]), Failure> {
    let server = &settings.server;
    let found = dns::resolve(&server.host, server.port).await.map_err(|error| {
        tracing::debug!(%error, %server, "TURN server does not resolve");
        Failure::Unresolved
    })?;
    let fits = |server: &&SocketAddr| server.is_ipv4() == local.is_ipv4();
    let server = *found.iter().find(fits).ok_or(Failure::Unresolved)?;
    let port = if *even { Port::Even } else { Port::Any };
    let (first, one) = match lane(settings, local, server, port).await {
        // No such pair, or no such attribute: two ports of any kind do as well, for a=rtcp is written.
        Err(Failure::Turn(End::Refused(400 | 420 | 508))) if *even => {
            *even = false;
            lane(settings, local, server, Port::Any).await?
        }
        other => other?,
    };
    let (second, two) = match one.token {
        Some(token) => match lane(settings, local, server, Port::Reserved(token)).await {
            Err(Failure::Turn(End::Refused(_))) => lane(settings, local, server, Port::Any).await?,
            other => other?,
        },
        None => lane(settings, local, server, Port::Any).await?,
    };
    Ok(([first, second], [one, two]))
}

/// One of them.
async fn lane(
    settings: &Settings,
    local: IpAddr,
    server: SocketAddr,
    port: Port,
) -> Result<(Lane, Allocated), Failure> {
    let failed = |error: io::Error| {
        tracing::debug!(%error, %server, "TURN server is not reached");
        Failure::Unreachable
    };
    let connection = Connection::open(settings, SocketAddr::new(local, 0), server).await.map_err(failed)?;
    let config = turn::Config {
        credentials: settings.credentials.clone(),
        ipv6: local.is_ipv6(),
        port,
        stream: settings.server.over != Over::Udp,
        refresh: settings.refresh,
    };
    let seed = entropy::seed().map_err(failed)?;
    let turn = Turn::new(clock::now(), config, seed);
    let mut lane = Lane { connection, turn, local: None, scratch: Vec::new(), dropped: 0 };
    loop {
        while let Some(output) = lane.turn.poll_output() {
            match output {
                Output::Transmit(message) => lane.connection.send(&message).map_err(failed)?,
                Output::Allocated(allocated) => return Ok((lane, allocated)),
                Output::Denied(..) | Output::Unanswered => {}
                Output::Ended(end) => return Err(Failure::Turn(end)),
            }
        }
        lane.wait().await.map_err(failed)?;
    }
}

impl Lane {
    fn attach(&mut self, local: std::os::unix::net::UnixDatagram) -> io::Result<()> {
        self.local = Some(UnixDatagram::from_std(local)?);
        Ok(())
    }

    /// One thing: something from the server, something from the worker, or a deadline.
    async fn wait(&mut self) -> io::Result<()> {
        let due = self
            .turn
            .poll_timeout()
            .map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(clock::now()));
        let local = self.local.as_ref();
        let outgoing = async {
            match local {
                Some(local) => local.readable().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = self.connection.ready() => {
                ready?;
                self.take_server(clock::now())
            }
            ready = outgoing => {
                ready?;
                self.take_worker(clock::now());
                Ok(())
            }
            () = tokio::time::sleep(due) => {
                self.turn.handle_timeout(clock::now());
                Ok(())
            }
        }
    }

    fn take_server(&mut self, now: Instant) -> io::Result<()> {
        let Self { connection, turn, local, dropped, .. } = self;
        connection.take(|message| match turn.receive(message) {
            Some((peer, payload)) => {
                // Before a worker is there, nobody wants it.
                if let Some(local) = local {
                    *dropped += u64::from(send(local.as_fd(), peer, payload).is_err());
                }
            }
            None => turn.handle_input(now, Input::Received(message)),
        })
    }

    fn take_worker(&mut self, now: Instant) {
        let Some(local) = &self.local else { return };
        let mut packet = [0; ROOM];
        for _ in 0..BITE {
            let Ok(count) = local.try_recv(&mut packet) else { break };
            let Some((header, payload)) = packet[..count].split_first_chunk::<HEADER>() else { continue };
            self.scratch.clear();
            let sent = self.turn.send(now, decode(*header), payload, &mut self.scratch)
                && self.connection.send_media(&self.scratch);
            self.dropped += u64::from(!sent);
        }
    }

    /// Gives the allocation back.
    async fn leave(&mut self) {
        self.local = None;
        self.turn.handle_input(clock::now(), Input::Close);
        loop {
            while let Some(output) = self.turn.poll_output() {
                match output {
                    Output::Transmit(message) => {
                        if self.connection.send(&message).is_err() {
                            return;
                        }
                    }
                    Output::Ended(_) => return,
                    Output::Allocated(_) | Output::Denied(..) | Output::Unanswered => {}
                }
            }
            if self.wait().await.is_err() {
                return;
            }
        }
    }
}
