//! Who may speak to the program at all (RFC 5853 §3.5).

use super::*;

fn phone_at(ip: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn ask((socket, from): &(UdpSocket, SocketAddr), sip: SocketAddr) {
    socket.send_to(options(sip, *from).as_bytes(), sip).unwrap();
}

#[test]
fn whoever_is_shut_out_is_not_read() {
    let sip = free();
    let config = |rules: &str| format!("role = \"standalone\"\n[inner]\nlisten = [\"udp:{sip}\"]\n{rules}");
    let listed = "allow = [\"127.0.0.0/29\"]\n[[network]]\nprefix = \"127.0.0.3\"\naccess = \"deny\"\n";
    let daemon = Daemon::start("access", &config(listed));
    let [good, bad, strange] = ["127.0.0.2", "127.0.0.3", "127.0.1.1"].map(phone_at);
    for phone in [&bad, &strange, &good] {
        ask(phone, sip);
    }
    // One socket, one order: when the last is answered, the others were seen.
    assert!(good.0.recv(&mut [0; 4096]).is_ok());
    for (socket, from) in [&bad, &strange] {
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 4096]).is_err(), "{from} was answered");
        socket.set_nonblocking(false).unwrap();
    }
    let mut shut = connection_from("127.0.0.3", sip);
    assert!(matches!(shut.read(&mut [0; 16]), Ok(0) | Err(_)), "a connection is closed");
    let deadline = Instant::now() + Duration::from_secs(5);
    for line in [
        r#"siplatch_datagrams_total{kind="sip",side="inner"} 1"#,
        r#"siplatch_datagrams_total{kind="denied",side="inner"} 2"#,
        r#"siplatch_connections_denied_total{side="inner"} 1"#,
    ] {
        while !daemon.http("/metrics").lines().any(|found| found == line) {
            assert!(Instant::now() < deadline, "{line} is missing");
        }
    }
    daemon.rewrite(&config(""));
    assert!(daemon.reload(&[]).status.success());
    for phone in [&bad, &strange] {
        ask(phone, sip);
        assert!(phone.0.recv(&mut [0; 4096]).is_ok());
    }
}

/// A connection from an address of its own; the system's own ways know no such thing.
fn connection_from(ip: &str, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(ip.parse().unwrap(), 0)).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream
}
