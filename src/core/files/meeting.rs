//! Files that are seen for the first time, or again: whether one is new, or was there under another name, or is a copy of another one.

use super::follower::Follower;
use super::generation::{Generation, State};
use super::identity::{HEAD_BYTES_MAX, Print, TAIL_BYTES_MAX};
use super::place::{GenerationNumber, Mark};
use super::{Fault, FileSystem, Note, Start, Stat};

/// What a comparison with another file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    /// It begins with all that was read of the other one.
    Copy,
    /// It is shorter, and so far they are equal, or nobody can know.
    Perhaps,
    Differs,
}

/// What is known of a file that may be a copy.
enum Verdict {
    /// Nothing yet.
    Waits,
    IsEqualUpTo(Mark),
    /// It is no copy, or not of more than this.
    ReadsOn(Option<Mark>),
    /// Its original was cut or is gone: it goes on where that one was.
    Rescues(Mark),
    OriginalIsCut(Stat),
}

impl<H> Follower<H> {
    /// A file that is not known, or was gone. It may be another one by now than the one that was listed.
    pub(super) fn meet<F: FileSystem<Handle = H>>(&mut self, path: &str, now_ms: i64, files: &mut F) {
        let opened = files.open(path).and_then(|handle| files.stat(&handle).map(|stat| (handle, stat)));
        let (handle, stat) = match opened {
            Ok(opened) => opened,
            Err(fault) => return self.fault(path, fault),
        };
        let result = match self.known(&stat.file) {
            None => self.meet_new(path, &stat, handle, now_ms, files),
            Some(number) if matches!(self.get(number).state, State::Gone { .. }) => {
                self.revive(number, path, &stat, handle, now_ms, files)
            }
            // Renamed just now.
            Some(number) if self.get(number).handle.is_none() => {
                self.get(number).is_reopened = true;
                self.keep_open(number, handle);
                Ok(())
            }
            Some(_) => Ok(()),
        };
        if let Err(fault) = result {
            self.fault(path, fault);
        }
        self.close_surplus();
    }

    /// A file that was gone may be there again; or another one has got its inode.
    fn revive<F: FileSystem<Handle = H>>(
        &mut self,
        number: GenerationNumber,
        path: &str,
        stat: &Stat,
        handle: H,
        now_ms: i64,
        files: &mut F,
    ) -> Result<(), Fault> {
        let is_first_look = self.is_first_look;
        let trusts_inodes = self.settings.trusts_inodes;
        let known = self.get(number);
        // What is in a compressed file is not unpacked to be compared.
        let is_sealed = known.packed.is_some() && known.packed == stat.packed;
        if trusts_inodes || is_sealed || is_same(files, &handle, &known.committed)? {
            known.state = State::Reading;
            known.observe(stat, now_ms);
            known.read = known.committed;
            // Nothing tells an empty file from another one that has got its inode.
            known.is_original &= known.read.offset > 0;
            self.arrive(number, path);
            self.keep_open(number, handle);
            self.get_ready(number);
            return Ok(());
        }
        known.state = State::Cut { at_ms: now_ms };
        known.size = known.committed.offset;
        self.counts.cuts += u64::from(is_first_look);
        let new = self.begin(path, stat, Some(handle), now_ms);
        self.find_original(new, now_ms, files);
        Ok(())
    }

    fn meet_new<F: FileSystem<Handle = H>>(
        &mut self,
        path: &str,
        stat: &Stat,
        handle: H,
        now_ms: i64,
        files: &mut F,
    ) -> Result<(), Fault> {
        if !self.is_begun && self.settings.start == Start::End {
            let mark = mark_at_end(files, &handle, stat.size)?;
            let number = self.begin(path, stat, Some(handle), now_ms);
            let new = self.get(number);
            (new.read, new.committed, new.is_stored, new.is_original) = (mark, mark, true, true);
            let place = new.place(mark);
            self.changes.insert(number, Some(place));
        } else {
            let number = self.begin(path, stat, Some(handle), now_ms);
            self.find_original(number, now_ms, files);
        }
        Ok(())
    }

