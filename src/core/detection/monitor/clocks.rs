//! The clocks of devices. What is known of one is kept with its device; of devices that have no series here, a few are kept apart.

use super::{Arrival, Monitor};
use crate::device_clock::{AHEAD_MS, DeviceClock, Heard, is_plausible};
use crate::reading::{Reading, TimeQuality};

/// Devices without a series whose clocks are known.
const UNWATCHED_MAX: usize = 1_024;
/// How often room is made among them.
const MAKE_ROOM_EVERY_MS: i64 = 10;

/// The clocks of devices that have no series. However many devices come, none of them displaces a clock that is steady.
#[derive(Debug, Default)]
pub(super) struct UnwatchedClocks {
    pub(super) clocks: hashbrown::HashMap<String, DeviceClock>,
    /// Used for a device for which there is no room: a plausible time needs no knowledge of the clock.
    spare: DeviceClock,
    made_room_ms: Option<i64>,
}

impl UnwatchedClocks {
    fn clock(&mut self, device: &str, now_ms: i64) -> &mut DeviceClock {
        if self.clocks.len() >= UNWATCHED_MAX && !self.clocks.contains_key(device) {
            self.make_room(now_ms);
            if self.clocks.len() >= UNWATCHED_MAX {
                self.spare.forget();
                return &mut self.spare;
            }
        }
        self.clocks.entry_ref(device).or_default()
    }

    /// Forgets the half of the unsteady clocks that was silent longest. Not one by one, because each time looks at all of them.
    fn make_room(&mut self, now_ms: i64) {
        if self.made_room_ms.is_some_and(|made_room_ms| now_ms.saturating_sub(made_room_ms) < MAKE_ROOM_EVERY_MS) {
            return;
        }
        self.made_room_ms = Some(now_ms);
        let unsteady = self.clocks.values().filter(|clock| !clock.is_steady());
        let mut heard_ms: Vec<i64> = unsteady.map(DeviceClock::heard_ms).collect();
        let half = heard_ms.len() / 2;
        if heard_ms.is_empty() {
            return;
        }
        let newest_forgotten_ms = *heard_ms.select_nth_unstable(half).1;
        self.clocks.retain(|_, clock| clock.is_steady() || clock.heard_ms() > newest_forgotten_ms);
    }
}

/// Where the series and the device of a reading are in the table; `None` inside if they are not watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) series: Option<usize>,
    pub(super) device: Option<u32>,
    /// The reading's time is in doubt, so its series must not advance to it.
    pub(super) is_doubtful: bool,
}

/// How far a reading's time can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeVerdict {
    /// It was measured long before it was received.
    pub is_late: bool,
    /// The device's clock is wrong, and that has not been reported for a while.
    pub is_to_be_told: bool,
}

impl Monitor {
    /// Finds the places of a reading's series and device.
    pub fn locate(&self, device: &str, metric: &str) -> Place {
        let series = self.table.find(device, metric);
        let device = match series {
            Some(index) => Some(self.table.get(index).device),
            None => self.table.devices.find(device),
        };
        Place { series, device, is_doubtful: false }
    }

    /// Replaces the device's time of a reading by the time by which it is judged.
    pub fn judge_time(&mut self, place: &mut Place, reading: &mut Reading<'_>, arrival: Arrival) -> TimeVerdict {
        let (device_ms, received_ms) = (reading.measured_at_ms, reading.received_at_ms);
        // Most clocks are right, and then nothing needs to be kept of them. A reading without a time of its own says nothing of a clock.
        let is_synced = reading.time_quality == TimeQuality::Synced;
        let is_ordinary = device_ms == received_ms
            || is_plausible(device_ms, received_ms) && !self.is_clock_known(*place, reading.device);
        if is_ordinary && is_synced {
            return TimeVerdict::default();
        }
        let heard = Heard { device_ms, received_ms, now_ms: arrival.now_ms, publisher: arrival.publisher, is_synced };
        let clock = self.clock(*place, reading.device, arrival.now_ms);
        let judged = clock.judge(&heard);
        (reading.measured_at_ms, reading.device_time) = (judged.measured_at_ms, judged.device_time);
        let is_to_be_told = judged.device_time.is_some() && clock.is_to_be_told(arrival.now_ms);
        let newest_ms = place.series.and_then(|index| self.table.get(index).series.newest_ms());
        // A series that is already beyond the device's present has its own, later time.
        place.is_doubtful = judged.ahead_of_ms.is_some_and(|present_ms| {
            newest_ms.is_some_and(|newest_ms| newest_ms <= present_ms.saturating_add(AHEAD_MS))
        });
        TimeVerdict { is_late: judged.is_late, is_to_be_told }
    }

    /// Learns the device's clock again from a stored reading, whose time was judged when it came.
    pub fn relearn_clock(&mut self, mut place: Place, reading: &Reading<'_>, arrival: Arrival) {
        // At which pace the readings came is no longer known.
        if reading.time_quality == TimeQuality::Unsynced {
            return;
        }
        let device_ms = reading.device_time.map_or(reading.measured_at_ms, |time| time.device_ms);
        self.judge_time(&mut place, &mut Reading { measured_at_ms: device_ms, ..*reading }, arrival);
    }

    /// Whether a device's clock has been wrong lately, see [`DeviceClock::is_wrong`].
    pub fn is_clock_wrong(&self, device: &str, now_ms: i64) -> bool {
        let watched = self.table.devices.find(device).and_then(|place| self.table.devices.get(place).clock.as_deref());
        watched.or_else(|| self.unwatched_clocks.clocks.get(device)).is_some_and(|clock| clock.is_wrong(now_ms))
    }

    fn is_clock_known(&self, place: Place, device: &str) -> bool {
        match place.device {
            Some(place) => self.table.devices.get(place).clock.is_some(),
            None => self.unwatched_clocks.clocks.contains_key(device),
        }
    }

    fn clock(&mut self, place: Place, device: &str, now_ms: i64) -> &mut DeviceClock {
        let Some(place) = place.device else {
            return self.unwatched_clocks.clock(device, now_ms);
        };
        // The device may have been heard before it had a series.
        let unwatched_clocks = &mut self.unwatched_clocks.clocks;
        self.table
            .devices
            .get_mut(place)
            .clock
            .get_or_insert_with(|| Box::new(unwatched_clocks.remove(device).unwrap_or_default()))
    }
}
