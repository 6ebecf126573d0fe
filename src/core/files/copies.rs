//! What becomes of files that may be copies of others: once enough is known of both, they are read on from where they differ.

use super::follower::Follower;
use super::generation::State;
use super::identity::TAIL_BYTES_MAX;
use super::meeting::{bytes_at, is_beginning, is_same, mark_at_end};
use super::place::{GenerationNumber, Mark};
use super::{Fault, FileSystem, Note, Stat};

/// What is known of a file that may be a copy.
enum Verdict {
    /// Nothing yet.
    Waits,
    IsEqualUpTo(Mark),
    /// All that it has, which are so many bytes, was read of its original.
    IsRead(u64),
    /// Nothing of its original is stored any more.
    BeginsAnew,
    /// It is no copy, or not of more than this.
    ReadsOn(Option<Mark>),
    /// Its original was cut or is gone: it goes on where that one was.
    Rescues(Mark),
    OriginalIsCut(Stat),
}

impl<H> Follower<H> {
    /// Decides about copies where that is possible by now.
    pub(super) fn settle_copies<F: FileSystem<Handle = H>>(&mut self, now_ms: i64, files: &mut F) {
        let copies = self.generations.values().filter(|one| matches!(one.state, State::Copy { .. }));
        let copies: Vec<GenerationNumber> = copies.map(|one| one.number).collect();
        for number in copies {
            if let Err(fault) = self.settle_copy(number, now_ms, files) {
                let path = self.generations[&number].path.clone();
                self.fault(&path, fault);
            }
        }
    }

    fn settle_copy<F: FileSystem<Handle = H>>(
        &mut self,
        number: GenerationNumber,
        now_ms: i64,
        files: &mut F,
    ) -> Result<(), Fault> {
        if !self.open(number, files)? {
            return Ok(());
        }
        let Some(original) = self.original(number) else { return Ok(()) };
        if self.generations.get(&original).is_some_and(|known| known.state == State::Reading) {
            // If it cannot be opened, there is another one by its name.
            let _ = self.open(original, files);
        }
        match self.judge_copy(number, original, now_ms, files)? {
            Verdict::Waits => {}
            Verdict::IsEqualUpTo(mark) => {
                let copy = self.get(number);
                (copy.read, copy.committed) = (mark, mark);
            }
            Verdict::IsRead(size) => {
                let copy = self.generations[&number].handle.as_ref().expect("it was opened");
                let mark = mark_at_end(files, copy, size)?;
                if self.get(number).read.offset == 0 {
                    self.note_known_copy(number, original);
                }
                self.read_on_from(number, Some(mark), None);
            }
            Verdict::BeginsAnew => {
                self.get(number).state = State::Reading;
                self.get_ready(number);
            }
            Verdict::ReadsOn(mark) => self.read_on_from(number, mark, None),
            Verdict::Rescues(mark) => self.read_on_from(number, Some(mark), Some(original)),
            Verdict::OriginalIsCut(stat) => self.cut(original, &stat, now_ms),
        }
        Ok(())
    }

    /// If another copy goes on where its original was cut, it is a copy of that one.
    fn original(&mut self, number: GenerationNumber) -> Option<GenerationNumber> {
        let State::Copy { original } = self.get(number).state else { return None };
        let continuing = self.generations.get(&original).and_then(|known| known.continued_by);
        if let Some(original) = continuing.filter(|continuing| *continuing != number) {
            self.get(number).state = State::Copy { original };
            return Some(original);
        }
        Some(original)
    }

