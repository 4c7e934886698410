//! RTCP (RFC 3550 §6) as far as a relay that only listens reads it: the packets
//! of a compound packet, sender reports, report blocks, BYE. Of SRTCP (RFC 3711
//! §3.4) all but the first eight octets is encrypted; whoever knows that it is
//! SRTCP must not ask.

/// Packet types (§12.1).
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const BYE: u8 = 203;

/// One packet of a compound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// SR (§6.4.1).
    SenderReport {
        /// The middle 32 bits of its NTP timestamp: what a report block names it by.
        middle: u32,
        /// What its sender hears of others.
        reports: Reports<'a>,
    },
    /// RR (§6.4.2).
    ReceiverReport {
        /// What its sender hears of others.
        reports: Reports<'a>,
    },
    /// BYE (§6.6).
    Bye,
    /// SDES, APP, feedback and whatever comes later.
    Other,
}

/// Report blocks, as they stand in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reports<'a> {
    blocks: &'a [u8],
}

/// What a report block says of the way there and back (§6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// LSR: the middle 32 bits of the last sender report that was heard, 0 if none.
    pub last: u32,
    /// DLSR: how long ago that was, in 1/65536 s.
    pub delay: u32,
}

/// The packets of a compound packet, up to the first octet that is not one (A.2).
pub fn packets(compound: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        let [first, kind, l0, l1, ..] = *rest else { return None };
        let length = 4 * (usize::from(u16::from_be_bytes([l0, l1])) + 1);
        if first >> 6 != 2 || length > rest.len() {
            return None;
        }
        let (packet, after) = rest.split_at(length);
        rest = after;
        Some(read(kind, usize::from(first & 0x1f), packet))
    })
}

fn read(kind: u8, count: usize, packet: &[u8]) -> Packet<'_> {
    let reports = |from: usize| {
        let blocks = packet.get(from..).unwrap_or_default();
        Reports { blocks: &blocks[..blocks.len().min(24 * count)] }
    };
    match (kind, packet.get(10..14)) {
        (SENDER_REPORT, Some(&[m0, m1, m2, m3])) if packet.len() >= 28 => {
            Packet::SenderReport { middle: u32::from_be_bytes([m0, m1, m2, m3]), reports: reports(28) }
        }
        (RECEIVER_REPORT, _) => Packet::ReceiverReport { reports: reports(8) },
        (BYE, _) => Packet::Bye,
        _ => Packet::Other,
    }
}

impl Iterator for Reports<'_> {
    type Item = Report;

    fn next(&mut self) -> Option<Report> {
        let (block, after) = self.blocks.split_at_checked(24)?;
        self.blocks = after;
        let word = |at: usize| Some(u32::from_be_bytes(block.get(at..at + 4)?.try_into().ok()?));
        Some(Report { last: word(16)?, delay: word(20)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(last: u32, delay: u32) -> Vec<u8> {
        let mut block = vec![0; 16];
        block.extend(last.to_be_bytes());
        block.extend(delay.to_be_bytes());
        block
    }

    fn packet(kind: u8, count: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80 | count, kind];
        packet.extend(u16::try_from(body.len() / 4).unwrap().to_be_bytes());
        packet.extend(body);
        packet
    }

    #[test]
    fn a_compound_packet_is_read_packet_by_packet() {
        let mut sender = vec![0, 0, 0, 7];
        sender.extend([0xaa, 0xbb, 0x11, 0x22, 0x33, 0x44, 0xcc, 0xdd]);
        sender.extend([0; 12]);
        sender.extend(block(5, 6));
        sender.extend(block(7, 8));
        let mut compound = packet(200, 2, &sender);
        compound.extend(packet(202, 1, &[0; 12]));
        compound.extend(packet(201, 1, &[&[0, 0, 0, 9], &block(1, 65_536)[..]].concat()));
        compound.extend(packet(203, 1, &[0, 0, 0, 7]));
        let mut found = packets(&compound);
        let Some(Packet::SenderReport { middle: 0x1122_3344, reports }) = found.next() else { unreachable!() };
        assert_eq!(reports.collect::<Vec<_>>(), [Report { last: 5, delay: 6 }, Report { last: 7, delay: 8 }]);
        assert_eq!(found.next(), Some(Packet::Other));
        let Some(Packet::ReceiverReport { reports }) = found.next() else { unreachable!() };
        assert_eq!(reports.collect::<Vec<_>>(), [Report { last: 1, delay: 65_536 }]);
        assert_eq!(found.next(), Some(Packet::Bye));
        assert_eq!(found.next(), None);
    }

    #[test]
    fn what_is_cut_short_or_lies_about_its_length_says_nothing() {
        let whole = packet(201, 1, &[&[0, 0, 0, 9], &block(1, 2)[..]].concat());
        for length in 0..whole.len() {
            assert_eq!(packets(&whole[..length]).next(), None, "{length}");
        }
        // More blocks are announced than there are.
        let few = packet(201, 31, &[&[0, 0, 0, 9], &block(1, 2)[..]].concat());
        let Some(Packet::ReceiverReport { reports }) = packets(&few).next() else { unreachable!() };
        assert_eq!(reports.count(), 1);
        // An SR without its sender information is none.
        assert_eq!(packets(&packet(200, 0, &[0; 20])).next(), Some(Packet::Other));
        assert_eq!(packets(&[0xff; 64]).next(), None);
    }
}
