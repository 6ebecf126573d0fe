//! The rows that a commit writes, table by table.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::commit::CommitInput;
use super::cursors::Cursors;
use super::entries;
use super::header::BatchHeader;
use super::held;
use super::rejected;
use super::retention::Needed;
use super::runs::{self, Run};
use super::salvage::Salvaged;
use super::schema::{CODEC_LZ4, PAGE_BYTES};
use crate::core::identity::{Keep, Stream, StreamRow, Streams};
use crate::core::pipeline::{AlertRow, Sealed, SealedBatch};

/// A batch as it is stored.
pub(super) struct BatchRow<'a> {
    pub run: &'a Run,
    pub batch: &'a SealedBatch,
    /// It comes from a damaged store.
    pub is_salvaged: bool,
    /// Compressed.
    pub payload: Vec<u8>,
}

/// All batches of a commit, in the order in which they are written.
pub(super) fn compress<'a>(run: &'a Run, input: &'a CommitInput) -> Vec<BatchRow<'a>> {
    let row = |run, batch, is_salvaged| BatchRow { run, batch, is_salvaged, payload: compress_payload(batch) };
    let sealed = input.sealed.batches.iter().map(|batch| row(run, batch, false));
    let salvaged = input.salvaged.iter().filter_map(|salvaged| salvaged.batch.as_ref());
    sealed.chain(salvaged.map(|(run, batch)| row(run, batch, true))).collect()
}

fn compress_payload(batch: &SealedBatch) -> Vec<u8> {
    let mut compressed = lz4_flex::block::compress(&batch.payload);
    // It was allocated for the worst case.
    compressed.shrink_to_fit();
    compressed
}

impl BatchRow<'_> {
    /// Bytes of the pages that it takes: the full ones, and two for a beginning and an end that fill none.
    pub fn stored_bytes(&self) -> u64 {
        (self.payload.len() as u64 / OVERFLOW_BYTES + 2) * PAGE_BYTES
    }

    pub fn insert(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let BatchRow { run, batch, payload, .. } = self;
        let header = BatchHeader {
            id: held::id(batch.stream, batch.last_sequence),
            run: run.run,
            first_position: batch.first_position,
            count: batch.count,
            first_ms: batch.first_ms,
            last_ms: batch.last_ms,
            raw_len: batch.payload.len() as u64,
            codec: CODEC_LZ4,
        };
        header.insert(transaction, runs::number(transaction, run)?, header.check(&run.gateway, payload), payload)
    }
}

/// Bytes that a commit needs, with its batches compressed.
pub(super) fn needed(input: &CommitInput, rows: &[BatchRow<'_>], streams: &Streams) -> Needed {
    let kept = |keep| {
        rows.iter().filter(|row| streams.keep(row.batch.stream) == keep).map(BatchRow::stored_bytes).sum::<u64>()
    };
    let Sealed { alerts, snapshot, .. } = &input.sealed;
    let alerts: usize = alerts.iter().filter_map(|alert| alert.body.as_ref()).map(Vec::len).sum();
    let snapshot: usize = snapshot.iter().map(|chunk| chunk.state.len()).sum();
    let undecodable: usize = rejected::kept(&input.undecodable).into_iter().map(rejected::size).sum();
    let letters = input.cursors.iter().flat_map(|change| &change.dead_letters);
    let letters: usize = letters.map(|letter| letter.line.len()).sum();
    let other = (alerts + undecodable + letters + entries::needed(&input.entries)) as u64;
    Needed { bulk: kept(Keep::Bulk), other: kept(Keep::Reserve) + other, snapshot: snapshot as u64 }
}

/// Bytes of a blob that one overflow page holds.
const OVERFLOW_BYTES: u64 = PAGE_BYTES - 4;

/// Bytes of what alerts and snapshot chunks replace, in the store and in the same commit.
pub(super) fn replaced_bytes(db: &Connection, sealed: &Sealed) -> rusqlite::Result<u64> {
    let length = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0).map(|bytes| bytes.max(0) as u64);
    let mut replaced = 0;
    let mut chunk_bytes = db.prepare_cached("SELECT length(state) FROM snapshot WHERE chunk = ?1")?;
    for chunk in &sealed.snapshot {
        replaced += chunk_bytes.query_row([chunk.index], length).optional()?.unwrap_or(0);
    }
    let mut alert_bytes =
        db.prepare_cached("SELECT length(body) FROM alert WHERE device = ?1 AND metric = ?2 AND kind = ?3")?;
    let mut latest = HashMap::new();
    for AlertRow { device, metric, kind, body } in &sealed.alerts {
        let bytes = body.as_ref().map_or(0, Vec::len) as u64;
        replaced += match latest.insert((device, metric, kind), bytes) {
            Some(before) => before,
            None => alert_bytes.query_row([device, metric, kind], length).optional()?.unwrap_or(0),
        };
    }
    Ok(replaced)
}

