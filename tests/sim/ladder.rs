//! What happened, twice: as a hash over all datagrams, and as a ladder that a
//! person can read when a seed fails.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::clock::Time;
use crate::net::{Carrier, Lost, Packet, Step};
use crate::pcap::Capture;
use crate::sip::Msg;
use crate::stun;

/// One rung.
#[derive(Debug)]
enum Rung {
    /// SIP, STUN or a note, as text.
    Line(String),
    /// So many media packets in a row.
    Media(u64),
}

/// The record of a run.
#[derive(Debug)]
pub(crate) struct Ladder {
    hash: u64,
    pub(crate) datagrams: u64,
    rungs: VecDeque<(Time, Rung)>,
    /// How many rungs are kept.
    keep: usize,
    /// Of a whole ladder: what each receiver saw.
    pub(crate) capture: Option<Capture>,
}

/// Rungs kept for a seed that fails.
pub(crate) const SHORT: usize = 60;

impl Ladder {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            datagrams: 0,
            rungs: VecDeque::new(),
            keep,
            capture: (keep > SHORT).then(Capture::new),
        }
    }

    /// The hash over every datagram with its addresses and its time.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn mix(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    fn mix_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    /// A datagram reached a node, or was lost on the way.
    pub(crate) fn datagram(
        &mut self,
        now: Time,
        (sender, receiver): (&str, &str),
        packet: &Packet,
        lost: Option<Lost>,
    ) {
        self.datagrams += 1;
        if let Some(capture) = self.capture.as_mut().filter(|_| lost.is_none()) {
            capture.add(now, packet);
        }
        self.mix(now.as_nanos() as u64);
        for address in [packet.from, packet.to] {
            if let std::net::IpAddr::V4(ip) = address.ip() {
                self.mix(u64::from(u32::from(ip)) << 16 | u64::from(address.port()));
            }
        }
        self.mix(lost.map_or(0, |lost| lost as u64 + 1));
        self.mix_bytes(&packet.bytes);
        let step = match packet.carrier {
            Carrier::Segment(step) => Some(step),
            Carrier::Datagram | Carrier::Message { .. } => None,
        };
        if let Some(step) = step {
            self.mix(mark(step));
        }
        if is_media(&packet.bytes) {
            if let Some((_, Rung::Media(count))) = self.rungs.back_mut() {
                *count += 1;
            } else {
                self.push(now, Rung::Media(1));
            }
            return;
        }
        let mut line = format!("{sender} {} ", packet.from);
        let _ = match lost {
            None => write!(line, "──▶ {receiver} {}  ", packet.to),
            Some(lost) => write!(line, "──✗ {} [{lost:?}]  ", packet.to),
        };
        match step {
            None => line.push_str(&label(&packet.bytes)),
            Some(Step::Octets) => line += &format!("│ {}", label(&packet.bytes)),
            Some(step) => line += &format!("│ {step:?}"),
        }
        self.push(now, Rung::Line(line));
    }

    /// A whole ladder is wanted, with what happens inside siplatch.
    pub(crate) fn talkative(&self) -> bool {
        self.keep > SHORT
    }

    /// A word between the rungs.
    pub(crate) fn note(&mut self, now: Time, text: String) {
        let notes = self.rungs.iter().rev().find(|(_, rung)| matches!(rung, Rung::Line(_)));
        if notes.is_some_and(|(_, rung)| matches!(rung, Rung::Line(last) if *last == text)) {
            return;
        }
        self.push(now, Rung::Line(text));
    }

    fn push(&mut self, now: Time, rung: Rung) {
        if self.rungs.len() >= self.keep {
            self.rungs.pop_front();
        }
        self.rungs.push_back((now, rung));
    }

    /// The rungs, one a line.
    pub(crate) fn text(&self) -> String {
        self.rungs.iter().fold(String::new(), |mut text, (at, rung)| {
            let _ = match rung {
                Rung::Line(line) => writeln!(text, "{:>11.6}  {line}", at.as_secs_f64()),
                Rung::Media(count) => writeln!(text, "{:>11.6}  … {count} media packets", at.as_secs_f64()),
            };
            text
        })
    }
}

/// By first octet (RFC 7983).
pub(crate) fn is_media(bytes: &[u8]) -> bool {
    matches!(bytes, [128..=191, ..])
}

fn mark(step: Step) -> u64 {
    match step {
        Step::Ask(transport) => 10 + transport as u64,
        Step::Grant => 1,
        Step::Round => 2,
        Step::Back => 3,
        Step::Octets => 4,
        Step::End => 5,
        Step::Reset => 6,
    }
}

fn label(bytes: &[u8]) -> String {
    if let Some(msg) = Msg::parse(bytes) {
        let call: String = msg.call_id().chars().take(6).collect();
        let cseq = msg.get("cseq").unwrap_or("-");
        let sdp = if msg.body.is_empty() { "" } else { " +SDP" };
        return format!("{} [{cseq}, {call}]{sdp}", msg.start);
    }
    match bytes {
        _ if stun::is_request(bytes) => "STUN Binding request".to_owned(),
        _ if stun::is_indication(bytes) => "STUN Binding indication".to_owned(),
        b"\r\n\r\n" => "ping".to_owned(),
        b"\r\n" => "pong".to_owned(),
        [1, 1, ..] => "STUN Binding success".to_owned(),
        _ => format!("{} octets", bytes.len()),
    }
}
