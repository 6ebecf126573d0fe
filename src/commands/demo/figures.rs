//! Figures while it runs: the ledger, as the store has it.

use std::path::Path;

use crate::admin::ledger;
use crate::core::identity::Stream;
use crate::store::reader::Reader;
use crate::store::schema::{OpenError, store_path};

/// Readings of the raw stream and what the archive has of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub stored: u64,
    pub buffered: u64,
    pub delivered: u64,
}

pub struct FiguresReader(Reader);

impl FiguresReader {
    /// Of a gateway that runs in this folder.
    pub fn open(state_folder: &Path) -> Result<FiguresReader, OpenError> {
        Reader::open(&store_path(state_folder), None).map(FiguresReader)
    }

    pub fn read(&mut self) -> rusqlite::Result<Figures> {
        let view = ledger::look(self.0.connection())?;
        let line = view.ledger.into_iter().find(|line| line.stream == Stream::RAW.name()).unwrap_or_default();
        Ok(Figures { stored: line.accepted, buffered: line.buffered, delivered: line.delivered })
    }
}
