//! The list of revoked certificates: one more of it each time, with all that was in the one before.

use rcgen::{CertificateRevocationListParams, RevocationReason, RevokedCertParams, SerialNumber};
use time::OffsetDateTime;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::{CertificateRevocationList, RevokedCertificate};

use super::CertProblem;
use super::authority::Authority;
use super::folder::Folder;
use super::names::DeviceName;
use crate::tls;
use crate::tls::identity;

const LIST: &str = "crl.pem";

/// What a revocation has changed.
pub(super) struct Outcome {
    /// For each device whether its certificate was not revoked before.
    pub is_new: Vec<bool>,
    /// How many certificates are revoked in all.
    pub revoked: usize,
}

/// Writes the list anew, with these devices in it. The times are when it is made, and when it is to be renewed.
pub(super) fn revoke(
    folder: &Folder,
    authority: &Authority,
    devices: &[DeviceName],
    (now, renewal): (OffsetDateTime, OffsetDateTime),
) -> Result<Outcome, CertProblem> {
    let replacement = folder.replacement(LIST)?;
    let Entries { number, mut revoked } = entries(folder, authority)?;
    let mut is_new = Vec::new();
    for device in devices {
        let serial = serial_of(folder, authority, device)?;
        let is_known = revoked.iter().any(|entry| entry.serial_number == serial);
        if !is_known {
            revoked.push(RevokedCertParams {
                serial_number: serial,
                revocation_time: now,
                reason_code: None,
                invalidity_date: None,
            });
        }
        is_new.push(!is_known);
    }
    let count = revoked.len();
    let list = CertificateRevocationListParams {
        this_update: now,
        next_update: renewal,
        crl_number: number,
        issuing_distribution_point: None,
        revoked_certs: revoked,
        key_identifier_method: authority.key_identifier(),
    };
    let list = list.signed_by(authority.issuer())?;
    replacement.write(list.pem()?.as_bytes())?;
    Ok(Outcome { is_new, revoked: count })
}

/// What the next list begins with.
struct Entries {
    number: SerialNumber,
    revoked: Vec<RevokedCertParams>,
}

fn entries(folder: &Folder, authority: &Authority) -> Result<Entries, CertProblem> {
    if !folder.has(LIST) {
        return Ok(Entries { number: SerialNumber::from(1), revoked: Vec::new() });
    }
    let content = folder.read(LIST)?;
    let lists = tls::lists(&content).map_err(|problem| CertProblem::Read { path: folder.path(LIST), problem })?;
    let foreign = || CertProblem::ForeignList(folder.path(LIST));
    let [list] = lists.as_slice() else { return Err(foreign()) };
    let (_, list) = CertificateRevocationList::from_der(list).map_err(|_| foreign())?;
    let own = authority.parsed();
    let is_own = list.issuer().as_raw() == own.subject().as_raw() && list.verify_signature(own.public_key()).is_ok();
    if !is_own {
        return Err(foreign());
    }
    let number = list.crl_number().map_or_else(|| vec![1], |number| (number + 1u8).to_bytes_be());
    let revoked = list.iter_revoked_certificates().map(kept).collect();
    Ok(Entries { number: SerialNumber::from_slice(&number), revoked })
}

fn kept(entry: &RevokedCertificate<'_>) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: serial(entry.raw_serial()),
        revocation_time: entry.revocation_date.to_datetime(),
        reason_code: entry.reason_code().and_then(|(_, code)| reason(code.0)),
        invalidity_date: entry.invalidity_date().map(|(_, date)| date.to_datetime()),
    }
}

fn reason(code: u8) -> Option<RevocationReason> {
    Some(match code {
        1 => RevocationReason::KeyCompromise,
        2 => RevocationReason::CaCompromise,
        3 => RevocationReason::AffiliationChanged,
        4 => RevocationReason::Superseded,
        5 => RevocationReason::CessationOfOperation,
        6 => RevocationReason::CertificateHold,
        8 => RevocationReason::RemoveFromCrl,
        9 => RevocationReason::PrivilegeWithdrawn,
        10 => RevocationReason::AaCompromise,
        _ => return None,
    })
}

fn serial_of(folder: &Folder, authority: &Authority, device: &DeviceName) -> Result<SerialNumber, CertProblem> {
    let name = format!("devices/{device}.pem");
    let path = folder.path(&name);
    let certificates =
        tls::certificates(&folder.read(&name)?).map_err(|problem| CertProblem::Read { path: path.clone(), problem })?;
    let own = certificates.first().and_then(|own| identity::parsed(own)).filter(|own| authority.is_issuer_of(own));
    own.map(|own| serial(own.raw_serial())).ok_or(CertProblem::Stranger(path))
}

/// Without the zeros in front, which only say that a number is not negative: so equal ones are equal.
fn serial(bytes: &[u8]) -> SerialNumber {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    SerialNumber::from_slice(&bytes[zeros.min(bytes.len().saturating_sub(1))..])
}
