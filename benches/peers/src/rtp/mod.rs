//! RTP load: sessions of two phones that both send 20 ms of G.711, each from an address and port of its own.
//!
//! Packets of all sessions are spread evenly over the 20 ms. Each carries when it was sent; the kernel says when it came.

mod frame;
mod ng;
mod tap;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use frame::Frame;
use tap::{BATCH, Tap};

use crate::options::{Options, parsed};
use crate::reply::{Delays, Reply};
use crate::sip::{self, Ends, media_at};
use crate::{Told, clock};

/// Time between two packets of a leg.
const INTERVAL: u64 = 20_000_000;
/// Time between two looks at what is due and what has come.
const STEP: u64 = 100_000;
/// Longer than this no phone is held up: the load itself was.
const HELD: u64 = 500_000;
/// Frames with one stamp: it is older than the last of them leaves by as much as they take.
const STAMPED: usize = BATCH / 8;
/// How long after the last packet others may still come.
const DRAIN: u64 = 300_000_000;
/// Calls a second while sessions are set up.
const RATE: u64 = 400;
const USERS: usize = 256;

/// How sessions come about.
enum Way {
    /// By calls through a SIP proxy.
    Sip(Box<sip::Load>),
    /// By rtpengine's own protocol.
    Ng(std::net::UdpSocket),
    /// The relay's ports are known: from this one up, one a leg.
    Ports(SocketAddrV4),
    /// There is no relay.
    Direct,
}

/// One end of a session.
struct Leg {
    own: SocketAddrV4,
    sent: u32,
    received: u32,
}

/// All sessions; legs 2i and 2i + 1 belong together.
pub(crate) struct Load {
    way: Way,
    tap: Tap,
    macs: [[u8; 6]; 2],
    first: [Ipv4Addr; 2],
    legs: Vec<Leg>,
    frames: Vec<Frame>,
}

impl Load {
    /// `--via sip|ng|ports|direct --to ADDRESS:PORT --out INTERFACE --in INTERFACE --mac OWN --peer-mac OTHER`, and what
    /// the SIP load takes.
    pub(crate) fn new(options: &Options) -> io::Result<Self> {
        clock::exact();
        let mut way = match options.must::<String>("via")?.as_str() {
            "sip" => Way::Sip(Box::new(sip::Load::new(options)?)),
            "ng" => Way::Ng(ng::control(options.must("to")?)?),
            "ports" => Way::Ports(options.must("to")?),
            "direct" => Way::Direct,
            other => return Err(io::Error::other(format!("--via {other}?"))),
        };
        if let Way::Sip(phones) = &mut way {
            phones.enrol(500, USERS)?;
        }
        Ok(Self {
            way,
            tap: Tap::open(&options.must::<String>("out")?, &options.must::<String>("in")?)?,
            macs: [mac(&options.must::<String>("mac")?)?, mac(&options.must::<String>("peer-mac")?)?],
            first: [options.must("callers")?, options.must("called")?],
            legs: Vec::new(),
            frames: Vec::new(),
        })
    }

    /// More sessions, until there are `wanted`.
    fn set_up(&mut self, wanted: usize) -> io::Result<String> {
        let have = self.legs.len() / 2;
        let more = have..wanted.max(have);
        let began = clock::now();
        let own = |number| self.first.map(|first| media_at(first, number));
        let ends: Vec<Ends> = match &mut self.way {
            Way::Sip(phones) => phones.establish(RATE, more.len())?,
            Way::Ng(control) => more.map(|at| ng::set_up(control, at, own(at))).collect::<io::Result<_>>()?,
            Way::Ports(relay) => {
                let port = |leg: usize| SocketAddrV4::new(*relay.ip(), relay.port() + u16::try_from(leg).unwrap_or(0));
                more.map(|at| Ends { own: own(at), to: [port(at * 2), port(at * 2 + 1)] }).collect()
            }
            Way::Direct => more.map(|at| Ends { own: own(at), to: [own(at)[1], own(at)[0]] }).collect(),
        };
        for Ends { own, to } in ends {
            for (own, to) in own.into_iter().zip(to) {
                let leg = u32::try_from(self.legs.len()).expect("legs are counted in u32");
                self.frames.push(Frame::new(self.macs, own, to, leg));
                self.legs.push(Leg { own, sent: 0, received: 0 });
            }
        }
        Ok(Reply::default().with("sessions", self.legs.len() / 2).with("elapsed_ns", clock::now() - began).done())
    }

