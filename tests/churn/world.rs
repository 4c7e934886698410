//! A border, phones, and the core behind it.

use std::net::SocketAddr;
use std::sync::Arc;

use peer::{Daemon, Dialog, Line, Loopback};

/// The domain of all addresses of record.
const DOMAIN: &str = "example.net";
/// Seconds without media after which a call ends: the least there is.
pub(super) const TIMEOUT_S: u64 = 5;
const PHONES: u8 = 4;

#[derive(Debug)]
pub(super) struct World {
    pub(super) daemon: Daemon,
    phones: Vec<Arc<Line>>,
    core: Arc<Line>,
    /// Where siplatch is for phones, and for the core.
    at: [SocketAddr; 2],
}

impl World {
    pub(super) fn new() -> Self {
        let net = Loopback::new();
        let at = [net.at(1, 5060), net.at(2, 5060)];
        let core = Arc::new(Line::udp("core", net.at(10, 5060)));
        let config = format!(
            "role = \"border\"\n[outer]\nlisten = [\"udp:{}\"]\nadvertise = \"listen\"\n[inner]\nlisten = \
             [\"udp:{}\"]\nadvertise = \"listen\"\n[[upstream]]\nuri = \"sip:{}\"\n[media]\ntimeout_s = \
             {TIMEOUT_S}\nports = \"10000-59999\"\n",
            at[0], at[1], core.address
        );
        let daemon = Daemon::start(net, &config, "warn");
        let phones = (0..PHONES).map(|number| {
            let line = Line::udp(&format!("phone{number}"), net.at(20 + number, 5060));
            line.register(at[0], DOMAIN);
            Arc::new(line)
        });
        Self { phones: phones.collect(), daemon, core, at }
    }

    /// Two ends of a call: from a phone, or toward one where the number is odd.
    pub(super) fn ends(&self, number: usize) -> [Dialog; 2] {
        if number.is_multiple_of(2) { self.outgoing(number) } else { self.incoming(number) }
    }

    pub(super) fn outgoing(&self, number: usize) -> [Dialog; 2] {
        let phone = &self.phones[number / 2 % self.phones.len()];
        let caller = Dialog::caller(phone, self.at[0], &format!("sip:bob@{DOMAIN}"));
        let callee = Dialog::callee(&self.core, self.at[1], &caller.call_id, "there");
        [caller, callee]
    }

    pub(super) fn incoming(&self, number: usize) -> [Dialog; 2] {
        let phone = &self.phones[number / 2 % self.phones.len()];
        let uri = self.core.registered(&phone.name).unwrap();
        let caller = Dialog::caller(&self.core, self.at[1], &uri);
        let callee = Dialog::callee(phone, self.at[0], &caller.call_id, "there");
        [caller, callee]
    }
}
