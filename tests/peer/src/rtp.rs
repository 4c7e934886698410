//! Audio: RTP every 20 ms both ways, and how much of it arrives.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Packets each way that a verdict needs.
const ENOUGH: u64 = 40;
const STEP: Duration = Duration::from_millis(20);

/// What one end heard of what the other sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// Packets that the other sent.
    pub sent: u64,
    /// Of these, how many arrived, each counted once.
    pub received: u64,
    /// Packets that the other never sent.
    pub foreign: u64,
}

impl Heard {
    /// received / sent.
    pub fn continuity(&self) -> f64 {
        self.received as f64 / self.sent.max(1) as f64
    }
}

/// Both directions: what the callee heard, what the caller heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audio {
    /// Caller to callee.
    pub there: Heard,
    /// Callee to caller.
    pub back: Heard,
}

impl Audio {
    /// At least 97 % both ways, and nothing else.
    pub fn is_unharmed(&self) -> bool {
        let fine = |heard: Heard| heard.sent >= ENOUGH && heard.continuity() >= 0.97 && heard.foreign == 0;
        fine(self.there) && fine(self.back)
    }
}

impl std::fmt::Display for Audio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "call audio {:.3}/{:.3}", self.there.continuity(), self.back.continuity())
    }
}

/// One end's ear: sequence numbers of the other's SSRC from `first` on.
#[derive(Debug, Default)]
struct Ear {
    first: AtomicU16,
    counting: AtomicBool,
    any: AtomicBool,
    received: AtomicU64,
    foreign: AtomicU64,
}

/// Pumps until it is finished.
#[derive(Debug)]
pub(super) struct Pump {
    stop: Arc<AtomicBool>,
    pausing: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    ears: [Arc<Ear>; 2],
    threads: Vec<JoinHandle<()>>,
}

const SSRC: [u32; 2] = [0x00c0_ffee, 0x0bad_cafe];

impl Pump {
    /// Starts: `ends` are the two sockets with the address that each sends to. Returns once both hear each other.
    pub(super) fn start(ends: [(UdpSocket, SocketAddr); 2]) -> Self {
        let (stop, pausing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let sent = Arc::new(AtomicU64::new(0));
        let ears = [Arc::new(Ear::default()), Arc::new(Ear::default())];
        let mut threads = Vec::new();
        for (at, (socket, _)) in ends.iter().enumerate() {
            let socket = socket.try_clone().unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let (ear, stop) = (Arc::clone(&ears[at]), Arc::clone(&stop));
            threads.push(std::thread::spawn(move || listen(&socket, SSRC[1 - at], &ear, &stop)));
        }
        let heard = [Arc::clone(&ears[0]), Arc::clone(&ears[1])];
        let flags = (Arc::clone(&stop), Arc::clone(&pausing), Arc::clone(&sent));
        threads.push(std::thread::spawn(move || speak(&ends, &heard, &flags.0, &flags.1, &flags.2)));
        let pump = Self { stop, pausing, sent, ears, threads };
        let deadline = Instant::now() + Duration::from_secs(5);
        while pump.sent.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < deadline, "no audio passes: {:?}", pump.ears);
            std::thread::sleep(STEP);
        }
        pump
    }

    /// Sends on until there is enough to judge by, stops, waits for what is on
    /// its way, and says what arrived.
    pub(super) fn finish(mut self) -> Audio {
        while self.sent.load(Ordering::Relaxed) < ENOUGH {
            std::thread::sleep(STEP);
        }
        self.pausing.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(150));
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let sent = self.sent.load(Ordering::Relaxed);
        let heard = |ear: &Ear| Heard {
            sent,
            received: ear.received.load(Ordering::Relaxed),
            foreign: ear.foreign.load(Ordering::Relaxed),
        };
        Audio { there: heard(&self.ears[1]), back: heard(&self.ears[0]) }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn speak(
    ends: &[(UdpSocket, SocketAddr); 2],
    ears: &[Arc<Ear>; 2],
    stop: &AtomicBool,
    pausing: &AtomicBool,
    sent: &AtomicU64,
) {
    let mut due = Instant::now();
    let mut sequence = 1u16;
    while !stop.load(Ordering::Relaxed) {
        if !pausing.load(Ordering::Relaxed) {
            let counting = ears.iter().all(|ear| ear.any.load(Ordering::Relaxed));
            for ear in ears {
                if counting && !ear.counting.load(Ordering::Relaxed) {
                    ear.first.store(sequence, Ordering::Relaxed);
                    ear.counting.store(true, Ordering::Release);
                }
            }
            for (ssrc, (socket, to)) in SSRC.iter().zip(ends) {
                let _ = socket.send_to(&packet(*ssrc, sequence), to);
            }
            sent.fetch_add(u64::from(counting), Ordering::Relaxed);
            sequence = sequence.wrapping_add(1);
        }
        due += STEP;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn packet(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0x55; 160]);
    packet
}

fn listen(socket: &UdpSocket, ssrc: u32, ear: &Ear, stop: &AtomicBool) {
    let mut room = [0; 2048];
    let mut seen = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = socket.recv(&mut room) else { continue };
        let packet = &room[..length];
        // STUN keeps pinholes open and is no sound (RFC 7983).
        if packet.first().is_none_or(|first| *first < 4) {
            continue;
        }
        let own = length == 172 && packet[8..12] == ssrc.to_be_bytes() && packet[12..].iter().all(|o| *o == 0x55);
        if !own {
            ear.foreign.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        ear.any.store(true, Ordering::Relaxed);
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let counts = ear.counting.load(Ordering::Acquire) && sequence >= ear.first.load(Ordering::Relaxed);
        if counts && seen.insert(sequence) {
            ear.received.fetch_add(1, Ordering::Relaxed);
        }
    }
}
