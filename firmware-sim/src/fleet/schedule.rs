//! When faults start and end, in order of time.

use super::FleetSettings;
use crate::fault::{BoundFault, Fault};
use crate::ground_truth::GroundTruth;
use crate::timeline::Timeline;

/// A fault starts or ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    pub at_ms: i64,
    pub starts: bool,
    pub truth: GroundTruth,
    fault: usize,
    time: u64,
}

/// The moments to come. Only the next occurrence of a repeating fault is in here, so an endless schedule stays small.
#[derive(Debug)]
pub(super) struct Schedule {
    faults: Vec<(Fault, BoundFault, Timeline)>,
    /// Latest first.
    moments: Vec<Moment>,
}

impl Schedule {
    pub fn new(settings: &FleetSettings, live_start_ms: i64, timeline_of: impl Fn(&Fault) -> Timeline) -> Self {
        let bind = |fault: &Fault| {
            let timeline = timeline_of(fault);
            (fault.clone(), BoundFault::new(fault, live_start_ms, timeline), timeline)
        };
        let mut schedule = Schedule { faults: settings.faults.iter().map(bind).collect(), moments: Vec::new() };
        (0..schedule.faults.len()).for_each(|fault| schedule.add(fault, 0));
        schedule
    }

    pub fn next(&self) -> Option<&Moment> {
        self.moments.last()
    }

    pub fn take(&mut self) -> Option<Moment> {
        let moment = self.moments.pop()?;
        if !moment.starts && self.faults[moment.fault].0.every_ms.is_some() {
            self.add(moment.fault, moment.time + 1);
        }
        Some(moment)
    }

    /// The faults that are active at this time, as if they ended right after it.
    pub fn cut_short(&self, now_ms: i64) -> impl Iterator<Item = GroundTruth> + '_ {
        let ends = self.moments.iter().rev().filter(|moment| !moment.starts);
        ends.filter(move |moment| moment.truth.start_ms <= now_ms)
            .map(move |moment| GroundTruth { end_ms: moment.at_ms.min(now_ms + 1), ..moment.truth.clone() })
    }

    fn add(&mut self, fault: usize, time: u64) {
        let (scheduled, bound, timeline) = &self.faults[fault];
        let samples = bound.samples(time);
        let (start_ms, end_ms) = (timeline.measured_at_ms(samples.start), timeline.measured_at_ms(samples.end));
        let truth = GroundTruth::new(scheduled, start_ms, end_ms);
        for (at_ms, starts) in [(start_ms, true), (end_ms, false)] {
            self.moments.push(Moment { at_ms, starts, truth: truth.clone(), fault, time });
        }
        // At the same moment, ends come before starts.
        self.moments.sort_by_key(|moment| std::cmp::Reverse((moment.at_ms, moment.starts)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_the_order_of_time_and_again() {
        let faults = ["step:truck-01:speed:+6@2s..5s/10s", "spike:truck-02:speed:+40@3s"].map(|text| text.parse());
        let settings = FleetSettings {
            faults: faults.into_iter().collect::<Result<_, _>>().expect("good faults"),
            ..FleetSettings::new(([127, 0, 0, 1], 1883).into())
        };
        let mut schedule = Schedule::new(&settings, 100_000, |_| Timeline { origin_ms: 0, interval_ms: 1_000 });
        let mut next = || {
            let moment = schedule.take().expect("one of them comes for ever");
            (moment.at_ms / 1_000, moment.starts, moment.truth.fault.name())
        };
        let moments: Vec<_> = (0..8).map(|_| next()).collect();
        assert_eq!(
            moments,
            [
                (102, true, "step"),
                (103, true, "spike"),
                (104, false, "spike"),
                (105, false, "step"),
                (112, true, "step"),
                (115, false, "step"),
                (122, true, "step"),
                (125, false, "step"),
            ]
        );
        assert_eq!(schedule.cut_short(131_999).count(), 0);
        let cut: Vec<_> = schedule.cut_short(133_000).map(|truth| (truth.start_ms, truth.end_ms)).collect();
        assert_eq!(cut, [(132_000, 133_001)]);
    }
}
