//! `[tls]`: which files there must be, and which make no sense alone.

use std::path::PathBuf;

use net::transport::tls::Files;
use proxy::config::Listener;

use super::super::raw;
use super::Resolver;

impl Resolver<'_> {
    /// The files, as written.
    pub(super) fn tls(&mut self, listeners: &[Listener], keys: &[String]) -> Files {
        let absent = raw::Tls::default();
        let raw = self.raw.tls.as_ref().unwrap_or(&absent);
        let certificate = self.file("certificate", raw.certificate.as_deref());
        let key = self.file("key", raw.key.as_deref());
        let client_ca = self.file("client_ca", raw.client_ca.as_deref());
        let ca = self.file("ca", raw.ca.as_deref());
        let own = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (Some(_), None) => {
                self.missing("tls", "key", "write key = \"/PATH\", the file with the private key of the certificate");
                None
            }
            (None, Some(_)) => {
                self.missing("tls", "certificate", "write certificate = \"/PATH\", the file with the certificate");
                None
            }
            (None, None) => {
                let secure = |(listener, _): &(&Listener, &String)| listener.accepts && listener.transport.is_secure();
                if let Some((_, key)) = listeners.iter().zip(keys).find(secure) {
                    let mend = "write [tls] with certificate and key, the files of this machine's certificate";
                    self.fault(key, "whoever connects here must be shown a certificate, and there is none", mend);
                } else if client_ca.is_some() {
                    let mend = "write certificate and key, too, or remove it";
                    self.fault("tls.client_ca", "nobody is asked for a certificate where we have none ourselves", mend);
                }
                None
            }
        };
        Files { own, client_ca, ca }
    }

    fn file(&mut self, key: &str, path: Option<&str>) -> Option<PathBuf> {
        let path = path?;
        if !path.starts_with('/') {
            let what = format!("\"{path}\" would depend on where siplatch is started");
            self.fault(format!("tls.{key}"), what, "write the whole path, from the first /");
        }
        Some(PathBuf::from(path))
    }
}
