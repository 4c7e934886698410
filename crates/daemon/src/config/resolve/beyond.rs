//! `[[upstream]]` and `[[network]]`: who is out there.

use nat::{Advertise, MediaMode, Network, Prefix, Side};
use proxy::config::{Fallback, Role, Upstream};
use wire::Transport;

use super::super::written;
use super::Resolver;

impl Resolver<'_> {
    /// The next hops, and the key of each.
    pub(super) fn upstreams(&mut self) -> (Vec<Upstream>, Vec<String>) {
        if self.role == Role::Standalone && !self.raw.upstream.is_empty() {
            let mend = "remove it, or write role = \"office\" or role = \"border\"";
            self.fault("upstream[0]", "standalone has no upstream", mend);
            return (Vec::new(), Vec::new());
        }
        if self.role != Role::Standalone && self.raw.upstream.is_empty() {
            let whom = if self.role == Role::Office { "the provider" } else { "the core" };
            self.missing("", "upstream", format!("write [[upstream]] with uri = \"sip:…\", where {whom} is"));
        }
        let (mut upstreams, mut keys): (Vec<Upstream>, Vec<String>) = (Vec::new(), Vec::new());
        for (index, raw) in self.raw.upstream.iter().enumerate() {
            let path = format!("upstream[{index}]");
            let default_phone = raw.default_phone.as_ref().and_then(|name| self.default_phone(&path, name));
            let domain = raw.domain.as_ref().map(|domain| domain.to_ascii_lowercase());
            let Some(uri) = &raw.uri else {
                self.missing(&path, "uri", "write uri = \"sip:HOST\"");
                continue;
            };
            if let Some((host, port, transport, sips)) = self.take(&format!("{path}.uri"), written::upstream(uri)) {
                let comedia = raw.comedia.unwrap_or(false);
                let fallback = self.fallback(&path, raw.fallback.as_deref(), transport.is_some() || sips);
                let upstream = Upstream { host, port, transport, sips, domain, comedia, default_phone, fallback };
                let same = |other: &Upstream| other.uri() == upstream.uri() && other.domain == upstream.domain;
                if upstreams.iter().any(same) {
                    self.fault(format!("{path}.uri"), "this upstream is written twice", "keep one of the two");
                }
                upstreams.push(upstream);
                keys.push(format!("{path}.uri"));
            }
        }
        (upstreams, keys)
    }

    /// Other ways to an upstream; `said`: its URI says how it is reached.
    fn fallback(&mut self, path: &str, written: Option<&[String]>, said: bool) -> Vec<Fallback> {
        let Some(written) = written else {
            let usual = [Transport::Udp, Transport::Tcp, Transport::Tls];
            let any = self.role == Role::Office && !said;
            return usual.into_iter().filter(|_| any).map(|transport| Fallback { transport, port: None }).collect();
        };
        if said && !written.is_empty() {
            let mend = "remove it, or write uri = \"sip:HOST\" without a transport";
            self.fault(format!("{path}.fallback"), "uri says how this upstream is reached", mend);
            return Vec::new();
        }
        let mut ways = Vec::new();
        for (index, text) in written.iter().enumerate() {
            let key = format!("{path}.fallback[{index}]");
            let Some(way) = self.take(&key, written::fallback(text)) else { continue };
            if ways.contains(&way) {
                self.fault(key, "this way is written twice", "keep one of the two");
            } else {
                ways.push(way);
            }
        }
        ways
    }

    /// The `[[phone]]` of a trunk without registration.
    fn default_phone(&mut self, path: &str, name: &str) -> Option<usize> {
        let found = self.raw.phone.iter().position(|phone| phone.name.as_deref() == Some(name));
        if found.is_none() {
            let mend = format!("write a [[phone]] with name = \"{name}\" and the address that it sends from");
            self.fault(format!("{path}.default_phone"), format!("there is no [[phone]] called \"{name}\""), mend);
        }
        found
    }

    /// Networks with rules of their own, and the prefixes that may speak to us or may not.
    pub(super) fn networks(&mut self) -> (Vec<Network>, Vec<(Prefix, bool)>) {
        let mut networks: Vec<Network> = Vec::new();
        let mut access: Vec<(Prefix, bool)> = Vec::new();
        for (index, raw) in self.raw.network.iter().enumerate() {
            let path = format!("network[{index}]");
            let modes =
                [("relay", MediaMode::Relay), ("ice", MediaMode::Ice), ("signalling-only", MediaMode::SignallingOnly)];
            let media = raw
                .media
                .as_ref()
                .and_then(|text| self.take(&format!("{path}.media"), written::word(text, "media", &modes)));
            let side = raw.side.as_ref().and_then(|side| self.take(&format!("{path}.side"), written::side(side)));
            let advertise = raw
                .advertise
                .as_ref()
                .and_then(|text| self.take(&format!("{path}.advertise"), written::advertise(text)));
            if matches!(advertise, Some(Advertise::Stun | Advertise::StunAddress)) {
                self.later(format!("{path}.advertise"), "write \"listen\" or an IP address");
            }
            if side == Some(Side::Outer) && self.role == Role::Standalone && self.raw.outer.is_none() {
                self.fault(format!("{path}.side"), "there is no [outer]", "write [outer], or side = \"inner\"");
            }
            let words = [("allow", true), ("deny", false)];
            let may_speak = raw
                .access
                .as_ref()
                .and_then(|text| self.take(&format!("{path}.access"), written::word(text, "access", &words)));
            let others = raw.side.is_some() || raw.advertise.is_some() || raw.media.is_some();
            if may_speak == Some(false) && (others || raw.latch.is_some() || raw.trusted.is_some()) {
                let what = "nothing else can be said of whom we do not listen to";
                self.fault(format!("{path}.access"), what, "remove the other keys, or this one");
            }
            let Some(prefix) = &raw.prefix else {
                self.missing(&path, "prefix", "write prefix = \"10.20.0.0/16\"");
                continue;
            };
            if let Some(prefix) = self.prefix(&format!("{path}.prefix"), prefix) {
                if networks.iter().any(|other| other.prefix == prefix)
                    || access.iter().any(|(other, _)| *other == prefix)
                {
                    self.fault(format!("{path}.prefix"), "this prefix is written twice", "keep one of the two");
                }
                access.extend(may_speak.map(|may| (prefix, may)));
                if may_speak == Some(false) {
                    continue;
                }
                let (latch, trusted) = (raw.latch.unwrap_or(false), raw.trusted.unwrap_or(false));
                let media = media.unwrap_or_default();
                networks.push(Network { prefix, side, advertise, latch, media, trusted });
            }
        }
        (networks, access)
    }

    /// The allow list of a side.
    pub(super) fn allowed(&mut self, side: Side) -> Vec<Prefix> {
        let raw = match side {
            Side::Inner => self.raw.inner.as_ref(),
            Side::Outer => self.raw.outer.as_ref(),
        };
        let written = raw.and_then(|raw| raw.allow.as_deref()).unwrap_or_default();
        let prefix = |(index, text): (usize, &String)| self.prefix(&format!("{}.allow[{index}]", side.as_str()), text);
        written.iter().enumerate().filter_map(prefix).collect()
    }
}
