//! TLS of a listener: its certificate and key, and whom it lets in by certificate; and that of connections on which we show a certificate.
//!
//! A configuration is made of files as a whole or not at all. What only is inconvenient, such as a certificate that has expired, is a
//! warning: many devices do not look, and the gateway has to start. Resuming a session checks no certificate, so where clients have
//! certificates no session is resumed.

mod authorities;
mod client_files;
mod clients;
mod files;
pub mod identity;
mod pinned;
mod unverified;

use std::error::Error;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use time::OffsetDateTime;

pub use client_files::{ClientFiles, ClientProblem};
use clients::ClientVerifier;
pub use files::{FileProblem, Part, TlsProblem};
pub(crate) use files::{certificates, lists, read};
pub use pinned::{name_of, pinned_client_config};
pub use unverified::unverified_client_config;

/// The files of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its CA.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CAs of clients, of which each file may hold several. Without any, clients need no certificate.
    pub client_ca: Vec<PathBuf>,
    /// Which certificates of them are revoked. All certificates of a CA for which there is no list are let in.
    pub client_crl: Vec<PathBuf>,
}

/// What a listener needs for TLS.
#[derive(Debug)]
pub struct Tls {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    /// The server's own certificate.
    pub certificate: CertificateDer<'static>,
    /// When the certificates end, and when the revocation lists were to be renewed.
    pub expiries: Vec<Expiry>,
    /// What works and should not stay so.
    pub warnings: Vec<String>,
    /// Those of them that are not about time.
    pub flaws: Vec<String>,
    clients: Option<Arc<ClientVerifier>>,
}

/// When something that a file holds ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The file that holds it.
    pub file: PathBuf,
    /// What it is called, for people.
    pub what: String,
    /// From when on it is valid, in milliseconds since 1970.
    pub not_before_ms: i64,
    /// Milliseconds since 1970.
    pub not_after_ms: i64,
}

/// Whether clients may come without a certificate where there are CAs of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Who has none gets no connection.
    Demanded,
    /// Who has none is known by other means, or not at all. One that is shown has to be right all the same.
    Optional,
}

/// Reads and checks all files.
pub fn load(files: &TlsFiles, certificates: ClientCertificates) -> Result<Tls, TlsProblem> {
    let provider = Arc::new(ring::default_provider());
    let mut notes = Notes { now_s: now_s(), expiries: Vec::new(), warnings: Vec::new(), flaws: Vec::new() };
    let certified = certified_key(files, &provider, &mut notes)?;
    let certificate = certified.cert[0].clone();
    let clients = authorities::client_verifier(files, certificates, &provider, &mut notes)?.map(Arc::new);
    let verifier: Arc<dyn ClientCertVerifier> = match &clients {
        Some(clients) => Arc::clone(clients) as Arc<dyn ClientCertVerifier>,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites of both versions")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    if clients.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    let Notes { expiries, warnings, flaws, .. } = notes;
    Ok(Tls { config: Arc::new(config), certificate, expiries, warnings, flaws, clients })
}

impl Tls {
    /// Whether clients are asked for a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.clients.is_some()
    }

    /// Whether a client that connected with these certificates, its own first, would be let in now: it may have expired or been revoked
    /// since, or its CA be trusted no longer.
    pub fn still_admits(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        match (&self.clients, chain) {
            (None, _) => true,
            (Some(_), []) => false,
            (Some(clients), [own, others @ ..]) => clients.verify_client_cert(own, others, now).is_ok(),
        }
    }
}

/// What is found while the files are read.
struct Notes {
    now_s: i64,
    expiries: Vec<Expiry>,
    warnings: Vec<String>,
    flaws: Vec<String>,
}

impl Notes {
    fn warn(&mut self, file: &Path, text: &str) {
        self.flaws.push(format!("{}: {text}", file.display()));
        self.warn_of_time(file, text);
    }

    fn warn_of_time(&mut self, file: &Path, text: &str) {
        self.warnings.push(format!("{}: {text}", file.display()));
    }

    /// `consequence`: what it means if it has expired.
    fn certificate(&mut self, file: &Path, certificate: &CertificateDer<'static>, consequence: &str) {
        let Some(parsed) = identity::parsed(certificate) else { return };
        let what = identity::subject(certificate);
        let (from_s, to_s) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        if self.now_s > to_s {
            self.warn_of_time(file, &format!("{what} has expired on {}; {consequence}", day(to_s)));
        } else if self.now_s < from_s {
            self.warn_of_time(file, &format!("{what} is valid from {} on; the clock may be wrong", day(from_s)));
        }
        self.expiries.push(Expiry::of(file, what, (from_s, to_s)));
    }
}

