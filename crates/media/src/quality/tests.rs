//! Streams that arrive badly, and what is told of them.

use super::*;
use crate::fixture::*;
use crate::{Command, Fact, Verdict};

/// What both legs tell now.
fn told(world: &mut World) -> [Figures; 2] {
    world.facts.clear();
    world.pass(5_000);
    let counted = world.facts.iter().find_map(|fact| {
        let Fact::Counted { legs, .. } = fact else { return None };
        Some(legs.map(|leg| leg.quality))
    });
    counted.expect("figures every five seconds")
}

const MS: u64 = 1_000_000;

fn header(packet: &[u8]) -> Header {
    Header::parse(packet).expect("RTP")
}

/// Packets by number, 20 ms apart, all of the same SSRC.
fn feed(numbers: impl IntoIterator<Item = u16>) -> Figures {
    let mut meter = Meter::new();
    for (n, sequence) in (0..).zip(numbers) {
        meter.heard(20 * MS * n, header(&rtp(1, sequence)));
    }
    meter.figures(&Clock::default())
}

fn counts(figures: Figures) -> [u64; 5] {
    let Figures { received, expected, lost, reordered, duplicates, .. } = figures;
    [received, expected, lost, reordered, duplicates]
}

/// RFC 3550 A.1, A.3.
#[test]
fn expected_and_lost_by_the_extended_sequence_number() {
    for (numbers, expected) in [
        ((100..200).collect::<Vec<u16>>(), [100, 100, 0, 0, 0]),
        // It wraps twice in all of this.
        ((0..=u16::MAX).chain(0..=u16::MAX).chain(0..10).collect(), [131_082, 131_082, 0, 0, 0]),
        // Across the wrap, with a gap over it.
        (vec![65_533, 65_534, 2, 3], [4, 7, 3, 0, 0]),
        // The very first may be anything.
        (vec![0, 1, 2], [3, 3, 0, 0, 0]),
        // Late ones are not lost.
        (vec![1, 2, 4, 5, 3, 6], [6, 6, 0, 1, 0]),
        (vec![65_534, 0, 65_535, 1], [4, 4, 0, 1, 0]),
        // Once more is once more, at once or late, a late one included.
        (vec![1, 2, 2, 3, 1, 5, 4, 4], [5, 5, 0, 1, 3]),
        // So far behind that nobody remembers: late.
        ((0..200).filter(|n| *n != 110).chain([110]).collect(), [200, 200, 0, 1, 0]),
        // Every tenth is missing.
        ((0..100).filter(|n| n % 10 != 5).collect(), [90, 100, 10, 0, 0]),
    ] {
        assert_eq!(counts(feed(numbers.clone())), expected, "{:?}", &numbers[..numbers.len().min(10)]);
    }
}

/// RFC 3550 A.1: one packet far off is a stray; two in a row are another beginning.
#[test]
fn a_leap_is_believed_when_it_goes_on() {
    assert_eq!(counts(feed([1, 2, 30_000, 3, 4])), [4, 4, 0, 0, 0]);
    assert_eq!(counts(feed([1, 2, 30_000, 30_001, 30_002])), [4, 4, 0, 0, 0]);
    assert_eq!(counts(feed([10_000, 10_001, 2, 3, 4, 6])), [5, 6, 1, 0, 0]);
}

#[test]
fn another_ssrc_begins_anew_and_the_sum_is_told() {
    let (mut meter, mut clock, start) = (Meter::new(), Clock::default(), beginning());
    for (n, (ssrc, sequence)) in
        [(1, 10), (1, 11), (1, 13), (2, 60_000), (2, 60_001), (2, 60_002)].into_iter().enumerate()
    {
        clock.advance(start + Duration::from_millis(20 * n as u64));
        meter.heard(clock.nanos, header(&rtp(ssrc, sequence)));
    }
    let figures = meter.figures(&clock);
    assert_eq!(counts(figures), [6, 7, 1, 0, 0]);
    assert!((figures.loss() - 1.0 / 7.0).abs() < 1e-9);
    assert_eq!((figures.first, figures.last), (Some(start), Some(start + Duration::from_millis(100))));
}

