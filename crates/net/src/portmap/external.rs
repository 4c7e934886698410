//! The router's own public address, asked once: for whoever examines the
//! network. Nothing stays behind in the router.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use nat::portmap::{Gateway, Protocol, Question, Reply};
use tokio::net::UdpSocket;
use wire::portmap::{self, Answer, MapRequest, Proto, SERVER_PORT, Told};

use super::{at, gateway, pcp, upnp};
use crate::entropy;

/// How long each of three requests is waited after.
const WAITS: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1000)];

/// What a router says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct External {
    /// Which router.
    pub gateway: Gateway,
    /// Its public address; unspecified while it has no uplink.
    pub address: Ipv4Addr,
    /// What it was asked in.
    pub protocol: Protocol,
}

/// Asks the router of the default route for its public address, in NAT-PMP,
/// PCP and UPnP in turn; some 8 s at most. `None`: there is no router, or it
/// speaks none of them. What comes back is as the router says it.
pub async fn external_address() -> Option<External> {
    let gateway = gateway()?;
    let told = |protocol| move |address| External { gateway, address, protocol };
    if let Some(address) = natpmp(gateway).await {
        return Some(told(Protocol::NatPmp)(address));
    }
    if let Some(address) = by_mapping(gateway).await {
        return Some(told(Protocol::Pcp)(address));
    }
    let service = upnp::find(gateway).await?;
    match upnp::ask(gateway, &service, Question::External).await {
        Reply::External(address) => Some(told(Protocol::Upnp)(address)),
        Reply::Found | Reply::Done | Reply::Entry(_) | Reply::Fault(_) | Reply::Failed => None,
    }
}

async fn natpmp(gateway: Gateway) -> Option<Ipv4Addr> {
    let socket = pcp::bind(gateway.local).ok()?;
    exchange(&socket, at(gateway, SERVER_PORT), &portmap::natpmp_external(), |answer| match answer {
        Answer::NatPmp { result: 0, told: Some(Told::External(address)), .. } => Some(Some(address)),
        // It is there, and does not speak this.
        Answer::NatPmp { result: 1.., .. } | Answer::Pcp { .. } => Some(None),
        Answer::NatPmp { .. } => None,
    })
    .await?
}

/// PCP tells it with a mapping only: one for the socket that asks, removed at once.
async fn by_mapping(gateway: Gateway) -> Option<Ipv4Addr> {
    let socket = pcp::bind(gateway.local).ok()?;
    let internal = socket.local_addr().ok()?.port();
    let nonce: [u8; 12] = entropy::seed().ok()?.first_chunk().copied()?;
    let wish = MapRequest { proto: Proto::Udp, internal, external: 0, lifetime: 120 };
    let server = at(gateway, SERVER_PORT);
    let address = exchange(&socket, server, &portmap::pcp_map(gateway.local, nonce, wish), |answer| match answer {
        Answer::Pcp { result: 0, map: Some(map), .. } if map.nonce == nonce => Some(Some(*map.external.ip())),
        Answer::Pcp { result: 1.., .. } | Answer::NatPmp { result: 1.., .. } => Some(None),
        Answer::Pcp { .. } | Answer::NatPmp { .. } => None,
    })
    .await??;
    let gone = portmap::pcp_map(gateway.local, nonce, MapRequest { lifetime: 0, ..wish });
    // A mapping that stays ends after two minutes.
    exchange(&socket, server, &gone, |answer| matches!(answer, Answer::Pcp { .. }).then_some(())).await;
    Some(address)
}

/// Asks until an answer of the router is the one.
async fn exchange<T>(
    socket: &UdpSocket,
    server: SocketAddr,
    request: &[u8],
    mut read: impl FnMut(Answer) -> Option<T>,
) -> Option<T> {
    let mut room = [0; pcp::ROOM];
    for wait in WAITS {
        socket.send_to(request, server).await.ok()?;
        let answer = tokio::time::timeout(wait, async {
            loop {
                let Ok((len, from)) = socket.recv_from(&mut room).await else { continue };
                if from == server
                    && let Some(answer) = portmap::read(&room[..len]).and_then(&mut read)
                {
                    return answer;
                }
            }
        });
        if let Ok(answer) = answer.await {
            return Some(answer);
        }
    }
    None
}
