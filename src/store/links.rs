//! What was spent on each link, kept with the cursors: what was delivered and what it cost are stored in one transaction.
//!
//! A link is a row among the totals: its value is everything that was ever counted, and beside it is the state as whoever counts wants it. A
//! store that is set aside takes the state with it, and the new one has the total.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, params};

/// Prefix, followed by the link's name: bytes on its sockets.
pub const LINK_BYTES: &str = "link_bytes";

/// A link that is counted. It is asked when it is stored, so that of two states the one that is stored later is the later one.
pub trait CountedLink: fmt::Debug + Send + Sync {
    /// As it is now.
    fn state(&self) -> LinkState;
    /// The state that it was asked for last is durable.
    fn is_durable(&self);
}

/// A link as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    pub name: String,
    /// Everything that was ever counted.
    pub counted: u64,
    pub state: String,
}

/// What is stored of a link at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLink {
    /// Everything that was ever counted.
    pub counted: u64,
    /// `None` if the store in which it was has been set aside, or it is no text.
    pub state: Option<String>,
}

/// Keeps a state, unless one is kept that has counted more.
pub(super) fn keep(db: &Connection, link: &LinkState) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO progress(stream, name, value, acknowledged) VALUES (0, ?1, ?2, ?3)
         ON CONFLICT(stream, name) DO UPDATE SET value = excluded.value, acknowledged = excluded.acknowledged
           WHERE excluded.value >= value OR acknowledged IS NULL",
    )?
    .execute(params![format!("{LINK_BYTES}:{}", link.name), link.counted.cast_signed(), link.state.as_bytes()])?;
    Ok(())
}

/// A link, if anything is stored of it.
pub(super) fn load(db: &Connection, name: &str) -> rusqlite::Result<Option<StoredLink>> {
    db.prepare_cached("SELECT value, acknowledged FROM progress WHERE stream = 0 AND name = ?1")?
        .query_row([format!("{LINK_BYTES}:{name}")], |row| {
            let (counted, state): (i64, Option<Vec<u8>>) = (row.get(0)?, row.get(1)?);
            let state = state.and_then(|bytes| String::from_utf8(bytes).ok());
            Ok(StoredLink { counted: counted.cast_unsigned(), state })
        })
        .optional()
}
