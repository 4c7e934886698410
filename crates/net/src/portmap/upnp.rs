//! The sockets of UPnP IGD: the search, and one connection for each question.
//! Answers count only from the router itself, up to a bounded length and time.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use nat::portmap::{Entry, Gateway, Question, Reply};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use wire::portmap::Proto;
use wire::upnp::{self, ANSWER_OCTETS, SSDP, Service, TARGETS, element};

use super::{at, pcp};
use crate::dscp::Dscp;
use crate::sockopt::{from_tcp, multicast_from};

/// How long a router may take for one question.
const PATIENCE: Duration = Duration::from_secs(5);
/// Searches, and how long each is listened after.
const SEARCHES: usize = 6;
const SEARCH: Duration = Duration::from_millis(500);

/// The router's service that maps ports, if it has one.
pub(super) async fn find(gateway: Gateway) -> Option<Service> {
    let socket = pcp::bind(gateway.local).ok()?;
    if let Err(error) = multicast_from(&socket, gateway.local) {
        tracing::debug!(%error, "the search may leave by another link");
    }
    let mut room = [0; 1500];
    for _ in 0..SEARCHES {
        // An answer to an earlier one is as good.
        for target in TARGETS {
            // The router alone is asked too: some switches swallow multicast.
            for to in [SocketAddr::from(SSDP), at(gateway, SSDP.port())] {
                if let Err(error) = socket.send_to(&upnp::search(target), to).await {
                    tracing::debug!(%error, %to, "a search was not sent");
                }
            }
        }
        let answered = tokio::time::timeout(SEARCH, async {
            loop {
                let Ok((len, from)) = socket.recv_from(&mut room).await else { continue };
                if from.ip() == gateway.router && upnp::location(&room[..len]).is_some() {
                    return len;
                }
            }
        });
        if let Ok(len) = answered.await
            && let Some(found) = describe(gateway, &room[..len]).await
        {
            return Some(found);
        }
    }
    None
}

/// Reads the description that an answer to a search names. Nothing leads anywhere but to the router.
async fn describe(gateway: Gateway, answer: &[u8]) -> Option<Service> {
    let location = upnp::location(answer).filter(|url| *url.host.ip() == gateway.router)?;
    let page = fetch(gateway.local, location.host, &upnp::get(&location)).await.ok()?;
    let (status, body) = upnp::answer(&page)?;
    let service = upnp::service(&body, &location).filter(|_| status == 200)?;
    (*service.control.host.ip() == gateway.router).then_some(service)
}

/// Puts one question.
pub(super) async fn ask(gateway: Gateway, service: &Service, question: Question) -> Reply {
    let request = request(service, &question);
    let answer = match fetch(gateway.local, service.control.host, &request).await {
        Ok(octets) => upnp::answer(&octets),
        Err(error) => {
            tracing::debug!(%error, ?question, "UPnP");
            None
        }
    };
    let Some((status, body)) = answer else { return Reply::Failed };
    if status != 200 {
        let code = element(&body, "errorCode").and_then(|code| code.parse().ok());
        return code.map_or(Reply::Failed, Reply::Fault);
    }
    read(question, &body).unwrap_or(Reply::Failed)
}

fn request(service: &Service, question: &Question) -> Vec<u8> {
    let port = |port: &u16| port.to_string();
    let one = |action: &str, proto: Proto, external: u16| {
        let external = external.to_string();
        let arguments = [("NewRemoteHost", ""), ("NewExternalPort", &*external), ("NewProtocol", proto.as_str())];
        upnp::call(service, action, &arguments)
    };
    match question {
        Question::Find | Question::External => upnp::call(service, "GetExternalIPAddress", &[]),
        Question::Add { proto, external, client, internal, description, lease } => upnp::call(
            service,
            "AddPortMapping",
            &[
                ("NewRemoteHost", ""),
                ("NewExternalPort", &port(external)),
                ("NewProtocol", proto.as_str()),
                ("NewInternalPort", &port(internal)),
                ("NewInternalClient", &client.to_string()),
                ("NewEnabled", "1"),
                ("NewPortMappingDescription", description),
                ("NewLeaseDuration", &lease.to_string()),
            ],
        ),
        Question::Delete(proto, external) => one("DeletePortMapping", *proto, *external),
        Question::Look(proto, external) => one("GetSpecificPortMappingEntry", *proto, *external),
        Question::List(place) => {
            upnp::call(service, "GetGenericPortMappingEntry", &[("NewPortMappingIndex", &port(place))])
        }
    }
}

