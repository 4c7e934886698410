//! The program itself, packet by packet, by way of BPF_PROG_TEST_RUN.
#![expect(unsafe_code, reason = "BPF_PROG_TEST_RUN has no safe wrapper")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use media::{End, Pace};

use super::netlink::Way;
use super::rule::{Exit, Known, Rule};
use super::rules::{Held, Place, Standing};
use super::*;

mod packets;

use packets::{Shape, sum_is_right};

/// Up the stack, and out by a redirect.
const UP: u32 = u32::MAX;
const OUT: u32 = 7;

/// A loaded program with one rule, or none where this machine cannot have it.
struct Bench {
    ebpf: Ebpf,
    rules: Rules,
    current: Single<4>,
    orders: Orders,
    /// The last rule of each shape.
    held: BTreeMap<SocketAddr, (Held, Standing)>,
}

/// `struct bpf_attr` of BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    result: u32,
    length_in: u32,
    length_out: u32,
    bytes_in: u64,
    bytes_out: u64,
    repeat: u32,
    nanos: u32,
    context: [u64; 6],
}

/// The program, to be run.
#[derive(Clone, Copy)]
struct Runner(i32);

impl Runner {
    fn of(ebpf: &Ebpf) -> Self {
        let program: &SchedClassifier = ebpf.program("relay_ethernet").unwrap().try_into().unwrap();
        Self(program.fd().unwrap().as_fd().as_raw_fd())
    }

    /// What the program says, the packet as it left it, and nanoseconds of one run.
    fn run(self, packet: &[u8], repeat: u32) -> (u32, Vec<u8>, u32) {
        let mut out = vec![0; packet.len() + 256];
        let mut run = Run {
            program: self.0.cast_unsigned(),
            length_in: packet.len() as u32,
            length_out: out.len() as u32,
            bytes_in: packet.as_ptr() as u64,
            bytes_out: out.as_mut_ptr() as u64,
            repeat,
            ..Run::default()
        };
        const TEST_RUN: libc::c_int = 10;
        // SAFETY: pointers and lengths describe `packet` and `out`, which outlive the call.
        let failed = unsafe { libc::syscall(libc::SYS_bpf, TEST_RUN, &raw mut run, size_of::<Run>()) } < 0;
        // What ends within its IP header the kernel does not even try.
        if failed {
            assert!(packet.len() < 54, "{}", io::Error::last_os_error());
            return (UP, packet.to_vec(), 0);
        }
        out.truncate(run.length_out as usize);
        (run.result, out, run.nanos)
    }
}

impl Bench {
    fn new() -> Option<Self> {
        // The last of each family that there is room for.
        let mut ours: Vec<IpAddr> = (2..PLACES as u8 + 1).map(|n| [192, 0, 2, n].into()).collect();
        ours.extend((2..PLACES as u16 + 1).map(|n| IpAddr::from([0x2001, 0xdb8, 2, 0, 0, 0, 0, n])));
        ours.extend([Shape::v4(), Shape::v6()].map(|shape| shape.local.ip()));
        let (ours, left) = Ours::of(&ours);
        assert!(left.is_empty());
        match entitled().map_err(Into::into).and_then(|()| load(ours, 64)) {
            Ok(Loaded { ebpf, rules, current, orders }) => {
                current.set(1_u32.to_ne_bytes()).unwrap();
                Some(Self { ebpf, rules, current, orders, held: BTreeMap::new() })
            }
            Err(error) => {
                let error = explain(error);
                assert!(std::env::var_os("CI").is_none(), "{error}");
                println!("SKIPPED: {error}");
                None
            }
        }
    }

    /// What the program says, and the packet as it left it.
    fn run(&mut self, packet: &[u8]) -> (u32, Vec<u8>) {
        let (result, packet, _) = self.repeat(packet, 1);
        (result, packet)
    }

    fn repeat(&mut self, packet: &[u8], repeat: u32) -> (u32, Vec<u8>, u32) {
        Runner::of(&self.ebpf).run(packet, repeat)
    }

    /// The first of our addresses have the last stream.
    fn place(&self, shape: &Shape) -> Place {
        let last = packets::octets(shape.local.ip()).pop().unwrap();
        self.rules.place(shape.local, 64 - u32::from(last), End::B).unwrap()
    }

    fn put(&mut self, shape: &Shape) {
        let put = self.rules.put(self.place(shape), &shape.rule()).unwrap();
        self.held.insert(shape.local, put);
    }

