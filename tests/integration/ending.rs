//! Obstacles that do not prevent an orderly end.

use std::net::TcpListener;

use super::client::Client;
use super::gateway::{DEADLINE, Gateway, wait_until};

#[test]
fn a_subscriber_that_does_not_read_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let mut publisher = Client::connect(gateway.mqtt, "publisher");
    for n in 0..60 {
        let id = publisher.next_packet_id();
        publisher.send(&super::client::publish_packet(&format!("other/{n}"), &[b'x'; 200_000], 1, true, false, id));
        publisher.packet().unwrap();
    }
    let mut stuck = Client::connect(gateway.mqtt, "stuck");
    stuck.subscribe(&[("other/#", 0)]);
    publisher.publish("devices/a/t", "1.0");
    let log = gateway.log.clone();
    let status = gateway.stop();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("it took nothing of what was sent to it"), "nothing was in the way: {log}");
}

#[test]
fn a_cloud_that_does_not_answer_within_the_grace_is_no_failure() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let config = format!(
        "[gateway]\nshutdown_grace = \"1s\"\n\
         [[sink]]\nname = \"cloud\"\ntype = \"kinesis\"\nregion = \"eu-central-1\"\nendpoint = \"{endpoint}\"\nraw = \"s\"\ntimeout = \"300s\"\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let credentials = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &credentials);
    Client::connect(gateway.mqtt, "device").publish("devices/a/t", "1.0");
    let mut connection = None;
    wait_until("a request", || {
        connection = silent.accept().ok();
        connection.is_some()
    });
    let (connection, _) = connection.unwrap();
    connection.set_nonblocking(false).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    // The request's first byte has arrived: from here on a response is awaited.
    assert_eq!(connection.peek(&mut [0]).unwrap(), 1);
    let log = gateway.log.clone();
    let status = gateway.stop();
    assert!(status.success(), "{status}: {}", std::fs::read_to_string(log).unwrap());
}
