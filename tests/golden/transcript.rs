//! Reading, running and writing a transcript.

use std::time::Duration;

use proxy::config::{Upstream, User};
use wire::Transport;

use crate::digest;
use crate::world::{Head, World};

/// Runs a transcript's inputs and returns it with the outputs that came.
pub(crate) fn run(role: &str, text: &str) -> String {
    let users = text
        .lines()
        .filter_map(|line| line.strip_prefix("# user "))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, password)| User { name: name.into(), password: password.into() })
        .collect();
    let upstream = text.lines().find_map(|l| l.strip_prefix("# upstream is ")).map(|words| {
        let (name, ips) = words.split_once(" at ").expect("a name and addresses");
        (name.to_owned(), ips.split(' ').map(|ip| ip.parse().expect("an address")).collect())
    });
    let says = |line: &str| text.lines().any(|l| l.strip_prefix("# ") == Some(line));
    let head = Head {
        users,
        phone_pings: says("phone pings"),
        upstream_pings: says("upstream pings"),
        unmapped: says("unmapped"),
        slow_ports: says("ports are slow"),
        trusted: text.lines().find_map(|l| l.strip_prefix("# ")?.strip_suffix(" is trusted")).map(str::to_owned),
        upstream,
        upstreams: text.lines().filter_map(|line| line.strip_prefix("# upstream sip:")).map(upstream_of).collect(),
        dns: text
            .lines()
            .filter_map(|line| line.strip_prefix("# dns "))
            .map(|line| {
                let mut words = line.split(' ').map(str::to_owned);
                let mut word = || words.next().expect("a name and a kind");
                (word(), word(), words.collect())
            })
            .collect(),
        phones_at: text
            .lines()
            .filter_map(|line| line.strip_prefix("# phone ")?.split_once(" at "))
            .map(|(phone, prefix)| (phone_number(phone), prefix.parse().expect("a prefix")))
            .collect(),
        upstream_by: text.lines().find_map(|l| l.strip_prefix("# upstream by ")).map(transport),
        listens: text
            .lines()
            .filter_map(|line| line.strip_prefix("# listener ")?.split_once(' '))
            .map(|(side, by)| (side.to_owned(), transport(by)))
            .collect(),
        secure: text.lines().find_map(|l| l.strip_prefix("# ")?.strip_suffix(" is secure")).map(str::to_owned),
    };
    let mut world = World::new(role, head);
    let mut names = Names::default();
    let mut out = String::new();
    for Given { notes, line, body } in inputs(text) {
        for piece in [&notes, &line, "\n", &body] {
            out.push_str(piece);
        }
        let line = names.put_back(&line);
        let events = match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, "wait", time] => {
                let seconds = time.trim_end_matches('s').parse().expect("seconds");
                world.wait(Duration::from_secs_f64(seconds))
            }
            [_, "silence"] => world.silence(),
            [_, "ports"] => world.bind_ports(),
            [_, "stop"] => world.stop(),
            [_, "restart"] => world.restart(),
            [_, "mapped", address] => world.mapped(address),
            [_, "unsent", side, remote] => world.unsent(side, remote),
            [_, "opened", side, remote, ref names @ ..] => {
                world.opened(side, remote, names.iter().map(|name| (*name).to_owned()).collect())
            }
            [_, "pings", "unanswered", ip] => world.pings_answered(ip, false),
            [_, "pings", "answered", ip] => world.pings_answered(ip, true),
            [_, "closed", side, remote] => world.closed(side, remote),
            [_, "crlf", side, remote] => world.crlf(side, remote),
            [_, side, remote] => world.receive(side, remote, &message(&digest::expand(&names.put_back(&body)))),
            _ => panic!("what is {line}?"),
        };
        for event in events {
            out.push_str(names.write(&event).trim_end_matches('\n'));
            out.push_str("\n\n");
        }
    }
    out
}

/// `HOST` or `HOST:PORT`, then `domain=NAME` and `default_phone=NAME` if they are wanted.
fn upstream_of(words: &str) -> Upstream {
    let mut words = words.split(' ');
    let place = words.next().unwrap_or_default();
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().expect("a port"))),
        None => (place, None),
    };
    let mut upstream = Upstream {
        host: host.to_owned(),
        port,
        transport: None,
        sips: false,
        domain: None,
        comedia: false,
        default_phone: None,
    };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        match key {
            "domain" => upstream.domain = Some(value.to_owned()),
            "default_phone" => upstream.default_phone = Some(phone_number(value)),
            _ => panic!("what is {key} of an upstream?"),
        }
    }
    upstream
}

