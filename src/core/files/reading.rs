//! What is read next: fairly among files that are written to, and in order among the rotations of one.

use std::ops::Range;
use std::sync::Arc;

use super::follower::Follower;
use super::framing::{Piece, Situation, newline};
use super::generation::{Generation, State};
use super::identity::{HEAD_BYTES_MAX, Print};
use super::meeting::bytes_at;
use super::place::{GenerationNumber, Mark, Place};
use super::{Fault, FileSystem, Note};

/// Whole lines of one file.
#[derive(Clone, Debug)]
pub struct Portion {
    /// Of which generation.
    pub number: GenerationNumber,
    /// How far that has been read with it. To be given to [`Follower::committed`] once its readings are.
    pub mark: Mark,
    /// To be stored with its readings.
    pub place: Place,
    /// The line that names the columns.
    pub header: Option<Arc<[u8]>>,
    bytes: Vec<u8>,
    lines: Vec<Range<usize>>,
}

impl Portion {
    /// Its lines, without what ends them. Perhaps none.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|range| &self.bytes[range.clone()])
    }

    /// Bytes that it takes in memory.
    pub fn byte_size(&self) -> usize {
        self.bytes.len()
    }
}

impl<H> Follower<H> {
    /// The next lines of whichever file has its turn; `None` if there is nothing more until the next look.
    pub fn read<F: FileSystem<Handle = H>>(&mut self, now_ms: i64, files: &mut F) -> Option<Portion> {
        while let Some(number) = self.next() {
            self.turn = number;
            match self.read_from(number, now_ms, files) {
                Ok(Some(portion)) => return Some(portion),
                Ok(None) => self.rest(number),
                Err(fault) => {
                    let path = self.get(number).path.clone();
                    self.fault(&path, fault);
                    self.rest(number);
                }
            }
        }
        None
    }

    /// Whose turn is next.
    fn next(&self) -> Option<GenerationNumber> {
        self.ready.after(self.turn).find(|number| !self.waits(&self.generations[number]))
    }

    /// What is written to now waits for what was rotated; of the files that are not written to, the later for the earlier. Compressed files
    /// are read one at a time, because a place in one is only reached by unpacking all that is before it.
    fn waits(&self, one: &Generation<H>) -> bool {
        let mut packed = self.ready.packed().take_while(|number| one.packed.is_some() && *number < one.number);
        if self.waits_for_copies(one) || packed.any(|number| !self.waits_for_copies(&self.generations[&number])) {
            return true;
        }
        let is_settled = |one: &Generation<H>| one.is_rotated || !one.is_live;
        let is_before = |other: &Generation<H>| {
            let is_earlier = !is_settled(one) || other.number < one.number;
            other.number != one.number && is_settled(other) && is_earlier && !self.waits_for_copies(other)
        };
        let family = self.ready.of_family(&one.name.family);
        let until = |number: &GenerationNumber| !is_settled(one) || *number < one.number;
        family.take_while(until).any(|number| is_before(&self.generations[&number]))
    }

    /// What a compressed file was made from may not be known to be a file of its own yet.
    fn waits_for_copies(&self, one: &Generation<H>) -> bool {
        let is_undecided = |number: GenerationNumber| {
            let other = &self.generations[&number];
            other.packed.is_none() && matches!(other.state, State::Copy { .. })
        };
        one.packed.is_some() && one.read.offset == 0 && self.index.of_family(&one.name.family).any(is_undecided)
    }

    /// Nothing more is to be read of it until the next look.
    fn rest(&mut self, number: GenerationNumber) {
        self.ready.remove(number);
        let one = self.get(number);
        if one.is_listed() && one.state == State::Reading && self.open.len() > self.settings.open_max {
            self.close_file(number);
        }
    }

    fn read_from<F: FileSystem<Handle = H>>(
        &mut self,
        number: GenerationNumber,
        now_ms: i64,
        files: &mut F,
    ) -> Result<Option<Portion>, Fault> {
        debug_assert_eq!(self.generations[&number].state, State::Reading, "others are not ready");
        if !self.open(number, files)? {
            return Ok(None);
        }
        if self.get(number).read.offset == 0 && !self.get(number).is_original {
            // What it may be a copy of has perhaps been read since it was met.
            self.find_original(number, now_ms, files);
            if self.get(number).state != State::Reading {
                return Ok(None);
            }
        }
        let one = &self.generations[&number];
        let handle = one.handle.as_ref().expect("it was opened");
        let stat = files.stat(handle)?;
        let (mark, tail) = (one.read, one.read.tail.bytes());
        let from = mark.offset - tail as u64;
        let wanted = self.settings.turn_bytes.max(self.settings.line_bytes_max + 3);
        let unread = usize::try_from(stat.size.saturating_sub(mark.offset)).unwrap_or(usize::MAX);
        let bytes = bytes_at(files, handle, from, tail + unread.min(wanted))?;
        // In the same call as what follows, so that nobody can cut the file in between.
        let is_same = self.settings.trusts_inodes || bytes.len() >= tail && mark.tail.is_of(&bytes[..tail]);
        if stat.size < mark.offset || bytes.len() < tail || !is_same {
            self.cut(number, &stat, now_ms);
            return Ok(None);
        }
        self.get(number).is_reopened = false;
        let one = &self.generations[&number];
        let reaches_end = from + bytes.len() as u64 >= stat.size;
        let is_due = one.is_last_line_due(now_ms, self.settings.idle_ms, self.settings.grace_ms);
        let header = self.header(number, files)?;
        let situation = Situation {
            is_beginning: false,
            reaches_end,
            // What was seen before, and has not grown since.
            is_last: is_due && stat.size == one.size,
            line_bytes_max: self.settings.line_bytes_max,
        };
        let found = self.find_lines(number, &bytes, tail, header, situation);
        let offset = from + found.end as u64;
        if reaches_end {
            self.get(number).checked = Some((stat.modified_ns, stat.size));
        }
        if found.end == tail && found.is_skipping == mark.is_skipping {
            return Ok(None);
        }
        let Some(head) = self.head(number, &bytes, offset, from, files)? else {
            self.cut(number, &stat, now_ms);
            return Ok(None);
        };
        let read = Mark { offset, head, tail: Print::of_end(&bytes[..found.end]), is_skipping: found.is_skipping };
        let keeps_trail = !self.settings.keeps_no_trails;
        let one = self.get(number);
        if keeps_trail {
            one.trail.extend(&mark, &bytes[..found.end], from, tail);
        }
        (one.size, one.read, one.header) = (stat.size.max(one.size), read, found.header.clone());
        one.size_before = one.size;
        let place = one.place(read);
        // What is stored with these lines is newer.
        self.changes.remove(&number);
        if reaches_end && found.end == bytes.len() {
            self.rest(number);
        }
        Ok(Some(Portion { number, mark: read, place, header: found.header, bytes, lines: found.lines }))
    }

