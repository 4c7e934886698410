//! The files of `[tls]`, read when the rest of the configuration makes sense:
//! a certificate that cannot be used is a fault like any other, with its key
//! and the mend.

use std::sync::Arc;

use net::transport::tls::{self, File};
use net::turn::Over;

use super::Settings;
use super::fault::Fault;

/// Reads them, if anybody speaks TLS. Blocks for a moment.
pub(super) fn read(settings: &Settings) -> Result<Option<Arc<tls::Settings>>, Fault> {
    let written = settings.tls != tls::Files::default();
    let turn = settings.turn.as_ref().is_some_and(|(server, _)| server.over == Over::Tls);
    if !written && !turn && !settings.proxy.listeners.iter().any(|listener| listener.transport.is_secure()) {
        return Ok(None);
    }
    tls::Settings::load(&settings.tls).map(|loaded| Some(Arc::new(loaded))).map_err(explain)
}

fn explain(fault: tls::Fault) -> Fault {
    let (key, mend) = match fault.file {
        File::Certificate => ("certificate", "name a PEM file with this machine's certificate in front"),
        File::Key => ("key", "name the PEM file with the private key that belongs to the certificate"),
        File::ClientCa => ("client_ca", "name a PEM file with the certificates of the authorities"),
        File::Ca => ("ca", "name a PEM file with the certificates of the authorities"),
    };
    let mend = if fault.forbidden { "let the user that siplatch runs as read it" } else { mend };
    let what = format!("{} {}", fault.path.display(), fault.what);
    Fault { key: format!("tls.{key}"), what, mend: mend.to_owned() }
}
