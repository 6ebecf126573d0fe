//! The files of one glob: what a look at them changes.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::generation::{Generation, State};
use super::identity::FileId;
use super::place::{GenerationNumber, Mark, Place, PlaceChange};
use super::ready::{Index, Ready};
use super::{Counts, Fault, FileSystem, Note, Seen, Settings, Start, Stat};

/// Notes beyond so many wait for nobody.
const NOTES_MAX: usize = 64;
/// A file that was not found at so many starts is forgotten.
const MISSED_MAX: u32 = 8;

/// Follows the files of one glob.
#[derive(Debug)]
pub struct Follower<H> {
    pub(super) settings: Settings,
    pub(super) generations: BTreeMap<GenerationNumber, Generation<H>>,
    pub(super) index: Index,
    /// Those that may have something to be read.
    pub(super) ready: Ready,
    /// The one that was read last.
    pub(super) turn: GenerationNumber,
    last_number: GenerationNumber,
    /// Somebody has looked at these files before, perhaps before a restart.
    pub(super) is_begun: bool,
    pub(super) is_first_look: bool,
    /// What is to be stored although nothing was read.
    pub(super) changes: BTreeMap<GenerationNumber, Option<Place>>,
    pub(super) open: BTreeSet<GenerationNumber>,
    /// Looks so far.
    pub(super) look: u64,
    pub(super) counts: Counts,
    notes: Vec<Note>,
}

/// The number under which it is stored that there was a first look.
const BEGUN: GenerationNumber = GenerationNumber(0);

impl<H> Follower<H> {
    /// Goes on with what is stored.
    pub fn new(
        settings: Settings,
        places: impl IntoIterator<Item = (GenerationNumber, Place)>,
        now_ms: i64,
    ) -> Follower<H> {
        let (mut generations, mut index) = (BTreeMap::new(), Index::default());
        let (mut is_begun, mut last_number) = (false, BEGUN);
        for (number, place) in places {
            is_begun = true;
            last_number = last_number.max(number);
            if number != BEGUN {
                let restored = Generation::restored(number, place, now_ms);
                index.insert(&restored);
                generations.insert(number, restored);
            }
        }
        Follower {
            settings,
            generations,
            index,
            ready: Ready::default(),
            turn: BEGUN,
            last_number,
            is_begun,
            is_first_look: true,
            changes: BTreeMap::new(),
            open: BTreeSet::new(),
            look: 0,
            counts: Counts::default(),
            notes: Vec::new(),
        }
    }

    /// Sees what has become of the files. To be called about once a second.
    ///
    /// # Errors
    ///
    /// If they cannot be listed. Then nothing has changed.
    pub fn look<F: FileSystem<Handle = H>>(&mut self, now_ms: i64, files: &mut F) -> Result<(), Fault> {
        let mut seen = files.list()?;
        seen.sort_by(|a, b| (a.stat.modified_ns, &a.path).cmp(&(b.stat.modified_ns, &b.path)));
        self.look += 1;
        let mut unknown = Vec::new();
        for one in seen {
            match self.known(&one.stat.file) {
                // A file with two names is one file.
                Some(number) if self.get(number).look == self.look => {}
                Some(number) => self.see(number, &one, now_ms, files),
                None => unknown.push(one),
            }
        }
        self.miss(now_ms, files);
        for one in unknown {
            if self.known(&one.stat.file).is_none() {
                self.meet(&one.path, now_ms, files);
            }
        }
        self.settle_copies(now_ms, files);
        if std::mem::take(&mut self.is_first_look) {
            self.end_first_look();
        }
        self.finish(now_ms);
        self.close(now_ms);
        self.forget(now_ms);
        Ok(())
    }

    /// What was submitted of a generation is stored up to here.
    pub fn committed(&mut self, number: GenerationNumber, mark: Mark) {
        if let Some(generation) = self.generations.get_mut(&number) {
            generation.is_stored = true;
            generation.committed = mark;
        }
    }

    /// What is not committed could not be stored: it is read again.
    pub fn rewind(&mut self) {
        for generation in self.generations.values_mut() {
            if !generation.is_settled() {
                generation.read = generation.committed;
                (generation.checked, generation.header) = (None, None);
                generation.trail.return_to(generation.committed.offset);
                if generation.committed.offset > 0 {
                    // It may have been dropped in favour of the one that was refused.
                    let place = generation.place(generation.committed);
                    self.changes.entry(generation.number).or_insert(Some(place));
                }
                if generation.state == State::Reading {
                    self.ready.insert(generation);
                }
            }
        }
    }

