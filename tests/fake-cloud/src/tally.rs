//! Counts the lines of a stream: distinct identities, duplicates, order per device, latency. Memory is bounded; what does not fit is
//! counted as uncounted, so that a wrong `distinct` cannot go unnoticed.

use std::collections::HashMap;

use memchr::memchr_iter;

use crate::histogram::Histogram;
use crate::line::{self, Kind, Line};

const RUNS_MAX: usize = 4_096;
const DEVICES_MAX: usize = 200_000;
/// Most pages with gaps; at 8 KiB each, 64 MiB. A full page costs a few bytes.
const OPEN_PAGES_MAX: usize = 8_192;
const PAGE_POSITIONS: u64 = 1 << 16;
const PAGE_WORDS: usize = PAGE_POSITIONS as usize / 64;

#[derive(Debug)]
enum Page {
    Open { words: Box<[u64; PAGE_WORDS]>, set: u64 },
    Full,
}

#[derive(Debug)]
struct Run {
    gateway: Box<[u8]>,
    run: Box<[u8]>,
    pages: HashMap<u64, Page>,
}

#[derive(Debug)]
struct Device {
    gateway: Box<[u8]>,
    device: Box<[u8]>,
    run: usize,
    position_max: u64,
    sequence_max: Option<u64>,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    First,
    Again,
    NoRoom,
}

#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) lines: u64,
    pub(crate) distinct: u64,
    pub(crate) duplicates: u64,
    pub(crate) by_kind: [u64; 5],
    pub(crate) unidentified: u64,
    pub(crate) uncounted: u64,
    pub(crate) sequence_regressions: u64,
    pub(crate) position_regressions: u64,
    pub(crate) since_measured: Histogram,
    pub(crate) since_received: Histogram,
    runs: Vec<Run>,
    devices: Vec<Device>,
    run_index: HashMap<Box<[u8]>, usize>,
    device_index: HashMap<Box<[u8]>, usize>,
    /// The run and the device of the previous line, which are nearly always those of the next.
    last_run: usize,
    last_device: usize,
    open_pages: usize,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Tally {
            lines: 0,
            distinct: 0,
            duplicates: 0,
            by_kind: [0; 5],
            unidentified: 0,
            uncounted: 0,
            sequence_regressions: 0,
            position_regressions: 0,
            since_measured: Histogram::new(),
            since_received: Histogram::new(),
            runs: Vec::new(),
            devices: Vec::new(),
            run_index: HashMap::new(),
            device_index: HashMap::new(),
            last_run: 0,
            last_device: 0,
            open_pages: 0,
        }
    }

    pub(crate) fn runs(&self) -> u64 {
        self.runs.len() as u64
    }

    pub(crate) fn devices(&self) -> u64 {
        self.devices.len() as u64
    }

    /// Counts the lines of one accepted record; the last line may lack its newline.
    pub(crate) fn add(&mut self, data: &[u8], now_ms: i64) {
        let mut start = 0;
        for end in memchr_iter(b'\n', data).chain([data.len()]) {
            let line = &data[start..end];
            start = end + 1;
            if !line.is_empty() {
                self.add_line(line, now_ms);
            }
        }
    }

    fn add_line(&mut self, text: &[u8], now_ms: i64) {
        self.lines += 1;
        let Some(line) = line::parse(text) else {
            self.unidentified += 1;
            return;
        };
        let Some(run) = self.find_run(&line) else {
            self.uncounted += 1;
            return;
        };
        match mark(&mut self.runs[run].pages, line.position, &mut self.open_pages) {
            Seen::Again => self.duplicates += 1,
            Seen::NoRoom => self.uncounted += 1,
            Seen::First => {
                self.distinct += 1;
                self.by_kind[line.kind as usize] += 1;
                if let Some(measured_at_ms) = line.measured_at_ms {
                    self.since_measured.add(now_ms.saturating_sub(measured_at_ms));
                }
                if let Some(received_at_ms) = line.received_at_ms {
                    self.since_received.add(now_ms.saturating_sub(received_at_ms));
                }
                // Alerts and the gateway's own records are about a device, not from it, so they have no place in its order.
                if matches!(line.kind, Kind::Reading | Kind::Anomaly) {
                    self.check_order(run, &line);
                }
            }
        }
    }

    fn find_run(&mut self, line: &Line<'_>) -> Option<usize> {
        if let Some(last) = self.runs.get(self.last_run)
            && *last.run == *line.run
            && *last.gateway == *line.gateway
        {
            return Some(self.last_run);
        }
        let key = join(&line.gateway, &line.run);
        self.last_run = match self.run_index.get(&key) {
            Some(&index) => index,
            None if self.runs.len() == RUNS_MAX => return None,
            None => {
                let (gateway, run) = (Box::from(&*line.gateway), Box::from(&*line.run));
                self.runs.push(Run { gateway, run, pages: HashMap::new() });
                self.run_index.insert(key, self.runs.len() - 1);
                self.runs.len() - 1
            }
        };
        Some(self.last_run)
    }

    fn check_order(&mut self, run: usize, line: &Line<'_>) {
        let Some(index) = self.find_device(run, line) else { return };
        let device = &mut self.devices[index];
        if device.run != run {
            (device.run, device.position_max) = (run, line.position);
        }
        self.position_regressions += u64::from(line.position < device.position_max);
        device.position_max = device.position_max.max(line.position);
        // One publish may contain several readings, which share its sequence number.
        self.sequence_regressions += u64::from(line.sequence.is_some() && line.sequence < device.sequence_max);
        device.sequence_max = device.sequence_max.max(line.sequence);
    }

    fn find_device(&mut self, run: usize, line: &Line<'_>) -> Option<usize> {
        let name = line.device.as_deref()?;
        if let Some(last) = self.devices.get(self.last_device)
            && *last.device == *name
            && *last.gateway == *line.gateway
        {
            return Some(self.last_device);
        }
        let key = join(&line.gateway, name);
        self.last_device = match self.device_index.get(&key) {
            Some(&index) => index,
            None if self.devices.len() == DEVICES_MAX => return None,
            None => {
                let (gateway, device) = (Box::from(&*line.gateway), Box::from(name));
                self.devices.push(Device { gateway, device, run, position_max: line.position, sequence_max: None });
                self.device_index.insert(key, self.devices.len() - 1);
                self.devices.len() - 1
            }
        };
        Some(self.last_device)
    }
}