    /// Packets and octets that the last rule of this place has let pass, and where it stands.
    fn passed(&self, shape: &Shape) -> (u32, u64, Standing) {
        let (held, before) = self.held[&shape.local];
        let now = self.rules.look(held).unwrap();
        (now.highest - before.highest, now.bytes - before.bytes, now)
    }
}

impl Shape {
    fn exit(&self) -> Exit {
        let way = Way { ifindex: 1, hop: None, local: false };
        Exit { from: self.from, to: self.to, tos: 0xb8, ttl: 64, way, mtu: 1500, routed: false }
    }

    fn rule(&self) -> Rule {
        let pace = Pace {
            ssrc: self.ssrc,
            sequence: self.sequence.wrapping_sub(1),
            timestamp: self.timestamp.wrapping_sub(160),
            payload_type: 0,
            tick: 256_000_000_000 / 8000,
            jitter: 0,
            at: crate::clock::now() - Duration::from_millis(20),
        };
        let known = Known { epoch: 1, orders: 0 };
        Rule::new(known, self.local, self.source, &self.exit(), &pace)
    }
}

/// The object that is committed is what its source says.
#[test]
fn the_object_is_built_from_its_source() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf");
    let object = std::env::temp_dir().join(format!("siplatch-relay-{}.bpf.o", std::process::id()));
    let has = |tool: &str| std::process::Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success());
    if !(has("clang-14") && has("llvm-strip-14")) {
        assert!(std::env::var_os("CI").is_none(), "clang-14 and llvm-14 are needed");
        println!("SKIPPED: clang-14 or llvm-strip-14 is missing");
        return;
    }
    if !cfg!(target_arch = "x86_64") {
        println!("SKIPPED: the committed object was built on x86_64");
        return;
    }
    let built = std::process::Command::new(folder.join("build")).arg(&object).status().unwrap();
    assert!(built.success());
    let same = std::fs::read(&object).unwrap() == OBJECT;
    std::fs::remove_file(&object).unwrap();
    assert!(same, "bpf/relay.bpf.o is not what bpf/build makes: run `make bpf`");
}

/// CAP_BPF and CAP_NET_ADMIN are enough: the verifier is stricter with whoever has not CAP_PERFMON.
#[test]
fn the_program_loads_with_two_capabilities() {
    if entitled().is_err() {
        assert!(std::env::var_os("CI").is_none(), "{MISSING}");
        println!("SKIPPED: {MISSING}");
        return;
    }
    // Rights are each thread's own.
    let loaded = std::thread::spawn(|| {
        // Version 3, this thread; effective, permitted and inheritable sets, of 32 each.
        let header = [0x2008_0522_u32, 0];
        let (low, high) = (1 << NET_ADMIN, 1 << (BPF - 32));
        let sets = [low, low, 0, high, high, 0_u32];
        // SAFETY: pointers to what capset(2) reads.
        assert_eq!(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }, 0);
        load(Ours::of(&[Shape::v4(), Shape::v6()].map(|shape| shape.local.ip())).0, 1).map(drop).map_err(explain)
    });
    loaded.join().unwrap().unwrap();
}

#[test]
fn a_packet_that_continues_is_rewritten_like_a_fresh_one() {
    let Some(mut bench) = Bench::new() else { return };
    for shape in [Shape::v4(), Shape::v6()] {
        bench.put(&shape);
        let packet = shape.packet(&[0xd5; 160]);
        let (result, out) = bench.run(&packet);
        assert_eq!(result, OUT, "{shape:?}");
        let sent = Shape { local: shape.to, source: shape.from, tos: 0xb8, ttl: 64, ..shape };
        assert_eq!(out, sent.packet(&[0xd5; 160]), "{shape:?}");
        assert!(sum_is_right(&out));
        let (packets, bytes, standing) = bench.passed(&shape);
        assert_eq!((packets, bytes, standing.timestamp), (1, 172, shape.timestamp));
        // 20 ms after the last: the jitter is what this machine took.
        assert!(standing.jitter >> 4 < 1_000_000_000, "{}", standing.jitter);
        // The same once more is not the next one.
        assert_eq!(bench.run(&packet), (UP, packet.clone()));
        assert_eq!(bench.passed(&shape).0, 1);
        let next = shape.next();
        assert_eq!(bench.run(&next.packet(&[1, 2, 3])).0, OUT, "odd lengths, too");
        let (held, before) = bench.held[&shape.local];
        assert_eq!(bench.rules.take(held).unwrap().highest, before.highest + 2);
        assert_eq!(bench.run(&next.next().packet(&[1])).0, UP);
        assert_eq!((bench.rules.take(held), bench.rules.look(held)), (None, None));
    }
}

