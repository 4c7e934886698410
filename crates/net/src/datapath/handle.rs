//! The signalling thread's end of a worker: where orders are put, and how the
//! thread is woken and joined.
//!
//! Orders lie until [`WorkerHandle::deliver`] is called: waking a thread costs more than most
//! orders, and on a machine that has little else to do it takes the core from whoever wakes it.
//! Putting one never blocks and never fails for want of room, so a Close
//! is never lost: the queue has no bound of its own. What bounds it is
//! admission. [`WorkerHandle::has_room`] is asked before a call is let in, and
//! [`WorkerHandle::open`] refuses above the limit; every other order belongs
//! to a stream that was admitted.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use media::{Command, Relay};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::ebpf::{Kernel, Offload};
use super::epoll::{Backend, MOST_STREAMS};
use super::worker::Worker;
use super::{Order, Priority, Report, StreamSockets};
use crate::dscp::Marks;
use crate::poll::Waker;

/// Orders that a worker may be behind before it counts as full. A worker
/// drains its queue after every batch, so this many mean that it hangs.
const BEHIND: u32 = 4096;

/// One worker, as the signalling thread sees it. Dropping it stops the thread
/// and waits for its end.
#[derive(Debug)]
pub struct WorkerHandle {
    worker: u8,
    streams: u32,
    orders: UnboundedSender<Order>,
    shared: Arc<Shared>,
    kernel: Option<Arc<Kernel>>,
    /// Orders were put since the last delivery.
    put: Cell<bool>,
    thread: Option<JoinHandle<()>>,
}

/// An order that was not put, given back whole.
#[derive(Debug)]
pub struct Undelivered {
    /// The `Command::Open`.
    pub command: Command,
    /// Its sockets, to be rested.
    pub sockets: StreamSockets,
}

/// What a worker's sockets did that its relay cannot see; since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets longer than the room for them, dropped.
    pub truncated: u64,
    /// Packets that the kernel refused to send, dropped.
    pub unsent: u64,
    /// Failed receive calls: ICMP errors for something sent earlier.
    pub receive_errors: u64,
    /// Packets that the kernel forwarded by itself, as far as is known.
    pub kernel: u64,
}

impl WorkerHandle {
    pub(super) fn spawn(
        worker: u8,
        relay: Relay,
        streams: u32,
        marks: Marks,
        priority: Priority,
        kernel: Option<Arc<Kernel>>,
        reports: UnboundedSender<Report>,
    ) -> io::Result<Self> {
        let (orders, queue) = unbounded_channel();
        let shared = Arc::new(Shared::new()?);
        let backend = Backend::new(Arc::clone(&shared), marks)?;
        let offload = kernel.clone().map(|kernel| Offload::new(kernel, worker, Arc::clone(&shared)));
        let inbox = Inbox { queue, shared: Arc::clone(&shared) };
        let thread = Builder::new()
            .name(format!("media-{worker}"))
            .spawn(move || Worker::new(worker, relay, backend, offload, inbox, reports).run(priority))?;
        let (streams, put) = (streams.min(MOST_STREAMS), Cell::new(false));
        Ok(Self { worker, streams, orders, shared, kernel, put, thread: Some(thread) })
    }

    /// Its number, as in `StreamId`.
    pub fn worker(&self) -> u8 {
        self.worker
    }

    /// Does it have the kernel forward what can be forwarded there?
    pub fn in_kernel(&self) -> bool {
        self.kernel.is_some()
    }

    /// May a call be let in whose streams would go here?
    pub fn has_room(&self) -> bool {
        self.shared.streams.load(Ordering::Relaxed) < self.streams
            && self.shared.behind.load(Ordering::Relaxed) < BEHIND
    }

    /// Streams that it has or is about to have.
    pub fn streams(&self) -> u32 {
        self.shared.streams.load(Ordering::Relaxed)
    }

    /// What its sockets did.
    pub fn counts(&self) -> Counts {
        self.shared.counts.read()
    }

