//! What changes, in words: a line for each thing that was added, removed or
//! changed. Passwords are in none.

use nat::Side;
use net::datapath::{Datapath, Priority};
use proxy::config::{Listener, MediaKeepAlive};

use crate::config::Settings;

/// What differs, by section.
pub(super) fn between(was: &Settings, is: &Settings) -> Vec<String> {
    let mut lines = listeners(&was.proxy.listeners, &is.proxy.listeners);
    let (a, b) = (&was.proxy, &is.proxy);
    for (at, side) in [Side::Inner, Side::Outer].into_iter().enumerate() {
        let servers = |settings: &Settings| {
            let all: Vec<String> = settings.stun[at].iter().map(ToString::to_string).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        value(&mut lines, &format!("{}.stun_servers", side.as_str()), &servers(was), &servers(is));
    }
    value(&mut lines, "outer.router", &was.forwards.word(), &is.forwards.word());
    for (at, side) in [Side::Inner, Side::Outer].into_iter().enumerate() {
        let allowed = |settings: &Settings| {
            let all: Vec<String> = settings.doors.1[at].iter().map(ToString::to_string).collect();
            if all.is_empty() { "everybody".to_owned() } else { all.join(", ") }
        };
        value(&mut lines, &format!("{}.allow", side.as_str()), &allowed(was), &allowed(is));
    }
    list(&mut lines, &was.doors.0, &is.doors.0, |(prefix, may)| {
        format!("access of {prefix}: {}", if *may { "allow" } else { "deny" })
    });
    let upstream = |u: &proxy::config::Upstream| match &u.domain {
        Some(domain) => format!("upstream {} for {domain}", u.uri()),
        None => format!("upstream {}", u.uri()),
    };
    list(&mut lines, &a.upstreams, &b.upstreams, upstream);
    list(&mut lines, &a.networks, &b.networks, |network| format!("network {}", network.prefix));
    // Places in other lists are not what people write of a phone.
    let phones = |config: &proxy::Config| -> Vec<_> {
        let phones = config.phones.iter().map(|phone| {
            let range = phone.range.and_then(|range| config.media.ranges.get(usize::from(range.0))).copied();
            let own = phone.outer_listener.and_then(|at| config.listeners.get(usize::from(at)));
            let own = own.map(|listener| (listener.transport, listener.bind, listener.advertise_port));
            (proxy::config::Phone { range: None, outer_listener: None, ..phone.clone() }, range, own)
        });
        phones.collect()
    };
    list(&mut lines, &phones(a), &phones(b), |(phone, ..)| format!("phone \"{}\"", phone.name));
    list(&mut lines, &a.users, &b.users, |user| format!("user \"{}\"", user.name));
    let digest = |config: &proxy::Config| {
        let words: Vec<&str> = config.digest.iter().map(|algorithm| algorithm.as_str()).collect();
        words.join(", ")
    };
    value(&mut lines, "digest", &digest(a), &digest(b));
    let ports = |config: &proxy::Config| config.media.ranges.first().map(|r| format!("{}-{}", r.first, r.last));
    value(&mut lines, "media.ports", &ports(a).unwrap_or_default(), &ports(b).unwrap_or_default());
    value(&mut lines, "names", &a.names.join(", "), &b.names.join(", "));
    value(&mut lines, "media.timeout_s", &a.media.timeout.as_secs(), &b.media.timeout.as_secs());
    value(&mut lines, "limits.message_bytes", &a.limits.message_bytes, &b.limits.message_bytes);
    value(&mut lines, "limits.header_fields", &a.limits.header_fields, &b.limits.header_fields);
    let turn = |settings: &Settings| settings.turn.as_ref().map_or("none".to_owned(), |(server, _)| server.to_string());
    value(&mut lines, "turn.server", &turn(was), &turn(is));
    let login = |settings: &Settings| settings.turn.as_ref().map(|(_, credentials)| credentials.clone());
    if turn(was) == turn(is) && login(was) != login(is) {
        lines.push("changed: who we are to the TURN server".to_owned());
    }
    if was.tls != is.tls || was.certificates != is.certificates {
        lines.push("changed: certificates, for connections that begin from now on".to_owned());
    }
    if lines.is_empty() && was != is {
        lines.push("details that have no line of their own".to_owned());
    }
    lines
}

fn listeners(was: &[Listener], is: &[Listener]) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, listener) in is.iter().enumerate() {
        let name = format!("{} {} ({})", transport(listener), listener.bind, listener.side.as_str());
        match (was.get(index).filter(|was| !was.retired), listener.retired) {
            (None, false) => lines.push(format!("added: listener {name}")),
            (Some(_), true) => lines.push(format!("removed: listener {name}")),
            (Some(was), false)
                if was.advertise != listener.advertise || was.advertise_port != listener.advertise_port =>
            {
                lines.push(format!("changed: what listener {name} advertises"));
            }
            (Some(was), false) if was.secure != listener.secure => {
                lines.push(format!("changed: whether the network of listener {name} is trusted"));
            }
            (None, true) | (Some(_), false) => {}
        }
    }
    lines
}

/// Things by their names.
fn list<T: PartialEq>(lines: &mut Vec<String>, was: &[T], is: &[T], name: impl Fn(&T) -> String) {
    for thing in is {
        let name_of = name(thing);
        match was.iter().find(|other| name(other) == name_of) {
            None => lines.push(format!("added: {name_of}")),
            Some(other) if other != thing => lines.push(format!("changed: {name_of}")),
            Some(_) => {}
        }
    }
    let gone = was.iter().map(&name).filter(|gone| !is.iter().any(|thing| name(thing) == *gone));
    lines.extend(gone.map(|gone| format!("removed: {gone}")));
}

fn value<T: PartialEq + std::fmt::Display>(lines: &mut Vec<String>, key: &str, was: &T, is: &T) {
    if was != is {
        lines.push(format!("changed: {key} from {was} to {is}"));
    }
}

pub(super) fn transport(listener: &Listener) -> String {
    listener.transport.via().to_ascii_lowercase()
}

pub(super) fn datapath(datapath: Datapath) -> String {
    match datapath {
        Datapath::Auto => "auto",
        Datapath::Userspace => "userspace",
        Datapath::Kernel => "kernel",
    }
    .to_owned()
}

pub(super) fn priority(priority: Priority) -> String {
    match priority {
        Priority::Realtime => "realtime",
        Priority::Normal => "normal",
    }
    .to_owned()
}

pub(super) fn keepalive(keepalive: MediaKeepAlive) -> String {
    match keepalive {
        MediaKeepAlive::Stun => "stun",
        MediaKeepAlive::Rtp => "rtp",
        MediaKeepAlive::Off => "off",
    }
    .to_owned()
}