#[test]
fn no_checksum_stays_none_in_ipv4_and_goes_up_in_ipv6() {
    let Some(mut bench) = Bench::new() else { return };
    for (shape, result) in [(Shape::v4(), OUT), (Shape::v6(), UP)] {
        bench.put(&shape);
        let mut packet = shape.packet(&[7; 20]);
        let at = shape.udp() + 6;
        packet[at..at + 2].fill(0);
        let (seen, out) = bench.run(&packet);
        assert_eq!((seen, &out[at..at + 2]), (result, &[0, 0][..]));
    }
}

#[test]
fn whatever_is_not_the_next_packet_goes_up_untouched() {
    let Some(mut bench) = Bench::new() else { return };
    for shape in [Shape::v4(), Shape::v6()] {
        bench.put(&shape);
        let good = shape.packet(&[0; 160]);
        let (ip, udp, rtp) = (14, shape.udp(), shape.udp() + 8);
        let mut cases: Vec<(&str, Vec<u8>)> = Vec::new();
        let mut case = |name, change: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = good.clone();
            change(&mut packet);
            cases.push((name, packet));
        };
        case("another source", &|p| p[udp - 5] ^= 1);
        case("another source port", &|p| p[udp + 1] ^= 1);
        case("another local port", &|p| p[udp + 3] ^= 1);
        case("another SSRC", &|p| p[rtp + 8] ^= 1);
        case("a number ahead", &|p| p[rtp + 3] = p[rtp + 3].wrapping_add(1));
        case("a number behind", &|p| p[rtp + 3] = p[rtp + 3].wrapping_sub(1));
        case("another payload type", &|p| p[rtp + 1] = 101);
        case("RTCP", &|p| p[rtp + 1] = 200);
        case("STUN", &|p| p[rtp..rtp + 8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]));
        case("DTLS", &|p| p[rtp] = 22);
        case("channel data", &|p| p[rtp] = 64);
        case("cut off", &|p| p.truncate(p.len() - 1));
        case("cut off in RTP", &|p| p.truncate(rtp + 11));
        case("cut off in UDP", &|p| p.truncate(udp + 3));
        case("cut off in IP", &|p| p.truncate(ip + 9));
        case("padded by the link", &|p| p.push(0));
        case("a datagram beside the packet", &|p| p[udp + 5] = p[udp + 5].wrapping_sub(1));
        case("for another station", &|p| p[0] = 2);
        case("VLAN", &|p| drop(p.splice(12..12, [0x81, 0, 0, 5])));
        case("another protocol", &|p| p[if ip + 20 == udp { ip + 9 } else { ip + 6 }] = 6);
        case("another version", &|p| p[ip] ^= 0x10);
        if shape.source.is_ipv4() {
            case("first fragment", &|p| p[ip + 6] |= 0x20);
            case("last fragment", &|p| p[ip + 7] = 1);
            case("IP options", &|p| p[ip] = 0x46);
        } else {
            case("extension header", &|p| p[ip + 6] = 44);
        }
        for (name, packet) in cases {
            assert_eq!(bench.run(&packet), (UP, packet), "{name} {shape:?}");
        }
        assert_eq!(bench.passed(&shape).0, 0);
        // Longer than the way out takes.
        assert_eq!(bench.run(&shape.packet(&vec![0; 1470])).0, UP);
        assert_eq!(bench.run(&shape.packet(&[0; 1300])).0, OUT);
    }
}

#[test]
fn rules_of_another_epoch_are_void() {
    let Some(mut bench) = Bench::new() else { return };
    let shape = Shape::v4();
    bench.put(&shape);
    bench.current.set(2_u32.to_ne_bytes()).unwrap();
    assert_eq!(bench.run(&shape.packet(&[0; 160])).0, UP);
    bench.current.set(1_u32.to_ne_bytes()).unwrap();
    assert_eq!(bench.run(&shape.packet(&[0; 160])).0, OUT);
}

#[test]
fn rules_that_know_of_fewer_orders_are_void() {
    let Some(mut bench) = Bench::new() else { return };
    let shape = Shape::v4();
    bench.put(&shape);
    bench.orders.give(62);
    // None of ours: nothing is written beyond the map.
    bench.orders.give(64);
    assert_eq!(bench.run(&shape.packet(&[0; 160])).0, OUT);
    bench.orders.give(63);
    assert_eq!(bench.run(&shape.next().packet(&[0; 160])).0, UP);
}