    /// Whether a file of which nothing was read is a copy of another one of its family.
    pub(super) fn find_original<F: FileSystem<Handle = H>>(
        &mut self,
        number: GenerationNumber,
        now_ms: i64,
        files: &mut F,
    ) {
        let new = &self.generations[&number];
        let handle = new.handle.as_ref().expect("it was opened");
        let beginnings = match bytes_at(files, handle, 0, HEAD_BYTES_MAX) {
            Ok(beginning) => Print::of_beginnings(&beginning),
            Err(fault) => {
                let path = new.path.clone();
                return self.fault(&path, fault);
            }
        };
        let begins_like = |head: &Print| beginnings.get(head.bytes()).is_none_or(|beginning| beginning == head);
        let is_candidate = |one: &&Generation<H>| {
            one.number != number
                && one.read.offset > 0
                && one.continued_by.is_none()
                && begins_like(&one.read.head)
                && !one.file.may_be(&new.file)
                && !matches!(one.state, State::Copy { .. })
                // A file may well be written anew with the same beginning after it was deleted. Compressed ones are another matter.
                && (new.packed.is_some() || !one.is_remembered())
        };
        let family = self.index.of_family(&new.family).map(|number| &self.generations[&number]);
        let candidates: Vec<GenerationNumber> = family.filter(is_candidate).map(|one| one.number).collect();
        let mut perhaps = None;
        for original in candidates {
            match self.compare(number, original, now_ms, files) {
                Ok(Likeness::Copy) => {
                    let mark = self.generations[&original].committed;
                    let new = self.get(number);
                    new.state = State::Copy { original };
                    (new.read, new.committed) = (mark, mark);
                    self.ready.remove(number);
                    self.counts.copies += 1;
                    return;
                }
                Ok(Likeness::Perhaps) => perhaps = Some(original),
                Ok(Likeness::Differs) => {}
                Err(fault) => {
                    let path = self.generations[&number].path.clone();
                    self.fault(&path, fault);
                }
            }
        }
        if let Some(original) = perhaps {
            self.get(number).state = State::Copy { original };
            self.ready.remove(number);
        }
    }

    fn compare<F: FileSystem<Handle = H>>(
        &mut self,
        number: GenerationNumber,
        original: GenerationNumber,
        now_ms: i64,
        files: &mut F,
    ) -> Result<Likeness, Fault> {
        let handle = self.generations[&number].handle.as_ref().expect("it was opened");
        let size = files.stat(handle)?.size;
        let known = &self.generations[&original];
        if size >= known.read.offset {
            let is_copy = is_same(files, handle, &known.read)?;
            return Ok(if is_copy { Likeness::Copy } else { Likeness::Differs });
        }
        match known.state {
            // A finished file does not grow.
            State::Cut { .. } if self.generations[&number].packed.is_some() => Ok(Likeness::Differs),
            // Cut only after it was copied, so the copy will be longer than what was read.
            State::Cut { .. } if size < u64::from(known.read.head.length) => Ok(Likeness::Perhaps),
            State::Cut { .. } => {
                let beginning = bytes_at(files, handle, 0, known.read.head.bytes())?;
                Ok(if known.read.head.is_of(&beginning) { Likeness::Perhaps } else { Likeness::Differs })
            }
            // One that is closed is idle, and nobody is copying and cutting it.
            State::Reading if !known.is_rotated && known.handle.is_some() => {
                let length = usize::try_from(size).unwrap_or(usize::MAX).min(HEAD_BYTES_MAX);
                let theirs = known.handle.as_ref().expect("it is open");
                if bytes_at(files, handle, 0, length)? == bytes_at(files, theirs, 0, length)? {
                    return Ok(Likeness::Perhaps);
                }
                if is_same(files, theirs, &known.read)? {
                    return Ok(Likeness::Differs);
                }
                // It was cut just now: this is why it begins with something else.
                let stat = files.stat(theirs)?;
                self.cut(original, &stat, now_ms);
                Ok(Likeness::Perhaps)
            }
            // A file that was renamed is not copied, and one that is gone cannot be.
            _ => Ok(Likeness::Differs),
        }
    }

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
        let is_like = size >= reached.offset && is_same(files, handle, &reached)?;
        if known.state != State::Reading {
            // Readings on their way to the store may still be refused: then the copy is all that is left of them.
            return Ok(match (is_like, is_stable) {
                (true, _) if known.is_settled() => Verdict::Rescues(reached),
                (false, true) => Verdict::ReadsOn(None),
                _ => Verdict::Waits,
            });
        }
        let Some(theirs) = &known.handle else {
            return Ok(if is_stable { Verdict::ReadsOn(is_like.then_some(reached)) } else { Verdict::Waits });
        };
        let their_stat = files.stat(theirs)?;
        if !is_same(files, theirs, &known.read)? {
            return Ok(Verdict::OriginalIsCut(their_stat));
        }
        if !known.is_settled() {
            return Ok(Verdict::Waits);
        }
        if size < reached.offset {
            return is_part_of(files, handle, theirs, size, is_stable);
        }
        let is_all = their_stat.size < size || is_stable && reached.offset == size;
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
            let known = self.get(original);
            // What was not read of it is read here.
            (known.size, known.continued_by) = (known.read.offset, Some(number));
            if is_packed {
                // Whoever compresses a file deletes it then.
                known.is_linked = false;
            } else {
                let original = known.path.clone();
                self.note(Note::Copy { path, original });
            }
        }
        let one = self.get(number);
        // A compressed file may be a copy of what was a copy itself until now: it is compared once more when it is read.
        one.is_original = one.packed.is_none() || mark.is_some() || one.was_judged;
        (one.state, one.was_judged) = (State::Reading, true);
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