    fn judge_copy<F: FileSystem<Handle = H>>(
        &self,
        number: GenerationNumber,
        original: GenerationNumber,
        now_ms: i64,
        files: &mut F,
    ) -> Result<Verdict, Fault> {
        let copy = &self.generations[&number];
        let handle = copy.handle.as_ref().expect("it was opened");
        // Before the other one is looked at: a copy is never longer than what it is a copy of.
        let size = files.stat(handle)?.size;
        let is_stable = size == copy.size && now_ms - copy.changed_ms >= self.settings.copy_wait_ms;
        let Some(known) = self.generations.get(&original) else { return Ok(Verdict::ReadsOn(None)) };
        let reached = known.committed;
        // A finished file does not grow.
        let is_whole = is_stable || copy.packed.is_some();
        let is_like = size >= reached.offset && is_same(files, handle, &reached)?;
        if (known.state != State::Reading || known.handle.is_none()) && size < reached.offset {
            match is_beginning(files, handle, size, known)? {
                Some(true) => return Ok(if is_whole { Verdict::IsRead(size) } else { Verdict::Waits }),
                Some(false) => return Ok(Verdict::ReadsOn(None)),
                None => {}
            }
        }
        if known.state != State::Reading {
            // Readings on their way to the store may still be refused: then the copy is all that is left of them.
            return Ok(match (is_like, is_stable) {
                (true, _) if known.is_settled() && reached.offset == 0 => Verdict::BeginsAnew,
                (true, _) if known.is_settled() => Verdict::Rescues(reached),
                (false, true) => Verdict::ReadsOn(None),
                _ => Verdict::Waits,
            });
        }
        let Some(theirs) = &known.handle else {
            return Ok(match is_stable && known.is_settled() {
                false => Verdict::Waits,
                true if reached.offset == 0 => Verdict::BeginsAnew,
                true => Verdict::ReadsOn(is_like.then_some(reached)),
            });
        };
        let their_stat = files.stat(theirs)?;
        if !is_same(files, theirs, &known.read)? {
            return Ok(Verdict::OriginalIsCut(their_stat));
        }
        if !known.is_settled() {
            return Ok(Verdict::Waits);
        }
        if reached.offset == 0 {
            return Ok(if known.is_original && !is_stable { Verdict::Waits } else { Verdict::BeginsAnew });
        }
        if size < reached.offset {
            if !is_part_of(files, handle, theirs, size)? {
                // Unless it was cut just now.
                let is_cut = !is_same(files, theirs, &known.read)?;
                return Ok(if is_cut { Verdict::OriginalIsCut(files.stat(theirs)?) } else { Verdict::ReadsOn(None) });
            }
            return Ok(if is_whole { Verdict::IsRead(size) } else { Verdict::Waits });
        }
        let is_read = known.checked == Some((their_stat.modified_ns, their_stat.size));
        let is_all = their_stat.size < size && is_read || is_stable && reached.offset == size;
        Ok(match (is_like, is_all) {
            (false, _) => Verdict::ReadsOn(None),
            (true, true) => Verdict::ReadsOn(Some(reached)),
            (true, false) => Verdict::IsEqualUpTo(reached),
        })
    }

    /// It is read as a file of its own: from here, or from where it is known to be equal.
    fn read_on_from(&mut self, number: GenerationNumber, mark: Option<Mark>, rescued: Option<GenerationNumber>) {
        if let Some(original) = rescued {
            let (path, is_packed) = (self.get(number).path.clone(), self.get(number).packed.is_some());
            let size = self.get(number).size;
            let known = self.get(original);
            let is_cut = matches!(known.state, State::Cut { .. });
            let unread_bytes = if is_cut { known.size.saturating_sub(size) } else { 0 };
            // What was not read of it is read here.
            (known.size, known.continued_by) = (known.read.offset, Some(number));
            if is_packed {
                // Whoever compresses a file deletes it then.
                known.is_linked = false;
            } else {
                let original = known.path.clone();
                self.note(Note::Copy { path, original });
            }
            // But for what was written to it after it had been copied, as far as that was seen.
            if unread_bytes > 0 {
                self.counts.lost_bytes += unread_bytes;
                let path = self.get(original).path.clone();
                self.note(Note::Cut { path, unread_bytes });
            }
        }
        let one = self.get(number);
        if let (State::Copy { original }, None) = (one.state, mark) {
            one.no_copy_of.push(original);
        }
        // It may be a copy of another one, perhaps of what was a copy itself until now: it is compared with others when it is read.
        (one.state, one.is_original) = (State::Reading, mark.is_some());
        if let Some(mark) = mark {
            (one.read, one.committed) = (mark, mark);
        }
        if one.committed.offset > 0 {
            one.is_stored = true;
            let place = one.place(one.committed);
            self.changes.insert(number, Some(place));
        }
        self.get_ready(number);
    }
}

/// Whether a file ends as another one does at the same place.
fn is_part_of<F: FileSystem>(files: &mut F, ours: &F::Handle, theirs: &F::Handle, size: u64) -> Result<bool, Fault> {
    let length = usize::try_from(size).unwrap_or(usize::MAX).min(TAIL_BYTES_MAX);
    let from = size - length as u64;
    Ok(bytes_at(files, ours, from, length)? == bytes_at(files, theirs, from, length)?)
}
