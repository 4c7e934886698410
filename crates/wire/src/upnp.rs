//! UPnP IGD as text: how a router is searched for (SSDP), how its description
//! is read, and how its port mappings are asked for (SOAP; WANIPConnection 1
//! and 2, WANPPPConnection 1).
//!
//! Only the few elements that are needed are looked for; whatever else a
//! router writes is passed over. Nothing here trusts a length that was written.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use memchr::memmem::find;

/// Where devices are searched for (SSDP).
pub const SSDP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);

/// The most octets of an HTTP answer that are looked at.
pub const ANSWER_OCTETS: usize = 128 << 10;

/// What is searched for: a gateway of either version.
pub const TARGETS: [&str; 2] =
    ["urn:schemas-upnp-org:device:InternetGatewayDevice:1", "urn:schemas-upnp-org:device:InternetGatewayDevice:2"];

/// The services that map ports, the preferred first.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// A URL of a router: `http`, an IPv4 address, a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Address and port.
    pub host: SocketAddrV4,
    /// From the first slash.
    pub path: String,
}

impl Url {
    /// Reads one. Names are refused: a router says its address. So are
    /// controls and spaces, which would let it write our header fields.
    pub fn read(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("HTTP://"))?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let host = host.parse().or_else(|_| host.parse().map(|ip| SocketAddrV4::new(ip, 80))).ok()?;
        plain(path).then(|| Self { host, path: path.to_owned() })
    }

    /// What `text` means when it is written at this URL.
    pub fn join(&self, text: &str) -> Option<Self> {
        if text.contains("://") {
            return Self::read(text);
        }
        let path = match text.strip_prefix('/') {
            Some(_) => text.to_owned(),
            None => format!("{}/{text}", self.path.rsplit_once('/').map_or("", |(before, _)| before)),
        };
        plain(&path).then_some(Self { host: self.host, path })
    }
}

fn plain(path: &str) -> bool {
    path.len() < 1024 && path.bytes().all(|octet| octet.is_ascii_graphic())
}

/// A search for one of the [`TARGETS`].
pub fn search(target: &str) -> Vec<u8> {
    let fields = "HOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n";
    format!("M-SEARCH * HTTP/1.1\r\n{fields}ST: {target}\r\n\r\n").into_bytes()
}

/// Where the description of a gateway is, by its answer to a search.
pub fn location(answer: &[u8]) -> Option<Url> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut lines = text.split("\r\n");
    let mut status = lines.next()?.split(' ');
    if !status.next()?.starts_with("HTTP/1.") || status.next()? != "200" {
        return None;
    }
    let field = |name: &str| {
        let mut values = lines.clone().filter_map(|line| line.split_once(':'));
        values.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    field("st")?.contains(":InternetGatewayDevice:").then(|| field("location"))?.and_then(Url::read)
}

/// The service of a gateway that maps ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its type, one of three.
    pub kind: &'static str,
    /// Where it is told what to do.
    pub control: Url,
}

/// Finds the service in a description that was read at `at`.
pub fn service(description: &str, at: &Url) -> Option<Service> {
    let base = element(description, "URLBase").and_then(|text| Url::read(&text)).unwrap_or_else(|| at.clone());
    SERVICES.into_iter().find_map(|kind| {
        description.split("<service>").skip(1).find_map(|part| {
            let part = part.split("</service>").next()?;
            (element(part, "serviceType")? == kind).then_some(())?;
            Some(Service { kind, control: base.join(&element(part, "controlURL")?)? })
        })
    })
}

/// The text of the first element of that name, its character references read.
pub fn element(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    loop {
        rest = &rest[find(rest.as_bytes(), b"<")? + 1..];
        let Some(after) = rest.strip_prefix(name) else { continue };
        if !after.starts_with(['>', ' ', '\t', '\r', '\n']) {
            continue;
        }
        let body = &after[after.find('>')? + 1..];
        return Some(unescape(body[..body.find('<')?].trim()));
    }
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A request for the description.
pub fn get(url: &Url) -> Vec<u8> {
    let Url { host, path } = url;
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nUser-Agent: siplatch\r\n\r\n").into_bytes()
}

/// A request for an action, with its arguments in order.
pub fn call(service: &Service, action: &str, arguments: &[(&str, &str)]) -> Vec<u8> {
    let Service { kind, control: Url { host, path } } = service;
    let mut body = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{kind}\">"
    );
    for (name, value) in arguments {
        // A String has room.
        let _ = write!(body, "<{name}>{}</{name}>", escape(value));
    }
    let _ = write!(body, "</u:{action}></s:Body></s:Envelope>\r\n");
    let fields = format!(
        "Host: {host}\r\nConnection: close\r\nUser-Agent: siplatch\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n\
         SOAPAction: \"{kind}#{action}\"\r\nContent-Length: {}\r\n",
        body.len()
    );
    format!("POST {path} HTTP/1.1\r\n{fields}\r\n{body}").into_bytes()
}

