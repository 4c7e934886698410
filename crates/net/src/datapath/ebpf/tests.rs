//! The program itself, packet by packet, by way of BPF_PROG_TEST_RUN.
#![expect(unsafe_code, reason = "BPF_PROG_TEST_RUN has no safe wrapper")]

use std::os::fd::AsRawFd;
use std::time::Duration;

use media::Pace;

use super::netlink::Way;
use super::rule::{Exit, Key, Rule, Standing};
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
    current: Number,
    orders: Orders,
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

impl Bench {
    fn new() -> Option<Self> {
        match entitled().map_err(Into::into).and_then(|()| load(64)) {
            Ok(Loaded { ebpf, rules, current, orders }) => {
                current.set(1).unwrap();
                let orders = Orders::new(orders.as_fd(), 64).unwrap();
                Some(Self { ebpf, rules, current, orders })
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
        let program: &SchedClassifier = self.ebpf.program("relay_ethernet").unwrap().try_into().unwrap();
        let mut out = vec![0; packet.len() + 256];
        let mut run = Run {
            program: program.fd().unwrap().as_fd().as_raw_fd().cast_unsigned(),
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

    fn put(&self, shape: &Shape) {
        self.rules.put(&shape.key(), &shape.rule()).unwrap();
    }

    fn rule(&self, shape: &Shape) -> Rule {
        self.rules.look(&shape.key()).unwrap()
    }
}

impl Shape {
    fn key(&self) -> Key {
        Key::new(self.local, self.source)
    }

    fn exit(&self) -> Exit {
        let way = Way { ifindex: 1, hop: None, mtu: 1500, local: false };
        Exit { from: self.from, to: self.to, tos: 0xb8, ttl: 64, way, routed: false }
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
        let standing = Standing { epoch: 1, stream: 63, orders: 0 };
        Rule::new(standing, self.local, self.source, &self.exit(), &pace)
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
        let rule = bench.rule(&shape);
        assert_eq!((rule.packets, rule.bytes, rule.timestamp), (1, 172, shape.timestamp));
        // 20 ms after the last: the jitter is what this machine took.
        assert!(rule.jitter >> 4 < 1_000_000_000, "{}", rule.jitter);
        // The same once more is not the next one.
        assert_eq!(bench.run(&packet), (UP, packet.clone()));
        assert_eq!(bench.rule(&shape).packets, 1);
        let next = shape.next();
        assert_eq!(bench.run(&next.packet(&[1, 2, 3])).0, OUT, "odd lengths, too");
        bench.rules.take(&shape.key()).unwrap();
        assert_eq!(bench.run(&next.next().packet(&[1])).0, UP);
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
        assert_eq!(bench.rule(&shape).packets, 0);
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
    bench.current.set(2).unwrap();
    assert_eq!(bench.run(&shape.packet(&[0; 160])).0, UP);
    bench.current.set(1).unwrap();
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
fn a_rule_that_is_not_for_its_key_is_not_obeyed() {
    let Some(mut bench) = Bench::new() else { return };
    let (shape, other) = (Shape::v4(), Shape { source: "198.51.100.8:40000".parse().unwrap(), ..Shape::v4() });
    bench.rules.put(&shape.key(), &other.rule()).unwrap();
    assert_eq!(bench.run(&shape.packet(&[0; 20])).0, UP);
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
