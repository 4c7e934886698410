//! `[[phone]]` and `[[user]]`: who is known, and the sockets and ports that
//! are theirs alone.

use std::collections::BTreeMap;

use media::{PortRange, RangeId};
use nat::{Advertise, Side};
use proxy::config::{DigestAlgorithm, Listener, Media, Password, Phone, Role, User};

use super::super::raw;
use super::super::written::{self, HostPort};
use super::Resolver;

impl Resolver<'_> {
    /// The phones, and the ranges and listeners that they bring.
    pub(super) fn phones(
        &mut self,
        mut media: Media,
        mut range_keys: Vec<String>,
        listeners: &mut Vec<Listener>,
        keys: &mut Vec<String>,
        stun: &[Vec<HostPort>; 2],
    ) -> (Vec<Phone>, Media, Vec<String>) {
        let mut phones = Vec::new();
        let mut names = BTreeMap::new();
        for (index, raw) in self.raw.phone.iter().enumerate() {
            let path = format!("phone[{index}]");
            let name = raw.name.clone().unwrap_or_default();
            if name.is_empty() {
                self.missing(&path, "name", "write name = \"…\", any word that you know the phone by");
            } else if names.insert(name.clone(), index).is_some() {
                let mend = "give each [[phone]] a name of its own";
                self.fault(format!("{path}.name"), format!("another phone is called \"{name}\""), mend);
            }
            if raw.user.is_none() && raw.domain.is_none() && raw.address.is_none() && raw.instance.is_none() {
                self.missing(&path, "user", "write user = \"…\" (or domain, address, instance): which phone is this?");
            }
            let password = self.phone_password(&path, raw);
            let address = raw.address.as_ref().and_then(|text| self.prefix(&format!("{path}.address"), text));
            let max_calls = raw
                .max_calls
                .map(|calls| self.number(&format!("{path}.max_calls"), Some(calls), 1, 1, 10_000) as usize);
            let advertise = raw
                .advertise
                .as_ref()
                .and_then(|text| self.take(&format!("{path}.advertise"), written::advertise(text)));
            if matches!(advertise, Some(Advertise::Stun | Advertise::StunAddress)) && stun[1].is_empty() {
                self.fault(format!("{path}.advertise"), "[outer] has no stun_servers", "write stun_servers in [outer]");
            }
            let outer_listener = self.outer_listener(&path, index, raw, advertise, listeners, keys);
            let range = self.phone_range(&path, raw, &mut media, &mut range_keys);
            phones.push(Phone {
                name,
                user: raw.user.clone(),
                domain: raw.domain.clone(),
                address,
                instance: raw.instance.clone(),
                password,
                realm: raw.realm.clone(),
                outer_listener,
                advertise,
                range,
                max_calls,
            });
        }
        (phones, media, range_keys)
    }

    fn phone_password(&mut self, path: &str, raw: &raw::Phone) -> Option<Password> {
        let Some(secret) = &raw.password else {
            if raw.realm.is_some() {
                self.fault(format!("{path}.realm"), "this goes with a password", "write password too, or remove it");
            }
            return None;
        };
        let key = format!("{path}.password");
        if self.role != Role::Office {
            let what = format!("phones are registered again by us only in office, not in {}", self.role.as_str());
            self.fault(key, what, "remove it; the phone answers challenges by itself");
            return None;
        }
        if secret.0.is_empty() {
            self.fault(key, "this is empty", "write the phone's password at the provider, or remove it");
            return None;
        }
        Some(Password(secret.0.clone()))
    }

    fn outer_listener(
        &mut self,
        path: &str,
        phone: usize,
        raw: &raw::Phone,
        advertise: Option<Advertise>,
        listeners: &mut Vec<Listener>,
        keys: &mut Vec<String>,
    ) -> Option<u16> {
        let port_key = format!("{path}.advertise_port");
        let port = raw.advertise_port.map(|port| self.number(&port_key, Some(port), 5060, 1, 65_535));
        let Some(text) = &raw.outer_listen else {
            if port.is_some() {
                let mend = "write outer_listen = \"udp:ADDRESS:PORT\" too, or remove it";
                self.fault(port_key, "this is the public port of outer_listen, which is not written", mend);
            }
            return None;
        };
        let key = format!("{path}.outer_listen");
        if self.role != Role::Office {
            let what =
                format!("a phone has a signalling socket of its own only in office, not in {}", self.role.as_str());
            self.fault(key, what, "remove it");
            return None;
        }
        let (transport, bind) = self.take(&key, written::listen(text))?;
        let side = listeners.iter().find(|listener| listener.side == Side::Outer);
        let advertise = advertise.or(side.map(|listener| listener.advertise)).unwrap_or(Advertise::Stun);
        if port.is_some() && !matches!(advertise, Advertise::Ip(_)) {
            let mend = "write advertise = \"IP ADDRESS\" in this [[phone]], or remove it";
            self.fault(port_key, "this goes with an advertised IP address only", mend);
        }
        let id = u16::try_from(listeners.len()).ok()?;
        let advertise_port = port.and_then(|port| u16::try_from(port).ok());
        let (accepts, secure) = (true, side.is_some_and(|listener| listener.secure));
        listeners.push(Listener {
            side: Side::Outer,
            transport,
            accepts,
            secure,
            bind,
            advertise,
            advertise_port,
            phone: Some(phone),
            retired: false,
        });
        keys.push(key);
        Some(id)
    }

    fn phone_range(
        &mut self,
        path: &str,
        raw: &raw::Phone,
        media: &mut Media,
        keys: &mut Vec<String>,
    ) -> Option<RangeId> {
        let key = format!("{path}.media_ports");
        let range = self.take(&key, written::ports(raw.media_ports.as_ref()?, 1))?;
        let usable =
            |range: PortRange| (range.first, if range.last.is_multiple_of(2) { range.last - 1 } else { range.last });
        let overlaps = |other: &PortRange| {
            let ((first, last), (other_first, other_last)) = (usable(range), usable(*other));
            first <= other_last && other_first <= last
        };
        if let Some(at) = media.ranges.iter().position(overlaps) {
            let (other, other_key) = (media.ranges[at], keys[at].clone());
            let what = format!("overlaps {other_key} = \"{}-{}\"", other.first, other.last);
            self.fault(key, what, "give each phone a range of its own, outside [media] ports");
            return None;
        }
        let id = RangeId(u16::try_from(media.ranges.len()).ok()?);
        media.ranges.push(range);
        keys.push(key);
        Some(id)
    }

    pub(super) fn users(&mut self) -> Vec<User> {
        if self.role != Role::Standalone && !self.raw.user.is_empty() {
            let whose = if self.role == Role::Office { "provider" } else { "core" };
            let what = format!("accounts belong to standalone; here the {whose} is the registrar");
            self.fault("user[0]", what, "remove the [[user]] sections, or write role = \"standalone\"");
            return Vec::new();
        }
        if self.role == Role::Standalone && self.raw.outer.is_some() && self.raw.user.is_empty() {
            let mend = "write a [[user]] with name and password for each phone, or remove [outer]";
            self.fault("outer", "without accounts, anybody could register and call", mend);
        }
        let mut users: Vec<User> = Vec::new();
        for (index, raw) in self.raw.user.iter().enumerate() {
            let path = format!("user[{index}]");
            let name = raw.name.clone().unwrap_or_default();
            if name.is_empty() {
                self.missing(&path, "name", "write name = \"…\"");
            } else if users.iter().any(|other| other.name == name) {
                let what = format!("another account is called \"{name}\"");
                self.fault(format!("{path}.name"), what, "keep one of the two");
            }
            let password = raw.password.as_ref().map(|secret| secret.0.clone());
            let mend = "write password = \"…\"; long and random, because strangers will guess at it";
            match &password {
                None => self.missing(&path, "password", mend),
                Some(password) if password.is_empty() => self.fault(format!("{path}.password"), "this is empty", mend),
                Some(_) => {}
            }
            let password = password.unwrap_or_default();
            users.push(User { name, password });
        }
        users
    }

    /// What accounts are challenged with.
    pub(super) fn digest(&mut self) -> Vec<DigestAlgorithm> {
        let Some(words) = self.raw.digest.clone() else { return DigestAlgorithm::PREFERRED.to_vec() };
        if self.role != Role::Standalone {
            let whose = if self.role == Role::Office { "provider" } else { "core" };
            self.fault("digest", format!("here the {whose} is the registrar, and challenges as it likes"), "remove it");
        }
        self.take("digest", written::digest(&words)).unwrap_or_default()
    }
}