fn phone_number(name: &str) -> usize {
    ["reception", "booth"].iter().position(|phone| *phone == name).expect("a phone of the configuration")
}

fn transport(name: &str) -> Transport {
    Transport::named(name.as_bytes()).expect("a transport")
}

/// The first line that differs, with both versions.
pub(crate) fn first_difference(before: &str, after: &str) -> String {
    let mut lines = 1;
    for (a, b) in before.lines().zip(after.lines()) {
        if a != b {
            return format!("line {lines}\n  expected {a}\n  came     {b}");
        }
        lines += 1;
    }
    format!("line {lines}: one ends here")
}

/// One input.
#[derive(Default)]
struct Given {
    /// `# ` lines before it.
    notes: String,
    /// Its `<<<` line.
    line: String,
    /// A message, or empty.
    body: String,
}

/// `<<<` lines with what follows them up to the next `>>>`, `***`, `#` or `<<<`.
fn inputs(text: &str) -> Vec<Given> {
    let mut found: Vec<Given> = Vec::new();
    let mut notes = String::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("<<<") {
            found.push(Given { notes: std::mem::take(&mut notes), line: line.to_owned(), body: String::new() });
            inside = true;
        } else if line.starts_with("# ") {
            notes.push_str(line);
            notes.push('\n');
            inside = false;
        } else if line.starts_with(">>>") || line.starts_with("***") {
            inside = false;
        } else if inside && let Some(given) = found.last_mut() {
            given.body.push_str(line);
            given.body.push('\n');
        }
    }
    for given in &mut found {
        given.body.truncate(given.body.trim_end_matches('\n').len());
        given.body.push_str(if given.body.is_empty() { "\n" } else { "\n\n" });
    }
    found
}

/// Line ends and Content-Length as they are on the wire.
pub(crate) fn message(text: &str) -> Vec<u8> {
    let text = text.trim_end_matches('\n');
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let body = if body.is_empty() { String::new() } else { format!("{}\r\n", body.replace('\n', "\r\n")) };
    format!("{}\r\nContent-Length: {}\r\n\r\n{body}", head.replace('\n', "\r\n"), body.len()).into_bytes()
}

/// Names for random parts, by kind and order of appearance.
#[derive(Default)]
struct Names(Vec<(String, String)>);

impl Names {
    fn write(&mut self, text: &str) -> String {
        let base32 = |c: char| c.is_ascii_lowercase() || ('2'..='7').contains(&c);
        let mut out = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let run = rest.find(|c: char| !base32(c)).unwrap_or(rest.len());
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let hex = rest.find(|c: char| !matches!(c, '0'..='9' | 'a'..='f')).unwrap_or(rest.len());
            let fresh_word = !out.ends_with(|c: char| c.is_ascii_alphanumeric());
            let (kind, length) = if let Some(branch) = rest.strip_prefix("z9hG4bK") {
                let end = branch.find(|c: char| !base32(c) && c != '-').unwrap_or(branch.len());
                (if matches!(end, 14 | 26) { "branch" } else { "" }, end + 7)
            } else if hex == 43 && fresh_word {
                ("nonce", 43)
            } else if run == 32 && fresh_word {
                ("token", 32)
            } else if run == 13
                && fresh_word
                && (rest[..13].contains(|c: char| c.is_ascii_digit())
                    || out.ends_with(";tag=")
                    || out.ends_with("Call-ID: "))
            {
                ("tag", 13)
            } else if digits == 5 && fresh_word && is_relay_port(&rest[..5]) {
                ("port", 5)
            } else {
                ("", if c.is_ascii_alphanumeric() && fresh_word { word(rest) } else { c.len_utf8() })
            };
            let (piece, tail) = rest.split_at(length);
            if kind.is_empty() {
                out.push_str(piece);
            } else {
                out.push_str(&self.name(kind, piece));
            }
            rest = tail;
        }
        out
    }

    fn name(&mut self, kind: &str, value: &str) -> String {
        if let Some((_, name)) = self.0.iter().find(|(v, _)| v == value) {
            return name.clone();
        }
        let count = self.0.iter().filter(|(_, n)| n[1..].starts_with(kind)).count() + 1;
        let name = format!("{{{kind}-{count}}}");
        self.0.push((value.to_owned(), name.clone()));
        name
    }

    fn put_back(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (value, name)| text.replace(name, value))
    }
}

fn is_relay_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|p| (30_000..30_120).contains(&p) || (40_000..40_121).contains(&p))
}

/// Length of the alphanumeric word that starts here.
fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len()).max(1)
}
