//! The names under which files may have been stored, kept where a power cut does not take them.
//!
//! A process that is killed while it uploads does not learn whether its object was stored, and the next one finds that out only if it asks
//! for the same name: what was then the first record may have left a full store, and the format may be another one. So each name is written
//! down before it is used, with the records that the object may hold. Whoever builds a file that begins within these gives it that name, and
//! that format. The bucket says whether the object is there; nothing is taken for stored because it is written here.
//!
//! More than one name is kept, because the cursor is stored a while after an object was. The last one may be in doubt, the others are there.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::place::First;
use crate::core::identity::RunId;
use crate::disk;
use crate::disk::slots::Slots;
use crate::sinks::files::format::FileFormat;
use crate::store::log::Record;

/// A block of the disk for each slot.
const SLOT_BYTES: usize = 4096;
/// So many fit into a slot, whatever their numbers. A cursor is hardly ever so far behind: it is stored on the same disk.
const NAMES_MAX: usize = 16;

/// What an object was named by, and the last record that it may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Name {
    run: [u8; 8],
    position: u64,
    received_ms: i64,
    last: u64,
    suffix: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Document {
    number: u64,
    names: VecDeque<Name>,
}

pub struct Names {
    slots: Slots,
    document: Document,
    /// What is on the disk says the same.
    is_saved: bool,
}

impl Names {
    /// Those of one sink and stream, in the folder where its files are built.
    pub fn open(folder: &Path, sink: &str, stream: &str) -> Names {
        let slots = Slots::new(path(folder, sink, stream), SLOT_BYTES);
        // On a disk without room a name is written down when there is some.
        let _ = prepare(&slots);
        let written = slots.read();
        let documents = written.iter().filter_map(|body| serde_json::from_slice::<Document>(body).ok());
        let document = documents.max_by_key(|document| document.number).unwrap_or_default();
        Names { slots, document, is_saved: true }
    }

    /// The name and the format of a file that begins with this record, if they are given already.
    pub fn given(&self, record: &Record<'_>) -> Option<(First, FileFormat)> {
        let holds = |name: &&Name| name.run == record.run.0 && (name.position..=name.last).contains(&record.position);
        let name = self.document.names.iter().rev().find(holds)?;
        let first = First {
            gateway: record.gateway.to_owned(),
            run: record.run,
            position: name.position,
            received_ms: name.received_ms,
        };
        Some((first, FileFormat::of_suffix(&name.suffix)?))
    }

    /// An object of this name is to be stored, with records up to `last`. It is durable when this returns.
    ///
    /// # Errors
    ///
    /// If it cannot be written. It is known until the process ends then.
    pub fn is_to_be_stored(&mut self, first: &First, last: u64, format: FileFormat) -> io::Result<()> {
        match self.find(first.run, first.position) {
            Some(name) if name.last >= last => {}
            Some(name) => {
                name.last = last;
                self.is_saved = false;
            }
            None => {
                self.document.names.push_back(Name {
                    run: first.run.0,
                    position: first.position,
                    received_ms: first.received_ms,
                    last,
                    suffix: format.suffix().to_owned(),
                });
                let more = self.document.names.len().saturating_sub(NAMES_MAX);
                self.document.names.drain(..more);
                self.is_saved = false;
            }
        }
        if self.is_saved { Ok(()) } else { self.save() }
    }

    /// The object of this name is there and ends here: what follows is in others.
    pub fn is_stored(&mut self, first: &First, last: u64) {
        // It is written down with the next name. Whoever reads the old one meanwhile asks for an object that does not hold what is looked for,
        // and is told so.
        let known = self.find(first.run, first.position).map(|name| std::mem::replace(&mut name.last, last));
        self.is_saved &= known.is_none_or(|known| known == last);
    }

    fn find(&mut self, run: RunId, position: u64) -> Option<&mut Name> {
        self.document.names.iter_mut().rev().find(|name| name.run == run.0 && name.position == position)
    }

    fn save(&mut self) -> io::Result<()> {
        let number = self.document.number + 1;
        let body = serde_json::to_vec(&Document { number, names: self.document.names.clone() })?;
        if !self.slots.path().exists() {
            prepare(&self.slots)?;
        }
        self.slots.write(number, &body)?;
        self.document.number = number;
        self.is_saved = true;
        Ok(())
    }
}

/// Names of sinks and streams have no `@`.
fn path(folder: &Path, sink: &str, stream: &str) -> PathBuf {
    folder.join(format!("{sink}@{stream}.names"))
}

fn prepare(slots: &Slots) -> io::Result<()> {
    let folder = slots.path().parent().unwrap_or(Path::new("."));
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        disk::sync_folders(folder)?;
    }
    slots.claim()
}
