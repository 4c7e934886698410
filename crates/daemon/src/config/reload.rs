//! Another configuration for a daemon that runs: what changed, what cannot
//! change without a restart, and how its listeners keep their ids.
//!
//! A `ListenerId` is an index, and flows, bindings and calls hold it. So a
//! listener that is still configured (same side, transport and address) keeps
//! its place, one that is gone leaves a retired place behind, and a new one is
//! put behind all of them. Opens nothing and asks nobody.

mod changes;

use std::sync::Arc;

use proxy::config::Listener;
use wire::ListenerId;

use super::{HostPort, Settings};

/// A configuration that may take the place of the present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// As the daemon must take it: every listener in its place.
    pub(crate) settings: Settings,
    /// Listeners whose sockets are to be opened.
    pub(crate) added: Vec<ListenerId>,
    /// Listeners whose sockets are to be closed.
    pub(crate) removed: Vec<ListenerId>,
    /// What changes, one line each; empty when nothing does.
    pub(crate) changes: Vec<String>,
    /// Names that were not configured before: they must resolve.
    pub(crate) names: Vec<HostPort>,
}

/// Compares; or says everything that needs a restart, as text for people.
pub(crate) fn plan(now: &Settings, next: &Settings) -> Result<Plan, String> {
    let refusals = refusals(now, next);
    if !refusals.is_empty() {
        return Err(refusals.join("\n"));
    }
    let mut proxy = (*next.proxy).clone();
    let (listeners, places) = aligned(&now.proxy.listeners, &next.proxy.listeners);
    for phone in &mut proxy.phones {
        phone.outer_listener = phone.outer_listener.and_then(|at| places.get(usize::from(at)).copied());
    }
    let present = |index: usize| now.proxy.listeners.get(index).is_some_and(|listener| !listener.retired);
    let ids = |wanted: fn(bool, bool) -> bool| {
        let found = listeners.iter().enumerate().filter(|(index, to)| wanted(present(*index), !to.retired));
        found.filter_map(|(index, _)| u16::try_from(index).ok()).map(ListenerId).collect()
    };
    let (added, removed) = (ids(|was, is| !was && is), ids(|was, is| was && !is));
    proxy.listeners = listeners;
    let settings = Settings { proxy: Arc::new(proxy), ..next.clone() };
    let changes = changes::between(now, &settings);
    let before = names(now);
    let names = names(&settings).into_iter().filter(|name| !before.contains(name)).collect();
    Ok(Plan { settings, added, removed, changes, names })
}

/// Every listener of `next` in a place that stays valid, and the place of each.
fn aligned(now: &[Listener], next: &[Listener]) -> (Vec<Listener>, Vec<u16>) {
    let mut listeners: Vec<Listener> =
        now.iter().map(|listener| Listener { retired: true, phone: None, ..listener.clone() }).collect();
    let mut places = Vec::new();
    for listener in next {
        let same = |index: &usize| {
            now.get(*index).is_some_and(|was| !was.retired && is_same(was, listener)) && listeners[*index].retired
        };
        let place = (0..now.len()).find(same);
        match place {
            Some(place) => listeners[place] = listener.clone(),
            None => listeners.push(listener.clone()),
        }
        places.push(u16::try_from(place.unwrap_or(listeners.len() - 1)).unwrap_or(u16::MAX));
    }
    (listeners, places)
}

fn is_same(was: &Listener, is: &Listener) -> bool {
    (was.side, was.transport, was.bind, was.accepts) == (is.side, is.transport, is.bind, is.accepts)
}

/// What cannot change while the process lives, each with the mend.
fn refusals(now: &Settings, next: &Settings) -> Vec<String> {
    let mut refusals = Vec::new();
    let mut refuse = |key: &str, from: String, to: String| {
        if from != to {
            refusals.push(format!(
                "refused: {key} cannot change from {from} to {to} while siplatch runs\n  mend: restart siplatch \
                 (its calls end), or write what was there before\n"
            ));
        }
    };
    let dirs = |settings: &Settings| {
        settings.state_dirs.iter().map(|dir| format!("\"{}\"", dir.display())).collect::<Vec<_>>().join(" or ")
    };
    let (was, is) = (&now.proxy, &next.proxy);
    refuse("role", was.role.as_str().to_owned(), is.role.as_str().to_owned());
    refuse("state.dir", dirs(now), dirs(next));
    refuse("metrics.listen", now.metrics.to_string(), next.metrics.to_string());
    refuse("the number of media workers", was.media.workers.to_string(), is.media.workers.to_string());
    let (mark, next_mark) = (now.marks, next.marks);
    refuse("dscp.signalling", mark.signalling.to_string(), next_mark.signalling.to_string());
    refuse("dscp.audio", mark.audio.to_string(), next_mark.audio.to_string());
    refuse("dscp.video", mark.video.to_string(), next_mark.video.to_string());
    refuse("media.datapath", changes::datapath(now.datapath), changes::datapath(next.datapath));
    refuse("media.priority", changes::priority(now.priority), changes::priority(next.priority));
    refuse("media.keepalive", changes::keepalive(was.media.keepalive), changes::keepalive(is.media.keepalive));
    let open = |listener: &&Listener| !listener.retired;
    for listener in &is.listeners {
        let other = |l: &&Listener| l.transport == listener.transport && l.bind == listener.bind && l.accepts;
        let known = was.listeners.iter().filter(open).any(|l| is_same(l, listener));
        if let Some(held) = was.listeners.iter().filter(open).find(other).filter(|_| !known && listener.accepts) {
            let key = format!("the side of {} {}", changes::transport(listener), listener.bind);
            refuse(&key, held.side.as_str().to_owned(), listener.side.as_str().to_owned());
        }
    }
    if was.listeners.len() + is.listeners.len() > usize::from(u16::MAX) {
        refuse("listen", "so many addresses".to_owned(), "still others".to_owned());
    }
    refusals
}

/// The names that are hosts; what stands behind an upstream without a port only SRV may know (RFC 3263 §4.2).
fn names(settings: &Settings) -> Vec<HostPort> {
    let host = |u: &proxy::config::Upstream| Some(HostPort { host: u.host.clone(), port: u.port? });
    let upstreams = settings.proxy.upstreams.iter().filter_map(host);
    upstreams.chain(settings.stun.iter().flatten().cloned()).collect()
}

#[cfg(test)]
mod tests;
