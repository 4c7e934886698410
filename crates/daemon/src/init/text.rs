//! The configuration as text.

use std::fmt::Write as _;
use std::net::IpAddr;

use proxy::config::Role;

use crate::config::{HostPort, read_upstream};
use crate::doctor::Advice;

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wish {
    pub(super) role: Role,
    /// As a URI; empty in standalone.
    pub(super) upstream: String,
    /// Office alone.
    pub(super) stun: Vec<HostPort>,
    /// Border alone: the public address, if it is not our own.
    pub(super) address: Option<IpAddr>,
    pub(super) reflector: Option<HostPort>,
    /// This machine's address.
    pub(super) local: IpAddr,
    pub(super) advice: Advice,
}

impl Wish {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            upstream: String::new(),
            stun: Vec::new(),
            address: None,
            reflector: None,
            local: IpAddr::from([127, 0, 0, 1]),
            advice: Advice::default(),
        }
    }

    /// Where the upstream is, if it is named by its address.
    pub(super) fn upstream_ip(&self) -> Option<IpAddr> {
        read_upstream(&self.upstream).ok()?.0.parse().ok()
    }

    /// The upstream with the transport that was seen to work, where the usual one does not.
    fn uri(&self) -> String {
        let plain = read_upstream(&self.upstream).is_ok_and(|(_, _, transport, sips)| transport.is_none() && !sips);
        let parameter = if self.advice.tcp_alone && plain { ";transport=tcp" } else { "" };
        format!("{}{parameter}", self.upstream)
    }
}

/// The configuration.
pub(super) fn write(wish: &Wish) -> String {
    match wish.role {
        Role::Office => office(wish),
        Role::Border => border(wish),
        Role::Standalone => standalone(wish),
    }
}

fn bracketed(ip: IpAddr) -> String {
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

fn office(wish: &Wish) -> String {
    let local = bracketed(wish.local);
    let mut text = format!(
        "# Phones behind one router, the provider beyond it.\n\
         # In a phone: everything as the provider wants it, and outbound proxy = {local}.\n\
         role = \"office\"\n\n\
         # The side of the phones.\n[inner]\nlisten = [\"udp:{local}:5060\"]\n\n\
         # The side of the provider.\n[outer]\nlisten = [\"udp:{local}:5070\"]\n"
    );
    let servers: Vec<String> = wish.stun.iter().map(|server| format!("\"{server}\"")).collect();
    match (wish.advice.translated, wish.advice.one_to_one) {
        (Some(false), _) => {
            text.push_str("# No NAT was seen here: our own address is the public one.\nadvertise = \"listen\"\n")
        }
        (_, Some(ip)) => {
            let _ = writeln!(text, "# A one-to-one NAT: all ports of this address are ours.\nadvertise = \"{ip}\"");
        }
        _ => {
            let _ = writeln!(
                text,
                "# The public address and port of every socket are found by STUN.\nadvertise = \"stun\"\n\
                 stun_servers = [{}]",
                servers.join(", ")
            );
        }
    }
    let _ = write!(text, "\n# Where the provider is.\n[[upstream]]\nuri = \"{}\"\n", wish.uri());
    if wish.advice.symmetric {
        text.push_str(
            "# The NAT here gives each destination another port: the provider must send media to where ours comes from.\n\
             # If it does, say so:\n#comedia = true\n",
        );
    }
    common(&mut text, wish);
    text
}

fn border(wish: &Wish) -> String {
    let local = bracketed(wish.local);
    let public = wish.address.unwrap_or(wish.local);
    // The listener says which side a message is on, so one address needs two ports.
    let mut text = format!(
        "# In front of a core (a PBX, a registrar): phones may be anywhere.\n\
         # In a phone: everything as the core wants it, and outbound proxy = {}.\n\
         role = \"border\"\n\n\
         # The side of the core.\n[inner]\nlisten = [\"udp:{local}:5070\"]\n\n\
         # The side of the phones.\n[outer]\nlisten = [\"udp:{}:5060\"]\n",
        bracketed(public),
        bracketed(outer(wish)),
    );
    let _ = match public == outer(wish) {
        true => writeln!(text, "advertise = \"listen\""),
        false => writeln!(text, "# A NAT forwards this address to us.\nadvertise = \"{public}\""),
    };
    let _ = write!(text, "\n# Where the core is.\n[[upstream]]\nuri = \"{}\"\n", wish.uri());
    if nat::address::is_private(public) {
        let net = match public {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                format!("{a}.{b}.{c}.0/24")
            }
            IpAddr::V6(ip) => format!("{ip}/64"),
        };
        let _ = write!(
            text,
            "\n# Our address is private: only phones of this network reach it.\n[[network]]\nprefix = \"{net}\"\nside = \"outer\"\n"
        );
    }
    common(&mut text, wish);
    text
}

