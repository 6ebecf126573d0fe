//! Checks the certificates of clients, against all CAs and the revocation lists that there are for some of them.
//!
//! The library looks for the revocation list of a certificate by the name of the CA alone and takes the first. A CA that goes on under its
//! name with a new key would so be measured by the list of the old one, and all its clients refused. So CAs of the same name with different
//! keys are kept apart, each in a verifier of its own with the lists that it has signed.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::ClientCertificates;

/// More names of CAs are not told to clients: they have to fit into one message.
const HINT_BYTES_MAX: usize = 16 * 1024;

/// A CA whose clients are let in. Names and keys are in DER.
pub(super) struct Authority {
    pub certificate: CertificateDer<'static>,
    pub subject: Vec<u8>,
    pub public_key: Vec<u8>,
}

/// A revocation list, and the keys of the CAs that have signed it: none if its issuer is not among them.
pub(super) struct RevocationList {
    pub list: CertificateRevocationListDer<'static>,
    pub issuer: Vec<u8>,
    pub signers: Vec<Vec<u8>>,
    pub issued_at: i64,
}

/// Lets in the clients of several CAs, unless they are revoked.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    /// In none of them there are two CAs with the same name and different keys.
    verifiers: Vec<Arc<dyn ClientCertVerifier>>,
    hints: Vec<DistinguishedName>,
    certificates: ClientCertificates,
}

impl ClientVerifier {
    pub fn new(
        authorities: &[Authority],
        mut lists: Vec<RevocationList>,
        certificates: ClientCertificates,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ClientVerifier, VerifierBuilderError> {
        // Of several lists of a CA the first counts.
        lists.sort_by_key(|list| std::cmp::Reverse(list.issued_at));
        let verifiers = separate(authorities).into_iter().map(|members| verifier(&members, &lists, provider));
        Ok(ClientVerifier { verifiers: verifiers.collect::<Result<_, _>>()?, hints: hints(authorities), certificates })
    }
}

/// A verifier of these CAs, with all lists but those of namesakes.
fn verifier(
    members: &[&Authority],
    lists: &[RevocationList],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(members.iter().map(|member| member.certificate.clone()));
    let is_usable = |list: &&RevocationList| match members.iter().find(|member| member.subject == list.issuer) {
        Some(member) => list.signers.contains(&member.public_key),
        None => true,
    };
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(lists.iter().filter(is_usable).map(|list| list.list.clone()))
        .allow_unknown_revocation_status()
        .build()
}

fn separate(authorities: &[Authority]) -> Vec<Vec<&Authority>> {
    let mut groups: Vec<Vec<&Authority>> = Vec::new();
    for authority in authorities {
        let is_namesake =
            |other: &&Authority| other.subject == authority.subject && other.public_key != authority.public_key;
        match groups.iter_mut().find(|group| !group.iter().any(is_namesake)) {
            Some(group) => group.push(authority),
            None => groups.push(vec![authority]),
        }
    }
    groups
}

/// The names that help a client with several certificates to choose one.
fn hints(authorities: &[Authority]) -> Vec<DistinguishedName> {
    let mut subjects: Vec<&Vec<u8>> = authorities.iter().map(|authority| &authority.subject).collect();
    subjects.sort_unstable();
    subjects.dedup();
    if subjects.iter().map(|subject| subject.len() + 2).sum::<usize>() > HINT_BYTES_MAX {
        return Vec::new();
    }
    subjects.into_iter().cloned().map(DistinguishedName::from).collect()
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.certificates == ClientCertificates::Demanded
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    /// Revoked by one is revoked: a chain by way of an intermediate CA may miss its list in another verifier.
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let mut answer = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        for verifier in &self.verifiers {
            match verifier.verify_client_cert(end_entity, intermediates, now) {
                Ok(verified) => answer = Ok(verified),
                Err(revoked @ Error::InvalidCertificate(CertificateError::Revoked)) => return Err(revoked),
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(error) => answer = answer.or(Err(error)),
            }
        }
        answer
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any()?.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.any()?.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any().map(|verifier| verifier.supported_verify_schemes()).unwrap_or_default()
    }
}

impl ClientVerifier {
    /// Signatures of handshakes do not depend on the CAs.
    fn any(&self) -> Result<&Arc<dyn ClientCertVerifier>, Error> {
        self.verifiers.first().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }
}
