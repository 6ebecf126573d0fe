//! What the broker acknowledged, counted on the devices' side, by device, metric and sequence number.

use crate::sequences::SequenceSet;
use crate::vehicle::Metric;
use std::sync::{Arc, Mutex, MutexGuard};

/// Acknowledged readings of one device: for each metric, the sequence numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAcknowledged {
    pub device: String,
    sequences: [SequenceSet; Metric::ALL.len()],
}

impl DeviceAcknowledged {
    /// Sequence numbers at which a reading of this metric was acknowledged.
    pub fn sequences(&self, metric: Metric) -> &SequenceSet {
        &self.sequences[metric.index()]
    }

    pub fn readings(&self) -> u64 {
        self.sequences.iter().map(SequenceSet::count).sum()
    }
}

/// A shared ledger; clones share the same data. Its lock is never held across an await.
#[derive(Clone, Debug)]
pub struct Acknowledged(Arc<Mutex<Totals>>);

#[derive(Debug)]
struct Totals {
    devices: Vec<DeviceAcknowledged>,
    publishes: u64,
    readings: u64,
    repeats: u64,
}

impl Acknowledged {
    pub fn new(devices: impl IntoIterator<Item = String>) -> Self {
        let devices =
            devices.into_iter().map(|device| DeviceAcknowledged { device, sequences: Default::default() }).collect();
        Acknowledged(Arc::new(Mutex::new(Totals { devices, publishes: 0, readings: 0, repeats: 0 })))
    }

    /// Records that these samples of the device at this index were acknowledged in one publish; for users other than a
    /// [`crate::fleet::Fleet`].
    pub fn acknowledge(
        &self,
        device: usize,
        sequences: impl IntoIterator<Item = u64>,
        metrics: impl IntoIterator<Item = Metric>,
    ) {
        let metrics = MetricSet::of(metrics);
        let readings: Vec<_> = sequences.into_iter().map(|sequence| (sequence, metrics)).collect();
        self.note(device, &readings);
    }

    /// Records an acknowledged publish of the device at this index of the list given to [`Acknowledged::new`].
    pub(crate) fn note(&self, device: usize, readings: &[(u64, MetricSet)]) {
        let mut totals = self.lock();
        let (mut fresh, mut repeats) = (0, 0);
        for &(sequence, metrics) in readings {
            for metric in metrics.iter() {
                match totals.devices[device].sequences[metric.index()].insert(sequence) {
                    true => fresh += 1,
                    false => repeats += 1,
                }
            }
        }
        totals.publishes += 1;
        totals.readings += fresh;
        totals.repeats += repeats;
    }

    /// Publishes acknowledged so far, over all devices. PUBACKs of unknown publishes do not count.
    pub fn publishes(&self) -> u64 {
        self.lock().publishes
    }

    /// Distinct readings acknowledged so far, over all devices.
    pub fn readings(&self) -> u64 {
        self.lock().readings
    }

    /// Readings acknowledged a second time. Zero, unless a publish was acknowledged twice.
    pub fn repeats(&self) -> u64 {
        self.lock().repeats
    }

    /// A copy of everything acknowledged so far, in order of the devices.
    pub fn devices(&self) -> Vec<DeviceAcknowledged> {
        self.lock().devices.clone()
    }

    /// Whether this reading was acknowledged.
    pub fn contains(&self, device: &str, metric: Metric, sequence: u64) -> bool {
        let totals = self.lock();
        let device = totals.devices.iter().find(|known| known.device == device);
        device.is_some_and(|known| known.sequences(metric).contains(sequence))
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.0.lock().expect("nothing panics while it holds the ledger")
    }
}

/// Which metrics a publish carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MetricSet(u8);

impl MetricSet {
    pub fn of(metrics: impl IntoIterator<Item = Metric>) -> Self {
        MetricSet(metrics.into_iter().fold(0, |bits, metric| bits | 1 << metric.index()))
    }

    pub fn iter(self) -> impl Iterator<Item = Metric> {
        Metric::ALL.into_iter().filter(move |metric| self.0 & (1 << metric.index()) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_count_once_each() {
        let ledger = Acknowledged::new(["truck-01".to_owned(), "truck-02".to_owned()]);
        let all = MetricSet::of(Metric::ALL);
        ledger.note(1, &[(1, all), (2, MetricSet::of([Metric::Speed]))]);
        ledger.note(1, &[(1, MetricSet::of([Metric::Speed, Metric::Latitude]))]);
        assert_eq!((ledger.publishes(), ledger.readings(), ledger.repeats()), (2, 6, 2));
        assert!(ledger.contains("truck-02", Metric::Speed, 2));
        assert!(!ledger.contains("truck-02", Metric::Latitude, 2));
        assert!(!ledger.contains("truck-01", Metric::Speed, 2));
        let devices = ledger.devices();
        assert_eq!((devices[0].readings(), devices[1].readings()), (0, 6));
        assert_eq!(devices[1].sequences(Metric::Speed).ranges().collect::<Vec<_>>(), [1..=2]);
    }
}
