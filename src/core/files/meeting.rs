//! Files that are seen for the first time, or again: whether one is new, or was there under another name, or is a copy of another one.

use super::follower::Follower;
use super::generation::{Generation, State};
use super::identity::{HEAD_BYTES_MAX, Print, TAIL_BYTES_MAX};
use super::place::{GenerationNumber, Mark};
use super::trail::Footprint;
use super::{Fault, FileSystem, Note, Start, Stat};

/// A gap in a trail is searched for an end of a line up to here.
const REST_BYTES_MAX: usize = 64 * 1024;

/// What a comparison with another file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// It begins with all that was read of the other one.
    Copy,
    /// It is a copy, made before the last of what was read was written.
    Beginning,
    /// It is shorter, and so far they are equal, or nobody can know.
    Perhaps,
    Differs,
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
            known.trail.return_to(known.committed.offset);
            // Nothing tells an empty file from another one that has got its inode.
            known.is_original &= known.read.offset > 0;
            self.arrive(number, path);
            self.keep_open(number, handle);
            self.get_ready(number);
            return Ok(());
        }
        known.state = State::Cut { at_ms: now_ms };
        known.size = known.committed.offset;
        let is_finished = known.is_finished;
        self.counts.cuts += u64::from(is_first_look && !is_finished);
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
        self.find_cuts(number, now_ms, files);
        let new = &self.generations[&number];
        let handle = new.handle.as_ref().expect("it was opened");
        let beginnings = match bytes_at(files, handle, 0, HEAD_BYTES_MAX) {
            Ok(beginning) => Print::of_beginnings(&beginning),
            Err(fault) => {
                let path = new.path.clone();
                return self.fault(&path, fault);
            }
        };
        let begins_like =
            |head: &Print| head.length == 0 || beginnings.get(head.bytes()).is_none_or(|beginning| beginning == head);
        let is_candidate = |one: &&Generation<H>| {
            one.number != number
                && (one.read.offset > 0 || one.is_original && one.packed.is_none() && one.state == State::Reading)
                && one.continued_by.is_none()
                && !new.no_copy_of.contains(&one.number)
                && new.name.may_be_copy_of(&one.name, new.packed.is_some())
                && begins_like(&one.read.head)
                && !one.file.may_be(&new.file)
                && !matches!(one.state, State::Copy { .. })
                // A file may well be written anew with the same beginning after it was deleted. Compressed ones are another matter.
                && (new.packed.is_some() || !one.is_remembered())
        };
        let family = self.index.of_family(&new.name.family).map(|number| &self.generations[&number]);
        let candidates: Vec<GenerationNumber> = family.filter(is_candidate).map(|one| one.number).collect();
        let mut best = None;
        for original in candidates {
            if self.get(original).state == State::Reading && self.get(original).read.offset == 0 {
                // If it cannot be opened, there is another one by its name.
                let _ = self.open(original, files);
            }
            match self.compare(number, original, now_ms, files) {
                Ok(Likeness::Differs) => {}
                // The one of which most was read, and which is read on: another one may have been a copy of it.
                Ok(likeness) => {
                    let known = &self.generations[&original];
                    let rank = (likeness != Likeness::Perhaps, known.read.offset, known.state == State::Reading);
                    best = best.max(Some((rank, original, likeness)));
                }
                Err(fault) => {
                    let path = self.generations[&number].path.clone();
                    self.fault(&path, fault);
                }
            }
        }
        let Some((_, original, likeness)) = best else { return };
        let mark = self.generations[&original].committed;
        let new = self.get(number);
        new.state = State::Copy { original };
        if likeness == Likeness::Copy {
            (new.read, new.committed) = (mark, mark);
            self.note_known_copy(number, original);
        }
        self.ready.remove(number);
    }

    pub(super) fn note_known_copy(&mut self, number: GenerationNumber, original: GenerationNumber) {
        self.counts.copies += 1;
        let [path, original] = [number, original].map(|one| self.generations[&one].path.clone());
        self.note(Note::Known { path, original });
    }

    /// Of a file that was cut and written to the same size, a copy is no copy of what was read.
    fn find_cuts<F: FileSystem<Handle = H>>(&mut self, number: GenerationNumber, now_ms: i64, files: &mut F) {
        let family = &self.generations[&number].name.family;
        let may_be_cut = |other: &GenerationNumber| {
            let known = &self.generations[other];
            *other != number && known.read.offset > 0 && known.name.family == *family && self.ready.contains(*other)
        };
        let changed: Vec<GenerationNumber> = self.open.iter().copied().filter(may_be_cut).collect();
        for other in changed {
            let known = &self.generations[&other];
            let Some(handle) = &known.handle else { continue };
            if let (Ok(false), Ok(stat)) = (is_same(files, handle, &known.read), files.stat(handle)) {
                self.cut(other, &stat, now_ms);
            }
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
        if known.read.offset == 0 {
            // It was cut, and nothing of what was written since is read. What is equal waits until it is, because it is compared with nothing.
            let Some(theirs) = &known.handle else { return Ok(Likeness::Differs) };
            let length = usize::try_from(size).unwrap_or(usize::MAX).min(HEAD_BYTES_MAX);
            let beginning = bytes_at(files, handle, 0, length)?;
            let is_equal = !beginning.is_empty() && beginning == bytes_at(files, theirs, 0, length)?;
            return Ok(if is_equal { Likeness::Perhaps } else { Likeness::Differs });
        }
        if size >= known.read.offset {
            let is_copy = is_same(files, handle, &known.read)?;
            return Ok(if is_copy { Likeness::Copy } else { Likeness::Differs });
        }
        let is_beginning = is_beginning(files, handle, size, known)?;
        let may_be_copied =
            matches!(known.state, State::Cut { .. }) || known.state == State::Reading && !known.is_rotated;
        match is_beginning {
            Some(true) if may_be_copied || known.trail.tells_much(size) => return Ok(Likeness::Beginning),
            Some(false) => return Ok(Likeness::Differs),
            // A file that was renamed is not copied, and one that is gone cannot be. What comes after it may well begin with the same lines.
            _ if !may_be_copied => return Ok(Likeness::Differs),
            _ => {}
        }
        match known.state {
            // A finished file does not grow.
            State::Cut { .. } if self.generations[&number].packed.is_some() => Ok(Likeness::Differs),
            // What was read of the other one when the copy was made is not known any more.
            State::Cut { .. } if size < u64::from(known.read.head.length) => Ok(Likeness::Perhaps),
            State::Cut { .. } => {
                let beginning = bytes_at(files, handle, 0, known.read.head.bytes())?;
                Ok(if known.read.head.is_of(&beginning) { Likeness::Perhaps } else { Likeness::Differs })
            }
            State::Reading if known.handle.is_some() => {
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
            // One that is closed is idle, and nobody is copying and cutting it.
            _ => Ok(Likeness::Differs),
        }
    }
}

/// Whether a file still begins, and goes on up to the mark, as it did.
pub(super) fn is_same<F: FileSystem>(files: &mut F, handle: &F::Handle, mark: &Mark) -> Result<bool, Fault> {
    let tail = bytes_at(files, handle, mark.offset - u64::from(mark.tail.length), mark.tail.bytes())?;
    Ok(mark.tail.is_of(&tail) && mark.head.is_of(&bytes_at(files, handle, 0, mark.head.bytes())?))
}

/// Whether a file that is shorter than what was read of another one is a copy of its beginning; `None` if that is not known. How far the
/// other one had come then is told by the last end of a line that both have, if not a whole line follows, or so much is equal that no file but
/// a copy has it.
pub(super) fn is_beginning<F: FileSystem>(
    files: &mut F,
    handle: &F::Handle,
    size: u64,
    known: &Generation<F::Handle>,
) -> Result<Option<bool>, Fault> {
    let Some(Footprint { offset, tail }) = known.trail.last_within(size) else { return Ok(None) };
    let head = if u64::from(known.read.head.length) <= size { known.read.head } else { Print::default() };
    if !is_same(files, handle, &Mark { offset, head, tail, is_skipping: false })? {
        return Ok(Some(false));
    }
    if known.trail.tells_much(size) {
        return Ok(Some(true));
    }
    let rest =
        bytes_at(files, handle, offset, usize::try_from(size - offset).unwrap_or(usize::MAX).min(REST_BYTES_MAX))?;
    Ok((!rest.contains(&b'\n')).then_some(true))
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
pub(super) fn mark_at_end<F: FileSystem>(files: &mut F, handle: &F::Handle, size: u64) -> Result<Mark, Fault> {
    let length = |max: usize| usize::try_from(size).unwrap_or(usize::MAX).min(max);
    let head = Print::of(&bytes_at(files, handle, 0, length(HEAD_BYTES_MAX))?);
    let tail = bytes_at(files, handle, size - length(TAIL_BYTES_MAX) as u64, length(TAIL_BYTES_MAX))?;
    let is_skipping = tail.last().is_some_and(|byte| *byte != b'\n');
    Ok(Mark { offset: size, head, tail: Print::of(&tail), is_skipping })
}
