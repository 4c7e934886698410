//! Reading, running and writing a transcript.

use std::time::Duration;

use proxy::config::{DigestAlgorithm, Upstream, User};
use wire::Transport;

use crate::digest;
use crate::inputs::{Given, inputs, message};
use crate::names::Names;
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
    let digest = text.lines().find_map(|line| line.strip_prefix("# digest ")).unwrap_or_default();
    let named = |word: &str| DigestAlgorithm::PREFERRED.into_iter().find(|algorithm| algorithm.as_str() == word);
    let head = Head {
        users,
        digest: digest.split_whitespace().map(|word| named(word).expect("an algorithm")).collect(),
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
        passwords: text
            .lines()
            .filter_map(|line| line.strip_prefix("# password ")?.split_once(' '))
            .map(|(phone, password)| (phone_number(phone), password.to_owned()))
            .collect(),
        names: text.lines().filter_map(|line| line.strip_prefix("# our name is ")).map(str::to_owned).collect(),
        stun: says("upstream answers STUN"),
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
            [_, "lag", time] => {
                let seconds = time.trim_end_matches('s').parse().expect("seconds");
                world.lag(Duration::from_secs_f64(seconds))
            }
            [_, "silence"] => world.silence(),
            [_, "ports"] => world.bind_ports(),
            [_, "stop"] => world.stop(),
            [_, "restart"] => world.restart(),
            [_, "mapped", address] => world.mapped(address),
            [_, "behind", address] => world.behind(address),
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
        fallback: Vec::new(),
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
