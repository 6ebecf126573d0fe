//! A long time without a link: everything waits on the disk, nothing in memory, and is delivered when the link is back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use outrider::gateway::{self, Ready};
use outrider::sinks::archive::sink::ArchiveSink;
use outrider::sinks::status::Link;
use outrider::store::retention::Capacity;
use tokio::sync::watch;

use crate::archive;
use crate::gateway::{Gateway, close_archives_soon, ledger_line, settings_of_this_process, wait_until};
use crate::in_process::InProcess;
use crate::kill::Fleet;

const TOTAL: u64 = 1_200_000;
const WARM: u64 = 100_000;
const GROWTH_BYTES_MAX: u64 = 5_000_000;

#[test]
fn a_backlog_of_more_than_a_million_costs_disk_and_not_memory_and_arrives_whole() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_test(folder.path(), "backlog::gateway_without_a_link");
    let fleet = Fleet::new();
    let stop = Arc::default();
    let threads = fleet.start(gateway.mqtt, &stop);
    wait_until("the first readings", || fleet.acknowledged() >= WARM);
    let rss_warm = gateway.rss_bytes();
    let mut rss_max = rss_warm;
    wait_until("all readings", || {
        rss_max = rss_max.max(gateway.rss_bytes());
        fleet.acknowledged() >= TOTAL
    });
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    rss_max = rss_max.max(gateway.rss_bytes());
    assert!(
        rss_max < rss_warm + GROWTH_BYTES_MAX,
        "{rss_warm} bytes after {WARM} readings, up to {rss_max} by {}",
        fleet.acknowledged()
    );
    println!("{rss_warm} bytes resident after {WARM} readings, at most {rss_max} until {}", fleet.acknowledged());
    let acknowledged = fleet.acknowledged();
    let status = gateway.status();
    let line = ledger_line(&status, "archive", "raw");
    assert_eq!((&line["accepted"], &line["buffered"]), (&acknowledged.into(), &acknowledged.into()));
    assert_eq!((&line["delivered"], &status["received"]["accepted"]), (&0.into(), &acknowledged.into()));

    std::fs::write(folder.path().join("state/link-up"), "").unwrap();
    wait_until("the archive", || ledger_line(&gateway.status(), "archive", "raw")["delivered"] == acknowledged);
    let status = gateway.status();
    let line = ledger_line(&status, "archive", "raw");
    assert_eq!((&line["accepted"], &line["buffered"]), (&acknowledged.into(), &0.into()));
    assert_eq!(status["ledger_adds_up"], true);
    let log = gateway.log.clone();
    assert!(gateway.stop().success(), "{}", std::fs::read_to_string(log).unwrap());

    let mut last: HashMap<String, u64> = HashMap::new();
    let mut position = 0;
    archive::read(&folder.path().join("state/archive"), "raw", |line| {
        position += 1;
        assert_eq!(archive::field(line, "position").parse(), Ok(position), "each identity once, in order");
        let last = last.entry(archive::field(line, "device").to_owned()).or_default();
        *last += 1;
        assert_eq!(archive::field(line, "seq").parse(), Ok(*last), "each device in its own order, without a gap");
    });
    assert_eq!(position, acknowledged);
}

/// Not a test by itself: the process of the test above. The link comes up when a certain file exists.
#[test]
#[ignore = "run as a process of its own"]
fn gateway_without_a_link() {
    let Some(settings) = settings_of_this_process(close_archives_soon) else { return };
    let signal_of_link = settings.state_folder.join("link-up");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let link = watch::Sender::new(Link::Down);
    let wire = link.clone();
    std::thread::spawn(move || {
        while !signal_of_link.exists() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        wire.send_replace(Link::Up);
    });
    let ready = |Ready { mqtt, admin, .. }| {
        println!("{{\"event\":\"ready\",\"mqtt\":\"{mqtt}\",\"admin\":\"{}\"}}", admin.unwrap())
    };
    runtime
        .block_on(async {
            let stop = outrider::commands::run::first_signal().unwrap();
            gateway::run(settings, link, ready, stop).await
        })
        .unwrap();
    // The test runner would report to an output that nobody reads any more.
    std::process::exit(0);
}

/// Two archives, one of which is removed from the configuration and added again.
#[test]
fn a_sink_that_has_left_the_configuration_keeps_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let start = |names: &[&str], link| {
        InProcess::start_with_link(folder.path(), link, |settings| {
            settings.capacity = Capacity::new(64 << 20);
            let of_name = |name: &&str| {
                let mut sink = settings.sinks[0].clone();
                sink.name = (*name).to_owned();
                ArchiveSink::change(&mut sink, |archive| archive.folder.push(name));
                sink
            };
            settings.sinks = names.iter().map(of_name).collect();
            close_archives_soon(settings);
        })
    };
    start(&["stays", "leaves"], Link::Up).stop();

    let one = start(&["stays"], Link::Up);
    let mut client = crate::client::Client::connect(one.mqtt, "device");
    (1..=100).for_each(|n| client.publish("devices/d/temperature", format!("{{\"value\":1,\"seq\":{n}}}")));
    wait_until("delivery", || ledger_line(&one.status(), "stays", "raw")["delivered"] == 100);
    let status = one.status();
    let line = ledger_line(&status, "leaves", "raw");
    assert_eq!((&line["buffered"], &status["ledger_adds_up"]), (&100.into(), &true.into()), "its data is kept");
    let sinks = status["sinks"].as_array().unwrap();
    let configured = |name: &str| {
        sinks
            .iter()
            .filter(|sink| sink["name"] == name)
            .map(|sink| sink["configured"].as_bool().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!((configured("stays"), configured("leaves")), (vec![true, true], vec![false, false]));
    one.stop();

    let both = start(&["stays", "leaves"], Link::Up);
    wait_until("delivery", || ledger_line(&both.status(), "leaves", "raw")["delivered"] == 100);
    assert_eq!(ledger_line(&both.status(), "stays", "raw")["delivered"], 100);
    both.stop();
}
