//! What is said at start, in plain words: the role, what to type into a
//! phone, the public address and how it was found, ports, and where to look.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use nat::relayed::Why;
use nat::{Advertise, Side};
use proxy::config::{Listener, Role};
use wire::Transport;

use crate::config::Settings;
use crate::metrics::label::Label as _;
use crate::view::{ListenerRow, TurnRow, asks, relayed};

/// What is known when the banner is due.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    /// One for each listener.
    pub(crate) listeners: &'a [ListenerRow],
    /// Addresses of this machine.
    pub(crate) addresses: &'a [IpAddr],
    /// The control socket, if there is one.
    pub(crate) control: Option<&'a Path>,
    /// Why tokens will not outlive a restart, if so.
    pub(crate) forgetful: Option<&'a str>,
    /// What was taken over from an earlier process.
    pub(crate) restored: Option<&'a str>,
    /// Whether media goes through TURN.
    pub(crate) turn: TurnRow,
    /// By which transport each upstream is reached, where it has several and that is known.
    pub(crate) transports: Vec<Option<Transport>>,
}

/// The banner.
pub(crate) fn text(settings: &Settings, known: &Known<'_>) -> String {
    let role = settings.proxy.role;
    let does = match role {
        Role::Office => "phones in the office, the provider outside",
        Role::Border => "in front of a core, phones anywhere",
        Role::Standalone => "phones register here and call each other",
    };
    let mut lines = vec![
        format!("siplatch {}, {}: {does}", env!("CARGO_PKG_VERSION"), role.as_str()),
        String::new(),
        "In a phone, type".to_owned(),
    ];
    let indented = phone(settings, known);
    lines.extend(indented.into_iter().map(|(label, value)| format!("  {label:<19} {value}")));
    lines.push(String::new());
    lines.extend(facts(settings, known).into_iter().map(|(label, value)| format!("{label:<21} {value}")));
    lines.push(String::new());
    lines.join("\n")
}

/// What to type into a phone.
fn phone(settings: &Settings, known: &Known<'_>) -> Vec<(&'static str, String)> {
    let config = &settings.proxy;
    let mut hosts = Vec::new();
    let mut browsers = Vec::new();
    for (listener, row) in config.listeners.iter().zip(known.listeners) {
        if listener.side == config.role.phones() && listener.phone.is_none() && listener.accepts {
            let scheme = match listener.transport {
                Transport::Udp | Transport::Tcp | Transport::Tls => None,
                Transport::Ws => Some("ws://"),
                Transport::Wss => Some("wss://"),
            };
            let list = if scheme.is_some() { &mut browsers } else { &mut hosts };
            for host in reached_at(listener, row, known.addresses) {
                let typed = format!("{}{host}", scheme.unwrap_or_default());
                if !list.contains(&typed) {
                    list.push(typed);
                }
            }
        }
    }
    hosts.truncate(4);
    browsers.truncate(4);
    let hosts = if hosts.is_empty() { "the address of this machine".to_owned() } else { hosts.join(" or ") };
    let (user, password) = match config.role {
        Role::Office => ("as the provider gave it", "as the provider gave it"),
        Role::Border => ("as the core knows it", "as the core knows it"),
        Role::Standalone if config.users.is_empty() => {
            ("any name you like", "any; without a [[user]] only private addresses may register")
        }
        Role::Standalone => ("the name of a [[user]]", "the password of that [[user]]"),
    };
    let (domain, proxy) = match config.role {
        Role::Office => ("the provider's, as if siplatch were not there".to_owned(), hosts),
        Role::Border => ("the core's, as if siplatch were not there".to_owned(), hosts),
        Role::Standalone => (hosts, "leave it empty".to_owned()),
    };
    let mut rows = vec![
        ("user", user.to_owned()),
        ("password", password.to_owned()),
        ("domain, registrar", domain),
        ("outbound proxy", proxy),
        ("transport", transports(config)),
    ];
    if !browsers.is_empty() {
        rows.push(("WebSocket server", browsers.join(" or ")));
    }
    rows
}

/// What phones may speak.
fn transports(config: &proxy::Config) -> String {
    let open = |transport: &Transport| {
        let speaks = |l: &&Listener| l.side == config.role.phones() && l.accepts && l.transport == *transport;
        config.listeners.iter().find(speaks).is_some()
    };
    let names: Vec<&str> = Transport::ALL.iter().filter(|t| open(t)).map(|t| t.via()).collect();
    names.join(" or ")
}

