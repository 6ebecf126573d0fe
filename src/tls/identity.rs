//! Who a client is, by what its certificate says.
//!
//! The name becomes a level of topics and of rules about topics, so nothing that has a meaning there may come in with a certificate: a
//! client called `+` would otherwise be given what belongs to all others.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// Longest name of a client.
pub const IDENTITY_BYTES_MAX: usize = 128;
/// Longest name that is shown to people.
const SHOWN_CHARACTERS_MAX: usize = 160;
const PLACEHOLDERS: &str = "there are {cn}, {san_dns}, {san_uri}, {san_email} and {serial}";

/// How the name of a client is made of its certificate, such as `{cn}` or `truck-{serial}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Value(Kind),
}

/// A value of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The common name of the subject, which must be the only one: which of several is the most specific, tools disagree about.
    CommonName,
    /// The first DNS name among the alternative names.
    SanDns,
    /// The first URI among the alternative names.
    SanUri,
    /// The first e-mail address among the alternative names.
    SanEmail,
    /// The serial number in hexadecimal, two lower-case digits for each byte.
    Serial,
}

/// What is wrong with the text of a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It names something that no certificate has.
    #[error("{{{0}}} is none of its placeholders: {PLACEHOLDERS}")]
    Unknown(String),
    /// A brace stands alone.
    #[error("a brace has no other one: {PLACEHOLDERS}")]
    Brace,
    /// It would be the same text for everybody.
    #[error("all clients would have the same name: {PLACEHOLDERS}")]
    NoPlaceholder,
    /// Its own text has a character that means something in topics.
    #[error("{0:?} cannot be in the name of a client: +, #, / and control characters mean something in topics")]
    Forbidden(char),
    /// Its own text alone is too long.
    #[error("longer than {IDENTITY_BYTES_MAX} bytes")]
    TooLong,
}

/// Why a certificate does not give a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityProblem {
    /// It is not a certificate, or its alternative names are damaged.
    #[error("it cannot be understood")]
    Malformed,
    /// It has no such value.
    #[error("it has no {0}")]
    Missing(Kind),
    /// The value is there and empty.
    #[error("its {0} is empty")]
    Empty(Kind),
    /// It has several common names.
    #[error("it has several common names that differ; one is expected")]
    Ambiguous,
    /// The value is in none of the usual encodings.
    #[error("its {0} is not text in UTF-8 or ASCII")]
    NotText(Kind),
    /// The value has a character that means something in topics.
    #[error("its {kind} has {character:?}: +, #, / and control characters mean something in topics")]
    Forbidden {
        /// Which value it is.
        kind: Kind,
        /// The first of them.
        character: char,
    },
    /// The name would be too long.
    #[error("the name of the client would be longer than {IDENTITY_BYTES_MAX} bytes")]
    TooLong,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Kind::CommonName => "common name (CN)",
            Kind::SanDns => "DNS name (subjectAltName)",
            Kind::SanUri => "URI (subjectAltName)",
            Kind::SanEmail => "e-mail address (subjectAltName)",
            Kind::Serial => "serial number",
        })
    }
}

impl Default for Template {
    fn default() -> Self {
        Template { parts: vec![Part::Value(Kind::CommonName)] }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (literal, placeholder) = rest.split_at(at);
            parts.push(Part::Literal(literal.to_owned()));
            let (name, after) =
                placeholder.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or(TemplateError::Brace)?;
            parts.push(Part::Value(kind(name)?));
            rest = after;
        }
        if parts.is_empty() {
            return Err(TemplateError::NoPlaceholder);
        }
        parts.push(Part::Literal(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Literal(literal) if literal.is_empty()));
        check_literals(&parts)?;
        Ok(Template { parts })
    }
}

impl Template {
    /// The name of the client that has shown this certificate.
    pub fn identity(&self, certificate: &CertificateDer<'_>) -> Result<String, IdentityProblem> {
        let certificate = parsed(certificate).ok_or(IdentityProblem::Malformed)?;
        let mut identity = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => identity.push_str(literal),
                Part::Value(kind) => identity.push_str(&checked_value(&certificate, *kind)?),
            }
            if identity.len() > IDENTITY_BYTES_MAX {
                return Err(IdentityProblem::TooLong);
            }
        }
        Ok(identity)
    }
}

/// The first character that a name of a client cannot have.
pub fn forbidden_character(name: &str) -> Option<char> {
    name.chars().find(|character| matches!(character, '+' | '#' | '/') || character.is_control())
}

