//! Single values: from text as people write it to types. Each reader says
//! what is wrong and how to mend it; none looks at another key.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use media::PortRange;
use nat::{Advertise, Side, portmap};
use net::datapath::{Datapath, Priority};
use net::dscp::{Dscp, Mark};
use net::turn::{Over, Server};
use proxy::config::{DigestAlgorithm, Fallback, MediaKeepAlive, Role};
use wire::Transport;
use wire::sip::{Scheme, Uri};

use super::fault::nearest;

/// What is wrong, and the mend.
pub(super) type Wrong = (String, String);

fn wrong<T>(what: impl Into<String>, mend: impl Into<String>) -> Result<T, Wrong> {
    Err((what.into(), mend.into()))
}

/// A name and a port, for what is resolved at run time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    /// Host name or numeric address, without brackets.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
}

impl HostPort {
    /// Reads one, with this port where none is written.
    pub(crate) fn read(text: &str, default: u16) -> Result<Self, String> {
        host_port(text, default).map_err(|(what, mend)| format!("{what}\n  mend: {mend}\n"))
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.parse::<Ipv6Addr>() {
            Ok(ip) => write!(f, "[{ip}]:{}", self.port),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// `udp:ADDRESS:PORT`, or with another transport.
pub(super) fn listen(text: &str) -> Result<(Transport, SocketAddr), Wrong> {
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphabetic()) && !scheme.is_empty() => (scheme, rest),
        _ => return wrong(format!("\"{text}\" does not begin with a transport"), format!("write \"udp:{text}\"")),
    };
    let transport = match scheme {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        "tls" => Transport::Tls,
        "ws" => Transport::Ws,
        "wss" => Transport::Wss,
        _ => {
            let mend = "write \"udp:ADDRESS:PORT\", or tcp:, tls:, ws: or wss: in front";
            return wrong(format!("there is no transport \"{scheme}\""), mend);
        }
    };
    let address = if let Ok(address) = rest.parse::<SocketAddr>() {
        address
    } else if let Ok(ip) = rest.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        SocketAddr::new(ip, transport.default_port())
    } else if rest.starts_with('[') || rest.matches(':').count() > 1 {
        return wrong(
            format!("\"{rest}\" is not an address with a port"),
            format!("write IPv6 in brackets: \"{scheme}:[2001:db8::1]:{}\"", transport.default_port()),
        );
    } else {
        return wrong(
            format!("\"{rest}\" is not an IP address with a port"),
            format!(
                "write an address of this machine, \"{scheme}:192.168.1.2:{port}\", or \"{scheme}:0.0.0.0:{port}\" for \
                 all of them",
                port = transport.default_port()
            ),
        );
    };
    if address.port() == 0 {
        return wrong(
            "port 0 is no port that a phone can be told",
            format!("write \"{scheme}:{}:{}\"", bracketed(address.ip()), transport.default_port()),
        );
    }
    if nat::address::is_absurd(address.ip()) && !address.ip().is_unspecified() {
        return wrong(format!("{} is not an address to listen on", address.ip()), "write an address of this machine");
    }
    Ok((transport, address))
}

fn bracketed(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

/// Likewise of an upstream, for the command line.
pub(crate) fn read_upstream(text: &str) -> Result<(String, Option<u16>, Option<Transport>, bool), String> {
    upstream(text).map_err(|(what, mend)| format!("{what}\n  mend: {mend}\n"))
}

/// `listen`, `stun`, `stun-address` or an IP address.
pub(super) fn advertise(text: &str) -> Result<Advertise, Wrong> {
    match text {
        "listen" => Ok(Advertise::Listen),
        "stun" => Ok(Advertise::Stun),
        "stun-address" => Ok(Advertise::StunAddress),
        _ => match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(ip) if nat::address::is_absurd(ip) => {
                wrong(format!("nobody can send to {ip}"), "write the public address, or \"listen\"")
            }
            Ok(ip) => Ok(Advertise::Ip(ip)),
            Err(_) if text.parse::<SocketAddr>().is_ok() => wrong(
                format!("\"{text}\" has a port; ports are those of the sockets"),
                "write the IP address alone; a [[phone]] may have advertise_port",
            ),
            Err(_) => {
                let near = nearest(text, ["listen", "stun", "stun-address"].into_iter());
                let mend = near
                    .map_or("write \"listen\", \"stun\", \"stun-address\" or an IP address".to_owned(), |near| {
                        format!("did you mean \"{near}\"?")
                    });
                wrong(format!("\"{text}\" is no way to advertise"), mend)
            }
        },
    }
}

