//! M4: SRTP whose keys SDP shows (SDES). Nobody takes or keeps a leg without
//! its key, not even behind the phone's own address with its SSRC and its next
//! sequence number; and the phone itself is heard at its first packet from
//! wherever it is.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::srtp::Key;
use peer::{Agent, Message, World, accept, accept_registrations};

use crate::{scaled, turn, verdict};

const ROW: &str = "M4 keyed media";
const PATIENCE: Duration = Duration::from_secs(4);

/// A line of SDP, and the key that it shows.
fn line(seed: char) -> (String, Key) {
    let value = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", seed.to_string().repeat(40));
    let key = Key::new(&wire::sdp::Crypto::parse(value.as_bytes()).unwrap());
    (format!("a=crypto:{value}\r\n"), key)
}

fn secure(sdp: &str, line: &str) -> String {
    sdp.replace("RTP/AVP", "RTP/SAVP") + line
}

fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let head =
        [&[0x80, 0][..], &sequence.to_be_bytes(), &(u32::from(sequence) * 160).to_be_bytes(), &ssrc.to_be_bytes()];
    [&head.concat()[..], &[0xd5; 160]].concat()
}

/// The next packet that is media, and not a keep-alive of ours.
fn heard(socket: &UdpSocket, patience: Duration) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut room = [0; 2048];
    loop {
        let length = socket.recv(&mut room).ok()?;
        if room[0] & 0xc0 == 0x80 {
            return Some(room[..length].to_vec());
        }
    }
}

/// Sends a packet of the server's, and says who of these gets it.
fn reaches(bob: &UdpSocket, relay: SocketAddr, packet: &[u8], ears: &[&UdpSocket]) -> Vec<bool> {
    bob.send_to(packet, relay).unwrap();
    ears.iter().map(|ear| heard(ear, Duration::from_millis(300)).is_some_and(|got| got == packet)).collect()
}

#[test]
fn m4_a_keyed_leg_is_taken_by_nobody_without_the_key() {
    let _turn = turn();
    let ((line_alice, alice_key), (line_bob, bob_key)) = (line('A'), line('B'));
    let others = accept_registrations();
    let bob = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bobs = bob.local_addr().unwrap();
    let answer = format!(
        "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/SAVP 0\r\n{line_bob}",
        bobs.ip(),
        bobs.port()
    );
    let core = Arc::new(move |message: &Message, sdp: &str| {
        others(message, if message.body().contains("a=crypto") { &answer } else { sdp })
    });
    let world = World::border_with(core, "debug");
    let call = world.call();
    let phone = Agent::new("carol", world.net.at(40, 5060), accept());
    assert_eq!(phone.register(world.sip, &world.domain, "secret"), 200);
    let offer = secure(&phone.sdp(), &line_alice);
    let invite =
        phone.draft("INVITE", &format!("sip:bob@{}", world.domain)).add("Contact", &phone.contact()).sdp(&offer);
    let answered = phone.ask(world.sip, &invite).unwrap();
    assert_eq!(answered.status(), Some(200), "{answered:?}");
    assert!(answered.body().contains(&line_bob), "the line of the other end passes");
    let invited = world.bob.wait(PATIENCE, |m| m.body().contains("a=crypto")).unwrap();
    let (to_bob, to_phone) = (answered.media().unwrap(), invited.media().unwrap());

    let media = phone.media();
    let spoofer = UdpSocket::bind((world.net.ip(40), 0)).unwrap();
    let elsewhere = UdpSocket::bind((world.net.ip(140), 0)).unwrap();
    let (floods, mut sequence) = (scaled(1000), 1u16);
    let spoof = |sequence: u16| {
        for ahead in 0..floods {
            let next = sequence.wrapping_add(ahead as u16 % 40);
            spoofer.send_to(&rtp(7, next), to_bob).unwrap();
            if ahead % 50 == 49 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };

    // Before the first packet of the phone.
    spoof(sequence);
    assert_eq!(heard(&bob, Duration::from_millis(300)), None, "the spoofer is heard");
    media.send_to(&alice_key.seal(&rtp(7, sequence), 0).unwrap(), to_bob).unwrap();
    assert!(heard(&bob, PATIENCE).is_some(), "the phone is not heard");
    let sealed = |sequence| bob_key.seal(&rtp(9, sequence), 0).unwrap();
    assert_eq!(reaches(&bob, to_phone, &sealed(1), &[&media, &spoofer, &elsewhere]), [true, false, false]);

    // After 200 ms of its silence: without the key, and with what it sent before.
    std::thread::sleep(Duration::from_millis(250));
    spoof(sequence + 1);
    spoofer.send_to(&alice_key.seal(&rtp(7, sequence), 0).unwrap(), to_bob).unwrap();
    assert_eq!(heard(&bob, Duration::from_millis(300)), None, "the spoofer is heard");
    assert_eq!(reaches(&bob, to_phone, &sealed(2), &[&media, &spoofer, &elsewhere]), [true, false, false]);

    // The phone goes to a network that nothing has ever named: its first packet is enough.
    sequence += 50;
    elsewhere.send_to(&alice_key.seal(&rtp(7, sequence), 0).unwrap(), to_bob).unwrap();
    assert!(heard(&bob, PATIENCE).is_some(), "the phone is not heard from its new address");
    assert_eq!(reaches(&bob, to_phone, &sealed(3), &[&media, &spoofer, &elsewhere]), [false, false, true]);

    let log = String::from_utf8_lossy(&world.daemon.log()).into_owned();
    assert!(!log.contains("AAAAAAAA") && !log.contains("BBBBBBBB"), "keys are not for logs");
    // What was refused is told by its own reason, once a second; the kernel may have lost some of a flood.
    let sent = 2 * floods + 1;
    let refused = || world.daemon.figure("siplatch_media_drops_total", "reason=\"srtp_unauthenticated\"");
    let deadline = Instant::now() + PATIENCE;
    while refused() < 0.9 * sent as f64 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = refused();
    assert!(told >= 0.9 * sent as f64, "{told} of {sent}");
    let figure = format!("0 of {sent} packets without its key heard, the phone at its 1st from anywhere");
    verdict(ROW, &figure, &call.hang_up());
}
