//! Records by partition key: what waits, in the order of its sequences.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::pacing::UNKNOWN_SHARD;

/// What a record costs beside its bytes: allocations, the key's share, the queue's slot.
pub const RECORD_OVERHEAD_BYTES: usize = 256;
/// What it takes to remember one run of sequences.
pub const RUN_BYTES: usize = size_of::<(u64, u64)>();
/// Keys with nothing to send are kept, up to this many, because their shard is known.
const IDLE_KEYS_MAX: usize = 4_096;
/// Such a key keeps room for so many records; after a backlog it has had more.
const IDLE_RECORDS_KEPT: usize = 16;

/// Lines of one device that travel together.
#[derive(Debug)]
pub struct Record {
    pub content: Content,
    /// Runs of local sequences, inclusive, ascending: one line each sequence.
    pub runs: Vec<(u64, u64)>,
    pub opened_us: u64,
    /// When its first line was received, by the delivery's clock; before its time for what was read late.
    pub received_us: i64,
    pub failures: u32,
    /// A part of a record that was refused: it goes alone, until it is known which part is to blame.
    pub is_suspect: bool,
    /// Its lines were passed over by the cursor, and read again for a key that is set aside.
    pub is_aside: bool,
}

#[derive(Debug)]
pub enum Content {
    /// Takes further lines.
    Open(Vec<u8>),
    /// Was sent once, or is full; stays as it is.
    Sealed(Bytes),
}

impl Record {
    pub fn len(&self) -> usize {
        match &self.content {
            Content::Open(bytes) => bytes.len(),
            Content::Sealed(bytes) => bytes.len(),
        }
    }

    pub fn held_bytes(&self) -> usize {
        self.len() + self.runs.len() * RUN_BYTES + RECORD_OVERHEAD_BYTES
    }

    /// Its first sequence; one that has no line yet comes last.
    pub fn first(&self) -> u64 {
        self.runs.first().map_or(u64::MAX, |(first, _)| *first)
    }

    /// Cuts it behind a sequence, and returns what comes later, which may still take further lines; `None` if nothing does.
    pub fn cut_behind(&mut self, through: u64) -> Option<Record> {
        let (mut front, mut behind) = (Vec::new(), Vec::new());
        for (first, last) in std::mem::take(&mut self.runs) {
            if first <= through {
                front.push((first, last.min(through)));
            }
            if last > through {
                behind.push((first.max(through + 1), last));
            }
        }
        self.runs = front;
        if behind.is_empty() {
            return None;
        }
        let lines: u64 = self.runs.iter().map(|(first, last)| last - first + 1).sum();
        let data = match &self.content {
            Content::Open(bytes) => &bytes[..],
            Content::Sealed(bytes) => &bytes[..],
        };
        let ends = data.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let cut = usize::try_from(lines).ok().and_then(|lines| ends.take(lines).last()).unwrap_or(0);
        let content = match &mut self.content {
            Content::Open(bytes) => Content::Open(bytes.split_off(cut)),
            Content::Sealed(bytes) => Content::Sealed(bytes.split_off(cut)),
        };
        let Record { opened_us, received_us, failures, is_suspect, is_aside, .. } = *self;
        Some(Record { content, runs: behind, opened_us, received_us, failures, is_suspect, is_aside })
    }

    /// Cuts it in the middle, between two lines, and returns the second half; `None` if it is one line.
    pub fn split(&mut self) -> Option<Record> {
        let lines: u64 = self.runs.iter().map(|(first, last)| last - first + 1).sum();
        if lines < 2 {
            return None;
        }
        let mut left = lines / 2;
        let data = self.seal();
        let ends = data.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let cut = ends.map(|(at, _)| at + 1).nth(usize::try_from(left - 1).ok()?)?;
        let mut second = Vec::new();
        let mut first = Vec::new();
        for (from, through) in std::mem::take(&mut self.runs) {
            let taken = left.min(through - from + 1);
            left -= taken;
            if taken > 0 {
                first.push((from, from + taken - 1));
            }
            if from + taken <= through {
                second.push((from + taken, through));
            }
        }
        (self.runs, self.content, self.is_suspect) = (first, Content::Sealed(data.slice(..cut)), true);
        let content = Content::Sealed(data.slice(cut..));
        let (opened_us, received_us, is_aside) = (self.opened_us, self.received_us, self.is_aside);
        Some(Record { content, runs: second, opened_us, received_us, failures: 0, is_suspect: true, is_aside })
    }