/// One word of a few.
pub(super) fn word<T: Copy>(text: &str, what: &str, words: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let list = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let mend = match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write one of {list}"),
    };
    wrong(format!("there is no {what} \"{text}\""), mend)
}

/// The role.
pub(super) fn role(text: &str) -> Result<Role, Wrong> {
    word(text, "role", &[("office", Role::Office), ("border", Role::Border), ("standalone", Role::Standalone)])
}

/// A side.
pub(super) fn side(text: &str) -> Result<Side, Wrong> {
    word(text, "side", &[("inner", Side::Inner), ("outer", Side::Outer)])
}

/// How pinholes are kept.
pub(super) fn keepalive(text: &str) -> Result<MediaKeepAlive, Wrong> {
    let words = [("stun", MediaKeepAlive::Stun), ("rtp", MediaKeepAlive::Rtp), ("off", MediaKeepAlive::Off)];
    word(text, "keep-alive", &words)
}

/// A code point by name or number.
pub(super) fn dscp(text: &str) -> Result<Dscp, Wrong> {
    text.parse().map_err(|()| {
        let what = match text {
            "keep" => "there is nothing to keep: a message leaves by another socket than it came in by".to_owned(),
            _ => format!("\"{text}\" is no code point"),
        };
        (what, "write \"cs3\", \"ef\", \"af41\" or a number from \"0\" to \"63\"".to_owned())
    })
}

/// The same, or `keep`.
pub(super) fn mark(text: &str) -> Result<Mark, Wrong> {
    match text {
        "keep" => Ok(Mark::Keep),
        _ => dscp(text).map(Mark::Set).map_err(|(what, mend)| (what, format!("{mend}, or \"keep\""))),
    }
}

/// Digest algorithms, each once.
pub(super) fn digest(list: &[String]) -> Result<Vec<DigestAlgorithm>, Wrong> {
    let words = DigestAlgorithm::PREFERRED.map(|algorithm| (algorithm.as_str(), algorithm));
    let mut algorithms = Vec::new();
    for text in list {
        let algorithm = word(text, "digest algorithm", &words)?;
        if algorithms.contains(&algorithm) {
            return wrong(format!("\"{text}\" is written twice"), "keep one of the two");
        }
        algorithms.push(algorithm);
    }
    if algorithms.is_empty() {
        return wrong("nobody can answer no challenge", "write [\"SHA-256\", \"SHA-512-256\", \"MD5\"], or remove it");
    }
    Ok(algorithms)
}

/// What forwards media.
pub(super) fn datapath(text: &str) -> Result<Datapath, Wrong> {
    word(text, "datapath", &DATAPATHS)
}

const DATAPATHS: [(&str, Datapath); 3] =
    [("auto", Datapath::Auto), ("userspace", Datapath::Userspace), ("kernel", Datapath::Kernel)];

/// What media workers are among other threads.
pub(super) fn priority(text: &str) -> Result<Priority, Wrong> {
    word(text, "priority", &[("realtime", Priority::Realtime), ("normal", Priority::Normal)])
}

/// In which protocol the router is asked for forwards.
pub(super) fn router(text: &str) -> Result<portmap::Choice, Wrong> {
    let all = [
        ("auto", portmap::Choice::Auto),
        ("pcp", portmap::Choice::Only(portmap::Protocol::Pcp)),
        ("nat-pmp", portmap::Choice::Only(portmap::Protocol::NatPmp)),
        ("upnp", portmap::Choice::Only(portmap::Protocol::Upnp)),
        ("off", portmap::Choice::Off),
    ];
    word(text, "router", &all)
}