/// RFC 3550 A.8 by hand, in floating point and in ticks, against ours.
#[test]
fn jitter_is_that_of_rfc_3550() {
    let delays = [0u64, 3, 7, 0, 12, 1, 18, 2, 2, 9, 0, 0, 15, 4];
    for (rate, ticks) in [(8000u32, 160u32), (48_000, 960), (90_000, 1800)] {
        let (mut meter, mut clock, start) = (Meter::new(), Clock::default(), beginning());
        let formats = Formats {
            list: [Format { payload_type: 0, codec: Codec::Opus, clock: rate }].into(),
            ..Formats::default()
        };
        meter.tell(Arc::new(formats));
        let (mut jitter, mut transit) = (0f64, None);
        for (n, delay) in (0u16..).zip(delays.iter().cycle().take(200)) {
            let at = Duration::from_millis(20 * u64::from(n) + delay);
            let timestamp = u32::from(n).wrapping_mul(ticks).wrapping_add(u32::MAX - 5_000);
            clock.advance(start + at);
            meter.heard(clock.nanos, header(&rtp_at(1, n, timestamp)));
            let relative = at.as_secs_f64() * f64::from(rate) - f64::from(n) * f64::from(ticks);
            if let Some(last) = transit.replace(relative) {
                jitter += (f64::abs(relative - last) - jitter) / 16.0;
            }
        }
        let found = meter.figures(&clock).jitter.as_secs_f64() * f64::from(rate);
        assert!((found - jitter).abs() < 0.5, "{found} ticks, not {jitter}, at {rate} Hz");
    }
}

/// The figures of a phone that sends digits (RFC 4733 §2.5.1.2: the timestamp
/// stays), is silent between talkspurts, and starts its clock anew.
#[test]
fn what_the_sender_does_is_not_jitter() {
    let (mut meter, mut clock, start) = (Meter::new(), Clock::default(), beginning());
    let format = Format { payload_type: 101, codec: Codec::Event, clock: 8000 };
    meter.tell(Arc::new(Formats { list: [format].into(), ..Formats::default() }));
    let (mut ms, mut sequence) = (0, 0);
    let mut send = |meter: &mut Meter, payload_type: u8, timestamp: u32, pause: u64| {
        let mut packet = rtp_at(1, sequence, timestamp);
        packet[1] = payload_type;
        ms += pause;
        sequence = sequence.wrapping_add(1);
        clock.advance(start + Duration::from_millis(ms));
        meter.heard(clock.nanos, header(&packet));
    };
    for n in 0..50 {
        send(&mut meter, 0, n * 160, 20);
    }
    for _ in 0..50 {
        send(&mut meter, 101, 50 * 160, 20);
    }
    for n in 100..150 {
        send(&mut meter, 0, n * 160, 20);
    }
    // Ten seconds of silence, of which only comfort noise tells.
    send(&mut meter, 13, 150 * 160, 20);
    for n in 650..700 {
        send(&mut meter, 0, n * 160, if n == 650 { 10_000 } else { 20 });
    }
    // Another clock.
    for n in 0..50 {
        send(&mut meter, 0, 3_000_000_000 + n * 160, 20);
    }
    let figures = meter.figures(&clock);
    assert_eq!(counts(figures), [251, 251, 0, 0, 0]);
    assert_eq!((figures.jitter, figures.codec), (Duration::ZERO, Some(Codec::Pcmu)));
}

/// A sender report that was passed to a peer, and its report block that names it.
fn report(kind: u8, middle: u32, last: u32, delay: u32) -> Vec<u8> {
    let mut packet = vec![0x81, kind, 0, if kind == 200 { 12 } else { 7 }, 0, 0, 0, 1];
    if kind == 200 {
        packet.extend([0xaa, 0xaa]);
        packet.extend(middle.to_be_bytes());
        packet.extend([0; 14]);
    }
    packet.extend([0; 16]);
    packet.extend(last.to_be_bytes());
    packet.extend(delay.to_be_bytes());
    packet
}

/// RFC 3550 §6.4.1: A − LSR − DLSR, seen from the middle.
#[test]
fn round_trip_of_each_leg_from_the_reports_that_pass() {
    let mut world = World::call();
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.packet(A_RTCP, PHONE, &report(200, 0x1111, 0, 0));
    world.pass(130);
    // The server held it for 100 ms; its own report goes to the phone.
    let reply = report(200, 0x2222, 0x1111, 6_554);
    assert!(matches!(world.packet(B_RTCP, SERVER_RTCP, &reply), Verdict::Forward { .. }));
    world.pass(250);
    world.packet(A_RTCP, PHONE, &report(201, 0, 0x2222, 13_107));
    let [phone, server] = told(&mut world).map(|leg| leg.round_trip.map(|way| way.as_millis()));
    assert_eq!((phone, server), (Some(50), Some(29)));
}

