//! What waits while the disk hangs continues when it works again: everybody, at once, and in order of arrival.

use std::io::Write;
use std::sync::mpsc;
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use outrider::heartbeat::STALLED_AFTER;
use outrider::pipeline::CommitPacing;

use crate::client::{Client, frame, publish_packet};
use crate::gateway::{DEADLINE, get, wait_until};
use crate::in_process::InProcess;
use crate::vfs::Disk;

/// From the release of the disk to the last acknowledgement: about a second, plus a margin for a machine that is busy with other tests.
const FLOWS_AGAIN_WITHIN: Duration = Duration::from_secs(5);

struct HungGateway {
    disk: &'static Disk,
    gateway: InProcess,
    _folder: tempfile::TempDir,
}

/// With a disk of its own, and little room for uncommitted publishes.
fn start(uncommitted_bytes_max: u32) -> HungGateway {
    // Waiting must go on: that the gateway notices a hung disk is the subject of another test.
    start_with(uncommitted_bytes_max, DEADLINE)
}

fn start_with(uncommitted_bytes_max: u32, hung_after: Duration) -> HungGateway {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::register(&folder.path().join("state"));
    let gateway = InProcess::start(folder.path(), |settings| {
        settings.vfs = Some(disk.name.clone());
        settings.uncommitted_bytes_max = uncommitted_bytes_max;
        settings.pacing.delays.hung_after = hung_after;
    });
    HungGateway { disk, gateway, _folder: folder }
}

impl HungGateway {
    /// Waits until nothing more is read: everything that may wait for the disk does.
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

/// Publishes without waiting, then reads the acknowledgements. Returns when the last one arrived.
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
    waiting.push(publish_all(small, "devices/small/t".to_owned(), b"1.0".to_vec(), 1));
    let released = Instant::now();
    hung.disk.release();
    for client in waiting {
        let took = client.join().unwrap() - released;
        assert!(took < FLOWS_AGAIN_WITHIN, "acknowledged only after {took:?}");
    }
    hung.assert_idle();
    Client::connect(hung.gateway.mqtt, "afterwards").publish("devices/afterwards/t", b"1.0");
    hung.gateway.stop();
}

#[test]
fn who_waits_for_its_last_commit_does_not_keep_its_turn() {
    let hung = start(4 << 20);
    let [mut leaves, mut other] = ["leaves", "other"].map(|id| Client::connect(hung.gateway.mqtt, id));
    hung.disk.hang();
    // The large packet waits for a turn, and the DISCONNECT behind it is read together with it.
    let payload = format!("{{\"value\":1{}}}", " ".repeat(8_000)).into_bytes();
    let mut packets = publish_packet("devices/leaves/t", &payload, 1, false, false, 1);
    packets.extend_from_slice(&frame(0xe0, &[]));
    leaves.send(&packets);
    let status = |key: &str| hung.gateway.status()["mqtt"][key].as_u64().unwrap();
    wait_until("the publish", || status("publishes_qos_1") == 1);
    let started = Instant::now();
    while status("publishes_qos_0") == 0 {
        other.send(&publish_packet("devices/other/t", &payload, 0, false, false, 0));
        assert!(started.elapsed() < Duration::from_secs(10), "others wait for its commit");
        std::thread::sleep(Duration::from_millis(50));
    }
    hung.disk.release();
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
    Client::connect(hung.gateway.mqtt, "afterwards").publish("devices/afterwards/t", b"1.0");
    hung.gateway.stop();
}

fn answer(gateway: &InProcess, path: &str) -> (u16, String) {
    get(gateway.admin, path)
}

/// A sink checks the link whenever it has something to do, so a test that holds the link blocks it.
#[test]
fn a_thread_that_does_not_move_is_named_and_raises_an_alert() {
    let HungGateway { gateway, _folder, .. } = start(1 << 20);
    let mut client = Client::connect(gateway.mqtt, "device");
    assert_eq!(client.subscribe(&[("alerts/_gateway/stalled/gateway", 1)]), [1]);
    let well = |path, word: &str| answer(&gateway, path) == (200, format!("{word}\n"));
    assert!(well("/healthz", "ok") && well("/readyz", "ready"));
    let link = gateway.link.clone();
    let (release, released) = mpsc::channel::<()>();
    let blocking = spawn(move || link.send_modify(|_| assert!(released.recv().is_err(), "dropped")));
    // It is stored and acknowledged although the sink is blocked.
    Client::connect(gateway.mqtt, "other").publish("devices/other/t", b"1.0");
    let stalled = (503, "stalled:sink-archive\n".to_owned());
    wait_until("the sink is named", || answer(&gateway, "/healthz") == stalled);
    assert_eq!(answer(&gateway, "/readyz"), stalled);
    let alert: serde_json::Value = serde_json::from_slice(&client.receive().payload).unwrap();
    assert_eq!((alert["state"].as_str(), alert["severity"].as_str()), (Some("raised"), Some("critical")));
    assert!(alert["message"].as_str().unwrap().contains("sink-archive"), "{alert}");
    drop(release);
    blocking.join().unwrap();
    wait_until("all is well again", || well("/healthz", "ok") && well("/readyz", "ready"));
    gateway.stop();
}

#[test]
fn a_disk_that_hangs_is_not_ready_and_yet_healthy() {
    let hung = start_with(64 << 10, CommitPacing::default().delays.hung_after);
    let clients: Vec<_> = (0..4).map(|n| Client::connect(hung.gateway.mqtt, &format!("device-{n}"))).collect();
    hung.disk.hang();
    let waiting: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(n, client)| publish_all(client, format!("devices/device-{n}/t"), vec![b' '; 30_000], 20))
        .collect();
    wait_until("it is said", || answer(&hung.gateway, "/readyz") == (503, "disk_hung\n".to_owned()));
    let since = Instant::now();
    wait_until("longer than a thread may stand still", || {
        assert_eq!(answer(&hung.gateway, "/healthz"), (200, "ok\n".to_owned()));
        since.elapsed() > 2 * STALLED_AFTER
    });
    hung.disk.release();
    wait_until("it is ready again", || answer(&hung.gateway, "/readyz") == (200, "ready\n".to_owned()));
    drop(waiting);
    hung.gateway.stop();
}
