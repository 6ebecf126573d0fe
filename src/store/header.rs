//! A row of the table `batch`, without its payload.

use rusqlite::{Connection, params};

use crate::core::identity::RunId;

/// The columns of a batch besides its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchHeader {
    pub id: i64,
    pub run: RunId,
    pub first_position: u64,
    pub count: u32,
    pub first_ms: i64,
    pub last_ms: i64,
    /// Size of the payload before compression.
    pub raw_len: u64,
    pub codec: i64,
}

impl BatchHeader {
    /// A checksum over the whole batch, including its run and gateway: SQLite does not notice every damaged page.
    pub fn check(&self, gateway: &str, payload: &[u8]) -> u32 {
        let BatchHeader { id, run, first_position, count, first_ms, last_ms, raw_len, codec } = *self;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&run.0);
        for number in [id, first_position as i64, i64::from(count), first_ms, last_ms, raw_len as i64, codec] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(gateway.as_bytes());
        hasher.update(payload);
        hasher.finalize()
    }

    pub fn insert(&self, db: &Connection, run: i64, check: u32, payload: &[u8]) -> rusqlite::Result<()> {
        let BatchHeader { id, first_position, count, first_ms, last_ms, raw_len, codec, .. } = *self;
        db.prepare_cached(
            "INSERT INTO batch(id, run, first_position, count, first_ms, last_ms, raw_len, codec, \"check\", payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            id,
            run,
            first_position as i64,
            count,
            first_ms,
            last_ms,
            raw_len as i64,
            codec,
            check,
            payload
        ])?;
        Ok(())
    }
}
