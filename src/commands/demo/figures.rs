//! Figures for the running demonstration, from the ledger in the store.

use std::path::Path;

use crate::admin::ledger;
use crate::store::reader::Reader;
use crate::store::schema::{OpenError, store_path};

/// Readings in the raw stream, and how many of them the archive has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub stored: u64,
    pub buffered: u64,
    pub delivered: u64,
}

pub struct FiguresReader(Reader);

impl FiguresReader {
    /// For the gateway that runs in this folder.
    pub fn open(state_folder: &Path) -> Result<FiguresReader, OpenError> {
        Reader::open(&store_path(state_folder), None).map(FiguresReader)
    }

    pub fn read(&mut self) -> rusqlite::Result<Figures> {
        let view = ledger::look(self.0.connection())?;
        let line = view.ledger.into_iter().find(|line| line.stream == "raw").unwrap_or_default();
        Ok(Figures { stored: line.accepted, buffered: line.buffered, delivered: line.delivered })
    }
}
