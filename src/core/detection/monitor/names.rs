//! Names that many series share, each kept once with what is known of it, and forgotten with the last series that needs it.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

#[derive(Debug)]
struct Named<T> {
    name: Box<str>,
    holders: u32,
    what: T,
}

#[derive(Debug)]
pub(super) struct Names<T> {
    list: Vec<Option<Named<T>>>,
    vacant: Vec<u32>,
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        let (places, hasher) = (HashTable::new(), DefaultHashBuilder::default());
        Names { list: Vec::new(), vacant: Vec::new(), places, hasher }
    }
}

impl<T> Names<T> {
    pub fn find(&self, name: &str) -> Option<u32> {
        let is_it = |&place: &u32| *named(&self.list, place).name == *name;
        self.places.find(self.hasher.hash_one(name), is_it).copied()
    }

    pub fn name(&self, place: u32) -> &str {
        &named(&self.list, place).name
    }

    /// Series that have this name.
    pub fn holders(&self, place: u32) -> u32 {
        named(&self.list, place).holders
    }

    /// Places of the names in use.
    pub fn places(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.list).filter_map(|(place, named)| named.as_ref().map(|_| place))
    }

    pub fn get(&self, place: u32) -> &T {
        &named(&self.list, place).what
    }

    pub fn get_mut(&mut self, place: u32) -> &mut T {
        &mut self.list[place as usize].as_mut().expect("a place in use").what
    }

    /// What is known of each name, with its place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        (0..).zip(&mut self.list).filter_map(|(place, named)| Some((place, &mut named.as_mut()?.what)))
    }

    /// One more series has this name.
    pub fn hold(&mut self, name: &str, what: impl FnOnce() -> T) -> u32 {
        if let Some(place) = self.find(name) {
            self.list[place as usize].as_mut().expect("just found").holders += 1;
            return place;
        }
        let named_new = Some(Named { name: name.into(), holders: 1, what: what() });
        let place = match self.vacant.pop() {
            Some(place) => {
                self.list[place as usize] = named_new;
                place
            }
            None => {
                super::reserve(&mut self.list);
                self.list.push(named_new);
                u32::try_from(self.list.len() - 1).expect("as many as series at the most")
            }
        };
        let (list, hasher) = (&self.list, &self.hasher);
        let hash_of = |place: &u32| hasher.hash_one(&*named(list, *place).name);
        self.places.insert_unique(hasher.hash_one(name), place, hash_of);
        place
    }

    /// One series fewer has this name.
    pub fn release(&mut self, place: u32) {
        let named = self.list[place as usize].as_mut().expect("a place in use");
        named.holders -= 1;
        if named.holders > 0 {
            return;
        }
        let hash = self.hasher.hash_one(&*named.name);
        let found = self.places.find_entry(hash, |other| *other == place);
        found.expect("whatever is in use is found").remove();
        self.list[place as usize] = None;
        self.vacant.push(place);
    }
}

fn named<T>(list: &[Option<Named<T>>], place: u32) -> &Named<T> {
    list[place as usize].as_ref().expect("a place in use")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lives_as_long_as_somebody_holds_it() {
        let mut names = Names::default();
        let (a, b) = (names.hold("a", || 1), names.hold("b", || 2));
        assert_eq!(names.hold("a", || 9), a);
        assert_eq!((names.find("a"), *names.get(a), names.name(b)), (Some(a), 1, "b"));
        names.release(a);
        assert_eq!(names.find("a"), Some(a));
        names.release(a);
        assert_eq!(names.find("a"), None);
        assert_eq!(names.hold("c", || 3), a, "its place is used again");
        let places: Vec<u32> = names.iter_mut().map(|(place, _)| place).collect();
        assert_eq!((places, names.find("b")), (vec![a, b], Some(b)));
    }
}
