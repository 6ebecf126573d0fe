use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error, HandshakeKind};
use time::Duration;

use super::testing::{Credentials, Files, Refused, TestAuthority, VERSIONS, client, shake};
use super::*;

/// With this server, in both versions: `None` if the client is let in, else why not. `still_admits` has to agree.
fn refusal(tls: &Tls, authority: &TestAuthority, own: &Credentials) -> Option<CertificateError> {
    let [first, second] = VERSIONS.map(|version| {
        match shake(&tls.config, &client(&authority.certificate, Some(own), version), "localhost") {
            Ok(shaken) => {
                assert_eq!(shaken.version, Some(version.version));
                None
            }
            Err(Refused::ByServer(Error::InvalidCertificate(error))) => Some(error),
            Err(other) => panic!("{other:?}"),
        }
    });
    assert_eq!(first, second);
    assert_eq!(tls.still_admits(&own.chain, UnixTime::now()), first.is_none());
    first
}

#[test]
fn without_cas_of_clients_everybody_is_let_in() {
    let ca = TestAuthority::new("ca");
    let tls = Files::new(&ca.server()).load().unwrap();
    assert_eq!(tls.warnings, [""; 0]);
    for version in VERSIONS {
        let shaken = shake(&tls.config, &client(&ca.certificate, None, version), "localhost").unwrap();
        assert_eq!(shaken.version, Some(version.version));
    }
    assert!(tls.still_admits(&[], UnixTime::now()));
    assert!(tls.still_admits(&ca.client("a").chain, UnixTime::now()));
}

#[test]
fn with_cas_of_clients_only_their_clients_are_let_in() {
    let (ca, other) = (TestAuthority::new("ca"), TestAuthority::new("other"));
    let tls = Files::new(&ca.server()).with_authorities(&[&ca]).load().unwrap();
    for version in VERSIONS {
        let refused = shake(&tls.config, &client(&ca.certificate, None, version), "localhost");
        assert!(matches!(refused, Err(Refused::ByServer(Error::NoCertificatesPresented))), "{refused:?}");
    }
    assert!(!tls.still_admits(&[], UnixTime::now()));
    assert_eq!(refusal(&tls, &ca, &ca.client("a")), None);
    assert_eq!(refusal(&tls, &ca, &other.client("a")), Some(CertificateError::UnknownIssuer));
    let namesake = TestAuthority::new("ca");
    assert!(refusal(&tls, &ca, &namesake.client("a")).is_some());
    let expired = refusal(&tls, &ca, &ca.client_for("a", Duration::days(-1)));
    assert!(matches!(expired, Some(CertificateError::ExpiredContext { .. })), "{expired:?}");
    let server = refusal(&tls, &ca, &ca.server());
    assert!(matches!(server, Some(CertificateError::InvalidPurposeContext { .. })), "{server:?}");
}

#[test]
fn where_certificates_are_optional_only_a_wrong_one_is_refused() {
    let (ca, other) = (TestAuthority::new("ca"), TestAuthority::new("other"));
    let files = Files::new(&ca.server()).with_authorities(&[&ca]);
    let tls = super::load(&files.files, ClientCertificates::Optional).unwrap();
    for version in VERSIONS {
        shake(&tls.config, &client(&ca.certificate, None, version), "localhost").unwrap();
    }
    assert!(tls.asks_for_certificates());
    assert_eq!(refusal(&tls, &ca, &ca.client("a")), None);
    assert_eq!(refusal(&tls, &ca, &other.client("a")), Some(CertificateError::UnknownIssuer));
}

#[test]
fn a_revocation_list_of_one_ca_does_not_lock_out_the_clients_of_another() {
    let (first, second) = (TestAuthority::new("first"), TestAuthority::new("second"));
    let (revoked, good, other) = (first.client("revoked"), first.client("good"), second.client("other"));
    let list = first.list(1, Duration::days(1), &[&revoked]);
    let files = Files::new(&first.server()).with_authorities(&[&first, &second]);
    let before = files.load().unwrap();
    assert_eq!(refusal(&before, &first, &revoked), None);
    let tls = files.with_lists(&[list]).load().unwrap();
    assert_eq!(refusal(&tls, &first, &revoked), Some(CertificateError::Revoked));
    assert_eq!(refusal(&tls, &first, &good), None);
    assert_eq!(refusal(&tls, &first, &other), None);
    assert_eq!(tls.warnings, [""; 0]);
}

#[test]
fn a_ca_with_a_new_key_and_its_old_name_is_not_measured_by_the_old_list() {
    let (old, new) = (TestAuthority::new("ca"), TestAuthority::new("ca"));
    let (of_old, of_new, revoked) = (old.client("a"), new.client("b"), new.client("c"));
    let lists = [old.list(2, Duration::days(1), &[]), new.list(1, Duration::days(1), &[&revoked])];
    for lists in [vec![lists[0].clone()], lists.to_vec()] {
        let files = Files::new(&old.server()).with_authorities(&[&old, &new]).with_lists(&lists);
        let tls = files.load().unwrap();
        assert_eq!(refusal(&tls, &old, &of_old), None);
        assert_eq!(refusal(&tls, &old, &of_new), None);
        let expected = (lists.len() == 2).then_some(CertificateError::Revoked);
        assert_eq!(refusal(&tls, &old, &revoked), expected);
    }
}

