//! Packets both ways on a few streams, and how many of them arrive octet for octet.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RTP.
    Audio,
    /// RTP.
    Video,
    /// T.38 over UDPTL.
    Fax,
}

/// Packets each way of one measurement, and the time between two: 300 ms.
const PACKETS: u16 = 15;
const STEP: Duration = Duration::from_millis(20);
/// What is on its way arrives within this time.
const LATE: Duration = Duration::from_millis(400);

/// The sockets of one end: one for each kind of stream.
#[derive(Debug)]
pub struct Sockets {
    sockets: [UdpSocket; 3],
    sent: [u16; 3],
    number: u8,
}

impl Sockets {
    /// At this address; `number` tells its packets from those of others.
    pub fn new(ip: IpAddr, number: u8) -> Self {
        let socket = |_| {
            let socket = UdpSocket::bind((ip, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Self { sockets: [0, 1, 2].map(socket), sent: [0; 3], number }
    }

    /// The address of all of them.
    pub fn ip(&self) -> IpAddr {
        self.sockets[0].local_addr().unwrap().ip()
    }

    /// Where packets of that kind come in.
    pub fn port(&self, kind: Kind) -> u16 {
        self.sockets[kind as usize].local_addr().unwrap().port()
    }

    /// Sends the next packet of that kind; returns it.
    pub fn send(&mut self, kind: Kind, to: SocketAddr) -> Vec<u8> {
        let sequence = self.sent[kind as usize];
        self.sent[kind as usize] += 1;
        let [high, low] = sequence.to_be_bytes();
        let mut packet = match kind {
            Kind::Audio | Kind::Video => {
                let ticks = (u32::from(sequence) * 160).to_be_bytes();
                let mut packet = vec![0x80, if kind == Kind::Audio { 0 } else { 97 }, high, low];
                packet.extend(ticks);
                packet.extend([0, kind as u8, 0x51, self.number]);
                packet
            }
            // UDPTL: sequence number, then a field with its length (ITU-T T.38 §9.1).
            Kind::Fax => vec![high, low, 40],
        };
        packet.extend([self.number ^ 0x55; 40]);
        self.sockets[kind as usize].send_to(&packet, to).unwrap();
        packet
    }

    /// All that came on any socket; STUN opens pinholes and is no sound (RFC 7983).
    pub fn heard(&self) -> Vec<(Kind, Vec<u8>)> {
        let (mut all, mut room) = (Vec::new(), [0; 2048]);
        for kind in [Kind::Audio, Kind::Video, Kind::Fax] {
            while let Ok((length, _)) = self.sockets[kind as usize].recv_from(&mut room) {
                let packet = &room[..length];
                if packet.get(4..8) != Some(&[0x21, 0x12, 0xa4, 0x42]) {
                    all.push((kind, packet.to_vec()));
                }
            }
        }
        all
    }
}

/// Which way packets of a kind go: from either end to this address, or not at all.
pub type Ways = [Option<SocketAddr>; 2];

/// Sends on each stream both ways; the share that arrives at its socket of the
/// other end, of the worst stream: from end 0 to end 1, and back. One that goes
/// no way counts as whole.
///
/// # Errors
/// A packet that came and belongs to none of the streams.
pub fn exchange(ends: [&mut Sockets; 2], streams: &[(Kind, Ways)]) -> Result<[f64; 2], String> {
    let [a, b] = ends;
    // What was on its way before belongs to another measurement.
    drop([a.heard(), b.heard()]);
    let mut wanted: Vec<[HashSet<Vec<u8>>; 2]> = streams.iter().map(|_| Default::default()).collect();
    let mut due = Instant::now();
    let mut missing = 0;
    let heard = |wanted: &mut Vec<[HashSet<Vec<u8>>; 2]>, a: &Sockets, b: &Sockets| {
        for (way, packets) in [b.heard(), a.heard()].into_iter().enumerate() {
            for (kind, packet) in packets {
                let at = streams.iter().position(|(k, _)| *k == kind);
                if !at.is_some_and(|at| wanted[at][way].remove(&packet)) {
                    return Err(format!("a packet on {kind:?} that nobody sent there: {packet:?}"));
                }
            }
        }
        Ok(())
    };
    for _ in 0..PACKETS {
        for ((kind, ways), wanted) in streams.iter().zip(&mut wanted) {
            if let Some(to) = ways[0] {
                wanted[0].insert(a.send(*kind, to));
            }
            if let Some(to) = ways[1] {
                wanted[1].insert(b.send(*kind, to));
            }
        }
        heard(&mut wanted, a, b)?;
        due += STEP;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        missing = wanted.iter().flatten().map(HashSet::len).sum();
    }
    let until = Instant::now() + LATE;
    while missing > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
        heard(&mut wanted, a, b)?;
        missing = wanted.iter().flatten().map(HashSet::len).sum();
    }
    let share = |way: usize| {
        let shares = wanted.iter().map(|wanted| 1.0 - wanted[way].len() as f64 / f64::from(PACKETS));
        shares.fold(1.0, f64::min)
    };
    Ok([share(0), share(1)])
}
