//! The SDP that a phone writes, and what it reads in another's (RFC 8866, RFC 3264).

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

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
    /// Offers ICE candidates.
    pub(crate) ice: bool,
    /// Holds with `c=0.0.0.0` (RFC 2543) instead of a direction.
    pub(crate) old_hold: bool,
}

/// What a phone wants to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) id: u64,
    pub(crate) version: u64,
    pub(crate) direction: Direction,
    /// How many m-lines an answer needs; 0 for an offer.
    pub(crate) sections: usize,
}

/// Writes an offer or answer.
pub(crate) fn write(session: &Session, looks: Looks) -> String {
    let Session { ip, port, id, version, direction, sections } = *session;
    let old_hold = looks.old_hold && sections == 0 && direction == Direction::SendOnly;
    let (connection, direction) = match old_hold {
        true => (IpAddr::from([0, 0, 0, 0]), Direction::SendRecv),
        false => (ip, direction),
    };
    let mut sdp = format!("v=0\r\no=- {id} {version} IN IP4 {ip}\r\ns=-\r\n");
    let c = format!("c=IN IP4 {connection}\r\n");
    sdp += if looks.media_connection { "" } else { &c };
    let _ = write!(sdp, "t=0 0\r\na=tool:sim {id}\r\nm=audio {port} RTP/AVP 0 8 101\r\n");
    sdp += if looks.media_connection { &c } else { "" };
    sdp += "a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\n";
    if looks.rtcp {
        let _ = write!(sdp, "a=rtcp:{} IN IP4 {ip}\r\n", port + 1);
    }
    if looks.ice && sections == 0 {
        let _ = write!(sdp, "a=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n");
        let _ = write!(sdp, "a=candidate:1 1 UDP 2130706431 {ip} {port} typ host\r\n");
    }
    let _ = write!(sdp, "a={}\r\n", direction.name());
    if looks.video && sections == 0 {
        let video = port + 2;
        let _ = write!(sdp, "m=video {video} RTP/AVP 96\r\n");
        sdp += if looks.media_connection { &c } else { "" };
        sdp += "a=rtpmap:96 H264/90000\r\n";
    }
    for _ in 1..sections {
        sdp += "m=video 0 RTP/AVP 96\r\n";
        sdp += if looks.media_connection { &c } else { "" };
    }
    sdp
}

/// What a phone makes of SDP that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) rtp: SocketAddr,
    pub(crate) rtcp: SocketAddr,
    pub(crate) direction: Direction,
    pub(crate) sections: usize,
    pub(crate) version: u64,
}

/// Reads the first audio section; `None` if it is missing or refused.
pub(crate) fn read(body: &str) -> Option<Remote> {
    let (mut ip, mut port, mut rtcp, mut version) = (None, None, None, 0);
    let mut direction = Direction::SendRecv;
    let mut sections = 0;
    for line in body.lines() {
        if let Some(m) = line.strip_prefix("m=") {
            sections += 1;
            if sections == 1 {
                port = m.split(' ').nth(1).and_then(|p| p.parse::<u16>().ok()).filter(|p| *p != 0);
            }
        }
        if let Some(o) = line.strip_prefix("o=") {
            version = o.split(' ').nth(2).and_then(|v| v.parse().ok()).unwrap_or(0);
        }
        if sections > 1 {
            continue;
        }
        if let Some(c) = line.strip_prefix("c=IN IP4 ") {
            ip = c.trim().parse::<IpAddr>().ok();
        } else if let Some(value) = line.strip_prefix("a=rtcp:") {
            rtcp = value.split(' ').next().and_then(|p| p.parse::<u16>().ok());
        } else if let Some(name) = line.strip_prefix("a=") {
            direction = match name {
                "sendrecv" => Direction::SendRecv,
                "sendonly" => Direction::SendOnly,
                "recvonly" => Direction::RecvOnly,
                "inactive" => Direction::Inactive,
                _ => direction,
            };
        }
    }
    let (ip, port) = (ip?, port?);
    if ip.is_unspecified() {
        direction = if direction.receives() { Direction::SendOnly } else { Direction::Inactive };
    }
    let rtcp = SocketAddr::new(ip, rtcp.unwrap_or(port + 1));
    Some(Remote { rtp: SocketAddr::new(ip, port), rtcp, direction, sections, version })
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
        let session = Session {
            ip: IpAddr::from([10, 0, 0, 1]),
            port: 4000,
            id: 7,
            version: 1,
            direction: Direction::SendOnly,
            sections: 0,
        };
        for n in 0..16_u8 {
            let looks = Looks {
                media_connection: n & 1 > 0,
                rtcp: n & 2 > 0,
                video: n & 4 > 0,
                ice: n & 8 > 0,
                old_hold: false,
            };
            let read = read(&write(&session, looks)).expect("audio");
            assert_eq!((read.rtp.port(), read.rtcp.port(), read.direction), (4000, 4001, Direction::SendOnly));
            assert_eq!(read.sections, 1 + usize::from(looks.video));
        }
        let held = read(&write(&session, Looks { old_hold: true, ..Looks::default() })).expect("audio");
        assert_eq!((held.direction, held.rtp.ip().is_unspecified()), (Direction::SendOnly, true));
    }
}