/// `first-last`, the first even, with room for at least `pairs` pairs.
pub(super) fn ports(text: &str, pairs: u32) -> Result<PortRange, Wrong> {
    let numbers = text.split_once('-').map(|(first, last)| (first.trim().parse::<u32>(), last.trim().parse::<u32>()));
    let Some((Ok(first), Ok(last))) = numbers else {
        return wrong(
            format!("\"{text}\" is not a range of ports"),
            "write \"first-last\", for example \"30000-30999\"",
        );
    };
    let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(last)) else {
        return wrong(format!("\"{text}\" goes beyond the highest port, 65535"), "write for example \"30000-30999\"");
    };
    if last < first {
        return wrong(format!("\"{text}\" ends before it begins"), format!("write \"{last}-{first}\""));
    }
    if first < 1024 {
        return wrong(
            format!("\"{text}\" has ports that belong to the system (below 1024)"),
            "write a range above 1023, for example \"30000-30999\"",
        );
    }
    if first % 2 == 1 {
        let even = first + 1;
        return wrong(
            format!("\"{text}\" begins with an odd port; RTP takes an even one and RTCP the next"),
            format!("write \"{even}-{last}\""),
        );
    }
    if (u32::from(last) - u32::from(first)).div_ceil(2) < pairs {
        let needed = u32::from(first) + 2 * pairs - 1;
        return wrong(
            format!("\"{text}\" is too small: at least {pairs} pairs of ports are needed"),
            format!("write \"{first}-{needed}\" or more"),
        );
    }
    Ok(PortRange { first, last })
}

/// `host` or `host:port`.
pub(super) fn host_port(text: &str, default: u16) -> Result<HostPort, Wrong> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(HostPort { host: address.ip().to_string(), port: address.port() });
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(HostPort { host: ip.to_string(), port: default });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse::<u16>().ok().filter(|port| *port != 0)),
        None => (text, Some(default)),
    };
    match port {
        Some(port) if name(host) => Ok(HostPort { host: host.to_owned(), port }),
        Some(_) | None => wrong(
            format!("\"{text}\" is not a host name or address with an optional port"),
            format!("write \"stun.example.net\" or \"stun.example.net:{default}\""),
        ),
    }
}

/// A way to an upstream: `udp`, `tcp` or `tls`, the last two with `:PORT`.
pub(super) fn fallback(text: &str) -> Result<Fallback, Wrong> {
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port.parse::<u16>().ok().filter(|port| *port != 0))),
        None => (text, None),
    };
    let words = [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)];
    let transport = word(name, "way", &words)?;
    match port {
        None => Ok(Fallback { transport, port: None }),
        Some(Some(port)) if transport != Transport::Udp => Ok(Fallback { transport, port: Some(port) }),
        Some(_) => wrong(format!("\"{text}\" has no port that can be tried"), "write \"udp\", \"tcp\" or \"tls:443\""),
    }
}

/// A TURN URI (RFC 7065).
pub(super) fn turn(text: &str) -> Result<Server, Wrong> {
    let mend = "write \"turn:HOST:3478\", \"turn:HOST:3478?transport=tcp\" or \"turns:HOST:5349\"";
    let Some((scheme, rest)) = text.split_once(':') else {
        return wrong(format!("\"{text}\" does not say how the server is reached"), mend);
    };
    let (place, transport) = match rest.split_once("?transport=") {
        Some((place, transport)) => (place, Some(transport)),
        None => (rest, None),
    };
    let over = match (scheme, transport) {
        ("turn", None | Some("udp")) => Over::Udp,
        ("turn", Some("tcp")) => Over::Tcp,
        ("turns", None | Some("tcp")) => Over::Tls,
        ("turns", Some("udp")) => return wrong("TURN over DTLS is not spoken here", mend),
        _ => return wrong(format!("\"{text}\" is no TURN URI"), mend),
    };
    let default = if over == Over::Tls { 5349 } else { 3478 };
    let Ok(HostPort { host, port }) = host_port(place, default) else {
        return wrong(format!("\"{place}\" is not a host name or address with an optional port"), mend);
    };
    Ok(Server { host, port, over })
}

/// True for what may be a host name (RFC 1123), an all-numeric one excluded.
fn name(host: &str) -> bool {
    let octets = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty()
        && host.len() <= 253
        && host.chars().all(octets)
        && host.chars().any(|c| c.is_ascii_alphabetic())
        && host.trim_end_matches('.').split('.').all(|label| !label.is_empty() && label.len() <= 63)
}

