//! The pages of a damaged store as they lie in its file and its log, without asking SQLite: it believes the tree above them, and the tree
//! may be what is damaged.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::schema::{PAGE_BYTES, log_of};

const PAGE: usize = PAGE_BYTES as usize;
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: usize = 24;
const FRAME: u64 = (FRAME_HEADER + PAGE) as u64;
/// The last bit says how its checksums are made.
const LOG_MAGIC: u32 = 0x377f_0682;

/// One version of a page: in the file, or in a frame of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    File(u32),
    Frame(u32),
}

/// Which version of a page is meant by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// As SQLite sees it: the log before the file.
    Committed,
    File,
    /// The last frame of the log, whether or not it was committed.
    Log,
}

/// A store's file and log, opened for reading.
#[derive(Debug)]
pub(super) struct Pages {
    file: Option<File>,
    log: Option<Log>,
    in_file: u32,
}

#[derive(Debug)]
struct Log {
    file: File,
    /// Page number of each frame.
    frames: Vec<u32>,
    committed: HashMap<u32, u32>,
    last: HashMap<u32, u32>,
}

impl Pages {
    /// What is not there has no pages.
    pub fn open(store: &Path) -> io::Result<Pages> {
        let file = open_if_there(store)?;
        let in_file = match &file {
            Some(file) => u32::try_from(file.metadata()?.len().div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX),
            None => 0,
        };
        let log = open_if_there(&log_of(store))?.map(Log::read).transpose()?;
        Ok(Pages { file, log, in_file })
    }

    /// Every version of every page: what is committed first.
    pub fn all(&self) -> impl Iterator<Item = (View, Place)> {
        let frames = 0..self.log.as_ref().map_or(0, |log| log.frames.len() as u32);
        let frame_view = |frame: u32| match &self.log {
            Some(log) if log.committed.get(&log.frames[frame as usize]) == Some(&frame) => View::Committed,
            _ => View::Log,
        };
        let file_view = |page: u32| match &self.log {
            Some(log) if log.committed.contains_key(&page) => View::File,
            _ => View::Committed,
        };
        let frames = frames.map(move |frame| (frame_view(frame), Place::Frame(frame)));
        (1..=self.in_file).map(move |page| (file_view(page), Place::File(page))).chain(frames)
    }

    /// Where a page is in a view; `None` if it is nowhere.
    pub fn find(&self, page: u32, view: View) -> Option<Place> {
        let log = self.log.as_ref();
        let frame = match view {
            View::Committed => log.and_then(|log| log.committed.get(&page)),
            View::Log => log.and_then(|log| log.last.get(&page)),
            View::File => None,
        };
        match frame {
            Some(frame) => Some(Place::Frame(*frame)),
            None => (1..=self.in_file).contains(&page).then_some(Place::File(page)),
        }
    }

