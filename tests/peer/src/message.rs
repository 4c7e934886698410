//! Messages as a simple peer reads and writes them: lines of text.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// A message that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// As it came.
    pub bytes: Vec<u8>,
    /// Where from.
    pub from: SocketAddr,
    start: String,
    fields: Vec<(String, String)>,
    body: String,
}

impl Message {
    /// Reads what came; octets that are no UTF-8 are replaced.
    pub fn new(bytes: &[u8], from: SocketAddr) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in lines {
            match (fields.last_mut(), line.starts_with([' ', '\t'])) {
                (Some((_, value)), true) => *value = format!("{value} {}", line.trim()),
                _ => {
                    let (name, value) = line.split_once(':').unwrap_or((line, ""));
                    fields.push((long(name.trim()), value.trim().to_owned()));
                }
            }
        }
        Self { bytes: bytes.to_vec(), from, start, fields, body: body.to_owned() }
    }

    /// The first line.
    pub fn start(&self) -> &str {
        &self.start
    }

    /// Status code, of a response.
    pub fn status(&self) -> Option<u16> {
        self.start.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// Method, of a request.
    pub fn method(&self) -> Option<&str> {
        if self.status().is_some() { None } else { self.start.split(' ').next() }
    }

    /// Request-URI.
    pub fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The first field of that name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All fields of that name, by its long form.
    pub fn all<'a>(&'a self, name: &str) -> std::vec::IntoIter<&'a str> {
        let named = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect::<Vec<_>>().into_iter()
    }

    /// The URI between the first angle brackets of a field.
    pub fn uri_of(&self, name: &str) -> Option<&str> {
        self.value(name)?.split('<').nth(1)?.split('>').next()
    }

    /// Body.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// Branch of the topmost Via.
    pub fn branch(&self) -> &str {
        let via = self.value("Via").unwrap_or_default();
        via.split("branch=").nth(1).unwrap_or_default().split([';', ',', ' ']).next().unwrap_or_default()
    }

    /// Where the first stream of its SDP is sent to.
    pub fn media(&self) -> Option<SocketAddr> {
        let line = |start: &str| self.body.lines().find_map(|line| line.strip_prefix(start));
        let port = line("m=audio ")?.split(' ').next()?;
        format!("{}:{port}", line("c=IN IP4 ")?.trim()).parse().ok()
    }

    /// A response to it, with a To tag, `more` header lines (each with its CRLF) and a body.
    pub fn answer(&self, status: &str, more: &str, body: &str) -> Vec<u8> {
        let mut out = format!("SIP/2.0 {status}\r\n");
        for (position, via) in self.all("Via").enumerate() {
            let seen = format!(";rport={};received={}", self.from.port(), self.from.ip());
            let via = if position == 0 { via.replacen(";rport", &seen, 1) } else { via.to_owned() };
            out += &format!("Via: {via}\r\n");
        }
        for name in ["Record-Route", "From", "To", "Call-ID", "CSeq"] {
            for value in self.all(name) {
                let tag = if name == "To" && !value.contains("tag=") { ";tag=answered" } else { "" };
                out += &format!("{name}: {value}{tag}\r\n");
            }
        }
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        out += &format!("{more}{kind}Content-Length: {}\r\n\r\n{body}", body.len());
        out.into_bytes()
    }
}

fn long(name: &str) -> String {
    let long = match name.to_ascii_lowercase().as_str() {
        "v" => "Via",
        "f" => "From",
        "t" => "To",
        "i" => "Call-ID",
        "m" => "Contact",
        "l" => "Content-Length",
        "c" => "Content-Type",
        "s" => "Subject",
        "k" => "Supported",
        "e" => "Content-Encoding",
        _ => name,
    };
    long.to_owned()
}

/// A number that no other message of this test run has.
pub(super) fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A request to be sent: any line can be changed before.
#[derive(Debug, Clone)]
pub struct Draft {
    start: String,
    fields: Vec<(String, String)>,
    body: String,
}

impl Draft {
    /// A request from `user` at `from`, with all that RFC 3261 §8.1.1 asks for, in a new transaction.
    pub fn new(method: &str, uri: &str, user: &str, from: SocketAddr) -> Self {
        let (number, run) = (fresh(), std::process::id());
        let fields = [
            ("Via", format!("SIP/2.0/UDP {from};rport;branch=z9hG4bKpeer{run}x{number}")),
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("<sip:{user}@{}>;tag=t{number}", from.ip())),
            ("To", format!("<{uri}>")),
            ("Call-ID", format!("c{run}x{number}@{}", from.ip())),
            ("CSeq", format!("{number} {method}")),
        ];
        Self {
            start: format!("{method} {uri} SIP/2.0"),
            fields: fields.map(|(name, value)| (name.to_owned(), value)).into(),
            body: String::new(),
        }
    }

    /// Replaces all fields of that name by one, which stands where the first stood.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        match self.fields.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some((_, old)) => value.clone_into(old),
            None => self.fields.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Adds a field.
    pub fn add(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a field above all others.
    pub fn top(mut self, name: &str, value: &str) -> Self {
        self.fields.insert(0, (name.to_owned(), value.to_owned()));
        self
    }

    /// Removes all fields of that name.
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    /// Another first line.
    pub fn start(mut self, start: &str) -> Self {
        start.clone_into(&mut self.start);
        self
    }

    /// Sets an SDP body.
    pub fn sdp(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self.set("Content-Type", "application/sdp")
    }

    /// The first field of that name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All fields of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Request-URI.
    pub fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// As it goes out.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = format!("{}\r\n", self.start);
        for (name, value) in &self.fields {
            out += &format!("{name}: {value}\r\n");
        }
        if self.value("Content-Length").is_none() {
            out += &format!("Content-Length: {}\r\n", self.body.len());
        }
        out += &format!("\r\n{}", self.body);
        out.into_bytes()
    }
}