/// When a certificate expires, in milliseconds since 1970.
pub fn not_after_ms(certificate: &CertificateDer<'_>) -> Option<i64> {
    Some(parsed(certificate)?.validity().not_after.timestamp().saturating_mul(1000))
}

/// What a certificate is called, for people.
pub fn subject(certificate: &CertificateDer<'_>) -> String {
    match parsed(certificate) {
        Some(certificate) if certificate.subject().iter_attributes().next().is_some() => shown(certificate.subject()),
        Some(certificate) => format!("a certificate without a subject, serial {}", serial(&certificate)),
        None => "a certificate that cannot be understood".to_owned(),
    }
}

/// A name for people: whoever made the certificate cannot break lines with it.
pub(crate) fn shown(name: &X509Name<'_>) -> String {
    let replace = |character: char| if character.is_control() { '?' } else { character };
    name.to_string().chars().map(replace).take(SHOWN_CHARACTERS_MAX).collect()
}

/// A certificate with nothing behind it.
pub(crate) fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(certificate).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, certificate)| certificate)
}

fn kind(name: &str) -> Result<Kind, TemplateError> {
    Ok(match name {
        "cn" => Kind::CommonName,
        "san_dns" => Kind::SanDns,
        "san_uri" => Kind::SanUri,
        "san_email" => Kind::SanEmail,
        "serial" => Kind::Serial,
        _ => return Err(TemplateError::Unknown(name.to_owned())),
    })
}

fn check_literals(parts: &[Part]) -> Result<(), TemplateError> {
    let mut length = 0;
    for part in parts {
        let Part::Literal(literal) = part else { continue };
        if let Some(character) = forbidden_character(literal) {
            return Err(TemplateError::Forbidden(character));
        }
        length += literal.len();
    }
    if length < IDENTITY_BYTES_MAX { Ok(()) } else { Err(TemplateError::TooLong) }
}

fn checked_value(certificate: &X509Certificate<'_>, kind: Kind) -> Result<String, IdentityProblem> {
    let value = match kind {
        Kind::CommonName => common_name(certificate)?.to_owned(),
        Kind::Serial => serial(certificate),
        Kind::SanDns | Kind::SanUri | Kind::SanEmail => alternative_name(certificate, kind)?.to_owned(),
    };
    if value.is_empty() {
        return Err(IdentityProblem::Empty(kind));
    }
    match forbidden_character(&value) {
        Some(character) => Err(IdentityProblem::Forbidden { kind, character }),
        None => Ok(value),
    }
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, IdentityProblem> {
    let mut names = certificate.subject().iter_common_name();
    let first = names.next().ok_or(IdentityProblem::Missing(Kind::CommonName))?;
    if names.any(|other| other.as_slice() != first.as_slice()) {
        return Err(IdentityProblem::Ambiguous);
    }
    first.as_str().map_err(|_| IdentityProblem::NotText(Kind::CommonName))
}

fn alternative_name<'a>(certificate: &'a X509Certificate<'_>, kind: Kind) -> Result<&'a str, IdentityProblem> {
    let extension = certificate.subject_alternative_name().map_err(|_| IdentityProblem::Malformed)?;
    let names = extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let first = names.iter().find_map(|name| match (kind, name) {
        (Kind::SanDns, GeneralName::DNSName(text))
        | (Kind::SanUri, GeneralName::URI(text))
        | (Kind::SanEmail, GeneralName::RFC822Name(text)) => Some(Ok(*text)),
        // The first one counts, also if it cannot be read: the next may be somebody else's.
        (_, GeneralName::Invalid(tag, _)) if Some(tag.0) == tag_of(kind) => Some(Err(IdentityProblem::NotText(kind))),
        _ => None,
    });
    first.unwrap_or(Err(IdentityProblem::Missing(kind)))
}

/// The tag of a GeneralName, RFC 5280, 4.2.1.6.
fn tag_of(kind: Kind) -> Option<u32> {
    match kind {
        Kind::SanEmail => Some(1),
        Kind::SanDns => Some(2),
        Kind::SanUri => Some(6),
        Kind::CommonName | Kind::Serial => None,
    }
}

fn serial(certificate: &X509Certificate<'_>) -> String {
    let bytes = certificate.raw_serial();
    // A zero in front only says that the number is not negative.
    let digits = match bytes {
        [0, rest @ ..] if !rest.is_empty() => rest,
        _ => bytes,
    };
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "identity_tests.rs"]
mod tests;
