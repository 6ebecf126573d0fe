//! Reads the cursors of a store, also of one that is damaged or of an older version.

use rusqlite::Connection;

use super::super::held_keys::HeldKeys;
use super::{Cursors, Entry};
use crate::core::cursor::CursorState;
use crate::core::identity::Stream;

impl Cursors {
    /// Loads the cursors of all sinks; none counts as configured yet.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn load(db: &Connection) -> rusqlite::Result<Cursors> {
        Cursors::load_with(db, HeldKeys::load)
    }

    /// Loads them from a damaged store, with the keys that are set aside as far as these can be read.
    ///
    /// # Errors
    ///
    /// If the cursors themselves cannot be read.
    pub fn load_damaged(db: &Connection) -> rusqlite::Result<Cursors> {
        Cursors::load_with(db, |db, sink, stream| Ok(HeldKeys::load_damaged(db, sink, stream)))
    }

    fn load_with(
        db: &Connection,
        held_keys: impl Fn(&Connection, &str, Stream) -> rusqlite::Result<HeldKeys>,
    ) -> rusqlite::Result<Cursors> {
        // By number, because names are in another table, which may be damaged.
        let present = db.prepare(
            "SELECT name, stream, value, acknowledged, accepted, delivered, expired, dead_lettered, quarantined, missing,
               coalesce(passed_over, 0)
             FROM progress WHERE name <> ''",
        );
        // A store of version 1 that was set aside has no such table.
        let of_1 = "SELECT sink, CASE stream WHEN 'raw' THEN 1 WHEN 'anomalies' THEN 2 END, seq, acknowledged, accepted, delivered, expired,
               dead_lettered, quarantined, missing, 0
             FROM cursor";
        let mut select = present.or_else(|_| db.prepare(of_1))?;
        let mut rows = select.query([])?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            let number = |column| row.get::<_, i64>(column).map(|number| number as u64);
            // Those of stream 0 are totals.
            let Some(stream) = Stream::from_id(row.get(1)?) else { continue };
            let sink: String = row.get(0)?;
            let (cursor, ranges): (u64, Vec<u8>) = (number(2)?, row.get(3)?);
            // Unreadable ranges cost duplicates, which their identity reveals; refusing to start would cost data.
            let state = CursorState::decode(cursor, &ranges).unwrap_or_else(|| CursorState::at(cursor));
            if entries.iter().any(|known: &Entry| known.sink == sink && known.stream == stream) {
                continue;
            }
            entries.push(Entry {
                delivered: number(5)?,
                expired: number(6)?,
                dead_lettered: number(7)?,
                quarantined: number(8)?,
                missing_count: number(9)?,
                passed_over: number(10)?,
                configured: false,
                held_keys: held_keys(db, &sink, stream)?,
                ..Entry::at(&sink, stream, state, number(4)?)
            });
        }
        Ok(Cursors { entries })
    }
}
