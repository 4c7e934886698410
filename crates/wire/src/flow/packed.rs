//! A flow as it is kept by what there are very many of: bindings, calls, and
//! transactions that are over. Of IPv4 it takes a third of a [`Flow`].

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use super::{Flow, ListenerId, Transport};

/// A [`Flow`] in few octets; [`get`](Self::get) gives it back, the same in every part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedFlow {
    ends: Ends,
    connection: u32,
    listener: ListenerId,
    transport: Transport,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ends {
    V4 { ips: [Ipv4Addr; 2], ports: [u16; 2] },
    Others(Box<[SocketAddr; 2]>),
}

impl PackedFlow {
    /// The flow.
    pub fn get(&self) -> Flow {
        let Self { ends, connection, listener, transport } = self;
        let [local, remote] = match ends {
            Ends::V4 { ips, ports } => [0, 1].map(|end| SocketAddrV4::new(ips[end], ports[end]).into()),
            Ends::Others(ends) => **ends,
        };
        Flow { transport: *transport, listener: *listener, connection: *connection, local, remote }
    }
}

impl From<Flow> for PackedFlow {
    fn from(flow: Flow) -> Self {
        let Flow { transport, listener, connection, local, remote } = flow;
        let ends = match (local, remote) {
            (SocketAddr::V4(local), SocketAddr::V4(remote)) => {
                Ends::V4 { ips: [*local.ip(), *remote.ip()], ports: [local.port(), remote.port()] }
            }
            (local, remote) => Ends::Others(Box::new([local, remote])),
        };
        Self { ends, connection, listener, transport }
    }
}

impl PartialEq<Flow> for PackedFlow {
    fn eq(&self, flow: &Flow) -> bool {
        self.get() == *flow
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use super::*;

    #[test]
    fn what_was_packed_is_the_same_and_small() {
        let four = SocketAddr::from(([192, 0, 2, 1], 5060));
        let six = SocketAddr::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 5061, 7, 3));
        for (local, remote) in [(four, four), (four, six), (six, four), (six, six)] {
            let flow = Flow { transport: Transport::Wss, listener: ListenerId(4), connection: 9, local, remote };
            let packed = PackedFlow::from(flow);
            assert_eq!(packed, flow);
            assert_eq!(packed.get(), flow);
            assert_ne!(packed, Flow { connection: 8, ..flow });
        }
        assert_eq!((size_of::<PackedFlow>(), size_of::<Flow>()), (24, 72));
    }
}
