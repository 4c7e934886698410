//! The SDP that a phone writes, and what it reads in another's (RFC 8866, RFC 3264).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::ice::Credentials;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    pub(crate) fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// What an answer says to an offer of this, when both want the least of two.
    pub(crate) fn answer(self, wanted: Self) -> Self {
        match (self.receives() && wanted.sends(), self.sends() && wanted.receives()) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }
}

/// Habits of a make of phone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Looks {
    /// `c=` in the media section instead of the session.
    pub(crate) media_connection: bool,
    /// Writes `a=rtcp` (RFC 3605).
    pub(crate) rtcp: bool,
    /// Offers video too.
    pub(crate) video: bool,
    /// Speaks ICE.
    pub(crate) ice: bool,
}

/// What one end's SDP says beside addresses: what its m-lines carry, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The first line is an image over UDPTL (T.38) instead of audio.
    pub(crate) fax: bool,
    /// The second line, once there is one: video, or port 0.
    pub(crate) video: Option<bool>,
    /// Payload type of the audio (RFC 3551 §6): 0, 8 or 9.
    pub(crate) codec: u8,
    /// RTP and RTCP on one port (RFC 5761).
    pub(crate) mux: bool,
    /// How often ICE was begun again (RFC 8839 §4.4.1.1.1); not read.
    pub(crate) restarts: u8,
    pub(crate) direction: Direction,
    pub(crate) spelling: Spelling,
}

impl Default for Shape {
    fn default() -> Self {
        let direction = Direction::SendRecv;
        Self { fax: false, video: None, codec: 0, mux: false, restarts: 0, direction, spelling: Spelling::Media }
    }
}

/// How a hold is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// A direction in the media section.
    Media,
    /// A direction above all media sections.
    Session,
    /// `c=0.0.0.0` (RFC 2543).
    Unspecified,
}

/// What a phone wants to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// Of the second m-line, where it is not 0.
    pub(crate) video: u16,
    pub(crate) id: u64,
    pub(crate) version: u64,
    pub(crate) shape: Shape,
    pub(crate) ice: Option<Credentials>,
    /// It asks; else it answers.
    pub(crate) offer: bool,
}

/// Writes an offer or answer.
pub(crate) fn write(session: &Session, looks: Looks) -> String {
    let Session { ip, port, video, id, version, shape, ice, offer } = *session;
    let spelling = if offer { shape.spelling } else { Spelling::Media };
    let (connection, direction) = match spelling {
        Spelling::Unspecified => (IpAddr::from([0, 0, 0, 0]), Direction::SendRecv),
        Spelling::Media | Spelling::Session => (ip, shape.direction),
    };
    let mut sdp = format!("v=0\r\no=- {id} {version} IN IP4 {ip}\r\ns=-\r\n");
    let c = format!("c=IN IP4 {connection}\r\n");
    let in_section = if looks.media_connection { c.as_str() } else { "" };
    sdp += if looks.media_connection { "" } else { &c };
    let _ = write!(sdp, "t=0 0\r\na=tool:sim {id}\r\n");
    if spelling == Spelling::Session {
        let _ = write!(sdp, "a={}\r\n", direction.name());
    }
    if shape.fax {
        let _ = write!(sdp, "m=image {port} udptl t38\r\n{in_section}a=T38FaxVersion:0\r\na=T38MaxBitRate:14400\r\n");
    } else {
        let codecs = [(0, "PCMU"), (8, "PCMA"), (9, "G722")];
        let first = codecs.iter().find(|(number, _)| *number == shape.codec).unwrap_or(&codecs[0]);
        let (number, name) = first;
        let also = if *number == 0 { " 8" } else { "" };
        let _ =
            write!(sdp, "m=audio {port} RTP/AVP {number}{also} 101\r\n{in_section}a=rtpmap:{number} {name}/8000\r\n");
        sdp += "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n";
        if looks.rtcp {
            let _ = write!(sdp, "a=rtcp:{} IN IP4 {ip}\r\n", port + 1);
        }
        if shape.mux {
            sdp += "a=rtcp-mux\r\n";
        }
        if let Some(ice) = ice {
            let _ = write!(sdp, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", ice.ufrag(), ice.password());
            let _ = write!(sdp, "a=candidate:1 1 UDP 2130706431 {ip} {port} typ host\r\n");
            if offer || !shape.mux {
                let _ = write!(sdp, "a=candidate:1 2 UDP 2130706430 {ip} {} typ host\r\n", port + 1);
            }
        }
        if spelling != Spelling::Session {
            let _ = write!(sdp, "a={}\r\n", direction.name());
        }
    }
    if let Some(on) = shape.video {
        let port = if on { video } else { 0 };
        let _ = write!(sdp, "m=video {port} RTP/AVP 96\r\n{in_section}");
        sdp += if on { "a=rtpmap:96 H264/90000\r\n" } else { "" };
    }
    sdp
}

/// What a phone makes of SDP that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) rtp: SocketAddr,
    pub(crate) rtcp: SocketAddr,
    /// Where the second line wants its packets, if that is in use.
    pub(crate) video: Option<SocketAddr>,
    /// What is said of m-lines; `spelling` is not read.
    pub(crate) shape: Shape,
    pub(crate) direction: Direction,
    /// It speaks ICE on the first line.
    pub(crate) ice: Option<Credentials>,
    pub(crate) version: u64,
}

