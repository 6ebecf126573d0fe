//! TLS of a client: whom it trusts, and the certificate that it shows.
//!
//! Sessions are never resumed: the connections of a run stand for devices of their own, each of which would shake hands in full.

use rustls::client::Resumption;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The files of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the CAs to trust.
    pub ca: PathBuf,
    pub identity: Option<Identity>,
}

/// What a client shows a broker that asks for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and the CA.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Clones share one configuration.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.server_name == other.server_name
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is larger than 1 MiB", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} holds no certificate (a block BEGIN CERTIFICATE)", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} holds no private key without a password (a block BEGIN PRIVATE KEY)", path.display())]
    NoKey { path: PathBuf },
    #[error("{} is not PEM", path.display())]
    Damaged { path: PathBuf, source: pem::Error },
    #[error("certificate {position} of {} cannot be used", path.display())]
    UnusableCertificate { path: PathBuf, position: usize, source: rustls::Error },
    #[error("certificate {} and key {} cannot be used together", identity.certificate.display(), identity.key.display())]
    UnusableIdentity { identity: Identity, source: rustls::Error },
    #[error("`{name}` cannot be the name of a server with TLS, write a host name or an address")]
    ServerName { name: String },
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

const FILE_BYTES_MAX: u64 = 1 << 20;

impl Tls {
    /// Reads the files. The server must prove to be the one with this name, which may be an address.
    pub fn new(files: &TlsFiles, server_name: &str) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for (at, certificate) in certificates(&files.ca)?.into_iter().enumerate() {
            let unusable = |source| TlsError::UnusableCertificate { path: files.ca.clone(), position: at + 1, source };
            roots.add(certificate).map_err(unusable)?;
        }
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| TlsError::ServerName { name: server_name.to_owned() })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?;
        let builder = builder.with_root_certificates(roots);
        let mut config = match &files.identity {
            Some(identity) => {
                let unusable = |source| TlsError::UnusableIdentity { identity: identity.clone(), source };
                let chain = certificates(&identity.certificate)?;
                builder.with_client_auth_cert(chain, key(&identity.key)?).map_err(unusable)?
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        Ok(Tls { config: Arc::new(config), server_name })
    }

    /// Shakes hands on a new connection.
    pub(crate) async fn shake_hands(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(Arc::clone(&self.config)).connect(self.server_name.clone(), stream).await
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&content).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(TlsError::NoCertificate { path: path.to_owned() }),
        Ok(certificates) => Ok(certificates),
        Err(source) => Err(TlsError::Damaged { path: path.to_owned(), source }),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey { path: path.to_owned() },
        source => TlsError::Damaged { path: path.to_owned(), source },
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content))
        .map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::TooLarge { path: path.to_owned() });
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::fs;

    struct Files {
        folder: tempfile::TempDir,
    }

    impl Files {
        /// `a.pem` and `a.key` belong together, `b.pem` and `b.key` as well.
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            for name in ["a", "b"] {
                let key = KeyPair::generate().expect("a key");
                let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
                let certificate = params.self_signed(&key).expect("a certificate");
                fs::write(folder.path().join(format!("{name}.pem")), certificate.pem()).expect("written");
                fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).expect("written");
            }
            Files { folder }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            fs::write(self.path(name), content).expect("written");
            self.path(name)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).expect("a file")
        }

        fn tls(&self, ca: &str, identity: Option<(&str, &str)>) -> Result<Tls, TlsError> {
            let identity = identity
                .map(|(certificate, key)| Identity { certificate: self.path(certificate), key: self.path(key) });
            Tls::new(&TlsFiles { ca: self.path(ca), identity }, "gateway.example")
        }
    }

    #[test]
    fn one_certificate_and_several_are_trusted() {
        let files = Files::new();
        files.write("both.pem", format!("A comment\n{}{}", files.read("a.pem"), files.read("b.pem")));
        for (ca, identity) in [("a.pem", None), ("both.pem", None), ("both.pem", Some(("b.pem", "b.key")))] {
            assert!(files.tls(ca, identity).is_ok(), "{ca} {identity:?}");
        }
    }

    #[test]
    fn a_file_that_is_wrong_is_named_with_what_is_missing() {
        let files = Files::new();
        files.write("empty.pem", "");
        files.write("damaged.pem", "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n");
        files.write("nonsense.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        files.write("large.pem", vec![b'\n'; 1 << 21]);
        for (ca, identity, expected) in [
            ("nowhere.pem", None, "cannot read"),
            ("empty.pem", None, "holds no certificate"),
            ("a.key", None, "holds no certificate"),
            ("damaged.pem", None, "is not PEM"),
            ("nonsense.pem", None, "certificate 1"),
            ("large.pem", None, "larger than 1 MiB"),
            ("a.pem", Some(("a.key", "a.key")), "holds no certificate"),
            ("a.pem", Some(("a.pem", "a.pem")), "holds no private key"),
            ("a.pem", Some(("a.pem", "b.key")), "cannot be used together"),
            ("a.pem", Some(("a.pem", "nowhere.key")), "nowhere.key"),
        ] {
            let told = files.tls(ca, identity).expect_err(expected).to_string();
            assert!(told.contains(expected), "{told}, expected {expected}");
            let named = identity.map_or(ca, |(certificate, _)| certificate);
            assert!(told.contains(named) || told.contains(identity.map_or(ca, |(_, key)| key)), "{told}");
        }
    }

    #[test]
    fn a_server_is_a_name_or_an_address() {
        let files = Files::new();
        let named = |name: &str| Tls::new(&TlsFiles { ca: files.path("a.pem"), identity: None }, name);
        for name in ["gateway.example", "localhost", "127.0.0.1", "::1"] {
            assert!(named(name).is_ok(), "{name}");
        }
        let told = named("a b").expect_err("no name").to_string();
        assert!(told.contains("`a b`"), "{told}");
    }
}
