//! What the store has of the disk: the room of its file and of its log, claimed before it is needed, and a ballast.
//!
//! Other programs may fill the disk at any time. What is claimed has its blocks already, so a store that stays within it needs nothing more
//! of the disk: its free pages and its log are used again and again. When the disk refuses to give more all the same, the ballast is given
//! back to it and claimed in part. From then on, until there is a ballast again, the file has no more pages than it has a place for, and
//! grows by what can be claimed: without a ballast nothing would help a log that finds no place in the file.

use std::ffi::{c_int, c_void};
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi};

use super::ballast::Ballast;
use super::retention::{self, BYTES_MIN, Capacity, Room};
use super::schema::{PAGE_BYTES, log_of};
use crate::{clock, disk};

#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    capacity: Capacity,
    ballast: Ballast,
    /// When the disk last refused to give more, as long as there is no ballast again.
    squeezed: Option<Instant>,
    /// When a claim was last refused, as long as none succeeded since.
    refused: Option<Instant>,
}

/// How long the disk is given to other things before the ballast is filled again.
const BALLAST_PAUSE: Duration = Duration::from_secs(60);
/// How often it is tried whether the disk gives something again.
const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// On a disk that is full nothing is to be lost by rounding.
const SMALL_CHUNK_BYTES: u64 = 64 * 1024;
/// Beyond this size the file is held to a whole number of chunks only: SQLite's own rounding would take as much again.
const HELD_BYTES_MAX: u64 = 1 << 30;
/// What a commit writes to the log besides its payloads.
const LOG_SLACK_BYTES: u64 = 64 * 1024;

impl Space {
    /// Fills the ballast and claims the least that the store works with, as far as the disk has it.
    pub fn new(path: &Path, capacity: Capacity, db: &Connection) -> Space {
        let ballast = Ballast::new(path.parent().unwrap_or(Path::new(".")), capacity.ballast_bytes());
        let mut space = Space { path: path.to_owned(), capacity, ballast, squeezed: None, refused: None };
        if space.ballast.fill(capacity.free_bytes_min) {
            space.claim_ahead(db);
        } else {
            space.begin_squeezed(db);
        }
        space
    }

    /// Others have filled the disk already: what there still is, such as the place of a ballast that was given back, is claimed before they
    /// take it too.
    fn begin_squeezed(&mut self, db: &Connection) {
        self.squeezed = Some(clock::instant());
        self.claim_ballast(db, retention::file_bytes(db).unwrap_or(0));
        self.hold(db);
        self.limit_pages(db);
    }

    /// Claims the place that a ballast had: a quarter for the log, and half for a file that has `bytes`. The rest is for what cannot be
    /// claimed, such as the index of the log.
    fn claim_ballast(&self, db: &Connection, bytes: u64) {
        let ballast = self.capacity.ballast_bytes();
        let _ = self.claim_log(ballast / 4);
        let wanted = (bytes + ballast / 2).min(self.capacity.file_bytes_max());
        if self.claimed_bytes().is_some_and(|claimed| claimed < wanted) {
            let _ = self.claim_file(db, wanted, SMALL_CHUNK_BYTES);
        }
    }

    /// The same for another file, which takes the place of the first.
    pub fn renew(&mut self, db: &Connection) {
        self.squeezed = None;
        self.claim_ahead(db);
    }

    /// What others leave of the disk; everything if the system does not say.
    fn free_bytes(&self) -> u64 {
        disk::space(self.path.parent().unwrap_or(Path::new("."))).map_or(u64::MAX, |space| space.free_bytes)
    }

    /// What the file has of the disk, whether or not it has pages there.
    fn claimed_bytes(&self) -> Option<u64> {
        std::fs::metadata(&self.path).ok().map(|file| file.len())
    }

    /// How far the store may fill at present.
    pub fn room(&self, db: &Connection) -> rusqlite::Result<Room> {
        let pages = retention::file_bytes(db)?;
        let claimed = self.claimed_bytes();
        Ok(match self.is_squeezed() {
            true => self.capacity.room(claimed.unwrap_or(pages), None),
            false => self.capacity.room(pages.max(claimed.unwrap_or(0)), Some(self.free_bytes())),
        })
    }