/// Where phones reach a listener, as they would type it.
fn reached_at(listener: &Listener, row: &ListenerRow, addresses: &[IpAddr]) -> Vec<String> {
    let bind = listener.bind;
    let local = |port: u16| {
        let same_family = |ip: &&IpAddr| ip.is_ipv4() == bind.is_ipv4();
        let all = || addresses.iter().filter(same_family);
        let proper: Vec<_> = all().filter(|ip| !ip.is_loopback()).map(|ip| SocketAddr::new(*ip, port)).collect();
        if proper.is_empty() { all().map(|ip| SocketAddr::new(*ip, port)).collect() } else { proper }
    };
    let reached = match listener.advertise {
        Advertise::Stun | Advertise::StunAddress => row.found.into_iter().collect(),
        Advertise::Ip(ip) => vec![SocketAddr::new(ip, listener.advertise_port.unwrap_or(bind.port()))],
        Advertise::Listen if bind.ip().is_unspecified() => local(bind.port()),
        Advertise::Listen => vec![bind],
    };
    let usual = listener.transport.default_port();
    let typed = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(ip) if address.port() == usual => ip.to_string(),
        IpAddr::V6(ip) if address.port() == usual => format!("[{ip}]"),
        IpAddr::V4(_) | IpAddr::V6(_) => address.to_string(),
    };
    reached.iter().map(typed).collect()
}

/// The rest: what is open, found and served.
fn facts(settings: &Settings, known: &Known<'_>) -> Vec<(&'static str, String)> {
    let config = &settings.proxy;
    let mut facts = Vec::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        let whom = if config.role == Role::Office { "Provider" } else { "Core" };
        let domain = upstream.domain.as_ref().map(|domain| format!(", for {domain}")).unwrap_or_default();
        let behind = config.upstreams[..index].iter().any(|other| other.domain == upstream.domain);
        let turn = if behind { ", when the one before it does not answer" } else { "" };
        let trunk = upstream.default_phone.and_then(|phone| config.phones.get(phone));
        let trunk = trunk.map(|phone| format!(", its calls go to {}", phone.name)).unwrap_or_default();
        let by = known.transports.get(index).copied().flatten().filter(|transport| *transport != Transport::Udp);
        let by = by.map(|transport| format!(", by {}: UDP does not pass", transport.label())).unwrap_or_default();
        facts.push((whom, format!("{}{by}{domain}{turn}{trunk}", upstream.uri())));
    }
    for (listener, row) in config.listeners.iter().zip(known.listeners).filter(|(listener, _)| listener.accepts) {
        let transport = listener.transport.label();
        let side = match listener.phone.and_then(|at| config.phones.get(at)) {
            Some(phone) => format!("{}, for {}", listener.side.as_str(), phone.name),
            None => listener.side.as_str().to_owned(),
        };
        match &row.trouble {
            None => facts.push(("Listening", format!("{transport} {} ({side})", listener.bind))),
            Some(trouble) => {
                facts.push(("NOT listening", format!("{transport} {} ({side}): {trouble}", listener.bind)))
            }
        }
        facts.extend(public(listener, row, settings, &known.turn).map(|address| ("Public address", address)));
    }
    for (index, range) in config.media.ranges.iter().enumerate() {
        let owner = config.phones.iter().find(|phone| phone.range.is_some_and(|own| usize::from(own.0) == index));
        let what = match owner {
            Some(phone) => format!("for {}", phone.name),
            None if settings.forwards.wants.iter().any(|want| want.internal == range.first) => {
                "the router is asked to forward them".to_owned()
            }
            None if config.listeners.iter().any(fixed) => "forward them in the router".to_owned(),
            None if config.listeners.iter().any(asks) => "opened from inside, nothing to set in the router".to_owned(),
            None => "let them through the firewall".to_owned(),
        };
        facts.push(("Media", format!("udp ports {}-{}, {what}", range.first, range.last)));
    }
    if let Some((server, _)) = &settings.turn {
        facts.push(("TURN", format!("{server}, {}", relayed(&known.turn))));
    }
    if settings.forwards.choice != nat::portmap::Choice::Off {
        let count = settings.forwards.wants.len();
        facts.push((
            "Router",
            format!("asked to forward {count} ports ({}), see siplatch status", settings.forwards.word()),
        ));
    }
    facts.extend(known.restored.map(|what| ("Restored", what.to_owned())));
    facts.push(("Metrics", format!("http://{}/metrics, health at /healthz", settings.metrics)));
    facts.push(match known.control {
        Some(path) => ("Status", format!("siplatch status, by {}", path.display())),
        None => ("Status", "not available: there is no control socket".to_owned()),
    });
    facts.extend(known.forgetful.map(|why| ("Note", format!("after a restart phones must register anew: {why}"))));
    facts
}

/// The public ports are ours to foretell: somebody must forward them.
fn fixed(listener: &Listener) -> bool {
    !listener.retired && listener.advertise == Advertise::StunAddress
}

