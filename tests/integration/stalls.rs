//! What waits while the disk stands still goes on when it answers: everybody, at once, and in the order in which they came.

use std::io::Write;
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use crate::client::{Client, publish_packet};
use crate::gateway::wait_until;
use crate::in_process::InProcess;
use crate::vfs::Disk;

/// From the release of the disk to the last acknowledgement: a second or so, and some more on a machine that is busy with other tests.
const FLOWS_AGAIN_WITHIN: Duration = Duration::from_secs(5);

struct HungGateway {
    disk: &'static Disk,
    gateway: InProcess,
    _folder: tempfile::TempDir,
}

/// Over a disk of its own, with room for little until a commit.
fn start(uncommitted_bytes_max: u32) -> HungGateway {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    let gateway = InProcess::start(folder.path(), |settings| {
        settings.vfs = Some(disk.name.clone());
        settings.uncommitted_bytes_max = uncommitted_bytes_max;
    });
    HungGateway { disk, gateway, _folder: folder }
}

impl HungGateway {
    /// Nothing more is read: what may wait for the disk waits for it.
    fn wait_until_it_reads_no_more(&self) {
        let mut last = (0, Instant::now());
        wait_until("the gateway reads no more", || {
            let bytes = self.gateway.status()["mqtt"]["bytes_received"].as_u64().unwrap();
            if bytes != last.0 {
                last = (bytes, Instant::now());
            }
            bytes > 0 && last.1.elapsed() > Duration::from_millis(500)
        });
    }

    fn assert_idle(&self) {
        wait_until("the edge's thread is idle", || {
            let (before, since) = (self.gateway.edge_cpu(), Instant::now());
            std::thread::sleep(Duration::from_millis(500));
            self.gateway.edge_cpu() - before < since.elapsed() / 10
        });
    }
}

/// Publishes without waiting, then reads the acknowledgements; when the last of them had come.
fn publish_all(mut client: Client, topic: String, payload: Vec<u8>, count: u16) -> JoinHandle<Instant> {
    let mut writer = client.stream.try_clone().unwrap();
    let writing = spawn(move || {
        for id in 1..=count {
            writer.write_all(&publish_packet(&topic, &payload, 1, false, false, id)).unwrap();
        }
    });
    spawn(move || {
        for id in 1..=count {
            let puback = client.packet().unwrap_or_else(|error| panic!("no acknowledgement of publish {id}: {error}"));
            assert_eq!((puback.first, puback.body), (0x40, id.to_be_bytes().to_vec()));
        }
        writing.join().unwrap();
        Instant::now()
    })
}

#[test]
fn large_packets_that_waited_for_the_disk_all_go_on_when_it_answers() {
    let hung = start(4 << 20);
    let payload = format!("{{\"value\":1{}}}", " ".repeat(38_000)).into_bytes();
    let clients: Vec<_> = (0..12).map(|n| Client::connect(hung.gateway.mqtt, &format!("large-{n}"))).collect();
    let small = Client::connect(hung.gateway.mqtt, "small");
    hung.disk.hang();
    let mut waiting: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(n, client)| publish_all(client, format!("devices/large-{n}/t"), payload.clone(), 20))
        .collect();
    hung.wait_until_it_reads_no_more();
    waiting.push(publish_all(small, "devices/small/t".to_owned(), b"1".to_vec(), 1));
    let released = Instant::now();
    hung.disk.release();
    for client in waiting {
        let took = client.join().unwrap() - released;
        assert!(took < FLOWS_AGAIN_WITHIN, "acknowledged only after {took:?}");
    }
    hung.assert_idle();
    Client::connect(hung.gateway.mqtt, "afterwards").publish("devices/afterwards/t", b"1");
    hung.gateway.stop();
}

#[test]
fn devices_that_waited_for_the_disk_all_go_on_when_it_answers() {
    let hung = start(64 << 10);
    let clients: Vec<_> = (0..50).map(|n| Client::connect(hung.gateway.mqtt, &format!("device-{n}"))).collect();
    hung.disk.hang();
    let waiting: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(n, client)| publish_all(client, format!("devices/device-{n}/t"), b"{\"value\":20.5}".to_vec(), 480))
        .collect();
    hung.wait_until_it_reads_no_more();
    let released = Instant::now();
    hung.disk.release();
    for client in waiting {
        let took = client.join().unwrap() - released;
        assert!(took < FLOWS_AGAIN_WITHIN, "acknowledged only after {took:?}");
    }
    hung.assert_idle();
    Client::connect(hung.gateway.mqtt, "afterwards").publish("devices/afterwards/t", b"1");
    hung.gateway.stop();
}
