//! Reads the files of a listener, and says in words what is wrong with one.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Largest file; a list of twenty thousand revoked certificates fits.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The server's certificate and what leads to its CA.
    Certificate,
    /// The key of the server's certificate.
    Key,
    /// The CAs of servers.
    ServerCa,
    /// The CAs whose clients are let in.
    ClientCa,
    /// The lists of revoked certificates.
    ClientCrl,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct TlsProblem {
    /// What the file is for.
    pub part: Part,
    /// Its path, as it was given.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: FileProblem,
}

impl TlsProblem {
    /// The key of the configuration that names the file.
    pub fn key(&self) -> &'static str {
        match self.part {
            Part::Certificate => "tls_certificate",
            Part::Key => "tls_key",
            Part::ServerCa => "ca",
            Part::ClientCa => "client_ca",
            Part::ClientCrl => "client_crl",
        }
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// The system does not give it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// A folder, a pipe or a device.
    #[error("is not a file")]
    NotAFile,
    /// Larger than anything sensible.
    #[error("is larger than 1 MiB")]
    TooLarge,
    /// A block of PEM is not as it must be.
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    /// No block of a certificate.
    #[error("holds no certificate (a block BEGIN CERTIFICATE)")]
    NoCertificate,
    /// Base64, but no certificate.
    #[error("certificate {0} in it cannot be understood")]
    Certificate(usize),
    /// No block of a key.
    #[error("holds no private key (a block BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or BEGIN RSA PRIVATE KEY)")]
    NoKey,
    /// A key with a password, which nobody could type in.
    #[error("its private key is encrypted; openssl pkey -in FILE -out OTHER_FILE writes one that is not")]
    EncryptedKey,
    /// Of a kind that is not supported, or damaged.
    #[error("its private key cannot be used; ECDSA with P-256 or P-384, Ed25519, and RSA of 2048 to 4096 bits can")]
    UnusableKey,
    /// It is the key of something else.
    #[error("the key does not belong to the certificate {}", .0.display())]
    OtherKey(PathBuf),
    /// The key is that of another certificate of the same file.
    #[error("the key {} belongs to certificate {position} in it; that one must be the first", key.display())]
    Order {
        /// The file of the key.
        key: PathBuf,
        /// Which certificate it belongs to, from 1.
        position: usize,
    },
    /// More than any fleet has.
    #[error("with it there are more than {0} certificates of CAs")]
    TooManyAuthorities(usize),
    /// Neither a block of a list nor a list.
    #[error("holds no revocation list (a block BEGIN X509 CRL, or the list itself in DER)")]
    NoList,
    /// A list that is not of the kind that can be checked.
    #[error(
        "revocation list {0} in it cannot be used; a complete list of version 2 with a number and a nextUpdate can"
    )]
    UnusableList(usize),
    /// It bears the name of a CA and not its signature.
    #[error("the revocation list is of {0}, but is not signed with the key of a CA of that name in client_ca")]
    UnsignedList(String),
}

/// The whole file, if it is one of a sensible size.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileProblem> {
    // A pipe would let the opening wait.
    if !fs::metadata(path).map_err(FileProblem::Unreadable)?.is_file() {
        return Err(FileProblem::NotAFile);
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(FileProblem::Unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(FileProblem::Unreadable)?;
    if content.len() as u64 > FILE_BYTES_MAX { Err(FileProblem::TooLarge) } else { Ok(content) }
}

/// The certificates of a file; at least one.
pub(crate) fn certificates(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
    let certificates = blocks::<CertificateDer<'static>>(content)?;
    if certificates.is_empty() {
        return Err(FileProblem::NoCertificate);
    }
    match certificates.iter().position(|certificate| super::identity::parsed(certificate).is_none()) {
        Some(index) => Err(FileProblem::Certificate(index + 1)),
        None => Ok(certificates),
    }
}

/// The first key of a file.
pub(super) fn key(content: &[u8]) -> Result<PrivateKeyDer<'static>, FileProblem> {
    match PrivateKeyDer::from_pem_slice(content) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) if is_encrypted(content) => Err(FileProblem::EncryptedKey),
        Err(pem::Error::NoItemsFound) => Err(FileProblem::NoKey),
        // The older kind of encryption has its parameters in lines before the Base64.
        Err(_) if is_encrypted(content) => Err(FileProblem::EncryptedKey),
        Err(error) => Err(damage(&error)),
    }
}

/// The revocation lists of a file; at least one.
pub(crate) fn lists(content: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, FileProblem> {
    // DER of a list begins with a sequence.
    if content.first() == Some(&0x30) {
        return Ok(vec![CertificateRevocationListDer::from(content.to_vec())]);
    }
    let lists = blocks::<CertificateRevocationListDer<'static>>(content)?;
    if lists.is_empty() { Err(FileProblem::NoList) } else { Ok(lists) }
}

fn blocks<T: PemObject>(content: &[u8]) -> Result<Vec<T>, FileProblem> {
    T::pem_slice_iter(content).collect::<Result<_, _>>().map_err(|error| damage(&error))
}

fn damage(error: &pem::Error) -> FileProblem {
    FileProblem::Damaged(match error {
        pem::Error::MissingSectionEnd { .. } => "a block has no line END",
        pem::Error::IllegalSectionStart { .. } => "a line BEGIN does not end with five hyphens",
        pem::Error::Base64Decode(_) => "a block is not Base64",
        _ => "it is not PEM",
    })
}

fn is_encrypted(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}
