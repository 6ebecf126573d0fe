//! A second place that knows what was accepted: a small file beside the store, written each time that the log has been moved into the store's
//! file, at least once a minute. What the store lacks of it was lost, and is told with its number, or at most with as much as may have been
//! committed since.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cursors::CursorRow;
use super::runs::Run;
use super::schema::with_suffix;
use crate::core::identity::{Keep, RunId, Stream, StreamRow};
use crate::disk::slots::Slots;

const SLOT_BYTES: usize = 64 << 10;

/// What the store held when this was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Testimony {
    /// Counts what was written; the slot with the higher number holds.
    pub number: u64,
    pub written_ms: i64,
    /// The process has ended in order: everything is in the file, and nothing was committed since.
    pub is_clean: bool,
    /// Changes by one with each round of the log; `None` if nothing has been committed since the start.
    pub log_salt: Option<u32>,
    /// The size of the log, which it keeps; 0 if it was not there.
    pub log_bytes: u64,
    /// So many records at the most are committed before this is written anew.
    pub records_until_next: u64,
    pub streams: Vec<StreamTestimony>,
    pub cursors: Vec<CursorRow>,
    pub totals: Vec<(String, i64)>,
    /// The last runs, by their numbers in the store.
    pub(super) runs: Vec<RunTestimony>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamTestimony {
    pub stream: String,
    /// 0 if an earlier version has written it, which knew the built-in streams only.
    #[serde(default)]
    pub id: u16,
    #[serde(default)]
    pub keep: String,
    pub last_sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunTestimony {
    number: i64,
    run: [u8; 8],
    gateway: String,
    started_ms: i64,
}

impl Testimony {
    pub fn last_sequence(&self, stream: &str) -> u64 {
        self.streams.iter().find(|known| known.stream == stream).map_or(0, |known| known.last_sequence)
    }

    /// The streams of the configuration, as they were.
    pub fn named_streams(&self) -> impl Iterator<Item = StreamRow> {
        self.streams.iter().filter_map(|known| {
            let stream = Stream::from_id(known.id.into()).filter(|stream| !stream.is_built_in())?;
            let keep = Keep::from_name(&known.keep).unwrap_or_default();
            Some(StreamRow { stream, name: known.stream.as_str().into(), keep, is_watched: false })
        })
    }

    pub fn runs(&self) -> Vec<(i64, Run)> {
        let run = |run: &RunTestimony| {
            let RunTestimony { number, run, gateway, started_ms } = run;
            (*number, Run { run: RunId(*run), gateway: gateway.clone(), started_ms: *started_ms })
        };
        self.runs.iter().map(run).collect()
    }

    pub fn set_runs(&mut self, runs: &[(i64, Run)]) {
        let run = |(number, run): &(i64, Run)| RunTestimony {
            number: *number,
            run: run.run.0,
            gateway: run.gateway.clone(),
            started_ms: run.started_ms,
        };
        self.runs = runs.iter().map(run).collect();
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct Witness {
    slots: Slots,
}

impl Witness {
    pub fn of(store: &Path) -> Witness {
        Witness { slots: Slots::new(with_suffix(store, "-witness"), SLOT_BYTES) }
    }

    pub fn path(&self) -> &Path {
        self.slots.path()
    }

    /// The newest testimony that is intact; `None` if there is none.
    pub fn read(&self) -> Option<Testimony> {
        let written = self.slots.read();
        let testimonies = written.iter().filter_map(|body| serde_json::from_slice::<Testimony>(body).ok());
        testimonies.max_by_key(|testimony| testimony.number)
    }

    /// # Errors
    ///
    /// If the file cannot be written. What was written before still holds then.
    pub fn write(&self, testimony: &Testimony) -> io::Result<()> {
        self.slots.write(testimony.number, &self.fitting(testimony)?)
    }

    /// As JSON that fits into a slot: what may be left out is left out first.
    fn fitting(&self, testimony: &Testimony) -> io::Result<Vec<u8>> {
        let fits = |body: &Vec<u8>| self.slots.fits(body);
        let mut testimony = testimony.clone();
        let mut body = serde_json::to_vec(&testimony)?;
        if !fits(&body) {
            // Without its ranges a cursor repeats what was delivered beyond it.
            for cursor in &mut testimony.cursors {
                cursor.acknowledged.clear();
                cursor.held_keys.iter_mut().for_each(|key| key.acknowledged.clear());
            }
            body = serde_json::to_vec(&testimony)?;
        }
        if !fits(&body) {
            // How many records wait for them is still known.
            testimony.cursors.iter_mut().for_each(|cursor| cursor.held_keys.clear());
            body = serde_json::to_vec(&testimony)?;
        }
        if !fits(&body) {
            testimony.totals.clear();
            testimony.runs.clear();
            body = serde_json::to_vec(&testimony)?;
        }
        if !fits(&body) {
            // Many sinks that take many streams. The store has the cursors as well; what it held, and under which numbers, is known here only.
            testimony.cursors.clear();
            body = serde_json::to_vec(&testimony)?;
        }
        if fits(&body) { Ok(body) } else { Err(io::ErrorKind::FileTooLarge.into()) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::slots::HEADER_BYTES;

    fn testimony(number: u64) -> Testimony {
        let streams = vec![StreamTestimony {
            stream: "raw".to_owned(),
            last_sequence: 10 * number,
            ..StreamTestimony::default()
        }];
        Testimony { number, streams, ..Testimony::default() }
    }

    #[test]
    fn the_newest_intact_testimony_holds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let witness = Witness::of(&folder.path().join("s"));
        assert_eq!(witness.read(), None);
        for number in 1..=3 {
            witness.write(&testimony(number)).expect("a working disk");
            assert_eq!(witness.read(), Some(testimony(number)));
        }
        let mut bytes = fs::read(witness.path()).expect("a file");
        bytes[SLOT_BYTES + HEADER_BYTES + 5] ^= 1;
        fs::write(witness.path(), &bytes).expect("a working disk");
        assert_eq!(witness.read(), Some(testimony(2)), "the third is damaged");
        fs::write(witness.path(), &bytes[..5]).expect("a working disk");
        assert_eq!(witness.read(), None);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let witness = Witness::of(&folder.path().join("s"));
        let totals = (0..10_000).map(|number| (format!("total-{number}"), number)).collect();
        witness.write(&Testimony { totals, ..testimony(1) }).expect("a working disk");
        assert_eq!(witness.read(), Some(testimony(1)));
    }

    #[test]
    fn what_the_most_sinks_and_streams_need_is_known_in_any_case() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let witness = Witness::of(&folder.path().join("s"));
        let streams = (1..=18).map(|id| StreamTestimony {
            stream: format!("{id:064}"),
            id,
            keep: "reserve".to_owned(),
            last_sequence: u64::MAX,
        });
        let streams: Vec<_> = streams.collect();
        let cursors = vec![CursorRow::default(); 1_000];
        witness.write(&Testimony { cursors, streams: streams.clone(), ..testimony(1) }).expect("a working disk");
        assert_eq!(witness.read(), Some(Testimony { streams, ..testimony(1) }));
    }
}