/// What becomes of a copy whose original has been read further than the copy goes.
fn is_part_of<F: FileSystem>(
    files: &mut F,
    ours: &F::Handle,
    theirs: &F::Handle,
    size: u64,
    is_stable: bool,
) -> Result<Verdict, Fault> {
    let length = |max: usize| usize::try_from(size).unwrap_or(usize::MAX).min(max);
    let from = size - length(TAIL_BYTES_MAX) as u64;
    let tail = bytes_at(files, ours, from, length(TAIL_BYTES_MAX))?;
    if tail != bytes_at(files, theirs, from, length(TAIL_BYTES_MAX))? {
        return Ok(Verdict::ReadsOn(None));
    }
    if !is_stable {
        return Ok(Verdict::Waits);
    }
    let head = Print::of(&bytes_at(files, ours, 0, length(HEAD_BYTES_MAX))?);
    Ok(Verdict::ReadsOn(Some(Mark { offset: size, head, tail: Print::of(&tail), is_skipping: false })))
}

/// Whether a file still begins, and goes on up to the mark, as it did.
pub(super) fn is_same<F: FileSystem>(files: &mut F, handle: &F::Handle, mark: &Mark) -> Result<bool, Fault> {
    let tail = bytes_at(files, handle, mark.offset - u64::from(mark.tail.length), mark.tail.bytes())?;
    Ok(mark.tail.is_of(&tail) && mark.head.is_of(&bytes_at(files, handle, 0, mark.head.bytes())?))
}

/// Up to so many bytes of a file.
pub(super) fn bytes_at<F: FileSystem>(
    files: &mut F,
    handle: &F::Handle,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; length];
    let read = if length == 0 { 0 } else { files.read_at(handle, offset, &mut bytes)? };
    bytes.truncate(read);
    Ok(bytes)
}

/// The place behind all that is there. A line that is half there is not read.
fn mark_at_end<F: FileSystem>(files: &mut F, handle: &F::Handle, size: u64) -> Result<Mark, Fault> {
    let length = |max: usize| usize::try_from(size).unwrap_or(usize::MAX).min(max);
    let head = Print::of(&bytes_at(files, handle, 0, length(HEAD_BYTES_MAX))?);
    let tail = bytes_at(files, handle, size - length(TAIL_BYTES_MAX) as u64, length(TAIL_BYTES_MAX))?;
    let is_skipping = tail.last().is_some_and(|byte| *byte != b'\n');
    Ok(Mark { offset: size, head, tail: Print::of(&tail), is_skipping })
}
