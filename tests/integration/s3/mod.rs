//! Delivery to a bucket, on servers that others wrote, with a proxy between that does wrong on purpose: each record is in the objects once.

mod credentials;
mod faulty;
mod lake;
mod parquet;
pub mod servers;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::gateway::wait_until;
use crate::kinesis::cloud;
use crate::kinesis::fleet::Fleet;
use credentials::Endpoint;
use faulty::{Fault, header};
use lake::{Lake, SOON};
use servers::{BUCKET, Kind};

const KINDS: [Kind; 2] = [Kind::Gofakes3, Kind::Ministack];

#[test]
fn each_record_is_in_the_objects_once_whatever_happens_to_uploads() {
    uploads_fail_in_every_way(Kind::Gofakes3, "compression = \"zstd\"");
}

#[test]
fn each_record_is_in_the_objects_once_on_another_server() {
    uploads_fail_in_every_way(Kind::Ministack, "compression = \"gzip\"");
}

fn uploads_fail_in_every_way(kind: Kind, format: &str) {
    let mut lake = Lake::start(kind, &format!("{SOON}\n{format}"));
    let faults = [
        Fault::Reset,
        Fault::ReplyLost,
        Fault::Answer(503, "SlowDown"),
        Fault::CutUpload,
        Fault::Slow,
        Fault::Answer(500, "InternalError"),
        Fault::Answer(409, "ConditionalRequestConflict"),
        Fault::Answer(412, "PreconditionFailed"),
        Fault::Answer(400, "BadDigest"),
        Fault::Answer(400, "ExpiredToken"),
        Fault::ReplyLost,
    ];
    lake.proxy.next(&faults);
    let is_left = |lake: &Lake| lake.proxy.struck() < faults.len() as u64;
    while is_left(&lake) {
        lake.publish(10);
        wait_until("an upload", || lake.is_delivered() || !is_left(&lake));
    }
    lake.publish(10);
    let objects = lake.expect_all();
    assert!(objects > 1, "{kind:?}");
    let log = std::fs::read_to_string(&lake.gateway().log).unwrap();
    assert!(!log.contains("ERROR") && !log.contains("halted"), "{log}");
}

/// The process ends when the object is stored and nobody knows; then more records of that run follow, and files of the next process have
/// another format.
#[test]
fn a_kill_between_upload_and_cursor_repeats_nothing() {
    for (kind, keys) in KINDS.into_iter().zip(["", "compression = \"gzip\"\n"]) {
        let mut lake = Lake::start(kind, SOON);
        lake.proxy.next(&[Fault::ReplyHeld]);
        lake.publish(30);
        wait_until("an upload that nobody knows of", || lake.proxy.stored() == 1);
        lake.publish(20);
        lake.kill_and_restart_with(keys);
        lake.publish(10);
        lake.expect_all();
        let log = std::fs::read_to_string(&lake.gateway().log).unwrap();
        assert!(log.contains("an earlier process has stored this object"), "{kind:?}: {log}");
        let names = lake.server.keys("fleet/raw/");
        assert_eq!(names.iter().any(|name| name.ends_with(".gz")), !keys.is_empty(), "{names:?}");
    }
}

/// Half of the body is with the server when the gateway is killed, and it gets no more of it.
#[test]
fn a_kill_in_the_middle_of_an_upload_loses_nothing() {
    let mut lake = Lake::start(Kind::Gofakes3, SOON);
    for held in 1..=2 {
        lake.proxy.next(&[Fault::HalfHeld]);
        lake.publish(20);
        wait_until("half of an upload", || lake.proxy.held() == held);
        lake.kill_and_restart_with(if held == 1 { "compression = \"gzip\"\n" } else { "" });
    }
    lake.publish(10);
    lake.expect_all();
}

/// Whatever answered, it may have stored the object.
#[test]
fn an_answer_without_an_etag_is_named_and_repeats_nothing() {
    let mut lake = Lake::start(Kind::Gofakes3, SOON);
    lake.proxy.next(&[Fault::NoEtag]);
    lake.publish(10);
    lake.expect_error("is no server of objects: it says HTTP status 200 and names no ETag");
    assert_eq!(lake.proxy.stored(), 1);
    lake.publish(10);
    lake.expect_all();
}

/// The control: where an attempt has a name of its own, a lost reply is a record stored twice, and the comparison above finds it.
#[test]
fn names_that_differ_between_attempts_are_found_out() {
    let mut lake = Lake::start(Kind::Gofakes3, SOON);
    lake.proxy.rename_attempts();
    lake.proxy.next(&[Fault::ReplyLost]);
    lake.publish(10);
    wait_until("everything is delivered", || lake.is_delivered());
    let found = lake.found("raw");
    assert!(found.repeats >= lake.published(), "{} of {}", found.repeats, lake.published());
}

