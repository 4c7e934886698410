use std::time::Duration;

use nat::Side;
use wire::Transport;

use super::*;
use crate::config::User;
use crate::rig::{config, listener, outputs, phone, register, upstream};
use crate::{Input, Observed};

fn bound(proxy: &Proxy) -> Vec<(String, Option<usize>)> {
    let user = |aor: &[u8]| String::from_utf8_lossy(aor).split('@').next().unwrap_or_default().to_owned();
    let mut bound: Vec<_> = proxy.registry.bindings().map(|b| (user(b.aor()), b.phone)).collect();
    bound.sort();
    bound
}

fn standalone() -> (Proxy, Config, Instant) {
    let now = Instant::now();
    let listeners = vec![listener(Side::Inner, "192.168.1.2:5060"), listener(Side::Inner, "192.168.1.2:5062")];
    let config = config(Role::Standalone, listeners);
    let mut proxy = Proxy::new(now, Arc::new(config.clone()), [7; 32], [9; 32]);
    register(&mut proxy, now, 0, "alice", "192.168.1.20:5060");
    register(&mut proxy, now, 0, "dora", "192.168.1.21:5060");
    register(&mut proxy, now, 1, "carol", "192.168.1.22:5060");
    outputs(&mut proxy, now);
    (proxy, config, now)
}

#[test]
fn bindings_follow_the_phones_name_and_end_with_their_listener() {
    let (mut proxy, mut config, now) = standalone();
    let none = |user: &str| (user.to_owned(), None);
    let at = |user: &str, phone| (user.to_owned(), Some(phone));
    assert_eq!(bound(&proxy), [at("alice", 1), at("carol", 0), none("dora")]);

    config.phones = vec![phone("door", "dora"), phone("reception", "somebody else")];
    config.listeners[1].retired = true;
    proxy.handle_input(now, Input::Reconfigure(Arc::new(config)));
    // Alice stays the reception until she registers anew.
    assert_eq!(bound(&proxy), [at("alice", 1), at("dora", 0)]);
    let said = outputs(&mut proxy, now);
    let ended =
        |o: &&Output| matches!(o, Output::Observed(Observed::Unregistered { aor, .. }) if aor.starts_with("carol"));
    assert_eq!(said.iter().filter(ended).count(), 1, "{said:?}");
    assert!(proxy.own_listener(Transport::Udp, "192.168.1.2:5062".parse().unwrap()).is_none());
}

#[test]
fn an_account_that_is_gone_loses_its_registrations() {
    let (mut proxy, mut config, now) = standalone();
    let users = ["alice", "carol"].map(|name| User { name: name.to_owned(), password: "p".to_owned() });
    config.users = users.to_vec();
    proxy.handle_input(now, Input::Reconfigure(Arc::new(config)));
    assert_eq!(bound(&proxy).iter().map(|(user, _)| user.as_str()).collect::<Vec<_>>(), ["alice", "carol"]);
}

/// Where OPTIONS go within so many seconds.
fn asked(proxy: &mut Proxy, until: Instant) -> Vec<(u16, String)> {
    let outputs = outputs(proxy, until);
    let mut asked: Vec<_> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Transmit(t) if t.bytes.starts_with(b"OPTIONS") => {
                // Not the retransmissions.
                let text = String::from_utf8_lossy(&t.bytes).into_owned();
                let call = text.lines().find(|line| line.starts_with("Call-ID"))?.to_owned();
                Some((t.flow.listener.0, t.flow.remote.ip().to_string(), call))
            }
            _ => None,
        })
        .collect();
    asked.sort();
    asked.dedup();
    asked.into_iter().map(|(listener, ip, _)| (listener, ip)).collect()
}

#[test]
fn each_listener_pings_the_present_upstreams_once_a_time() {
    let now = Instant::now();
    let listeners = vec![
        listener(Side::Inner, "10.0.0.2:5060"),
        listener(Side::Outer, "203.0.113.30:5060"),
        listener(Side::Inner, "10.0.0.2:5062"),
    ];
    let mut config = config(Role::Border, listeners);
    let mut proxy = Proxy::new(now, Arc::new(config.clone()), [7; 32], [9; 32]);
    let minute = Duration::from_secs(60);
    let before = asked(&mut proxy, now + minute);
    let rounds = before.iter().filter(|(listener, _)| *listener == 0).count();
    assert!(rounds > 1 && before.len() == 2 * rounds, "{before:?}");

    config.upstreams = vec![upstream("10.0.0.6"), upstream("10.0.0.5")];
    config.listeners[2].retired = true;
    config.listeners.push(listener(Side::Inner, "10.0.0.2:5064"));
    for _ in 0..3 {
        proxy.handle_input(now + minute, Input::Reconfigure(Arc::new(config.clone())));
    }
    let after = asked(&mut proxy, now + 2 * minute);
    assert!(after.iter().all(|(listener, _)| matches!(listener, 0 | 3)), "{after:?}");
    for ip in ["10.0.0.5", "10.0.0.6"] {
        let asked = after.iter().filter(|(listener, to)| *listener == 0 && to == ip).count();
        assert!((rounds - 1..=rounds + 1).contains(&asked), "{ip} {asked} {rounds}");
    }
}
