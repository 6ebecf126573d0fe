use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use time::Duration;

use super::testing::{Files, TestAuthority, VERSIONS, client, shake};

const NO_KEY: &str = "holds no private key (a block BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or BEGIN RSA PRIVATE KEY)";
const NO_CERTIFICATE: &str = "holds no certificate (a block BEGIN CERTIFICATE)";
const NO_LIST: &str = "holds no revocation list (a block BEGIN X509 CRL, or the list itself in DER)";
const UNUSABLE: &str = "cannot be used; a complete list of version 2 with a number and a nextUpdate can";

fn block(kind: &str, base64: &str) -> String {
    format!("-----BEGIN {kind}-----\n{base64}\n-----END {kind}-----\n")
}

/// Loads the files of a server with one CA and one list after one of them was changed; paths in messages are names.
fn problem(name: &str, content: impl AsRef<[u8]>) -> (&'static str, String) {
    let ca = TestAuthority::new("ca");
    let list = ca.list(1, Duration::days(1), &[]);
    let files = Files::new(&ca.server()).with_authorities(&[&ca]).with_lists(&[list]);
    files.load().unwrap();
    files.write(name, content);
    let problem = files.load().unwrap_err();
    let folder = format!("{}/", files.path().display());
    (problem.key(), problem.to_string().replace(&folder, ""))
}

#[test]
fn each_wrong_file_is_named_with_what_would_be_right() {
    let (other, server) = (TestAuthority::new("other"), TestAuthority::new("ca").server());
    let (key, list) = (server.key.serialize_pem(), other.list(1, Duration::days(1), &[]));
    let namesake = TestAuthority::new("ca").list(1, Duration::days(1), &[]);
    let pkcs8 = "-----BEGIN PRIVATE KEY-----\nAAAA\n";
    let cases: Vec<(&str, &str, String, String)> = vec![
        ("tls_certificate", "server.pem", String::new(), NO_CERTIFICATE.into()),
        ("tls_certificate", "server.pem", key, NO_CERTIFICATE.into()),
        ("tls_certificate", "server.pem", block("CERTIFICATE", "?"), "is damaged: a block is not Base64".into()),
        (
            "tls_certificate",
            "server.pem",
            block("CERTIFICATE", "MAA="),
            "certificate 1 in it cannot be understood".into(),
        ),
        (
            "tls_certificate",
            "server.pem",
            "-----BEGIN CERTIFICATE--\n".into(),
            "is damaged: a line BEGIN does not end with five hyphens".into(),
        ),
        ("tls_key", "server.key", String::new(), NO_KEY.into()),
        ("tls_key", "server.key", server.pem.clone(), NO_KEY.into()),
        ("tls_key", "server.key", pkcs8.into(), "is damaged: a block has no line END".into()),
        (
            "tls_key",
            "server.key",
            block("ENCRYPTED PRIVATE KEY", "AAAA"),
            "its private key is encrypted; openssl pkey -in FILE -out OTHER_FILE writes one that is not".into(),
        ),
        (
            "tls_key",
            "server.key",
            block("EC PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n\nAAAA"),
            "its private key is encrypted; openssl pkey -in FILE -out OTHER_FILE writes one that is not".into(),
        ),
        (
            "tls_key",
            "server.key",
            block("PRIVATE KEY", "AAAA"),
            "its private key cannot be used; ECDSA with P-256 or P-384, Ed25519, and RSA of 2048 to 4096 bits can"
                .into(),
        ),
        (
            "tls_key",
            "server.key",
            KeyPair::generate().unwrap().serialize_pem(),
            "the key does not belong to the certificate server.pem".into(),
        ),
        ("client_ca", "ca-0.pem", "nothing".into(), NO_CERTIFICATE.into()),
        (
            "client_ca",
            "ca-0.pem",
            format!("{}{}", other.pem, block("CERTIFICATE", "AAAA")),
            "certificate 2 in it cannot be understood".into(),
        ),
        ("client_crl", "crl-0.pem", other.pem.clone(), NO_LIST.into()),
        (
            "client_crl",
            "crl-0.pem",
            format!("{list}{}", block("X509 CRL", "AAAA")),
            format!("revocation list 2 in it {UNUSABLE}"),
        ),
        ("client_crl", "crl-0.pem", "0".into(), format!("revocation list 1 in it {UNUSABLE}")),
        (
            "client_crl",
            "crl-0.pem",
            namesake,
            "the revocation list is of CN=ca, but is not signed with the key of a CA of that name in client_ca".into(),
        ),
        ("client_crl", "crl-0.pem", "-".repeat((1 << 20) + 1), "is larger than 1 MiB".into()),
    ];
    for (key, name, content, text) in cases {
        assert_eq!(problem(name, content), (key, format!("{name}: {text}")));
    }
}