/// The address of this machine that faces the phones.
fn outer(wish: &Wish) -> IpAddr {
    let ours = net::addresses().unwrap_or_default();
    wish.address.filter(|ip| ours.contains(ip)).unwrap_or(wish.local)
}

fn standalone(wish: &Wish) -> String {
    let mut text = format!(
        "# No provider, no core: phones register here and call each other.\n\
         # In a phone: domain (registrar) = {}.\n\
         role = \"standalone\"\n\n[inner]\nlisten = [\"udp:0.0.0.0:5060\"]\n",
        bracketed(wish.local)
    );
    text.push_str(
        "\n# One for each phone. Without any, phones register without a password, from private addresses only.\n\
         #[[user]]\n#name = \"alice\"\n#password = \"…\"\n",
    );
    common(&mut text, wish);
    text
}

fn common(text: &mut String, wish: &Wish) {
    text.push_str("\n[media]\nports = \"30000-30999\"\n\n[metrics]\nlisten = \"127.0.0.1:9090\"\n");
    if let Some(reflector) = &wish.reflector {
        let _ = write!(
            text,
            "\n# Asked by siplatch doctor: what arrives of what we send?\n[doctor]\nreflector = \"{reflector}\"\n"
        );
    }
}

/// What to do with it.
pub(super) fn next_steps(wish: &Wish, name: &str) -> String {
    let phones = match wish.role {
        Role::Office => format!("In the phones: outbound proxy = {}, all else as the provider says.\n", wish.local),
        Role::Border => format!("In the phones: outbound proxy = {}.\n", wish.address.unwrap_or(wish.local)),
        Role::Standalone => format!("In the phones: registrar = {}.\n", wish.local),
    };
    format!("Start it:  siplatch run --config {name}\nAsk again: siplatch doctor --config {name}\n{phones}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Overrides, load_text};

    fn wish(role: Role) -> Wish {
        let mut wish = Wish::new(role);
        wish.local = "192.168.1.2".parse().unwrap();
        if role != Role::Standalone {
            wish.upstream = "sip:sip.provider.example".to_owned();
        }
        if role == Role::Office {
            wish.stun = vec![HostPort::read("stun.example", 3478).unwrap()];
        }
        wish.reflector = Some(HostPort::read("far.example", 3478).unwrap());
        wish
    }

    #[test]
    fn what_is_written_has_no_faults_whatever_was_seen() {
        let ip = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for role in [Role::Office, Role::Border, Role::Standalone] {
            for advice in [
                Advice::default(),
                Advice { translated: Some(false), ..Advice::default() },
                Advice { translated: Some(true), one_to_one: ip("203.0.113.7"), ..Advice::default() },
                Advice { translated: Some(true), symmetric: true, tcp_alone: true, ..Advice::default() },
            ] {
                for address in [None, ip("203.0.113.30"), ip("192.168.1.2")] {
                    let wish = Wish { advice: advice.clone(), address, ..wish(role) };
                    let text = write(&wish);
                    load_text(("x".to_owned(), text.clone()), &Overrides::default())
                        .unwrap_or_else(|faults| panic!("{faults}\n{text}"));
                }
            }
        }
    }

    #[test]
    fn what_was_seen_is_written() {
        let office = |advice| write(&Wish { advice, ..wish(Role::Office) });
        assert!(office(Advice::default()).contains("advertise = \"stun\"\nstun_servers = [\"stun.example:3478\"]"));
        let none = office(Advice { translated: Some(false), ..Advice::default() });
        assert!(none.contains("advertise = \"listen\""), "{none}");
        let tcp = office(Advice { symmetric: true, tcp_alone: true, ..Advice::default() });
        assert!(
            tcp.contains("uri = \"sip:sip.provider.example;transport=tcp\"") && tcp.contains("\n#comedia = true"),
            "{tcp}"
        );
    }
}
