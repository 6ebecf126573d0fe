//! A reader of files with its store, for tests.

use std::collections::{BTreeMap, VecDeque};

use super::model::{Opened, View};
use super::{FileId, Follower, Framing, GenerationNumber, Mark, Place, PlaceChange, Settings};

/// On its way to the store.
enum Submission {
    Portion { number: GenerationNumber, mark: Mark, place: Place, lines: Vec<String> },
    Changes(Vec<PlaceChange>),
}

/// A reader with its store.
pub struct Reader {
    pub view: View,
    pub settings: Settings,
    pub follower: Follower<Opened>,
    pub places: BTreeMap<GenerationNumber, Place>,
    pub stored: Vec<String>,
    submissions: VecDeque<Submission>,
    pub now_ms: i64,
    /// For a control: places are stored one commit late.
    pub stores_places_late: bool,
    late: Vec<(GenerationNumber, Place)>,
}

impl Reader {
    pub fn new(view: View, settings: Settings) -> Reader {
        let follower = Follower::new(settings.clone(), [], 0);
        let (places, submissions) = (BTreeMap::new(), VecDeque::new());
        let (stored, late) = (Vec::new(), Vec::new());
        Reader { view, settings, follower, places, stored, submissions, now_ms: 0, stores_places_late: false, late }
    }

    pub fn look(&mut self) {
        self.follower.look(self.now_ms, &mut self.view).expect("it can be listed");
        let changes = self.follower.take_changes();
        self.submissions.push_back(Submission::Changes(changes));
    }

    pub fn read(&mut self, portions: usize) {
        for _ in 0..portions {
            let Some(portion) = self.follower.read(self.now_ms, &mut self.view) else { break };
            let lines = portion.lines().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            let (number, mark, place) = (portion.number, portion.mark, portion.place);
            self.submissions.push_back(Submission::Portion { number, mark, place, lines });
        }
    }

    pub fn commit(&mut self, count: usize, is_heard: bool) {
        for _ in 0..count {
            match self.submissions.pop_front() {
                None => break,
                Some(Submission::Portion { number, mark, place, lines }) => {
                    self.stored.extend(lines);
                    let earlier = std::mem::replace(&mut self.late, vec![(number, place)]);
                    self.places.extend(if self.stores_places_late { earlier } else { std::mem::take(&mut self.late) });
                    if is_heard {
                        self.follower.committed(number, mark);
                    }
                }
                Some(Submission::Changes(changes)) => {
                    for PlaceChange { number, place } in changes {
                        match place {
                            Some(place) => drop(self.places.insert(number, place)),
                            None => drop(self.places.remove(&number)),
                        }
                    }
                }
            }
        }
    }

    pub fn refuse(&mut self) {
        for submission in self.submissions.drain(..).rev() {
            if let Submission::Changes(changes) = submission {
                self.follower.return_changes(changes);
            }
        }
        self.follower.rewind();
    }

    pub fn kill(&mut self) {
        self.submissions.clear();
        self.late.clear();
        let is_of =
            |mark: &Mark, bytes: &[u8]| bytes.get(..mark.head.bytes()).is_some_and(|head| mark.head.is_of(head));
        let has_place = |file: &FileId, bytes: &[u8]| {
            self.places.values().any(|place| place.file == *file && is_of(&place.mark, bytes))
        };
        self.view.0.borrow_mut().kill(has_place);
        self.view.0.borrow_mut().is_killing = true;
        let places = self.places.clone();
        self.follower = Follower::new(self.settings.clone(), places, self.now_ms);
        self.view.0.borrow_mut().is_killing = false;
    }

    pub fn pass(&mut self, ms: i64) {
        // No writer leaves a line half written for longer than `idle`.
        self.view.0.borrow_mut().finish_halves();
        self.now_ms += ms;
        self.view.0.borrow_mut().now_ns += ms * 1_000_000;
    }

    /// Looks and reads until everything is stored and every grace is over.
    pub fn finish(&mut self) {
        while !self.view.0.borrow().planned.is_empty() {
            self.look();
        }
        for _ in 0..24 {
            self.look();
            self.read(usize::MAX);
            self.commit(usize::MAX, true);
            self.pass(3_000);
        }
    }
}

pub fn settings() -> Settings {
    Settings { line_bytes_max: 40, turn_bytes: 50, remember_deleted_ms: 60_000, ..Settings::new(Framing::Lines) }
}