#[test]
fn the_sequence_number_rolls_over() {
    let Some(mut bench) = Bench::new() else { return };
    let mut shape = Shape { sequence: 65_534, ..Shape::v4() };
    bench.put(&shape);
    for _ in 0..4 {
        assert_eq!(bench.run(&shape.packet(&[0; 20])).0, OUT, "{}", shape.sequence);
        shape = shape.next();
    }
    let (packets, bytes, standing) = bench.passed(&shape);
    assert_eq!((packets, bytes, standing.highest), (4, 4 * 32, 65_537));
}

/// A hundred thousand packets, each with some octets changed, some cut or
/// grown, some pushed together from two: what leaves is what a rule names, with
/// right sums, and its payload as it was.
#[test]
fn mutated_packets_leave_only_by_a_rule() {
    let Some(mut bench) = Bench::new() else { return };
    let shapes = [Shape::v4(), Shape::v6()];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let mut out_count = 0;
    for n in 0..100_000 {
        let shape = &shapes[n % 2];
        // The rule is as before, whatever the last packet did to it.
        bench.put(shape);
        let payload = vec![n as u8; random(200)];
        let mut packet = shape.packet(&payload);
        for _ in 0..random(4) {
            // Headers are where it matters.
            let most = if random(3) == 0 { packet.len() } else { shape.udp() + 20 };
            let at = random(most);
            match random(5) {
                0 => packet.truncate(at.max(14)),
                1 => drop(packet.splice(at..at, std::iter::repeat_n(random(256) as u8, random(40)))),
                2 => packet[at % 14] = random(256) as u8,
                _ => {
                    if let Some(octet) = packet.get_mut(at) {
                        *octet = if random(2) == 0 { *octet ^ (1 << random(8)) } else { random(256) as u8 };
                    }
                }
            }
            if packet.len() <= shape.udp() + 20 {
                break;
            }
        }
        let valid = sum_is_right(&packet);
        let (result, out) = bench.run(&packet);
        match result {
            UP => assert_eq!(out, packet, "packet {n} came up changed"),
            OUT => {
                out_count += 1;
                let (at, ends) = shape.place_of_addresses();
                let wanted = [shape.source, shape.local].map(|address| packets::octets(address.ip())).concat();
                assert_eq!(packet[at..ends], wanted, "packet {n} was not the rule's");
                let udp = shape.udp();
                assert_eq!(packet[udp..udp + 2], shape.source.port().to_be_bytes(), "packet {n}");
                assert_eq!(packet[udp + 2..udp + 4], shape.local.port().to_be_bytes(), "packet {n}");
                assert_eq!(packet[udp + 8..], out[udp + 8..], "packet {n}: its payload is not ours to change");
                assert_eq!(sum_is_right(&out), valid, "packet {n}: a right sum stays right, a wrong one wrong");
            }
            other => panic!("packet {n}: {other}"),
        }
    }
    assert!((10_000..80_000).contains(&out_count), "{out_count}");
}

#[test]
fn each_of_our_addresses_has_places_of_its_own() {
    let Some(mut bench) = Bench::new() else { return };
    for shape in [Shape::v4(), Shape::v6()] {
        bench.put(&shape);
        let mut other = shape;
        other.local.set_ip(if shape.local.is_ipv4() { "192.0.2.2" } else { "2001:db8:2::2" }.parse().unwrap());
        assert_eq!(bench.run(&other.packet(&[0; 20])).0, UP);
        bench.put(&other);
        for shape in [shape, other] {
            assert_eq!(bench.run(&shape.packet(&[0; 20])).0, OUT, "{shape:?}");
        }
        let foreign = Shape { local: shape.from, ..shape };
        assert_eq!((bench.rules.place(foreign.local, 63, End::B), bench.run(&foreign.packet(&[0; 20])).0), (None, UP));
    }
    let more: Vec<IpAddr> = (1..=PLACES as u8 + 2).map(|n| [192, 0, 2, n].into()).collect();
    assert_eq!(Ours::of(&[&more[..], &more, &["::".parse().unwrap()]].concat()).1[..2], more[PLACES..]);
}

