//! How many series each device and client has, and which of them give way when the table is full.
//!
//! While there is room, everybody gets it: one bridge may bring all series of a site. When there is none, a newcomer takes the place of a
//! series that was hardly heard and has fallen silent, or of one that is only lent to a device or client that has more than the newcomer.
//! Lent are series without a history, and those that a device or client has beyond its share. A series with a history within its share
//! never gives way.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::{Arrival, Monitor};
use crate::detection::devices::Publisher;
use crate::detection::silence::Rhythm;

/// A device or client may keep this part of the table: one in so many places.
const SHARE_PART: usize = 8;
/// A series that was hardly heard gives way to anybody after a silence of so long, or of what its own rhythm allows if that is longer.
const GONE_AFTER_MS: i64 = 60_000;
/// So long after a start, restored series that no client has published for count as without a client.
const CLAIMED_AFTER_MS: i64 = 600_000;
/// How often it is worked out which series give way, among how many places, and how many are noted: these bound the work that a flood of
/// newcomers makes.
const LOOK_EVERY_MS: i64 = 1_000;
const LOOKS_MAX: usize = 16_384;
const NOTED_MAX: usize = 1_024;

#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Series of all devices that each client brought.
    clients: HashMap<Publisher, usize>,
    /// Places whose series may give way, in the order in which they do, from the end; as they were found when it was last looked.
    noted: Vec<u32>,
    looked_ms: Option<i64>,
    /// Where to go on looking in a table that is larger than one look.
    hand: usize,
    /// Series that gave way.
    pub displaced: u64,
    /// Device and metric of what was missed when it gave way.
    pub unmissed: Vec<(String, String)>,
    /// Device and metric of what may have had an alert when it gave way.
    pub abandoned: Vec<(String, String)>,
}

impl Shares {
    pub fn hold(&mut self, client: Publisher) {
        *self.clients.entry(client).or_default() += 1;
    }

    pub fn release(&mut self, client: Publisher, count: usize) {
        if let Some(held) = self.clients.get_mut(&client) {
            *held = held.saturating_sub(count);
            if *held == 0 {
                self.clients.remove(&client);
            }
        }
    }

    fn of(&self, client: Publisher) -> usize {
        self.clients.get(&client).copied().unwrap_or(0)
    }
}

impl Monitor {
    /// The first client has published for a restored device: its series now count as that client's.
    pub(super) fn claim(&mut self, place: u32, client: Publisher) {
        let count = self.table.devices.holders(place) as usize;
        let device = self.table.devices.get_mut(place);
        let before = std::mem::replace(&mut device.client, client);
        self.shares.release(before, count);
        *self.shares.clients.entry(client).or_default() += count;
    }

    /// Makes room for a series of this device if another one gives way for it. Returns whether there is room now.
    pub(super) fn displace_for(&mut self, device: &str, arrival: Arrival) -> bool {
        let Arrival { now_ms, publisher } = arrival;
        // A replay comes from no client, and nothing gives way for it: that was decided when the readings first came.
        if publisher == 0 {
            return false;
        }
        if self.shares.looked_ms.is_none_or(|looked_ms| now_ms >= looked_ms.saturating_add(LOOK_EVERY_MS)) {
            self.shares.looked_ms = Some(now_ms);
            self.note_who_gives_way(now_ms);
        }
        let place = self.table.devices.find(device);
        let client = place.map_or(publisher, |place| self.table.devices.get(place).client);
        let of_device = place.map_or(0, |place| self.table.devices.holders(place) as usize);
        let load = of_device.max(self.shares.of(client));
        while let Some(&index) = self.shares.noted.last() {
            let index = index as usize;
            let is_there = self.table.is_used(index);
            if is_there && !self.gives_way(index, now_ms, load) {
                // Those noted before it are of smaller holders, or it was heard again: the next look will tell.
                return false;
            }
            self.shares.noted.pop();
            if is_there {
                self.displace(index);
                return true;
            }
        }
        false
    }

    fn displace(&mut self, index: usize) {
        self.shares.displaced += 1;
        let (device, metric) = self.table.name_of(index);
        if self.rhythms[index].is_silent {
            self.shares.unmissed.push((device.to_owned(), metric.to_owned()));
        }
        if self.rhythms[index].may_have_alert {
            self.shares.abandoned.push((device.to_owned(), metric.to_owned()));
        }
        let place = self.table.get(index).device;
        if self.table.devices.holders(place) == 1 && self.table.devices.get(place).rhythm.is_silent {
            self.shares.unmissed.push((device.to_owned(), super::DEVICE_METRIC.to_owned()));
        }
        self.forget(index);
    }

