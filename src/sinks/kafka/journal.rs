//! The journal of what is under way: it outlives a process that is killed, so that the next one neither loses nor repeats a record.
//!
//! A batch is written to it before it is sent. Where the process ends before the answer came, the next one sends the same batch again, under
//! the same producer and sequence numbers, and the broker recognises it. Where the answer had come, but the sink's progress was not durable
//! yet, the next process knows from the journal which lines the topic has. An entry is dropped once that progress is durable.
//!
//! It is never synced: a kill leaves what was written, and after anything that takes the system down with it the journal is not used, because
//! an old state of it might claim what is not so. Then the records since the last save of the progress are sent again, as repeats that their
//! identity reveals. Where it cannot be written, the same holds.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::batch::{Batch, ProducerId};
use super::known::{self, Known, Span};
use crate::store::cursors::Saves;

/// From this size on, what is left of the journal is written anew.
const REWRITTEN_BYTES_MIN: u64 = 64 << 10;
/// A larger one is not of this program.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Most batches that are taken over from earlier processes.
const TAKEN_OVER_MAX: usize = 10_000;
/// Most batches that wait for a save of the progress; on a disk that takes nothing there may be none.
const WAITING_MAX: usize = 10_000;
/// Before each part of the file: how long its head and its body are, and the checksum of both.
const FRAME_BYTES: usize = 12;

/// What the entries of a journal are true of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    version: u8,
    /// The system has not been started anew since.
    boot: String,
    cluster: String,
    topic: String,
    /// Which lines share a record, and in which form.
    form: String,
}

impl Scope {
    /// `None` where it is not known whether the system was started anew.
    pub fn of(cluster: &str, topic: &str, form: &str) -> Option<Scope> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let [cluster, topic, form] = [cluster, topic, form].map(str::to_owned);
        Some(Scope { version: 1, boot, cluster, topic, form })
    }
}

/// A batch of which it is not known whether the broker has stored it.
#[derive(Clone, Debug)]
pub struct Doubt {
    pub entry: u64,
    pub batch: Batch,
    pub keys: Vec<String>,
}

/// What an earlier process has left.
#[derive(Debug, Default)]
pub struct Left {
    pub known: Known,
    pub doubts: Vec<Doubt>,
}

#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    scope: Option<Scope>,
    /// `None` where it cannot be written.
    file: Option<File>,
    file_bytes: u64,
    entries: BTreeMap<u64, Entry>,
    next: u64,
    saves: Arc<Saves>,
    /// Entries whose records the delivery has been told of, or is being told of.
    told: Vec<u64>,
    /// Those told of before the next save began: its number, and the entry.
    waiting: VecDeque<(u64, u64)>,
}

#[derive(Debug)]
struct Entry {
    head: Head,
    /// As long as it is in doubt.
    bytes: Option<Bytes>,
    /// Spans that the delivery is not told of.
    untold: usize,
}

