//! SIP text, as the simulated peers read and write it.
//!
//! Written apart from the `wire` room on purpose: peers that shared its parser
//! would share its mistakes. Fields keep the name, the blanks and the folds
//! with which they came.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use wire::Transport;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Msg {
    /// First line.
    pub(crate) start: String,
    /// Name and value as written; Content-Length is left out and made anew.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

const COMPACT: [(&str, &str); 9] = [
    ("v", "via"),
    ("f", "from"),
    ("t", "to"),
    ("i", "call-id"),
    ("m", "contact"),
    ("l", "content-length"),
    ("c", "content-type"),
    ("k", "supported"),
    ("s", "subject"),
];

/// Any case, long or compact (RFC 3261 §7.3.3).
pub(crate) fn same_name(written: &str, long: &str) -> bool {
    let written = written.trim_end();
    written.eq_ignore_ascii_case(long)
        || COMPACT.iter().any(|(c, l)| written.eq_ignore_ascii_case(c) && l.eq_ignore_ascii_case(long))
}

impl Msg {
    /// Reads a datagram; `None` if it is no SIP message.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let start = lines.next()?.to_owned();
        if !start.starts_with("SIP/2.0 ") && !start.ends_with(" SIP/2.0") {
            return None;
        }
        let mut fields: Vec<(String, String)> = Vec::with_capacity(16);
        let mut length = None;
        for line in lines {
            if line.starts_with([' ', '\t']) {
                let value = &mut fields.last_mut()?.1;
                value.push_str("\r\n");
                value.push_str(line);
                continue;
            }
            let (name, value) = line.split_once(':')?;
            if same_name(name, "content-length") {
                length = value.trim().parse::<usize>().ok();
            } else {
                fields.push((name.to_owned(), value.trim().to_owned()));
            }
        }
        let body = body.get(..length.unwrap_or(body.len()))?.to_owned();
        Some(Self { start, fields, body })
    }

    pub(crate) fn request(method: &str, uri: &str) -> Self {
        Self { start: format!("{method} {uri} SIP/2.0"), fields: Vec::with_capacity(16), body: String::new() }
    }

    /// A response (RFC 3261 §8.2.6), with `received` and `rport` filled in on the top Via.
    pub(crate) fn reply(&self, status: u16, reason: &str, to_tag: &str) -> Self {
        let mut reply = Self { start: format!("SIP/2.0 {status} {reason}"), ..Self::default() };
        for (name, value) in &self.fields {
            let copied = ["via", "from", "to", "call-id", "cseq"].iter().any(|n| same_name(name, n));
            if copied || same_name(name, "record-route") && (101..300).contains(&status) {
                let mut value = value.clone();
                if same_name(name, "to") && param(&value, "tag").is_none() && status > 100 {
                    let _ = write!(value, ";tag={to_tag}");
                }
                reply.fields.push((name.clone(), value));
            }
        }
        reply
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = String::with_capacity(600 + self.body.len());
        out.push_str(&self.start);
        out.push_str("\r\n");
        for (name, value) in &self.fields {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        let _ = write!(out, "Content-Length: {}\r\n\r\n{}", self.body.len(), self.body);
        out.into_bytes()
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.push(name, value);
        self
    }

    pub(crate) fn push(&mut self, name: &str, value: impl Into<String>) {
        self.fields.push((name.to_owned(), value.into()));
    }

    /// Puts a field above all others.
    pub(crate) fn top(&mut self, name: &str, value: impl Into<String>) {
        self.fields.insert(0, (name.to_owned(), value.into()));
    }

    pub(crate) fn is_request(&self) -> bool {
        !self.start.starts_with("SIP/2.0 ")
    }

    /// Of a request by its first line, of a response by CSeq.
    pub(crate) fn method(&self) -> &str {
        if self.is_request() {
            self.start.split(' ').next().unwrap_or_default()
        } else {
            self.get("cseq").and_then(|c| c.split_whitespace().nth(1)).unwrap_or_default()
        }
    }

    /// Of a response; 0 for a request.
    pub(crate) fn status(&self) -> u16 {
        let code = self.start.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3));
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn set_uri(&mut self, uri: &str) {
        self.start = format!("{} {uri} SIP/2.0", self.method());
    }

    /// The first field of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| same_name(n, name)).map(|(_, v)| v.as_str())
    }

    /// All values of a comma-list field.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(n, _)| same_name(n, name)).flat_map(|(_, v)| commas(v))
    }

    /// Takes away the first value of a comma-list field.
    pub(crate) fn pop(&mut self, name: &str) -> Option<String> {
        let at = self.fields.iter().position(|(n, _)| same_name(n, name))?;
        let values: Vec<String> = commas(&self.fields[at].1).map(str::to_owned).collect();
        match values.split_first() {
            Some((first, rest)) if !rest.is_empty() => {
                self.fields[at].1 = rest.join(", ");
                Some(first.clone())
            }
            _ => Some(self.fields.remove(at).1),
        }
    }

    pub(crate) fn call_id(&self) -> &str {
        self.get("call-id").unwrap_or_default()
    }

    pub(crate) fn cseq(&self) -> u32 {
        self.get("cseq").and_then(|c| c.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn tag(&self, name: &str) -> &str {
        self.get(name).and_then(|v| param(v, "tag")).unwrap_or_default()
    }

    /// Branch of the top Via.
    pub(crate) fn branch(&self) -> &str {
        self.all("via").next().and_then(|via| param(via, "branch")).unwrap_or_default()
    }

    /// Writes `received` and `rport` on the top Via (RFC 3261 §18.2.1, RFC 3581 §4).
    pub(crate) fn stamp(&mut self, from: SocketAddr) {
        let Some((_, value)) = self.fields.iter_mut().find(|(n, _)| same_name(n, "via")) else { return };
        let mut vias: Vec<String> = commas(value).map(str::to_owned).collect();
        if let Some(top) = vias.first_mut() {
            *top = top.replace(";rport;", &format!(";rport={};", from.port()));
            if top.ends_with(";rport") {
                let _ = write!(top, "={}", from.port());
            }
            let _ = write!(top, ";received={}", from.ip());
        }
        *value = vias.join(", ");
    }

    /// Over what, and the sent-by if it is numeric: where a response goes when the connection has gone.
    pub(crate) fn response_way(&self) -> (Transport, Option<SocketAddr>) {
        let via = self.all("via").next().unwrap_or_default();
        let protocol = via.split([' ', ';']).next().and_then(|p| p.rsplit('/').next()).unwrap_or_default();
        let transport = Transport::named(protocol.as_bytes()).unwrap_or(Transport::Udp);
        let sent_by = via.split([' ', ';']).filter(|p| !p.is_empty()).nth(1).unwrap_or_default();
        let (host, port) = host_port(sent_by);
        let port = port.unwrap_or(transport.default_port());
        (transport, host.parse().ok().map(|ip| SocketAddr::new(ip, port)))
    }

    /// Where a response goes (RFC 3261 §18.2.2, RFC 3581 §4), by the top Via.
    pub(crate) fn response_target(&self) -> Option<SocketAddr> {
        let via = self.all("via").next()?;
        let sent_by = via.split([' ', ';']).filter(|p| !p.is_empty()).nth(1)?;
        let (host, port) = host_port(sent_by);
        let ip: IpAddr = param(via, "received").unwrap_or(host).parse().ok()?;
        let rport = param(via, "rport").and_then(|p| p.parse().ok());
        Some(SocketAddr::new(ip, rport.or(port).unwrap_or(5060)))
    }
}

/// Splits at commas outside quotes and angle brackets.
pub(crate) fn commas(value: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut angle) = (false, false);
    value
        .split(move |c| {
            match c {
                '"' => quoted = !quoted,
                '<' if !quoted => angle = true,
                '>' if !quoted => angle = false,
                _ => {}
            }
            c == ',' && !quoted && !angle
        })
        .map(str::trim)
        .filter(|v| !v.is_empty())
}