    /// Places that are to be stored or deleted, although nothing was read of these files.
    pub fn take_changes(&mut self) -> Vec<PlaceChange> {
        std::mem::take(&mut self.changes).into_iter().map(|(number, place)| PlaceChange { number, place }).collect()
    }

    /// These changes could not be stored.
    pub fn return_changes(&mut self, changes: Vec<PlaceChange>) {
        for PlaceChange { number, place } in changes {
            if place.is_none() || number == BEGUN || self.generations.contains_key(&number) {
                self.changes.entry(number).or_insert(place);
            }
        }
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What somebody should know, since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    pub(super) fn note(&mut self, note: Note) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }

    pub(super) fn fault(&mut self, path: &str, fault: Fault) {
        self.counts.faults += 1;
        self.note(Note::Fault { path: path.to_owned(), why: fault.0 });
    }

    pub(super) fn get(&mut self, number: GenerationNumber) -> &mut Generation<H> {
        self.generations.get_mut(&number).expect("a generation is removed at the end of a look only")
    }

    /// A new generation, with its open file.
    pub(super) fn begin(&mut self, path: &str, stat: &Stat, handle: Option<H>, now_ms: i64) -> GenerationNumber {
        self.last_number = GenerationNumber(self.last_number.0 + 1);
        let (number, look) = (self.last_number, self.look);
        if handle.is_some() {
            self.open.insert(number);
        }
        let new = Generation { handle, look, ..Generation::new(number, path.to_owned(), stat, now_ms) };
        self.index.insert(&new);
        self.ready.insert(&new);
        self.generations.insert(number, new);
        number
    }

    /// It may have something to be read.
    pub(super) fn get_ready(&mut self, number: GenerationNumber) {
        self.ready.insert(&self.generations[&number]);
    }

    /// Notes where a look has found it.
    pub(super) fn arrive(&mut self, number: GenerationNumber, path: &str) {
        let one = self.generations.get_mut(&number).expect("it was found");
        if one.path != path {
            self.index.remove(one);
            one.is_called(path);
            self.index.insert(one);
        }
        (one.unlisted_since_ms, one.is_linked, one.look, one.missed) = (None, true, self.look, 0);
    }

    /// Keeps the open file.
    pub(super) fn keep_open(&mut self, number: GenerationNumber, handle: H) {
        self.get(number).handle = Some(handle);
        self.open.insert(number);
    }

    pub(super) fn close_file(&mut self, number: GenerationNumber) -> Option<H> {
        self.open.remove(&number);
        self.get(number).handle.take()
    }

    /// What was in this file is not there any more: what is there now is another generation.
    pub(super) fn cut(&mut self, number: GenerationNumber, stat: &Stat, now_ms: i64) {
        let handle = self.close_file(number);
        // A compressed copy of what is in it now may have been read before.
        let may_be_compressed = self.settings.remember_deleted_ms > 0 && !stat.is_linked;
        let old = self.get(number);
        // By whoever writes to it, if it was open all the time. Else another file may have got its inode: perhaps a copy.
        let is_original = handle.is_some() && !old.is_reopened && !may_be_compressed;
        old.state = State::Cut { at_ms: now_ms };
        if stat.size >= old.size {
            // The last look may have seen what was written after the cut.
            old.size = old.size_before;
        }
        let (path, unlisted, is_rotated) = (old.path.clone(), old.unlisted_since_ms, old.is_rotated);
        self.ready.remove(number);
        self.counts.cuts += 1;
        let new = self.begin(&path, stat, handle, now_ms);
        let new = self.get(new);
        (new.unlisted_since_ms, new.is_rotated, new.is_linked) = (unlisted, is_rotated, stat.is_linked);
        new.is_original = is_original;
    }

    /// The generation that a file is; of two in one file, the later one.
    pub(super) fn known(&self, file: &FileId) -> Option<GenerationNumber> {
        let is_it = |number: &GenerationNumber| {
            let one = &self.generations[number];
            !matches!(one.state, State::Cut { .. }) && !one.is_remembered() && one.file.may_be(file)
        };
        self.index.of_file(file).find(is_it)
    }