#[test]
fn a_file_that_is_missing_or_no_file_is_named() {
    let ca = TestAuthority::new("ca");
    let mut files = Files::new(&ca.server());
    files.files.key = files.path().join("absent.key");
    let text = files.load().unwrap_err().to_string();
    assert!(text.ends_with("absent.key: cannot be read: No such file or directory (os error 2)"), "{text}");
    files.files.key = files.path().to_owned();
    assert_eq!(files.load().unwrap_err().to_string(), format!("{}: is not a file", files.path().display()));
}

#[test]
fn a_certificate_that_is_not_the_first_of_its_file_is_told_from_a_wrong_one() {
    let ca = TestAuthority::new("ca");
    let server = ca.server();
    let files = Files::new(&server);
    files.write("server.pem", format!("{}{}", ca.pem, server.pem));
    let (text, key) = (files.load().unwrap_err().to_string(), files.files.key.display());
    assert!(
        text.ends_with(&format!(
            "server.pem: the key {key} belongs to certificate 2 in it; that one must be the first"
        )),
        "{text}"
    );
}

#[test]
fn more_cas_than_any_fleet_has_are_refused() {
    let ca = TestAuthority::new("ca");
    let mut files = Files::new(&ca.server());
    let many: String = (0..257).map(|_| TestAuthority::new("many").pem).collect();
    files.files.client_ca = vec![files.write("ca.pem", many)];
    let text = files.load().unwrap_err().to_string();
    assert!(text.ends_with("ca.pem: with it there are more than 256 certificates of CAs"), "{text}");
}

#[test]
fn a_key_in_the_older_form_for_elliptic_curves_is_used() {
    let ca = TestAuthority::new("ca");
    let server = ca.server();
    let files = Files::new(&server);
    // The octet string at the end of PKCS #8 is the older form: 109 bytes with this curve.
    let pkcs8 = server.key.serialize_der();
    let older = PrivateKeyDer::Sec1(pkcs8[pkcs8.len() - 109..].to_vec().into());
    let encoded = base64(older.secret_der());
    files.write(
        "server.key",
        format!("{}{}", block("EC PARAMETERS", "BggqhkjOPQMBBw=="), block("EC PRIVATE KEY", &encoded)),
    );
    let tls = files.load().unwrap();
    for version in VERSIONS {
        shake(&tls.config, &client(&ca.certificate, None, version), "localhost").unwrap();
    }
}

#[test]
fn what_works_but_should_not_stay_so_is_a_warning() {
    let (ca, expired) = (TestAuthority::new("ca"), TestAuthority::expired("expired"));
    let mut params = CertificateParams::default();
    params.not_after = date_time_ymd(2022, 3, 4);
    let server = ca.sign(&params);
    let no_ca = TestAuthority::of({
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "no ca");
        params.not_before = date_time_ymd(4000, 1, 1);
        params
    });
    let lists = [ca.list(1, Duration::days(-1), &[]), TestAuthority::new("absent").list(1, Duration::days(1), &[])];
    let files = Files::new(&server).with_authorities(&[&ca, &expired, &no_ca]).with_lists(&lists);
    std::fs::set_permissions(&files.files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let tls = files.load().unwrap();
    let folder = format!("{}/", files.path().display());
    let warnings: Vec<_> = tls.warnings.iter().map(|warning| warning.replace(&folder, "")).collect();
    let yesterday = (super::testing::now() - Duration::days(1)).date();
    assert_eq!(
        warnings,
        [
            "server.pem: CN=rcgen self signed cert has expired on 2022-03-04; clients that check it refuse to connect",
            "server.pem: names no host (subjectAltName); many clients refuse to connect",
            "server.key: can be read by everybody; chmod 600",
            "ca-1.pem: CN=expired has expired on 2021-02-03; the clients that it has signed are let in nevertheless",
            "ca-2.pem: CN=no ca does not say that it is a CA (CA:TRUE); whoever has its key can make others",
            "ca-2.pem: CN=no ca is valid from 4000-01-01 on; the clock may be wrong",
            &format!("crl-0.pem: the revocation list of CN=ca was to be renewed on {yesterday}; it holds nevertheless"),
            "crl-1.pem: the revocation list is of CN=absent, which is not in client_ca",
        ]
    );
    // And the clients of the CA that has expired are let in, as the warning says.
    let own = expired.client("a");
    assert!(tls.still_admits(&own.chain, rustls::pki_types::UnixTime::now()));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * index) & 63) as usize];
            text.push(if index > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}