    fn note_who_gives_way(&mut self, now_ms: i64) {
        let places = self.table.places();
        let looks = places.min(LOOKS_MAX);
        let mut found = Vec::new();
        for step in 0..looks {
            let index = (self.shares.hand + step) % places;
            if !self.table.is_used(index) {
                continue;
            }
            let (is_gone, load) = (self.is_gone(index, now_ms), self.load_of(index, now_ms));
            if is_gone || self.is_lent(index, load) {
                let Rhythm { arrivals, heard_ms, .. } = self.rhythms[index];
                found.push((Reverse(is_gone), Reverse(load), arrivals, heard_ms, index as u32));
            }
        }
        self.shares.hand = if places == 0 { 0 } else { (self.shares.hand + looks) % places };
        found.sort_unstable();
        found.truncate(NOTED_MAX);
        self.shares.noted = found.into_iter().rev().map(|(.., index)| index).collect();
    }

    fn gives_way(&self, index: usize, now_ms: i64, load: usize) -> bool {
        let load_of_it = self.load_of(index, now_ms);
        self.is_gone(index, now_ms) || self.is_lent(index, load_of_it) && load_of_it > load + 1
    }

    fn is_gone(&self, index: usize, now_ms: i64) -> bool {
        let rhythm = &self.rhythms[index];
        let silent_ms = now_ms.saturating_sub(rhythm.silent_from_ms(self.listening_ms));
        !rhythm.has_history() && silent_ms > GONE_AFTER_MS.max(rhythm.limit_ms() as i64)
    }

    fn is_lent(&self, index: usize, load: usize) -> bool {
        !self.rhythms[index].has_history() || load > (self.settings.series_max / SHARE_PART).max(1)
    }

    /// How many series its device has, or its client, whichever is more.
    fn load_of(&self, index: usize, now_ms: i64) -> usize {
        let place = self.table.get(index).device;
        let client = self.table.devices.get(place).client;
        // After a start no client has published for them yet. They count as without a client only when it is clear that none will.
        let is_known = client != 0 || now_ms >= self.listening_ms.saturating_add(CLAIMED_AFTER_MS);
        let of_client = if is_known { self.shares.of(client) } else { 0 };
        of_client.max(self.table.devices.holders(place) as usize)
    }

    /// The device with the most series, to be named where there are too many; `None` without any series.
    pub fn largest_device(&self) -> Option<&str> {
        let largest = self.table.devices.places().max_by_key(|&place| self.table.devices.holders(place))?;
        Some(self.table.devices.name(largest))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Missed, MonitorSettings};
    use super::*;
    use crate::detection::alert::Moment;
    use crate::detection::detectors::{Findings, Verdict};
    use crate::reading::Reading;

    const SERIES_MAX: usize = 80;

    struct Table {
        monitor: Monitor,
        findings: Findings,
    }

    impl Table {
        fn new() -> Table {
            let settings = MonitorSettings { series_max: SERIES_MAX, ..MonitorSettings::default() };
            Table { monitor: Monitor::new(settings), findings: Findings::default() }
        }

        fn hear(&mut self, client: Publisher, device: &str, metric: &str, second: i64) -> bool {
            let reading = Reading::at(second * 1000, device, metric, 20.0);
            let arrival = Arrival { now_ms: second * 1000, publisher: client };
            self.monitor.judge(&reading, arrival, &mut self.findings) != Verdict::Unwatched
        }

        /// A device that has a history by now, at `second`.
        fn settle(&mut self, client: Publisher, device: &str, metrics: usize, second: i64) {
            for past in (0..=20).rev() {
                for number in 0..metrics {
                    assert!(self.hear(client, device, &format!("m{number}"), second - past * 40));
                }
            }
        }

        fn has(&self, device: &str, metric: &str) -> bool {
            self.monitor.index_of(device, metric).is_some()
        }

        fn count_of(&self, device: &str) -> usize {
            (0..4 * SERIES_MAX).filter(|number| self.has(device, &format!("m{number}"))).count()
        }

        fn restarted(&self, second: i64) -> Table {
            let mut table = Table::new();
            let now = Moment { wall_ms: second * 1000, steady_ms: second as u64 * 1000 };
            table.monitor.listen_from(second * 1000);
            for chunk in 0..self.monitor.snapshot_chunks() {
                table.monitor.restore(&self.monitor.snapshot_chunk(chunk, second * 1000), now).expect("a chunk");
            }
            table
        }
    }

