//! Which alerts two settings of the detectors have in common.
//!
//! Alerts of one series and kind count as the same if, between being raised and cleared, both were raised at some moment. That is decided
//! as they come, so only one row per series and kind is kept, however many alerts it had.

use std::collections::HashMap;

use crate::core::detection::alert::{ALERTS_MAX, AlertKey, State};

/// Most rows kept. A series with a raised alert always has its row; if there are too many, rows without one are dropped first.
const ROWS_MAX: usize = 5 * ALERTS_MAX;

/// Which settings an alert belongs to. Used as an index: the present settings come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Present,
    Changed,
}

pub const SIDES: [Side; 2] = [Side::Present, Side::Changed];

/// Counts of alerts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub present: u64,
    pub changed: u64,
    /// With the changed settings only.
    pub new: u64,
    /// With the present settings only.
    pub gone: u64,
    /// Raised by the gateway itself when it ran.
    pub raised: u64,
}

impl Tally {
    fn count(&mut self, side: Side) {
        match side {
            Side::Present => self.present += 1,
            Side::Changed => self.changed += 1,
        }
    }

    fn count_alone(&mut self, side: Side) {
        match side {
            Side::Present => self.gone += 1,
            Side::Changed => self.new += 1,
        }
    }

    pub fn differences(&self) -> u64 {
        self.new + self.gone
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    tally: Tally,
    /// For each side, whether the alert that is raised has met one of the other side; `None` if none is raised.
    open: [Option<bool>; 2],
}

impl Row {
    fn is_open(&self) -> bool {
        self.open.iter().any(Option::is_some)
    }
}

#[derive(Debug)]
pub struct Comparison {
    rows: HashMap<AlertKey, Row>,
    rows_max: usize,
    total: Tally,
    rows_given_up: u64,
}

impl Default for Comparison {
    fn default() -> Self {
        Comparison { rows: HashMap::new(), rows_max: ROWS_MAX, total: Tally::default(), rows_given_up: 0 }
    }
}

impl Comparison {
    /// The changes of alerts in one moment, by side. An alert that clears in the same moment in which the other side's is raised has met
    /// it.
    pub fn step(&mut self, changes: [Vec<(AlertKey, State)>; 2]) {
        for state in [State::Raised, State::Cleared] {
            for (side, changes) in SIDES.into_iter().zip(&changes) {
                for (key, _) in changes.iter().filter(|(_, is)| *is == state) {
                    match state {
                        State::Raised => self.raise(side, key),
                        State::Cleared => self.clear(side, key),
                    }
                }
            }
        }
    }

    /// Also called for alerts that are updated.
    fn raise(&mut self, side: Side, key: &AlertKey) {
        let row = self.row(key);
        if row.open[side as usize].is_some() {
            return;
        }
        let other = &mut row.open[1 - side as usize];
        let meets = other.is_some();
        other.iter_mut().for_each(|met| *met = true);
        row.open[side as usize] = Some(meets);
        row.tally.count(side);
        self.total.count(side);
    }

    fn clear(&mut self, side: Side, key: &AlertKey) {
        let Some(row) = self.rows.get_mut(key) else { return };
        if row.open[side as usize].take() == Some(false) {
            row.tally.count_alone(side);
            self.total.count_alone(side);
        }
    }

    /// The gateway itself raised an alert when it ran.
    pub fn raised(&mut self, key: &AlertKey) {
        self.row(key).tally.raised += 1;
        self.total.raised += 1;
    }

    /// The log has ended: alerts that are still raised are counted as they are.
    pub fn finish(&mut self) {
        for row in self.rows.values_mut() {
            for side in SIDES {
                if row.open[side as usize].take() == Some(false) {
                    row.tally.count_alone(side);
                    self.total.count_alone(side);
                }
            }
        }
    }

    fn row(&mut self, key: &AlertKey) -> &mut Row {
        if self.rows.len() >= self.rows_max && !self.rows.contains_key(key) {
            let before = self.rows.len();
            self.rows.retain(|_, row| row.is_open() || row.tally.differences() > 0);
            if self.rows.len() > self.rows_max / 2 {
                self.rows.retain(|_, row| row.is_open());
            }
            self.rows_given_up += (before - self.rows.len()) as u64;
        }
        self.rows.entry(key.clone()).or_default()
    }

    pub fn total(&self) -> &Tally {
        &self.total
    }

    /// Rows dropped because there were too many: their alerts count in the total only.
    pub fn rows_given_up(&self) -> u64 {
        self.rows_given_up
    }

