//! Decides which alert belongs to which fault. Pure; times count from the start of the demonstration, on a steady clock.

use std::collections::HashSet;
use std::time::Duration;

use firmware_sim::ground_truth::GroundTruth;
use serde::Deserialize;

use super::schedule::found_within;

/// For this long after a fault the ten-second window still contains it, so it may cause alerts.
const ECHO: Duration = Duration::from_secs(15);

/// An alert as received over MQTT, with the fields used here.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct AlertHeard {
    pub id: String,
    pub revision: u32,
    pub device: String,
    pub metric: String,
    pub state: String,
    pub severity: String,
    #[serde(default)]
    pub detectors: Vec<String>,
    pub value: Option<f64>,
    pub expected: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct FaultMade {
    pub truth: GroundTruth,
    pub started: Duration,
    pub ended: Option<Duration>,
    /// Time from its start to the first alert about it.
    pub found_after: Option<Duration>,
}

impl FaultMade {
    fn is_cause_of(&self, alert: &AlertHeard, at: Duration) -> bool {
        let truth = &self.truth;
        truth.device == alert.device
            && (truth.metric == alert.metric || truth.metric == "*")
            && at >= self.started
            && self.ended.is_none_or(|ended| at <= ended + ECHO)
    }
}

/// What an alert means for the demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The first alert about a fault.
    Found {
        after: Duration,
    },
    /// An update of a known alert, or another alert about a fault that was already found.
    GoesOn,
    FalseAlarm,
    /// An alert of a device that is not ours.
    Other,
}

/// The result at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    pub made: usize,
    pub found: usize,
    /// Not found, but too recent for that to mean anything.
    pub open: usize,
    pub false_alarms: u64,
}

impl Score {
    pub fn missed(&self) -> usize {
        self.made - self.found - self.open
    }
}

#[derive(Debug)]
pub struct Scoreboard {
    devices: HashSet<String>,
    faults: Vec<FaultMade>,
    counted: HashSet<String>,
    /// Raised alerts that were received, by id and revision: the archive must contain them too.
    pub alerts: Vec<(String, u32)>,
    false_alarms: u64,
}

impl Scoreboard {
    pub fn new(devices: impl IntoIterator<Item = String>) -> Scoreboard {
        let devices = devices.into_iter().collect();
        Scoreboard { devices, faults: Vec::new(), counted: HashSet::new(), alerts: Vec::new(), false_alarms: 0 }
    }

    pub fn fault_started(&mut self, truth: GroundTruth, at: Duration) {
        self.faults.push(FaultMade { truth, started: at, ended: None, found_after: None });
    }

    pub fn fault_ended(&mut self, truth: &GroundTruth, at: Duration) {
        let is_it = |fault: &&mut FaultMade| {
            fault.truth.device == truth.device
                && fault.truth.metric == truth.metric
                && fault.truth.start_ms == truth.start_ms
        };
        if let Some(fault) = self.faults.iter_mut().rev().find(is_it) {
            fault.ended = Some(at);
        }
    }

    /// Handles a raised alert; cleared ones are not passed here.
    pub fn hear(&mut self, alert: &AlertHeard, at: Duration) -> Heard {
        self.alerts.push((alert.id.clone(), alert.revision));
        if !self.devices.contains(&alert.device) {
            return Heard::Other;
        }
        let is_new = self.counted.insert(alert.id.clone());
        let cause = self.faults.iter_mut().rev().find(|fault| fault.is_cause_of(alert, at));
        match cause {
            Some(fault) if fault.found_after.is_none() => {
                let after = at - fault.started;
                fault.found_after = Some(after);
                Heard::Found { after }
            }
            None if is_new => {
                self.false_alarms += 1;
                Heard::FalseAlarm
            }
            _ => Heard::GoesOn,
        }
    }

    pub fn score(&self, now: Duration) -> Score {
        let found = self.faults.iter().filter(|fault| fault.found_after.is_some()).count();
        let is_open =
            |fault: &&FaultMade| fault.found_after.is_none() && now < fault.started + found_within(fault.truth.fault);
        let open = self.faults.iter().filter(is_open).count();
        Score { made: self.faults.len(), found, open, false_alarms: self.false_alarms }
    }

