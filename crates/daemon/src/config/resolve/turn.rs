//! `[turn]`: a server that relays media, for sides whose addresses STUN finds.

use nat::turn::Credentials;
use nat::{Advertise, Side};
use net::turn::Server;
use proxy::config::Listener;

use super::super::written;
use super::Resolver;

impl Resolver<'_> {
    /// The server, and who we are there.
    pub(super) fn turn(&mut self, listeners: &[Listener]) -> Option<(Server, Credentials)> {
        let raw = self.raw.turn.as_ref()?;
        let server = match &raw.server {
            Some(text) => self.take("turn.server", written::turn(text)),
            None => {
                self.missing("turn", "server", "write server = \"turn:HOST\" or \"turns:HOST\"");
                None
            }
        };
        if raw.username.is_none() {
            self.missing("turn", "username", "write the user name that the server's operator gave");
        }
        if raw.password.is_none() {
            self.missing("turn", "password", "write password = \"…\", or SIPLATCH__TURN__PASSWORD in the environment");
        }
        let advertised = |wanted| listeners.iter().any(|l| l.side == Side::Outer && l.advertise == wanted);
        let phones = self.raw.phone.iter().any(|phone| phone.advertise.as_deref() == Some("stun-address"));
        if advertised(Advertise::StunAddress) || phones {
            let what = "\"stun-address\" says that ports are forwarded, and a relay has none of them";
            self.fault("turn", what, "remove this section, or advertise by \"stun\"");
        } else if !advertised(Advertise::Stun) {
            let what = "nothing would be relayed: [outer] does not advertise by \"stun\"";
            self.fault("turn", what, "remove this section, or write advertise = \"stun\" in [outer]");
        }
        let (username, password) = (raw.username.clone()?, raw.password.clone()?.0);
        Some((server?, Credentials { username, password }))
    }
}
