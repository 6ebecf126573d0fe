//! The clocks of devices. What is known of one is kept with its device; of devices that have no series here, a few are kept apart.

use super::{Arrival, Watch};
use crate::core::device_clock::{AHEAD_MS, DeviceClock, Heard, is_plausible};
use crate::core::reading::{Reading, TimeQuality};

/// Devices without a series whose clocks are known. Beyond that they are learned anew, within ten seconds of their time.
const UNWATCHED_MAX: usize = 1_024;

pub(super) type UnwatchedClocks = hashbrown::HashMap<String, DeviceClock>;

/// Where the series and the device of a reading are, if they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) series: Option<usize>,
    pub(super) device: Option<u32>,
    /// The reading's time is in doubt: its series must not go there.
    pub(super) is_doubtful: bool,
}

/// What a reading's time is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeVerdict {
    pub is_late: bool,
    /// The device's clock is wrong, and that was not said just now.
    pub is_to_be_told: bool,
}

impl Watch {
    pub fn locate(&self, device: &str, metric: &str) -> Place {
        let series = self.table.find(device, metric);
        let device = match series {
            Some(index) => Some(self.table.get(index).device),
            None => self.table.devices.find(device),
        };
        Place { series, device, is_doubtful: false }
    }

    /// Gives a reading, which has its device's time, the one by which it is to be judged.
    pub fn judge_time(&mut self, place: &mut Place, reading: &mut Reading<'_>, arrival: Arrival) -> TimeVerdict {
        let (device_ms, received_ms) = (reading.measured_at_ms, reading.received_at_ms);
        // Most clocks are right, and nothing else was ever known of them; a reading without a time of its own says nothing of a clock.
        let is_synced = reading.time_quality == TimeQuality::Synced;
        let is_ordinary =
            device_ms == received_ms || is_plausible(device_ms, received_ms) && !self.is_clock_known(*place);
        if is_ordinary && is_synced {
            return TimeVerdict::default();
        }
        let heard = Heard { device_ms, received_ms, now_ms: arrival.now_ms, publisher: arrival.publisher, is_synced };
        let clock = self.clock(*place, reading.device);
        let judged = clock.judge(&heard);
        (reading.measured_at_ms, reading.device_time) = (judged.measured_at_ms, judged.device_time);
        let is_to_be_told = judged.device_time.is_some() && clock.is_to_be_told(arrival.now_ms);
        let newest_ms = place.series.and_then(|index| self.table.get(index).series.newest_ms());
        // A series that has been there all along has a clock of its own.
        place.is_doubtful = judged.ahead_of_ms.is_some_and(|present_ms| {
            newest_ms.is_some_and(|newest_ms| newest_ms <= present_ms.saturating_add(AHEAD_MS))
        });
        TimeVerdict { is_late: judged.is_late, is_to_be_told }
    }

    /// A stored reading, whose time has been judged, is heard again.
    pub fn relearn_clock(&mut self, mut place: Place, reading: &Reading<'_>, arrival: Arrival) {
        // Who came at which pace is not known any more.
        if reading.time_quality == TimeQuality::Unsynced {
            return;
        }
        let device_ms = reading.device_time.map_or(reading.measured_at_ms, |time| time.device_ms);
        self.judge_time(&mut place, &mut Reading { measured_at_ms: device_ms, ..*reading }, arrival);
    }

    /// Whether a device's clock has been wrong lately.
    pub fn is_clock_wrong(&self, device: &str, now_ms: i64) -> bool {
        let watched = self.table.devices.find(device).and_then(|place| self.table.devices.get(place).clock.as_deref());
        watched.or_else(|| self.unwatched_clocks.get(device)).is_some_and(|clock| clock.is_wrong(now_ms))
    }

    fn is_clock_known(&self, place: Place) -> bool {
        match place.device {
            Some(device) => self.table.devices.get(device).clock.is_some(),
            None => !self.unwatched_clocks.is_empty(),
        }
    }

    fn clock(&mut self, place: Place, device: &str) -> &mut DeviceClock {
        let Some(place) = place.device else {
            if self.unwatched_clocks.len() >= UNWATCHED_MAX && !self.unwatched_clocks.contains_key(device) {
                self.unwatched_clocks.clear();
            }
            return self.unwatched_clocks.entry_ref(device).or_default();
        };
        // It may have been heard before it had a series.
        let unwatched_clocks = &mut self.unwatched_clocks;
        self.table
            .devices
            .get_mut(place)
            .clock
            .get_or_insert_with(|| Box::new(unwatched_clocks.remove(device).unwrap_or_default()))
    }
}
