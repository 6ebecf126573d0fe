//! Lines of files become readings once, on a real file system: over rotations, restarts and kills.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
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
    assert_eq!(
        status["received"]["undecodable"].as_u64().or(status["undecodable"]["total"].as_u64()),
        Some(1),
        "{status}"
    );
    let mut found = site.stop(gateway);
    found.sort();
    assert_eq!(found, ["c speed 1.5", "c speed 2.5", "p t -3.0", "p t 21.5"]);
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
