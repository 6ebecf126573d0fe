//! The CA of a folder, and the certificates that it signs.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::CertProblem;
use super::folder::Folder;
use super::names::{DeviceName, HostName};
use crate::tls;
use crate::tls::identity;

const AUTHORITY_DAYS: i64 = 3650;
/// The clock of a device may be late, and what is not valid yet is refused.
const BACKDATED: Duration = Duration::days(1);
/// X.520 allows a common name no more characters.
const COMMON_NAME_BYTES_MAX: usize = 64;

/// Who a certificate is for.
pub(super) enum Purpose<'a> {
    Server(&'a [HostName]),
    Device(&'a DeviceName),
}

/// A CA: it signs with its key, which does not leave this.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    not_after: OffsetDateTime,
}

impl Authority {
    /// The CA that is in the folder.
    pub fn open(folder: &Folder) -> Result<Option<Authority>, CertProblem> {
        if !folder.has_pair("ca")? {
            return Ok(None);
        }
        let wrong = |name: &str, problem| CertProblem::Authority { path: folder.path(name), problem };
        let content = folder.read("ca.pem")?;
        let mut found = tls::certificates(&content)
            .map_err(|problem| CertProblem::Read { path: folder.path("ca.pem"), problem })?;
        let certificate = found.swap_remove(0);
        let parsed = identity::parsed(&certificate).ok_or_else(|| wrong("ca.pem", "cannot be understood"))?;
        if !parsed.is_ca() {
            return Err(wrong("ca.pem", "is not the certificate of a CA (CA:TRUE)"));
        }
        // The library takes for granted that no part of the name is empty.
        if parsed.subject().iter().any(|part| part.iter().count() != 1) {
            return Err(wrong("ca.pem", "has a name with several values in one part, which cannot be used"));
        }
        let key = std::str::from_utf8(&folder.read("ca.key")?).ok().and_then(|text| KeyPair::from_pem(text).ok());
        let key = key.ok_or_else(|| wrong("ca.key", "holds no key in PKCS #8 (a block BEGIN PRIVATE KEY)"))?;
        if rcgen::PublicKeyData::subject_public_key_info(&key) != parsed.public_key().raw {
            return Err(wrong("ca.key", "does not belong to ca.pem"));
        }
        let not_after = parsed.validity().not_after.to_datetime();
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Some(Authority { issuer, certificate, not_after }))
    }

    /// A new CA. Its name differs from those of all others: revocation lists are found by the name.
    pub fn make(folder: &Folder, now: OffsetDateTime) -> Result<Authority, CertProblem> {
        let key = KeyPair::generate()?;
        let suffix: String = key.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("Outrider CA {suffix}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - BACKDATED;
        params.not_after = now + Duration::days(AUTHORITY_DAYS);
        let certificate = params.self_signed(&key)?;
        folder.write_pair("ca", &certificate.pem(), &key.serialize_pem())?;
        let not_after = params.not_after;
        Ok(Authority { certificate: certificate.der().clone(), issuer: Issuer::new(params, key), not_after })
    }

    /// When a certificate that is made now ends: not after its CA.
    pub fn until(&self, now: OffsetDateTime, days: u32) -> OffsetDateTime {
        (now + Duration::days(days.into())).min(self.not_after)
    }

    /// Makes a certificate and its key; `false` if they are there.
    pub fn issue(
        &self,
        folder: &Folder,
        name: &str,
        purpose: &Purpose<'_>,
        (now, until): (OffsetDateTime, OffsetDateTime),
    ) -> Result<bool, CertProblem> {
        if folder.has_pair(name)? {
            return Ok(false);
        }
        if until <= now {
            return Err(self.problem(folder, "has expired; make a new CA in another folder"));
        }
        let mut params = params_of(purpose)?;
        params.not_before = now - BACKDATED;
        params.not_after = until;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        if !identity::parsed(certificate.der()).is_some_and(|made| self.is_issuer_of(&made)) {
            return Err(self.problem(folder, "has a name that cannot be put into certificates as it is"));
        }
        folder.write_pair(name, &certificate.pem(), &key.serialize_pem())?;
        Ok(true)
    }

    pub fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The certificate of the CA.
    pub fn parsed(&self) -> X509Certificate<'_> {
        identity::parsed(&self.certificate).expect("it was parsed or made before")
    }

    pub fn is_issuer_of(&self, certificate: &X509Certificate<'_>) -> bool {
        let own = self.parsed();
        certificate.issuer().as_raw() == own.subject().as_raw()
            && certificate.verify_signature(Some(own.public_key())).is_ok()
    }

    /// How its key is called, which a list must repeat.
    pub fn key_identifier(&self) -> KeyIdMethod {
        let own = self.parsed();
        let identifier = own.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
            _ => None,
        });
        identifier.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified)
    }

    fn problem(&self, folder: &Folder, problem: &'static str) -> CertProblem {
        CertProblem::Authority { path: folder.path("ca.pem"), problem }
    }
}

fn params_of(purpose: &Purpose<'_>) -> Result<CertificateParams, CertProblem> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    match purpose {
        Purpose::Server(hosts) => {
            let name = hosts.iter().map(ToString::to_string).find(|host| host.len() <= COMMON_NAME_BYTES_MAX);
            params.distinguished_name = common_name(name.as_deref().unwrap_or("outrider"));
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.subject_alt_names = hosts.iter().map(alternative_name).collect::<Result<_, _>>()?;
        }
        Purpose::Device(device) => {
            params.distinguished_name = common_name(&device.to_string());
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
    }
    Ok(params)
}

fn alternative_name(host: &HostName) -> Result<SanType, CertProblem> {
    Ok(match host {
        HostName::Name(name) => SanType::DnsName(name.clone().try_into()?),
        HostName::Address(address) => SanType::IpAddress(IpAddr::clone(address)),
    })
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