/// An HTTP answer whose connection has ended: its status and its body.
pub fn answer(octets: &[u8]) -> Option<(u16, String)> {
    let end = find(octets, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&octets[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let body = &octets[end + 4..];
    let chunked = head.lines().filter_map(|line| line.split_once(':')).any(|(name, value)| {
        name.trim().eq_ignore_ascii_case("transfer-encoding") && value.trim().eq_ignore_ascii_case("chunked")
    });
    let body = if chunked { unchunk(body) } else { body.to_vec() };
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

/// True when nothing more of this answer is to come, whether the connection ends or not.
pub fn whole(octets: &[u8]) -> bool {
    let Some(end) = find(octets, b"\r\n\r\n") else { return false };
    let Ok(head) = std::str::from_utf8(&octets[..end]) else { return true };
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.trim().eq_ignore_ascii_case("content-length"));
    length
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .is_some_and(|length| octets.len() - end - 4 >= length)
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(rest, b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap_or_default();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(end + 2..).and_then(|rest| rest.get(..size)).filter(|chunk| !chunk.is_empty())
        else {
            break;
        };
        body.extend_from_slice(chunk);
        rest = rest.get(end + 2 + size + 2..).unwrap_or_default();
    }
    body
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DESCRIPTION: &str = "<?xml version=\"1.0\"?><root><device><serviceList><service><serviceType>\
        urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/ctl/L3F</controlURL></service>\
        </serviceList><deviceList><device><serviceList><service>\n <serviceType>\
        urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>\n <controlURL>ctl/IPConn</controlURL></service>\
        </serviceList></device></deviceList></device></root>";

    #[test]
    fn a_gateway_is_found() {
        let answer = b"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\n\
            ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\nLocation: http://192.168.1.1:5000/root/d.xml\r\n\r\n";
        let at = location(answer).expect("a location");
        assert_eq!(at, Url { host: "192.168.1.1:5000".parse().expect("an address"), path: "/root/d.xml".to_owned() });
        let service = service(DESCRIPTION, &at).expect("a service");
        assert_eq!((service.kind, service.control.path.as_str()), (SERVICES[1], "/root/ctl/IPConn"));
        let printer = b"HTTP/1.1 200 OK\r\nST: urn:x:device:Printer:1\r\nLocation: http://192.168.1.9/\r\n\r\n";
        assert_eq!(location(printer), None);
        assert_eq!(location(b"NOTIFY * HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn urls_cannot_write_our_requests() {
        for text in
            ["http://router.lan/d.xml", "https://192.168.1.1/", "http://192.168.1.1/a b", "http://192.168.1.1/\r\nX: y"]
        {
            assert_eq!(Url::read(text), None, "{text}");
        }
        let at = Url::read("http://192.168.1.1").expect("a URL");
        assert_eq!((at.host.port(), at.path.as_str()), (80, "/"));
        assert_eq!(at.join("/c?x").expect("a URL").path, "/c?x");
        assert_eq!(at.join("/c\r\nx"), None);
    }

    #[test]
    fn an_action_is_called_and_its_answer_read() {
        let at = Url::read("http://192.168.1.1:5000/d.xml").expect("a URL");
        let service = service(DESCRIPTION, &at).expect("a service");
        let request = call(&service, "AddPortMapping", &[("NewPortMappingDescription", "siplatch <a&b>")]);
        let request = String::from_utf8(request).expect("text");
        assert!(request.contains("<NewPortMappingDescription>siplatch &lt;a&amp;b&gt;</NewPortMappingDescription>"));
        assert!(request.contains("#AddPortMapping\"\r\n"));
        let reply = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 51\r\n\r\n\
            <UPnPError><errorCode>718</errorCode></UPnPError>\r\n";
        assert!(whole(reply) && !whole(&reply[..reply.len() - 1]));
        let (status, body) = answer(reply).expect("an answer");
        assert_eq!((status, element(&body, "errorCode").as_deref()), (500, Some("718")));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n<a>b\r\n4\r\n</a>\r\n0\r\n\r\n";
        assert_eq!(answer(chunked), Some((200, "<a>b</a>".to_owned())));
        assert_eq!(element("<ab>1</ab><a x='1'> 2&amp;3 </a>", "a").as_deref(), Some("2&3"));
    }

    proptest! {
        #[test]
        fn whatever_a_router_writes_is_read_or_left(octets in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,200}") {
            let _ = (location(&octets), whole(&octets), answer(&octets));
            let head = [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &octets].concat();
            if let Some((_, body)) = answer(&head) {
                prop_assert!(body.len() <= 3 * octets.len());
            }
            let _ = element(&text, "a");
            let at = Url::read("http://192.168.1.1/d.xml").expect("a URL");
            let _ = service(&format!("<service><serviceType>{}</serviceType>{text}", SERVICES[0]), &at);
        }
    }
}