    /// A page at the end of a file that was cut short is filled up with zeroes.
    pub fn read(&self, place: Place, page: &mut Vec<u8>) -> io::Result<()> {
        page.clear();
        page.resize(PAGE, 0);
        let (file, at) = match place {
            Place::File(number) => (self.file.as_ref(), u64::from(number - 1) * PAGE_BYTES),
            Place::Frame(frame) => {
                (self.log.as_ref().map(|log| &log.file), LOG_HEADER + u64::from(frame) * FRAME + FRAME_HEADER as u64)
            }
        };
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        let mut filled = 0;
        while filled < PAGE {
            match file.read_at(&mut page[filled..], at + filled as u64) {
                // Of a sector that the disk has lost nothing can be had; others may still be there.
                Ok(0) | Err(_) => break,
                Ok(count) => filled += count,
            }
        }
        Ok(())
    }
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Log {
    /// Reads the headers of all frames, and the checksums as far as they hold.
    fn read(file: File) -> io::Result<Log> {
        let bytes = file.metadata()?.len();
        let mut log = Log { file, frames: Vec::new(), committed: HashMap::new(), last: HashMap::new() };
        let mut checker = Checker::new(&log.file)?;
        let mut uncommitted = Vec::new();
        let mut frame = vec![0; FRAME_HEADER + PAGE];
        for number in 0..bytes.saturating_sub(LOG_HEADER) / FRAME {
            if log.file.read_exact_at(&mut frame, LOG_HEADER + number * FRAME).is_err() {
                // As in a page of the file: what the disk has lost is empty.
                frame.fill(0);
            }
            let (number, page) = (number as u32, word(&frame, 0));
            log.frames.push(page);
            log.last.insert(page, number);
            if checker.as_mut().is_some_and(|checker| checker.continues(&frame)) {
                uncommitted.push((page, number));
                if word(&frame, 4) > 0 {
                    log.committed.extend(uncommitted.drain(..));
                }
            } else {
                checker = None;
            }
        }
        Ok(log)
    }
}

/// Follows the checksums of a log from its header on.
#[derive(Clone, Debug)]
struct Checker {
    is_big_endian: bool,
    salts: [u32; 2],
    sums: [u32; 2],
}

impl Checker {
    /// `None` if the header itself does not hold.
    fn new(log: &File) -> io::Result<Option<Checker>> {
        let mut header = [0; LOG_HEADER as usize];
        if log.read_exact_at(&mut header, 0).is_err() {
            return Ok(None);
        }
        let magic = word(&header, 0);
        if magic & !1 != LOG_MAGIC || word(&header, 8) != PAGE as u32 {
            return Ok(None);
        }
        let salts = [word(&header, 16), word(&header, 20)];
        let mut checker = Checker { is_big_endian: magic & 1 == 1, salts, sums: [0; 2] };
        checker.add(&header[..24]);
        Ok((checker.sums == [word(&header, 24), word(&header, 28)]).then_some(checker))
    }

    fn add(&mut self, bytes: &[u8]) {
        let [mut first, mut second] = self.sums;
        for pair in bytes.chunks_exact(8) {
            let read = |bytes: &[u8]| {
                let bytes = bytes.try_into().expect("four bytes");
                if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
            };
            first = first.wrapping_add(read(&pair[..4])).wrapping_add(second);
            second = second.wrapping_add(read(&pair[4..])).wrapping_add(first);
        }
        self.sums = [first, second];
    }

    fn continues(&mut self, frame: &[u8]) -> bool {
        if [word(frame, 8), word(frame, 12)] != self.salts {
            return false;
        }
        self.add(&frame[..8]);
        self.add(&frame[FRAME_HEADER..]);
        self.sums == [word(frame, 16), word(frame, 20)]
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// What can be told of a store's log without SQLite, which ignores what is damaged and everything behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LogState {
    /// 0 if there is no log.
    pub bytes: u64,
    /// Changes by one each time that the log begins anew; `None` if it holds no frame.
    pub salt: Option<u32>,
    /// Ends of commits behind the first frame of the present round that does not hold. A power cut may leave that of the one commit that was
    /// under way, though hardly without the frames before it.
    pub commits_behind_damage: u64,
    /// It ends within a frame and within a block.
    pub is_cut: bool,
}

impl LogState {
    /// Without looking for damage.
    pub fn of_header(store: &Path) -> io::Result<LogState> {
        let Some(file) = open_if_there(&log_of(store))? else { return Ok(LogState::default()) };
        let bytes = file.metadata()?.len();
        let mut header = [0; LOG_HEADER as usize];
        let has_frame = bytes >= LOG_HEADER + FRAME && file.read_exact_at(&mut header, 0).is_ok();
        Ok(LogState { bytes, salt: has_frame.then(|| word(&header, 16)), ..LogState::default() })
    }