/// The public address of a listener that has another than its own.
fn public(listener: &Listener, row: &ListenerRow, settings: &Settings, turn: &TurnRow) -> Option<String> {
    let servers = || {
        let servers = &settings.stun[usize::from(listener.side == Side::Outer)];
        servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    match (listener.advertise, row.found) {
        // What is said of the one beside it goes for connections, too.
        _ if listener.transport.reliable() => None,
        (Advertise::Listen, _) => None,
        (Advertise::Ip(ip), _) => Some(format!("{ip}, as configured")),
        (Advertise::Stun, Some(found)) if row.by == "stun" && turn.why == Some(Why::Blocked) => {
            Some(format!("{found}, as the TURN server sees it"))
        }
        (Advertise::Stun | Advertise::StunAddress, Some(found)) if row.by == "stun" => {
            Some(format!("{found}, found by STUN ({})", servers()))
        }
        (Advertise::Stun | Advertise::StunAddress, Some(found)) => Some(format!("{found}, as the {} sees it", row.by)),
        (Advertise::Stun | Advertise::StunAddress, None) if asks(listener) => Some(format!(
            "NOT KNOWN: no STUN server answers ({}); calls are refused with 503 until one does, asking goes on",
            servers()
        )),
        (Advertise::Stun | Advertise::StunAddress, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Sources, load};

    fn settings(name: &str) -> Settings {
        let text = std::fs::read_to_string(format!("{}/../../config/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let sources = Sources { file: Some((name.to_owned(), text)), ..Sources::default() };
        let machine =
            Machine { ipv6: true, processors: 2, state_dirs: vec!["/var/lib/siplatch".into()], metrics_open: false };
        load(&sources, &machine).unwrap()
    }

    /// Listeners beyond `rows` are open.
    fn banner(settings: &Settings, rows: &[ListenerRow]) -> String {
        let mut rows = rows.to_vec();
        rows.resize(settings.proxy.listeners.len(), open());
        let known = Known {
            listeners: &rows,
            addresses: &["127.0.0.1".parse().unwrap(), "192.168.1.2".parse().unwrap(), "2001:db8::2".parse().unwrap()],
            control: Some(Path::new("/var/lib/siplatch/control.sock")),
            forgetful: None,
            restored: (settings.proxy.role == Role::Border).then_some("98 registrations and 3 calls, 4 s old"),
            turn: TurnRow::default(),
            transports: Vec::new(),
        };
        text(settings, &known)
    }

    fn open() -> ListenerRow {
        ListenerRow { bound: true, ..ListenerRow::default() }
    }

    fn compare(name: &str, text: &str) {
        let path = format!("{}/../../tests/golden/banner/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("GOLDEN_WRITE").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{name}");
    }

    #[test]
    fn standalone_without_configuration() {
        let machine =
            Machine { ipv6: true, processors: 2, state_dirs: vec!["/var/lib/siplatch".into()], metrics_open: false };
        let settings = load(&Sources::default(), &machine).unwrap();
        compare("default", &banner(&settings, &[open(), open()]));
    }

    #[test]
    fn standalone_with_users() {
        compare("standalone", &banner(&settings("standalone.toml"), &[open()]));
    }

    #[test]
    fn every_transport() {
        let mut settings = settings("standalone.toml");
        let config = std::sync::Arc::make_mut(&mut settings.proxy);
        let ip = std::net::Ipv4Addr::UNSPECIFIED;
        for (transport, port) in [(Transport::Tls, 5061), (Transport::Ws, 8080), (Transport::Wss, 443)] {
            let first = config.listeners[0].clone();
            config.listeners.push(Listener { transport, bind: (ip, port).into(), ..first });
        }
        compare("every_transport", &banner(&settings, &[open()]));
    }

    #[test]
    fn border() {
        compare("border", &banner(&settings("border.toml"), &[open(), open()]));
    }

    #[test]
    fn office_with_the_address_found() {
        let found = ListenerRow { found: Some("203.0.113.7:41234".parse().unwrap()), by: "stun", ..open() };
        compare("office", &banner(&settings("office.toml"), &[open(), found]));
    }

    #[test]
    fn office_with_silent_servers_a_busy_port_and_no_state() {
        let settings = settings("office.toml");
        let busy = ListenerRow { trouble: Some("another program has this port".to_owned()), ..ListenerRow::default() };
        let known = Known {
            listeners: &[busy, open(), open(), open()],
            addresses: &[],
            control: None,
            forgetful: Some("/var/lib/siplatch cannot be written"),
            restored: None,
            turn: TurnRow::default(),
            transports: Vec::new(),
        };
        compare("office_trouble", &text(&settings, &known));
    }
}