#[test]
fn ports_side_by_side_have_rules_of_their_own() {
    let Some(mut bench) = Bench::new() else { return };
    for shape in [Shape::v4(), Shape::v6()] {
        let at = |n: u16| Shape { local: SocketAddr::new(shape.local.ip(), 65_535 - 2 * n), ..shape };
        for n in 0..8 {
            let end = if n % 2 == 0 { End::A } else { End::B };
            let place = bench.rules.place(at(n).local, u32::from(n) / 2, end).unwrap();
            bench.rules.put(place, &at(n).rule()).unwrap();
        }
        for n in 0..8 {
            assert_eq!(bench.run(&at(n).packet(&[0; 20])).0, OUT, "{:?}", at(n));
        }
        // There are as many numbers, and no more.
        let (most, end) = ((1 << 15) - 1, End::B);
        assert!(bench.rules.place(shape.local, most - 1, end).is_some());
        assert_eq!(bench.rules.place(shape.local, most, End::A), None);
        // But here are rules for 64 streams.
        let beyond = bench.rules.place(shape.local, 64, End::A).unwrap();
        assert!(bench.rules.put(beyond, &shape.rule()).is_none());
    }
}

#[test]
fn a_rule_in_the_place_of_another_ends_it() {
    let Some(mut bench) = Bench::new() else { return };
    let shape = Shape::v4();
    bench.put(&shape);
    let (first, _) = bench.held[&shape.local];
    assert_eq!(bench.run(&shape.packet(&[0; 20])).0, OUT);
    let other = Shape { source: "198.51.100.8:40000".parse().unwrap(), ..shape };
    bench.put(&other);
    assert_eq!(bench.run(&shape.next().packet(&[0; 20])).0, UP);
    assert_eq!((bench.rules.look(first), bench.rules.take(first)), (None, None), "nor has it come any further");
    assert_eq!(bench.run(&other.packet(&[0; 20])).0, OUT);
    assert_eq!(bench.passed(&other).0, 1);
}

/// While packets come, their rule is put, and taken again, by another thread:
/// every one that left was counted by just one of the rules, and none left by
/// half a rule.
#[test]
fn a_rule_that_is_taken_has_counted_all_that_passed() {
    let Some(bench) = Bench::new() else { return };
    // Each rule takes the packets elsewhere, and says so in all that it rewrites.
    let toward = |n: u32| {
        let n = n as u8;
        let (from, to) =
            (SocketAddr::new([10, 0, 0, n].into(), 30_000), SocketAddr::new([203, 0, 113, n].into(), 6000));
        Shape { from, to, ..Shape::v4() }
    };
    let (next, end) = (AtomicU32::new(1), AtomicU32::new(0));
    let rules = &bench.rules;
    let place = bench.place(&Shape::v4());
    let (program, shape) = (Runner::of(&bench.ebpf), Shape::v4());
    let (passed, out) = std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let (mut passed, mut n) = (0, 0);
            while end.load(Ordering::Acquire) == 0 {
                n += 1;
                let sequence = next.load(Ordering::Acquire) as u16;
                let (held, before) = rules.put(place, &Shape { sequence, ..toward(n) }.rule()).unwrap();
                // Long enough for some packets, or none.
                let most = n % 5;
                for _ in 0..2000 {
                    if rules.look(held).unwrap().highest - before.highest >= most {
                        break;
                    }
                }
                passed += rules.take(held).unwrap().highest - before.highest;
            }
            passed
        });
        let (mut out, mut halves) = (0, 0);
        for _ in 0..100_000 {
            let sequence = next.load(Ordering::Relaxed) as u16;
            let (result, packet, _) = program.run(&Shape { sequence, ..shape }.packet(&[9; 20]), 1);
            if result == OUT {
                out += 1;
                next.fetch_add(1, Ordering::AcqRel);
                halves += usize::from(packet[29] != packet[33] || !sum_is_right(&packet));
            }
        }
        end.store(1, Ordering::Release);
        assert_eq!(halves, 0, "half of one rule, half of another");
        (other.join().unwrap(), out)
    });
    println!("{out} of 100,000 packets passed");
    assert!(out > 1000);
    assert_eq!(passed, out);
}

#[test]
fn a_miss_and_a_packet_that_goes_up_take_little_time() {
    let Some(mut bench) = Bench::new() else { return };
    let shape = Shape::v4();
    let (_, _, miss) = bench.repeat(&shape.packet(&[0; 160]), 100_000);
    bench.put(&shape);
    let (_, _, up) = bench.repeat(&shape.next().packet(&[0; 160]), 100_000);
    println!("{miss} ns for a packet without a rule, {up} ns for one out of order");
    assert!(miss < 20_000 && up < 20_000);
}
