//! S2 over TLS: handshakes that never come to their end, records that drip,
//! and whoever speaks something else.

use std::io::Write as _;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use peer::{Authority, Draft, StreamPhone, World, connect_from, connect_secure};

use crate::streams::{GROWTH_KIB, PATIENCE, ROW, Scene, closed, listed, most_sockets, since, until};
use crate::{full, scaled, turn, verdict};

const NAME: &str = "edge.example";

/// A phone over TLS beside the call.
fn scene(authority: &Authority) -> Scene {
    let world = World::standalone_secure(&authority.sign(&[NAME]), "warn");
    let carol = phone(authority, &world, "carol", world.net.ip(50));
    Scene { world, carol }
}

fn phone(authority: &Authority, world: &World, name: &str, ip: IpAddr) -> StreamPhone {
    let wire = connect_secure(authority, NAME, ip, world.secure).unwrap();
    let address = wire.sock.local_addr().unwrap();
    let phone = StreamPhone::over(name, address, world.secure, "TLS", wire);
    assert_eq!(phone.register(&world.domain, "secret"), 200, "{name} from {ip}");
    phone
}

/// Nothing, the first octets of a handshake one by one, and a record that is announced and does not come.
#[test]
fn s2_handshakes_that_do_not_end() {
    let _turn = turn();
    let authority = Authority::new();
    let scene = scene(&authority);
    let world = &scene.world;
    let call = world.call();
    let (before, began) = (closed(world), world.daemon.resident());
    let count = scaled(1500).min(most_sockets());
    let ip = world.net.ip(60);
    // A handshake record of 16 KiB, of which the beginning comes.
    let hello = [&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3][..], &[7; 32]].concat();
    let started = Instant::now();
    let mut open: Vec<(usize, TcpStream)> = Vec::new();
    let mut peak = 0;
    for number in 0..count {
        let mut stream = connect_from(ip, world.secure).unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(&hello[..1]).unwrap(),
            _ => stream.write_all(&[&hello[..], &[0; 8000]].concat()).unwrap(),
        }
        open.push((1, stream));
        if number % 50 == 0 {
            peak = peak.max(world.daemon.resident());
        }
    }
    scene.is_unharmed();
    drop(phone(&authority, world, "dave", ip));
    let strangers = world.daemon.figure("siplatch_connections_strangers", "");
    assert!(strangers <= 130.0, "{strangers}");
    let mut seconds = String::new();
    if full() {
        while since(world, &before).values().sum::<u64>() < count as u64 {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?} of {count}", since(world, &before));
            for (at, stream) in &mut open {
                let _ = stream.write_all(&hello[*at % hello.len()..=*at % hello.len()]);
                *at += 1;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        seconds = format!(", all of them within {} s", started.elapsed().as_secs());
        scene.is_unharmed();
    }
    let growth = peak.max(world.daemon.resident()).saturating_sub(began);
    assert!(growth < GROWTH_KIB, "{growth} KiB");
    let figure = format!(
        "{count} TLS handshakes of one source that do not end: {strangers} kept, closed: {}{seconds}; +{:.1} MiB at most",
        listed(&since(world, &before)),
        growth as f64 / 1024.0
    );
    verdict(ROW, &figure, &call.hang_up());
}

/// Handshakes that are done, and then a message that comes octet by octet, each in a record of its own.
#[test]
fn s2_slow_records() {
    let _turn = turn();
    let authority = Authority::new();
    let scene = scene(&authority);
    let world = &scene.world;
    let call = world.call();
    let (before, began) = (closed(world), world.daemon.resident());
    let count = scaled(300);
    let ip = world.net.ip(60);
    let draft = Draft::new("INVITE", &format!("sip:bob@{}", world.sip), "mallory", world.sip);
    let message = draft.set("Content-Length", "60000").bytes();
    let mut open: Vec<_> = (0..count).map(|_| connect_secure(&authority, NAME, ip, world.secure).unwrap()).collect();
    let mut drip = |at: usize| {
        for stream in &mut open {
            let _ = stream.write_all(&message[at % message.len()..=at % message.len()]).and_then(|()| stream.flush());
        }
    };
    let started = Instant::now();
    drip(0);
    scene.is_unharmed();
    drop(phone(&authority, world, "dave", ip));
    let growth = world.daemon.resident().saturating_sub(began);
    let mut waited = String::new();
    if full() {
        let mut at = 1;
        while since(world, &before).get("slow").copied().unwrap_or_default() < count as u64 {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?} of {count}", since(world, &before));
            drip(at);
            at += 1;
            std::thread::sleep(Duration::from_millis(500));
        }
        waited = format!(", all of them within {} s", started.elapsed().as_secs());
        scene.is_unharmed();
    }
    assert!(growth < GROWTH_KIB, "{growth} KiB");
    let figure = format!(
        "{count} messages in TLS records of one octet: closed: {}{waited}; +{:.1} MiB, {} KiB each",
        listed(&since(world, &before)),
        growth as f64 / 1024.0,
        growth / count as u64
    );
    verdict(ROW, &figure, &call.hang_up());
}

/// SIP in the clear, HTTP, noise, and handshakes that are cut off in the middle.
#[test]
fn s2_what_is_no_handshake() {
    let _turn = turn();
    let authority = Arc::new(Authority::new());
    let scene = scene(&authority);
    let world = &scene.world;
    let call = world.call();
    let (before, began) = (closed(world), world.daemon.resident());
    let count = scaled(3000);
    let sip = Draft::new("INVITE", &format!("sip:bob@{}", world.sip), "mallory", world.sip).bytes();
    let noise: Vec<u8> = (0..4000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let others: [&[u8]; 4] = [&sip, b"GET / HTTP/1.1\r\n\r\n", &noise, &[22, 3, 1, 0xff, 0xff]];
    let mut whole = 0;
    for number in 0..count {
        let ip = world.net.ip(60 + (number % 8) as u8);
        if number % 20 == 19 {
            // One that is whole, and then nothing.
            drop(connect_secure(&authority, NAME, ip, world.secure).unwrap());
            whole += 1;
        } else {
            let mut stream = connect_from(ip, world.secure).unwrap();
            let _ = stream.write_all(others[number % others.len()]);
        }
        if number == count / 2 {
            scene.is_unharmed();
        }
    }
    scene.is_unharmed();
    drop(phone(&authority, world, "dave", world.net.ip(60)));
    until("their end", PATIENCE * 2, || since(world, &before).values().sum::<u64>() > count as u64);
    let growth = world.daemon.resident().saturating_sub(began);
    assert!(growth < GROWTH_KIB, "{growth} KiB");
    let figure = format!(
        "{} connections that are no TLS and {whole} that only shake hands: closed: {}; +{:.1} MiB",
        count - whole,
        listed(&since(world, &before)),
        growth as f64 / 1024.0
    );
    verdict(ROW, &figure, &call.hang_up());
}
