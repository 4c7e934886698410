//! A column of the table: the program in one role, a phone over one transport,
//! and the core or provider behind.

use std::net::SocketAddr;
use std::sync::Arc;

use peer::{Authority, Daemon, Line, Loopback};

/// The domain of all addresses of record.
pub(super) const DOMAIN: &str = "example.net";
/// The name in the certificate.
const HOST: &str = "edge.example";

/// Seconds without media after which a call ends: the least there is.
pub(super) const TIMEOUT_S: u64 = 5;

/// Who speaks on one side, and where siplatch is for it.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) line: Arc<Line>,
    pub(super) at: SocketAddr,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) phone: Side,
    pub(super) far: Side,
    _daemon: Daemon,
}

impl Column {
    /// `role` is `border` or `office`.
    pub(super) fn new(role: &str, tls: bool) -> Self {
        let (phones, far) = if role == "border" { ("outer", "inner") } else { ("inner", "outer") };
        let (net, authority) = (Loopback::new(), Authority::new());
        let (sip, secure, upstream) = (net.at(1, 5060), net.at(1, 5061), net.at(2, 5060));
        let core = Arc::new(Line::udp("core", net.at(10, 5060)));
        let config = format!(
            "role = \"{role}\"\n[{phones}]\nlisten = [\"udp:{sip}\", \"tls:{secure}\"]\nadvertise = \
             \"listen\"\n[{far}]\nlisten = [\"udp:{upstream}\"]\nadvertise = \"listen\"\n[[upstream]]\nuri = \
             \"sip:{}\"\n[media]\ntimeout_s = {TIMEOUT_S}\n[tls]\ncertificate = \"DIR/tls.crt\"\nkey = \"DIR/tls.key\"\n",
            core.address
        );
        let daemon = Daemon::start_with(net, &config, "warn", |dir| authority.sign(&[HOST]).write(dir));
        let (line, at) = if tls {
            (Line::tls("alice", &authority, HOST, net.ip(20), secure), secure)
        } else {
            (Line::udp("alice", net.at(20, 5060)), sip)
        };
        line.register(at, DOMAIN);
        Self {
            name: format!("{role}/{}", if tls { "TLS" } else { "UDP" }),
            phone: Side { line: Arc::new(line), at },
            far: Side { line: core, at: upstream },
            _daemon: daemon,
        }
    }
}
