//! Files as objects in a bucket of Amazon S3, or of any server that speaks its protocol.
//!
//! A file is built from the log when it is due and sent as one object, by one request. The cursor moves when the object is stored; what was
//! built and not sent is built again after a restart. An object's name is that of its first record, and it is stored only where there is none
//! of this name (`If-None-Match`). So a request whose reply was lost stores nothing twice: the object that is there says up to which position
//! it holds everything, and the sink goes on behind it. `names` has later processes use the same name, whatever became of the first record
//! and of the format.
//!
//! The file has a place on the disk that has no name, so that nothing is left of it. It is never synced, because it can be built again. Where
//! the disk has no room, small files are built in memory. Deliberately absent: multipart uploads, which leave parts behind that cost money,
//! and are not needed below 5 GB.

mod building;
mod client;
mod names;
mod outcome;
mod pace;
mod place;
pub mod sink;
mod upload;

use std::time::{Duration, Instant};

use building::{Building, BuildingSettings, Built, Step};
use client::Client;
use outcome::{Found, Stored};
use pace::Pace;
use tokio::sync::watch;

use crate::core::delivery::Outcome;
use crate::errors::with_causes;
use crate::sinks::status::Link;
use crate::sinks::stream::StreamParts;

/// What the uploader of one stream works with.
pub struct UploaderParts {
    pub source: StreamParts,
    pub building: BuildingSettings,
    pub client: Client,
    /// What names of objects begin with.
    pub prefix: String,
    /// The stream's name in names of objects.
    pub folder: String,
    /// How long to go on sending when the process ends.
    pub flush_within: Duration,
    /// Seeds the jitter of retries.
    pub seed: u64,
}

/// How long to wait before reading a store again that could not be read, or building a file again that could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Once everything is read, new records are read in steps of this length: nobody waits for them.
const READ_EVERY: Duration = Duration::from_secs(1);

struct Uploader {
    building: Building,
    client: Client,
    prefix: String,
    folder: String,
    pace: Pace,
    /// A file that is to be sent.
    built: Option<Built>,
    flush_within: Duration,
    flush_until: Option<Instant>,
}

/// Runs until the process ends, and then until everything committed is sent or the time for it is over.
pub async fn run(parts: UploaderParts) {
    let mut uploader = Uploader::new(parts);
    while uploader.turn().await {}
}

impl Uploader {
    fn new(parts: UploaderParts) -> Uploader {
        let status = std::sync::Arc::clone(&parts.source.status);
        let pace = Pace::new(&parts.source.sink, &parts.source.stream_name, status, parts.seed);
        Uploader {
            building: Building::new(parts.source, parts.building),
            client: parts.client,
            prefix: parts.prefix,
            folder: parts.folder,
            pace,
            built: None,
            flush_within: parts.flush_within,
            flush_until: None,
        }
    }

    /// Does what is next; `false` if the process may end.
    async fn turn(&mut self) -> bool {
        if self.is_ending() && self.is_out_of_time() {
            return false;
        }
        if let Some(built) = self.built.take() {
            self.send(built).await;
            return true;
        }
        let step = self.building.step();
        if step.is_ok() {
            self.pace.can_build();
        }
        match step {
            // One thread serves all streams: let the others run.
            Ok(Step::Again) => tokio::task::yield_now().await,
            Ok(Step::Due) => self.finish(),
            Ok(Step::CaughtUp) if self.is_ending() => match self.building.is_empty() {
                true => return false,
                false => self.finish(),
            },
            Ok(Step::CaughtUp) => self.wait_for_records().await,
            Err(error) => {
                self.fails_to_build(&with_causes(&error)).await;
                return !self.is_ending();
            }
        }
        true
    }

    fn finish(&mut self) {
        match self.building.finish() {
            Ok(built) => self.built = built,
            // It is built again, in memory.
            Err(error) => self.pace.cannot_build(&with_causes(&error)),
        }
    }

    async fn fails_to_build(&mut self, text: &str) {
        self.pace.cannot_build(text);
        self.building.give_up();
        self.pause(RETRY_PAUSE).await;
    }

