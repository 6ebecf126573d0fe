use rcgen::string::BmpString;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, KeyPair, SanType, SerialNumber};

use super::*;

const CN: &[u64] = &[2, 5, 4, 3];

fn certificate(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

fn called(name: impl Into<DnValue>) -> CertificateDer<'static> {
    certificate(|params| params.distinguished_name.push(DnType::CommonName, name))
}

/// A certificate with two common names.
fn called_twice(first: &str, second: &str) -> CertificateDer<'static> {
    certificate(|params| {
        params.distinguished_name.push(DnType::CommonName, first);
        params.distinguished_name.push(DnType::CustomDnType(CN.to_vec()), second);
    })
}

fn with_alternatives(names: Vec<SanType>) -> CertificateDer<'static> {
    certificate(|params| params.subject_alt_names = names)
}

fn identity(template: &str, certificate: &CertificateDer<'_>) -> Result<String, IdentityProblem> {
    template.parse::<Template>().unwrap().identity(certificate)
}

#[test]
fn each_placeholder_is_filled_in_with_the_first_value_of_its_kind() {
    let name = |text: &str| text.try_into().unwrap();
    let certificate = certificate(|params| {
        params.serial_number = Some(SerialNumber::from_slice(&[0x9a, 0x00, 0x0f]));
        params.distinguished_name.push(DnType::OrganizationName, "Trucks");
        params.distinguished_name.push(DnType::CommonName, "tr\u{fc}ck 7");
        params.subject_alt_names = vec![
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::DnsName(name("seven.example")),
            SanType::DnsName(name("other.example")),
            SanType::Rfc822Name(name("seven@example")),
            SanType::URI(name("urn:dev:7")),
        ];
    });
    for (template, expected) in [
        ("{cn}", "tr\u{fc}ck 7"),
        ("{san_dns}", "seven.example"),
        ("{san_uri}", "urn:dev:7"),
        ("{san_email}", "seven@example"),
        ("{serial}", "9a000f"),
        ("truck-{cn}", "truck-tr\u{fc}ck 7"),
        ("{serial}.{cn}!", "9a000f.tr\u{fc}ck 7!"),
    ] {
        assert_eq!(identity(template, &certificate).as_deref(), Ok(expected), "{template}");
    }
    assert_eq!(Template::default(), "{cn}".parse().unwrap());
    assert_eq!(subject(&certificate), "O=Trucks, CN=tr\u{fc}ck 7");
    // 4096-01-01
    assert_eq!(not_after_ms(&certificate), Some(67_090_118_400_000));
}

#[test]
fn a_wrong_template_is_refused_with_what_is_possible() {
    let forbidden = |character: char| TemplateError::Forbidden(character);
    for (text, expected) in [
        ("", TemplateError::NoPlaceholder),
        ("truck", TemplateError::NoPlaceholder),
        ("{cn", TemplateError::Brace),
        ("cn}", TemplateError::Brace),
        ("{cn}}", TemplateError::Brace),
        ("{}", TemplateError::Unknown(String::new())),
        ("{CN}", TemplateError::Unknown("CN".to_owned())),
        ("{{cn}", TemplateError::Unknown("{cn".to_owned())),
        ("a/{cn}", forbidden('/')),
        ("{cn}#", forbidden('#')),
        ("+{cn}", forbidden('+')),
        ("{cn}\n", forbidden('\n')),
        (&format!("{}{{cn}}", "a".repeat(128)), TemplateError::TooLong),
    ] {
        assert_eq!(text.parse::<Template>(), Err(expected), "{text:?}");
    }
    let text = "{CN}".parse::<Template>().unwrap_err().to_string();
    assert_eq!(
        text,
        "{CN} is none of its placeholders: there are {cn}, {san_dns}, {san_uri}, {san_email} and {serial}"
    );
}

#[test]
fn nothing_that_means_something_in_topics_comes_in_with_a_certificate() {
    for (name, character) in [
        ("+", '+'),
        ("#", '#'),
        ("a/b", '/'),
        ("a\0", '\0'),
        ("a\nb", '\n'),
        ("\u{7f}", '\u{7f}'),
        ("a\u{85}", '\u{85}'),
    ] {
        let expected = IdentityProblem::Forbidden { kind: Kind::CommonName, character };
        assert_eq!(identity("{cn}", &called(name)), Err(expected), "{name:?}");
    }
    let uri = with_alternatives(vec![SanType::URI("spiffe://a".try_into().unwrap())]);
    let problem = identity("{san_uri}", &uri).unwrap_err();
    assert_eq!(
        problem.to_string(),
        "its URI (subjectAltName) has '/': +, #, / and control characters mean something in topics"
    );
}

#[test]
fn a_certificate_without_the_one_value_that_is_asked_for_gives_no_name() {
    let bmp = DnValue::BmpString(BmpString::try_from("a").unwrap());
    let long = "a".repeat(129);
    // A DNS name that is not ASCII before one that is.
    let damaged = certificate(|params| {
        let names = vec![0x30, 0x06, 0x82, 0x01, 0xff, 0x82, 0x01, b'b'];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], names)];
    });
    for (template, certificate, expected) in [
        ("{cn}", certificate(|_| {}), IdentityProblem::Missing(Kind::CommonName)),
        ("{san_dns}", called("a"), IdentityProblem::Missing(Kind::SanDns)),
        ("{cn}", called(""), IdentityProblem::Empty(Kind::CommonName)),
        ("{cn}", called_twice("a", "b"), IdentityProblem::Ambiguous),
        ("{cn}", called(bmp), IdentityProblem::NotText(Kind::CommonName)),
        ("{san_dns}", damaged, IdentityProblem::NotText(Kind::SanDns)),
        ("{cn}", called(long.as_str()), IdentityProblem::TooLong),
        ("a{cn}", called(&long[1..]), IdentityProblem::TooLong),
        ("{cn}", CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01]), IdentityProblem::Malformed),
    ] {
        assert_eq!(identity(template, &certificate), Err(expected));
    }
    assert_eq!(identity("{cn}", &called_twice("a", "a")).as_deref(), Ok("a"));
    assert_eq!(identity("{cn}", &called(&long[1..])).as_deref(), Ok(&long[1..]));
}

#[test]
fn people_are_shown_one_line() {
    assert_eq!(subject(&called("a\nb")), "CN=a?b");
    let unnamed = certificate(|params| params.serial_number = Some(SerialNumber::from_slice(&[0x7f])));
    assert_eq!(subject(&unnamed), "a certificate without a subject, serial 7f");
    assert_eq!(subject(&called("a".repeat(400))).chars().count(), SHOWN_CHARACTERS_MAX);
    let damaged = CertificateDer::from(vec![0]);
    assert_eq!((subject(&damaged).as_str(), not_after_ms(&damaged)), ("a certificate that cannot be understood", None));
}