/// The head of a part of the file; the body of one that is begun is the batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    entry: u64,
    what: What,
    partition: i32,
    producer: i64,
    epoch: i16,
    first_sequence: i32,
    records: i32,
    spans: Vec<(String, Vec<Span>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum What {
    /// About to be sent. It is stored if the same partition has a later one.
    Begun,
    /// If it was begun before, the spans are there.
    Stored,
    /// Certainly not stored.
    Dropped,
}

impl Journal {
    /// Goes on where an earlier process was, if that was in the same scope.
    pub fn open(path: PathBuf, scope: Option<Scope>, saves: Arc<Saves>) -> (Journal, Left) {
        let entries = scope.as_ref().map(|scope| read(&path, scope)).unwrap_or_default();
        let next = entries.last_key_value().map_or(0, |(last, _)| last + 1);
        let mut journal = Journal {
            path,
            scope,
            file: None,
            file_bytes: 0,
            entries,
            next,
            saves,
            told: Vec::new(),
            waiting: VecDeque::new(),
        };
        let left = journal.left();
        if let Err(error) = journal.write_anew() {
            journal.give_up(&error);
        }
        (journal, left)
    }

    fn left(&mut self) -> Left {
        let mut left = Left::default();
        for (id, entry) in &mut self.entries {
            if entry.bytes.is_none() {
                entry.untold = entry.head.spans.iter().map(|(_, spans)| spans.len()).sum();
                entry.head.spans.iter().for_each(|(key, spans)| left.known.add(key, spans, *id));
            }
        }
        for (id, entry) in &self.entries {
            let Some(bytes) = &entry.bytes else { continue };
            let Head { partition, producer, epoch, first_sequence, records, .. } = entry.head;
            let producer = ProducerId { id: producer, epoch };
            let batch = Batch { partition, producer, first_sequence, records, bytes: bytes.clone() };
            left.doubts.push(Doubt { entry: *id, batch, keys: keys(&entry.head) });
        }
        left
    }

    /// A batch is about to be sent. Its records are keys with lines.
    pub fn begin<'a>(&mut self, batch: &Batch, records: impl Iterator<Item = (&'a str, &'a [u8])>) -> Doubt {
        let entry = self.next;
        self.next += 1;
        let head = Head {
            entry,
            what: What::Begun,
            partition: batch.partition,
            producer: batch.producer.id,
            epoch: batch.producer.epoch,
            first_sequence: batch.first_sequence,
            records: batch.records,
            spans: records.map(|(key, data)| (key.to_owned(), known::spans(data))).collect(),
        };
        self.write(&head, &batch.bytes);
        let doubt = Doubt { entry, batch: batch.clone(), keys: keys(&head) };
        self.entries.insert(entry, Entry { head, bytes: Some(batch.bytes.clone()), untold: 0 });
        doubt
    }

    /// The broker has it, and the delivery is being told.
    pub fn stored(&mut self, entry: u64) {
        if self.mark_stored(entry) {
            self.told.push(entry);
        }
    }

    fn mark_stored(&mut self, entry: u64) -> bool {
        let Some(stored) = self.entries.get_mut(&entry) else { return false };
        stored.bytes = None;
        let mark = Head { what: What::Stored, spans: Vec::new(), ..stored.head };
        self.write(&mark, &[]);
        true
    }

    /// The broker has it; the delivery will be told when it sends the same lines again.
    pub fn stored_untold(&mut self, entry: u64, known: &mut Known) {
        self.mark_stored(entry);
        let Some(stored) = self.entries.get_mut(&entry) else { return };
        for (key, spans) in &stored.head.spans {
            stored.untold += spans.len();
            known.add(key, spans, entry);
        }
        if stored.untold == 0 {
            self.told.push(entry);
        }
    }

    /// The delivery is being told of these spans, each of which names its entry.
    pub fn told(&mut self, spans: Vec<u64>) {
        for entry in spans {
            let Some(known) = self.entries.get_mut(&entry) else { continue };
            known.untold = known.untold.saturating_sub(1);
            if known.untold == 0 {
                self.told.push(entry);
            }
        }
    }

    /// The broker certainly does not have it. That has to be known to the next process before the same sequence numbers are used again.
    pub fn dropped(&mut self, entry: u64) {
        if let Some(Entry { head, .. }) = self.entries.remove(&entry) {
            self.write(&Head { what: What::Dropped, spans: Vec::new(), ..head }, &[]);
        }
    }

    /// Before the next records are taken: by now the delivery knows what it was told.
    pub fn settle(&mut self) {
        let begun = self.saves.begun();
        self.waiting.extend(self.told.drain(..).map(|entry| (begun, entry)));
        let durable = self.saves.durable();
        while self.waiting.front().is_some_and(|(begun, _)| durable > *begun) || self.waiting.len() > WAITING_MAX {
            let oldest = self.waiting.pop_front();
            oldest.and_then(|(_, entry)| self.entries.remove(&entry));
        }
        let is_long = self.file_bytes > REWRITTEN_BYTES_MIN.max(4 * self.bytes_left());
        if self.file.is_some()
            && is_long
            && let Err(error) = self.write_anew()
        {
            self.give_up(&error);
        }
    }

    /// About as much as would be written anew.
    fn bytes_left(&self) -> u64 {
        let bytes = |entry: &Entry| 100 + 60 * entry.head.spans.len() + entry.bytes.as_ref().map_or(0, Bytes::len);
        self.entries.values().map(|entry| bytes(entry) as u64).sum()
    }

    fn write(&mut self, head: &Head, body: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let part = framed(head, body);
        match file.write_all(&part) {
            Ok(()) => self.file_bytes += part.len() as u64,
            Err(error) => self.give_up(&error),
        }
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let Some(scope) = &self.scope else {
            return Err(io::Error::other("the system does not say when it was started"));
        };
        let mut content = framed(scope, &[]);
        for entry in self.entries.values() {
            let (what, body) = entry.bytes.as_ref().map_or((What::Stored, &[][..]), |bytes| (What::Begun, bytes));
            content.extend(framed(&Head { what, ..entry.head.clone() }, body));
        }
        let fresh = self.path.with_extension("new");
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&content)?;
        fs::rename(&fresh, &self.path)?;
        (self.file, self.file_bytes) = (Some(file), content.len() as u64);
        Ok(())
    }

    /// What is not up to date would be worse than nothing.
    fn give_up(&mut self, error: &io::Error) {
        self.file = None;
        let removed = fs::remove_file(&self.path);
        let is_gone = removed.is_ok() || removed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        tracing::warn!(
            file = %self.path.display(),
            is_gone,
            "cannot write the journal of what is under way: if the process is killed, records will be repeated ({error})"
        );
    }
}

