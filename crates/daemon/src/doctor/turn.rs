//! The TURN server: is it there? An Allocate without credentials is refused
//! with 401 by one that is. Does it take ours? An allocation is made, and given
//! back at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::nat::turn::{Credentials, End};
use net::dscp::{Dscp, Mark};
use net::survey::reach::{self, Reached};
use net::transport::tls;
use net::turn::{Client, Failure, Over, REFRESH, Report, Server, Settings};
use wire::Transport;
use wire::stun::allocate::Allocated;

use super::finding::{Finding, Weight};
use super::plan::Turn;
use super::seen::word;

/// So long an allocation is waited for.
const PATIENCE: Duration = Duration::from_secs(8);

/// What came of it.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) turn: Turn,
    pub(super) at: Option<SocketAddr>,
    pub(super) reached: Reached<Allocated>,
    /// Whether it grants what we ask for; `None`: we have no credentials, or no answer came.
    pub(super) granted: Option<Result<(), Failure>>,
}

impl Tried {
    /// It has granted what we asked for.
    pub(super) fn works(&self) -> bool {
        self.granted == Some(Ok(())) || matches!(&self.reached, Reached::Answers(Allocated { error: None, .. }, _))
    }

    /// It is there, and grants us nothing.
    pub(super) fn refuses_us(&self) -> bool {
        matches!(self.granted, Some(Err(Failure::Turn(End::Unauthorized | End::Refused(_)))))
    }

    /// For programs.
    pub(super) fn word(&self) -> Option<&'static str> {
        match &self.reached {
            Reached::Answers(..) if self.works() => Some("works"),
            Reached::Answers(..) if self.refuses_us() => Some("refused"),
            Reached::Answers(answer, _) => match answer.error {
                Some(401) | None => Some("answers"),
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
            (_, Some("refused")) if self.refuses_us() => {
                let found = self.granted.and_then(Result::err).map(Failure::in_words).unwrap_or_default();
                Finding::new(Weight::Notice, &tested, found, "it carries no media for us")
                    .mend("check [turn] username and password with its operator")
            }
            (Reached::Answers(Allocated { realm, .. }, _), Some("answers")) => {
                let realm = realm.as_deref().unwrap_or("none");
                let found = format!("answers, and asks for credentials (realm {realm})");
                Finding::new(
                    Weight::Notice,
                    &tested,
                    found,
                    "it is there; whether it takes our credentials was not tried",
                )
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

/// Tries it, and what our credentials are worth there.
pub(super) async fn try_it(turn: Turn, tls: Arc<tls::Settings>) -> Tried {
    let found = net::resolve(&turn.server.host, turn.server.port).await.unwrap_or_default();
    let at = found.iter().find(|address| address.is_ipv4()).or(found.first()).copied();
    let reached = match at {
        Some(at) => reach::turn(at, turn.transport, &turn.server.host, &tls).await,
        None => Reached::Silent,
    };
    let granted = match (&reached, at, turn.credentials.clone()) {
        (Reached::Answers(..), Some(at), Some(credentials)) => allocate(&turn, at, credentials, tls).await,
        _ => None,
    };
    Tried { turn, at, reached, granted }
}

async fn allocate(
    turn: &Turn,
    at: SocketAddr,
    credentials: Credentials,
    tls: Arc<tls::Settings>,
) -> Option<Result<(), Failure>> {
    let over = match turn.transport {
        Transport::Udp => Over::Udp,
        Transport::Tls => Over::Tls,
        Transport::Tcp | Transport::Ws | Transport::Wss => Over::Tcp,
    };
    let server = Server { host: turn.server.host.clone(), port: turn.server.port, over };
    let settings = Settings { server, credentials, tls: Some(tls), mark: Mark::Set(Dscp::DEFAULT), refresh: REFRESH };
    let (reporting, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let (client, thread) = Client::start(settings, reporting).ok()?;
    client.allocate(net::addresses::toward(at).ok()?);
    let report = tokio::time::timeout(PATIENCE, reports.recv()).await.ok().flatten();
    drop(client);
    // It gives the allocation back meanwhile.
    let _ended = tokio::task::spawn_blocking(move || thread.join()).await;
    match report? {
        Report::Allocated { .. } => Some(Ok(())),
        Report::Ended { why, .. } => Some(Err(why)),
        Report::Denied { .. } | Report::Dropped { .. } => None,
    }
}
