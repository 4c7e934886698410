//! JSON, written straight into a buffer: what is written for every call need
//! not go through a serializer. Reading is serde's affair.

use std::net::SocketAddr;

use wire::Text;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes at the end of a buffer. What is a whole value of JSON is the caller's affair.
#[derive(Debug)]
pub struct Json<'a>(pub &'a mut Vec<u8>);

impl Json<'_> {
    /// Names of fields, brackets and what else stands as it is.
    #[inline]
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A number.
    pub fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        match number.into() {
            digit @ 0..10 => self.0.push(b'0' + digit as u8),
            number => self.0.extend_from_slice(Text::number(number).get()),
        }
        self
    }

    /// 16 hexadecimal digits.
    pub fn hex(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&hex(number));
        self
    }

    /// True or false.
    pub fn truth(&mut self, truth: bool) -> &mut Self {
        self.raw(if truth { "true" } else { "false" })
    }

    /// A value, or null.
    pub fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T) -> &mut Self) -> &mut Self {
        match value {
            Some(value) => write(self, value),
            None => self.raw("null"),
        }
    }

    /// An array.
    pub fn all<T>(
        &mut self,
        values: impl IntoIterator<Item = T>,
        write: impl Fn(&mut Self, T) -> &mut Self,
    ) -> &mut Self {
        self.raw("[");
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                self.raw(",");
            }
            write(self, value);
        }
        self.raw("]")
    }

    /// A string.
    pub fn string(&mut self, text: &str) -> &mut Self {
        self.raw("\"");
        if text.bytes().fold(false, |special, octet| special | is_special(octet)) {
            text.bytes().for_each(|octet| self.octet(octet));
        } else {
            self.raw(text);
        }
        self.raw("\"")
    }

    /// Octets as a string: each is the character of the same number, so
    /// nothing is lost and a person can read the rest.
    pub fn octets(&mut self, octets: &[u8]) -> &mut Self {
        self.raw("\"");
        if octets.iter().fold(false, |special, octet| special | is_special(*octet) | !octet.is_ascii()) {
            for octet in octets {
                match octet {
                    0x80.. => self.0.extend_from_slice(char::from(*octet).encode_utf8(&mut [0; 2]).as_bytes()),
                    _ => self.octet(*octet),
                }
            }
        } else {
            self.0.extend_from_slice(octets);
        }
        self.raw("\"")
    }

    /// An address with its port, as a string.
    pub fn address(&mut self, address: SocketAddr) -> &mut Self {
        self.raw("\"").bare_address(address).raw("\"")
    }

    /// The same without quotes.
    pub fn bare_address(&mut self, address: SocketAddr) -> &mut Self {
        self.0.extend_from_slice(Text::socket(address).get());
        self
    }

    /// An octet of a string, escaped where it must be (RFC 8259 §7).
    fn octet(&mut self, octet: u8) {
        let short = match octet {
            b'"' | b'\\' => octet,
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            0..0x20 => {
                let [high, low] = [octet >> 4, octet & 0xf].map(|digit| HEX[usize::from(digit)]);
                return self.0.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
            _ => return self.0.push(octet),
        };
        self.0.extend_from_slice(&[b'\\', short]);
    }
}

/// A number as 16 hexadecimal digits.
pub fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (at, octet) in number.to_be_bytes().into_iter().enumerate() {
        digits[2 * at] = HEX[usize::from(octet >> 4)];
        digits[2 * at + 1] = HEX[usize::from(octet & 0xf)];
    }
    digits
}

fn is_special(octet: u8) -> bool {
    octet < 0x20 || octet == b'"' || octet == b'\\'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl for<'a, 'b> FnOnce(&'a mut Json<'b>) -> &'a mut Json<'b>) -> String {
        let mut octets = Vec::new();
        write(&mut Json(&mut octets));
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn numbers_are_as_the_library_writes_them() {
        let ends = (0..20).flat_map(|power| [10_u64.pow(power), 10_u64.pow(power) - 1]);
        for number in ends.chain([u64::MAX, 12_345, 101]) {
            assert_eq!(written(|json| json.number(number)), number.to_string());
            assert_eq!(written(|json| json.hex(number)), format!("{number:016x}"));
        }
    }

    #[test]
    fn strings_are_read_again_as_they_were() {
        let all: Vec<u8> = (0..=255).collect();
        let text = written(|json| json.octets(&all));
        let read: String = serde_json::from_str(&text).unwrap();
        assert_eq!(read.chars().map(|c| u8::try_from(c).unwrap()).collect::<Vec<u8>>(), all);
        for text in ["", "plain", "\u{0}\u{1f}\u{7f}\"\\\u{8}\t\n\u{c}\r", "Müller \u{1f4de}"] {
            assert_eq!(written(|json| json.string(text)), serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn addresses_are_as_the_library_writes_them() {
        for address in ["0.0.0.0:0", "255.255.255.255:65535", "10.0.200.9:5060", "[::1]:5060", "[fe80::1%3]:1"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(written(|json| json.address(address)), format!("\"{address}\""));
        }
    }

    #[test]
    fn what_is_not_there_is_null() {
        let text = written(|json| {
            json.all([Some(1_u8), None], |json, value| json.optional(value, |json, value| json.number(value)));
            json.all([false; 0], |json, value| json.truth(value))
        });
        assert_eq!(text, "[1,null][]");
    }
}