    /// What further raw readings may take, given what is in use. On a disk that gives nothing they must also pass through the log as it is.
    pub fn left_for_raw(&self, room: &Room, used_bytes: u64) -> u64 {
        let left = room.left_for_raw(used_bytes);
        match self.is_squeezed() {
            true => left.min(self.log_bytes().saturating_sub(LOG_SLACK_BYTES)),
            false => left,
        }
    }

    /// The disk does not give what was wanted of it: from now on the file only uses what it has, and the log what the ballast gives.
    pub fn squeeze(&mut self, db: &Connection) {
        let now = clock::instant();
        (self.squeezed, self.refused) = (Some(now), Some(now));
        let is_given_back = self.ballast.free();
        if is_given_back {
            tracing::warn!("the disk is full: the ballast is given back to it, and the store does not grow any more");
        }
        // Pages that are only in the log still need their place in the file; after that both are as large as they need to be.
        if let Err(error) = db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())) {
            tracing::debug!(%error, "the store's log could not be moved into its file on a full disk");
        }
        if is_given_back {
            // At once, before others take it.
            self.claim_ballast(db, self.claimed_bytes().unwrap_or(0));
        }
        self.hold(db);
        self.limit_pages(db);
    }

    /// A commit must not give the file pages that it has no place for: they would stay in the log, which then could not be used again.
    fn limit_pages(&self, db: &Connection) {
        let bytes = match self.is_squeezed() {
            true => self.claimed_bytes().unwrap_or(0).max(retention::file_bytes(db).unwrap_or(0)),
            false => self.capacity.file_bytes_max(),
        };
        if let Err(error) = retention::limit_file(db, bytes) {
            tracing::debug!(%error, "the store's file could not be limited");
        }
    }

    /// What need not be done before a commit is acknowledged: claims what will be needed next, and fills the ballast.
    pub fn maintain(&mut self, db: &Connection, now: Instant) {
        match self.is_squeezed() {
            true => self.claim_more(db, now),
            false => self.claim_ahead(db),
        }
        let is_due = self.squeezed.is_some_and(|since| now.saturating_duration_since(since) >= BALLAST_PAUSE);
        if is_due && self.ballast.fill(self.capacity.free_bytes_min) {
            tracing::info!("the disk has room again: the ballast is filled");
            (self.squeezed, self.refused) = (None, None);
            self.limit_pages(db);
        }
    }

    /// The log is written into the file when it has so many pages; on a disk that gives nothing before it would have to grow.
    pub fn log_pages(&self) -> u64 {
        let usual = self.capacity.log_pages();
        if self.is_squeezed() { usual.min(self.log_bytes() / PAGE_BYTES / 2) } else { usual }
    }

    fn is_squeezed(&self) -> bool {
        self.squeezed.is_some()
    }

    /// Tries to get a chunk from a disk that refused before, if the file is short of room and the disk is not to be left to others.
    fn claim_more(&mut self, db: &Connection, now: Instant) {
        if self.refused.is_some_and(|refused| now.saturating_duration_since(refused) < PROBE_PAUSE) {
            return;
        }
        let (chunk, claimed, free) =
            (self.capacity.chunk_bytes(), self.claimed_bytes().unwrap_or(0), self.free_bytes());
        let is_short = retention::used_bytes(db).is_ok_and(|used| claimed < used + 2 * chunk);
        let is_allowed = free >= self.capacity.free_bytes_min.saturating_add(chunk) || claimed < BYTES_MIN;
        let is_within = claimed + chunk <= self.capacity.file_bytes_max();
        if !(is_short && is_allowed && is_within) || free < 2 * chunk {
            return;
        }
        match self.claim_file(db, claimed + chunk, chunk) {
            Ok(()) if self.refused.take().is_some() => tracing::info!("the disk gives room again: the store grows"),
            Ok(()) => {}
            Err(_) => self.refused = Some(now),
        }
        self.hold(db);
        self.limit_pages(db);
    }

    /// A page that SQLite adds, and the next commit in the log, find their blocks there. A disk that has none left shows that when they
    /// are needed.
    fn claim_ahead(&mut self, db: &Connection) {
        let (chunk, free) = (self.capacity.chunk_bytes(), self.free_bytes());
        let pages = retention::file_bytes(db).unwrap_or(u64::MAX);
        let wanted = pages.saturating_add(chunk / 4).min(self.capacity.file_bytes_max());
        if self.claimed_bytes().is_some_and(|claimed| claimed < wanted) && free >= 2 * chunk {
            let _ = self.claim_file(db, wanted, chunk);
        }
        if self.log_bytes() < self.capacity.log_claim_bytes() && free >= 2 * chunk {
            let _ = self.claim_log(self.capacity.log_claim_bytes());
        }
    }

    /// Makes the file at least so long, with blocks and in whole chunks.
    fn claim_file(&self, db: &Connection, bytes: u64, chunk_bytes: u64) -> rusqlite::Result<()> {
        set_chunk(db, chunk_bytes)?;
        let mut bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        control(db, ffi::SQLITE_FCNTL_SIZE_HINT, (&raw mut bytes).cast())
    }

    /// A checkpoint shortens the file to a whole number of chunks. With a chunk as long as the file it gives nothing back.
    fn hold(&self, db: &Connection) {
        if let Some(claimed) = self.claimed_bytes().filter(|claimed| (1..=HELD_BYTES_MAX).contains(claimed)) {
            let _ = set_chunk(db, claimed);
        }
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(log_of(&self.path)).map_or(0, |file| file.len())
    }

    /// What is behind the log's last frame is no frame, so that it may be anything.
    fn claim_log(&self, bytes: u64) -> io::Result<()> {
        if self.log_bytes() >= bytes {
            return Ok(());
        }
        // SQLite holds no locks on this file, which closing it would give up.
        disk::allocate(&OpenOptions::new().write(true).open(log_of(&self.path))?, bytes)
    }
}

