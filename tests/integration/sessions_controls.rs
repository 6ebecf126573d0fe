//! Shows that the tests of sessions would notice if nothing was stored for them, or too late.

use crate::gateway::{Gateway, ledger_line, wait_until};
use crate::restart::{publish_end, start, start_again};
use crate::wire::{Connect, Message, PUBCOMP, PUBREC, PUBREL, VERSIONS, Version, Wire};

fn accepted(gateway: &Gateway) -> u64 {
    ledger_line(&gateway.status(), "archive", "raw")["accepted"].as_u64().unwrap()
}

/// What is stored of sessions, retained messages and ids is deleted while the gateway is down: then nothing of it is there.
#[test]
fn without_what_is_stored_a_kill_ends_sessions_and_stores_twice() {
    for version in VERSIONS {
        let (folder, gateway) = start();
        let [keeper, sensor] = ["keeper", "sensor"].map(|id| Connect::kept(version, id));
        assert_eq!(Wire::open(&gateway, &keeper).subscribe("t", 1), 1);
        let mut device = Wire::open(&gateway, &sensor);
        device.publish(&Message::new("state/x", "on", 1, 1).retained());
        let reading = Message::new("devices/q2/temp", "10.5", 2, 7);
        device.send(&reading);
        assert_eq!(device.expect(PUBREC, 7), 0);
        gateway.kill();
        let store = outrider::store::schema::store_path(&folder.path().join("state"));
        let deleted = rusqlite::Connection::open(store).unwrap().execute("DELETE FROM entry", []).unwrap();
        assert!(deleted >= 5, "{deleted}");

        let gateway = start_again(&folder);
        assert!(!Wire::open(&gateway, &keeper.resumed()).present);
        let mut device = Wire::open(&gateway, &sensor.resumed());
        assert!(!device.present);
        device.send(&reading.again());
        assert_eq!(device.expect(PUBREC, 7), 0);
        device.answer(PUBREL, 7);
        assert_eq!(device.expect(PUBCOMP, 7), 0);
        wait_until("the repeat to be stored, too", || accepted(&gateway) == 2);
        let mut late = Wire::open(&gateway, &Connect::fleeting(version, "late"));
        assert_eq!(late.subscribe("state/#", 1), 1);
        publish_end(&gateway, "state/end");
        assert_eq!(late.take().topic, "state/end", "nothing is retained");
    }
}

/// A gateway that answers before it commits loses subscriptions that it has granted.
#[test]
fn a_gateway_that_answers_early_loses_subscriptions() {
    let is_lost = |_| {
        let folder = tempfile::tempdir().unwrap();
        let gateway = Gateway::start_test(folder.path(), "kill::gateway_that_acknowledges_early");
        let keeper = Connect::kept(Version::Five, "keeper");
        assert_eq!(Wire::open(&gateway, &keeper).subscribe("t", 1), 1);
        gateway.kill();
        let gateway = Gateway::start(folder.path(), &[], &[]);
        let mut client = Wire::open(&gateway, &keeper.resumed());
        let was_there = client.present;
        publish_end(&gateway, "t");
        client.subscribe("last", 1);
        publish_end(&gateway, "last");
        !was_there || client.take().topic == "last"
    };
    assert!((0..10).any(is_lost), "these tests would not notice a subscription that is granted before it is stored");
}
