//! Lines that a topic is known to hold although the delivery has not been told so: of batches whose answer was lost, and of an earlier
//! process. They are taken out of records before these are sent.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::sinks::files::fields;

/// Consecutive lines of one key: all that it has between two positions of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    run: String,
    first: u64,
    last: u64,
}

impl Span {
    fn has(&self, (run, position): (&str, u64)) -> bool {
        self.run == run && (self.first..=self.last).contains(&position)
    }
}

/// The spans of a record's lines. What has no identity is in none.
pub fn spans(data: &[u8]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (run, position) in lines(data).filter_map(identity) {
        match spans.last_mut().filter(|span| span.run == run && span.last < position) {
            Some(span) => span.last = position,
            None => spans.push(Span { run: run.to_owned(), first: position, last: position }),
        }
    }
    spans
}

fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split_inclusive(|byte| *byte == b'\n')
}

/// Run and position of a line.
fn identity(line: &[u8]) -> Option<(&str, u64)> {
    let mut run = None;
    for (name, value) in fields::of(line) {
        match name {
            "run" => run = Some(value.trim_matches('"')),
            "position" => return Some((run?, value.parse().ok()?)),
            _ => {}
        }
    }
    None
}

/// By key, the spans with the number of the batch that each was part of.
#[derive(Debug, Default)]
pub struct Known {
    spans: HashMap<String, Vec<(Span, u64)>>,
}

impl Known {
    pub fn add(&mut self, key: &str, spans: &[Span], batch: u64) {
        let known = self.spans.entry(key.to_owned()).or_default();
        known.extend(spans.iter().map(|span| (span.clone(), batch)));
    }

    /// What of a record is not stored yet.
    pub fn left_of(&self, key: &str, data: &Bytes) -> Bytes {
        let Some(known) = self.spans.get(key) else { return data.clone() };
        let is_stored = |line| identity(line).is_some_and(|id| known.iter().any(|(span, _)| span.has(id)));
        if !lines(data).any(is_stored) {
            return data.clone();
        }
        let mut left = BytesMut::with_capacity(data.len());
        lines(data).filter(|line| !is_stored(line)).for_each(|line| left.extend_from_slice(line));
        left.freeze()
    }

    /// The delivery is told of this record, so it never comes again. Returns the batches of the spans that it is done with.
    ///
    /// What a key has comes in order, so if some of this record was sent now, all that was stored before `lies_behind`; but not behind a
    /// record that comes late.
    pub fn told(&mut self, key: &str, data: &[u8], lies_behind: bool) -> Vec<u64> {
        if lies_behind {
            return self.spans.remove(key).into_iter().flatten().map(|(_, batch)| batch).collect();
        }
        let Some(known) = self.spans.get_mut(key) else { return Vec::new() };
        let mut told = Vec::new();
        for (run, position) in lines(data).filter_map(identity) {
            known.retain(|(span, batch)| {
                let ends = span.run == run && span.last <= position;
                if ends {
                    told.push(*batch);
                }
                !ends
            });
        }
        if known.is_empty() {
            self.spans.remove(key);
        }
        told
    }
}

#[cfg(test)]
pub fn line(run: &str, position: u64) -> String {
    format!(
        "{{\"v\":1,\"type\":\"reading\",\"gateway\":\"g\",\"run\":\"{run}\",\"position\":{position},\"value\":1.5}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(run: &str, positions: &[u64]) -> Bytes {
        positions.iter().map(|position| line(run, *position)).collect::<String>().into()
    }

    #[test]
    fn what_is_stored_is_taken_out_and_the_rest_stays_as_it_is() {
        let mut known = Known::default();
        known.add("tank", &spans(&data("a", &[3, 7])), 1);
        known.add("tank", &spans(&data("a", &[9])), 2);
        assert_eq!(known.left_of("tank", &data("a", &[1, 3, 5, 7, 8, 9, 12])), data("a", &[1, 8, 12]));
        assert_eq!(known.left_of("tank", &data("b", &[3, 7])), data("b", &[3, 7]), "of another run");
        assert_eq!(known.left_of("other", &data("a", &[3])), data("a", &[3]), "of another key");
        assert!(known.left_of("tank", &data("a", &[3, 7, 9])).is_empty());
        let odd = Bytes::from_static(b"no line of ours\n");
        assert_eq!(known.left_of("tank", &odd), odd);
    }

    #[test]
    fn what_the_delivery_was_told_of_is_forgotten() {
        let mut known = Known::default();
        known.add("tank", &spans(&data("a", &[3, 7])), 1);
        known.add("tank", &spans(&data("a", &[9, 12])), 2);
        assert_eq!(known.told("tank", &data("a", &[3]), false), [] as [u64; 0], "more of the span may come");
        assert_eq!(known.told("tank", &data("a", &[7, 9]), false), [1]);
        assert_eq!(known.told("tank", &data("a", &[12]), false), [2]);
        assert!(known.spans.is_empty());
    }

    #[test]
    fn what_lies_behind_is_forgotten_also_if_it_never_comes_again() {
        let mut known = Known::default();
        known.add("tank", &spans(&data("a", &[3, 7])), 1);
        known.add("tank", &spans(&data("b", &[2])), 2);
        known.add("axle", &spans(&data("a", &[4])), 3);
        assert_eq!(known.told("tank", &data("c", &[1]), true), [1, 2]);
        assert_eq!(known.spans.len(), 1);
    }

    #[test]
    fn a_record_that_comes_late_forgets_nothing_that_is_still_to_come() {
        let mut known = Known::default();
        known.add("tank", &spans(&data("a", &[9, 12])), 1);
        assert_eq!(known.told("tank", &data("a", &[5]), false), [] as [u64; 0]);
        assert_eq!(known.left_of("tank", &data("a", &[9, 12, 13])), data("a", &[13]));
        assert_eq!(known.told("tank", &data("a", &[5]), true), [1], "the control: as if it came in order");
    }

    #[test]
    fn a_record_may_hold_lines_of_several_runs() {
        let both = [data("a", &[8, 9]), data("b", &[1, 4])].concat();
        let span = |run: &str, first, last| Span { run: run.to_owned(), first, last };
        assert_eq!(spans(&both), [span("a", 8, 9), span("b", 1, 4)]);
    }
}
