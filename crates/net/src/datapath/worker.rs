//! The worker's loop: receive a batch, **then** drain the orders, **then**
//! judge the batch. An Open is put before its SDP leaves, so a packet that
//! answers this SDP is never judged before the Open is known.
//!
//! One mutation of the relay, then its outputs are drained to empty, then the
//! next. Must not decide anything; must not wait for anything but epoll.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use media::relay::Output;
use media::{Command, Fact, Relay, StreamId};
use tokio::sync::mpsc::UnboundedSender;

use super::ebpf::Offload;
use super::epoll::Backend;
use super::handle::Inbox;
use super::realtime::Realtime;
use super::{Order, Priority, Report, StreamSockets};
use crate::clock;

/// Time between two looks at deadlines that no packet brings about: each is a timer and a waking up.
const GRAIN: Duration = Duration::from_millis(8);

/// All that one media thread owns.
#[derive(Debug)]
pub(super) struct Worker {
    worker: u8,
    relay: Relay,
    backend: Backend,
    /// What is in the kernel.
    offload: Option<Offload>,
    inbox: Inbox,
    reports: UnboundedSender<Report>,
}

impl Worker {
    /// Ready to [`run`](Self::run) on a thread of its own.
    pub(super) fn new(
        worker: u8,
        relay: Relay,
        backend: Backend,
        offload: Option<Offload>,
        inbox: Inbox,
        reports: UnboundedSender<Report>,
    ) -> Self {
        Self { worker, relay, backend, offload, inbox, reports }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self, priority: Priority) {
        let mut realtime = Realtime::begin(self.worker, priority == Priority::Realtime);
        let mut served = clock::now();
        loop {
            let deadline = self.relay.poll_timeout().map(|at| at.max(served + GRAIN));
            if let Err(error) = self.backend.wait(deadline) {
                tracing::error!(%error, worker = self.worker, "media worker cannot wait for packets");
                break;
            }
            self.backend.receive();
            let now = clock::now();
            if self.take_orders(now).is_break() {
                break;
            }
            let relay = &mut self.relay;
            relay.arrive(now);
            match &mut self.offload {
                None => self.backend.judge(|on, from, packet| relay.forward(now, on, from, packet)),
                Some(offload) => self.backend.judge(|on, from, packet| {
                    offload.before(relay, on, from, packet);
                    let verdict = relay.forward(now, on, from, packet);
                    // Nothing may pass the old way once somebody has an answer to this packet.
                    if relay.unsettled() {
                        offload.recall(relay, on.stream());
                    }
                    verdict
                }),
            }
            self.carry_out();
            if self.relay.poll_timeout().is_some_and(|at| at <= now) {
                served = now;
                let offload = &mut self.offload;
                self.relay.handle_timeout_after(now, |relay, stream| {
                    if let Some(offload) = offload {
                        offload.look_at(relay, stream.slot);
                    }
                });
                self.carry_out();
            }
            if let Some(offload) = &mut self.offload {
                offload.after(&self.relay, &self.backend);
            }
            realtime.round(now);
        }
    }

    fn take_orders(&mut self, now: Instant) -> ControlFlow<()> {
        self.inbox.open();
        while let Some(order) = self.inbox.take() {
            match order {
                Order::Open { command, sockets } => self.open(now, command, sockets),
                Order::Relay(command) => {
                    if let Command::Formats { stream, formats } = &command {
                        self.backend.mark(*stream, formats.video);
                    }
                    self.recall(&command);
                    self.relay.handle_input(now, command);
                    self.carry_out();
                }
                Order::Stop => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }

    fn open(&mut self, now: Instant, command: Command, sockets: StreamSockets) {
        self.recall(&command);
        let Command::Open { stream, .. } = &command else {
            // Sockets without a stream have nowhere to go; the order itself may still mean something.
            tracing::error!(worker = self.worker, "sockets came with a command that opens nothing");
            self.inbox.closed();
            self.relay.handle_input(now, command);
            return self.carry_out();
        };
        let stream = *stream;
        match self.backend.attach(stream, sockets) {
            Ok(()) => {
                self.relay.handle_input(now, command);
                self.carry_out();
            }
            Err(sockets) => {
                tracing::error!(worker = self.worker, ?stream, "stream cannot be opened");
                self.inbox.closed();
                self.report(Report::Sockets { stream, sockets: *sockets, used: [true; 2] });
                self.report(Report::Fact { worker: self.worker, fact: Fact::Failed { stream } });
            }
        }
    }

    /// Before a command is obeyed, the relay knows all that passed, and nothing passes any more.
    fn recall(&mut self, command: &Command) {
        let Some(offload) = &mut self.offload else { return };
        for stream in command.streams() {
            offload.obey(stream.slot);
            offload.recall(&mut self.relay, stream.slot);
        }
    }

    /// Does what the relay wants done, until it wants nothing more.
    fn carry_out(&mut self) {
        while let Some(output) = self.relay.poll_output() {
            match output {
                Output::Transmit { via, to, packet: (bytes, len) } => {
                    self.backend.send(via, to, bytes.get(..usize::from(len)).unwrap_or(&bytes));
                }
                Output::Hold(hold) => {
                    if let Some(offload) = &mut self.offload {
                        offload.hold(hold);
                    }
                }
                Output::Free { on } => {
                    if let Some(offload) = &mut self.offload {
                        offload.free(&mut self.relay, on);
                    }
                }
                Output::Release { slot } => self.release(|_| true, slot, false),
                Output::Fact(fact) => {
                    // The relay has refused this stream and has nothing to release.
                    if let Fact::Failed { stream } = fact {
                        self.release(|attached| attached == stream, stream.slot, true);
                    }
                    self.report(Report::Fact { worker: self.worker, fact });
                }
            }
        }
    }

    /// Sends the sockets of a slot up, if it has any and they are the stream's
    /// that is meant. After a failure they rest in any case, as the port plan assumes.
    fn release(&mut self, meant: impl FnOnce(StreamId) -> bool, slot: u32, failed: bool) {
        if let Some(detached) = self.backend.detach(slot, meant) {
            self.inbox.closed();
            let used = detached.used.map(|used| used || failed);
            self.report(Report::Sockets { stream: detached.stream, sockets: detached.sockets, used });
        }
    }

    fn report(&self, report: Report) {
        // Nobody listens any more: the program ends, and so will this thread.
        let _unheard = self.reports.send(report);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.report(Report::Stopped { worker: self.worker });
    }
}
