//! A new store in place of a damaged one, and what of that is still to be salvaged.

use rusqlite::Connection;

use super::super::cursors::Cursors;
use super::super::held::{self, StreamProgress};
use super::super::salvage::Unfinished;
use super::super::scan::Scan;
use super::super::schema::{OpenError, store_path};
use super::super::set_aside::{self, Head};
use super::super::witness::Witness;
use super::super::{rows, runs, totals};
use super::stream_state::StreamState;
use super::{Writer, WriterSettings, open_limited};
use crate::core::identity::{PerStream, RunId, Stream};

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
        let mut head = Head::read(&folder);
        if let Some(testimony) = testimony {
            head.add(&testimony);
        }
        // Others may still be salvaged too, and new records must get sequences behind all of them.
        for kept in set_aside::kept(&settings.path) {
            if let Err(error) = head.look_further(&set_aside::folder_of(&settings.path).join(kept)) {
                tracing::warn!(%error, "the pages of a damaged store cannot be read");
            }
        }
        let cursors = head.cursors.clone().unwrap_or_default();
        begin_anew(settings, &aside, &head, cursors, &head.progress)
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
        let progress = PerStream::new(|stream| self.streams.of(stream).progress);
        let begun = begin_anew(&self.settings, &aside, &head, self.cursors.clone(), &progress);
        // What a sync that failed has lost would not be written again.
        (self.db, self.cursors) = begun.inspect_err(|_| set_aside::remove_unfinished(&path))?;
        self.streams = StreamState::load_all(&self.db).map_err(failed)?;
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
            let mut scan = Scan::open(&damaged, &known)?;
            let mut through = PerStream::default();
            for stream in Stream::all() {
                *through.of_mut(stream) = scan.last_sequence(stream, self.streams.of(stream).progress.last_sequence)?;
            }
            Ok(through)
        };
        let through = last_sequences().unwrap_or_else(|error| {
            tracing::warn!(%error, "the pages of a damaged store cannot be read");
            PerStream::default()
        });
        let delivered = PerStream::new(|stream| self.cursors.delivered_through(stream).unwrap_or(0));
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
            if let Some(stream) = Stream::from_name(&stream).filter(|_| kept.contains(&folder)) {
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
        let ends = PerStream::new(|stream| self.streams.of(stream).progress.last_sequence);
        self.expect(folder, &ends, through)
    }

    /// Behind `after` and up to `through` there may be something to be salvaged.
    fn expect(&mut self, folder: &str, after: &PerStream<u64>, through: &PerStream<u64>) -> rusqlite::Result<()> {
        let transaction = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let (mut cursors, mut streams) = (self.cursors.clone(), self.streams.clone());
        rows::note_salvage(&transaction, folder, |stream| *after.of(stream))?;
        for stream in Stream::all() {
            // What is salvaged is listed one by one, and behind what is listed no batch counts that is not.
            held::list(&transaction, stream)?;
            streams.of_mut(stream).unlisted = 0;
            let progress = &mut streams.of_mut(stream).progress;
            let last = progress.last_sequence.max(*through.of(stream));
            cursors.extend(stream, progress.last_sequence, last);
            (progress.last_sequence, progress.examined_through) = (last, last);
            progress.write(&transaction, stream)?;
        }
        cursors.save(&transaction)?;
        transaction.commit()?;
        (self.cursors, self.streams) = (cursors, streams);
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
    progress: &PerStream<StreamProgress>,
) -> Result<(Connection, Cursors), OpenError> {
    let failed = |source| OpenError::Sqlite { path: settings.path.clone(), source };
    let mut db = open_limited(settings)?;
    let fill = |db: &mut Connection, cursors: &mut Cursors| -> rusqlite::Result<()> {
        let transaction = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        head.write(&transaction)?;
        rows::note_salvage(&transaction, aside, |stream| cursors.delivered_through(stream).unwrap_or(0))?;
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