    /// All sessions speak for so many milliseconds.
    fn stream(&mut self, duration_ms: u64) -> io::Result<String> {
        let legs = self.legs.len();
        let mut seen = Seen::default();
        for leg in &mut self.legs {
            (leg.sent, leg.received) = (0, 0);
        }
        let begin = clock::now();
        let end = begin + duration_ms * 1_000_000;
        let (mut sent, mut late, mut missed, mut due_at) = (0_u64, 0, 0, begin);
        while due_at < end {
            clock::sleep_until(due_at + STEP);
            let now = clock::now();
            let held = now.saturating_sub(due_at + STEP);
            late = late.max(held);
            // One phone that was held up catches up at once. All of them were never held up together: their clocks stood still.
            missed += held.saturating_sub(HELD);
            due_at = now;
            let due = (due_at - begin - missed) * legs as u64 / INTERVAL;
            while sent < due {
                let from = usize::try_from(sent % legs as u64).expect("an index");
                let count = usize::try_from(due - sent).unwrap_or(STAMPED).min(STAMPED).min(legs - from);
                let now = clock::now();
                for at in from..from + count {
                    self.frames[at].next(now);
                    self.legs[at].sent += 1;
                }
                self.tap.send(&self.frames[from..from + count])?;
                sent += count as u64;
            }
            self.hear(begin, &mut seen);
        }
        let took = clock::now() - begin;
        while clock::now() < begin + took + DRAIN {
            clock::sleep_until(clock::now() + STEP);
            self.hear(begin, &mut seen);
        }
        let received: u64 = self.legs.iter().map(|leg| u64::from(leg.received)).sum();
        let shares =
            self.legs.iter().filter(|leg| leg.sent > 0).map(|leg| f64::from(leg.received) / f64::from(leg.sent));
        let (least, most) = shares.fold((f64::MAX, 0_f64), |(least, most), share| (least.min(share), most.max(share)));
        Ok(Reply::default()
            .with("sent", sent)
            .with("received", received)
            .with("astray", seen.astray)
            .with("share_min", format!("{least:.4}"))
            .with("share_max", format!("{most:.4}"))
            .with("late_us", late / 1000)
            .with("missed_us", missed / 1000)
            .with("elapsed_ns", took)
            .with("drained_ns", clock::now() - begin - took)
            .with_delays("delay", &mut seen.delays)
            .done())
    }

    fn hear(&mut self, begin: u64, seen: &mut Seen) {
        let Self { tap, legs, .. } = self;
        tap.receive(|bytes, at| {
            let Some((to, sent, from)) = frame::read(bytes) else { return };
            if sent < begin {
                return;
            }
            match legs.get_mut(from ^ 1) {
                // Counted for who sent it: what share of its packets came through.
                Some(leg) if leg.own == to => legs[from].received += 1,
                Some(_) | None => seen.astray += 1,
            }
            seen.delays.add(sent, at);
        });
    }
}

/// What came while all spoke.
#[derive(Default)]
struct Seen {
    delays: Delays,
    /// Packets that came where they do not belong.
    astray: u64,
}

impl Told for Load {
    fn obey(&mut self, words: &[&str]) -> io::Result<String> {
        match *words {
            ["sessions", count] => self.set_up(parsed(count)?),
            ["stream", ms] => self.stream(parsed(ms)?),
            _ => Err(io::Error::other(format!("no such command: {words:?}"))),
        }
    }

    fn rest(&mut self) -> io::Result<()> {
        match &mut self.way {
            Way::Sip(phones) => phones.rest(),
            Way::Ng(_) | Way::Ports(_) | Way::Direct => Ok(()),
        }
    }
}

fn mac(text: &str) -> io::Result<[u8; 6]> {
    let parts: Vec<u8> = text.split(':').filter_map(|part| u8::from_str_radix(part, 16).ok()).collect();
    parts.try_into().map_err(|_| io::Error::other(format!("{text} is no MAC address")))
}
