//! The program, a phone that calls, and two ends that are called at once.

use std::net::SocketAddr;
use std::sync::Arc;

use peer::{Daemon, Line, Loopback};

/// The domain that the phone of a border registers in.
const DOMAIN: &str = "example.net";

#[derive(Debug)]
pub(super) struct World {
    pub(super) caller: Arc<Line>,
    /// Where siplatch is for the caller, and for who is called.
    pub(super) at: [SocketAddr; 2],
    /// Whom to call.
    pub(super) uri: String,
    /// Who rings.
    pub(super) forks: [Arc<Line>; 2],
    /// Who forks, where siplatch does not.
    pub(super) core: Option<Arc<Line>>,
    _daemon: Daemon,
}

impl World {
    /// Two bindings of one user.
    pub(super) fn standalone() -> Self {
        let net = Loopback::new();
        let sip = net.at(1, 5060);
        let daemon = Daemon::start(net, &format!("[inner]\nlisten = [\"udp:{sip}\"]\n"), "warn");
        let [caller, one, two] = [("alice", 20), ("bob", 30), ("bob", 31)].map(|(name, host)| {
            let line = Line::udp(name, net.at(host, 5060));
            line.register(sip, &sip.to_string());
            Arc::new(line)
        });
        Self { caller, at: [sip; 2], uri: format!("sip:bob@{sip}"), forks: [one, two], core: None, _daemon: daemon }
    }

    /// A core that forks to two gateways.
    pub(super) fn border() -> Self {
        let net = Loopback::new();
        let (sip, upstream) = (net.at(1, 5060), net.at(2, 5060));
        let [core, one, two] =
            [("core", 10), ("one", 11), ("two", 12)].map(|(name, host)| Arc::new(Line::udp(name, net.at(host, 5060))));
        let config = format!(
            "role = \"border\"\n[outer]\nlisten = [\"udp:{sip}\"]\nadvertise = \"listen\"\n[inner]\nlisten = \
             [\"udp:{upstream}\"]\nadvertise = \"listen\"\n[[upstream]]\nuri = \"sip:{}\"\n",
            core.address
        );
        let daemon = Daemon::start(net, &config, "warn");
        let caller = Line::udp("alice", net.at(20, 5060));
        caller.register(sip, DOMAIN);
        Self {
            caller: Arc::new(caller),
            at: [sip, upstream],
            uri: format!("sip:bob@{DOMAIN}"),
            forks: [one, two],
            core: Some(core),
            _daemon: daemon,
        }
    }
}
