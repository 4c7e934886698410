//! A single OPTIONS to see whether a server is there, and what its answer
//! tells by the way (RFC 3261 §11, §20.17; RFC 3581 §4).

use std::net::{IpAddr, SocketAddr};

use wire::Transport;
use wire::sip::compose::Request;
use wire::sip::{Framing, Index, Limits, Message, Method, Name};

/// What it goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way<'a> {
    /// UDP, TCP or TLS.
    pub transport: Transport,
    /// Our socket.
    pub local: SocketAddr,
    /// The server as it is written, port included.
    pub server: &'a str,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Date, in seconds since 1970.
    pub date: Option<u64>,
    /// The address that it came from, as the server saw it (`received` and `rport`).
    pub seen: Option<SocketAddr>,
}

/// The request. `random` makes its tag, by which the answer is known, and its branch.
pub fn request(way: Way<'_>, random: [u64; 2]) -> Vec<u8> {
    let Way { transport, local, server } = way;
    let mut bytes = Vec::with_capacity(512);
    Request {
        method: Method::Options,
        uri: format!("sip:{server}").as_bytes(),
        via: format!("SIP/2.0/{} {local};rport;branch=z9hG4bK{:016x}", transport.via(), random[0]).as_bytes(),
        route: &[],
        from: format!("<sip:siplatch@{local}>;tag={}", tag(random)).as_bytes(),
        to: format!("<sip:{server}>").as_bytes(),
        call_id: format!("{:016x}@siplatch", random[0]).as_bytes(),
        cseq: 1,
        extra: b"User-Agent: siplatch\r\nAccept: application/sdp\r\n",
        body: None,
    }
    .write(&mut bytes);
    bytes
}

fn tag(random: [u64; 2]) -> String {
    format!("{:016x}", random[1])
}

/// Reads the final response to the request with this `random`; `None` for anything else.
pub fn read(bytes: &[u8], random: [u64; 2]) -> Option<Answer> {
    let mut index = Index::new();
    index.parse(bytes, Framing::Datagram, &Limits::default()).ok()?;
    let message = index.view(bytes);
    let status = message.status().filter(|status| !status.is_provisional())?;
    let ours = message.from().ok()?.tag() == Some(tag(random).as_bytes()) && message.method() == Method::Options;
    ours.then(|| Answer { status: status.0, date: date(message), seen: seen(message) })
}

fn seen(message: Message<'_>) -> Option<SocketAddr> {
    let via = message.top_via().ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_matches(['[', ']']).to_owned();
    let ip: IpAddr = text(via.params.value("received")?).parse().ok()?;
    let port = text(via.params.value("rport")?).parse().ok()?;
    Some(SocketAddr::new(ip, port))
}

fn date(message: Message<'_>) -> Option<u64> {
    rfc1123(std::str::from_utf8(message.value(Name::Date)?).ok()?)
}

/// `Sat, 13 Nov 2010 23:29:00 GMT` (§20.17) in seconds since 1970; `None` for anything else, and for years before.
fn rfc1123(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_once(',')?.1.split_ascii_whitespace().collect();
    let [day, month, year, time, "GMT"] = words[..] else { return None };
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let time: Vec<u64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hour, minute, second] = time[..] else { return None };
    let sane = (1..=31).contains(&day) && (1970..=9999).contains(&year) && hour < 24 && minute < 60 && second <= 60;
    // The days since 1970-03-01 of a calendar whose year begins in March, so that the leap day is its last.
    let from_march = |year: u64, month: u64| {
        let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
        year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5
    };
    let days = (from_march(year, month) + day).checked_sub(from_march(1970, 1) + 1)?;
    sane.then_some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sat, 13 Nov 2010 23:29:00 GMT", Some(1_289_690_940)),
            ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("Sat, 13 Nov 2010 23:29:00 CET", None),
            ("Sat, 13 Foo 2010 23:29:00 GMT", None),
            ("Sat, 13 Nov 2010 25:29:00 GMT", None),
            ("13 Nov 2010", None),
            ("", None),
        ] {
            assert_eq!(rfc1123(text), seconds, "{text}");
        }
    }

    #[test]
    fn the_answer_is_known_by_its_tag() {
        let way = Way { transport: Transport::Udp, local: "10.0.0.1:5060".parse().expect("an address"), server: "x:1" };
        let request = String::from_utf8(request(way, [1, 2])).expect("ASCII");
        assert!(request.starts_with("OPTIONS sip:x:1 SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1:5060;rport;branch=z9hG4bK"));
        let answer = request
            .replace("OPTIONS sip:x:1 SIP/2.0", "SIP/2.0 405 No")
            .replace(";rport", ";rport=99;received=192.0.2.1")
            .replace("User-Agent: siplatch", "date: Thu, 01 Jan 1970 00:00:09 GMT");
        let seen = "192.0.2.1:99".parse().ok();
        assert_eq!(read(answer.as_bytes(), [1, 2]), Some(Answer { status: 405, date: Some(9), seen }));
        assert_eq!(read(answer.as_bytes(), [1, 3]), None);
        assert_eq!(read(answer.replace(" 405 ", " 100 ").as_bytes(), [1, 2]), None);
        assert_eq!(read(request.as_bytes(), [1, 2]), None);
    }
}
