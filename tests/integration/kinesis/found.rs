//! Reads what arrived as a consumer would: every line by its identity, every device by its sequence numbers.

use std::collections::{HashMap, HashSet};

use fake_cloud::plain;

use crate::archive::field;

/// The contents of a stream, in order of arrival.
#[derive(Default)]
pub struct Found {
    sequences: HashMap<String, HashSet<u64>>,
    last: HashMap<String, u64>,
    pub repeats: u64,
    /// First arrivals below an earlier one of the same device.
    pub out_of_order: u64,
}

impl Found {
    pub fn read<'a>(records: impl Iterator<Item = &'a [u8]>) -> Found {
        let (mut found, mut seen) = (Found::default(), HashSet::new());
        for record in records {
            for line in std::str::from_utf8(&plain(record)).unwrap().lines() {
                if !seen.insert(identity(line)) {
                    found.repeats += 1;
                } else if line.contains("\"seq\":") {
                    found.take(field(line, "device"), field(line, "seq").parse().unwrap());
                }
            }
        }
        found
    }

    fn take(&mut self, device: &str, sequence: u64) {
        self.sequences.entry(device.to_owned()).or_default().insert(sequence);
        let last = self.last.entry(device.to_owned()).or_default();
        self.out_of_order += u64::from(sequence < *last);
        *last = sequence.max(*last);
    }

    /// How many of `1..=through` are missing.
    pub fn missing(&self, device: &str, through: u64) -> u64 {
        let found = self.sequences.get(device);
        (1..=through).filter(|sequence| !found.is_some_and(|found| found.contains(sequence))).count() as u64
    }
}

/// The first line that does not follow the one before it, where one partition key promises one order over all devices: that of the
/// positions, without a gap, run by run. A later copy of a line may come at any place, but must be the same.
pub fn fault_of_order<'a>(records: impl Iterator<Item = &'a [u8]>) -> Option<String> {
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut ended: HashSet<String> = HashSet::new();
    let (mut run, mut last) = (String::new(), 0);
    for record in records {
        for line in std::str::from_utf8(&plain(record)).unwrap().lines() {
            if let Some(first) = seen.get(&identity(line)) {
                if first != line {
                    return Some(format!("{line}: it was {first}"));
                }
                continue;
            }
            seen.insert(identity(line), line.to_owned());
            if field(line, "run") != run {
                if !ended.insert(field(line, "run").to_owned()) {
                    return Some(format!("{line}: another run had begun"));
                }
                (run, last) = (field(line, "run").to_owned(), 0);
            }
            let position: u64 = field(line, "position").parse().unwrap();
            if position != last + 1 {
                return Some(format!("{line}: it follows position {last}"));
            }
            last = position;
        }
    }
    None
}

fn identity(line: &str) -> String {
    ["gateway", "run", "position"].map(|name| field(line, name)).join("/")
}

pub fn identities(data: &[u8]) -> Vec<String> {
    std::str::from_utf8(&plain(data)).unwrap().lines().map(identity).collect()
}

/// A line as the gateway writes it.
pub fn line(device: &str, number: u64) -> String {
    format!(
        "{{\"v\":1,\"type\":\"reading\",\"gateway\":\"g\",\"run\":\"r\",\"position\":{number},\"device\":\"{device}\",\"metric\":\"t\",\
         \"value\":1.5,\"measured_at_ms\":1,\"received_at_ms\":2,\"time_quality\":\"synced\",\"seq\":{number}}}\n"
    )
}
