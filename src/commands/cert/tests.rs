use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use clap::Parser;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{CertificateError, Error};
use tempfile::TempDir;
use time::Duration;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::*;
use crate::tls::testing::{self, Credentials, Refused, TestAuthority, VERSIONS, client, shake};
use crate::tls::{self, ClientCertificates, Tls, TlsFiles};

#[derive(Debug, Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: CertCommand,
}

fn parse(folder: &Path, command: &str, arguments: &[&str]) -> Result<CertCommand, String> {
    let words = ["outrider", command, folder.to_str().unwrap()].into_iter().chain(arguments.iter().copied());
    CommandLine::try_parse_from(words).map(|line| line.command).map_err(|error| error.to_string())
}

/// What the command prints, in a folder that is called FOLDER.
fn run(folder: &Path, command: &str, arguments: &[&str]) -> Result<String, String> {
    let (mut report, now) = (String::new(), testing::now());
    match parse(folder, command, arguments)? {
        CertCommand::Init(arguments) => init(&arguments, "gate-7", now, &mut report),
        CertCommand::Revoke(arguments) => revoke(&arguments, now, &mut report),
    }
    .map_err(|problem| problem.to_string().replace(folder.to_str().unwrap(), "FOLDER"))?;
    Ok(report.replace(folder.to_str().unwrap(), "FOLDER"))
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn load(folder: &Path, has_list: bool) -> Tls {
    let files = TlsFiles {
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
        client_ca: vec![folder.join("ca.pem")],
        client_crl: has_list.then(|| folder.join("crl.pem")).into_iter().collect(),
    };
    let tls = tls::load(&files, ClientCertificates::Demanded).unwrap();
    assert_eq!(tls.warnings, [""; 0]);
    tls
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

fn credentials(folder: &Path, device: &str) -> Credentials {
    let path = folder.join(format!("devices/{device}"));
    let pem = fs::read_to_string(path.with_extension("pem")).unwrap();
    let chain = vec![certificate(&path.with_extension("pem"))];
    let key = rcgen::KeyPair::from_pem(&fs::read_to_string(path.with_extension("key")).unwrap()).unwrap();
    let serial = rcgen::SerialNumber::from_slice(tls::identity::parsed(&chain[0]).unwrap().raw_serial());
    Credentials { chain, pem, key, serial }
}

/// The serial numbers of the list and its number.
fn listed(folder: &Path) -> (usize, u64) {
    let content = fs::read(folder.join("crl.pem")).unwrap();
    let list = tls::lists(&content).unwrap().swap_remove(0);
    let (_, list) = CertificateRevocationList::from_der(&list).unwrap();
    let number = list.crl_number().unwrap().iter_u64_digits().next().unwrap();
    (list.iter_revoked_certificates().count(), number)
}

#[test]
fn the_arguments_are_consistent() {
    <CommandLine as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn what_init_makes_works_between_a_gateway_and_a_device() {
    let folder = folder();
    let path = folder.path();
    run(path, "init", &["--device", "truck 7"]).unwrap();
    let (tls, ca) = (load(path, false), certificate(&path.join("ca.pem")));
    let own = credentials(path, "truck 7");
    for version in VERSIONS {
        for host in ["localhost", "127.0.0.1", "::1", "gate-7"] {
            shake(&tls.config, &client(&ca, Some(&own), version), host).unwrap();
        }
        let refused = shake(&tls.config, &client(&ca, Some(&own), version), "elsewhere");
        let Err(Refused::ByClient(Error::InvalidCertificate(error))) = refused else { panic!("{refused:?}") };
        assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
    }
    let template = tls::identity::Template::default();
    assert_eq!(template.identity(&own.chain[0]).as_deref(), Ok("truck 7"));
}

#[test]
fn certificates_say_what_they_are_for() {
    let folder = folder();
    let path = folder.path();
    run(path, "init", &["--host", "gate.example", "--host", "10.0.0.7", "--device", "a", "--days", "30"]).unwrap();
    let day = 86_400;
    let now = testing::now().unix_timestamp();
    for (name, days, is_ca) in [("ca", 3650, true), ("server", 30, false), ("devices/a", 30, false)] {
        let der = certificate(&path.join(format!("{name}.pem")));
        let parsed = tls::identity::parsed(&der).unwrap();
        let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        assert!((from - (now - day)).abs() < 60, "{name}");
        assert!((to - (now + days * day)).abs() < 60, "{name}");
        assert_eq!(parsed.is_ca(), is_ca);
        let usage = parsed.key_usage().unwrap().unwrap().value;
        let (signs, revokes, shakes) = (usage.key_cert_sign(), usage.crl_sign(), usage.digital_signature());
        assert_eq!((signs, revokes, shakes), (is_ca, is_ca, !is_ca), "{name}");
        let purposes =
            parsed.extended_key_usage().unwrap().map(|usage| (usage.value.server_auth, usage.value.client_auth));
        assert_eq!(purposes, (!is_ca).then_some((name == "server", name != "server")));
        assert!(parsed.raw_serial().len() >= 8, "{name}");
    }
    let server = certificate(&path.join("server.pem"));
    let names = tls::identity::parsed(&server).unwrap().subject_alternative_name().unwrap().unwrap().value.to_owned();
    let names: Vec<_> = names.general_names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["DNSName(gate.example)", "IPAddress(0a:00:00:07)"]);
}

#[test]
fn keys_can_be_read_by_their_owner_only() {
    let folder = folder();
    run(folder.path(), "init", &["--device", "a"]).unwrap();
    for (name, mode) in [("ca.key", 0o600), ("server.key", 0o600), ("devices/a.key", 0o600)] {
        assert_eq!(fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn init_says_what_it_made_and_how_to_use_it() {
    let folder = folder();
    let until = (testing::now() + Duration::days(825)).date();
    let expected = format!(
        "\
ca.pem: made; the CA, which every device needs to recognise the gateway
ca.key: made; signs certificates. The gateway does not need it: keep it in a safe place
server.pem, server.key: made; the gateway, as gate.example, until {until}
devices/a.pem, devices/a.key: made; for the device a, until {until}

In the configuration of the gateway, whose user must be able to read server.key:
  [[listener]]
  listen = \"0.0.0.0:8883\"
  tls_certificate = \"FOLDER/server.pem\"
  tls_key = \"FOLDER/server.key\"
  client_ca = [\"FOLDER/ca.pem\"]
  [[right]]        # each device on its own topics, and nowhere else
  topic = \"devices/{{cn}}/#\"
  allow = [\"publish\"]

A client:
  mosquitto_pub -h gate.example -p 8883 --cafile FOLDER/ca.pem --cert FOLDER/devices/a.pem --key FOLDER/devices/a.key \
         -q 1 -t devices/a -m '{{\"temperature\":22.5}}'
"
    );
    assert_eq!(run(folder.path(), "init", &["--host", "gate.example", "--device", "a"]).unwrap(), expected);
}

#[test]
fn what_is_there_is_used_and_never_overwritten() {
    let folder = folder();
    let path = folder.path();
    let names = ["ca.pem", "ca.key", "server.pem", "server.key", "devices/a.pem", "devices/a.key"];
    let contents = || names.map(|name| fs::read(path.join(name)).unwrap());
    run(path, "init", &["--device", "a"]).unwrap();
    let before = contents();
    let report = run(path, "init", &["--device", "a", "--device", "b"]).unwrap();
    assert_eq!(contents(), before);
    let lines: Vec<_> = report.lines().take(4).collect();
    assert_eq!(
        lines[..3],
        [
            "ca.pem, ca.key: are there, and sign what is made",
            "server.pem, server.key: are there and stay as they are; remove both to have others made",
            "devices/a.pem, devices/a.key: are there and stay as they are",
        ]
    );
    assert!(lines[3].starts_with("devices/b.pem, devices/b.key: made;"), "{report}");
    assert!(load(path, false).still_admits(&credentials(path, "b").chain, UnixTime::now()));
}

#[test]
fn a_certificate_does_not_outlive_its_ca() {
    let folder = folder();
    let path = folder.path();
    run(path, "init", &[]).unwrap();
    let almost = testing::now() + Duration::days(3640);
    let init_at = |now, device: &str| {
        let Ok(CertCommand::Init(arguments)) = parse(path, "init", &["--device", device]) else { panic!("init") };
        init(&arguments, "", now, &mut String::new()).map_err(|problem| problem.to_string())
    };
    init_at(almost, "a").unwrap();
    let ca = tls::identity::not_after_ms(&certificate(&path.join("ca.pem")));
    assert_eq!(tls::identity::not_after_ms(&certificate(&path.join("devices/a.pem"))), ca);
    let problem = init_at(almost + Duration::days(20), "b").unwrap_err();
    assert!(problem.ends_with("ca.pem: has expired; make a new CA in another folder"), "{problem}");
    assert!(!path.join("devices/b.key").exists());
}

#[test]
fn a_revoked_device_is_refused_and_stays_so() {
    let folder = folder();
    let path = folder.path();
    run(path, "init", &["--device", "a", "--device", "b", "--device", "c"]).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|device| credentials(path, device));
    let ca = certificate(&path.join("ca.pem"));
    let admitted = |tls: &Tls| {
        [&a, &b, &c].map(|own| match shake(&tls.config, &client(&ca, Some(own), VERSIONS[1]), "localhost") {
            Ok(_) => true,
            Err(Refused::ByServer(Error::InvalidCertificate(CertificateError::Revoked))) => false,
            Err(other) => panic!("{other:?}"),
        })
    };
    let report = run(path, "revoke", &["a"]).unwrap();
    let renewal = (testing::now() + Duration::days(365)).date();
    let expected = format!(
        "\
devices/a.pem: revoked; remove it and its key before another one is made
crl.pem: written; 1 certificate is revoked. The gateway warns if it is not renewed until {renewal}

In the configuration of the gateway, beside client_ca:
  client_crl = [\"FOLDER/crl.pem\"]
"
    );
    assert_eq!(report, expected);
    assert_eq!((listed(path), admitted(&load(path, true))), ((1, 1), [false, true, true]));
    let report = run(path, "revoke", &["a", "b"]).unwrap();
    assert!(report.starts_with("devices/a.pem: is revoked already\ndevices/b.pem: revoked;"), "{report}");
    assert_eq!((listed(path), admitted(&load(path, true))), ((2, 2), [false, false, true]));
    let report = run(path, "init", &["--device", "c"]).unwrap();
    assert!(report.contains("\n  client_crl = [\"FOLDER/crl.pem\"]\n"), "{report}");
    run(path, "revoke", &[]).unwrap();
    assert_eq!((listed(path), admitted(&load(path, true))), ((2, 3), [false, false, true]));
    assert!(!path.join("crl.pem.new").exists());
}

#[test]
fn a_list_is_not_replaced_unless_all_is_well() {
    let folder = folder();
    let path = folder.path();
    run(path, "init", &["--device", "a"]).unwrap();
    let revoke = |devices: &[&str]| run(path, "revoke", devices).unwrap_err();
    let stranger = TestAuthority::new("other");
    fs::write(path.join("devices/b.pem"), stranger.client("b").pem).unwrap();
    assert_eq!(
        revoke(&["a", "b"]),
        "FOLDER/devices/b.pem is not a certificate of the CA in ca.pem, which alone can revoke it"
    );
    assert!(revoke(&["c"]).starts_with("FOLDER/devices/c.pem: cannot be read: "));
    assert!(!path.join("crl.pem").exists() && !path.join("crl.pem.new").exists());
    fs::write(path.join("crl.pem"), stranger.list(1, Duration::days(1), &[])).unwrap();
    assert!(revoke(&["a"]).starts_with("FOLDER/crl.pem is not a revocation list of the CA in ca.pem"));
    fs::write(path.join("crl.pem.new"), "").unwrap();
    assert!(revoke(&["a"]).starts_with("FOLDER/crl.pem.new is there: another revocation is under way"));
    assert!(path.join("crl.pem.new").exists());
}

#[test]
fn a_ca_that_cannot_be_used_is_named() {
    let folder = folder();
    let path = folder.path();
    assert_eq!(
        run(path, "revoke", &["a"]).unwrap_err(),
        "FOLDER has no ca.pem and ca.key; outrider cert init makes them"
    );
    let (ca, other) = (TestAuthority::new("ca"), TestAuthority::new("other"));
    let no_ca = ca.client("a");
    let key = |authority: &TestAuthority| authority.issuer.key().serialize_pem();
    for (certificate, key, problem) in [
        (
            Some(&ca.pem),
            None,
            "ca.pem is there without ca.key: put that one back, or remove ca.pem to have both made anew",
        ),
        (
            None,
            Some(key(&ca)),
            "ca.key is there without ca.pem: put that one back, or remove ca.key to have both made anew",
        ),
        (Some(&ca.pem), Some(key(&other)), "FOLDER/ca.key: does not belong to ca.pem"),
        (Some(&ca.pem), Some(ca.pem.clone()), "FOLDER/ca.key: holds no key in PKCS #8 (a block BEGIN PRIVATE KEY)"),
        (Some(&no_ca.pem), Some(key(&ca)), "FOLDER/ca.pem: is not the certificate of a CA (CA:TRUE)"),
        (Some(&key(&ca)), Some(key(&ca)), "FOLDER/ca.pem: holds no certificate (a block BEGIN CERTIFICATE)"),
    ] {
        for (name, content) in [("ca.pem", certificate.cloned()), ("ca.key", key)] {
            let _ = fs::remove_file(path.join(name));
            if let Some(content) = content {
                fs::write(path.join(name), content).unwrap();
            }
        }
        assert_eq!(run(path, "init", &[]).unwrap_err(), problem);
    }
}

#[test]
fn a_ca_of_ones_own_is_used() {
    let folder = folder();
    let path = folder.path();
    let ca = TestAuthority::new("Fleet");
    fs::write(path.join("ca.pem"), &ca.pem).unwrap();
    fs::write(path.join("ca.key"), ca.issuer.key().serialize_pem()).unwrap();
    run(path, "init", &["--device", "a"]).unwrap();
    run(path, "revoke", &["a"]).unwrap();
    assert!(load(path, false).still_admits(&credentials(path, "a").chain, UnixTime::now()));
    assert!(!load(path, true).still_admits(&credentials(path, "a").chain, UnixTime::now()));
    let config = Arc::clone(&load(path, false).config);
    shake(&config, &client(&ca.certificate, Some(&ca.client("b")), VERSIONS[0]), "localhost").unwrap();
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    let folder = folder();
    for name in ["", ".", "..", "a/b", "../a", "a\\b", "+", "#", "a\nb", &"a".repeat(65)] {
        assert!(parse(folder.path(), "init", &[&format!("--device={name}")]).is_err(), "{name:?}");
        assert!(parse(folder.path(), "revoke", &["--", name]).is_err(), "{name:?}");
    }
    for host in ["", "a b", "a/b", "300.1.1.1.", "-a", "*"] {
        assert!(parse(folder.path(), "init", &[&format!("--host={host}")]).is_err(), "{host:?}");
    }
    for host in ["a", "gate.example", "*.example", "10.0.0.1", "fe80::1"] {
        assert!(parse(folder.path(), "init", &["--host", host]).is_ok(), "{host:?}");
    }
    assert!(parse(folder.path(), "init", &["--days", "0"]).is_err());
}

#[test]
fn paths_are_printed_so_that_they_can_be_pasted() {
    for (path, toml, word) in [
        ("/a/b.pem", "\"/a/b.pem\"", "/a/b.pem"),
        ("/a b", "\"/a b\"", "'/a b'"),
        ("/a\\b", "'/a\\b'", "'/a\\b'"),
        ("/it's", "\"/it's\"", r"'/it'\''s'"),
        ("/$HOME", "\"/$HOME\"", "'/$HOME'"),
    ] {
        assert_eq!((toml_text(Path::new(path)).as_str(), shell_word(Path::new(path)).as_str()), (toml, word));
    }
}
