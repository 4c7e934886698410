//! Registered phones that stand in each other's way. Looked for when somebody
//! asks, not when phones register: a storm of them must not cost its square.

use std::collections::BTreeMap;

use registry::Binding;
use wire::Transport;

use super::View;

/// Two registrations that cannot both be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Collision {
    /// Two accounts with one `+sip.instance`, at different addresses: the settings of one phone were copied.
    Instance(Vec<String>),
    /// One account twice from one address and port: two phones behind a NAT that mixes them up, or one that
    /// has begun anew.
    Source(Vec<String>),
}

impl std::fmt::Display for Collision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instance(phones) => {
                let phones = phones.join(", ");
                write!(f, "one +sip.instance at several addresses: {phones}; the settings of one phone were copied")
            }
            Self::Source(phones) => {
                let phones = phones.join(", ");
                write!(f, "one account twice from one address and port: {phones}; calls may reach the wrong phone")
            }
        }
    }
}

impl View {
    /// All of them, now.
    pub(crate) fn collisions(&self) -> Vec<Collision> {
        let bindings: Vec<_> = self.bindings.iter().map(|row| row.value().clone()).filter(|b| !b.gone()).collect();
        of(bindings.iter().map(AsRef::as_ref))
    }
}

fn of<'a>(bindings: impl Iterator<Item = &'a Binding>) -> Vec<Collision> {
    let mut instances: BTreeMap<&[u8], Vec<&Binding>> = BTreeMap::new();
    let mut sources: BTreeMap<(&[u8], std::net::SocketAddr), Vec<&Binding>> = BTreeMap::new();
    for binding in bindings {
        if let Some(instance) = &binding.instance {
            instances.entry(instance).or_default().push(binding);
        }
        if binding.flow.get().transport == Transport::Udp {
            sources.entry((binding.aor(), binding.flow.get().remote)).or_default().push(binding);
        }
    }
    let names = |group: &[&Binding], from: bool| {
        let name = |binding: &&Binding| {
            let aor: String = String::from_utf8_lossy(binding.aor()).chars().filter(|c| !c.is_control()).collect();
            if from {
                format!("{aor} from {}", binding.flow.get().remote.ip())
            } else {
                format!("{aor} from {}", binding.flow.get().remote)
            }
        };
        let mut names: Vec<String> = group.iter().map(name).collect();
        names.sort();
        names.dedup();
        names
    };
    let mut found = Vec::new();
    for group in instances.values() {
        let differ =
            |a: &Binding, b: &Binding| a.aor() != b.aor() && a.flow.get().remote.ip() != b.flow.get().remote.ip();
        if group.iter().any(|a| differ(a, group[0])) {
            found.push(Collision::Instance(names(group, true)));
        }
    }
    for group in sources.values() {
        // Several flows of one phone are no two phones (RFC 5626).
        let other = |b: &&&Binding| b.instance.is_none() || b.instance != group[0].instance;
        if group.iter().skip(1).any(|b| other(&b)) {
            found.push(Collision::Source(names(group, false)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use registry::{BindingId, Confirmed, FlowId, Said};
    use wire::{Flow, ListenerId};

    use super::*;

    fn binding(id: u64, aor: &str, instance: Option<&str>, from: &str) -> Binding {
        let now = net::clock::now();
        let local = "192.168.1.2:5060".parse().unwrap();
        let remote = from.parse().unwrap();
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), connection: 0, local, remote };
        Binding {
            id: BindingId(id),
            texts: Said {
                aor: aor.as_bytes(),
                contact: format!("sip:{id}@{from}").as_bytes(),
                call_id: b"c",
                ..Said::default()
            }
            .into(),
            instance: instance.map(|instance| instance.as_bytes().into()),
            reg_id: None,
            cseq: 1,
            flow: flow.into(),
            flow_id: FlowId(id),
            upstream: None,
            natted: true,
            phone: None,
            q: 1000,
            expires: now + Duration::from_secs(60),
            until: now + Duration::from_secs(60),
            confirmed: Confirmed::default(),
            answered: false,
            missed: 0,
        }
    }

    #[test]
    fn phones_in_each_others_way_are_named() {
        let fine = [
            binding(1, "a", Some("urn:1"), "192.168.1.11:5060"),
            // Another line of the same phone, and another flow.
            binding(2, "b", Some("urn:1"), "192.168.1.11:5060"),
            binding(3, "a", Some("urn:1"), "192.168.1.11:5060"),
            binding(4, "c", None, "192.168.1.12:5060"),
        ];
        assert_eq!(of(fine.iter()), []);
        let copied = binding(5, "d", Some("urn:1"), "192.168.1.13:5060");
        let mixed = binding(6, "c", None, "192.168.1.12:5060");
        let found: Vec<String> = of(fine.iter().chain([&copied, &mixed])).iter().map(ToString::to_string).collect();
        let instance = "one +sip.instance at several addresses: a from 192.168.1.11, b from 192.168.1.11, d from \
                        192.168.1.13; the settings of one phone were copied";
        let source =
            "one account twice from one address and port: c from 192.168.1.12:5060; calls may reach the wrong phone";
        assert_eq!(found, [instance, source]);
    }
}
