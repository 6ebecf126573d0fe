//! What happens when: faults and link cuts, in rounds that repeat as long as the demonstration runs.
//!
//! Pure. Times count from the moment when the vehicles are live. A round has three faults of three kinds, each of which the detectors find
//! within a known time, and one link cut with a fault during it.

use std::ops::Range;
use std::time::Duration;

use firmware_sim::fault::{Fault, FaultKind};
use firmware_sim::vehicle::{Metric, Vehicle};

/// With fewer, a vehicle would get two of a round's faults.
pub const VEHICLES_MIN: u16 = 3;
/// Time from one round to the next: long enough for every alert of the last one to clear.
const ROUND: Duration = Duration::from_secs(60);
const CUT: Range<Duration> = Duration::from_secs(6)..Duration::from_secs(14);
/// After a cut, the backlog is delivered within this time.
const DRAINED_WITHIN: Duration = Duration::from_secs(3);
/// The vehicles are live within this time on a machine of usual speed; on a slower one the demonstration takes longer.
const LIVE_WITHIN: Duration = Duration::from_secs(4);
/// Each round uses other vehicles; after this many it starts over. Then a fault is no news to a vehicle any more, and in a small fleet it
/// becomes usual.
const ROUNDS: u16 = 12;

/// One fault of a round.
#[derive(Clone, Copy, Debug)]
struct Act {
    kind: FaultKind,
    metric: Metric,
    magnitude: f64,
    start_s: u64,
    length_s: u64,
}

const ACTS: [Act; 3] = [
    Act { kind: FaultKind::Spike, metric: Metric::EngineTemperature, magnitude: 39.0, start_s: 9, length_s: 0 },
    Act { kind: FaultKind::Step, metric: Metric::ContainerTemperature, magnitude: 6.0, start_s: 3, length_s: 12 },
    Act { kind: FaultKind::Drift, metric: Metric::ContainerTemperature, magnitude: 6.0, start_s: 12, length_s: 15 },
];

/// The detectors find such a fault within this time.
pub fn found_within(kind: FaultKind) -> Duration {
    match kind {
        FaultKind::Drift => Duration::from_secs(13),
        _ => Duration::from_secs(3),
    }
}

/// The faults and cuts of a whole demonstration.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub faults: Vec<Fault>,
    cuts: Option<u32>,
    /// When everything has shown its effect; `None` if there is no end.
    pub over_after: Duration,
}

impl Plan {
    /// Plans as many faults and cuts as fit into `length` with their consequences; without a length they go on for ever.
    pub fn new(vehicles: u16, length: Option<Duration>) -> Plan {
        let Some(length) = length else {
            let rounds = (0..u32::from(ROUNDS)).flat_map(|round| (0..ACTS.len()).map(move |act| (act, round)));
            let every = Some(ROUND * u32::from(ROUNDS));
            let faults = rounds.map(|(act, round)| fault(act, round, vehicles, every)).collect();
            return Plan { faults, cuts: None, over_after: Duration::ZERO };
        };
        let mut plan = Plan { faults: Vec::new(), cuts: Some(0), over_after: Duration::ZERO };
        for round in 0.. {
            let start = ROUND * round;
            if start > length {
                break;
            }
            let mut fits = |over: Duration| {
                let fits = over + LIVE_WITHIN <= length;
                plan.over_after = if fits { plan.over_after.max(over) } else { plan.over_after };
                fits
            };
            if fits(start + CUT.end + DRAINED_WITHIN) {
                plan.cuts = Some(round + 1);
            }
            for (place, act) in ACTS.iter().enumerate() {
                if fits(start + Duration::from_secs(act.start_s) + found_within(act.kind)) {
                    plan.faults.push(fault(place, round, vehicles, None));
                }
            }
        }
        plan
    }

    /// The first (0), second (1), ... cut of the link.
    pub fn cut(&self, number: u32) -> Option<Range<Duration>> {
        let start = ROUND * number;
        self.cuts.is_none_or(|cuts| number < cuts).then_some(start + CUT.start..start + CUT.end)
    }
}

