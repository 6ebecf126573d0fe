//! Kill -9 of a gateway whose link is lean: one key, compressed, under a cloud that fails records and loses replies.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fake_cloud::{FakeCloud, Faults, Settings};

use super::cloud::{self, RAW};
use super::found::{self, Found};
use super::{data, unlimited};
use crate::archive::field;
use crate::gateway::{ledger_line, wait_until};
use crate::kill::{self, next};

const LEAN: &str = "compression = \"zstd\"\npartition = \"gateway\"\nbatch_delay = \"50ms\"\nrecord_size = \"128KiB\"";
const KILLS: u64 = 6;
const READINGS_A_KILL: u64 = 800;

#[test]
fn a_lean_link_loses_nothing_to_kills_and_keeps_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults { record_internal_failure: 0.1, reply_lost: 0.1, ..Faults::default() };
    let fake = FakeCloud::start_blocking(Settings { faults, ..unlimited() }).unwrap();
    let config = cloud::config(&fake.endpoint(), LEAN);
    let fleet = kill::Fleet::new();
    let mut seed = 0x5eed_0f1e_a11e_4242;
    for _ in 0..KILLS {
        let gateway = cloud::start_gateway(&folder, &config);
        let stop: Arc<AtomicBool> = Arc::default();
        let (acknowledged, arrived) = (fleet.acknowledged(), fake.stats().streams[RAW].distinct);
        let threads = fleet.start(gateway.mqtt, &stop);
        let until = acknowledged + READINGS_A_KILL + next(&mut seed) % 400;
        wait_until("the fleet's share of acknowledgements, and a delivery under way", || {
            fleet.acknowledged() >= until && fake.stats().streams[RAW].distinct > arrived
        });
        // The moment of the kill: any will do.
        std::thread::sleep(Duration::from_micros(next(&mut seed) % 20_000));
        gateway.kill();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let gateway = cloud::start_gateway(&folder, &config);
    wait_until("everything is delivered", || ledger_line(&gateway.status(), "cloud", "raw")["buffered"] == 0);
    let status = gateway.status();
    assert!(gateway.stop().success());

    let records = fake.records(RAW);
    assert!(
        records.iter().all(|record| &*record.partition_key == "truck-0042" && record.data.starts_with(&[0x28, 0xb5]))
    );
    assert_eq!(found::fault_of_order(data(&records)), None);
    let found = Found::read(data(&records));
    for (device, acknowledged) in fleet.acknowledged_by_each() {
        assert_eq!(found.missing(device, acknowledged), 0, "of {acknowledged} of {device}");
    }
    assert_eq!(found.repeats, fake.stats().streams[RAW].duplicates);
    let line = ledger_line(&status, "cloud", "raw");
    assert_eq!(
        (&status["ledger_adds_up"], &line["delivered"]),
        (&true.into(), &fake.stats().streams[RAW].distinct.into())
    );
    assert!(fleet.acknowledged() >= KILLS * READINGS_A_KILL);
    // The kills met deliveries that were under way: every run but the last has sent something before the next one sent the rest.
    let runs: HashSet<String> = records
        .iter()
        .map(|record| field(std::str::from_utf8(&fake_cloud::plain(&record.data)).unwrap(), "run").to_owned())
        .collect();
    assert_eq!(runs.len() as u64, KILLS);
}
