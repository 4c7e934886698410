//! How soon a phone is answered.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;

/// What the range costs at start is its reserve, however wide it is: ports are bound ahead of need, not all of them.
#[test]
fn ten_thousand_media_ports_do_not_keep_a_phone_waiting() {
    // Below the range.
    let sip = free();
    let config = format!(
        "role = \"standalone\"\n[inner]\nlisten = [\"udp:{sip}\"]\n[media]\nports = \"50000-59999\"\n[[user]]\nname = \
         \"alice\"\npassword = \"secret\"\n"
    );
    let over = Arc::new(AtomicBool::new(false));
    let (phone, from) = udp();
    let asking = {
        let (phone, over) = (phone.try_clone().unwrap(), Arc::clone(&over));
        std::thread::spawn(move || {
            let began = Instant::now();
            let mut next = began;
            for number in 1.. {
                let request = options(sip, from)
                    .replace("OPTIONS", "REGISTER")
                    .replace("Call-ID: one@", &format!("Call-ID: {number}@"));
                // Nobody is there yet.
                let _ = phone.send_to(request.replace("bKone", &format!("bK{number}")).as_bytes(), sip);
                next += Duration::from_millis(1);
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
            began
        })
    };
    let waiting = std::thread::spawn(move || {
        let mut room = [0; 4096];
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            // That nobody was there is an error of the socket's, too.
            if let Ok(length) = phone.recv(&mut room) {
                return (Instant::now(), String::from_utf8_lossy(&room[..length]).into_owned());
            }
            assert!(Instant::now() < until, "no answer");
        }
    });
    let daemon = Daemon::start("ports", &config);
    let (answered, answer) = waiting.join().unwrap();
    over.store(true, Ordering::Relaxed);
    let took = answered - asking.join().unwrap();
    assert!(answer.starts_with("SIP/2.0 401 "), "{answer}");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).unwrap().count();
    println!("start to first answered REGISTER: {took:?}, {descriptors} descriptors");
    assert!(descriptors < 100, "{descriptors} descriptors");
    // A fraction of it without other tests beside, and optimised.
    assert!(took < Duration::from_secs(2), "{took:?}");
}