    /// By series and kind, those with the most differences first.
    pub fn rows(&self) -> Vec<(&AlertKey, &Tally)> {
        let mut rows: Vec<_> = self.rows.iter().map(|(key, row)| (key, &row.tally)).collect();
        rows.sort_by(|(a, of_a), (b, of_b)| {
            let by_weight = of_b.differences().cmp(&of_a.differences());
            by_weight.then_with(|| (&a.device, &a.metric, &a.kind).cmp(&(&b.device, &b.metric, &b.kind)))
        });
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Cleared, Raised};

    fn key(device: &str) -> AlertKey {
        AlertKey { device: device.to_owned(), metric: "t".to_owned(), kind: "anomaly".to_owned() }
    }

    type Step<'a> = &'a [(Side, &'a str, State)];

    fn compare(steps: &[Step<'_>]) -> Comparison {
        let mut comparison = Comparison::default();
        for step in steps {
            let of = |wanted: Side| {
                let of_side = step.iter().filter(move |(side, ..)| *side == wanted);
                of_side.map(|(_, device, state)| (key(device), *state)).collect()
            };
            comparison.step([of(Side::Present), of(Side::Changed)]);
        }
        comparison.finish();
        comparison
    }

    fn counts(tally: &Tally) -> [u64; 4] {
        [tally.present, tally.changed, tally.new, tally.gone]
    }

    const P: Side = Side::Present;
    const C: Side = Side::Changed;

    #[test]
    fn alerts_that_overlap_are_one_and_others_are_new_or_gone() {
        let cases: [(&str, &[Step<'_>], [u64; 4]); 9] = [
            ("nothing", &[], [0, 0, 0, 0]),
            (
                "the same",
                &[&[(P, "a", Raised), (C, "a", Raised)], &[(P, "a", Cleared), (C, "a", Cleared)]],
                [1, 1, 0, 0],
            ),
            ("later", &[&[(P, "a", Raised)], &[(C, "a", Raised)], &[(P, "a", Cleared)]], [1, 1, 0, 0]),
            (
                "in the moment of the clearing",
                &[&[(P, "a", Raised)], &[(P, "a", Cleared), (C, "a", Raised)]],
                [1, 1, 0, 0],
            ),
            ("too late", &[&[(P, "a", Raised)], &[(P, "a", Cleared)], &[(C, "a", Raised)]], [1, 1, 1, 1]),
            ("of another series", &[&[(P, "a", Raised), (C, "b", Raised)]], [1, 1, 1, 1]),
            ("new, and updated", &[&[(C, "a", Raised)], &[(C, "a", Raised)], &[(C, "a", Cleared)]], [0, 1, 1, 0]),
            (
                "one that meets two",
                &[
                    &[(P, "a", Raised), (C, "a", Raised)],
                    &[(P, "a", Cleared)],
                    &[(P, "a", Raised)],
                    &[(P, "a", Cleared)],
                    &[(C, "a", Cleared)],
                    &[(P, "a", Raised)],
                ],
                [3, 1, 0, 1],
            ),
            ("cleared without having been raised", &[&[(P, "a", Cleared)]], [0, 0, 0, 0]),
        ];
        for (what, steps, expected) in cases {
            let comparison = compare(steps);
            assert_eq!(counts(comparison.total()), expected, "{what}");
            let mut sum = [0; 4];
            for (_, tally) in comparison.rows() {
                sum.iter_mut().zip(counts(tally)).for_each(|(sum, one)| *sum += one);
            }
            assert_eq!(sum, expected, "the rows add up: {what}");
        }
    }

    #[test]
    fn rows_come_by_weight_and_then_by_name() {
        let comparison = compare(&[
            &[(C, "b", Raised), (C, "a", Raised), (P, "z", Raised), (C, "same", Raised), (P, "same", Raised)],
            &[(P, "z", Cleared)],
            &[(P, "z", Raised)],
        ]);
        let devices: Vec<&str> = comparison.rows().iter().map(|(key, _)| key.device.as_str()).collect();
        assert_eq!(devices, ["z", "a", "b", "same"]);
    }

    #[test]
    fn too_many_rows_cost_rows_and_no_alert_of_the_total() {
        let mut comparison = Comparison { rows_max: 10, ..Comparison::default() };
        comparison.step([vec![(key("open"), Raised)], vec![]]);
        for number in 0..100 {
            comparison.step([vec![], vec![(key(&number.to_string()), Raised)]]);
            comparison.step([vec![], vec![(key(&number.to_string()), Cleared)]]);
            assert!(comparison.rows.len() <= 10);
        }
        comparison.step([vec![], vec![(key("open"), Raised)]]);
        comparison.finish();
        assert_eq!(counts(comparison.total()), [1, 101, 100, 0], "what is open meets whatever comes in between");
        assert!(comparison.rows_given_up() >= 90);
    }
}
