//! Which series there are: a slab, found by device and metric. A series keeps its place as long as it lives; the place of one that left
//! is given to the next that comes.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::names::Names;
use crate::detection::detectors::series::Series;
use crate::detection::devices::Device;

#[derive(Debug)]
pub(super) struct Entry {
    pub device: u32,
    pub metric: u32,
    pub series: Series,
}

/// What a new series is.
pub(super) struct Newcomer<'a> {
    pub device: &'a str,
    pub metric: &'a str,
    /// Number of its rule in the table of profiles.
    pub rule: u8,
    pub series: Series,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    entries: Vec<Option<Entry>>,
    vacant: Vec<u32>,
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
    pub devices: Names<Device>,
    /// The rule of each metric.
    pub metrics: Names<u8>,
}

impl Table {
    /// Number of series.
    pub fn count(&self) -> usize {
        self.entries.len() - self.vacant.len()
    }

    /// Number of places, in use or not.
    pub fn places(&self) -> usize {
        self.entries.len()
    }

    pub fn find(&self, device: &str, metric: &str) -> Option<usize> {
        let hash = self.hasher.hash_one((device, metric));
        let is_it = |&place: &u32| self.name_of(place as usize) == (device, metric);
        self.places.find(hash, is_it).map(|&place| place as usize)
    }

    pub fn get(&self, index: usize) -> &Entry {
        entry(&self.entries, index)
    }

    pub fn get_mut(&mut self, index: usize) -> &mut Entry {
        self.entries[index].as_mut().expect("a place in use")
    }

    pub fn is_used(&self, index: usize) -> bool {
        self.entries.get(index).is_some_and(Option::is_some)
    }

    /// The series in a range of places.
    pub fn range(&self, places: std::ops::Range<usize>) -> impl Iterator<Item = (usize, &Entry)> {
        places.clone().zip(&self.entries[places]).filter_map(|(index, entry)| Some((index, entry.as_ref()?)))
    }

    pub fn name_of(&self, index: usize) -> (&str, &str) {
        let entry = self.get(index);
        (self.devices.name(entry.device), self.metrics.name(entry.metric))
    }

    pub fn rule_of(&self, index: usize) -> u8 {
        *self.metrics.get(self.get(index).metric)
    }

    pub fn device_of(&self, index: usize) -> &Device {
        self.devices.get(self.get(index).device)
    }

    /// Adds a series that is not there yet; returns its place.
    pub fn add(&mut self, newcomer: Newcomer<'_>) -> usize {
        let Newcomer { device, metric, rule, series } = newcomer;
        let hash = self.hasher.hash_one((device, metric));
        let device = self.devices.hold(device, || Device::NEW);
        let metric = self.metrics.hold(metric, || rule);
        let new = Some(Entry { device, metric, series });
        let place = match self.vacant.pop() {
            Some(place) => {
                self.entries[place as usize] = new;
                place
            }
            None => {
                super::reserve(&mut self.entries);
                self.entries.push(new);
                u32::try_from(self.entries.len() - 1).expect("bounded by the cap on series")
            }
        };
        let Table { entries, places, hasher, devices, metrics, .. } = self;
        let hash_of = |place: &u32| {
            let entry = entry(entries, *place as usize);
            hasher.hash_one((devices.name(entry.device), metrics.name(entry.metric)))
        };
        places.insert_unique(hash, place, hash_of);
        place as usize
    }

    pub fn remove(&mut self, index: usize) {
        let hash = self.hasher.hash_one(self.name_of(index));
        let found = self.places.find_entry(hash, |place| *place as usize == index);
        found.expect("whatever is in use is found").remove();
        let entry = self.entries[index].take().expect("a place in use");
        self.devices.release(entry.device);
        self.metrics.release(entry.metric);
        self.vacant.push(index as u32);
    }
}

fn entry(entries: &[Option<Entry>], index: usize) -> &Entry {
    entries[index].as_ref().expect("a place in use")
}