fn read(question: Question, body: &str) -> Option<Reply> {
    let number = |name: &str| element(body, name)?.parse::<u16>().ok();
    let entry = |proto: Proto, external: u16| {
        Some(Reply::Entry(Entry {
            proto,
            external,
            client: element(body, "NewInternalClient")?,
            internal: number("NewInternalPort")?,
            description: element(body, "NewPortMappingDescription").unwrap_or_default(),
        }))
    };
    match question {
        Question::Find => Some(Reply::Found),
        Question::External => element(body, "NewExternalIPAddress")?.parse().ok().map(Reply::External),
        Question::Add { .. } | Question::Delete(..) => Some(Reply::Done),
        Question::Look(proto, external) => entry(proto, external),
        Question::List(_) => {
            let written = element(body, "NewProtocol")?;
            let proto = if written.eq_ignore_ascii_case("TCP") { Proto::Tcp } else { Proto::Udp };
            entry(proto, number("NewExternalPort")?)
        }
    }
}

/// One request and its answer, on a connection of its own.
async fn fetch(local: Ipv4Addr, host: SocketAddrV4, request: &[u8]) -> io::Result<Vec<u8>> {
    let exchange = async {
        let socket = TcpSocket::from_std_stream(from_tcp(SocketAddr::from((local, 0)), Dscp::DEFAULT)?);
        let mut stream = socket.connect(host.into()).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        let mut room = [0; 4096];
        while !upnp::whole(&answer) {
            let len = stream.read(&mut room).await?;
            if len == 0 {
                break;
            }
            if answer.len() + len > ANSWER_OCTETS {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
            }
            answer.extend_from_slice(&room[..len]);
        }
        Ok(answer)
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

    /// A router on loopback that answers each connection with this.
    async fn router(answer: Vec<u8>) -> SocketAddrV4 {
        let listener = crate::sockopt::listen_tcp(SocketAddr::from((HERE, 0)), Dscp::DEFAULT).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("not IPv4") };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut room = [0; 2048];
                let _ = stream.read(&mut room).await;
                let _ = stream.write_all(&answer).await;
            }
        });
        address
    }

    fn gateway() -> Gateway {
        Gateway { router: HERE, local: HERE }
    }

    async fn asked(answer: &str, question: Question) -> Reply {
        let host = router(answer.as_bytes().to_vec()).await;
        let control = upnp::Url { host, path: "/ctl".to_owned() };
        let service = Service { kind: "urn:schemas-upnp-org:service:WANIPConnection:1", control };
        ask(gateway(), &service, question).await
    }

    #[tokio::test]
    async fn answers_are_read() {
        let ok = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let external = ok("<s:Body><NewExternalIPAddress>203.0.113.9</NewExternalIPAddress></s:Body>");
        assert_eq!(asked(&external, Question::External).await, Reply::External([203, 0, 113, 9].into()));
        let entry = ok("<NewInternalPort>5070</NewInternalPort><NewInternalClient>192.168.1.9</NewInternalClient>\
                        <NewPortMappingDescription>console</NewPortMappingDescription>");
        let Reply::Entry(entry) = asked(&entry, Question::Look(Proto::Udp, 5070)).await else { panic!("no entry") };
        assert_eq!((entry.client.as_str(), entry.internal, entry.external), ("192.168.1.9", 5070, 5070));
        let fault = "HTTP/1.1 500 Error\r\n\r\n<errorCode>718</errorCode>";
        assert_eq!(asked(fault, Question::Delete(Proto::Udp, 5070)).await, Reply::Fault(718));
        for broken in ["", "HTTP/1.1 200 OK\r\n\r\n<NewExternalIPAddress>x</NewExternalIPAddress>", "\0\0\0"] {
            assert_eq!(asked(broken, Question::External).await, Reply::Failed, "{broken}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_cut_off() {
        let host = router(vec![b'x'; 4 << 20]).await;
        let error = fetch(HERE, host, b"GET / HTTP/1.1\r\n\r\n").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn a_description_elsewhere_is_not_fetched() {
        let body = "<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\
                    <controlURL>/ctl</controlURL></service>";
        let page = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let host = router(page(body).into_bytes()).await;
        let answer = |at: &str| {
            format!("HTTP/1.1 200 OK\r\nST: {}\r\nLOCATION: http://{at}/d.xml\r\n\r\n", TARGETS[0]).into_bytes()
        };
        assert!(describe(gateway(), &answer(&host.to_string())).await.is_some());
        assert!(describe(gateway(), &answer(&format!("127.0.0.2:{}", host.port()))).await.is_none());
        // Nor is one believed that leads to another host.
        let body = body.replace("/ctl", "http://127.0.0.2/ctl");
        let host = router(page(&body).into_bytes()).await;
        assert!(describe(gateway(), &answer(&host.to_string())).await.is_none());
    }
}