/// `sip:HOST[:PORT][;transport=…]` or `sips:…`: host, port and transport, if they are written, and whether it is sips.
pub(super) fn upstream(text: &str) -> Result<(String, Option<u16>, Option<Transport>, bool), Wrong> {
    const FORM: &str =
        "write \"sip:HOST\", \"sip:HOST:PORT\" or \"sips:HOST\"; with \";transport=tcp\" only TCP is used";
    let uri = match Uri::parse(text.as_bytes()) {
        Ok(uri) if matches!(uri.scheme, Scheme::Sip | Scheme::Sips) => uri,
        Ok(_) | Err(_) if !text.starts_with("sip:") && !text.starts_with("sips:") => {
            return wrong(format!("\"{text}\" is not a SIP URI"), format!("write \"sip:{text}\""));
        }
        Ok(_) => return wrong(format!("\"{text}\" is not a SIP URI"), FORM),
        Err(malformed) => return wrong(format!("\"{text}\" is not a SIP URI: {malformed}"), FORM),
    };
    if uri.user.is_some() {
        return wrong("a next hop has no user part", FORM);
    }
    let sips = uri.scheme == Scheme::Sips;
    let transport = match uri.params.value("transport") {
        None => None,
        Some(value) => match Transport::named(value) {
            // RFC 3261 §26.2.2.
            Some(Transport::Udp) if sips => {
                return wrong("sips: is never sent over UDP", "leave transport out: TLS");
            }
            Some(transport) => Some(transport),
            None => {
                let value = String::from_utf8_lossy(value).into_owned();
                return wrong(format!("there is no transport \"{value}\""), "write udp, tcp, tls, ws or wss");
            }
        },
    };
    let host = uri.host.map(|host| String::from_utf8_lossy(host.0).into_owned()).unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if bare.parse::<IpAddr>().is_ok_and(nat::address::is_absurd) || (bare.parse::<IpAddr>().is_err() && !name(&bare)) {
        return wrong(format!("\"{host}\" is not a host"), FORM);
    }
    if uri.port == Some(0) {
        return wrong("0 is no port", FORM);
    }
    Ok((bare, uri.port, transport, sips))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_reads_addresses_and_their_default_port() {
        let udp = |text| listen(text).map(|(_, address)| address.to_string());
        assert_eq!(udp("udp:192.168.1.2:5070").as_deref(), Ok("192.168.1.2:5070"));
        assert_eq!(udp("udp:192.168.1.2").as_deref(), Ok("192.168.1.2:5060"));
        assert_eq!(udp("udp:[::]:5060").as_deref(), Ok("[::]:5060"));
        assert_eq!(udp("udp:2001:db8::1").as_deref(), Ok("[2001:db8::1]:5060"));
        assert_eq!(listen("tls:192.0.2.1"), Ok((Transport::Tls, "192.0.2.1:5061".parse().unwrap())));
        assert_eq!(listen("wss:[::]"), Ok((Transport::Wss, "[::]:443".parse().unwrap())));
        assert_eq!(listen("ws:192.0.2.1:8080"), Ok((Transport::Ws, "192.0.2.1:8080".parse().unwrap())));
        for bad in [
            "",
            "udp",
            "udp:",
            "udp:host:5060",
            "192.168.1.2:5060",
            "sctp:1.2.3.4:5060",
            "udp:1.2.3.4:0",
            "udp:224.0.0.1:5060",
        ] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn digest_algorithms_come_each_once() {
        let list = |words: &[&str]| digest(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(list(&["SHA-256", "SHA-512-256", "MD5"]), Ok(DigestAlgorithm::PREFERRED.to_vec()));
        assert_eq!(list(&["MD5"]), Ok(vec![DigestAlgorithm::Md5]));
        for bad in [&[][..], &["MD5", "MD5"], &["md5"], &["SHA-1"]] {
            assert!(list(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ports_are_pairs() {
        assert_eq!(ports("30000-30003", 2), Ok(PortRange { first: 30000, last: 30003 }));
        assert_eq!(ports("10000-10100", 2), Ok(PortRange { first: 10000, last: 10100 }));
        for bad in ["30001-30010", "30000-30002", "30000", "30010-30000", "0-10", "30000-70000", "a-b", ""] {
            assert!(ports(bad, 2).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(host_port("stun.example.net", 3478).map(|h| h.to_string()).as_deref(), Ok("stun.example.net:3478"));
        assert_eq!(host_port("[2001:db8::1]:99", 3478).map(|h| h.to_string()).as_deref(), Ok("[2001:db8::1]:99"));
        assert_eq!(host_port("192.0.2.1", 3478).map(|h| h.to_string()).as_deref(), Ok("192.0.2.1:3478"));
        for bad in ["", "a b", "host:", "host:0", "host:99999", "192.0.2", ":3478", "a..b"] {
            assert!(host_port(bad, 3478).is_err(), "{bad}");
        }
    }
}
