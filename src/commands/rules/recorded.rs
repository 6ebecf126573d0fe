//! Recorded readings: lines of `series,timestamp_ms,value`, or what the local store holds.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use crate::commands::detect::from_store::{StoreError, open};
use crate::commands::detect::input::Files;
use crate::commands::detect::lines::{Line, Parsed, Unit, for_each_line, parse};
use crate::core::batch::Stored;
use crate::core::identity::{RunId, Stream};
use crate::core::reading::Reading;
use crate::store::log::{Block, Entry, Record};

/// The device of a series whose name has no slash.
const DEVICE: &str = "device";

/// What was left out, and the times of the first and the last reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub within_ms: Option<(i64, i64)>,
    pub malformed_lines: u64,
    pub damaged_batches: u64,
    /// They were taken over from a damaged store, and are not in the order of their times.
    pub salvaged_readings: u64,
}

impl Recorded {
    fn note(&mut self, at_ms: i64) {
        let (first_ms, last_ms) = self.within_ms.unwrap_or((at_ms, at_ms));
        self.within_ms = Some((first_ms.min(at_ms), last_ms.max(at_ms)));
    }
}

/// Reads files one after the other.
pub fn of_files(files: &[PathBuf], take: &mut dyn FnMut(&Reading<'_>)) -> io::Result<Recorded> {
    let input = BufReader::with_capacity(1 << 16, Files::find(files)?);
    let mut recorded = Recorded::default();
    for_each_line(input, |line, _| {
        match parse(line, Unit::Ms) {
            Parsed::Line(line) => {
                let Line { at_ms, value, .. } = line;
                let (device, metric) = line.names();
                let device = if device.is_empty() { DEVICE } else { device };
                recorded.note(at_ms);
                take(&Reading::at(at_ms, device, metric, value));
            }
            Parsed::Other => {}
            Parsed::Malformed => recorded.malformed_lines += 1,
        }
        Ok(())
    })?;
    Ok(recorded)
}

/// Reads the store up to the batch that is the last one at the beginning: a running gateway keeps adding more. Each batch is read in a
/// transaction of its own, which blocks nobody.
pub fn of_store(path: &Path, take: &mut dyn FnMut(RunId, &Reading<'_>)) -> Result<Recorded, StoreError> {
    let failed = |source| StoreError::Read { path: path.to_owned(), source };
    let mut reader = open(path)?;
    let (first, through) = reader.extent(Stream::RAW).map_err(failed)?;
    let (mut recorded, mut block) = (Recorded::default(), Block::default());
    let (mut after, mut heard) = (first, None);
    while after < through && reader.read(Stream::RAW, after, &mut block).map_err(failed)? {
        let last_ms = recorded.within_ms.map_or(i64::MIN, |(_, last_ms)| last_ms);
        // What was salvaged is of an earlier run, and comes behind what is later than it.
        let is_salvaged = block
            .batch()
            .is_some_and(|batch| heard.is_some_and(|heard| batch.run.run != heard) && batch.first_ms < last_ms);
        for entry in block.entries(after) {
            match entry {
                Entry::Record(Record { stored: Stored::Reading(_), .. }) if is_salvaged => {
                    recorded.salvaged_readings += 1;
                }
                Entry::Record(Record { run, stored: Stored::Reading(reading), .. }) => {
                    heard = Some(run);
                    recorded.note(reading.received_at_ms);
                    take(run, &reading);
                }
                Entry::Damaged { .. } => recorded.damaged_batches += 1,
                Entry::Record(_) | Entry::Gap { .. } => {}
            }
        }
        after = block.last_sequence();
    }
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_a_metric_of_a_device_or_of_the_only_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("readings.csv");
        std::fs::write(&file, "a/t,1000,5\nt,2000,6.5\nnonsense\n\na/b/t,1500,-1\n").expect("written");
        let mut found = Vec::new();
        let mut take = |reading: &Reading<'_>| {
            found.push(format!("{} {} {} {}", reading.device, reading.metric, reading.measured_at_ms, reading.value));
        };
        let recorded = of_files(&[file], &mut take).expect("read");
        assert_eq!(found, ["a t 1000 5", "device t 2000 6.5", "a/b t 1500 -1"]);
        assert_eq!((recorded.within_ms, recorded.malformed_lines), (Some((1_000, 2_000)), 1));
        assert!(of_files(&[folder.path().join("missing.csv")], &mut |_| ()).is_err());
    }
}