    /// Opens a file if it is not open. It may be another one by now: then the next look finds out.
    pub(super) fn open<F: FileSystem<Handle = H>>(
        &mut self,
        number: GenerationNumber,
        files: &mut F,
    ) -> Result<bool, Fault> {
        let one = self.get(number);
        if one.handle.is_some() {
            return Ok(true);
        }
        let handle = files.open(&one.path)?;
        let is_same = files.stat(&handle)?.file.may_be(&one.file);
        if is_same {
            one.is_reopened = true;
            self.keep_open(number, handle);
        }
        Ok(is_same)
    }

    /// The first line of a file that is read on from elsewhere.
    fn header<F: FileSystem<Handle = H>>(
        &self,
        number: GenerationNumber,
        files: &mut F,
    ) -> Result<Option<Arc<[u8]>>, Fault> {
        let line_bytes_max = self.settings.line_bytes_max;
        let one = &self.generations[&number];
        if !self.settings.has_header || one.header.is_some() || one.read.offset == 0 {
            return Ok(one.header.clone());
        }
        let handle = one.handle.as_ref().expect("it was opened");
        let beginning = bytes_at(files, handle, 0, line_bytes_max + 2)?;
        let situation = Situation { is_beginning: true, reaches_end: false, is_last: false, line_bytes_max };
        let mut at = 0;
        loop {
            match self.settings.framing.split(&beginning[at..], Situation { is_beginning: at == 0, ..situation }) {
                Piece::Line { text, end } if text.is_empty() => at += end,
                // One that is still to come is found there.
                Piece::Line { end, .. } if (at + end) as u64 > one.read.offset => return Ok(None),
                Piece::Line { text, .. } => return Ok(Some(Arc::from(&beginning[at..][text]))),
                Piece::Hole { end } => at += end,
                _ => return Ok(None),
            }
        }
    }

    /// What it begins with, which may be more than before; `None` if it is something else by now.
    fn head<F: FileSystem<Handle = H>>(
        &self,
        number: GenerationNumber,
        bytes: &[u8],
        through: u64,
        from: u64,
        files: &mut F,
    ) -> Result<Option<Print>, Fault> {
        let one = &self.generations[&number];
        let length = usize::try_from(through).unwrap_or(usize::MAX).min(HEAD_BYTES_MAX);
        if one.read.head.bytes() >= length {
            return Ok(Some(one.read.head));
        }
        if from == 0 {
            return Ok(Some(Print::of(&bytes[..length])));
        }
        let handle = one.handle.as_ref().expect("it was opened");
        let beginning = bytes_at(files, handle, 0, length)?;
        let is_same = beginning.len() == length && one.read.head.is_of(&beginning[..one.read.head.bytes()]);
        Ok(is_same.then(|| Print::of(&beginning)))
    }

    /// The whole lines from `start` on.
    fn find_lines(
        &mut self,
        number: GenerationNumber,
        bytes: &[u8],
        start: usize,
        header: Option<Arc<[u8]>>,
        situation: Situation,
    ) -> Found {
        let one = &self.generations[&number];
        let (path, from, is_skipping) = (one.path.clone(), one.read.offset - start as u64, one.read.is_skipping);
        let mut found = Found { lines: Vec::new(), end: start, is_skipping, header };
        while found.end < bytes.len() {
            let at = found.end;
            if found.is_skipping {
                let end = newline(&bytes[at..]);
                found.is_skipping = end.is_none();
                found.end = end.map_or(bytes.len(), |end| at + end);
                continue;
            }
            let is_beginning = from + at as u64 == 0;
            match self.settings.framing.split(&bytes[at..], Situation { is_beginning, ..situation }) {
                Piece::Line { text, end } => {
                    let text = at + text.start..at + text.end;
                    found.end += end;
                    if text.is_empty() {
                        continue;
                    }
                    if self.settings.has_header && found.header.is_none() {
                        found.header = Some(Arc::from(&bytes[text]));
                    } else {
                        found.lines.push(text);
                    }
                }
                Piece::TooLong { end, is_open } => {
                    self.counts.too_long += 1;
                    self.note(Note::TooLong { path: path.clone(), offset: from + at as u64 });
                    found.end += end;
                    found.is_skipping = is_open;
                }
                Piece::Hole { end } => {
                    self.counts.hole_bytes += end as u64;
                    found.end += end;
                }
                Piece::Incomplete => break,
            }
        }
        found
    }
}

/// What was found in some bytes.
struct Found {
    lines: Vec<Range<usize>>,
    end: usize,
    is_skipping: bool,
    header: Option<Arc<[u8]>>,
}