#[test]
fn no_way_around_a_list_leads_by_an_intermediate_ca_of_the_same_name() {
    let root = TestAuthority::new("root");
    let (first, second) = (root.intermediate("intermediate"), root.intermediate("intermediate"));
    let revoked = second.client("revoked").by_way_of(&second);
    let good = second.client("good").by_way_of(&second);
    let files = Files::new(&root.server()).with_authorities(&[&root, &first, &second]);
    let tls = files.with_lists(&[second.list(1, Duration::days(1), &[&revoked])]).load().unwrap();
    assert_eq!(refusal(&tls, &root, &revoked), Some(CertificateError::Revoked));
    assert_eq!(refusal(&tls, &root, &good), None);
}

#[test]
fn of_two_lists_of_a_ca_the_newer_one_holds() {
    let ca = TestAuthority::new("ca");
    let (first, second) = (ca.client("first"), ca.client("second"));
    let older = ca.list(1, Duration::days(1), &[&first]);
    let newer = ca.list(2, Duration::days(1), &[&first, &second]);
    for lists in [[older.clone(), newer.clone()], [newer, older]] {
        let tls = Files::new(&ca.server()).with_authorities(&[&ca]).with_lists(&lists).load().unwrap();
        assert_eq!(refusal(&tls, &ca, &second), Some(CertificateError::Revoked));
    }
}

#[test]
fn a_list_in_der_and_several_cas_in_a_file_are_understood() {
    let (first, second) = (TestAuthority::new("first"), TestAuthority::new("second"));
    let revoked = second.client("revoked");
    let list = second.list(1, Duration::days(1), &[&revoked]);
    let der = files::lists(list.as_bytes()).unwrap().swap_remove(0);
    let mut files = Files::new(&first.server());
    files.files.client_ca = vec![files.write("all.pem", format!("{}\n{}", first.pem, second.pem))];
    files.files.client_crl = vec![files.write("list.der", &der)];
    let tls = files.load().unwrap();
    assert_eq!(refusal(&tls, &first, &revoked), Some(CertificateError::Revoked));
    assert_eq!(refusal(&tls, &first, &first.client("a")), None);
    assert_eq!(refusal(&tls, &first, &second.client("b")), None);
}

#[test]
fn a_client_that_is_connected_is_measured_by_the_newer_configuration() {
    let (ca, other) = (TestAuthority::new("ca"), TestAuthority::new("other"));
    let own = ca.client("a");
    let load = |authorities: &[&TestAuthority], lists: &[String]| {
        Files::new(&ca.server()).with_authorities(authorities).with_lists(lists).load().unwrap()
    };
    let today = UnixTime::now();
    let in_two_days = UnixTime::since_unix_epoch(std::time::Duration::from_secs(today.as_secs() + 2 * 86_400));
    let lists = [ca.list(1, Duration::days(1), &[&own])];
    for (tls, now, admits) in [
        (load(&[&ca], &[]), today, true),
        (load(&[&ca], &[]), in_two_days, false),
        (load(&[&ca, &other], &lists), today, false),
        (load(&[&other], &[]), today, false),
        (load(&[], &[]), today, true),
    ] {
        assert_eq!(tls.still_admits(&own.chain, now), admits);
    }
    assert!(!load(&[&ca], &[]).still_admits(&[CertificateDer::from(vec![0x30, 0])], today));
}

#[test]
fn sessions_are_resumed_only_where_clients_have_no_certificates() {
    let ca = TestAuthority::new("ca");
    let own = ca.client("a");
    let open = Files::new(&ca.server()).load().unwrap();
    let closed = Files::new(&ca.server()).with_authorities(&[&ca]).load().unwrap();
    assert_eq!(closed.config.send_tls13_tickets, 0);
    for version in VERSIONS {
        for (tls, own, second) in [(&open, None, HandshakeKind::Resumed), (&closed, Some(&own), HandshakeKind::Full)] {
            let client = client(&ca.certificate, own, version);
            let kinds = [(); 2].map(|()| shake(&tls.config, &client, "localhost").unwrap().kind);
            assert_eq!(kinds, [Some(HandshakeKind::Full), Some(second)], "{version:?}");
        }
    }
}

#[test]
fn everything_that_ends_is_listed() {
    let ca = TestAuthority::new("ca");
    let list = ca.list(1, Duration::days(3), &[]);
    let files = Files::new(&ca.server()).with_authorities(&[&ca]).with_lists(&[list]);
    let tls = files.load().unwrap();
    let names: Vec<_> = tls.expiries.iter().map(|expiry| expiry.what.as_str()).collect();
    assert_eq!(names, ["CN=localhost", "CN=ca", "revocation list of CN=ca"]);
    let paths: Vec<_> = tls.expiries.iter().map(|expiry| expiry.file.strip_prefix(files.path()).unwrap()).collect();
    assert_eq!(paths, ["server.pem", "ca-0.pem", "crl-0.pem"].map(Path::new));
    let in_three_days = testing::now().unix_timestamp() + 3 * 86_400;
    assert!((in_three_days - tls.expiries[2].not_after_ms / 1000).abs() < 60);
    // 4096-01-01, what the certificates of the tests have.
    assert_eq!(tls.expiries[0].not_after_ms, 67_090_118_400_000);
}
