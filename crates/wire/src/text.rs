//! Numbers and addresses as text, on the stack.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Numbers and addresses, written without an allocation; the frequent ones
/// without the formatting machinery too, which costs more than all the rest.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    bytes: [u8; ROOM],
    length: usize,
}

/// An IPv6 address with scope and port takes 58 octets, and a little may follow.
const ROOM: usize = 80;

/// Every octet in decimal with a dot behind it.
static OCTETS: [[u8; 4]; 256] = {
    let mut table = [[b'.'; 4]; 256];
    let mut octet = 0;
    while octet < 256 {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let mut zeros = if octet < 10 { 2 } else { (octet < 100) as usize };
        let mut at = 0;
        while zeros < 3 {
            table[octet][at] = b'0' + digits[zeros] as u8;
            zeros += 1;
            at += 1;
        }
        octet += 1;
    }
    table
};

impl Text {
    /// Nothing yet.
    pub fn empty() -> Self {
        Self { bytes: [0; ROOM], length: 0 }
    }

    /// Decimal.
    pub fn number(number: u64) -> Self {
        let mut text = Self::empty();
        text.decimal(number);
        text
    }

    /// `IP4 host` or `IP6 host`; an IPv4-mapped IPv6 address is written as IPv4.
    pub fn ip(address: IpAddr) -> Self {
        let mut text = Self::empty();
        let address = address.to_canonical();
        text.push(if address.is_ipv4() { b"IP4 " } else { b"IP6 " });
        text.host(address);
        text
    }

    /// The address alone.
    pub fn address(address: IpAddr) -> Self {
        let mut text = Self::empty();
        text.host(address);
        text
    }

    /// `host:port`, an IPv6 address in brackets.
    pub fn socket(address: SocketAddr) -> Self {
        let mut text = Self::empty();
        match address {
            SocketAddr::V4(v4) => {
                text.host(IpAddr::V4(*v4.ip()));
                text.push(b":");
                text.decimal(u64::from(v4.port()));
            }
            SocketAddr::V6(v6) => {
                let _ = write!(text, "{v6}");
            }
        }
        text
    }

    fn host(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(ip) => {
                ip.octets().into_iter().for_each(|octet| self.octet(octet));
                self.length -= 1;
            }
            // An address type and an address need 43 octets at most.
            IpAddr::V6(ip) => {
                let _ = write!(self, "{ip}");
            }
        }
    }

    /// The digits of one octet and a dot.
    fn octet(&mut self, octet: u8) {
        let digits = 1 + usize::from(octet >= 10) + usize::from(octet >= 100);
        if let Some(slot) = self.bytes.get_mut(self.length..self.length + 4) {
            slot.copy_from_slice(&OCTETS[usize::from(octet)]);
            self.length += digits + 1;
        }
    }

    fn decimal(&mut self, mut number: u64) {
        let digits = 1 + number.checked_ilog10().unwrap_or(0) as usize;
        if let Some(slot) = self.bytes.get_mut(self.length..self.length + digits) {
            for digit in slot.iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
            self.length += digits;
        }
    }

    /// Adds a piece; one for which there is no room is left out.
    pub fn push(&mut self, piece: &[u8]) {
        if let Some(slot) = self.bytes.get_mut(self.length..self.length + piece.len()) {
            slot.copy_from_slice(piece);
            self.length += piece.len();
        }
    }

    /// What was written.
    pub fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        self.push(piece.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn every_octet_as_the_standard_library_writes_it() {
        for octet in 0..=255 {
            let ip = Ipv4Addr::new(octet, 255, 0, octet);
            assert_eq!(Text::address(ip.into()).get(), ip.to_string().as_bytes());
            assert_eq!(Text::ip(ip.to_ipv6_mapped().into()).get(), format!("IP4 {ip}").as_bytes());
        }
        let longest = Ipv6Addr::from([0xffff; 8]);
        assert_eq!(Text::ip(longest.into()).get(), format!("IP6 {longest}").as_bytes());
        for number in (0..20).map(|zeros| 10_u64.pow(zeros)).flat_map(|power| [power - 1, power]).chain([u64::MAX]) {
            assert_eq!(Text::number(number).get(), number.to_string().as_bytes());
        }
    }
}
