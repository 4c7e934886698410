//! Addresses of 127.0.0.0/8: a /24 for each world, so that everybody has a
//! source address, and nobody's port is taken.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// One /24.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loopback {
    high: u8,
    low: u8,
}

impl Loopback {
    /// One that nobody uses.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number =
                std::process::id().wrapping_mul(37).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 30_000;
            let net = Self { high: 8 + (number / 256) as u8, low: (number % 256) as u8 };
            let (sip, metrics) = (net.at(1, 5060), net.at(1, 9090));
            if UdpSocket::bind(sip).is_ok() && TcpListener::bind(sip).is_ok() && TcpListener::bind(metrics).is_ok() {
                return net;
            }
        }
    }

    /// An address of it.
    pub fn ip(self, host: u8) -> IpAddr {
        Ipv4Addr::new(127, self.high, self.low, host).into()
    }

    /// The same with a port.
    pub fn at(self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(host), port)
    }

    /// One of 2^18 addresses outside every world, for floods from many sources.
    pub fn stranger(number: u32) -> IpAddr {
        let [_, high, middle, low] = (number % (1 << 18)).to_be_bytes();
        Ipv4Addr::new(127, 200 + high, middle, low.max(1)).into()
    }
}

impl Default for Loopback {
    fn default() -> Self {
        Self::new()
    }
}
