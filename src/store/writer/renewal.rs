//! A new store in place of a damaged one, and what of that is still to be salvaged.

use rusqlite::Connection;

use super::super::cursors::Cursors;
use super::super::held::{self, StreamProgress};
use super::super::salvage::Unfinished;
use super::super::scan::Scan;
use super::super::schema::{OpenError, store_path};
use super::super::set_aside::{self, Head};
use super::super::witness::Witness;
use super::super::{rows, runs, streams as stream_rows, totals};
use super::stream_state::StreamState;
use super::{Writer, WriterSettings, open_limited};
use crate::core::identity::{PerStream, RunId, Streams};

impl Writer {
    /// Sets the damaged store aside and begins a new one.
    ///
    /// # Errors
    ///
    /// If the damaged store cannot be moved, or the new one cannot be created.
    pub fn open_anew(settings: &WriterSettings, run: RunId) -> Result<Writer, OpenError> {
        let failed = |source| OpenError::Folder { path: settings.path.clone(), source };
        let testimony = Witness::of(&settings.path).read();
        // A start before this one may have set it aside, and then not got as far as a new one. Another folder each time would take the place
        // of the one that has the readings.
        let begun = testimony.as_ref().and_then(|known| set_aside::begun_since(&settings.path, known.written_ms));
        let aside = match begun {
            Some(aside) => aside,
            None => set_aside::move_store(&settings.path).map_err(failed)?,
        };
        let folder = set_aside::folder_of(&settings.path).join(&aside);
        let head = Head::read_with(&folder, testimony.as_ref());
        let cursors = head.cursors.clone().unwrap_or_default();
        begin_anew(settings, &aside, &head, cursors, (&head.streams, &head.progress))
            .inspect_err(|_| set_aside::remove_unfinished(&settings.path))?;
        Writer::open(settings, run)
    }

    /// The same while running, when the cursors and sequences are known. Returns what is to be salvaged.
    ///
    /// # Errors
    ///
    /// As [`Self::open_anew`]; the caller calls again.
    pub fn renew(&mut self) -> Result<Vec<Unfinished>, OpenError> {
        let path = self.settings.path.clone();
        let failed = |source| OpenError::Sqlite { path: path.clone(), source };
        if self.aside.is_none() {
            // Closes the file: an open one must not be moved.
            self.db = Connection::open_in_memory().map_err(failed)?;
            let aside = set_aside::move_store(&path);
            self.aside = Some(aside.map_err(|source| OpenError::Folder { path: path.clone(), source })?);
        }
        let aside = self.aside.clone().expect("just set");
        let head = Head::read(&set_aside::folder_of(&path).join(&aside));
        let progress = self.states.map(|_, state| state.progress);
        let begun = begin_anew(&self.settings, &aside, &head, self.cursors.clone(), (&self.streams, &progress));
        // What a sync that failed has lost would not be written again.
        (self.db, self.cursors) = begun.inspect_err(|_| set_aside::remove_unfinished(&path))?;
        self.states = StreamState::load_all(&self.db, &self.streams).map_err(failed)?;
        self.space.renew(&self.db);
        self.aside = None;
        // At once: the next start would take the new store's log for that of another store.
        self.begin();
        let unfinished = self.unfinished_salvages().map_err(failed)?;
        Ok(unfinished.into_iter().filter(|unfinished| unfinished.folder == aside).collect())
    }

    /// A crash may have come between setting a damaged store aside and beginning a new one: it is salvaged all the same.
    pub(super) fn note_unknown_damaged_stores(&mut self) -> rusqlite::Result<()> {
        let kept = set_aside::kept(&self.settings.path);
        for folder in &kept {
            if !rows::knows_salvage(&self.db, folder)? {
                self.expect_all_of(folder)?;
            }
        }
        rows::end_salvage_of_others(&self.db, &kept)
    }

