//! One leg of a splice: how its connection comes about, and which one it is.
//!
//! One at a time: another one from an allowed source replaces nothing while the
//! first lives. While its peer has been asked to connect and has not answered yet, a few
//! are kept unread, since a peer connects as it answers, and TCP may be faster than SIP.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use media::{Part, SpliceCounts, SpliceLeg};
use tokio::io::duplex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::time::{Sleep, sleep, timeout};

use super::link::{Link, ROOM};
use super::{Means, Order};
use crate::dscp::Dscp;
use crate::sockopt;

/// How long TCP may take to connect.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before a port is asked for again, and before the system is asked again for what it has none of.
const PAUSE: Duration = Duration::from_secs(1);
/// Connections that are kept until it is known who may connect.
const WAITING: usize = 4;
/// Connections taken in a turn; others have theirs, too.
const ACCEPTS: usize = 16;

type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// One leg.
#[derive(Default)]
pub(super) struct Leg {
    plan: Option<SpliceLeg>,
    face: Option<WeakUnboundedSender<Order>>,
    mark: Dscp,
    listener: Option<TcpListener>,
    pause: Option<Pin<Box<Sleep>>>,
    dial: Option<Dial>,
    /// We have tried to connect, in this turn.
    dialled: bool,
    /// A splice has ended, in this turn.
    pub(super) spent: bool,
    pub(super) link: Option<Link>,
    /// Accepted in this turn.
    arrived: VecDeque<Link>,
    waiting: VecDeque<Link>,
    pub(super) counts: SpliceCounts,
}

impl Leg {
    pub(super) fn plan(&self) -> Option<&SpliceLeg> {
        self.plan.as_ref()
    }

    /// This is to be; `asked`: its peer has been asked to connect.
    pub(super) fn follow(&mut self, plan: SpliceLeg, means: Means, asked: bool) {
        let before = self.plan.replace(plan).map(|plan| plan.part);
        let part = self.part();
        (self.face, self.mark) = (means.face, means.mark);
        if let Some(Ok(listener)) = means.listener.map(TcpListener::from_std) {
            (self.listener, self.pause) = (Some(listener), None);
        }
        if before != Some(part) {
            self.dial = None;
        }
        if part != Part::Listen {
            (self.listener, self.pause) = (None, None);
        }
        if part == Part::Shut {
            self.link = None;
        }
        self.judge(asked);
    }

    /// What was connected ends, or has ended: there may be another connection.
    pub(super) fn renew(&mut self, anew: bool) {
        if anew {
            (self.link, self.dial) = (None, None);
        }
        self.spent = false;
        self.dialled &= self.link.is_some() || self.dial.is_some();
    }

    /// Is the peer that is connected one that may not be?
    pub(super) fn is_stranger(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !self.admits(link.from))
    }

    /// Takes in who connects, to be judged by [`poll`](Self::poll). True if anybody did.
    pub(super) fn poll_arrivals(&mut self, cx: &mut Context<'_>) -> bool {
        self.start();
        self.poll_accept(cx);
        !self.arrived.is_empty()
    }

    /// Does what the plan asks for, as far as that can be done now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, asked: bool) {
        if self.link.is_none() && !self.waiting.is_empty() {
            self.judge(asked);
        }
        for link in std::mem::take(&mut self.arrived) {
            self.take(link, asked);
        }
        if let Some(dial) = &mut self.dial
            && let Poll::Ready(dialled) = dial.as_mut().poll(cx)
        {
            self.dial = None;
            match dialled {
                Ok(stream) if self.is_free() => {
                    self.counts.dialled += 1;
                    let from = stream.peer_addr().ok().map(|remote| remote.ip());
                    self.link = Some(Link::new(stream, from));
                }
                // The peer was faster.
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "no connection for TCP media");
                    self.counts.failed += 1;
                }
            }
        }
    }

    /// Takes a connection in, or keeps it until it is known who may connect, or ends it.
    pub(super) fn take(&mut self, link: Link, asked: bool) {
        let admitted = self.admits(link.from);
        if admitted && self.is_free() {
            self.counts.accepted += 1;
            self.link = Some(link);
        } else if asked {
            self.waiting.push_back(link);
            if self.waiting.len() > WAITING
                && let Some(oldest) = self.waiting.pop_front()
            {
                self.refuse(oldest);
            }
        } else {
            self.refuse(link);
        }
    }

    fn refuse(&mut self, link: Link) {
        match self.admits(link.from) {
            true => self.counts.busy += 1,
            false => self.counts.refused += 1,
        }
    }

    /// Those that have waited.
    fn judge(&mut self, asked: bool) {
        for link in std::mem::take(&mut self.waiting) {
            self.take(link, asked);
        }
    }

    fn part(&self) -> Part {
        self.plan.as_ref().map_or(Part::Rest, |plan| plan.part)
    }

    fn admits(&self, from: Option<IpAddr>) -> bool {
        self.plan.as_ref().is_some_and(|plan| from.is_none_or(|ip| plan.sources.admit(ip)))
    }

    fn is_free(&self) -> bool {
        self.link.is_none() && !self.spent && self.part() != Part::Shut
    }

    fn start(&mut self) {
        let Some(SpliceLeg { at, part, .. }) = self.plan else { return };
        match part {
            Part::Listen if self.listener.is_none() && self.pause.is_none() => {
                match sockopt::listen_tcp(at, self.mark).and_then(TcpListener::from_std) {
                    Ok(listener) => self.listener = Some(listener),
                    Err(error) => {
                        tracing::debug!(%at, %error, "no port for TCP media; asked again");
                        self.counts.unbound += 1;
                        self.pause = Some(Box::pin(sleep(PAUSE)));
                    }
                }
            }
            Part::Dial(to) if !self.dialled && self.is_free() => {
                self.dialled = true;
                self.dial = Some(Box::pin(connect(at, to, self.mark)));
            }
            Part::Face(_, end) if !self.dialled && self.is_free() => {
                self.dialled = true;
                let (near, far) = duplex(ROOM);
                let faced = self.face.as_ref().and_then(WeakUnboundedSender::upgrade);
                if faced.is_some_and(|orders| orders.send(Order::Join(end, far)).is_ok()) {
                    self.counts.dialled += 1;
                    self.link = Some(Link::new(near, None));
                } else {
                    self.counts.failed += 1;
                }
            }
            Part::Listen | Part::Dial(_) | Part::Face(..) | Part::Rest | Part::Shut => {}
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) {
        // Another one may begin as one ends, and each must wake us.
        while let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return;
            }
            self.pause = None;
            self.start();
        }
        while self.arrived.len() < ACCEPTS {
            let Some(listener) = &self.listener else { return };
            match listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, from))) => self.arrived.push_back(Link::new(stream, Some(from.ip()))),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a connection for TCP media was not accepted");
                    self.counts.failed += 1;
                    let mut pause = Box::pin(sleep(PAUSE));
                    // Pending, so that it wakes us.
                    let _ = pause.as_mut().poll(cx);
                    self.pause = Some(pause);
                    return;
                }
                Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }
}

async fn connect(from: SocketAddr, to: SocketAddr, mark: Dscp) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(sockopt::from_tcp(from, mark)?);
    timeout(PATIENCE, socket.connect(to)).await.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()))
}
