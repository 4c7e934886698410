//! Numbers and addresses as text, on the stack.

use std::fmt::Write as _;
use std::net::IpAddr;

/// Numbers and addresses written without an allocation; the frequent ones
/// without the formatting machinery too, which costs more than all the rest.
pub(crate) struct Text {
    bytes: [u8; 64],
    length: usize,
}

impl Text {
    fn empty() -> Self {
        Self { bytes: [0; 64], length: 0 }
    }

    pub(crate) fn number(number: u64) -> Self {
        let mut text = Self::empty();
        text.decimal(number);
        text
    }

    /// `IP4 host` or `IP6 host`; an IPv4-mapped IPv6 address is written as IPv4.
    pub(crate) fn ip(address: IpAddr) -> Self {
        let mut text = Self::empty();
        let address = address.to_canonical();
        text.push(if address.is_ipv4() { b"IP4 " } else { b"IP6 " });
        text.host(address);
        text
    }

    /// The address alone.
    pub(crate) fn address(address: IpAddr) -> Self {
        let mut text = Self::empty();
        text.host(address);
        text
    }

    fn host(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(ip) => {
                for (dot, octet) in [false, true, true, true].into_iter().zip(ip.octets()) {
                    if dot {
                        self.byte(b'.');
                    }
                    self.octet(octet);
                }
            }
            // An address type and an address need 43 octets at most.
            IpAddr::V6(ip) => {
                let _ = write!(self, "{ip}");
            }
        }
    }

    fn octet(&mut self, octet: u8) {
        if octet >= 100 {
            self.byte(b'0' + octet / 100);
        }
        if octet >= 10 {
            self.byte(b'0' + octet / 10 % 10);
        }
        self.byte(b'0' + octet % 10);
    }

    fn byte(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
            self.length += 1;
        }
    }

    fn decimal(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[first..]);
    }

    fn push(&mut self, piece: &[u8]) {
        if let Some(slot) = self.bytes.get_mut(self.length..self.length + piece.len()) {
            slot.copy_from_slice(piece);
            self.length += piece.len();
        }
    }

    pub(crate) fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        self.push(piece.as_bytes());
        Ok(())
    }
}
