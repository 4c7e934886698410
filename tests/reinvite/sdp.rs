//! What the scripted ends write into SDP, and what must be true of every body
//! that comes out on the other side (RFC 3264 §6, §8; RFC 8866 §5.2).

use std::net::{IpAddr, SocketAddr};

use peer::Kind;

/// One m-line. `rest` is what follows the port, with attributes behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) kind: Kind,
    /// False: port 0.
    pub(super) on: bool,
    rest: &'static str,
}

pub(super) const PCMU: Line = Line {
    kind: Kind::Audio,
    on: true,
    rest: "RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n",
};
pub(super) const OPUS: Line = Line {
    kind: Kind::Audio,
    on: true,
    rest: "RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\n",
};
pub(super) const G722: Line =
    Line { kind: Kind::Audio, on: true, rest: "RTP/AVP 9\r\na=rtpmap:9 G722/8000\r\na=ptime:20\r\n" };
pub(super) const VIDEO: Line = Line { kind: Kind::Video, on: true, rest: "RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\n" };
pub(super) const FAX: Line =
    Line { kind: Kind::Fax, on: true, rest: "udptl t38\r\na=T38FaxVersion:0\r\na=T38FaxUdpEC:t38UDPRedundancy\r\n" };
pub(super) const SENDONLY: Line =
    Line { kind: Kind::Audio, on: true, rest: "RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendonly\r\n" };
pub(super) const RECVONLY: Line =
    Line { kind: Kind::Audio, on: true, rest: "RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=recvonly\r\n" };
pub(super) const INACTIVE: Line =
    Line { kind: Kind::Audio, on: true, rest: "RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=inactive\r\n" };

impl Line {
    /// The same refused, or taken away.
    pub(super) fn off(self) -> Self {
        Self { on: false, ..self }
    }
}

/// A body, but for who writes it.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) lines: Vec<Line>,
    /// `c=IN IP4 0.0.0.0`, the hold of RFC 2543.
    pub(super) zero: bool,
    /// Attributes of the session, each with its CRLF.
    pub(super) session: &'static str,
}

impl Plan {
    pub(super) fn of(lines: &[Line]) -> Self {
        Self { lines: lines.to_vec(), zero: false, session: "" }
    }

    pub(super) fn zero(self) -> Self {
        Self { zero: true, ..self }
    }

    pub(super) fn session(self, session: &'static str) -> Self {
        Self { session, ..self }
    }

    /// What follows `s=`.
    pub(super) fn text(&self, ip: IpAddr, port: impl Fn(Kind) -> u16) -> String {
        let connection = if self.zero { "0.0.0.0".to_owned() } else { ip.to_string() };
        let mut text = format!("c=IN IP4 {connection}\r\nt=0 0\r\n{}", self.session);
        for line in &self.lines {
            let name = match line.kind {
                Kind::Audio => "audio",
                Kind::Video => "video",
                Kind::Fax => "image",
            };
            text += &format!("m={name} {} {}", if line.on { port(line.kind) } else { 0 }, line.rest);
        }
        text
    }
}

/// Writes bodies, and counts their versions.
#[derive(Debug)]
pub(super) struct Writer {
    id: u32,
    version: u32,
    last: String,
    ip: IpAddr,
}

impl Writer {
    pub(super) fn new(id: u32, ip: IpAddr) -> Self {
        Self { id, version: 6, last: String::new(), ip }
    }

    pub(super) fn write(&mut self, plan: &Plan, port: impl Fn(Kind) -> u16) -> String {
        let text = plan.text(self.ip, port);
        if text != self.last {
            self.version += 1;
            self.last.clone_from(&text);
        }
        format!("v=0\r\no=phone {} {} IN IP4 {}\r\ns=-\r\n{text}", self.id, self.version, self.ip)
    }
}

/// What one end has read, and what must stay as it was.
#[derive(Debug, Clone, Default)]
pub(super) struct Reader {
    /// Where it sends to, by m-line.
    pub(super) targets: Vec<Option<SocketAddr>>,
    /// The port of each m-line, until it is 0.
    ports: Vec<Option<u16>>,
    last: Option<Body>,
}

/// The body before.
#[derive(Debug, Clone)]
struct Body {
    /// Its version as it was sent.
    written: u32,
    /// Its version as it came.
    version: u32,
    /// All but `o=`.
    rest: String,
}

impl Reader {
    /// Reads a body that was `sent` so, and may name `facing` alone.
    pub(super) fn read(&mut self, sent: &str, got: &str, facing: IpAddr) -> Result<(), String> {
        let fail = |why: &str| Err(format!("{why}\nsent:\n{sent}got:\n{got}"));
        let media = |body: &str| -> Vec<(String, u16)> {
            let lines = body.lines().filter_map(|line| line.strip_prefix("m="));
            lines
                .map(|line| line.split(' ').collect::<Vec<_>>())
                .map(|w| (w[0].to_owned(), w[1].parse().unwrap()))
                .collect()
        };
        let (from, to) = (media(sent), media(got));
        if from.len() != to.len() || from.iter().zip(&to).any(|(a, b)| a.0 != b.0 || (a.1 == 0) != (b.1 == 0)) {
            return fail("m-lines differ");
        }
        let addresses = got.lines().filter_map(|line| line.split(" IP4 ").nth(1));
        for address in addresses.map(|text| text.trim().parse::<IpAddr>().unwrap()) {
            if address != facing && !address.is_unspecified() {
                return fail(&format!("{address} is named, not {facing}"));
            }
        }
        let ((id, written), (kept, version)) = (origin(sent), origin(got));
        if id != kept {
            return fail("the session has another id");
        }
        let rest: String = got.lines().filter(|line| !line.starts_with("o=")).map(|line| format!("{line}\n")).collect();
        // The writer's version grows when what it says differs; what we send must grow with it, and not otherwise.
        if let Some(before) = &self.last {
            let same = before.written == written;
            if version < before.version || (version == before.version) != same || (same && rest != before.rest) {
                return fail(&format!("version {}, then {version}; body before:\n{}", before.version, before.rest));
            }
        }
        self.last = Some(Body { written, version, rest });
        self.ports.resize(to.len().max(self.ports.len()), None);
        for ((_, port), kept) in to.iter().zip(&mut self.ports) {
            if let Some(kept) = *kept
                && *port != 0
                && *port != kept
            {
                return fail(&format!("port {kept}, then {port}"));
            }
            *kept = (*port != 0).then_some(*port);
        }
        self.targets = targets(got);
        Ok(())
    }
}

fn origin(body: &str) -> (u32, u32) {
    let line = body.lines().find_map(|line| line.strip_prefix("o=")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    (words[1].parse().unwrap(), words[2].parse().unwrap())
}

/// Where each m-line is sent to.
pub(super) fn targets(body: &str) -> Vec<Option<SocketAddr>> {
    let address = |line: &str| line.strip_prefix("c=IN IP4 ").map(|ip| ip.trim().parse::<IpAddr>().unwrap());
    let mut sections = body.split("\r\nm=");
    let session = sections.next().unwrap().lines().find_map(address);
    let section = |text: &str| {
        let port: u16 = text.split(' ').nth(1).unwrap().parse().unwrap();
        let ip = text.lines().find_map(address).or(session)?;
        (port != 0 && !ip.is_unspecified()).then_some(SocketAddr::new(ip, port))
    };
    sections.map(section).collect()
}
