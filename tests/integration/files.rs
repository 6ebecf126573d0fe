//! Lines of files become readings once, on a real file system: over rotations, restarts and kills.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::archive;
use crate::gateway::{Gateway, wait_until};

/// A folder with files to be read, in the folder of a gateway.
struct Site {
    folder: TempDir,
    config: String,
}

impl Site {
    fn new(config: &str) -> Site {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        let config = config.replace("IN", folder.path().join("in").to_str().unwrap());
        Site { folder, config }
    }

    fn start(&self) -> Gateway {
        Gateway::start_configured(self.folder.path(), &self.config, &[], &[])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("in").join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = File::options().create(true).append(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// What a command says of the running gateway.
    fn outrider(&self, arguments: &[&str]) -> String {
        let state = self.folder.path().join("state");
        let output = Command::new(env!("CARGO_BIN_EXE_outrider"))
            .args(arguments)
            .args(["--state", state.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// How many places of files are stored.
    fn entries(&self) -> i64 {
        let db = rusqlite::Connection::open(self.folder.path().join("state/outrider.sqlite")).unwrap();
        db.query_row("SELECT count(*) FROM entry WHERE substr(key, 1, 1) = CAST('F' AS BLOB)", [], |row| row.get(0))
            .unwrap()
    }

    /// Stops the gateway, and returns what its archive has: `device metric value` of each reading, in their order.
    fn stop(&self, gateway: Gateway) -> Vec<String> {
        assert!(gateway.stop().success());
        let mut readings: Vec<_> = archive::records(&self.folder.path().join("state/archive"), "raw")
            .iter()
            .filter(|record| record["type"] == "reading")
            .map(|record| {
                let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
                let identity = (record["received_at_ms"].as_i64().unwrap(), text("run"), record["position"].as_u64());
                (identity, format!("{} {} {}", text("device"), text("metric"), record["value"]))
            })
            .collect();
        readings.sort();
        // A sink may get a record again after a kill, under its identity.
        readings.dedup();
        readings.into_iter().map(|(_, reading)| reading).collect()
    }
}

fn wait_for_readings(gateway: &Gateway, count: u64) {
    wait_until("the readings", || gateway.status()["received"]["accepted"] == count);
}

const LINES: &str = "[[file]]\npath = 'IN/*.log*'\ntopic = 'devices/{file}/n'\n";

#[test]
fn files_are_read_on_over_rotations_while_the_gateway_runs_and_while_it_is_away() {
    let site = Site::new(LINES);
    site.append("a.log", "{\"value\":1}\n{\"val");
    let gateway = site.start();
    wait_for_readings(&gateway, 1);
    site.append("a.log", "ue\":2}\r\n{\"value\":3}\n");
    site.rename("a.log", "a.log.1");
    site.append("a.log", "{\"value\":4}\n");
    wait_for_readings(&gateway, 4);
    gateway.kill();
    site.append("a.log", "{\"value\":5}\n");
    site.rename("a.log.1", "a.log.2");
    std::fs::copy(site.path("a.log"), site.path("a.log.1")).unwrap();
    File::create(site.path("a.log")).unwrap();
    site.append("a.log", "{\"value\":6}\n");
    let gateway = site.start();
    wait_until("the readings", || gateway.status()["received"]["accepted"].as_u64() >= Some(6));
    let mut found = site.stop(gateway);
    found.sort();
    assert_eq!(found, (1..=6).map(|n| format!("a n {n}.0")).collect::<Vec<_>>());
}

#[test]
fn rows_of_csv_and_lines_that_a_pattern_takes_apart_are_readings() {
    let site = Site::new(
        "[[route]]\ntopic = 'table/{device}'\nformat = 'csv'\n\
         [[file]]\npath = 'IN/*.csv'\ntopic = 'table/{file}'\nformat = 'csv'\n\
         [[file]]\npath = 'IN/*.txt'\ntopic = 'devices/{file}'\nformat = 'pattern'\npattern = '^(?<t>[-0-9.]+) C'\n",
    );
    site.append("c.csv", "\u{feff}speed,note\n1.5,\"two\nlines\"\n");
    site.append("p.txt", "21.5 C\nnothing\n-3 C\n");
    let gateway = site.start();
    wait_for_readings(&gateway, 3);
    site.append("c.csv", "2.5,\n");
    wait_for_readings(&gateway, 4);
    let status = gateway.status();
    assert_eq!(status["received"]["undecodable"], 1, "{status}");
    let refused = &status["undecodable"][0];
    let shown = ["reason", "topic", "sample"].map(|name| refused[name].as_str().unwrap());
    assert_eq!((shown, &refused["count"]), (["no_match", "devices/p", "nothing"], &1.into()));
    assert!(site.outrider(&["status"]).contains("\n  devices/p (1): nothing\n"), "{}", site.outrider(&["status"]));
    let mut found = site.stop(gateway);
    found.sort();
    assert_eq!(found, ["c speed 1.5", "c speed 2.5", "p t -3.0", "p t 21.5"]);
}

fn gzip(path: &Path) {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&std::fs::read(path).unwrap()).unwrap();
    let packed = PathBuf::from(format!("{}.gz", path.display()));
    std::fs::write(packed, encoder.finish().unwrap()).unwrap();
    std::fs::remove_file(path).unwrap();
}

#[test]
fn compressed_rotations_are_read_on_and_what_is_known_of_files_is_shown() {
    let site = Site::new(LINES);
    site.append("a.log", "{\"value\":1}\n");
    site.append("old.log.3", "{\"value\":7}\n");
    gzip(&site.path("old.log.3"));
    let gateway = site.start();
    wait_for_readings(&gateway, 2);
    // One that was read, and one that was not because nobody was there.
    site.rename("a.log", "a.log.1");
    site.append("a.log", "{\"value\":2}\n");
    wait_for_readings(&gateway, 3);
    gzip(&site.path("a.log.1"));
    let files = |gateway: &Gateway| gateway.status()["files"][0].clone();
    wait_until("the compressed one", || {
        let files = files(&gateway)["files"].clone();
        files.as_array().unwrap().iter().any(|file| file["path"].as_str().unwrap().ends_with("a.log.1.gz"))
    });
    gateway.kill();
    site.append("a.log", "{\"value\":3}\nnothing\n");
    site.rename("a.log", "a.log.2");
    gzip(&site.path("a.log.2"));
    std::fs::write(site.path("broken.log.gz"), b"no gzip").unwrap();
    let gateway = site.start();
    wait_for_readings(&gateway, 4);
    wait_until("the damage", || files(&gateway)["damaged"] == 1);
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("a.log.2.gz could not be decoded"), "{log}");
    let shown = files(&gateway);
    assert_eq!((&shown["lines"], &shown["lines_refused"], &shown["vanished"]), (&1.into(), &1.into(), &0.into()));
    assert_eq!((&shown["lag_bytes"], &shown["lost_bytes"]), (&0.into(), &0.into()));
    let text = site.outrider(&["file", "status"]);
    assert!(
        text.contains("1 line stored since the start") && text.contains("a.log.2.gz: read, 32 of 32 bytes"),
        "{text}"
    );
    assert!(site.outrider(&["status"]).contains("\nfiles: 1\n"));
    let json: serde_json::Value = serde_json::from_str(&site.outrider(&["file", "status", "--json"])).unwrap();
    assert_eq!(json[0]["damaged"], 1);
    let mut found = site.stop(gateway);
    found.sort();
    assert_eq!(found, ["a n 1.0", "a n 2.0", "a n 3.0", "old n 7.0"]);
}

#[test]
fn places_of_files_that_are_not_read_any_more_are_deleted() {
    let site = Site::new(LINES);
    site.append("a.log", "{\"value\":1}\n");
    let gateway = site.start();
    wait_for_readings(&gateway, 1);
    site.stop(gateway);
    let places = || site.entries();
    assert_eq!(places(), 1);
    let without = Gateway::start_configured(site.folder.path(), "", &[], &[]);
    wait_until("it is deleted", || places() == 0);
    assert_eq!(without.status()["files"], serde_json::json!([]));
    assert!(without.stop().success());
}

/// How a writer rotates its file each second.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rotation {
    Rename,
    CopyTruncate,
    DeleteCreate,
}

/// Numbers that were in a file which was deleted, and when it was there.
struct Deleted {
    numbers: std::ops::Range<u64>,
    from: Instant,
    to: Instant,
}

/// Writes numbers until it is stopped. Returns how many, and what it has deleted.
fn write(path: &Path, rotation: Rotation, stop: &AtomicBool) -> (u64, Vec<Deleted>) {
    let open = || File::options().create(true).append(true).open(path).unwrap();
    let named = |number: u64| PathBuf::from(format!("{}.{number}", path.display()));
    let (mut file, mut written, mut deleted) = (open(), 0, Vec::new());
    let (mut first, mut from) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let text: String = (written..written + 9).map(|n| format!("{{\"value\":{n}}}\n")).collect();
        written += 9;
        let (half, rest) = text.split_at(text.len() / 2 + 3);
        file.write_all(half.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        file.write_all(rest.as_bytes()).unwrap();
        if from.elapsed() < Duration::from_secs(1) {
            continue;
        }
        if rotation != Rotation::DeleteCreate {
            (1..6).rev().for_each(|number| drop(std::fs::rename(named(number), named(number + 1))));
        }
        match rotation {
            Rotation::Rename => std::fs::rename(path, named(1)).unwrap(),
            Rotation::CopyTruncate => {
                std::fs::copy(path, named(1)).unwrap();
                file.set_len(0).unwrap();
            }
            Rotation::DeleteCreate => {
                std::fs::remove_file(path).unwrap();
                deleted.push(Deleted { numbers: first..written, from, to: Instant::now() });
            }
        }
        (first, from, file) = (written, Instant::now(), open());
    }
    (written, deleted)
}

/// So long after a file was deleted, what was in it is stored.
const STORED_WITHIN: Duration = Duration::from_secs(3);

/// `OUTRIDER_FILES_KILLS` is how often the gateway is killed: 85 take about five minutes.
#[test]
fn each_line_is_stored_once_however_files_are_rotated_and_whenever_the_gateway_is_killed() {
    let kills = std::env::var("OUTRIDER_FILES_KILLS").map_or(4, |kills| kills.parse().unwrap());
    let site = Site::new(LINES);
    let stop = Arc::new(AtomicBool::new(false));
    let mut gateway = site.start();
    let names = [("ren", Rotation::Rename), ("cut", Rotation::CopyTruncate), ("del", Rotation::DeleteCreate)];
    let writers = names.map(|(name, rotation)| {
        let (path, stop) = (site.path(&format!("{name}.log")), Arc::clone(&stop));
        std::thread::spawn(move || write(&path, rotation, &stop))
    });
    let mut away = Vec::new();
    for kill in 0..kills {
        std::thread::sleep(Duration::from_millis(700 + kill * 1_237 % 4_000));
        let from = Instant::now();
        gateway.kill();
        std::thread::sleep(Duration::from_millis(kill * 331 % 900));
        gateway = site.start();
        away.push(from..Instant::now() + STORED_WITHIN / 2);
    }
    stop.store(true, Ordering::Relaxed);
    let written = writers.map(|writer| writer.join().unwrap());
    let mut accepted = 0;
    wait_until("nothing new to come", || {
        std::thread::sleep(STORED_WITHIN);
        let now = gateway.status()["received"]["accepted"].as_u64().unwrap();
        std::mem::replace(&mut accepted, now) == now
    });
    let mut found: HashMap<String, u64> = HashMap::new();
    site.stop(gateway).into_iter().for_each(|reading| *found.entry(reading).or_default() += 1);
    for ((name, rotation), (count, deleted)) in names.into_iter().zip(written) {
        // Nobody can have read what was in a file that was there only while the gateway was away, or just before it was killed.
        let is_excused = |number: u64| {
            let of = deleted.iter().filter(|deleted| deleted.numbers.contains(&number));
            of.clone().any(|one| away.iter().any(|away| away.start < one.to + STORED_WITHIN && away.end > one.from))
        };
        for number in 0..count {
            let times = found.remove(&format!("{name} n {number}.0")).unwrap_or_default();
            assert!(times == 1 || times == 0 && is_excused(number), "{rotation:?}: {number} is stored {times} times");
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

/// `OUTRIDER_FILES_ROTATIONS` is how many files there are, one after the other, and `OUTRIDER_FILES_LINES` how many lines each has: 3,600 of
/// 10,000 are what an hour of a file a second is.
#[test]
fn memory_and_descriptors_do_not_grow_with_the_files_that_were_read() {
    let from = |name: &str, usual: u64| std::env::var(name).map_or(usual, |value| value.parse().unwrap());
    let (files, lines) = (from("OUTRIDER_FILES_ROTATIONS", 60), from("OUTRIDER_FILES_LINES", 200));
    // Not even names of compressed files match, for which deleted ones are remembered.
    let site = Site::new("[[file]]\npath = 'IN/*.log'\ntopic = 'devices/{file}/n'\n");
    let gateway = site.start();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
    let mut settled = (0, 0);
    let started = Instant::now();
    for file in 0..files {
        let text: String = (0..lines).map(|n| format!("{{\"value\":{}}}\n", (file * lines + n) % 97)).collect();
        site.append("x.log", &text);
        wait_for_readings(&gateway, (file + 1) * lines);
        for number in (1..4).rev() {
            let _ = std::fs::rename(site.path(&format!("x-{number}.log")), site.path(&format!("x-{}.log", number + 1)));
        }
        site.rename("x.log", "x-1.log");
        if file == files / 3 {
            settled = (gateway.rss_bytes(), descriptors());
        }
    }
    // Those of the last seconds are open still.
    wait_until("files are closed", || descriptors() < settled.1 + 8);
    let ended = (gateway.rss_bytes(), descriptors());
    println!(
        "{files} files of {lines} lines in {:?}: memory and descriptors {settled:?}, then {ended:?}",
        started.elapsed()
    );
    assert!(ended.0 < settled.0 + (16 << 20), "{settled:?}, then {ended:?}");
    let known = || gateway.status()["files"][0]["files_total"].as_u64().unwrap();
    wait_until("only those that are there are known", || known() < 10);
    assert!(gateway.stop().success());
}
