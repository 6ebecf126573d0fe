//! `outrider buffer verify`: reads all that the store holds, and says where it is damaged.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::clock::rfc3339;
use crate::commands::Exit;
use crate::commands::detect::progress::Progress;
use crate::commands::operate::Place;
use crate::counter::many;
use crate::store::log::{Block, Entry};
use crate::store::reader::Reader;
use crate::store::{schema, streams};

/// So many places are told; there may be thousands.
const TOLD_MAX: usize = 100;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct VerifyArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

const HELP: &str = "\
Each batch is read by itself, with its checksum, and every record in it is
decoded; small tables are checked as a whole. A running gateway goes on.

Exit codes:
   0  everything is whole
   1  something is damaged or not there yet, or the store cannot be read
   2  usage
  78  the configuration is wrong, or the store is of a newer version or of another program";

#[derive(Debug, Default, Serialize)]
struct Found {
    records: u64,
    batches: u64,
    /// Records that cannot be read, or are gone without the store having removed them.
    damaged_records: u64,
    damage: Vec<Damage>,
    /// Places that are not listed.
    more: u64,
    /// Records that are not there yet, because a damaged store is being salvaged.
    salvaging: u64,
}

/// One place.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Damage {
    /// A stream, or a table.
    of: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sequence: Option<u64>,
    what: String,
}

pub fn command(arguments: &VerifyArguments) -> ExitCode {
    let (configuration, mut reader) = match super::open(&arguments.place) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let mut found = Found::default();
    if let Err(error) = found.look(&mut reader, io::stderr().is_terminal()) {
        if !schema::is_corrupt(&error) {
            return super::unreadable(&configuration, error);
        }
        found.note(Damage {
            of: "the file".to_owned(),
            first_sequence: None,
            last_sequence: None,
            what: error.to_string(),
        });
    }
    let text = match arguments.json {
        true => serde_json::to_string_pretty(&found).expect("plain data") + "\n",
        false => found.text(),
    };
    print!("{text}");
    if found.damage.is_empty() && found.salvaging == 0 { ExitCode::SUCCESS } else { Exit::RunTime.into() }
}

/// Tables that are small enough to be read in one transaction.
const SMALL: [&str; 11] = [
    "stream",
    "run",
    "progress",
    "salvage",
    "snapshot",
    "alert",
    "rejected_sample",
    "dead_letter",
    "held",
    "held_key",
    "entry",
];

impl Found {
    fn look(&mut self, reader: &mut Reader, shows_progress: bool) -> rusqlite::Result<()> {
        self.look_at_tables(reader)?;
        let known = streams::load(reader.connection())?;
        let mut extents = Vec::new();
        for row in known.rows() {
            let (before, last) = reader.extent(row.stream)?;
            extents.push((row, before, last));
        }
        let all = extents.iter().map(|(_, before, last)| last.saturating_sub(*before)).sum();
        let mut progress = Progress::new("records", all);
        let (mut block, mut terminal) = (Block::default(), io::stderr());
        for (row, before, last) in extents {
            let mut after = before;
            while after < last && reader.read(row.stream, after, &mut block)? {
                let records = self.take(&row.name, &block, after);
                let done = block.last_sequence().saturating_sub(after);
                after = block.last_sequence();
                if shows_progress {
                    let _ = progress.note(done, records, &mut terminal);
                }
            }
            self.salvaging += last.saturating_sub(after);
        }
        if shows_progress {
            let _ = progress.end(&mut terminal);
        }
        Ok(())
    }

    fn look_at_tables(&mut self, reader: &mut Reader) -> rusqlite::Result<()> {
        let db = reader.connection();
        for table in SMALL {
            let has_table = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
            if db.query_row(has_table, [table], |row| row.get::<_, i64>(0))? == 0 {
                continue;
            }
            let said: String = db.query_row(&format!("PRAGMA quick_check('{table}')"), [], |row| row.get(0))?;
            if said != "ok" {
                let of = format!("table {table}");
                self.note(Damage { of, first_sequence: None, last_sequence: None, what: said });
            }
        }
        Ok(())
    }

    /// Decodes what a block holds; returns how many records these are.
    fn take(&mut self, stream: &str, block: &Block, after: u64) -> u64 {
        let near = block.batch().map(|batch| batch.first_ms);
        self.batches += 1;
        let mut records = 0;
        for entry in block.entries(after) {
            let (through, count, what) = match entry {
                Entry::Record(_) => {
                    records += 1;
                    continue;
                }
                Entry::Damaged { through, count } => (through, count, "cannot be read"),
                Entry::Gap { lost: 0, .. } => continue,
                Entry::Gap { through, lost } => (through, lost, "are missing"),
            };
            self.damaged_records += count;
            let when = near.map_or(String::new(), |ms| format!(", before {}", rfc3339(ms)));
            self.note(Damage {
                of: stream.to_owned(),
                first_sequence: Some(through + 1 - count.min(through)),
                last_sequence: Some(through),
                what: format!("{} {what}{when}", many(count, "record")),
            });
        }
        self.records += records;
        records
    }

    fn note(&mut self, damage: Damage) {
        match self.damage.len() < TOLD_MAX {
            true => self.damage.push(damage),
            false => self.more += 1,
        }
    }

    fn text(&self) -> String {
        let mut text = Vec::new();
        for Damage { of, first_sequence, last_sequence, what } in &self.damage {
            let _ = match first_sequence.zip(*last_sequence) {
                Some((first, last)) => writeln!(text, "{of} {first} to {last}: {what}"),
                None => writeln!(text, "{of}: {what}"),
            };
        }
        if self.salvaging > 0 {
            let later = many(self.salvaging, "record");
            let _ = writeln!(text, "{later} are not looked at: a damaged store is being salvaged; look again later");
        }
        if self.more > 0 {
            let _ = writeln!(text, "and {} more places", self.more);
        }
        let read = format!("{} in {}", many(self.records, "record"), many(self.batches, "piece"));
        let _ = match self.damage.is_empty() {
            true if self.salvaging > 0 => writeln!(text, "{read}, whole as far as they are there"),
            true => writeln!(text, "{read}, all whole"),
            false => writeln!(
                text,
                "{read} are whole, {} are damaged or missing; the gateway counts them as quarantined when it comes to them, and sets the store aside \
                 where it cannot go on",
                self.damaged_records
            ),
        };
        String::from_utf8(text).expect("made of texts")
    }
}