#[test]
fn what_is_open_is_sent_when_the_process_ends() {
    let mut lake = Lake::start(Kind::Gofakes3, "");
    lake.publish(10);
    assert!(lake.server.keys("").is_empty(), "nothing is due for a quarter of an hour");
    lake.stop();
    let found = lake.found("raw");
    assert_eq!((found.distinct(), found.repeats), (lake.published(), 0));
}

#[test]
fn an_upload_that_hangs_does_not_keep_the_process_from_ending() {
    let mut lake = Lake::start_with_grace("1s", &format!("timeout = \"60s\"\n{SOON}"));
    lake.proxy.next(&[Fault::ReplyHeld]);
    lake.publish(5);
    wait_until("an upload that nobody knows of", || lake.proxy.stored() == 1);
    lake.stop();
    lake.restart();
    lake.publish(5);
    lake.expect_all();
}

#[test]
fn what_somebody_has_to_mend_is_named_and_nothing_is_lost() {
    let mut lake = Lake::start_in("not-there", Kind::Ministack, &format!("{SOON}\nraw = \"raw\""));
    lake.proxy.next(&[Fault::Answer(403, "AccessDenied")]);
    lake.publish(10);
    lake.expect_error("have to allow s3:PutObject");
    lake.expect_error("there is no bucket \"not-there\"");
    assert_eq!(lake.gateway().status()["state"], "sink_failing");
    lake.server.create("not-there");
    lake.expect_all_of_raw();
    assert_eq!(lake.sink("raw")["last_error"], serde_json::Value::Null);
}

#[test]
fn a_bucket_in_another_region_is_named() {
    let mut lake = Lake::start(Kind::Ministack, &format!("region = \"eu-central-1\"\n{SOON}"));
    lake.publish(1);
    lake.expect_error(
        "the bucket \"fleet\" is in the region us-east-1, not in eu-central-1; set region = \"us-east-1\"",
    );
}

#[test]
fn a_wrong_clock_of_ours_is_no_obstacle() {
    let mut lake = Lake::start(Kind::Gofakes3, SOON);
    lake.proxy.next(&[Fault::Skewed]);
    lake.publish(10);
    lake.expect_all();
    let heads = lake.proxy.heads();
    let puts = heads.iter().filter(|head| head.starts_with("PUT ") && head.contains("/raw/"));
    let signed: Vec<&str> = puts.map(|head| header(head, "x-amz-date").unwrap()).collect();
    let is_wrong: Vec<bool> = signed.iter().map(|time| time.starts_with("20300101T")).collect();
    // The server itself looks at the time, and says the right one. It does so before it has read the object, so that the reply may be lost.
    assert!(!is_wrong[0] && is_wrong[1] && is_wrong.last() == Some(&false), "{signed:?}");
}

/// The servers above look at no signature.
#[test]
fn signatures_are_those_of_the_sdk_for_python() {
    let mut lake = Lake::start_as("tr\u{e4}ger 7/a+b", Kind::Gofakes3, SOON);
    lake.proxy.next(&[Fault::ReplyLost]);
    lake.publish(5);
    lake.expect_all();
    let heads = lake.proxy.heads();
    assert!(heads.iter().any(|head| head.starts_with("HEAD ")) && heads.len() > 2);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/objects/signatures.py");
    let mut python = Command::new(servers::cached("venv/bin/python"))
        .args([script, lake::ACCESS_KEY, lake::SECRET_KEY, lake::TOKEN])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python.stdin.take().unwrap().write_all(serde_json::to_string(&heads).unwrap().as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{heads:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), heads.len().to_string());
    assert!(lake.server.keys("fleet/raw/dt=").iter().all(|key| key.contains("/tr%C3%A4ger%207%2Fa%2Bb-")), "{BUCKET}");
}

/// `[aws]` for the certificate of this name.
fn aws(folder: &std::path::Path, endpoint: &Endpoint, certificate: &str) -> String {
    let folder = folder.display();
    format!(
        "[aws]\ncredentials_endpoint = \"localhost:{}\"\nrole_alias = \"fleet\"\nthing = \"truck-0042\"\n\
         certificate = \"{folder}/{certificate}.pem\"\nkey = \"{folder}/{certificate}.key\"\n",
        endpoint.address.port()
    )
}