    #[test]
    fn one_device_that_floods_the_table_leaves_room_for_others() {
        let mut table = Table::new();
        let watched = (0..2 * SERIES_MAX).filter(|number| table.hear(1, "flood", &format!("m{number}"), 1)).count();
        assert_eq!(watched, SERIES_MAX, "while there is room everybody gets it");
        assert_eq!(table.monitor.displaced_series(), 0, "nobody displaces himself");
        for number in 0..30 {
            assert!(table.hear(2, "truck", &format!("m{number}"), 3), "{number}");
        }
        assert_eq!((table.count_of("truck"), table.count_of("flood")), (30, SERIES_MAX - 30));
        assert_eq!((table.monitor.series_count(), table.monitor.displaced_series()), (SERIES_MAX, 30));
        // Those who were sent away do not come back at others' cost.
        (0..2 * SERIES_MAX).for_each(|number| _ = table.hear(1, "flood", &format!("m{number}"), 5));
        assert_eq!((table.count_of("truck"), table.monitor.displaced_series()), (30, 30));
    }

    #[test]
    fn one_client_with_many_devices_leaves_room_for_others() {
        let mut table = Table::new();
        (0..2 * SERIES_MAX).for_each(|number| _ = table.hear(1, &format!("d{number}"), "t", 1));
        assert!((0..30).all(|number| table.hear(2, &format!("truck{number}"), "t", 3)));
        // Of as many as the client of the flood has there is no more to be had than half.
        let more = (30..SERIES_MAX).filter(|number| table.hear(2, &format!("truck{number}"), "t", 3)).count();
        assert_eq!(30 + more, SERIES_MAX / 2);
    }

    #[test]
    fn a_series_with_a_history_is_not_displaced_by_newcomers() {
        let mut table = Table::new();
        table.settle(1, "truck", 10, 1_000);
        // Also of clients that have nothing yet.
        for number in 0..10 * SERIES_MAX {
            table.hear(2 + number as u64, &format!("d{number}"), "t", 1_001 + number as i64);
        }
        assert_eq!(table.count_of("truck"), 10);
        // The control: without a history they give way once they are silent.
        let mut table = Table::new();
        (0..10).for_each(|number| _ = table.hear(1, "truck", &format!("m{number}"), 1_000));
        for number in 0..10 * SERIES_MAX {
            table.hear(2 + number as u64, &format!("d{number}"), "t", 1_001 + number as i64);
        }
        assert_eq!(table.count_of("truck"), 0);
    }

    #[test]
    fn what_was_heard_a_few_times_gives_way_to_whoever_goes_on_reporting() {
        let mut table = Table::new();
        // Each from a client of its own: none has more than the newcomer.
        (0..SERIES_MAX).for_each(|number| _ = table.hear(1 + number as u64, &format!("d{number}"), "t", 1));
        let tries: Vec<i64> = (2..100).filter(|&second| table.hear(1_000, "new", "m0", second)).collect();
        assert_eq!(tries.first(), Some(&62), "a minute is given to all");
        assert_eq!(tries.len(), 100 - 62);
        let mut table = table.restarted(200);
        assert!(!table.hear(2_000, "newer", "m0", 201), "that we were away is no silence");
        assert!(table.hear(2_000, "newer", "m0", 265));
    }

    #[test]
    fn a_history_protects_no_more_than_a_share() {
        let mut table = Table::new();
        table.settle(1, "plant", SERIES_MAX, 1_000);
        let heard = |table: &mut Table, second| {
            (0..SERIES_MAX).filter(|n| table.hear(2, "b", &format!("m{n}"), second)).count()
        };
        // Who has as much loses nothing more.
        assert_eq!(heard(&mut table, 1_001), SERIES_MAX / 2);
        let mut table = Table::new();
        for client in 1..=8 {
            table.settle(client, &format!("plant{client}"), SERIES_MAX / SHARE_PART, 1_000);
        }
        assert_eq!(heard(&mut table, 1_100), 0, "everybody is within his share");
    }

    #[test]
    fn what_gives_way_while_it_is_missed_is_told() {
        let mut table = Table::new();
        (0..SERIES_MAX).for_each(|number| _ = table.hear(1, &format!("d{number}"), "t", 1));
        (2..15).for_each(|second| _ = table.hear(1, "d0", "t", second));
        let mut missed = Vec::new();
        table.monitor.tick(80_000, |what| missed.push(what));
        assert!(matches!(missed[..], [Missed::Device(_)]));
        assert_eq!((0..SERIES_MAX).filter(|n| table.hear(2, &format!("e{n}"), "t", 81)).count(), SERIES_MAX);
        assert_eq!(table.monitor.take_unmissed(), [("d0".to_owned(), super::super::DEVICE_METRIC.to_owned())]);
    }
}
