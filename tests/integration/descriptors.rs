//! Connections use up neither the file descriptors that the gateway needs for itself, nor the connections that other hosts may have.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::Command;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::archive;
use crate::client::{Client, Options, connect_packet};
use crate::gateway::{Gateway, run_command, wait_until};

const LIMIT: u64 = 1024;

/// As after `ulimit -n`.
fn limited(mut command: Command) -> Command {
    let set = || {
        let limit = libc::rlimit { rlim_cur: LIMIT, rlim_max: LIMIT };
        // SAFETY: reads a whole struct.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(set) };
    command
}

/// A client with an address of its own; the loopback interface has plenty.
fn connect_from(host: [u8; 4], gateway: SocketAddr, client_id: &str) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::from(SocketAddr::from((host, 0)))).unwrap();
    socket.connect(&SockAddr::from(gateway)).unwrap();
    let mut client = Client::of(socket.into());
    // It may have been refused already.
    let hello = connect_packet(&Options { client_id, clean: true, keep_alive_s: 0, will: None });
    let _ = std::io::Write::write_all(&mut client.stream, &hello);
    client
}

/// How many of the clients the gateway has accepted.
fn taken(clients: &mut [Client]) -> usize {
    clients.iter_mut().filter_map(|client| client.packet().ok()).filter(|connack| connack.body == [0, 0]).count()
}

#[test]
fn a_thousand_idle_connections_leave_the_gateway_its_descriptors() {
    outrider::descriptors::Room::make(0, 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = "[[sink]]\nname = \"archive\"\ntype = \"archive\"\nrotate_after = \"1s\"\n";
    let gateway = Gateway::spawn(folder.path(), limited(run_command(folder.path(), config, &[], &[])));
    let mut device = Client::connect(gateway.mqtt, "device");
    let idle = |host| move |n: usize| connect_from([127, 0, 0, host], gateway.mqtt, &format!("idle-{host}-{n}"));
    let mut clients: Vec<Client> = (0..500).map(idle(2)).chain((0..500).map(idle(3))).collect();
    assert_eq!(taken(&mut clients), 895, "and the device makes 896: what the limit leaves");

    let archive = folder.path().join("state/archive");
    device.publish("devices/device/t", b"4711");
    wait_until("the archive is written", || {
        archive::records(&archive, "raw").iter().any(|record| record["value"] == 4711.0)
    });
    assert_eq!((gateway.get("/healthz").0, gateway.get("/readyz").0), (200, 200));
    let denied = gateway.alerts().into_iter().find(|alert| alert["metric"] == "denied").expect("an alert");
    assert!(denied["message"].as_str().unwrap().contains("896"), "{denied}");
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("4096") && log.contains("896 connections fit into the limit of 1024"), "{log}");
    assert!(log.lines().count() < 20, "{log}");

    drop(clients);
    wait_until("there is room again", || taken(&mut [connect_from([127, 0, 0, 2], gateway.mqtt, "afterwards")]) == 1);
}

#[test]
fn one_host_cannot_take_the_seats_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[mqtt]\nconnections_max = 8\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let connect = |host, n: usize| connect_from([127, 0, 0, host], gateway.mqtt, &format!("client-{host}-{n}"));
    let mut greedy: Vec<Client> = (0..20).map(|n| connect(2, n)).collect();
    assert_eq!(taken(&mut greedy), 6, "three quarters");
    let mut others: Vec<Client> = (0..4).map(|n| connect(3, n)).collect();
    assert_eq!(taken(&mut others), 2);
    assert_eq!(gateway.status()["mqtt"]["connections_refused"], 16);
    wait_until("an alert", || gateway.alerts().iter().any(|alert| alert["metric"] == "denied"));
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("turned away"));
    assert_eq!(warnings.count(), 1, "{log}");
    assert!(!log.contains("can connect again"), "others were taken all the time: {log}");

    let folder = tempfile::tempdir().unwrap();
    let config = "[mqtt]\nconnections_max = 8\nconnections_per_address_percent = 100\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let mut greedy: Vec<Client> =
        (0..20).map(|n| connect_from([127, 0, 0, 2], gateway.mqtt, &format!("client-{n}"))).collect();
    assert_eq!(taken(&mut greedy), 8, "where it is allowed");
}

#[test]
fn check_says_how_many_connections_fit() {
    let folder = tempfile::tempdir().unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_outrider"));
    check.current_dir(folder.path()).args(["check", "--state", "state"]);
    let output = limited(check).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("only 896 connections fit"), "{text}");
}