fn fault(place: usize, round: u32, vehicles: u16, every: Option<Duration>) -> Fault {
    let act = &ACTS[place];
    // A third of the fleet apart, so that no vehicle has two faults at a time.
    let apart = u32::from(vehicles) * place as u32 / ACTS.len() as u32;
    let number = (apart + round) % u32::from(vehicles) + 1;
    // The other way every second time, because what returns alike is a habit.
    let sign = if (round / u32::from(vehicles)).is_multiple_of(2) { 1.0 } else { -1.0 };
    let start_ms = milliseconds(ROUND * round + Duration::from_secs(act.start_s));
    Fault {
        kind: act.kind,
        device: Vehicle::name(u16::try_from(number).expect("a vehicle's number")),
        metric: Some(act.metric),
        magnitude: act.magnitude * sign,
        start_ms,
        end_ms: start_ms + milliseconds(Duration::from_secs(act.length_s)),
        every_ms: every.map(milliseconds),
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("a schedule is shorter than a year")
}

#[cfg(test)]
mod tests {
    use firmware_sim::fault::{BoundFault, reported_value};
    use firmware_sim::timeline::Timeline;

    use super::*;
    use crate::core::detection::detectors::Findings;
    use crate::core::detection::monitor::{Arrival, Monitor, MonitorSettings};
    use crate::core::reading::Reading;

    const LIVE_S: u64 = 600;
    /// For this long after a fault the ten-second window still contains it.
    const ECHO_S: u64 = 10;

    fn seconds(duration: Duration) -> u64 {
        duration.as_secs()
    }

    /// The seconds of the readings that are flagged.
    fn found(vehicle: &Vehicle, name: &str, faults: &[BoundFault], metric: Metric, end_s: u64) -> Vec<u64> {
        let mut monitor = Monitor::new(MonitorSettings::default());
        let mut findings = Findings::default();
        let judge = |&second: &u64| {
            let reading = Reading::at(
                second as i64 * 1_000,
                name,
                metric.name(),
                reported_value(vehicle, faults, metric, second).expect("no fault of ours is a dropout"),
            );
            monitor.judge(&reading, Arrival { now_ms: second as i64 * 1_000, publisher: 0 }, &mut findings);
            !findings.list.is_empty()
        };
        (0..end_s).filter(judge).collect()
    }

    /// In several fleets, every fault is found in time and nothing else is flagged, for all vehicles.
    #[test]
    fn the_detectors_find_the_faults_and_nothing_else() {
        for (vehicles, seed) in [(3, 1), (20, 1), (20, 2), (7, 3), (40, 4)] {
            // Until each act has come to a vehicle twice.
            let end_s = LIVE_S + seconds(ROUND) * u64::from(ROUNDS.min(2 * vehicles));
            let faults = Plan::new(vehicles, None).faults;
            for number in 1..=vehicles {
                let (vehicle, name) = (Vehicle::new(seed, number, 1.0), Vehicle::name(number));
                for metric in Metric::ALL {
                    let own = |fault: &&Fault| fault.device == name && fault.metric == Some(metric);
                    let own: Vec<&Fault> = faults.iter().filter(own).collect();
                    let timeline = Timeline { origin_ms: 0, interval_ms: 1_000 };
                    let bind = |fault: &&Fault| BoundFault::new(fault, LIVE_S as i64 * 1_000, timeline);
                    let bound: Vec<BoundFault> = own.iter().map(bind).collect();
                    let found = found(&vehicle, &name, &bound, metric, end_s);
                    let mut unexplained = found.clone();
                    let both = own.iter().zip(&bound).map(|(fault, bound)| (fault, bound.samples(0)));
                    for (fault, samples) in both.filter(|(_, samples)| samples.start < end_s) {
                        let within = samples.start..samples.start + seconds(found_within(fault.kind));
                        assert!(found.iter().any(|second| within.contains(second)), "{seed} {fault:?} at {samples:?}");
                        unexplained.retain(|second| !(samples.start..samples.end + ECHO_S).contains(second));
                    }
                    assert_eq!(unexplained, Vec::<u64>::new(), "seed {seed}: {name} {metric}");
                }
            }
        }
    }

    #[test]
    fn a_plan_has_what_fits() {
        let plan = |length_s| Plan::new(20, Some(Duration::from_secs(length_s)));
        let shape = |plan: &Plan| (plan.faults.len(), plan.cuts, plan.over_after.as_secs());
        assert_eq!(shape(&plan(5)), (0, Some(0), 0));
        assert_eq!(shape(&plan(10)), (1, Some(0), 6));
        assert_eq!(shape(&plan(30)), (3, Some(1), 25));
        assert_eq!(shape(&plan(90)), (6, Some(2), 85));
        let cuts = |plan: Plan| [0, 1, 2].map(|number| plan.cut(number).map(|cut| cut.start.as_secs()));
        assert_eq!(cuts(plan(90)), [Some(6), Some(66), None]);
        assert_eq!(cuts(Plan::new(20, None)), [Some(6), Some(66), Some(126)]);
        let cut = CUT.start.as_millis() as i64..CUT.end.as_millis() as i64;
        assert!(plan(30).faults.iter().any(|fault| cut.contains(&fault.start_ms)), "a fault while the link is down");
    }

    #[test]
    fn no_vehicle_has_two_faults_of_a_round() {
        for vehicles in VEHICLES_MIN..50 {
            let devices = |round| [0, 1, 2].map(|place| fault(place, round, vehicles, None).device);
            for round in 0..10 {
                let [one, two, three] = devices(round);
                assert!(one != two && two != three && one != three, "{vehicles} vehicles, round {round}");
            }
        }
    }
}
