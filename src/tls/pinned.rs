//! A client that knows the very certificate that the server has to show, from the server's own file: for whoever looks whether a listener works.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::extensions::GeneralName;

use super::{TlsProblem, chain_and_key, identity, roots_of_file};

/// The server shows something else than its file holds.
#[derive(Debug, thiserror::Error)]
#[error("it shows another certificate than its file holds")]
struct OtherCertificate;

#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    /// Whom devices trust; `None` if that is not asked.
    trusted: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

/// For connections to a server that shows this certificate. If it asks for one, it is shown this `identity`. With `ca`, it also has to be one that
/// these CAs vouch for.
pub fn pinned_client_config(
    certificate: CertificateDer<'static>,
    identity: Option<(&Path, &Path)>,
    ca: Option<&Path>,
) -> Result<ClientConfig, TlsProblem> {
    let provider = Arc::new(ring::default_provider());
    let certified = identity.map(|(certificate, key)| chain_and_key(certificate, key, &provider)).transpose()?;
    let trusted = ca.map(|file| roots_of_file(file).map(|roots| verifier(roots, &provider))).transpose()?;
    let pinned = Pinned { certificate, trusted, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites of both versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned));
    Ok(match certified {
        Some(certified) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))),
        None => builder.with_no_client_auth(),
    })
}

fn verifier(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Arc<WebPkiServerVerifier> {
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.build().expect("a file of CAs holds at least one")
}

/// The first name that a certificate has, by which devices may connect.
pub fn name_of(certificate: &CertificateDer<'_>) -> Option<ServerName<'static>> {
    let parsed = identity::parsed(certificate)?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => ServerName::try_from((*name).to_owned()).ok(),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from)).ok()?;
            Some(ServerName::IpAddress(address.into()))
        }
        _ => None,
    })
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity != self.certificate {
            let other = CertificateError::Other(OtherError(Arc::new(OtherCertificate)));
            return Err(Error::InvalidCertificate(other));
        }
        match &self.trusted {
            Some(trusted) => trusted.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