    pub fn of(store: &Path) -> io::Result<LogState> {
        let Some(file) = open_if_there(&log_of(store))? else { return Ok(LogState::default()) };
        let bytes = file.metadata()?.len();
        let frames = bytes.saturating_sub(LOG_HEADER) / FRAME;
        // SQLite syncs at the end of a block, which may be within a frame: a kill at that moment leaves it so.
        let is_whole =
            bytes.is_multiple_of(PAGE_BYTES) || bytes > LOG_HEADER && (bytes - LOG_HEADER).is_multiple_of(FRAME);
        let mut state = LogState { bytes, is_cut: !is_whole, ..LogState::default() };
        if frames == 0 {
            return Ok(state);
        }
        let mut header = [0; LOG_HEADER as usize];
        file.read_exact_at(&mut header, 0)?;
        state.salt = Some(word(&header, 16));
        let Some(mut checker) = Checker::new(&file)? else {
            state.commits_behind_damage = frames;
            return Ok(state);
        };
        let (mut frame, mut holds) = (vec![0; FRAME_HEADER + PAGE], true);
        // Page and size of the database of a commit that the last frame has ended.
        let mut ended: Option<[u32; 2]> = None;
        for number in 0..frames {
            if file.read_exact_at(&mut frame, LOG_HEADER + number * FRAME).is_err() {
                (holds, state.commits_behind_damage) = (false, state.commits_behind_damage + 1);
                continue;
            }
            let commit = [word(&frame, 0), word(&frame, 4)];
            holds = holds && checker.continues(&frame);
            let is_of_round = [word(&frame, 8), word(&frame, 12)] == checker.salts;
            // SQLite repeats a commit's last frame up to the end of a sector, and has synced when it has written a part of the repetition:
            // a kill during the sync costs the rest of it, and nothing else.
            let is_repetition = ended.take() == Some(commit);
            state.commits_behind_damage += u64::from(!holds && is_of_round && commit[1] > 0 && !is_repetition);
            ended = Some(commit).filter(|_| holds && commit[1] > 0);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::{self, Synchronous, store_path};

    /// The log of a store, and where its last frame begins that ends a commit, and the repetition of it.
    fn log_with_a_repetition(folder: &Path) -> (Vec<u8>, usize) {
        let store = store_path(folder);
        let db = schema::open_writer(&store, Synchronous::Full, None).expect("a new store");
        let insert =
            "INSERT INTO rejected_sample(received_ms, reason, topic, sample) VALUES (0, '', '', randomblob(9000))";
        for _ in 0..3 {
            db.execute(insert, []).expect("a working disk");
        }
        let log = std::fs::read(log_of(&store)).expect("a log");
        let commit = |at: usize| (log[at..at + 8].to_vec(), log[at + 8..at + 16] == log[16..24]);
        let frame = |number: usize| LOG_HEADER as usize + number * FRAME as usize;
        let last = (1..).find(|number| log.len() < frame(number + 1) || !commit(frame(*number)).1).expect("an end") - 1;
        assert_eq!(commit(frame(last)), commit(frame(last - 1)), "a repetition");
        std::mem::forget(db);
        (log, frame(last))
    }

    #[test]
    fn a_repetition_that_a_kill_has_cut_is_no_damage_and_a_commit_is() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (log, repetition) = log_with_a_repetition(folder.path());
        let damage_of = |zeroes: std::ops::Range<usize>| {
            let mut damaged = log.clone();
            damaged[zeroes].fill(0);
            damaged.resize(1 << 20, 0);
            std::fs::write(log_of(&store_path(folder.path())), damaged).expect("a working disk");
            LogState::of(&store_path(folder.path())).expect("a log").commits_behind_damage
        };
        let end = repetition + FRAME as usize;
        let sector = repetition.next_multiple_of(PAGE);
        assert_eq!(damage_of(end..end), 0);
        assert_eq!(damage_of(sector..end), 0, "cut at the sector's end, while it was synced");
        let commit = repetition - FRAME as usize;
        assert_ne!(damage_of(commit + 40..commit + 552), 0, "the control");
    }
}
