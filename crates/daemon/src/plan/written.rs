//! Phones as they are named on the command line, and as they stand in a
//! configuration. What is there is kept octet for octet; lines are added only.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use media::PortRange;

/// A phone as it is named: `NAME[:CALLS][@PUBLIC[/LOCAL]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) name: String,
    calls: Option<u16>,
    public: Option<Ipv4Addr>,
    local: Option<Ipv4Addr>,
}

impl Wish {
    /// Reads one, or says what is wrong and how to mend it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "\"{text}\" {what}\n  write NAME, NAME:CALLS, or NAME@PUBLIC-ADDRESS for one with a public address of \
                 its own; NAME@PUBLIC-ADDRESS/OUR-ADDRESS on an uplink of its own\n"
            )
        };
        let (rest, addresses) = text.split_once('@').map_or((text, None), |(rest, after)| (rest, Some(after)));
        let (name, calls) = rest.split_once(':').map_or((rest, None), |(name, calls)| (name, Some(calls)));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(wrong("is no name for a phone"));
        }
        let calls = calls.map(|calls| calls.parse().ok().filter(|calls| (1..=1000).contains(calls)));
        if calls == Some(None) {
            return Err(wrong("does not say how many calls, from 1 to 1000"));
        }
        let mut read = Vec::new();
        for address in addresses.into_iter().flat_map(|addresses| addresses.splitn(2, '/')) {
            let ip: Ipv4Addr = address.parse().map_err(|_| wrong("does not name an IPv4 address behind the @"))?;
            read.push(ip);
        }
        let (public, local) = (read.first().copied(), read.get(1).copied());
        Ok(Self { name: name.to_owned(), calls: calls.flatten(), public, local })
    }
}

/// Keys that the plan adds to a phone that is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Added {
    pub(super) outer_listen: bool,
    pub(super) media_ports: bool,
    pub(super) max_calls: bool,
    advertise: bool,
}

/// A phone with what is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Phone {
    pub(super) name: String,
    /// user, domain, address, instance.
    pub(super) selectors: [Option<String>; 4],
    pub(super) outer_listen: Option<SocketAddr>,
    pub(super) advertise: Option<String>,
    pub(super) advertise_port: Option<u16>,
    pub(super) media_ports: Option<PortRange>,
    pub(super) calls: Option<u16>,
    /// The configuration says how many calls.
    pub(super) limited: bool,
    pub(super) local: Option<Ipv4Addr>,
    /// It stands in the configuration.
    present: bool,
    /// It is named on the command line.
    pub(super) wished: bool,
    pub(super) added: Added,
}

impl Phone {
    /// One that is new; its user part is its name.
    pub(super) fn new(wish: Wish) -> Self {
        let mut phone = Self { name: wish.name.clone(), ..Self::default() };
        phone.selectors[0] = Some(wish.name.clone());
        phone.take(wish);
        phone
    }

    /// What the command line says of one that is there. What the configuration says goes before.
    pub(super) fn take(&mut self, wish: Wish) {
        self.wished = true;
        self.local = wish.local;
        if !self.limited {
            self.calls = wish.calls;
        }
        if let (None, Some(public)) = (&self.advertise, wish.public) {
            self.advertise = Some(public.to_string());
            self.added.advertise = true;
        }
    }

    /// The lines that the plan adds.
    fn lines(&self) -> String {
        let mut lines = String::new();
        // A String has room.
        if let Some(bind) = self.outer_listen.filter(|_| self.added.outer_listen) {
            let _ = writeln!(lines, "outer_listen = \"udp:{bind}\"");
        }
        if let Some(advertise) = self.advertise.as_ref().filter(|_| self.added.advertise) {
            let _ = writeln!(lines, "advertise = \"{advertise}\"");
        }
        if let Some(range) = self.media_ports.filter(|_| self.added.media_ports) {
            let _ = writeln!(lines, "media_ports = \"{}-{}\"", range.first, range.last);
        }
        if let Some(calls) = self.calls.filter(|_| self.added.max_calls) {
            let _ = writeln!(lines, "max_calls = {calls}");
        }
        lines
    }
}

/// The phones of a configuration that has no faults.
pub(super) fn phones(text: &str) -> Result<Vec<Phone>, String> {
    let table: toml::Table = text.parse().map_err(|error| format!("{error}\n"))?;
    let list = table.get("phone").and_then(toml::Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let read = |phone: &toml::Value| {
        let text = |key: &str| phone.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let number = |key: &str| phone.get(key).and_then(toml::Value::as_integer).and_then(|n| u16::try_from(n).ok());
        Phone {
            name: text("name").unwrap_or_default(),
            selectors: ["user", "domain", "address", "instance"].map(text),
            outer_listen: text("outer_listen").and_then(|text| text.split_once(':')?.1.parse().ok()),
            advertise: text("advertise"),
            advertise_port: number("advertise_port"),
            media_ports: text("media_ports").and_then(|text| super::range(&text).ok()),
            calls: number("max_calls"),
            limited: phone.get("max_calls").is_some(),
            present: true,
            ..Phone::default()
        }
    };
    Ok(list.iter().map(read).collect())
}

/// The sections of the phones that are new.
pub(super) fn sections(phones: &[Phone]) -> String {
    let mut text = String::new();
    for phone in phones.iter().filter(|phone| !phone.present) {
        let Phone { name, .. } = phone;
        let _ = write!(text, "[[phone]]\nname = \"{name}\"\nuser = \"{name}\"\n{}\n", phone.lines());
    }
    for phone in phones.iter().filter(|phone| phone.present && phone.added != Added::default()) {
        let _ = write!(text, "# To be added to the [[phone]] of \"{}\":\n{}\n", phone.name, phone.lines());
    }
    text
}

/// The configuration with the plan in it.
pub(super) fn apply(text: &str, phones: &[Phone]) -> String {
    let mut present = phones.iter().filter(|phone| phone.present);
    let mut whole = String::with_capacity(text.len() + 1024);
    for line in text.lines() {
        whole.push_str(line);
        whole.push('\n');
        let header = line.split('#').next().unwrap_or_default().replace([' ', '\t'], "");
        if header == "[[phone]]" {
            whole.push_str(&present.next().map(Phone::lines).unwrap_or_default());
        }
    }
    let new: Vec<Phone> = phones.iter().filter(|phone| !phone.present).cloned().collect();
    if !new.is_empty() {
        whole.push('\n');
        whole.push_str(sections(&new).trim_end());
        whole.push('\n');
    }
    whole
}