    pub fn seal(&mut self) -> Bytes {
        if let Content::Open(bytes) = &mut self.content {
            self.content = Content::Sealed(Bytes::from(std::mem::take(bytes)));
        }
        match &self.content {
            Content::Sealed(bytes) => bytes.clone(),
            Content::Open(_) => unreachable!("sealed above"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Nothing to send.
    Idle,
    /// In its shard's queue.
    Ready,
    /// Its first record failed and waits.
    Paused,
    /// Its first record is on its way.
    InFlight,
    /// Its first record was in a request that was refused as a whole.
    Suspect,
}

#[derive(Debug)]
pub struct Key {
    pub device: Arc<str>,
    pub shard: usize,
    pub state: KeyState,
    pub records: VecDeque<Record>,
    /// Since when its first record fails.
    pub failing_since_us: Option<u64>,
    /// The cursor passes over its lines.
    pub is_aside: bool,
    /// Sequences of lines that were given up before others of the key in front of them.
    pub refused_ahead: Vec<u64>,
}

impl Key {
    fn new(device: Arc<str>) -> Key {
        Key {
            device,
            shard: UNKNOWN_SHARD,
            state: KeyState::Idle,
            records: VecDeque::new(),
            failing_since_us: None,
            is_aside: false,
            refused_ahead: Vec::new(),
        }
    }
}

/// All keys, found by device or by index.
#[derive(Debug, Default)]
pub struct Keys {
    slots: Vec<Key>,
    free: Vec<usize>,
    by_device: HashMap<Arc<str>, usize>,
    idle: usize,
}

impl Keys {
    pub fn get(&mut self, index: usize) -> &mut Key {
        &mut self.slots[index]
    }

    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        self.slots.iter()
    }

    pub fn device(&self, index: usize) -> &str {
        &self.slots[index].device
    }

    /// When the oldest record that waits was opened.
    pub fn waiting_since_us(&self) -> Option<u64> {
        let waiting = self.slots.iter().filter(|key| key.state != KeyState::InFlight);
        waiting.filter_map(|key| key.records.front()).map(|record| record.opened_us).min()
    }

    /// Nothing waits any more, for any of them.
    pub fn forget_records(&mut self) {
        for index in 0..self.slots.len() {
            self.slots[index].records.clear();
            self.slots[index].failing_since_us = None;
            self.set_state(index, KeyState::Idle);
        }
    }

    /// How many records wait or are on their way.
    pub fn device_records(&self, index: usize) -> usize {
        self.slots[index].records.len()
    }

    pub fn failing_since_us(&self, index: usize) -> Option<u64> {
        self.slots[index].failing_since_us
    }

    /// The key of a device, if there is one.
    pub fn find(&self, device: &str) -> Option<usize> {
        self.by_device.get(device).copied()
    }

    pub fn is_aside(&self, index: usize) -> bool {
        self.slots[index].is_aside
    }

    /// The key of a device, if its lines are passed over.
    pub fn find_aside(&self, device: &str) -> Option<usize> {
        self.find(device).filter(|index| self.is_aside(*index))
    }

    /// Finds or makes the key of a device.
    pub fn index(&mut self, device: &str) -> usize {
        if let Some(index) = self.find(device) {
            return index;
        }
        if self.idle >= IDLE_KEYS_MAX {
            self.forget_idle();
        }
        let device: Arc<str> = device.into();
        let key = Key::new(Arc::clone(&device));
        self.idle += 1;
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index] = key;
                index
            }
            None => {
                self.slots.push(key);
                self.slots.len() - 1
            }
        };
        self.by_device.insert(device, index);
        index
    }

    /// Every change of a state goes through here, so that the idle ones are counted.
    pub fn set_state(&mut self, index: usize, state: KeyState) {
        let key = &mut self.slots[index];
        self.idle -= usize::from(key.state == KeyState::Idle);
        self.idle += usize::from(state == KeyState::Idle);
        key.state = state;
        if state == KeyState::Idle {
            if key.records.capacity() > IDLE_RECORDS_KEPT {
                key.records = VecDeque::new();
            }
            if !key.is_aside {
                key.refused_ahead = Vec::new();
            }
        }
    }

    fn forget_idle(&mut self) {
        let slots = &self.slots;
        let before = self.free.len();
        let is_forgotten = |index: usize| slots[index].state == KeyState::Idle && !slots[index].is_aside;
        self.free.extend(self.by_device.values().copied().filter(|index| is_forgotten(*index)));
        self.by_device.retain(|_, index| !is_forgotten(*index));
        // The map's order is another one in each process; what is done next must not depend on it.
        self.free[before..].sort_unstable();
        self.idle -= self.free.len() - before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_cut_between_its_lines() {
        let content = Content::Open(b"1\n22\n333\n4\n5\n".to_vec());
        let runs = vec![(1, 3), (7, 7), (9, 9)];
        let (failures, opened_us, received_us) = (0, 0, 0);
        let mut first = Record { content, runs, opened_us, received_us, failures, is_suspect: false, is_aside: false };
        let mut second = first.split().expect("five lines");
        assert_eq!((&first.seal()[..], &first.runs[..]), (&b"1\n22\n"[..], &[(1, 2)][..]));
        assert_eq!((&second.seal()[..], &second.runs[..]), (&b"333\n4\n5\n"[..], &[(3, 3), (7, 7), (9, 9)][..]));
        let third = second.split().expect("three lines");
        assert_eq!((&second.seal()[..], &second.runs[..], third.runs.len()), (&b"333\n"[..], &[(3, 3)][..], 2));
        assert!(second.split().is_none());
    }

    #[test]
    fn idle_keys_are_forgotten_and_busy_ones_stay() {
        let mut keys = Keys::default();
        let busy = keys.index("busy");
        keys.set_state(busy, KeyState::InFlight);
        for at in 0..3 * IDLE_KEYS_MAX {
            keys.index(&format!("d{at}"));
        }
        assert_eq!(keys.index("busy"), busy);
        assert!(keys.slots.len() <= IDLE_KEYS_MAX + 1, "{}", keys.slots.len());
    }

    #[test]
    fn slots_are_used_again_in_an_order_that_is_always_the_same() {
        let mut keys = Keys::default();
        for at in 0..IDLE_KEYS_MAX {
            keys.index(&format!("d{at}"));
        }
        let reused: Vec<usize> = (0..IDLE_KEYS_MAX).map(|at| keys.index(&format!("e{at}"))).collect();
        assert_eq!(reused, (0..IDLE_KEYS_MAX).rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_key_that_was_busy_keeps_no_room_for_its_backlog() {
        let mut keys = Keys::default();
        let index = keys.index("busy");
        keys.set_state(index, KeyState::Ready);
        keys.get(index).records.reserve(10_000);
        keys.set_state(index, KeyState::Idle);
        assert!(keys.get(index).records.capacity() <= IDLE_RECORDS_KEPT);
    }
}
