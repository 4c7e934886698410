//! TLS for SIP (RFC 3261 §26.2, RFC 5922): certificates from files, handshakes
//! in both roles, and the names that a peer has proven. TLS 1.2 and 1.3.
//!
//! Whom we connect to must name the domain that we wanted, as a DNS name or as
//! a SIP URI. Whoever connects to us may show a certificate, if there are
//! authorities for that; one that does not verify ends the handshake.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "errors of other crates, which grow: whatever else it is, is said in their words"
)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use webpki::EndEntityCert;

/// Where systems keep the authorities that they trust.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The files, PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Our certificate with its chain, and its private key.
    pub own: Option<(PathBuf, PathBuf)>,
    /// The authorities whose client certificates are asked for.
    pub client_ca: Option<PathBuf>,
    /// Authorities of servers that we connect to, beside the system's.
    pub ca: Option<PathBuf>,
}

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// Our certificate.
    Certificate,
    /// Its key.
    Key,
    /// Authorities of clients.
    ClientCa,
    /// Authorities of servers.
    Ca,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub file: File,
    /// Its path.
    pub path: PathBuf,
    /// What.
    pub what: String,
    /// We may not read it.
    pub forbidden: bool,
}

/// What handshakes use. Made anew when the files have changed: connections that
/// are open keep what they began with.
#[derive(Debug)]
pub struct Settings {
    accept: Option<Arc<ServerConfig>>,
    connect: Arc<ClientConfig>,
    /// All certificates that were read, in the order of the files.
    read: Vec<CertificateDer<'static>>,
}

/// The same certificates were read. A key that changes changes its certificate, too.
impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.read == other.read
    }
}

impl Eq for Settings {}

impl Settings {
    /// Reads the files. They are small, and this blocks: at start, or beside the signalling loop.
    pub fn load(files: &Files) -> Result<Self, Fault> {
        let provider = Arc::new(ring::default_provider());
        let mut read = Vec::new();
        let own = match &files.own {
            Some((certificate, key)) => {
                let own = own(certificate, key, &provider)?;
                read.extend(own.cert.iter().cloned());
                Some(Arc::new(SingleCertAndKey::from(own)))
            }
            None => None,
        };
        let mut authorities = |file: File, path: &Option<PathBuf>| -> Result<_, Fault> {
            let Some(path) = path else { return Ok(None) };
            let found = certificates(file, path)?;
            read.extend(found.iter().cloned());
            Ok(Some((path.clone(), found)))
        };
        let (client_ca, ca) = (authorities(File::ClientCa, &files.client_ca)?, authorities(File::Ca, &files.ca)?);
        let accept = match &own {
            Some(own) => Some(Arc::new(server(Arc::clone(own), client_ca, &provider)?)),
            None => None,
        };
        let connect = Arc::new(client(own, ca, provider)?);
        Ok(Self { accept, connect, read })
    }

    /// The handshake of a connection that came in; also the names that the peer's certificate proves.
    pub(super) async fn accept(&self, socket: TcpStream) -> io::Result<(TlsStream<TcpStream>, Vec<String>)> {
        let Some(config) = &self.accept else { return Err(io::Error::other("we have no certificate")) };
        // For a peer that says nothing, nothing is made.
        socket.readable().await?;
        let stream = Box::pin(TlsAcceptor::from(Arc::clone(config)).accept(socket)).await?;
        let peer = names(stream.get_ref().1.peer_certificates());
        Ok((stream.into(), peer))
    }

    /// The handshake of a connection of ours.
    pub(crate) async fn connect(
        &self,
        socket: TcpStream,
        name: &str,
    ) -> io::Result<(TlsStream<TcpStream>, Vec<String>)> {
        let bare = name.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(&self.connect)).connect(name, socket).await?;
        let peer = names(stream.get_ref().1.peer_certificates());
        Ok((stream.into(), peer))
    }
}

fn read(file: File, path: &Path) -> Result<Vec<u8>, Fault> {
    fs::read(path).map_err(|error| {
        let forbidden = error.kind() == io::ErrorKind::PermissionDenied;
        Fault { file, path: path.to_owned(), what: format!("cannot be read: {error}"), forbidden }
    })
}

fn faulty(file: File, path: &Path, what: impl ToString) -> Fault {
    Fault { file, path: path.to_owned(), what: what.to_string(), forbidden: false }
}