pub(super) fn write_snapshot(transaction: &Transaction<'_>, sealed: &Sealed) -> rusqlite::Result<()> {
    let mut put =
        transaction.prepare_cached("INSERT OR REPLACE INTO snapshot(chunk, seq, state) VALUES (?1, ?2, ?3)")?;
    for chunk in &sealed.snapshot {
        put.execute(params![chunk.index, chunk.sequence as i64, chunk.state])?;
    }
    if let Some(chunks) = sealed.snapshot_chunks {
        transaction.prepare_cached("DELETE FROM snapshot WHERE chunk >= ?1")?.execute([chunks])?;
    }
    Ok(())
}

/// The table is the outbox: everything in it is published at each start, so what was published need not be recorded.
pub(super) fn write_alerts(transaction: &Transaction<'_>, sealed: &Sealed) -> rusqlite::Result<()> {
    for alert in &sealed.alerts {
        match &alert.body {
            Some(body) => transaction
                .prepare_cached("INSERT OR REPLACE INTO alert(device, metric, kind, body) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![alert.device, alert.metric, alert.kind, body])?,
            None => transaction
                .prepare_cached("DELETE FROM alert WHERE device = ?1 AND metric = ?2 AND kind = ?3")?
                .execute(params![alert.device, alert.metric, alert.kind])?,
        };
    }
    Ok(())
}

/// Registers a damaged store to be salvaged, each stream from after the sequence that `passed` returns.
pub(super) fn note_salvage(
    db: &Connection,
    folder: &str,
    streams: &Streams,
    passed: impl Fn(Stream) -> u64,
) -> rusqlite::Result<()> {
    for StreamRow { stream, name, .. } in streams.rows() {
        db.prepare_cached("INSERT OR IGNORE INTO salvage(folder, stream, seq) VALUES (?1, ?2, ?3)")?
            .execute(params![folder, name, passed(*stream) as i64])?;
    }
    Ok(())
}

/// Whether a damaged store is registered.
pub(super) fn knows_salvage(db: &Connection, folder: &str) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM salvage WHERE folder = ?1")?.exists([folder])
}

/// Records how far the damaged store has been read.
pub(super) fn write_salvage(db: &Connection, salvaged: &Salvaged) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE salvage SET seq = ?3, done = ?4 WHERE folder = ?1 AND stream = (SELECT name FROM stream WHERE id = ?2)",
    )?
    .execute(params![salvaged.folder, salvaged.stream.id(), salvaged.through as i64, salvaged.is_end])?;
    Ok(())
}

/// Nothing more comes from damaged stores that are no longer there.
pub(super) fn end_salvage_of_others(db: &Connection, kept: &[String]) -> rusqlite::Result<()> {
    let mut select = db.prepare("SELECT DISTINCT folder FROM salvage WHERE NOT done")?;
    let folders: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for folder in folders.iter().filter(|folder| !kept.contains(folder)) {
        db.execute("UPDATE salvage SET done = 1 WHERE folder = ?1", [folder])?;
    }
    Ok(())
}

/// Whether a salvaged batch is to be stored: some sink has not got it, and nothing that is stored has its place.
pub(super) fn is_wanted(db: &Connection, cursors: &Cursors, batch: &SealedBatch) -> rusqlite::Result<bool> {
    let (first, last) = (batch.first_sequence(), batch.last_sequence);
    let is_delivered = cursors.delivered_through(batch.stream).is_some_and(|through| last <= through);
    Ok(!is_delivered && !held::overlaps(db, batch.stream, first, last)?)
}
