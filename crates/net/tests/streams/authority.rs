//! Certificates of the tests as files for our end, and handshakes of peers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use net::transport::tls::{Files, Settings};
pub(crate) use peer::{Authority, Identity};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Each directory has a number.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// Files in a directory that goes away with it.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("siplatch-streams-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Files with this identity, trusting these authorities as servers and as clients.
    pub(crate) fn files(&self, own: Option<&Identity>, ca: Option<&Authority>, clients: Option<&Authority>) -> Files {
        let own = own.map(|own| (self.write("own.crt", &own.certificate), self.write("own.key", &own.key)));
        let ca = ca.map(|ca| self.write("ca.crt", &ca.pem));
        let client_ca = clients.map(|ca| self.write("clients.crt", &ca.pem));
        Files { own, client_ca, ca }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What our end uses.
pub(crate) fn settings(own: Option<&Identity>, ca: Option<&Authority>, clients: Option<&Authority>) -> Settings {
    Settings::load(&Dir::new().files(own, ca, clients)).unwrap()
}

/// How a phone sets up TLS.
pub(crate) fn phone(
    trusts: &Authority,
    own: Option<&Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    trusts.client(own, versions)
}

/// A phone's side of the handshake.
pub(crate) async fn secure(
    stream: TcpStream,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// A core's side of the handshake.
pub(crate) async fn serve(stream: TcpStream, own: &Identity) -> std::io::Result<server::TlsStream<TcpStream>> {
    TlsAcceptor::from(own.server()).accept(stream).await
}