    fn see<F: FileSystem<Handle = H>>(&mut self, number: GenerationNumber, one: &Seen, now_ms: i64, files: &mut F) {
        let Settings { idle_ms, grace_ms, close_after_ms, .. } = self.settings;
        if matches!(self.get(number).state, State::Gone { .. }) {
            return self.meet(&one.path, now_ms, files);
        }
        self.arrive(number, &one.path);
        let known = self.get(number);
        known.observe(&one.stat, now_ms);
        if one.stat.size < known.read.offset {
            return self.cut(number, &one.stat, now_ms);
        }
        if now_ms - known.changed_ms >= close_after_ms {
            known.trail.clear();
        }
        let is_checked = known.checked == Some((one.stat.modified_ns, one.stat.size));
        let is_due = known.unread_bytes() > 0 && known.is_last_line_due(now_ms, idle_ms, grace_ms);
        if known.state == State::Reading && (!is_checked || is_due) {
            self.get_ready(number);
        }
    }

    /// What no path leads to any more.
    fn miss<F: FileSystem<Handle = H>>(&mut self, now_ms: i64, files: &mut F) {
        let gone: Vec<GenerationNumber> = self
            .generations
            .values()
            .filter(|one| one.look != self.look && matches!(one.state, State::Reading | State::Copy { .. }))
            .map(|one| one.number)
            .collect();
        for number in gone {
            let (idle_ms, grace_ms) = (self.settings.idle_ms, self.settings.grace_ms);
            let one = self.get(number);
            let was_rotated = std::mem::replace(&mut one.is_rotated, true);
            if one.unlisted_since_ms.is_none() {
                one.unlisted_since_ms = Some(now_ms);
            }
            let Some(handle) = &one.handle else {
                one.state = State::Gone { since_ms: now_ms };
                one.trail.clear();
                let (path, unread_bytes) = (one.path.clone(), one.unread_bytes());
                self.ready.remove(number);
                if unread_bytes > 0 || !was_rotated {
                    self.counts.vanished += 1;
                    self.counts.lost_bytes += unread_bytes;
                    self.note(Note::Vanished { path, unread_bytes });
                }
                continue;
            };
            match files.stat(handle) {
                Ok(stat) => {
                    one.observe(&stat, now_ms);
                    one.is_linked = stat.is_linked;
                    if stat.size < one.read.offset {
                        self.cut(number, &stat, now_ms);
                        continue;
                    }
                    let is_checked = one.checked == Some((stat.modified_ns, stat.size));
                    let is_due = one.unread_bytes() > 0 && one.is_last_line_due(now_ms, idle_ms, grace_ms);
                    if one.state == State::Reading && (!is_checked || is_due) {
                        self.get_ready(number);
                    }
                }
                Err(fault) => {
                    let path = one.path.clone();
                    self.fault(&path, fault);
                }
            }
        }
    }

    /// What is stored and was not found again went away while nobody looked.
    fn end_first_look(&mut self) {
        if !std::mem::replace(&mut self.is_begun, true) && self.settings.start == Start::End {
            let file = super::FileId { device: 0, inode: 0, born_ns: None };
            let begun = Generation::<H>::new(BEGUN, String::new(), &Stat::empty(file), 0);
            self.changes.insert(BEGUN, Some(begun.place(Mark::default())));
        }
        // Nobody knows whether a folder without any file is the right one: perhaps a disk is not mounted.
        if self.generations.values().all(|one| matches!(one.state, State::Gone { .. })) {
            return;
        }
        let originals = self.originals();
        let gone = self.generations.values().filter(|one| matches!(one.state, State::Gone { .. }));
        let is_missed = |one: &&Generation<H>| {
            one.continued_by.is_none() && !one.is_remembered() && !originals.contains(&one.number)
        };
        let gone: Vec<_> = gone.filter(is_missed).map(|one| one.number).collect();
        for number in gone {
            let one = self.get(number);
            one.missed += 1;
            let (path, place) = (one.path.clone(), one.place(one.committed));
            let (missed, is_finished) = (one.missed, one.is_finished);
            if missed > MISSED_MAX {
                self.remove(number);
                continue;
            }
            self.changes.insert(number, Some(place));
            // Of one that was finished nothing is missing.
            if missed == 1 && !is_finished {
                self.counts.vanished += 1;
                self.note(Note::Vanished { path, unread_bytes: 0 });
            }
        }
    }

    pub(super) fn originals(&self) -> HashSet<GenerationNumber> {
        let original = |one: &Generation<H>| match one.state {
            State::Copy { original } => Some(original),
            _ => None,
        };
        self.generations.values().filter_map(original).collect()
    }
}
