//! Stores of which pages are exchanged, doubled and overwritten: what is intact is found.

use std::path::PathBuf;

use rusqlite::Connection;

use super::*;
use crate::store::runs;
use crate::store::schema::{self, CODEC_LZ4, PAGE_BYTES, Synchronous, log_of};

const PAGE: usize = PAGE_BYTES as usize;
const BATCHES: u64 = 200;

struct Made {
    _folder: tempfile::TempDir,
    path: PathBuf,
    db: Connection,
}

/// Batches of ten records, every third with several overflow pages.
fn make() -> Made {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("s");
    let db = schema::open_writer(&path, Synchronous::Off, None).expect("a new store");
    let run = Run { run: RunId([7; 8]), gateway: "g".to_owned(), started_ms: 5 };
    for number in 1..=BATCHES {
        let mut noise = number;
        let payload: Vec<u8> = (0..if number % 3 == 0 { 9_000 } else { 300 })
            .map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (noise >> 56) as u8
            })
            .collect();
        let header = BatchHeader {
            id: held::id(Stream::RAW, 10 * number),
            run: run.run,
            first_position: 10 * number - 9,
            count: 10,
            first_ms: 1,
            last_ms: 2,
            raw_len: payload.len() as u64,
            codec: CODEC_LZ4,
        };
        let compressed = lz4_flex::block::compress(&payload);
        let number = runs::number(&db, &run).expect("a working disk");
        header.insert(&db, number, header.check(&run.gateway, &compressed), &compressed).expect("a working disk");
    }
    Made { _folder: folder, path, db }
}

impl Made {
    /// Moves the log into the file, and changes the file.
    fn change(&self, change: impl FnOnce(&mut [u8])) {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a working disk");
        let mut file = std::fs::read(&self.path).expect("readable");
        change(&mut file);
        std::fs::write(&self.path, file).expect("writable");
    }

    /// The last sequences of the batches that are found behind `after`.
    fn found(&self, after: u64) -> Vec<u64> {
        let mut scan = Scan::open(&self.path, &[]).expect("readable");
        let (mut found, mut at) = (Vec::new(), after);
        while let Some(batch) = scan.next(Stream::RAW, at).expect("readable") {
            assert_eq!(
                (batch.count, batch.first_position, batch.run.gateway.as_str()),
                (10, batch.last_sequence - 9, "g")
            );
            assert!(batch.last_sequence > at, "in order");
            at = batch.last_sequence;
            found.push(at);
        }
        found
    }
}

fn all() -> Vec<u64> {
    (1..=BATCHES).map(|number| 10 * number).collect()
}

/// Pages with several batches.
fn leaves(file: &[u8]) -> Vec<usize> {
    let is_leaf = |at: &usize| {
        let rows = cells(&file[at * PAGE..(at + 1) * PAGE], false);
        rows.filter(|cell| header_of(cell).is_some()).count() > 2
    };
    (1..file.len() / PAGE).filter(is_leaf).collect()
}

#[test]
fn everything_is_found_in_the_log_and_in_the_file() {
    let made = make();
    assert_eq!(made.found(0), all(), "most of it in the log");
    made.change(|_| {});
    assert_eq!(made.found(0), all());
    assert_eq!(made.found(1_005), all()[100..], "one that is passed in part is found too");
    assert_eq!(
        Scan::open(&made.path, &[]).expect("readable").next(Stream::ANOMALIES, 0).expect("readable").map(|_| ()),
        None
    );
}

#[test]
fn pages_that_lie_in_each_others_place_are_found() {
    let made = make();
    made.change(|file| {
        let leaves = leaves(file);
        let (one, other) = (leaves[3], leaves[20]);
        let page = file[one * PAGE..(one + 1) * PAGE].to_vec();
        file.copy_within(other * PAGE..(other + 1) * PAGE, one * PAGE);
        file[other * PAGE..(other + 1) * PAGE].copy_from_slice(&page);
    });
    assert_eq!(made.found(0), all());
}

#[test]
fn a_page_that_is_gone_costs_its_rows_and_one_that_is_there_twice_none_of_its_own() {
    let made = make();
    let mut lost = Vec::new();
    made.change(|file| {
        let leaves = leaves(file);
        let rows = cells(&file[leaves[5] * PAGE..(leaves[5] + 1) * PAGE], false);
        lost = rows.map(|cell| held::sequence(cell.row_id)).collect();
        file.copy_within(leaves[9] * PAGE..(leaves[9] + 1) * PAGE, leaves[5] * PAGE);
        // The tree above them, too.
        file[..PAGE].fill(0);
    });
    let mut expected = all();
    expected.retain(|last| !lost.contains(last));
    assert!(lost.len() > 2 && expected.len() < all().len());
    assert_eq!(made.found(0), expected);
}

#[test]
fn a_log_with_a_flipped_bit_is_read_behind_it_too() {
    let made = make();
    drop(schema::open_reader(&made.path, None));
    let log = log_of(&made.path);
    let mut bytes = std::fs::read(&log).expect("a log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, bytes).expect("writable");
    let found = made.found(0);
    assert!(found.len() as u64 >= BATCHES - 8 && found.last() == Some(&(10 * BATCHES)), "{}", found.len());
    let state = crate::store::pages::LogState::of(&made.path).expect("readable");
    assert!(state.commits_behind_damage > 50 && !state.is_cut, "{state:?}");
}