    /// Tries once to store a file. It is kept until it is known what became of it.
    async fn send(&mut self, built: Built) {
        if self.link().is_down() {
            self.built = Some(built);
            // The gateway keeps the sender until this task has ended.
            let _ = self.building.tail.source.link.changed().await;
            return;
        }
        self.building.is_to_be_stored(&built);
        let taken_before = built.upload.taken();
        let key = built.first.key(&self.prefix, &self.folder, built.format.suffix());
        let attempt = attempt(&self.client, &key, &built);
        let ending = end_of_time(&mut self.building.tail.source.link, &mut self.flush_until, self.flush_within);
        let attempted = tokio::select! {
            attempted = attempt => attempted,
            // The next start builds the file again, and finds the object if there is one.
            () = ending => return self.built = Some(built),
        };
        match attempted {
            Attempted::Stored => self.is_stored(&built),
            Attempted::Found(Found::Through(last)) if last == built.last => self.is_stored(&built),
            Attempted::Found(Found::Through(last)) if last >= built.first.position => {
                tracing::info!(sink = self.building.tail.source.sink, key, "an earlier process has stored this object");
                self.building.is_known_through(&built.first, last);
                self.pace.works();
            }
            Attempted::Found(Found::Through(last)) => {
                let text = format!("the object {key} ends with position {last}, before its own first");
                self.is_refused(built, Outcome::Halt(text), taken_before).await;
            }
            Attempted::Found(Found::Nothing) => {
                let reason = format!("the object {key} was there, and is gone");
                self.is_refused(built, Outcome::Later { reason, after_us: None }, taken_before).await;
            }
            Attempted::Found(Found::Unknown(outcome)) | Attempted::Refused(outcome) => {
                self.is_refused(built, outcome, taken_before).await;
            }
            Attempted::Damaged(outcome) => self.is_damaged(&built, &outcome).await,
        }
    }

    fn is_stored(&mut self, built: &Built) {
        self.building.is_stored(built);
        self.building.tail.source.status.records_sent.add(built.records);
        self.pace.works();
    }

    /// The file may have become bad on the disk. Its name stays the same when it is built again.
    async fn is_damaged(&mut self, built: &Built, outcome: &Outcome) {
        self.building.tail.source.status.records_retried.add(built.records);
        self.building.is_damaged();
        let pause = self.pace.after(outcome, 0);
        self.pause(pause).await;
    }

    /// `taken_before`: what the connection had taken of the file before this attempt.
    async fn is_refused(&mut self, built: Built, outcome: Outcome, taken_before: u64) {
        if built.upload.is_unreadable() {
            let reason = "the file cannot be read again, and is built anew".to_owned();
            return self.is_damaged(&built, &Outcome::Later { reason, after_us: None }).await;
        }
        self.building.tail.source.status.records_retried.add(built.records);
        let bytes = built.upload.bytes;
        // What was not sent has cost nothing.
        let sent_bytes = if built.upload.taken() > taken_before { bytes } else { 0 };
        if matches!(outcome, Outcome::TooLarge(_)) && self.building.make_smaller(bytes) {
            // Nothing was stored under this name, so that the records can be in another file.
            self.building.give_up();
        } else {
            self.built = Some(built);
        }
        let pause = self.pace.after(&outcome, sent_bytes);
        if self.is_ending() {
            // A service that does not work now will not work within the grace period.
            self.flush_until = Some(Instant::now());
            return;
        }
        self.pause(pause).await;
    }

    /// Waits for so long, or until the link changes.
    async fn pause(&mut self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = self.building.tail.source.link.changed() => {}
        }
    }

    /// Waits until there is something to read, or the file is due, or the link changes.
    async fn wait_for_records(&mut self) {
        let due = self.building.due();
        // What is taken over from a damaged store is no news of the log.
        let salvaged = self.building.tail.is_salvaging.then(|| Instant::now() + READ_EVERY);
        let source = &mut self.building.tail.source;
        let news = async {
            let _ = source.committed.changed().await;
            tokio::time::sleep(READ_EVERY).await;
        };
        tokio::select! {
            () = news => {}
            () = sleep_until(due) => {}
            () = sleep_until(salvaged) => {}
            _ = source.link.changed() => {}
        }
    }

    fn link(&self) -> Link {
        *self.building.tail.source.link.borrow()
    }

    fn is_ending(&self) -> bool {
        self.link() == Link::Ending
    }

    fn is_out_of_time(&mut self) -> bool {
        let now = Instant::now();
        now >= *self.flush_until.get_or_insert(now + self.flush_within)
    }
}

/// What became of an upload.
enum Attempted {
    Stored,
    /// There is an object of this name: of an attempt whose reply was lost, or of the process that ran before.
    Found(Found),
    Damaged(Outcome),
    Refused(Outcome),
}

async fn attempt(client: &Client, key: &str, built: &Built) -> Attempted {
    match client.put(key, &built.upload, built.format.content_type(), built.last).await {
        Stored::Now => Attempted::Stored,
        Stored::Before => Attempted::Found(client.find(key).await),
        Stored::Damaged(outcome) => Attempted::Damaged(outcome),
        Stored::Not(outcome) => Attempted::Refused(outcome),
    }
}

/// Returns when the process is ending and the time for it is over.
async fn end_of_time(link: &mut watch::Receiver<Link>, until: &mut Option<Instant>, within: Duration) {
    while *link.borrow_and_update() != Link::Ending {
        // The gateway keeps the sender until this task has ended.
        let _ = link.changed().await;
    }
    sleep_until(Some(*until.get_or_insert_with(|| Instant::now() + within))).await;
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
