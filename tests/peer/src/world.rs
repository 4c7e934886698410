//! One daemon in one role, and two agents that can call each other.

use std::net::SocketAddr;

use crate::{Agent, Answers, Call, Daemon, Identity, Loopback, accept, accept_registrations};

/// The domain of all addresses of record.
const DOMAIN: &str = "example.net";

/// A phone, and whom it calls: another phone (standalone), the core (border), the provider (office).
#[derive(Debug)]
pub struct World {
    /// Whose addresses these are.
    pub net: Loopback,
    /// The program.
    pub daemon: Daemon,
    /// Its socket for phones.
    pub sip: SocketAddr,
    /// Its socket for phones over TLS, where there is one.
    pub secure: SocketAddr,
    /// Its socket toward the upstream; in standalone the same.
    pub upstream: SocketAddr,
    /// The phone, registered.
    pub alice: Agent,
    /// The other end, registered if it is a phone.
    pub bob: Agent,
    /// The domain that phones register in.
    pub domain: String,
}

impl World {
    /// Standalone; users `alice`, `bob`, `carol` and `dave` with the password `secret` if `users`.
    pub fn standalone(users: bool, log: &str) -> Self {
        Self::standalone_with(accept(), users, log)
    }

    /// Standalone, with a callee of one's own.
    pub fn standalone_with(callee: Answers, users: bool, log: &str) -> Self {
        Self::alone(callee, users, None, log)
    }

    /// Standalone with users, and TLS with this certificate at [`World::secure`].
    pub fn standalone_secure(identity: &Identity, log: &str) -> Self {
        Self::alone(accept(), true, Some(identity), log)
    }

    fn alone(callee: Answers, users: bool, identity: Option<&Identity>, log: &str) -> Self {
        let net = Loopback::new();
        let (sip, secure) = (net.at(1, 5060), net.at(1, 5061));
        let mut config = match identity {
            Some(_) => format!(
                "[inner]\nlisten = [\"udp:{sip}\", \"tls:{secure}\"]\n[tls]\ncertificate = \"DIR/tls.crt\"\nkey = \
                 \"DIR/tls.key\"\n"
            ),
            None => format!("[inner]\nlisten = [\"udp:{sip}\"]\n"),
        };
        if users {
            for name in ["alice", "bob", "carol", "dave"] {
                config += &format!("[[user]]\nname = \"{name}\"\npassword = \"secret\"\n");
            }
        }
        let daemon = Daemon::start_with(net, &config, log, |dir| {
            if let Some(identity) = identity {
                identity.write(dir);
            }
        });
        let alice = Agent::new("alice", net.at(20, 5060), accept());
        let bob = Agent::new("bob", net.at(30, 5060), callee);
        let domain = sip.to_string();
        assert_eq!(alice.register(sip, &domain, "secret"), 200);
        assert_eq!(bob.register(sip, &domain, "secret"), 200);
        Self { net, daemon, sip, secure, upstream: sip, alice, bob, domain }
    }

    /// Border: phones outside, the core inside.
    pub fn border(log: &str) -> Self {
        Self::border_with(accept_registrations(), log)
    }

    /// Border, with a core of one's own.
    pub fn border_with(core: Answers, log: &str) -> Self {
        Self::between("border", "outer", "inner", core, log)
    }

    /// Office: phones inside, the provider outside.
    pub fn office(log: &str) -> Self {
        Self::between("office", "inner", "outer", accept_registrations(), log)
    }

    fn between(role: &str, phones: &str, far: &str, core: Answers, log: &str) -> Self {
        let net = Loopback::new();
        let (sip, upstream) = (net.at(1, 5060), net.at(2, 5060));
        let bob = Agent::new("core", net.at(10, 5060), core);
        let config = format!(
            "role = \"{role}\"\n[{phones}]\nlisten = [\"udp:{sip}\"]\nadvertise = \"listen\"\n[{far}]\nlisten = \
             [\"udp:{upstream}\"]\nadvertise = \"listen\"\n[[upstream]]\nuri = \"sip:{}\"\n",
            bob.address
        );
        let daemon = Daemon::start(net, &config, log);
        let alice = Agent::new("alice", net.at(20, 5060), accept());
        assert_eq!(alice.register(sip, DOMAIN, "secret"), 200);
        Self { net, daemon, sip, secure: sip, upstream, alice, bob, domain: DOMAIN.to_owned() }
    }

    /// A call from the phone to the other end.
    pub fn call(&self) -> Call<'_> {
        Call::up(&self.alice, self.sip, &format!("sip:bob@{}", self.domain), &self.bob)
    }
}
