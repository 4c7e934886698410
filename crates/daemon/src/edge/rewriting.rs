//! Does somebody on the way rewrite our SIP? A far siplatch is asked at the
//! start and every few hours (`nat::alg`), and where it is proven the proxy
//! leaves the ways that are meddled with. Asks nobody where no `[doctor]
//! reflector` is named, or where there is no other way to go.

use std::time::Duration;

use nat::alg::Rewritten;
use proxy::config::Role;

use super::beside::Telling;
use crate::config::{HostPort, Settings};
use crate::doctor;

/// A router is given another firmware, or another router comes: both are rare.
const AGAIN: Duration = Duration::from_secs(6 * 3600);
/// After a trial that said nothing: the line may only just have come up.
const SOON: Duration = Duration::from_secs(300);

/// Whom to ask, if it is of use.
pub(super) fn reflector(settings: &Settings) -> Option<HostPort> {
    let of_use = settings.proxy.role == Role::Office
        && settings.proxy.upstreams.iter().any(|upstream| !upstream.fallback.is_empty());
    settings.reflector.clone().filter(|_| of_use)
}

/// Asks for ever; tells what it has found out.
pub(super) async fn watch(reflector: Option<HostPort>, telling: Telling<Rewritten>) {
    let Some(reflector) = reflector else { return };
    let mut said = Rewritten::default();
    loop {
        let found = match net::resolve(&reflector.host, reflector.port).await {
            Ok(addresses) => match addresses.first() {
                Some(address) => Rewritten::of(&doctor::try_ways(*address).await),
                None => None,
            },
            Err(error) => {
                tracing::info!(%error, %reflector, "the reflector does not resolve");
                None
            }
        };
        if let Some(found) = found.filter(|found| *found != said) {
            said = found;
            if found == Rewritten::default() {
                tracing::info!(%reflector, "SIP is no longer rewritten on the way");
            } else {
                tracing::warn!(
                    %reflector,
                    "somebody on the way rewrites SIP (an ALG in the router): upstreams are reached by another \
                     way where there is one; switch SIP ALG off in the router"
                );
            }
            telling.tell(found);
        }
        tokio::time::sleep(if found.is_some() { AGAIN } else { SOON }).await;
    }
}
