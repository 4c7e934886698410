//! The sheet for whoever types the plan into a router, as text and as a page
//! that prints.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use media::PortRange;
use nat::{Advertise, Side};
use proxy::config::Role;
use wire::Transport;

use crate::config::Settings;

/// One line of a router's page of port forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    of: String,
    what: &'static str,
    proto: &'static str,
    public: String,
    ports: String,
    to: String,
    local: String,
}

/// The sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sheet {
    lines: Vec<Line>,
    /// Phones, and how many calls each may have.
    limits: Vec<(String, String)>,
    notes: Vec<String>,
}

const HEAD: [&str; 7] = ["Phone", "For", "Protocol", "Public address", "Public ports", "Leads to", "Ports there"];

impl Sheet {
    /// Of a configuration; `here` stands for a wildcard.
    pub(super) fn of(settings: &Settings, here: Ipv4Addr) -> Self {
        let config = &settings.proxy;
        let office = config.role == Role::Office;
        let outer = || config.listeners.iter().filter(|l| l.side == Side::Outer && l.accepts && !l.retired);
        let general = outer().find(|listener| listener.phone.is_none());
        let public = |advertise: Option<Advertise>| match advertise {
            Some(Advertise::Ip(ip)) => ip.to_string(),
            Some(Advertise::Stun | Advertise::StunAddress | Advertise::Listen) | None => "the router's".to_owned(),
        };
        let to = |ip: IpAddr| if ip.is_unspecified() { here.to_string() } else { ip.to_string() };
        let name = |phone: Option<usize>| {
            phone.and_then(|at| config.phones.get(at)).map_or("all others".to_owned(), |phone| phone.name.clone())
        };
        let mut lines = Vec::new();
        for listener in outer() {
            let proto = if listener.transport == Transport::Udp { "UDP" } else { "TCP" };
            // In office the provider answers on connections that we opened.
            if office && proto == "TCP" {
                continue;
            }
            lines.push(Line {
                of: name(listener.phone),
                what: "signalling",
                proto,
                public: public(Some(listener.advertise)),
                ports: listener.advertise_port.unwrap_or(listener.bind.port()).to_string(),
                to: to(listener.bind.ip()),
                local: listener.bind.port().to_string(),
            });
        }
        let ranges = config.media.ranges.iter().zip(0_u16..);
        for (range, at) in ranges.filter(|_| general.is_some()) {
            let phone = config.phones.iter().position(|phone| phone.range.is_some_and(|own| own.0 == at));
            let own = phone.and_then(|at| config.phones.get(at));
            let listener = own.and_then(|phone| config.listeners.get(usize::from(phone.outer_listener?))).or(general);
            let advertise = own.and_then(|phone| phone.advertise).or(listener.map(|listener| listener.advertise));
            let PortRange { first, last } = range;
            lines.push(Line {
                of: name(phone),
                what: "sound",
                proto: "UDP",
                public: public(advertise),
                ports: format!("{first}-{last}"),
                to: listener.map_or(here.to_string(), |listener| to(listener.bind.ip())),
                local: format!("{first}-{last}"),
            });
        }
        // Phone by phone, as they are typed in.
        let order = |of: &str| config.phones.iter().position(|phone| phone.name == of).unwrap_or(usize::MAX);
        lines.sort_by_key(|line| order(&line.of));
        let limit = |phone: &proxy::config::Phone| {
            (
                phone.name.clone(),
                phone.max_calls.map_or("as many as there are ports".to_owned(), |calls| calls.to_string()),
            )
        };
        Self { lines, limits: config.phones.iter().map(limit).collect(), notes: notes(settings) }
    }

    /// For a terminal.
    pub(super) fn text(&self) -> String {
        let mut page = "Port forwards, to be typed into the router\n\n".to_owned();
        let rows: Vec<[&str; 7]> = std::iter::once(HEAD).chain(self.lines.iter().map(Line::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        for row in &rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            // A String has room.
            let _ = writeln!(page, "  {}", cells.join("  ").trim_end());
        }
        page.push_str("\nCalls at a time\n\n");
        for (phone, calls) in &self.limits {
            let _ = writeln!(page, "  {phone}: {calls}");
        }
        page.push('\n');
        for note in &self.notes {
            let _ = writeln!(page, "{note}");
        }
        page
    }

    /// For a browser and its printer: one page, nothing fetched from elsewhere.
    pub(super) fn html(&self) -> String {
        let mut page =
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>siplatch: port forwards</title>\n\
            <style>body{font:14px/1.4 sans-serif;margin:2em;max-width:60em}table{border-collapse:collapse;width:100%}\
            th,td{border:1px solid #888;padding:.3em .6em;text-align:left}th{background:#eee}\
            td:nth-child(5),td:nth-child(7){font-family:monospace}tr{break-inside:avoid}\
            @media print{body{margin:0}th{background:none}}</style></head>\n<body><h1>Port forwards</h1>\n\
            <p>To be typed into the router. Tick off what is done.</p>\n<table><thead><tr>"
                .to_owned();
        for cell in HEAD.iter().chain(&["Done"]) {
            let _ = write!(page, "<th>{cell}</th>");
        }
        page.push_str("</tr></thead><tbody>\n");
        for line in &self.lines {
            page.push_str("<tr>");
            for cell in line.cells() {
                let _ = write!(page, "<td>{}</td>", escaped(cell));
            }
            page.push_str("<td>&#9744;</td></tr>\n");
        }
        page.push_str("</tbody></table>\n<h2>Calls at a time</h2>\n<ul>\n");
        for (phone, calls) in &self.limits {
            let _ = writeln!(page, "<li>{}: {}</li>", escaped(phone), escaped(calls));
        }
        page.push_str("</ul>\n");
        for note in &self.notes {
            let _ = writeln!(page, "<p>{}</p>", escaped(note));
        }
        page.push_str("</body></html>\n");
        page
    }
}

impl Line {
    fn cells(&self) -> [&str; 7] {
        [&self.of, self.what, self.proto, &self.public, &self.ports, &self.to, &self.local]
    }
}

fn notes(settings: &Settings) -> Vec<String> {
    let config = &settings.proxy;
    let general = config.listeners.iter().find(|l| l.side == Side::Outer && l.phone.is_none());
    let mut notes = Vec::new();
    match general.map(|listener| listener.advertise) {
        Some(Advertise::Stun) => notes.push(
            "[outer] advertise is \"stun\": calls work without any of this where the router keeps one port for all \
             destinations. With the forwards write advertise = \"stun-address\"."
                .to_owned(),
        ),
        Some(Advertise::Listen) | None => notes.push(
            "No public address is advertised. With the forwards write advertise = \"stun-address\" or the public IP \
             address in [outer]."
                .to_owned(),
        ),
        Some(Advertise::StunAddress | Advertise::Ip(_)) => {}
    }
    notes.push(
        "Or let siplatch do it: router = \"auto\" in [outer] asks the router by PCP, NAT-PMP or UPnP, for ranges of at \
         most 64 ports."
            .to_owned(),
    );
    notes
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