impl Expiry {
    /// Of something that is valid between these seconds since 1970.
    fn of(file: &Path, what: String, (from_s, to_s): (i64, i64)) -> Expiry {
        let ms = |seconds: i64| seconds.saturating_mul(1000);
        Expiry { file: file.to_owned(), what, not_before_ms: ms(from_s), not_after_ms: ms(to_s) }
    }
}

/// From when on until when each certificate of a file is valid.
pub fn expiries_of_file(file: &Path) -> Result<Vec<Expiry>, FileProblem> {
    let certificates = read(file).and_then(|content| certificates(&content))?;
    let expiry = |certificate: &CertificateDer<'static>| {
        let parsed = identity::parsed(certificate)?;
        let validity = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        Some(Expiry::of(file, identity::subject(certificate), validity))
    };
    Ok(certificates.iter().filter_map(expiry).collect())
}

/// For connections to a server that has a certificate of one of these CAs. If it asks for ours, it is shown this one, with its key.
pub fn client_config(identity: Option<(&Path, &Path)>, roots: RootCertStore) -> Result<ClientConfig, TlsProblem> {
    let provider = Arc::new(ring::default_provider());
    let certified = identity.map(|(certificate, key)| chain_and_key(certificate, key, &provider)).transpose()?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites of both versions")
        .with_root_certificates(roots);
    Ok(match certified {
        Some(certified) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))),
        None => builder.with_no_client_auth(),
    })
}

/// The CAs that the system trusts; `None` if there are none.
pub fn roots_of_system() -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read is not needed, if others can.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { None } else { Some(roots) }
}

/// The CAs of a file, for servers.
pub fn roots_of_file(file: &Path) -> Result<RootCertStore, TlsProblem> {
    let of_file = at(Part::ServerCa, file);
    let mut roots = RootCertStore::empty();
    for (index, certificate) in
        read(file).and_then(|content| certificates(&content)).map_err(&of_file)?.into_iter().enumerate()
    {
        roots.add(certificate).map_err(|_| of_file(FileProblem::Certificate(index + 1)))?;
    }
    Ok(roots)
}

/// The certificates or their authorities are at fault, not the link.
pub fn is_of_tls(error: &io::Error) -> bool {
    let mut next = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}

/// Whether these files can be used for [`client_config`].
pub fn check_client(certificate: &Path, key: &Path) -> Result<(), TlsProblem> {
    chain_and_key(certificate, key, &ring::default_provider()).map(|_| ())
}

/// Whether there is a key in a file.
pub fn check_key(key: &Path) -> Result<(), TlsProblem> {
    read(key).and_then(|content| files::key(&content)).map(drop).map_err(at(Part::Key, key))
}

/// A certificate with what leads to its CA, and the key that belongs to it.
fn chain_and_key(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsProblem> {
    let of_certificate = at(Part::Certificate, certificate);
    let (key_file, of_key) = (key, at(Part::Key, key));
    let chain = read(certificate).and_then(|content| certificates(&content)).map_err(&of_certificate)?;
    let key = read(key).and_then(|content| files::key(&content)).map_err(&of_key)?;
    let key = provider.key_provider.load_private_key(key).map_err(|_| of_key(FileProblem::UnusableKey))?;
    if let Some(public_key) = key.public_key() {
        let belongs =
            |certificate| identity::parsed(certificate).is_some_and(|own| own.public_key().raw == public_key.as_ref());
        match chain.iter().position(belongs) {
            Some(0) => {}
            Some(index) => {
                return Err(of_certificate(FileProblem::Order { key: key_file.to_owned(), position: index + 1 }));
            }
            None => return Err(of_key(FileProblem::OtherKey(certificate.to_owned()))),
        }
    }
    Ok(CertifiedKey::new(chain, key))
}

fn certified_key(files: &TlsFiles, provider: &CryptoProvider, notes: &mut Notes) -> Result<CertifiedKey, TlsProblem> {
    let certified = chain_and_key(&files.certificate, &files.key, provider)?;
    let chain = &certified.cert;
    for certificate in chain {
        notes.certificate(&files.certificate, certificate, "clients that check it refuse to connect");
    }
    let has_names =
        |own| identity::parsed(own).is_some_and(|own| matches!(own.subject_alternative_name(), Ok(Some(_))));
    if !chain.first().is_some_and(has_names) {
        notes.warn(&files.certificate, "names no host (subjectAltName); many clients refuse to connect");
    }
    if std::fs::metadata(&files.key).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0) {
        notes.warn(&files.key, "can be read by everybody; chmod 600");
    }
    Ok(certified)
}

fn at(part: Part, file: &Path) -> impl Fn(FileProblem) -> TlsProblem {
    move |problem| TlsProblem { part, file: file.to_owned(), problem }
}

fn now_s() -> i64 {
    i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX)
}

fn day(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds).map_or_else(|_| "?".to_owned(), |time| time.date().to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod wrong_files_tests;
