//! Every whole line exactly once, whatever a writer does to its files and whenever the reader is killed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::model::{Action, Opened, View};
use super::{Counts, Follower, Framing, GenerationNumber, Mark, Place, PlaceChange, Settings};

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, Action),
    /// In the middle of whatever the reader does next, after so many calls.
    WriteDuring(usize, Action, u32),
    Look,
    Read(u8),
    Commit(u8),
    /// What is on its way to the store is refused.
    Refuse,
    /// Some of what is on its way is stored, and the process is killed.
    Kill(u8),
    Pass(u16),
}

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
    places: BTreeMap<GenerationNumber, Place>,
    pub stored: Vec<String>,
    submissions: VecDeque<Submission>,
    pub now_ms: i64,
    /// Of earlier lives.
    pub told: Counts,
}

impl Reader {
    pub fn new(view: View, settings: Settings) -> Reader {
        let follower = Follower::new(settings.clone(), [], 0);
        let (places, submissions) = (BTreeMap::new(), VecDeque::new());
        let (stored, told) = (Vec::new(), Counts::default());
        Reader { view, settings, follower, places, stored, submissions, now_ms: 0, told }
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
                    self.places.insert(number, place);
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
        self.view.0.borrow_mut().is_killing = true;
        self.told.cuts += self.follower.counts().cuts;
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

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write(base, action) => self.view.0.borrow_mut().act(base, action),
            Step::WriteDuring(base, action, calls) => {
                self.view.0.borrow_mut().planned.push_back((calls, base, action));
            }
            Step::Look => self.look(),
            Step::Read(portions) => self.read(usize::from(portions)),
            Step::Commit(count) => self.commit(usize::from(count), true),
            Step::Refuse => self.refuse(),
            Step::Kill(count) => {
                self.commit(usize::from(count), false);
                self.kill();
            }
            Step::Pass(ms) => self.pass(i64::from(ms)),
        }
    }
}

pub fn settings() -> Settings {
    Settings { line_bytes_max: 40, turn_bytes: 50, ..Settings::new(Framing::Lines) }
}

/// What went wrong, in words.
fn verdict(reader: &Reader) -> Result<(), String> {
    let disk = reader.view.0.borrow();
    let mut stored = BTreeSet::new();
    for line in &reader.stored {
        if !stored.insert(line.clone()) {
            return Err(format!("{line} is stored twice"));
        }
        if !disk.written.contains(line) {
            return Err(format!("{line} was never written"));
        }
    }
    let missing: Vec<_> = disk.written.iter().filter(|line| !stored.contains(*line) && !disk.lost.contains(*line)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are missing")) }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1..6_u8).prop_map(Action::Append),
        1 => Just(Action::Half),
        2 => Just(Action::Rename),
        2 => (0..3_u8).prop_map(Action::CopyTruncate),
        1 => Just(Action::DeleteCreate),
        1 => Just(Action::Late),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2_usize, action()).prop_map(|(base, action)| Step::Write(base, action)),
        2 => (0..2_usize, action(), 0..12_u32).prop_map(|(base, action, calls)| Step::WriteDuring(base, action, calls)),
        6 => Just(Step::Look),
        6 => (1..6_u8).prop_map(Step::Read),
        4 => (1..6_u8).prop_map(Step::Commit),
        1 => Just(Step::Refuse),
        1 => (0..4_u8).prop_map(Step::Kill),
        3 => (1..6_000_u16).prop_map(Step::Pass),
    ]
}

fn run(steps: &[Step], tells_births: bool, open_max: usize) -> Reader {
    let view = View::default();
    view.0.borrow_mut().tells_births = tells_births;
    view.0.borrow_mut().is_narrow = open_max < 100;
    let mut reader = Reader::new(view, Settings { open_max, ..settings() });
    for step in steps {
        reader.step(step);
    }
    reader.view.0.borrow_mut().finish_halves();
    reader.finish();
    reader
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_whole_line_is_stored_exactly_once(steps in prop::collection::vec(step(), 1..80), tells_births in any::<bool>()) {
        let verdict = verdict(&run(&steps, tells_births, 100));
        prop_assert!(verdict.is_ok(), "{verdict:?}");
    }

    #[test]
    fn the_same_with_hardly_any_file_open(steps in prop::collection::vec(step(), 1..80), tells_births in any::<bool>()) {
        let verdict = verdict(&run(&steps, tells_births, 1));
        prop_assert!(verdict.is_ok(), "{verdict:?}");
    }
}
