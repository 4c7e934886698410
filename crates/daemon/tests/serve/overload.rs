//! More to do than there is time for (RFC 6357).

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::*;

/// A request of its own each time.
fn request(start: &str, to: SocketAddr, from: SocketAddr, number: usize) -> String {
    let template = options(to, from).replace("z9hG4bKone", &format!("z9hG4bKone{number}"));
    let method = start.split(' ').next().unwrap();
    template.replacen(&format!("OPTIONS sip:{to}"), start, 1).replace("1 OPTIONS", &format!("{number} {method}"))
}

/// Sends a request again and again, for the kernel drops what it has no room for; the status of the answer.
fn ask((socket, _): &(UdpSocket, SocketAddr), to: SocketAddr, message: &str, number: usize) -> Option<String> {
    let mut room = [0; 4096];
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        socket.send_to(message.as_bytes(), to).unwrap();
        let Ok(length) = socket.recv(&mut room) else { continue };
        let text = String::from_utf8_lossy(&room[..length]).into_owned();
        if text.contains(&format!("\r\nCSeq: {number} ")) && !text.starts_with("SIP/2.0 100 ") {
            return text.lines().next().map(str::to_owned);
        }
    }
    None
}

#[test]
fn in_a_flood_calls_for_help_are_served_and_new_requests_refused() {
    let sip = free();
    let daemon = Daemon::start("overload", &format!("role = \"standalone\"\n[inner]\nlisten = [\"udp:{sip}\"]"));
    let over = Arc::new(AtomicBool::new(false));
    let refused: Arc<Mutex<Option<String>>> = Arc::default();
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let (over, refused) = (Arc::clone(&over), Arc::clone(&refused));
            std::thread::spawn(move || {
                let (socket, from) = udp();
                socket.set_nonblocking(true).unwrap();
                let mut room = [0; 4096];
                for number in 1.. {
                    if over.load(Ordering::Relaxed) {
                        return number;
                    }
                    let start = format!("OPTIONS sip:{sip}");
                    // A full buffer is what a flood is about.
                    let _ = socket.send_to(request(&start, sip, from, number).as_bytes(), sip);
                    if let Ok(length) = socket.recv(&mut room)
                        && room[..length].starts_with(b"SIP/2.0 503 ")
                    {
                        refused.lock().unwrap().get_or_insert(String::from_utf8_lossy(&room[..length]).into_owned());
                    }
                }
                0
            })
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    while refused.lock().unwrap().is_none() {
        assert!(Instant::now() < deadline, "nothing was refused");
        std::thread::yield_now();
    }
    let phone = udp();
    phone.0.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let helped = ask(&phone, sip, &request("INVITE urn:service:sos.fire", sip, phone.1, 1), 1);
    over.store(true, Ordering::Relaxed);
    let sent: usize = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
    let refused = refused.lock().unwrap().clone().unwrap();
    assert!(refused.contains("\r\nRetry-After: "), "{refused}");
    // Nobody is registered as that here; what counts is that it was read.
    assert_eq!(helped.as_deref(), Some("SIP/2.0 404 Not Found"), "of {sent} requests");
    let page = daemon.http("/metrics");
    let value = |series: &str| page.lines().find_map(|l| l.strip_prefix(series)?.trim().parse::<f64>().ok());
    assert!(value(r#"siplatch_overload_refused_total{urgency="new"}"#) > Some(0.0), "{page}");
    assert_eq!(value(r#"siplatch_overload_refused_total{urgency="last"}"#), Some(0.0));
    // What waited in the socket is refused first, at once; after that a request is served again.
    let deadline = Instant::now() + Duration::from_secs(30);
    let served = (2..).take_while(|_| Instant::now() < deadline).any(|number| {
        let message = request(&format!("OPTIONS sip:{sip}"), sip, phone.1, number);
        ask(&phone, sip, &message, number).as_deref() == Some("SIP/2.0 200 OK")
    });
    assert!(served, "nothing is served 30 s after the flood");
}
