//! Is a SIP server there, over which transport? And is a TURN server?

use std::net::SocketAddr;
use std::time::Duration;

use nat::options::{self, Answer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wire::Transport;
use wire::stun::allocate::{self, Allocated};
use wire::stun::read_answer;

use super::line::{Failure, Stream, next_message, open};
use super::{ROOM, bind};
use crate::transport::tls;
use crate::{addresses, clock, entropy};

/// When a datagram is sent again, and when nobody answers any more, from the first one on.
const COPIES: [Duration; 3] = [Duration::from_millis(500), Duration::from_millis(1500), Duration::from_millis(3500)];
/// How long the answer over a connection may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached<T> {
    /// The answer, and our own socket's address.
    Answers(T, SocketAddr),
    /// A connection was made, and nothing of use came over it.
    Connects,
    /// Somebody said that there is nothing (RST, ICMP).
    Refused,
    /// Nothing came back.
    Silent,
    /// The server's certificate does not verify.
    Untrusted,
}

impl<T> From<Failure> for Reached<T> {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Silent => Self::Silent,
            Failure::Refused => Self::Refused,
            Failure::Untrusted => Self::Untrusted,
            Failure::NoTls => Self::Connects,
        }
    }
}

/// Sends an OPTIONS over UDP, TCP or TLS. `name`: the server as it is written,
/// with its port; `domain`: what its certificate must name. 11 s at most.
pub async fn sip(
    to: SocketAddr,
    transport: Transport,
    name: &str,
    domain: &str,
    tls: &tls::Settings,
) -> Reached<Answer> {
    let Some(random) = random() else { return Reached::Silent };
    let request = |local| options::request(options::Way { transport, local, server: name }, random);
    let read = |bytes: &[u8]| options::read(bytes, random);
    if transport == Transport::Udp {
        return datagrams(to, request, read).await;
    }
    let tls = (transport == Transport::Tls).then_some((tls, domain));
    let (mut stream, local) = match open(to, tls).await {
        Ok(opened) => opened,
        Err(failure) => return failure.into(),
    };
    let asking = async {
        stream.write_all(&request(local)).await.ok()?;
        let mut buffer = Vec::new();
        loop {
            let message = next_message(&mut stream, &mut buffer).await.ok()??;
            if let Some(answer) = read(&message) {
                return Some(answer);
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await.ok().flatten();
    answer.map_or(Reached::Connects, |answer| Reached::Answers(answer, local))
}

/// Does a STUN server answer? 4 s at most.
pub async fn stun(to: SocketAddr) -> bool {
    let Some(id) = transaction() else { return false };
    let read = |bytes: &[u8]| read_answer(bytes).ok().filter(|answer| answer.transaction == id);
    let request = wire::stun::request(id);
    matches!(datagrams(to, |_local| request.clone(), read).await, Reached::Answers(..))
}

/// Sends an Allocate without credentials, which a TURN server refuses with 401
/// (RFC 8656 §7.2). `domain` as above. 11 s at most.
pub async fn turn(to: SocketAddr, transport: Transport, domain: &str, tls: &tls::Settings) -> Reached<Allocated> {
    let Some(transaction) = transaction() else { return Reached::Silent };
    let request = allocate::request(transaction);
    let read = |bytes: &[u8]| allocate::read(bytes, transaction);
    if transport == Transport::Udp {
        return datagrams(to, |_local| request.clone(), read).await;
    }
    let tls = (transport == Transport::Tls).then_some((tls, domain));
    let (mut stream, local) = match open(to, tls).await {
        Ok(opened) => opened,
        Err(failure) => return failure.into(),
    };
    let asking = async {
        stream.write_all(&request).await.ok()?;
        read(&stun_message(&mut stream).await?)
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await.ok().flatten();
    answer.map_or(Reached::Connects, |answer| Reached::Answers(answer, local))
}

/// One whole STUN message of a stream (RFC 8489 §6.2.2).
async fn stun_message(stream: &mut Box<dyn Stream>) -> Option<Vec<u8>> {
    let mut message = vec![0; 20];
    stream.read_exact(&mut message).await.ok()?;
    let rest = usize::from(u16::from_be_bytes([message[2], message[3]]));
    message.resize(20 + rest, 0);
    stream.read_exact(&mut message[20..]).await.ok()?;
    Some(message)
}

async fn datagrams<T>(
    to: SocketAddr,
    request: impl Fn(SocketAddr) -> Vec<u8>,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Reached<T> {
    let socket = addresses::toward(to).and_then(|ip| bind(SocketAddr::new(ip, 0)));
    let Ok(socket) = socket else { return Reached::Refused };
    // Connected, it hears of ICMP errors.
    let (Ok(()), Ok(local)) = (socket.connect(to).await, socket.local_addr()) else { return Reached::Refused };
    let (bytes, begun) = (request(local), clock::now());
    let mut room = [0; ROOM];
    let mut refused = false;
    for due in COPIES {
        refused |= socket.send(&bytes).await.is_err();
        let left = (begun + due).saturating_duration_since(clock::now());
        let answered = tokio::time::timeout(left, async {
            loop {
                match socket.recv(&mut room).await {
                    Ok(len) => match read(&room[..len]) {
                        Some(answer) => return Some(answer),
                        None => continue,
                    },
                    Err(_) => return None,
                }
            }
        });
        match answered.await {
            Ok(Some(answer)) => return Reached::Answers(answer, local),
            Ok(None) => {
                refused = true;
                // It may have been another's; the other copies tell.
                tokio::time::sleep((begun + due).saturating_duration_since(clock::now())).await;
            }
            Err(_elapsed) => {}
        }
    }
    if refused { Reached::Refused } else { Reached::Silent }
}

fn transaction() -> Option<[u8; 12]> {
    let [one, two] = random()?;
    let mut id = [0; 12];
    id[..8].copy_from_slice(&one.to_be_bytes());
    id[8..].copy_from_slice(&two.to_be_bytes()[..4]);
    Some(id)
}

fn random() -> Option<[u64; 2]> {
    let seed = entropy::seed().ok()?;
    let number = |at: usize| seed[at..at + 8].iter().fold(0, |number, octet| number << 8 | u64::from(*octet));
    Some([number(0), number(8)])
}
