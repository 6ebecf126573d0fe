//! Listeners with certificates, users and rights.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::client::{Client, Packet, frame, text};
use crate::gateway::{Gateway, run_command, wait_until};

/// Runs the program, with this text on standard input.
pub fn outrider(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    let mut child =
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub fn expect_success(arguments: &[&str], input: &str) -> String {
    let output = outrider(arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a users file with these users, whose passwords are their names backwards.
pub fn make_users(file: &Path, names: &[&str]) {
    for name in names {
        expect_success(&["passwd", file.to_str().unwrap(), name], &password_of(name));
    }
}

pub fn password_of(name: &str) -> String {
    name.chars().rev().collect()
}

/// The address of a listener; the first one is that of `[mqtt]`, open to all.
pub fn address(gateway: &Gateway, at: usize) -> SocketAddr {
    gateway.ready["listeners"][at].as_str().unwrap().parse().unwrap()
}

/// The CONNECT of a client of version 3.1.1 or 5, which logs in.
pub fn login_packet(version: u8, client_id: &str, login: Option<(&str, &str)>) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    body.extend_from_slice(&[version, if login.is_some() { 0xc2 } else { 0x02 }, 0, 0]);
    if version == 5 {
        body.push(0);
    }
    text(&mut body, client_id.as_bytes());
    if let Some((name, password)) = login {
        text(&mut body, name.as_bytes());
        text(&mut body, password.as_bytes());
    }
    frame(0x10, &body)
}

/// Connects as a user with its own password. Returns the client, and the code of the answer.
pub fn log_in(address: SocketAddr, version: u8, client_id: &str, name: &str) -> (Client, u8) {
    answer(address, &login_packet(version, client_id, Some((name, &password_of(name)))))
}

fn answer(address: SocketAddr, packet: &[u8]) -> (Client, u8) {
    let mut client = Client::of(TcpStream::connect(address).unwrap());
    client.send(packet);
    match client.packet().unwrap() {
        Packet { first: 0x20, body } => (client, body[1]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn clients_of_other_makers_come_with_certificates_passwords_and_websocket() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("certificates");
    let made = certificates.to_str().unwrap();
    expect_success(&["cert", "init", made, "--device", "truck-7", "--device", "truck-8"], "");
    expect_success(&["passwd", folder.path().join("users").to_str().unwrap(), "alice"], "correct horse");
    let tls =
        "tls_certificate = 'certificates/server.pem'\ntls_key = 'certificates/server.key'\nlisten = '127.0.0.1:0'";
    let config = format!(
        "[[listener]]\n{tls}\nclient_ca = 'certificates/ca.pem'\n\
         [[listener]]\n{tls}\nusers = 'users'\n\
         [[listener]]\nlisten = '127.0.0.1:0'\nwebsocket = true\nanonymous = true\n\
         [[listener]]\n{tls}\nwebsocket = true\nanonymous = true\n\
         [[right]]\ntopic = 'devices/{{cn}}/#'\nallow = ['publish', 'subscribe']\n\
         [[right]]\nwho = 'alice'\ntopic = 'alerts/#'\nallow = ['subscribe', 'acknowledge']\n"
    );
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
    let port = |at| address(&gateway, at).port();
    let given = serde_json::json!({
        "folder": made, "certificates": port(1), "passwords": port(2), "websocket": port(3), "websocket_tls": port(4),
    });
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut command = Command::new(tests.join(".cache/venv/bin/python"));
    let output = command.arg(tests.join("clients/paho_secure.py")).arg(given.to_string()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}\n{}", std::fs::read_to_string(&gateway.log).unwrap());
    let mqtt = &gateway.status()["mqtt"];
    assert_eq!([&mqtt["publishes_denied"], &mqtt["filters_denied"], &mqtt["logins_refused"]], [1, 1, 2], "{mqtt}");
    // What was denied is not stored.
    assert_eq!(gateway.status()["received"]["accepted"], 1);
}

#[test]
fn rights_hold_at_publish_and_at_delivery_in_both_versions() {
    for version in [4, 5] {
        let folder = tempfile::tempdir().unwrap();
        make_users(&folder.path().join("users"), &["reader", "writer"]);
        let config = "[[listener]]\nlisten = '127.0.0.1:0'\nusers = 'users'\n\
             [[right]]\nwho = 'reader'\ntopic = 'plant/secret/#'\nallow = []\n\
             [[right]]\nwho = 'reader'\ntopic = 'plant/#'\nallow = ['subscribe']\n\
             [[right]]\nwho = 'writer'\ntopic = 'plant/{user}/#'\nallow = ['publish']\n";
        let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
        let closed = address(&gateway, 1);
        let mut anybody = Client::connect(address(&gateway, 0), "anybody");
        anybody.send(&crate::client::publish_packet("plant/secret/kept", b"1", 1, true, false, 1));
        anybody.send(&crate::client::publish_packet("plant/open/kept", b"2", 1, true, false, 2));
        for _ in 0..2 {
            anybody.packet().unwrap();
        }
        let (mut reader, code) = log_in(closed, version, "reader-1", "reader");
        assert_eq!(code, 0);
        let mut subscribe = |filter: &str| {
            let mut body = vec![0, 7];
            body.extend_from_slice(if version == 5 { &[0] } else { &[] });
            text(&mut body, filter.as_bytes());
            body.push(1);
            reader.send(&frame(0x82, &body));
            *reader.packet().unwrap().body.last().unwrap()
        };
        let refused = if version == 5 { 0x87 } else { 0x80 };
        assert_eq!([subscribe("#"), subscribe("plant/secret/x"), subscribe("other")], [refused; 3]);
        assert_eq!(subscribe("plant/#"), 1);
        // Of what is retained, and of what comes, only what it may see.
        let topic = |packet: Packet| String::from_utf8(packet.body[2..].to_vec()).unwrap();
        assert!(topic(reader.packet().unwrap()).starts_with("plant/open/kept"));
        anybody.publish("plant/secret/now", b"3");
        anybody.publish("plant/open/now", b"4");
        assert!(topic(reader.packet().unwrap()).starts_with("plant/open/now"));
        let (mut writer, code) = log_in(closed, version, "writer-1", "writer");
        assert_eq!(code, 0);
        let mut publish = |topic: &str| {
            let mut body = Vec::new();
            text(&mut body, topic.as_bytes());
            body.extend_from_slice(if version == 5 { &[0, 9, 0] } else { &[0, 9] });
            body.extend_from_slice(b"5");
            writer.send(&frame(0x32, &body));
            writer.packet().unwrap().body
        };
        let answers = [publish("plant/reader/x"), publish("plant/writer/x")];
        let denied = if version == 5 { vec![0, 9, 0x87] } else { vec![0, 9] };
        assert_eq!(answers, [denied, vec![0, 9]]);
        assert!(topic(reader.packet().unwrap()).starts_with("plant/writer/x"));
        assert_eq!(gateway.status()["mqtt"]["publishes_denied"], 1);
        let alerts = || gateway.status()["alerts"].to_string();
        wait_until("an alert that names the user", || alerts().contains("(user reader) would subscribe to"));
    }
}

#[test]
fn a_client_id_belongs_to_whoever_has_its_session() {
    let folder = tempfile::tempdir().unwrap();
    make_users(&folder.path().join("users"), &["alice", "bob"]);
    let config = "[[listener]]\nlisten = '127.0.0.1:0'\nusers = 'users'\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let closed = address(&gateway, 1);
    let (mut alice, code) = log_in(closed, 4, "truck-7", "alice");
    assert_eq!(code, 0);
    let (_, code) = log_in(closed, 4, "truck-7", "bob");
    assert_eq!(code, 2, "the identifier is rejected");
    let (_, code) = answer(address(&gateway, 0), &login_packet(5, "truck-7", None));
    assert_eq!(code, 0x85, "also by another listener");
    alice.ping();
    let (_again, code) = log_in(closed, 4, "truck-7", "alice");
    assert_eq!(code, 0, "who it belongs to takes it over");
    alice.expect_close();
}

#[test]
fn users_and_certificates_and_rights_change_while_clients_are_connected() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    make_users(&users, &["alice", "bob"]);
    std::fs::write(folder.path().join("acl"), "user alice\ntopic readwrite a/#\n").unwrap();
    let config = "[[listener]]\nname = 'devices'\nlisten = '127.0.0.1:0'\nusers = 'users'\nacl = 'acl'\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let reload = || expect_success(&["reload", "--state", folder.path().join("state").to_str().unwrap()], "");
    let closed = address(&gateway, 1);
    let (mut alice, _) = log_in(closed, 4, "alice", "alice");
    let (mut bob, _) = log_in(closed, 4, "bob", "bob");
    assert_eq!(alice.subscribe(&[("a/#", 0)]), [0]);
    std::fs::write(folder.path().join("acl"), "user alice\ntopic read b/#\n").unwrap();
    expect_success(&["passwd", users.to_str().unwrap(), "bob", "--delete"], "");
    reload();
    bob.expect_close();
    let (_, code) = log_in(closed, 4, "bob", "bob");
    assert_eq!(code, 4, "a login that was right before is forgotten");
    alice.publish("a/x", b"1");
    let mut anybody = Client::connect(address(&gateway, 0), "anybody");
    assert_eq!(alice.subscribe(&[("b/#", 0), ("a/y", 0)]), [0, 0x80]);
    anybody.publish("a/x", b"2");
    anybody.publish("b/x", b"3");
    assert_eq!(alice.receive().topic, "b/x", "its subscription to a/# brings nothing any more");
    // A file that is wrong changes nothing, and an alert says so.
    std::fs::write(&users, "alice:secret\n").unwrap();
    let output = outrider(&["reload", "--state", folder.path().join("state").to_str().unwrap()], "");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("users") && told.contains("line 1"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    alice.ping();
    wait_until("an alert", || gateway.alerts().iter().any(|alert| alert["metric"] == "certificate-devices"));
}

#[test]
fn a_listener_that_is_open_to_the_network_says_so_in_plain_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = run_command(folder.path(), "", &["--listen", "0.0.0.0:0"], &[]);
    let output = command.env_remove("OUTRIDER__MQTT__LISTEN").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("insecure = true") && told.contains("without TLS and authentication"), "{told}");
    let mut command = run_command(folder.path(), "", &["--listen", "0.0.0.0:0", "--insecure"], &[]);
    command.env_remove("OUTRIDER__MQTT__LISTEN");
    let gateway = Gateway::spawn(folder.path(), command);
    assert!(gateway.mqtt.ip().is_unspecified());
}

#[test]
fn a_policy_stays_with_the_address_that_it_was_written_for() {
    let folder = tempfile::tempdir().unwrap();
    make_users(&folder.path().join("users"), &["alice"]);
    let closed = "[[listener]]\nlisten = '127.0.0.1:0'\nusers = 'users'\n";
    let open = "[[listener]]\nlisten = '127.0.0.2:0'\nanonymous = true\n";
    let gateway = Gateway::start_configured(folder.path(), &format!("{closed}{open}"), &[], &[]);
    let nobody = login_packet(4, "nobody", None);
    assert_eq!(answer(address(&gateway, 1), &nobody).1, 5);
    // The open one is called as the closed one was.
    std::fs::write(folder.path().join("outrider.toml"), open).unwrap();
    expect_success(&["reload", "--state", folder.path().join("state").to_str().unwrap()], "");
    assert_eq!(answer(address(&gateway, 1), &nobody).1, 5, "its address is still the closed one");
}

#[test]
fn pings_of_websocket_that_nobody_reads_the_answers_of_take_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[[listener]]\nlisten = '127.0.0.1:0'\nwebsocket = true\nanonymous = true\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let mut stream = TcpStream::connect(address(&gateway, 1)).unwrap();
    stream.set_nodelay(true).unwrap();
    let request = "GET /mqtt HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    // A mask of zeros changes nothing.
    let masked = |first: u8, payload: &[u8]| [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat();
    stream.write_all(&masked(0x82, &login_packet(4, "page", None))).unwrap();
    let pings = masked(0x89, &[7; 125]).repeat(400);
    let flood = |stream: &mut TcpStream, bytes: usize| {
        (0..bytes / pings.len()).for_each(|_| stream.write_all(&pings).unwrap());
    };
    // The buffers of the sockets are full of answers then.
    flood(&mut stream, 16 << 20);
    let before = gateway.rss_bytes();
    flood(&mut stream, 256 << 20);
    let grown = gateway.rss_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes more");
    Client::connect(gateway.mqtt, "device").publish("devices/a/t", b"1.0");
}
