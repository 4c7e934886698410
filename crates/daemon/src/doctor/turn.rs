//! The TURN server: is it there? An Allocate without credentials is refused
//! with 401 by one that is. Whether it takes ours is asked by the client that
//! has them; where that is known it belongs into [`Tried::works`].

use std::net::SocketAddr;

use net::survey::reach::{self, Reached};
use net::transport::tls;
use wire::stun::allocate::Allocated;

use super::finding::{Finding, Weight};
use super::plan::Turn;
use super::seen::word;

/// What came of it.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) turn: Turn,
    pub(super) at: Option<SocketAddr>,
    pub(super) reached: Reached<Allocated>,
}

impl Tried {
    /// It has granted what we asked for.
    pub(super) fn works(&self) -> bool {
        matches!(&self.reached, Reached::Answers(Allocated { error: None, .. }, _))
    }

    /// For programs.
    pub(super) fn word(&self) -> Option<&'static str> {
        match &self.reached {
            Reached::Answers(answer, _) => match answer.error {
                None => Some("works"),
                Some(401) => Some("answers"),
                Some(_) => Some("refused"),
            },
            Reached::Silent | Reached::Refused => self.at.map(|_| "silent"),
            Reached::Connects | Reached::Untrusted => Some("silent"),
        }
    }

    pub(super) fn finding(&self) -> Finding {
        let tested = format!("TURN server {} over {}", self.turn.server, self.turn.transport.via());
        match (&self.reached, self.word()) {
            (_, Some("works")) => {
                Finding::new(Weight::Good, &tested, "grants allocations", "it carries media where nothing else does")
            }
            (Reached::Answers(Allocated { realm, .. }, _), Some("answers")) => {
                let realm = realm.as_deref().unwrap_or("none");
                let found = format!("answers, and asks for credentials (realm {realm})");
                Finding::new(Weight::Notice, &tested, found, "it is there; whether it takes our credentials was not tried")
            }
            (Reached::Answers(answer, _), _) => {
                let found = format!("refuses with {}", answer.error.unwrap_or_default());
                let means = "it carries no media for us";
                Finding::new(Weight::Notice, &tested, found, means).mend("check what it is configured to allow")
            }
            (other, _) => {
                let found = if self.at.is_none() { "no address found" } else { word(other) };
                let means = "it carries no media for us";
                let mend = "check its address and port; turns: on port 443 passes most firewalls";
                Finding::new(Weight::Notice, &tested, found, means).mend(mend)
            }
        }
    }
}

/// Tries it.
pub(super) async fn try_it(turn: Turn, tls: &tls::Settings) -> Tried {
    let found = net::resolve(&turn.server.host, turn.server.port).await.unwrap_or_default();
    let at = found.iter().find(|address| address.is_ipv4()).or(found.first()).copied();
    let reached = match at {
        Some(at) => reach::turn(at, turn.transport, &turn.server.host, tls).await,
        None => Reached::Silent,
    };
    Tried { turn, at, reached }
}
