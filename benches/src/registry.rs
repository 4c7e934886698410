//! One binding made and one expired, among ten thousand.

use std::time::{Duration, Instant};

use registry::{Binding, BindingId, Confirmed, FlowId, Key, Registry, Said};
use wire::{Flow, ListenerId, Transport};

use crate::{Bench, measured};

pub(crate) const BENCHES: &[Bench] = &[Bench { name: "registry_expire", make: expire }];

const BINDINGS: u64 = 10_000;

/// A phone's binding as a 2xx to its REGISTER makes it; each runs out a second after the one before.
fn binding(number: u64, start: Instant) -> Binding {
    let remote = ([198, 51, 100, (number % 251) as u8], 1024 + (number % 60_000) as u16);
    Binding {
        // Spread like the keyed digests that name bindings.
        id: BindingId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        texts: Said {
            aor: format!("{}@example.com", number.wrapping_mul(7919) % 1_000_000).as_bytes(),
            contact: format!("sip:{number}@192.168.1.10:5060;ob").as_bytes(),
            call_id: format!("{number}@192.168.1.10").as_bytes(),
            user_agent: b"Deskphone/4.2.1",
            lines: b"",
        }
        .into(),
        instance: Some(format!("\"<urn:uuid:00000000-0000-1000-8000-{number:012}>\"").into_bytes().into()),
        reg_id: None,
        cseq: 1,
        flow: Flow {
            transport: Transport::Udp,
            listener: ListenerId(1),
            connection: 0,
            local: ([203, 0, 113, 30], 5060).into(),
            remote: remote.into(),
        }
        .into(),
        flow_id: FlowId(number),
        upstream: None,
        natted: true,
        phone: None,
        q: 1000,
        expires: start + Duration::from_secs(number),
        until: start + Duration::from_secs(number),
        confirmed: Confirmed::default(),
        answered: false,
        missed: 0,
    }
}

/// The next phone binds, the oldest binding runs out, both changes are handed on.
fn expire() -> Box<dyn FnMut()> {
    let start = Instant::now();
    let mut registry = Registry::new();
    for number in 0..BINDINGS {
        registry.bind(binding(number, start));
    }
    while registry.poll_change().is_some() {}
    let mut number = BINDINGS;
    Box::new(move || {
        let (next, now) = (binding(number, start), start + Duration::from_secs(number - BINDINGS));
        measured(|| {
            registry.bind(next);
            while let Some(Key::Binding(id)) = registry.due(now) {
                registry.unbind(id);
            }
            while registry.poll_change().is_some() {}
        });
        assert_eq!(registry.bindings().count() as u64, BINDINGS, "one in, one out");
        number += 1;
    })
}