    /// New records must get sequences behind those in a damaged store, also when what was known of it was lost with a commit.
    fn expect_all_of(&mut self, folder: &str) -> rusqlite::Result<()> {
        let damaged = store_path(&set_aside::folder_of(&self.settings.path).join(folder));
        let known = runs::all(&self.db)?;
        let last_sequences = || -> std::io::Result<PerStream<u64>> {
            let mut scan = Scan::open(&damaged, &known)?.named(&self.streams);
            let mut through = PerStream::new(&self.streams, |_| 0);
            for (stream, through) in through.iter_mut() {
                *through = scan.last_sequence(stream, self.states.of(stream).progress.last_sequence)?;
            }
            Ok(through)
        };
        let through = last_sequences().unwrap_or_else(|error| {
            tracing::warn!(%error, "the pages of a damaged store cannot be read");
            PerStream::new(&self.streams, |_| 0)
        });
        let delivered = PerStream::new(&self.streams, |stream| self.cursors.delivered_through(stream).unwrap_or(0));
        self.expect(folder, &delivered, &through)
    }

    /// Streams of damaged stores that are not salvaged to their end.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn unfinished_salvages(&self) -> rusqlite::Result<Vec<Unfinished>> {
        let kept = set_aside::kept(&self.settings.path);
        let mut select =
            self.db.prepare("SELECT folder, stream, seq FROM salvage WHERE NOT done ORDER BY folder, stream DESC")?;
        let mut rows = select.query([])?;
        let mut unfinished = Vec::new();
        while let Some(row) = rows.next()? {
            let (folder, stream): (String, String) = (row.get(0)?, row.get(1)?);
            if let Some(stream) = self.streams.find(&stream).filter(|_| kept.contains(&folder)) {
                unfinished.push(Unfinished { folder, stream, through: row.get::<_, i64>(2)? as u64 });
            }
        }
        Ok(unfinished)
    }

    /// What is behind the store's end, up to a sequence, may still be salvaged from a set-aside folder.
    ///
    /// # Errors
    ///
    /// If the store cannot be written.
    pub(in crate::store) fn expect_more(&mut self, folder: &str, through: &PerStream<u64>) -> rusqlite::Result<()> {
        let ends = self.states.map(|_, state| state.progress.last_sequence);
        self.expect(folder, &ends, through)
    }

    /// Behind `after` and up to `through` there may be something to be salvaged.
    fn expect(&mut self, folder: &str, after: &PerStream<u64>, through: &PerStream<u64>) -> rusqlite::Result<()> {
        let transaction = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let (mut cursors, mut states) = (self.cursors.clone(), self.states.clone());
        rows::note_salvage(&transaction, folder, &self.streams, |stream| *after.of(stream))?;
        for (stream, state) in states.iter_mut() {
            // What is salvaged is listed one by one, and behind what is listed no batch counts that is not.
            held::list(&transaction, stream)?;
            state.unlisted = 0;
            let progress = &mut state.progress;
            let last = progress.last_sequence.max(*through.of(stream));
            cursors.extend(stream, progress.last_sequence, last);
            (progress.last_sequence, progress.examined_through) = (last, last);
            progress.write(&transaction, stream)?;
        }
        cursors.save(&transaction)?;
        transaction.commit()?;
        (self.cursors, self.states) = (cursors, states);
        Ok(())
    }
}

/// Creates a store that continues where the damaged one ended: with its sequences and cursors, and with everything that could be read except
/// the batches, which are salvaged to where they were.
fn begin_anew(
    settings: &WriterSettings,
    aside: &str,
    head: &Head,
    mut cursors: Cursors,
    (streams, progress): (&Streams, &PerStream<StreamProgress>),
) -> Result<(Connection, Cursors), OpenError> {
    let failed = |source| OpenError::Sqlite { path: settings.path.clone(), source };
    let mut db = open_limited(settings)?;
    let fill = |db: &mut Connection, cursors: &mut Cursors| -> rusqlite::Result<()> {
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        // Under the numbers that they had.
        stream_rows::write(&transaction, streams)?;
        head.write(&transaction)?;
        rows::note_salvage(&transaction, aside, streams, |stream| cursors.delivered_through(stream).unwrap_or(0))?;
        for (stream, before) in progress.iter() {
            let progress = StreamProgress { examined_through: before.last_sequence, ..*before };
            progress.write(&transaction, stream)?;
            cursors.begin_anew(&transaction, stream, progress.last_sequence)?;
        }
        totals::add_all(&transaction, &[("damaged_stores", 1)])?;
        transaction.commit()
    };
    fill(&mut db, &mut cursors).map_err(failed)?;
    Ok((db, cursors))
}
