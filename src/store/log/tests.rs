use super::*;
use crate::core::batch::BatchEncoder;
use crate::core::reading::{Attributes, Reading, TimeQuality};
use crate::store::runs::{self, Run};
use crate::store::schema::{self, Synchronous};

const RUN: RunId = RunId([7; 8]);

struct Bench {
    _folder: tempfile::TempDir,
    db: rusqlite::Connection,
    reader: Reader,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("store");
        let db = schema::open_writer(&path, Synchronous::Off, None).expect("a new store");
        let reader = Reader::open(&path, None).expect("a reader");
        Bench { _folder: folder, db, reader }
    }

    /// A batch whose row says `count`, but that holds `held` readings.
    fn insert(&self, last: u64, count: u64, held: u64) {
        let mut encoder = BatchEncoder::default();
        for number in 0..held {
            encoder.push_reading(&Reading {
                device: "pump",
                metric: "temp",
                value: 1.0,
                rounding: None,
                measured_at_ms: 0,
                received_at_ms: 100 + number as i64,
                time_quality: TimeQuality::Synced,
                device_time: None,
                sequence: None,
                attributes: Attributes::NONE,
            });
        }
        let payload = encoder.finish();
        let compressed = lz4_flex::block::compress(&payload);
        let header = BatchHeader {
            id: held::id(Stream::RAW, last),
            run: RUN,
            first_position: 1000 + last - count + 1,
            count: count as u32,
            first_ms: 0,
            last_ms: 0,
            raw_len: payload.len() as u64,
            codec: CODEC_LZ4,
        };
        let run = Run { run: RUN, gateway: "truck \"7\"".to_owned(), started_ms: 0 };
        let number = runs::number(&self.db, &run).expect("a number");
        header.insert(&self.db, number, header.check(&run.gateway, &compressed), &compressed).expect("a row");
    }

    /// Everything after a cursor, in short form.
    fn read(&mut self, mut after: u64) -> Vec<String> {
        let (mut block, mut seen) = (Block::default(), Vec::new());
        while self.reader.read(Stream::RAW, after, &mut block).expect("readable") {
            for entry in block.entries(after) {
                assert!(entry.through() > after, "it always goes on");
                after = entry.through();
                seen.push(match entry {
                    Entry::Record(Record { sequence, run, gateway, position, received_ms, .. }) => {
                        assert_eq!((run, gateway, position), (RUN, "truck \\\"7\\\"", 1000 + sequence));
                        format!("{sequence} at {received_ms}")
                    }
                    Entry::Damaged { through, count } => format!("{count} damaged through {through}"),
                    Entry::Gap { through, lost } => format!("gap through {through}, {lost} lost"),
                });
            }
            assert_eq!(after, block.last_sequence());
        }
        seen
    }
}

#[test]
fn records_come_in_order_from_within_a_batch_and_gaps_are_told() {
    let mut bench = Bench::new();
    bench.insert(6, 2, 2);
    bench.insert(9, 1, 1);
    assert_eq!(bench.read(0), ["gap through 4, 0 lost", "5 at 100", "6 at 101", "gap through 8, 2 lost", "9 at 100"]);
    assert_eq!(bench.read(5), ["6 at 101", "gap through 8, 2 lost", "9 at 100"]);
    assert_eq!(bench.read(7), ["gap through 8, 1 lost", "9 at 100"]);
    assert_eq!(bench.read(9), [""; 0]);
}

#[test]
fn damage_costs_a_batch_or_its_end_and_what_comes_before_it_is_a_gap() {
    let mut bench = Bench::new();
    bench.insert(6, 2, 2);
    bench.insert(10, 4, 3);
    bench.insert(12, 2, 5);
    bench.insert(14, 2, 2);
    bench.db.execute("UPDATE batch SET first_position = 9 WHERE seq = 6", []).expect("a row");
    bench.db.execute("UPDATE batch SET count = 0 WHERE seq = 14", []).expect("a row");
    let all = bench.read(0);
    let end = ["7 at 100", "8 at 101", "9 at 102", "1 damaged through 10", "11 at 100", "12 at 101"];
    assert_eq!(all[..2], ["gap through 4, 0 lost", "2 damaged through 6"]);
    assert_eq!(all[2..8], end);
    assert_eq!(all[8..], ["2 damaged through 14"]);
    assert_eq!(bench.read(5)[0], "1 damaged through 6", "the cursor stands within it");
    assert_eq!(bench.read(9)[0], "1 damaged through 10");
}