fn certificates(file: File, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let pem = read(file, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(faulty(file, path, "holds no certificate in PEM form")),
        Ok(found) => Ok(found),
        Err(error) => Err(faulty(file, path, format!("is no certificate in PEM form: {error}"))),
    }
}

fn own(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, Fault> {
    let chain = certificates(File::Certificate, certificate)?;
    if let Err(error) = chain.first().map_or(Ok(()), |first| EndEntityCert::try_from(first).map(|_| ())) {
        return Err(faulty(
            File::Certificate,
            certificate,
            format!("holds a certificate that cannot be used: {error}"),
        ));
    }
    let pem = read(File::Key, key)?;
    let private = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => faulty(File::Key, key, "holds no private key in PEM form"),
        other => faulty(File::Key, key, format!("is no private key in PEM form: {other}")),
    })?;
    CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
        Error::InconsistentKeys(_) => faulty(File::Key, key, "is not the key of the certificate"),
        other => faulty(File::Key, key, format!("cannot be used: {other}")),
    })
}

/// The certificates of a file of authorities.
type Authorities = (PathBuf, Vec<CertificateDer<'static>>);

fn server(
    own: Arc<SingleCertAndKey>,
    client_ca: Option<Authorities>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, Fault> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| faulty(File::Certificate, Path::new(""), error))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some((path, authorities)) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority).map_err(|error| faulty(File::ClientCa, &path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| faulty(File::ClientCa, &path, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    Ok(builder.with_cert_resolver(own))
}

fn client(
    own: Option<Arc<SingleCertAndKey>>,
    ca: Option<Authorities>,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, Fault> {
    let mut roots = RootCertStore::empty();
    // A system without authorities trusts nobody; that shows at the handshake.
    let system = SYSTEM.iter().find_map(|path| fs::read(path).ok()).unwrap_or_default();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&system).filter_map(Result::ok));
    if let Some((path, authorities)) = ca {
        for authority in authorities {
            roots.add(authority).map_err(|error| faulty(File::Ca, &path, error))?;
        }
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().ok();
    let verifier = Arc::new(NamesTheDomain { chain, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| faulty(File::Ca, Path::new(""), error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(match own {
        Some(own) => builder.with_client_cert_resolver(own),
        None => builder.with_no_client_auth(),
    })
}

/// The usual verification, in which a SIP URI may name the domain as well as a
/// DNS name does (RFC 5922 §7.1).
#[derive(Debug)]
struct NamesTheDomain {
    /// `None` when no authority is known.
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for NamesTheDomain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Err(CertificateError::UnknownIssuer.into()) };
        let verified = chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        // The name is looked at last: everything else has passed.
        if let Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) = verified
            && let ServerName::DnsName(wanted) = server_name
            && let Ok(certificate) = EndEntityCert::try_from(end_entity)
            && certificate.valid_uri_names().filter_map(domain).any(|name| name.eq_ignore_ascii_case(wanted.as_ref()))
        {
            return Ok(ServerCertVerified::assertion());
        }
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The domain that a URI in a certificate stands for: of `sip:`, without a user part (RFC 5922 §7.1).
fn domain(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    let host = rest.split([';', '?', ':']).next()?;
    (scheme.eq_ignore_ascii_case("sip") && !rest.contains('@') && !host.is_empty()).then_some(host)
}

/// The names that a verified certificate proves. A wildcard names no domain (RFC 5922 §7.2).
fn names(chain: Option<&[CertificateDer<'_>]>) -> Vec<String> {
    let Some(Ok(certificate)) = chain.and_then(|chain| chain.first()).map(EndEntityCert::try_from) else {
        return Vec::new();
    };
    let mut names: Vec<String> = Vec::new();
    let uris = certificate.valid_uri_names().filter_map(domain);
    for name in certificate.valid_dns_names().chain(uris).filter(|name| !name.contains('*')) {
        let name = name.to_ascii_lowercase();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_of_uris() {
        for (uri, expected) in [
            ("sip:example.com", Some("example.com")),
            ("SIP:Example.com;transport=tls", Some("Example.com")),
            ("sip:example.com:5061", Some("example.com")),
            ("sip:alice@example.com", None),
            ("sips:example.com", None),
            ("http://example.com", None),
            ("sip:", None),
            ("", None),
        ] {
            assert_eq!(domain(uri), expected, "{uri}");
        }
    }
}