/// The URI inside `<…>`, or the value up to its parameters.
pub(crate) fn uri_of(value: &str) -> &str {
    match value.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        Some((uri, _)) => uri,
        None => value.split(';').next().unwrap_or_default().trim(),
    }
}

/// A parameter of a field value, outside the URI; empty if it has no value.
pub(crate) fn param<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let tail = value.rsplit_once('>').map_or(value, |(_, tail)| tail);
    tail.split(';').skip(1).find_map(|p| {
        let (n, v) = p.split_once('=').unwrap_or((p, ""));
        n.trim().eq_ignore_ascii_case(name).then_some(v.trim())
    })
}

/// User part of a SIP URI.
pub(crate) fn user(uri: &str) -> &str {
    uri.split_once(':').and_then(|(_, rest)| rest.split_once('@')).map_or("", |(user, _)| user)
}

/// `host[:port]` of a SIP URI.
pub(crate) fn host(uri: &str) -> &str {
    let rest = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    rest.split([';', '?', '>']).next().unwrap_or_default()
}

/// Splits `host[:port]`; no IPv6 here.
pub(crate) fn host_port(text: &str) -> (&str, Option<u16>) {
    match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (text, None),
    }
}

/// The transport that a URI asks for, and its address, if its host is numeric.
pub(crate) fn way(uri: &str) -> Option<(Transport, SocketAddr)> {
    let named = uri.split(';').skip(1).find_map(|p| p.strip_prefix("transport="));
    let transport = named.map_or(Some(Transport::Udp), |name| Transport::named(name.as_bytes()))?;
    Some((transport, address(uri)?))
}

/// The address of a URI with a numeric host.
pub(crate) fn address(uri: &str) -> Option<SocketAddr> {
    let (host, port) = host_port(host(uri));
    Some(SocketAddr::new(host.parse().ok()?, port.unwrap_or(5060)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_looks() {
        let raw = "OPTIONS sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1;rport\r\nSubject: a\r\n  b\r\n\
                   l: 2\r\n\r\nhi and more";
        let mut msg = Msg::parse(raw.as_bytes()).expect("a message");
        assert_eq!((msg.method(), msg.branch(), msg.body.as_str()), ("OPTIONS", "z9hG4bK1", "hi"));
        assert_eq!(msg.get("s"), None, "compact names are for fields as written");
        assert_eq!(msg.get("subject"), Some("a\r\n  b"));
        msg.stamp("192.0.2.1:77".parse().expect("literal"));
        assert_eq!(msg.response_target(), "192.0.2.1:77".parse().ok());
        assert_eq!(Msg::parse(&msg.bytes()), Some(msg));
    }

    #[test]
    fn values_split_outside_quotes_and_brackets() {
        let list: Vec<_> = commas(r#""a,b" <sip:x,y@h;p=1>;q=1, <sip:z@h:99>"#).collect();
        assert_eq!(list.len(), 2);
        assert_eq!((param(list[0], "q"), uri_of(list[1])), (Some("1"), "sip:z@h:99"));
        assert_eq!(address("sip:z@10.1.2.3:99;ob").map(|a| a.port()), Some(99));
        assert_eq!(way("sip:z@10.1.2.3:99;x;transport=tcp;lr").map(|w| w.0), Some(Transport::Tcp));
        assert_eq!(user("sip:bob@h"), "bob");
    }
}