    pub fn missed(&self, now: Duration) -> impl Iterator<Item = &GroundTruth> {
        let is_missed = move |fault: &&FaultMade| {
            fault.found_after.is_none() && now >= fault.started + found_within(fault.truth.fault)
        };
        self.faults.iter().filter(is_missed).map(|fault| &fault.truth)
    }
}

#[cfg(test)]
mod tests {
    use firmware_sim::fault::FaultKind;

    use super::*;

    fn truth(device: &str, metric: &'static str, start_ms: i64) -> GroundTruth {
        let (fault, end_ms, magnitude) = (FaultKind::Step, start_ms + 12_000, 6.0);
        GroundTruth { device: device.to_owned(), metric, fault, start_ms, end_ms, magnitude }
    }

    fn alert(id: &str, revision: u32, device: &str, metric: &str) -> AlertHeard {
        AlertHeard {
            id: id.to_owned(),
            revision,
            device: device.to_owned(),
            metric: metric.to_owned(),
            state: "raised".to_owned(),
            severity: "major".to_owned(),
            detectors: vec!["shift".to_owned()],
            value: Some(28.4),
            expected: Some(22.3),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn board() -> Scoreboard {
        let mut board = Scoreboard::new(["truck-01".to_owned(), "truck-07".to_owned()]);
        board.fault_started(truth("truck-07", "temperature", 8_000), at(8));
        board
    }

    #[test]
    fn a_fault_is_found_once_by_an_alert_of_its_own_series() {
        let mut board = board();
        assert_eq!(board.hear(&alert("x", 1, "truck-01", "temperature"), at(9)), Heard::FalseAlarm);
        assert_eq!(board.hear(&alert("y", 1, "truck-07", "speed"), at(9)), Heard::FalseAlarm);
        assert_eq!(board.hear(&alert("y", 2, "truck-07", "speed"), at(9)), Heard::GoesOn, "counted once");
        assert_eq!(board.hear(&alert("z", 1, "truck-07", "temperature"), at(10)), Heard::Found { after: at(2) });
        assert_eq!(board.hear(&alert("z", 2, "truck-07", "temperature"), at(11)), Heard::GoesOn);
        assert_eq!(board.hear(&alert("o", 1, "tank", "temperature"), at(11)), Heard::Other);
        assert_eq!(board.score(at(30)), Score { made: 1, found: 1, open: 0, false_alarms: 2 });
        assert_eq!(board.alerts.len(), 6);
    }

    #[test]
    fn an_alert_from_before_a_fault_or_long_after_it_does_not_count_for_it() {
        let mut board = board();
        assert_eq!(board.hear(&alert("x", 1, "truck-07", "temperature"), at(7)), Heard::FalseAlarm);
        board.fault_ended(&truth("truck-07", "temperature", 8_000), at(20));
        assert_eq!(board.hear(&alert("y", 1, "truck-07", "temperature"), at(36)), Heard::FalseAlarm);
        assert_eq!(board.hear(&alert("z", 1, "truck-07", "temperature"), at(35)), Heard::Found { after: at(27) });
    }

    #[test]
    fn a_fault_that_nothing_told_of_is_missed_once_its_time_is_over() {
        let board = board();
        let young = board.score(at(10));
        assert_eq!((young.open, young.missed()), (1, 0));
        let old = board.score(at(11));
        assert_eq!((old.open, old.missed(), board.missed(at(11)).count()), (0, 1, 1));
    }

    #[test]
    fn the_next_fault_of_a_series_is_found_by_the_alert_that_goes_on() {
        let mut board = board();
        board.hear(&alert("x", 1, "truck-07", "temperature"), at(9));
        board.fault_ended(&truth("truck-07", "temperature", 8_000), at(20));
        board.fault_started(truth("truck-07", "temperature", 30_000), at(30));
        assert_eq!(board.hear(&alert("x", 5, "truck-07", "temperature"), at(31)), Heard::Found { after: at(1) });
    }
}
