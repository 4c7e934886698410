use super::*;

#[tokio::test]
async fn literals_need_no_resolver() {
    assert_eq!(resolve("192.0.2.1", 3478).await.unwrap(), ["192.0.2.1:3478".parse().unwrap()]);
    assert_eq!(resolve("[2001:db8::1]", 3478).await.unwrap(), ["[2001:db8::1]:3478".parse().unwrap()]);
    assert_eq!(resolve("2001:db8::1", 3478).await.unwrap(), ["[2001:db8::1]:3478".parse().unwrap()]);
}

#[tokio::test]
async fn localhost_is_loopback_and_nonsense_is_an_error() {
    let found = resolve("localhost", 5060).await.unwrap();
    assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 5060), "{found:?}");
    assert!(resolve("no such host", 5060).await.is_err());
}

/// A name server on loopback that knows a few records, for as long as it lives.
struct Server {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A name, the number of a record type, and the data of one record.
type Known = (&'static str, u16, Vec<u8>);

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const NAPTR: u16 = 35;

impl Server {
    /// Answers from a table with a TTL of 77 s, `failed.example` with SERVFAIL,
    /// `silent.example` not at all, and everything else with NXDOMAIN for 33 s.
    #[expect(clippy::disallowed_methods, reason = "the far end of a test, not a socket of ours")]
    async fn start(known: Vec<Known>) -> Self {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(answer) = answer(&known, &buffer[..length]) {
                    let _unheard = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { address, task }
    }

    fn resolver(&self) -> Resolver {
        Resolver::of(&[self.address]).unwrap()
    }
}

fn answer(known: &[Known], query: &[u8]) -> Option<Vec<u8>> {
    let end = 12 + query[12..].iter().position(|octet| *octet == 0)? + 1;
    let (mut name, mut rest) = (String::new(), &query[12..end]);
    while let Some((length, tail)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, tail) = tail.split_at(usize::from(*length));
        name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
        name.push('.');
        rest = tail;
    }
    let name = name.trim_end_matches('.');
    let kind = u16::from_be_bytes([query[end], query[end + 1]]);
    if name.ends_with("silent.example") {
        return None;
    }
    let records: Vec<&Known> = known.iter().filter(|(of, its, _)| *of == name && *its == kind).collect();
    let exists = known.iter().any(|(of, ..)| *of == name);
    let code: u8 = match (name.ends_with("failed.example"), exists) {
        (true, _) => 2,
        (false, true) => 0,
        (false, false) => 3,
    };
    let authority = u8::from(code != 2 && records.is_empty());
    let mut out = query[..2].to_vec();
    out.extend([0x85, 0x80 | code, 0, 1, 0, u8::try_from(records.len()).ok()?, 0, authority, 0, 0]);
    out.extend(&query[12..end + 4]);
    let mut record = |kind: u16, ttl: u32, data: &[u8]| {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend(1u16.to_be_bytes());
        out.extend(ttl.to_be_bytes());
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    };
    for (_, kind, data) in records {
        record(*kind, 77, data);
    }
    if authority == 1 {
        let mut soa = [labels("ns"), labels("who")].concat();
        soa.extend([1u32, 1, 1, 1, 33].map(u32::to_be_bytes).concat());
        record(6, 33, &soa);
    }
    Some(out)
}

fn labels(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Vec<u8> {
    [[priority, weight, port].map(u16::to_be_bytes).concat(), labels(target)].concat()
}

fn naptr(order: u16, service: &str, regexp: &str, replacement: &str) -> Vec<u8> {
    let string = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    [[order, 50].map(u16::to_be_bytes).concat(), string("s"), string(service), string(regexp), labels(replacement)]
        .concat()
}

const TTL: Duration = Duration::from_secs(77);

#[tokio::test]
async fn services_servers_and_addresses() {
    let server = Server::start(vec![
        ("example.com", NAPTR, naptr(90, "SIP+D2T", "", "_sip._tcp.Example.com")),
        ("example.com", NAPTR, naptr(100, "E2U+sip", "!^.*$!sip:info@example.com!", "")),
        ("_sip._udp.example.com", SRV, srv(1, 2, 5070, "A.example.com")),
        ("_sip._udp.example.com", SRV, srv(3, 4, 0, "")),
        ("a.example.com", A, vec![192, 0, 2, 1]),
        ("a.example.com", A, vec![192, 0, 2, 2]),
        ("a.example.com", AAAA, "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec()),
    ])
    .await;
    let resolver = server.resolver();
    let service = Naptr {
        order: 90,
        preference: 50,
        flags: "s".into(),
        service: "SIP+D2T".into(),
        replacement: "_sip._tcp.example.com".into(),
    };
    assert_eq!(resolver.naptr("example.com").await, Reply::Found(vec![service], TTL));
    let servers = vec![
        Srv { priority: 1, weight: 2, port: 5070, target: "a.example.com".into() },
        Srv { priority: 3, weight: 4, port: 0, target: String::new() },
    ];
    assert_eq!(resolver.srv("_sip._udp.example.com").await, Reply::Found(servers, TTL));
    let addresses = ["2001:db8::1", "192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
    assert_eq!(resolver.addresses("a.example.com").await, Reply::Found(addresses.to_vec(), TTL));
}

#[tokio::test]
async fn nothing_failure_and_silence_are_told_apart() {
    let server = Server::start(vec![("a.example.com", A, vec![192, 0, 2, 1])]).await;
    let resolver = server.resolver();
    let nothing = Duration::from_secs(33);
    assert_eq!(resolver.srv("_sip._udp.example.com").await, Reply::Nothing(nothing), "NXDOMAIN");
    assert_eq!(resolver.naptr("a.example.com").await, Reply::Nothing(nothing), "no such records");
    assert!(matches!(resolver.srv("failed.example").await, Reply::Failed(_)), "SERVFAIL");
    assert!(matches!(resolver.naptr("silent.example").await, Reply::Failed(_)), "nobody answers");
    assert!(matches!(resolver.srv(&"a".repeat(300)).await, Reply::Failed(_)), "no name at all");
}

#[tokio::test]
async fn names_of_the_hosts_file_and_literals_need_no_server() {
    let server = Server::start(Vec::new()).await;
    let resolver = server.resolver();
    let Reply::Found(found, _) = resolver.addresses("localhost").await else { panic!("localhost is known") };
    assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    let literal = resolver.addresses("[2001:db8::7]").await;
    assert_eq!(literal, Reply::Found(vec!["2001:db8::7".parse().unwrap()], Duration::MAX));
}
