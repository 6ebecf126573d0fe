//! The files of one glob: what a look at them changes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::generation::{Generation, State};
use super::identity::family;
use super::place::{GenerationNumber, Mark, Place, PlaceChange};
use super::{Counts, Fault, FileSystem, Line, Note, Seen, Settings, Start, Stat};

/// Notes beyond so many wait for nobody.
const NOTES_MAX: usize = 64;
/// A file that was not found at so many starts is forgotten.
const MISSED_MAX: u32 = 8;

/// Follows the files of one glob.
#[derive(Debug)]
pub struct Follower<H> {
    pub(super) settings: Settings,
    pub(super) generations: BTreeMap<GenerationNumber, Generation<H>>,
    /// Those that may have something to be read.
    pub(super) ready: BTreeSet<GenerationNumber>,
    /// The one that was read last.
    pub(super) turn: GenerationNumber,
    last_number: GenerationNumber,
    /// Somebody has looked at these files before, perhaps before a restart.
    pub(super) is_begun: bool,
    pub(super) is_first_look: bool,
    /// What is to be stored although nothing was read.
    pub(super) changes: BTreeMap<GenerationNumber, Option<Place>>,
    pub(super) open: usize,
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
        let mut generations = BTreeMap::new();
        let (mut is_begun, mut last_number) = (false, BEGUN);
        for (number, place) in places {
            is_begun = true;
            last_number = last_number.max(number);
            if number != BEGUN {
                let family = family(&place.path);
                generations.insert(number, Generation::restored(number, place, family, now_ms));
            }
        }
        Follower {
            settings,
            generations,
            ready: BTreeSet::new(),
            turn: BEGUN,
            last_number,
            is_begun,
            is_first_look: true,
            changes: BTreeMap::new(),
            open: 0,
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
        let index = self.index();
        let mut unknown = Vec::new();
        for one in seen {
            match self.known(&index, &one.stat) {
                // A file with two names is one file.
                Some(number) if self.get(number).look == self.look => {}
                // It was found to be cut in this look, when another path led to it.
                Some(number) if matches!(self.get(number).state, State::Cut { .. }) => {}
                Some(number) => self.see(number, &one, now_ms, files),
                None => unknown.push(one),
            }
        }
        self.miss(now_ms, files);
        let index = self.index();
        for one in unknown {
            if self.known(&index, &one.stat).is_none() {
                self.meet(&one.path, now_ms, files);
            }
        }
        self.settle_copies(now_ms, files);
        if std::mem::take(&mut self.is_first_look) {
            self.end_first_look();
        }
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
        for (number, generation) in &mut self.generations {
            if !generation.is_settled() {
                generation.read = generation.committed;
                (generation.checked, generation.header) = (None, None);
                if generation.state == State::Reading {
                    self.ready.insert(*number);
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

    /// Bytes that were seen and are not committed yet.
    pub fn lag_bytes(&self) -> u64 {
        let lag = |one: &Generation<H>| one.size.saturating_sub(one.committed.offset);
        self.generations.values().filter(|one| matches!(one.state, State::Reading)).map(lag).sum()
    }

    /// All files that are known.
    pub fn lines(&self) -> impl Iterator<Item = Line> + '_ {
        self.generations.values().map(|one| Line {
            path: one.path.clone(),
            committed: one.committed.offset,
            size: one.size,
            state: match one.state {
                State::Reading => "read",
                State::Copy { .. } => "copy",
                State::Cut { .. } => "cut",
                State::Gone { .. } => "gone",
            },
            is_open: one.handle.is_some(),
        })
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
        self.open += usize::from(handle.is_some());
        let number = self.last_number;
        let look = self.look;
        let new = Generation { handle, look, ..Generation::new(number, path.to_owned(), family(path), stat, now_ms) };
        self.generations.insert(number, new);
        self.ready.insert(number);
        number
    }

    pub(super) fn close_file(&mut self, number: GenerationNumber) -> Option<H> {
        let handle = self.get(number).handle.take();
        self.open -= usize::from(handle.is_some());
        handle
    }

    /// What was in this file is not there any more: what is there now is another generation.
    pub(super) fn cut(&mut self, number: GenerationNumber, stat: &Stat, now_ms: i64) {
        let handle = self.close_file(number);
        let old = self.get(number);
        // By whoever writes to it, if it was open all the time. Else another file may have got its inode: perhaps a copy.
        let is_original = handle.is_some() && !old.is_reopened;
        old.state = State::Cut { at_ms: now_ms };
        let (path, unlisted, is_rotated) = (old.path.clone(), old.unlisted_since_ms, old.is_rotated);
        self.ready.remove(&number);
        self.counts.cuts += 1;
        let new = self.begin(&path, stat, handle, now_ms);
        let new = self.get(new);
        (new.unlisted_since_ms, new.is_rotated, new.is_linked) = (unlisted, is_rotated, stat.is_linked);
        new.is_original = is_original;
    }

    /// The generations by what the system calls their files; of two in one file, the later one.
    fn index(&self) -> HashMap<(u64, u64), GenerationNumber> {
        let present = self.generations.values().filter(|one| !matches!(one.state, State::Cut { .. }));
        present.map(|one| ((one.file.device, one.file.inode), one.number)).collect()
    }

    fn known(&self, index: &HashMap<(u64, u64), GenerationNumber>, stat: &Stat) -> Option<GenerationNumber> {
        let number = index.get(&(stat.file.device, stat.file.inode))?;
        self.generations[number].file.may_be(&stat.file).then_some(*number)
    }

    fn see<F: FileSystem<Handle = H>>(&mut self, number: GenerationNumber, one: &Seen, now_ms: i64, files: &mut F) {
        let (idle_ms, grace_ms) = (self.settings.idle_ms, self.settings.grace_ms);
        let look = self.look;
        let known = self.get(number);
        if matches!(known.state, State::Gone { .. }) {
            return self.meet(&one.path, now_ms, files);
        }
        known.is_at(&one.path, look);
        known.observe(&one.stat, now_ms);
        if one.stat.size < known.read.offset {
            return self.cut(number, &one.stat, now_ms);
        }
        let is_checked = known.checked == Some((one.stat.modified_ns, one.stat.size));
        let is_due = known.unread_bytes() > 0 && known.is_last_line_due(now_ms, idle_ms, grace_ms);
        if known.state == State::Reading && (!is_checked || is_due) {
            self.ready.insert(number);
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
                let (path, unread_bytes) = (one.path.clone(), one.unread_bytes());
                self.ready.remove(&number);
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
                        self.ready.insert(number);
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
            let place = Place { path: String::new(), file, mark: Mark::default(), missed: 0 };
            self.changes.insert(BEGUN, Some(place));
        }
        // Nobody knows whether a folder without any file is the right one: perhaps a disk is not mounted.
        if self.generations.values().all(|one| matches!(one.state, State::Gone { .. })) {
            return;
        }
        let originals = self.originals();
        let gone = self.generations.values().filter(|one| matches!(one.state, State::Gone { .. }));
        let gone: Vec<_> = gone.map(|one| one.number).filter(|number| !originals.contains(number)).collect();
        for number in gone {
            let one = self.get(number);
            one.missed += 1;
            let (path, place, missed) = (one.path.clone(), one.place(one.committed), one.missed);
            if missed > MISSED_MAX {
                self.remove(number);
                continue;
            }
            self.changes.insert(number, Some(place));
            if missed == 1 {
                self.counts.vanished += 1;
                self.note(Note::Vanished { path, unread_bytes: 0 });
            }
        }
    }

    fn originals(&self) -> HashSet<GenerationNumber> {
        let original = |one: &Generation<H>| match one.state {
            State::Copy { original } => Some(original),
            _ => None,
        };
        self.generations.values().filter_map(original).collect()
    }

    /// Closes what is done with, and what has been held for too long.
    fn close(&mut self, now_ms: i64) {
        let Settings { grace_ms, close_after_ms, held_bytes_max, held_files_max, held_ms_max, .. } = self.settings;
        let mut held: Vec<(i64, GenerationNumber, u64)> = Vec::new();
        let numbers: Vec<GenerationNumber> =
            self.generations.values().filter(|one| one.handle.is_some()).map(|one| one.number).collect();
        for number in numbers {
            let is_ready = self.ready.contains(&number);
            let one = self.get(number);
            let is_idle = |for_ms: i64| now_ms - one.changed_ms >= for_ms;
            let is_copy = matches!(one.state, State::Copy { .. });
            match one.unlisted_since_ms {
                None if is_idle(close_after_ms) && !is_ready && !is_copy => drop(self.close_file(number)),
                None => {}
                Some(since_ms) => {
                    let is_done = !is_ready && one.unread_bytes() == 0 && one.is_settled() && !is_copy;
                    if is_done && is_idle(grace_ms) && now_ms - since_ms >= grace_ms {
                        self.put_away(number, now_ms);
                    } else {
                        held.push((since_ms, number, if one.is_linked { 0 } else { one.size }));
                    }
                }
            }
        }
        held.sort_unstable();
        let mut bytes: u64 = held.iter().map(|(_, _, size)| size).sum();
        let mut files = held.len();
        for (since_ms, number, size) in held {
            if bytes > held_bytes_max || files > held_files_max || now_ms - since_ms >= held_ms_max {
                (bytes, files) = (bytes - size, files - 1);
                self.let_go(number, now_ms);
            }
        }
    }

    /// Of more files than may be open, those that are not being rotated are opened again when they are read.
    pub(super) fn close_surplus(&mut self) {
        let is_closable = |one: &&Generation<H>| one.handle.is_some() && one.is_listed() && one.state == State::Reading;
        let surplus = self.open.saturating_sub(self.settings.open_max);
        if surplus == 0 {
            return;
        }
        let numbers: Vec<_> =
            self.generations.values().filter(is_closable).map(|one| one.number).take(surplus).collect();
        for number in numbers {
            self.close_file(number);
        }
    }

    fn let_go(&mut self, number: GenerationNumber, now_ms: i64) {
        let one = self.get(number);
        let (path, unread_bytes) = (one.path.clone(), one.unread_bytes());
        self.counts.let_go += 1;
        self.counts.lost_bytes += unread_bytes;
        self.note(Note::LetGo { path, unread_bytes });
        self.put_away(number, now_ms);
    }

    /// A file that no path of the glob leads to is not looked at any more.
    fn put_away(&mut self, number: GenerationNumber, now_ms: i64) {
        self.close_file(number);
        self.ready.remove(&number);
        let one = self.get(number);
        if one.is_linked || !one.is_settled() {
            one.state = State::Gone { since_ms: now_ms };
        } else {
            self.remove(number);
        }
    }

    /// What nobody will ask for any more.
    fn forget(&mut self, now_ms: i64) {
        let Settings { grace_ms, forget_after_ms, gone_max, .. } = self.settings;
        let originals = self.originals();
        let is_gone = |one: &&Generation<H>| matches!(one.state, State::Gone { .. });
        let mut surplus = self.generations.values().filter(is_gone).count().saturating_sub(gone_max);
        let mut old = Vec::new();
        for one in self.generations.values().filter(|one| one.is_settled() && !originals.contains(&one.number)) {
            let is_old = match one.state {
                State::Cut { at_ms } => now_ms - at_ms >= grace_ms,
                State::Gone { since_ms } => {
                    let is_old = now_ms - since_ms >= forget_after_ms || surplus > 0;
                    surplus -= usize::from(is_old && surplus > 0);
                    is_old
                }
                _ => false,
            };
            if is_old {
                old.push(one.number);
            }
        }
        for number in old {
            let one = &self.generations[&number];
            // Of one that is continued it was said when its copy was found.
            if matches!(one.state, State::Cut { .. }) && !one.is_continued {
                let (path, unread_bytes) = (one.path.clone(), one.unread_bytes());
                self.counts.lost_bytes += unread_bytes;
                self.note(Note::Cut { path, unread_bytes });
            }
            self.remove(number);
        }
    }

    pub(super) fn remove(&mut self, number: GenerationNumber) {
        self.close_file(number);
        self.ready.remove(&number);
        let removed = self.generations.remove(&number).expect("it is known");
        match removed.is_stored {
            true => drop(self.changes.insert(number, None)),
            false => drop(self.changes.remove(&number)),
        }
    }
}