fn set_chunk(db: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let mut bytes = c_int::try_from(bytes).unwrap_or(0);
    control(db, ffi::SQLITE_FCNTL_CHUNK_SIZE, (&raw mut bytes).cast())
}

fn control(db: &Connection, operation: c_int, argument: *mut c_void) -> rusqlite::Result<()> {
    // SAFETY: the connection is open, "main" ends in a NUL, and both operations that are used read the number that `argument` points to.
    let code = unsafe { ffi::sqlite3_file_control(db.handle(), c"main".as_ptr(), operation, argument) };
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::{self, Synchronous};

    #[test]
    fn what_is_claimed_has_blocks_and_a_checkpoint_leaves_it() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("s");
        let db = schema::open_writer(&path, Synchronous::Full, None).expect("a new store");
        let mut space = Space::new(&path, Capacity::new(64 << 20), &db);
        let blocks = |path: &Path| std::fs::metadata(path).expect("a file").blocks() * 512;
        assert_eq!((space.claimed_bytes(), blocks(&path) >= 1 << 20), (Some(1 << 20), true));
        assert!(space.log_bytes() >= 1 << 20 && blocks(&log_of(&path)) >= 1 << 20);
        space.squeeze(&db);
        assert_eq!(space.claimed_bytes(), Some(3 << 20), "half of the ballast");
        db.execute_batch("PRAGMA user_version=3; PRAGMA wal_checkpoint(TRUNCATE)").expect("a working disk");
        assert_eq!((space.claimed_bytes(), blocks(&path) >= 3 << 20), (Some(3 << 20), true));
        let room = space.room(&db).expect("readable");
        assert_eq!(room.all, 3 << 20, "and no more");

        let now = Instant::now() + PROBE_PAUSE;
        space.maintain(&db, now);
        assert_eq!(space.room(&db).expect("readable").all, 3 << 20, "it is enough");
        db.execute_batch("INSERT INTO rejected_sample VALUES (1, 0, '', '', zeroblob(2 << 20))").expect("room");
        space.maintain(&db, now);
        assert_eq!(space.room(&db).expect("readable").all, 4 << 20, "what the disk gives is noticed at once");
        let too_large = "INSERT INTO rejected_sample VALUES (2, 0, '', '', zeroblob(2 << 20))";
        assert!(schema::is_full(&db.execute_batch(too_large).expect_err("more than is claimed")));
        assert!(!space.ballast.is_there(), "the ballast is not so urgent");
        space.maintain(&db, now + BALLAST_PAUSE);
        assert!(space.ballast.is_there() && space.room(&db).expect("readable").all > 8 << 20);
        db.execute_batch(too_large).expect("the control");
    }
}