fn keys(head: &Head) -> Vec<String> {
    head.spans.iter().map(|(key, _)| key.clone()).collect()
}

fn framed(head: &impl Serialize, body: &[u8]) -> Vec<u8> {
    let mut part = vec![0; FRAME_BYTES];
    ciborium::into_writer(head, &mut part).expect("memory takes everything");
    let head_bytes = part.len() - FRAME_BYTES;
    part.extend_from_slice(body);
    let length = |bytes: usize| u32::try_from(bytes).expect("a batch is smaller than 4 GiB").to_le_bytes();
    let checksum = crc32fast::hash(&part[FRAME_BYTES..]).to_le_bytes();
    part[..4].copy_from_slice(&length(head_bytes));
    part[4..8].copy_from_slice(&length(body.len()));
    part[8..FRAME_BYTES].copy_from_slice(&checksum);
    part
}

/// The next part, or nothing at the end and where the process was killed while it was written.
fn next_part<T: for<'de> Deserialize<'de>>(rest: &mut Bytes) -> Option<(T, Bytes)> {
    let number = |at: usize| rest.get(at..at + 4).map(|four| u32::from_le_bytes(four.try_into().expect("four bytes")));
    let (head_bytes, body_bytes, checksum) = (number(0)? as usize, number(4)? as usize, number(8)?);
    let end = FRAME_BYTES.checked_add(head_bytes)?.checked_add(body_bytes)?;
    let part = rest.get(FRAME_BYTES..end)?;
    if crc32fast::hash(part) != checksum {
        return None;
    }
    let head = ciborium::from_reader(&part[..head_bytes]).ok()?;
    let body = rest.slice(FRAME_BYTES + head_bytes..end);
    *rest = rest.slice(end..);
    Some((head, body))
}

/// The entries of an earlier process. Each partition has at most one batch in doubt, its last.
fn read(path: &Path, scope: &Scope) -> BTreeMap<u64, Entry> {
    let mut entries = BTreeMap::new();
    let is_sensible = fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= FILE_BYTES_MAX);
    let Some(content) = is_sensible.then(|| fs::read(path).ok()).flatten() else { return entries };
    let mut rest = Bytes::from(content);
    if next_part::<Scope>(&mut rest).is_none_or(|(found, _)| found != *scope) {
        return entries;
    }
    let mut in_doubt: HashMap<i32, u64> = HashMap::new();
    while let Some((head, body)) = next_part::<Head>(&mut rest) {
        let (id, partition) = (head.entry, head.partition);
        match head.what {
            What::Begun => {
                if let Some(earlier) = in_doubt.insert(partition, id).and_then(|earlier| entries.get_mut(&earlier)) {
                    earlier.bytes = None;
                }
                entries.insert(id, Entry { head, bytes: Some(body), untold: 0 });
            }
            What::Stored => {
                in_doubt.retain(|_, doubt| *doubt != id);
                entries.entry(id).or_insert(Entry { head, bytes: None, untold: 0 }).bytes = None;
            }
            What::Dropped => {
                in_doubt.remove(&partition);
                entries.remove(&id);
            }
        }
    }
    let mut surplus = entries.len().saturating_sub(TAKEN_OVER_MAX);
    entries.retain(|_, entry| {
        let is_surplus = surplus > 0 && entry.bytes.is_none();
        surplus -= usize::from(is_surplus);
        !is_surplus
    });
    entries
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
