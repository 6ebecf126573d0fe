//! Generations by what the system calls their files and by family, so that nothing grows with the square of their number outside a family.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::generation::Generation;
use super::identity::FileId;
use super::place::GenerationNumber;

/// All generations.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: HashMap<(u64, u64), BTreeSet<GenerationNumber>>,
    families: HashMap<Arc<str>, BTreeSet<GenerationNumber>>,
}

impl Index {
    pub fn insert<H>(&mut self, one: &Generation<H>) {
        self.files.entry(key(&one.file)).or_default().insert(one.number);
        self.families.entry(Arc::clone(&one.name.family)).or_default().insert(one.number);
    }

    pub fn remove<H>(&mut self, one: &Generation<H>) {
        remove(&mut self.files, &key(&one.file), one.number);
        remove(&mut self.families, &one.name.family, one.number);
    }

    /// Those of one device and inode, the latest first.
    pub fn of_file(&self, file: &FileId) -> impl Iterator<Item = GenerationNumber> + '_ {
        self.files.get(&key(file)).into_iter().flatten().rev().copied()
    }

    /// Those of one family, the latest first.
    pub fn of_family(&self, family: &str) -> impl Iterator<Item = GenerationNumber> + '_ {
        self.families.get(family).into_iter().flatten().rev().copied()
    }
}

fn key(file: &FileId) -> (u64, u64) {
    (file.device, file.inode)
}

fn remove<K: std::hash::Hash + Eq + Clone>(
    sets: &mut HashMap<K, BTreeSet<GenerationNumber>>,
    key: &K,
    number: GenerationNumber,
) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(&number);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

/// Generations that may have something to be read.
#[derive(Debug, Default)]
pub(super) struct Ready {
    all: BTreeMap<GenerationNumber, Arc<str>>,
    families: HashMap<Arc<str>, BTreeSet<GenerationNumber>>,
    packed: BTreeSet<GenerationNumber>,
}

impl Ready {
    pub fn insert<H>(&mut self, one: &Generation<H>) {
        self.remove(one.number);
        self.all.insert(one.number, Arc::clone(&one.name.family));
        self.families.entry(Arc::clone(&one.name.family)).or_default().insert(one.number);
        if one.packed.is_some() {
            self.packed.insert(one.number);
        }
    }

    pub fn remove(&mut self, number: GenerationNumber) {
        if let Some(family) = self.all.remove(&number) {
            remove(&mut self.families, &family, number);
            self.packed.remove(&number);
        }
    }

    pub fn contains(&self, number: GenerationNumber) -> bool {
        self.all.contains_key(&number)
    }

    /// All of them, in a circle that begins after this one.
    pub fn after(&self, number: GenerationNumber) -> impl Iterator<Item = GenerationNumber> + '_ {
        let after = self.all.range((std::ops::Bound::Excluded(number), std::ops::Bound::Unbounded));
        after.chain(self.all.range(..=number)).map(|(number, _)| *number)
    }

    /// Those of one family, the earliest first.
    pub fn of_family(&self, family: &str) -> impl Iterator<Item = GenerationNumber> + '_ {
        self.families.get(family).into_iter().flatten().copied()
    }

    /// Those that are compressed, the earliest first.
    pub fn packed(&self) -> impl Iterator<Item = GenerationNumber> + '_ {
        self.packed.iter().copied()
    }
}