/// Combines two texts into one key; the length distinguishes `("ab", "c")` from `("a", "bc")`.
fn join(first: &[u8], second: &[u8]) -> Box<[u8]> {
    [&(first.len() as u64).to_le_bytes(), first, second].concat().into_boxed_slice()
}

fn mark(pages: &mut HashMap<u64, Page>, position: u64, open_pages: &mut usize) -> Seen {
    let number = position / PAGE_POSITIONS;
    if !pages.contains_key(&number) && *open_pages == OPEN_PAGES_MAX {
        return Seen::NoRoom;
    }
    let page = pages.entry(number).or_insert_with(|| {
        *open_pages += 1;
        Page::Open { words: Box::new([0; PAGE_WORDS]), set: 0 }
    });
    let Page::Open { words, set } = page else { return Seen::Again };
    let offset = (position % PAGE_POSITIONS) as usize;
    let (word, bit) = (&mut words[offset / 64], 1_u64 << (offset % 64));
    if *word & bit != 0 {
        return Seen::Again;
    }
    *word |= bit;
    *set += 1;
    if *set == PAGE_POSITIONS {
        *page = Page::Full;
        *open_pages -= 1;
    }
    Seen::First
}

#[cfg(test)]
mod tests {
    use super::{OPEN_PAGES_MAX, PAGE_POSITIONS, Tally};

    fn line(run: &str, position: u64, device: &str, sequence: u64) -> Vec<u8> {
        format!(
            concat!(
                r#"{{"v":1,"type":"reading","gateway":"g","run":"{}","position":{},"device":"{}","metric":"t","value":1.0,"#,
                r#""measured_at_ms":1000,"received_at_ms":1010,"time_quality":"synced","seq":{}}}"#,
                "\n"
            ),
            run, position, device, sequence
        )
        .into_bytes()
    }

    #[test]
    fn duplicates_are_apart_from_distinct_ones() {
        let mut tally = Tally::new();
        let record = [line("a", 0, "d", 1), line("a", 1, "d", 2), line("b", 0, "d", 3)].concat();
        tally.add(&record, 1030);
        tally.add(&record[..record.len() - 1], 9999);
        tally.add(b"\nnot a reading\n", 1030);
        assert_eq!((tally.lines, tally.distinct, tally.duplicates, tally.unidentified), (7, 3, 3, 1));
        assert_eq!((tally.by_kind, tally.runs(), tally.devices()), ([3, 0, 0, 0, 0], 2, 1));
        assert_eq!((tally.since_measured.stats().max, tally.since_received.stats().max), (30, 20));
    }

    #[test]
    fn order_is_that_of_first_sends_of_each_device() {
        let mut tally = Tally::new();
        for (position, device, sequence) in [(0, "d", 10), (1, "e", 5), (2, "d", 10), (3, "d", 11), (2, "d", 10)] {
            tally.add(&line("a", position, device, sequence), 0);
        }
        assert_eq!((tally.sequence_regressions, tally.position_regressions, tally.duplicates), (0, 0, 1));
        tally.add(&line("a", 5, "d", 13), 0);
        tally.add(&line("a", 4, "d", 12), 0);
        assert_eq!((tally.sequence_regressions, tally.position_regressions), (1, 1));
        tally.add(&line("b", 0, "d", 14), 0);
        assert_eq!((tally.sequence_regressions, tally.position_regressions), (1, 1));
    }

    #[test]
    fn a_full_page_still_knows_its_positions() {
        let mut tally = Tally::new();
        for _ in 0..2 {
            (0..PAGE_POSITIONS).rev().for_each(|position| tally.add(&line("a", position, "d", 1), 0));
        }
        assert_eq!((tally.distinct, tally.duplicates, tally.open_pages), (PAGE_POSITIONS, PAGE_POSITIONS, 0));
    }

    #[test]
    fn scattered_positions_end_at_the_bound_and_are_told() {
        let mut tally = Tally::new();
        (0..OPEN_PAGES_MAX as u64 + 7).for_each(|page| tally.add(&line("a", page * PAGE_POSITIONS, "d", 1), 0));
        assert_eq!((tally.distinct, tally.uncounted), (OPEN_PAGES_MAX as u64, 7));
    }
}
