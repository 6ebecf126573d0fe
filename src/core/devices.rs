//! Which devices are there, and which of them are silent, or asleep.
//!
//! A device that goes away takes all its series with it: that is one thing to tell, not one for each of them. A device whose client took
//! its leave is asleep, and nobody misses it.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use super::past::Past;
use super::silence::Rhythm;

/// Who published: a connection of a client. 0 is nobody.
pub type Publisher = u64;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Device {
    name: Box<str>,
    pub rhythm: Rhythm,
    /// Series are not missed that have not spoken since.
    pub woke_ms: i64,
    pub publisher: Publisher,
    pub is_asleep: bool,
    /// Whether silence of any of its series is trouble.
    pub has_gaps: bool,
    pub past: Past,
}

/// At most as many as there are series.
#[derive(Debug, Default)]
pub(super) struct Devices {
    list: Vec<Device>,
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Devices {
    pub fn find(&self, name: &str) -> Option<u32> {
        let is_it = |&place: &u32| *self.list[place as usize].name == *name;
        self.places.find(self.hasher.hash_one(name), is_it).copied()
    }

    /// The place of a device, a new one if it is not known.
    pub fn place(&mut self, name: &str) -> u32 {
        if let Some(place) = self.find(name) {
            return place;
        }
        let place = u32::try_from(self.list.len()).expect("as many as series at the most");
        self.list.push(Device {
            name: name.into(),
            rhythm: Rhythm::NEW,
            woke_ms: i64::MIN,
            publisher: 0,
            is_asleep: false,
            has_gaps: false,
            past: Past::NONE,
        });
        let (list, hasher) = (&self.list, &self.hasher);
        let hash_of = |place: &u32| hasher.hash_one(&*list[*place as usize].name);
        self.places.insert_unique(hasher.hash_one(name), place, hash_of);
        place
    }

    pub fn len(&self) -> u32 {
        self.list.len() as u32
    }

    pub fn get(&self, place: u32) -> &Device {
        &self.list[place as usize]
    }

    pub fn get_mut(&mut self, place: u32) -> &mut Device {
        &mut self.list[place as usize]
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Device> {
        self.list.iter_mut()
    }
}

impl Device {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One of its readings has arrived. Returns whether that ends a silence that was noticed.
    pub fn hear(&mut self, now_ms: i64, publisher: Publisher) -> bool {
        self.publisher = publisher;
        if self.is_asleep {
            self.rhythm.rest_until(now_ms);
        }
        let was_silent = self.rhythm.hear(now_ms);
        if was_silent || self.is_asleep {
            self.woke_ms = now_ms;
        }
        self.is_asleep = false;
        was_silent
    }

    pub fn falls_silent(&mut self, now_ms: i64) -> bool {
        self.has_gaps && !self.is_asleep && self.rhythm.falls_silent(now_ms)
    }
}
