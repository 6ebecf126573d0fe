//! The CAs of clients and their revocation lists, from their files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::WebPkiClientVerifier;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::clients::{Authority, ClientVerifier, RevocationList};
use super::files::{self, FileProblem, Part, TlsProblem};
use super::{ClientCertificates, Expiry, Notes, TlsFiles, at, day, identity};

/// Each handshake may look at all of them.
const AUTHORITIES_MAX: usize = 256;

/// What checks the certificates of clients; `None` if they need none.
pub(super) fn client_verifier(
    files: &TlsFiles,
    certificates: ClientCertificates,
    provider: &Arc<CryptoProvider>,
    notes: &mut Notes,
) -> Result<Option<ClientVerifier>, TlsProblem> {
    let authorities = authorities(&files.client_ca, notes)?;
    if authorities.is_empty() {
        return Ok(None);
    }
    let mut lists = Vec::new();
    for path in &files.client_crl {
        let at_file = at(Part::ClientCrl, path);
        let found = files::read(path).and_then(|content| files::lists(&content)).map_err(&at_file)?;
        for (index, list) in found.into_iter().enumerate() {
            let unusable = FileProblem::UnusableList(index + 1);
            if !is_usable(&list, &authorities, provider) {
                return Err(at_file(unusable));
            }
            let (_, parsed) = CertificateRevocationList::from_der(&list).map_err(|_| at_file(unusable))?;
            let issued_at = parsed.last_update().timestamp();
            let issuer = parsed.issuer().as_raw().to_vec();
            let signers = check_list(path, &parsed, &authorities, notes)?;
            lists.push(RevocationList { list, issuer, signers, issued_at });
        }
    }
    let verifier = ClientVerifier::new(&authorities, lists, certificates, provider);
    Ok(Some(verifier.expect("each CA and each list alone has been accepted")))
}

/// Only the library knows what it can use, and of several lists it does not say which it cannot.
fn is_usable(
    list: &CertificateRevocationListDer<'static>,
    authorities: &[Authority],
    provider: &Arc<CryptoProvider>,
) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.first().map(|authority| authority.certificate.clone()));
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.with_crls([list.clone()]).build().is_ok()
}

fn authorities(paths: &[PathBuf], notes: &mut Notes) -> Result<Vec<Authority>, TlsProblem> {
    let mut authorities: Vec<Authority> = Vec::new();
    for path in paths {
        let at_file = at(Part::ClientCa, path);
        let found = files::read(path).and_then(|content| files::certificates(&content)).map_err(&at_file)?;
        for (index, certificate) in found.into_iter().enumerate() {
            if authorities.iter().any(|other| other.certificate == certificate) {
                continue;
            }
            let unusable = || at_file(FileProblem::Certificate(index + 1));
            RootCertStore::empty().add(certificate.clone()).map_err(|_| unusable())?;
            let parsed = identity::parsed(&certificate).ok_or_else(unusable)?;
            if !parsed.is_ca() {
                let what = identity::shown(parsed.subject());
                notes.warn(
                    path,
                    &format!("{what} does not say that it is a CA (CA:TRUE); whoever has its key can make others"),
                );
            }
            let (subject, public_key) = (parsed.subject().as_raw().to_vec(), parsed.public_key().raw.to_vec());
            notes.certificate(path, &certificate, "the clients that it has signed are let in nevertheless");
            authorities.push(Authority { certificate, subject, public_key });
            if authorities.len() > AUTHORITIES_MAX {
                return Err(at_file(FileProblem::TooManyAuthorities(AUTHORITIES_MAX)));
            }
        }
    }
    Ok(authorities)
}

/// The keys of the CAs that have signed a list.
fn check_list(
    path: &Path,
    list: &CertificateRevocationList<'_>,
    authorities: &[Authority],
    notes: &mut Notes,
) -> Result<Vec<Vec<u8>>, TlsProblem> {
    let (issuer, name) = (list.issuer().as_raw(), identity::shown(list.issuer()));
    let namesakes: Vec<&Authority> = authorities.iter().filter(|authority| authority.subject == issuer).collect();
    let has_signed = |authority: &&&Authority| {
        let parsed = identity::parsed(&authority.certificate);
        parsed.is_some_and(|authority| list.verify_signature(authority.public_key()).is_ok())
    };
    let signers: Vec<Vec<u8>> =
        namesakes.iter().filter(has_signed).map(|authority| authority.public_key.clone()).collect();
    if namesakes.is_empty() {
        // An intermediate CA that clients send along may have issued it.
        notes.warn(path, &format!("the revocation list is of {name}, which is not in client_ca"));
    } else if signers.is_empty() {
        return Err(at(Part::ClientCrl, path)(FileProblem::UnsignedList(name)));
    }
    if let Some(next_update) = list.next_update() {
        let renewal_s = next_update.timestamp();
        if notes.now_s > renewal_s {
            let renewal = day(renewal_s);
            notes.warn_of_time(
                path,
                &format!("the revocation list of {name} was to be renewed on {renewal}; it holds nevertheless"),
            );
        }
        let what = format!("revocation list of {name}");
        notes.expiries.push(Expiry::of(path, what, (list.last_update().timestamp(), renewal_s)));
    }
    Ok(signers)
}