    /// Starts a stream: `command` is its `Command::Open`. Gives both back when
    /// the worker is full or its thread has ended.
    pub fn open(&self, command: Command, sockets: StreamSockets) -> Result<(), Box<Undelivered>> {
        if !self.has_room() {
            return Err(Box::new(Undelivered { command, sockets }));
        }
        self.shared.streams.fetch_add(1, Ordering::Relaxed);
        let Err(Order::Open { command, sockets }) = self.put(Order::Open { command, sockets }) else { return Ok(()) };
        self.shared.streams.fetch_sub(1, Ordering::Relaxed);
        Err(Box::new(Undelivered { command, sockets }))
    }

    /// Tells the relay anything but an Open. False when the thread has ended,
    /// and with it the stream.
    pub fn tell(&self, command: Command) -> bool {
        self.put(Order::Relay(command)).is_ok()
    }

    /// Has the thread begin with the orders that were put since this was last called.
    pub fn deliver(&self) {
        if self.put.take() {
            self.shared.wake();
        }
    }

    /// Stops the thread after the orders that it has, and waits for its end.
    pub fn stop(self) {
        drop(self);
    }

    fn put(&self, order: Order) -> Result<(), Order> {
        // What is sent after an order must not meet the kernel's rules of before, though a worker has yet to obey.
        if let Some(kernel) = &self.kernel {
            order.streams().for_each(|stream| kernel.give(self.worker, stream.slot));
        }
        self.shared.behind.fetch_add(1, Ordering::Relaxed);
        let put = self.orders.send(order).map_err(|unsent| unsent.0);
        match put {
            Ok(()) => self.put.set(true),
            Err(_) => drop(self.shared.behind.fetch_sub(1, Ordering::Relaxed)),
        }
        put
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        // Refused only when the thread has ended, which is what is wanted.
        let _stopped = self.put(Order::Stop);
        self.deliver();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(worker = self.worker, "worker panicked");
        }
    }
}

/// The worker's end.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: UnboundedReceiver<Order>,
    shared: Arc<Shared>,
}

impl Inbox {
    /// Before draining: orders put from here on wake the thread again.
    pub(super) fn open(&self) {
        self.shared.awake.swap(false, Ordering::SeqCst);
    }

    /// The next order, if there is one. A lost handle is an order to stop.
    pub(super) fn take(&mut self) -> Option<Order> {
        match self.queue.try_recv() {
            Ok(order) => {
                self.shared.behind.fetch_sub(1, Ordering::Relaxed);
                Some(order)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Order::Stop),
        }
    }

    /// A stream's sockets are on their way back.
    pub(super) fn closed(&self) {
        self.shared.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What both ends touch.
#[derive(Debug)]
pub(super) struct Shared {
    /// Ends the worker's wait.
    pub(super) waker: Waker,
    /// What the worker's sockets did.
    pub(super) counts: AtomicCounts,
    /// The waker has been signalled and the queue not been drained since.
    awake: AtomicBool,
    /// Orders put and not taken.
    behind: AtomicU32,
    /// Streams whose sockets are with the worker or on their way to it.
    streams: AtomicU32,
}

impl Shared {
    /// Nothing put, nothing open.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new()?,
            counts: AtomicCounts::default(),
            awake: AtomicBool::new(false),
            behind: AtomicU32::new(0),
            streams: AtomicU32::new(0),
        })
    }

    /// One system call per drained queue, not per order.
    fn wake(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }
}

/// [`Counts`], written by the worker only.
#[derive(Debug, Default)]
pub(super) struct AtomicCounts {
    pub(super) truncated: AtomicU64,
    pub(super) unsent: AtomicU64,
    pub(super) receive_errors: AtomicU64,
    pub(super) kernel: AtomicU64,
}

impl AtomicCounts {
    fn read(&self) -> Counts {
        Counts {
            truncated: self.truncated.load(Ordering::Relaxed),
            unsent: self.unsent.load(Ordering::Relaxed),
            receive_errors: self.receive_errors.load(Ordering::Relaxed),
            kernel: self.kernel.load(Ordering::Relaxed),
        }
    }
}
