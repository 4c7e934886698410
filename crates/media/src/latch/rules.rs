//! What may latch at all: the allowed sources of one socket, as the plan names them.

use std::net::{IpAddr, SocketAddr};

use crate::{Component, Sources};

/// What the plan and the neighbouring component say while one packet is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    /// Who may latch.
    pub(crate) sources: &'a Sources,
    /// Which of the leg's two latches this is.
    pub(crate) component: Component,
    /// Where SDP says that this component's peer is.
    pub(crate) target: Option<SocketAddr>,
    /// For RTCP: the last SSRC on the leg's RTP socket.
    pub(crate) ssrc: Option<u32>,
    /// For RTCP: an address outside the plan to which the leg's RTP latch has moved by proof.
    pub(crate) roamed: Option<IpAddr>,
}

impl Rules<'_> {
    /// *What may latch*: the exact address of SDP, any port of the IPs that the
    /// control half names, any address in a prefix with `latch = true`. Nothing else.
    pub(super) fn allows(&self, from: SocketAddr) -> bool {
        let ip = from.ip().to_canonical();
        self.exact().is_some_and(|exact| exact.port() == from.port() && exact.ip().to_canonical() == ip)
            || self.ips().any(|allowed| allowed == ip)
            || self.sources.prefixes.iter().any(|prefix| prefix.contains(ip))
    }

    /// Same /24 (IPv6: /48) as an allowed address: for a counter, never for a decision.
    pub(crate) fn neighbour(&self, from: SocketAddr) -> bool {
        let near = |a: IpAddr, b: IpAddr| match (a, b) {
            (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
            (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..6] == b.octets()[..6],
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        };
        let ip = from.ip().to_canonical();
        self.exact().is_some_and(|exact| near(exact.ip().to_canonical(), ip)) || self.ips().any(|a| near(a, ip))
    }

    fn exact(&self) -> Option<SocketAddr> {
        self.sources.exact.map(|exact| match self.component {
            Component::Rtp => exact.rtp(),
            Component::Rtcp => exact.rtcp(),
        })
    }

    fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.ips.into_iter().chain([self.roamed]).flatten().map(|ip| ip.to_canonical())
    }
}
