//! A store as version 0.1 wrote it: its tables, its batch format, and the data of a gateway's life.

use std::path::Path;

use outrider::core::detection::alert::{self, Moment};
use outrider::core::identity::{PerStream, RunId, Stream};
use outrider::core::pipeline::{Pipeline, PipelineSettings, Sealed, SealedBatch};
use outrider::core::reading::{Reading, Readings};
use outrider::store::schema::store_path;
use rusqlite::{Connection, params};

/// The tables of that version; not to be changed.
const TABLES: &str = "
PRAGMA page_size=4096; PRAGMA journal_mode=WAL;
CREATE TABLE raw(seq INTEGER PRIMARY KEY AUTOINCREMENT, run BLOB NOT NULL, first_position INTEGER NOT NULL, count INTEGER NOT NULL,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, boot_id BLOB, monotonic_base INTEGER, raw_len INTEGER NOT NULL,
  codec INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE anomalies(seq INTEGER PRIMARY KEY AUTOINCREMENT, run BLOB NOT NULL, first_position INTEGER NOT NULL, count INTEGER NOT NULL,
  first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, boot_id BLOB, monotonic_base INTEGER, raw_len INTEGER NOT NULL,
  codec INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE INDEX raw_held ON raw(seq, count, first_ms);
CREATE INDEX anomalies_held ON anomalies(seq, count, first_ms);
CREATE TABLE cursor(sink TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, acknowledged BLOB NOT NULL, accepted INTEGER NOT NULL,
  delivered INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0, dead_lettered INTEGER NOT NULL DEFAULT 0,
  quarantined INTEGER NOT NULL DEFAULT 0, missing INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(sink, stream)) WITHOUT ROWID;
CREATE TABLE salvage(folder TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY(folder, stream)) WITHOUT ROWID;
CREATE TABLE total(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE snapshot(chunk INTEGER PRIMARY KEY, seq INTEGER NOT NULL, state BLOB NOT NULL);
CREATE TABLE alert(device TEXT NOT NULL, metric TEXT NOT NULL, kind TEXT NOT NULL,
  body BLOB NOT NULL, PRIMARY KEY(device, metric, kind)) WITHOUT ROWID;
CREATE TABLE quarantine(id INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, reason TEXT NOT NULL, topic TEXT NOT NULL, sample BLOB NOT NULL);
CREATE TABLE dead_letter(id INTEGER PRIMARY KEY, sink TEXT NOT NULL, stream TEXT NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL, line BLOB NOT NULL);
PRAGMA application_id=1869968498; PRAGMA user_version=1;
";

pub const RUN: RunId = RunId([5; 8]);
pub const GATEWAY: &str = "truck-7";
const SECONDS: i64 = 400;
const START_MS: i64 = 1_790_000_000_000;

/// What the store contains.
#[derive(Debug)]
pub struct Old {
    pub raw: u64,
    pub anomalies: u64,
    /// The sink `archive` has the raw stream up to here, except for two dead letters.
    pub archived: u64,
    /// Id of the raised alert.
    pub alert_id: String,
}

/// Several devices report each second; at the end one of them has an anomaly. `padding` makes readings larger.
pub fn write(folder: &Path, devices: usize, padding: usize) -> Old {
    std::fs::create_dir_all(folder).unwrap();
    let db = Connection::open(store_path(folder)).unwrap();
    db.execute_batch(TABLES).unwrap();
    let mut pipeline = Pipeline::new(PipelineSettings::new(GATEWAY, RUN), &PerStream::default());
    let mut old = Old { raw: 0, anomalies: 0, archived: 0, alert_id: String::new() };
    let mut seed = 0x5eed_0f01_5eed_0f01;
    for second in 0..SECONDS {
        let at = START_MS + 1000 * second;
        let mut readings = Readings::default();
        for device in 0..devices {
            let jump = if second >= SECONDS - 5 && device == 0 { 60.0 } else { 0.0 };
            let value = 20.0 + 0.2 * ((second * 7919) % 11) as f64 + jump;
            let noise: String = (0..padding / 16).map(|_| format!("{:016x}", crate::kill::next(&mut seed))).collect();
            let mut packed = Vec::new();
            outrider::core::reading::pack_attribute(&mut packed, "noise", &noise);
            let attributes = outrider::core::reading::Attributes::from_packed(&packed).unwrap();
            readings.push(&Reading { attributes, ..Reading::at(at, &format!("tank-{device}"), "temperature", value) });
        }
        let now = Moment { wall_ms: at, steady_ms: 1000 * second as u64 };
        pipeline.take(&readings, now);
        pipeline.tick(now);
        let sealed = pipeline.seal();
        insert(&db, &sealed);
        let records = |stream: &str| {
            sealed
                .batches
                .iter()
                .filter(|batch| name(batch.stream) == stream)
                .map(|batch| u64::from(batch.count))
                .sum::<u64>()
        };
        old.raw += records("raw");
        old.anomalies += records("anomalies");
        if second == SECONDS / 2 {
            old.archived = old.raw;
        }
        for row in &sealed.alerts {
            old.alert_id = alert::read_alert(row.body.as_deref().unwrap()).unwrap().1.id;
        }
    }
    assert!(old.anomalies > 0 && !old.alert_id.is_empty());
    let cursor = |sink: &str, stream: &str, seq: u64, ranges: &[u8], accepted: u64, done: u64, dead: u64| {
        db.execute(
            "INSERT INTO cursor(sink, stream, seq, acknowledged, accepted, delivered, dead_lettered) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![sink, stream, seq as i64, ranges, accepted as i64, (done - dead) as i64, dead as i64],
        )
        .unwrap();
    };
    cursor("archive", "raw", old.archived, &[], old.raw, old.archived, 2);
    cursor("archive", "anomalies", 0, &[], old.anomalies, 0, 0);
    // Settled up to 10, and 13 to 15 beyond that.
    cursor("gone", "raw", 10, &[3, 2], old.raw, 13, 0);
    for number in 1..=2 {
        db.execute("INSERT INTO dead_letter(sink, stream, seq, reason, line) VALUES ('archive', 'raw', ?1, 'refused', x'7b7d0a')", [number])
            .unwrap();
    }
    db.execute(
        "INSERT INTO quarantine(received_ms, reason, topic, sample) VALUES (1, 'not_json', 'devices/d', x'7b')",
        [],
    )
    .unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    old
}

fn insert(db: &Connection, sealed: &Sealed) {
    let transaction = db.unchecked_transaction().unwrap();
    for batch in &sealed.batches {
        insert_batch(&transaction, batch);
    }
    for row in &sealed.alerts {
        transaction
            .execute(
                "INSERT OR REPLACE INTO alert(device, metric, kind, body) VALUES (?1, ?2, ?3, ?4)",
                params![row.device, row.metric, row.kind, row.body],
            )
            .unwrap();
    }
    for chunk in &sealed.snapshot {
        transaction
            .execute(
                "INSERT OR REPLACE INTO snapshot(chunk, seq, state) VALUES (?1, ?2, ?3)",
                params![chunk.index, chunk.sequence as i64, chunk.state],
            )
            .unwrap();
    }
    for (name, more) in &sealed.received {
        transaction
            .execute(
                "INSERT INTO total(name, value) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = value + excluded.value",
                params![name, *more as i64],
            )
            .unwrap();
    }
    transaction.commit().unwrap();
}

/// Version 1 has a table for each stream.
fn name(stream: Stream) -> &'static str {
    Stream::BUILT_IN.into_iter().find(|(known, _)| *known == stream).unwrap().1
}

fn insert_batch(db: &Connection, batch: &SealedBatch) {
    let payload = lz4_flex::block::compress(&batch.payload);
    let sql = format!(
        "INSERT INTO {}(seq, run, first_position, count, first_ms, last_ms, raw_len, codec, crc, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?9)",
        name(batch.stream)
    );
    db.execute(
        &sql,
        params![
            batch.last_sequence as i64,
            RUN.0,
            batch.first_position as i64,
            batch.count,
            batch.first_ms,
            batch.last_ms,
            batch.payload.len() as i64,
            crc32fast::hash(&payload),
            payload
        ],
    )
    .unwrap();
}