/// One m-line, as it is read.
#[derive(Debug, Clone, Copy, Default)]
struct Section {
    port: u16,
    ip: Option<IpAddr>,
    fax: bool,
    codec: u8,
}

/// Reads the first two m-lines; `None` if there is none, or the first is refused.
pub(crate) fn read(body: &str) -> Option<Remote> {
    let (mut session_ip, mut rtcp, mut version) = (None, None, 0);
    let (mut ufrag, mut password) = (None, None);
    let mut shape = Shape::default();
    let mut sections: Vec<Section> = Vec::new();
    for line in body.lines() {
        if let Some(m) = line.strip_prefix("m=") {
            let mut words = m.split(' ');
            let fax = words.next() == Some("image");
            let port = words.next().and_then(|p| p.parse::<u16>().ok())?;
            let codec = words.nth(1).and_then(|c| c.parse().ok()).unwrap_or(0);
            sections.push(Section { port, ip: None, fax, codec });
        } else if let Some(o) = line.strip_prefix("o=") {
            version = o.split(' ').nth(2).and_then(|v| v.parse().ok()).unwrap_or(0);
        } else if let Some(c) = line.strip_prefix("c=IN IP4 ") {
            let ip = c.trim().parse::<IpAddr>().ok();
            match sections.last_mut() {
                Some(section) => section.ip = ip,
                None => session_ip = ip,
            }
        } else if sections.len() > 1 {
            continue;
        } else if let Some(value) = line.strip_prefix("a=rtcp:") {
            rtcp = value.split(' ').next().and_then(|p| p.parse::<u16>().ok());
        } else if let Some(value) = line.strip_prefix("a=ice-ufrag:") {
            ufrag = Some(value);
        } else if let Some(value) = line.strip_prefix("a=ice-pwd:") {
            password = Some(value);
        } else if let Some(name) = line.strip_prefix("a=") {
            shape.mux |= name == "rtcp-mux";
            shape.direction = match name {
                "sendrecv" => Direction::SendRecv,
                "sendonly" => Direction::SendOnly,
                "recvonly" => Direction::RecvOnly,
                "inactive" => Direction::Inactive,
                _ => shape.direction,
            };
        }
    }
    let first = sections.first().filter(|first| first.port != 0)?;
    let ip = first.ip.or(session_ip)?;
    (shape.fax, shape.codec) = (first.fax, first.codec);
    let second = sections.get(1);
    shape.video = second.map(|second| second.port != 0);
    let video = second.filter(|second| second.port != 0);
    let video = video.and_then(|v| Some(SocketAddr::new(v.ip.or(session_ip)?, v.port)));
    if ip.is_unspecified() {
        shape.direction = if shape.direction.receives() { Direction::SendOnly } else { Direction::Inactive };
    }
    let rtcp = SocketAddr::new(ip, rtcp.unwrap_or(first.port + 1));
    let ice = ufrag.zip(password).and_then(|(ufrag, password)| Credentials::new(ufrag, password));
    Some(Remote { rtp: SocketAddr::new(ip, first.port), rtcp, video, shape, direction: shape.direction, ice, version })
}

/// An answer with every stream at port 0.
pub(crate) fn declines(body: &str) -> bool {
    let mut streams = body.lines().filter_map(|line| line.strip_prefix("m=")).peekable();
    streams.peek().is_some() && streams.all(|m| m.split(' ').nth(1) == Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phone_reads_what_another_wrote() {
        let hold = Shape { direction: Direction::SendOnly, ..Shape::default() };
        let session = Session {
            ip: IpAddr::from([10, 0, 0, 1]),
            port: 4000,
            video: 4002,
            id: 7,
            version: 1,
            shape: hold,
            ice: None,
            offer: true,
        };
        for n in 0..16_u8 {
            let looks = Looks { media_connection: n & 1 > 0, rtcp: n & 2 > 0, video: false, ice: n & 8 > 0 };
            let spelling = if n & 1 > 0 { Spelling::Session } else { Spelling::Media };
            let ice = Credentials::of(7, 0).filter(|_| looks.ice);
            let shape = Shape { video: Some(n & 4 > 0), codec: 8, mux: n & 2 > 0, spelling, ..hold };
            let read = read(&write(&Session { shape, ice, ..session }, looks)).expect("audio");
            assert_eq!((read.rtp.port(), read.rtcp.port(), read.direction), (4000, 4001, Direction::SendOnly));
            assert_eq!(read.ice, ice);
            assert_eq!(read.shape, Shape { spelling: Spelling::Media, ..shape });
            assert_eq!(read.video.map(|video| video.port()), (n & 4 > 0).then_some(4002));
        }
        let old = Session { shape: Shape { spelling: Spelling::Unspecified, ..hold }, ..session };
        let held = read(&write(&old, Looks::default())).expect("audio");
        assert_eq!((held.direction, held.rtp.ip().is_unspecified()), (Direction::SendOnly, true));
        let fax = Session { shape: Shape { fax: true, ..Shape::default() }, ..session };
        assert!(read(&write(&fax, Looks::default())).is_some_and(|read| read.shape.fax));
    }
}