#[test]
fn a_certificate_is_exchanged_for_credentials_which_are_renewed_before_they_end() {
    let folder = tempfile::tempdir().unwrap();
    // Renewed five minutes before their end, which is after two seconds.
    let endpoint = Endpoint::start(folder.path(), Duration::from_secs(302));
    let mut lake = Lake::start_trusting(
        &folder.path().join("ca.pem"),
        &format!("{SOON}\n{}", aws(folder.path(), &endpoint, "device")),
    );
    lake.publish(1);
    wait_until("the first object", || lake.is_delivered());
    let asked = endpoint.heads().len();
    assert!((1..=2).contains(&asked), "two streams share the credentials: {asked}");
    wait_until("a renewal", || {
        lake.publish(1);
        endpoint.heads().len() > asked
    });
    lake.publish(1);
    lake.expect_all();
    let head = &endpoint.heads()[0];
    assert!(head.starts_with("GET /role-aliases/fleet/credentials HTTP/1.1\r\n"), "{head}");
    assert_eq!((header(head, "host"), header(head, "x-amzn-iot-thingname")), (Some("localhost"), Some("truck-0042")));
    let heads = lake.proxy.heads();
    let keys: std::collections::BTreeSet<&str> =
        heads.iter().map(|head| header(head, "authorization").unwrap().split(['=', '/']).nth(1).unwrap()).collect();
    assert!(keys.len() > 1 && keys.iter().all(|key| key.starts_with("ASIA")), "{keys:?}");
    assert!(heads.iter().all(|head| header(head, "x-amz-security-token") == Some("token")));
}

#[test]
fn credentials_that_are_refused_or_not_to_be_had_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(folder.path(), Duration::from_secs(3600));
    endpoint.answer_with(403);
    let mut lake = Lake::start_trusting(
        &folder.path().join("ca.pem"),
        &format!("{SOON}\n{}", aws(folder.path(), &endpoint, "device")),
    );
    lake.publish(1);
    lake.expect_error(
        "refuses the role alias fleet (HTTP status 403: Access Denied); look at the policy of the certificate",
    );
    endpoint.answer_with(503);
    lake.expect_error("answers with HTTP status 503");
    endpoint.answer_with(200);
    lake.expect_all();
    // The service does not take them any more: they are asked for again.
    let asked = endpoint.heads().len();
    lake.proxy.next(&[Fault::Answer(400, "ExpiredToken")]);
    lake.publish(1);
    lake.expect_all();
    assert!(endpoint.heads().len() > asked);
}

/// The stream takes neither the credentials of the environment nor the first ones of the endpoint.
#[test]
fn kinesis_has_the_same_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(folder.path(), Duration::from_secs(3600));
    let settings = fake_cloud::Settings::default().stream(cloud::RAW, 1).stream(cloud::ANOMALIES, 1);
    let fake = fake_cloud::FakeCloud::start_blocking(settings).unwrap();
    let expired_access_keys = vec![cloud::ACCESS_KEY.to_owned(), "ASIA1".to_owned()];
    fake.set_faults(fake_cloud::Faults { expired_access_keys, ..fake_cloud::Faults::default() });
    let config = cloud::config(&fake.endpoint(), &aws(folder.path(), &endpoint, "device"));
    let authorities = folder.path().join("ca.pem");
    let trusts = [("SSL_CERT_FILE", authorities.to_str().unwrap())];
    let gateway = cloud::start_gateway_in(&folder, &config, &trusts);
    let mut fleet = Fleet::default();
    fleet.publish(gateway.mqtt, 5);
    wait_until("every reading", || fake.stats().streams[cloud::RAW].distinct == fleet.published());
    assert!(endpoint.heads().len() > 1);
}

/// The control: the endpoint looks at the certificate.
#[test]
fn a_certificate_of_another_authority_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::start(folder.path(), Duration::from_secs(3600));
    let mut lake = Lake::start_trusting(
        &folder.path().join("ca.pem"),
        &format!("{SOON}\n{}", aws(folder.path(), &endpoint, "other")),
    );
    lake.publish(1);
    lake.expect_error("the TLS handshake with the credentials endpoint localhost fails");
    wait_until("handshakes that fail", || endpoint.handshakes_failed() > 1);
    assert!(endpoint.heads().is_empty() && !lake.is_delivered());
}

#[test]
fn missing_credentials_are_said_in_words() {
    let mut lake = Lake::start_without_credentials(SOON);
    lake.publish(1);
    lake.expect_error("no AWS credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
}