#[test]
fn nonsense_in_reports_is_no_round_trip() {
    let mut world = World::call();
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.packet(A_RTCP, PHONE, &report(200, 0x1111, 0, 0));
    world.packet(A_RTCP, PHONE, &report(200, 0, 0, 0));
    world.pass(100);
    // Held for longer than it was there; names none; names the phone's own; a stranger's.
    for reply in [report(201, 0, 0x1111, 65_536), report(201, 0, 0, 0), report(201, 0, 0x9999, 0)] {
        world.packet(B_RTCP, SERVER_RTCP, &reply);
    }
    world.packet(A_RTCP, PHONE, &report(201, 0, 0x1111, 0));
    world.packet(B_RTCP, "198.18.0.9:6001", &report(201, 0, 0x1111, 0));
    assert_eq!(told(&mut world).map(|leg| leg.round_trip), [None; 2]);
    // Longer ago than any way is long.
    world.pass(120_000);
    world.packet(B_RTCP, SERVER_RTCP, &report(201, 0, 0x1111, 0));
    assert_eq!(told(&mut world)[1].round_trip, None);
}

/// RFC 3711 §3.4: what stands in SRTCP behind eight octets is noise.
#[test]
fn secured_reports_are_not_read() {
    let mut world = World::call();
    let formats = Arc::new(Formats { secure: true, ..Formats::default() });
    world.command(Command::Formats { stream: stream(0), formats });
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.packet(A_RTCP, PHONE, &report(200, 0x1111, 0, 0));
    world.packet(B_RTCP, SERVER_RTCP, &report(201, 0, 0x1111, 0));
    world.packet(B_RTCP, SERVER_RTCP, &[0x81, 203, 0, 1, 0, 0, 0, 1]);
    assert_eq!(told(&mut world).map(|leg| (leg.round_trip, leg.bye)), [(None, false); 2]);
}

/// RFC 3550 §6.6: a leaving source is noted, and nothing ends by it.
#[test]
fn rtcp_bye_of_the_held_source_is_noted_and_passes() {
    let bye = [0x81, 203, 0, 1, 0, 0, 0, 1];
    let mut world = World::call();
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.packet(B_RTP, SERVER, &rtp(2, 1));
    world.packet(A_RTCP, PHONE, &rtcp(1));
    world.packet(A_RTCP, "198.51.100.99:40001", &bye);
    assert_eq!(told(&mut world).map(|leg| leg.bye), [false; 2]);
    let compound = [&rtcp(1)[..], &bye].concat();
    assert_eq!(world.packet(A_RTCP, PHONE, &compound), to(B_RTCP, SERVER_RTCP));
    assert_eq!(told(&mut world).map(|leg| leg.bye), [true, false]);
    assert_eq!(world.packet(A_RTP, PHONE, &rtp(1, 2)), to(B_RTP, SERVER));
    // With rtcp-mux it comes on the other socket (RFC 5761).
    assert_eq!(world.packet(B_RTP, SERVER, &bye), to(A_RTCP, PHONE));
    assert_eq!(told(&mut world).map(|leg| leg.bye), [true; 2]);
}

#[test]
fn the_score_falls_with_loss_and_with_delay() {
    let good = Figures { received: 1000, expected: 1000, codec: Some(Codec::Pcma), ..Figures::default() };
    let score = |legs: [&Figures; 2]| (score(legs, End::A).unwrap() * 100.0).round() / 100.0;
    assert!((score([&good, &good]) - 4.41).abs() < 1e-9);
    let lossy = Figures { lost: 50, ..good };
    assert!((score([&lossy, &good]) - 3.92).abs() < 1e-9);
    // Half of both ways, the packet, and twice the jitter: 400 ms.
    let far = Figures {
        round_trip: Some(Duration::from_millis(320)),
        packet: Duration::from_millis(20),
        jitter: Duration::from_millis(30),
        ..good
    };
    assert!((score([&far, &far]) - emodel::mos(93.2 - emodel::delay(400.0))).abs() < 0.01);
    // Nothing came, or nobody knows the codec.
    assert_eq!(super::score([&Figures::default(), &good], End::A), None);
    assert_eq!(super::score([&Figures { codec: Some(Codec::Other), ..good }, &good], End::A), None);
}

/// A fax counts its packets up to 65535, and half of these look like RTP.
#[test]
fn a_fax_is_not_measured() {
    let mut world = World::call();
    world.packet(A_RTP, PHONE, &rtp(1, 1));
    world.command(Command::Carry { stream: stream(0), proto: crate::command::Proto::Udptl });
    for n in 2..100 {
        world.packet(A_RTP, PHONE, &rtp(n.into(), n * 300));
    }
    world.command(Command::Carry { stream: stream(0), proto: crate::command::Proto::Rtp });
    world.packet(A_RTP, PHONE, &rtp(1, 2));
    assert_eq!(counts(told(&mut world)[0]), [2, 2, 0, 0, 0]);
}
