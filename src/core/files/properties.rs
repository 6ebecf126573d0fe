//! Every whole line exactly once, whatever a writer does to its files and whenever the reader is killed.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::Settings;
use super::model::{Action, View};
use super::reader::{Reader, settings};

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

fn take(reader: &mut Reader, step: &Step) {
    match *step {
        Step::Write(base, action) => reader.view.0.borrow_mut().act(base, action),
        Step::WriteDuring(base, action, calls) => {
            reader.view.0.borrow_mut().planned.push_back((calls, base, action));
        }
        Step::Look => reader.look(),
        Step::Read(portions) => reader.read(usize::from(portions)),
        Step::Commit(count) => reader.commit(usize::from(count), true),
        Step::Refuse => reader.refuse(),
        Step::Kill(count) => {
            reader.commit(usize::from(count), false);
            reader.kill();
        }
        Step::Pass(ms) => reader.pass(i64::from(ms)),
    }
}

/// What went wrong, in words.
fn verdict(reader: &Reader) -> Result<(), String> {
    let disk = reader.view.0.borrow();
    let mut stored = BTreeSet::new();
    for line in &reader.stored {
        if !stored.insert(line.clone()) && !disk.perhaps_twice.contains(line) {
            return Err(format!("{line} is stored twice"));
        }
        if !disk.written.contains(line) {
            return Err(format!("{line} was never written"));
        }
    }
    let missing: Vec<_> =
        disk.written.iter().filter(|line| !stored.contains(*line) && !disk.lost.contains(*line)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are missing")) }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (1..6_u8).prop_map(Action::Append),
        1 => Just(Action::Half),
        2 => Just(Action::Rename),
        2 => (0..3_u8).prop_map(Action::CopyTruncate),
        2 => Just(Action::Copy),
        2 => Just(Action::Cut),
        1 => Just(Action::DeleteCreate),
        1 => Just(Action::Late),
        1 => Just(Action::Compress),
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

fn is_compression(step: &Step) -> bool {
    matches!(step, Step::Write(_, Action::Compress) | Step::WriteDuring(_, Action::Compress, _))
}

fn run(steps: &[Step], tells_births: bool, open_max: usize) -> Reader {
    let view = View::default();
    view.0.borrow_mut().tells_births = tells_births;
    view.0.borrow_mut().is_narrow = open_max < 100;
    finish(Reader::new(view, Settings { open_max, ..settings() }), steps)
}

fn finish(mut reader: Reader, steps: &[Step]) -> Reader {
    let tells_births = reader.view.0.borrow().tells_births;
    // Without births, a compressed file that gets the inode of a deleted one at once may be read again.
    let is_fair = |step: &&Step| tells_births || !is_compression(step);
    for step in steps.iter().filter(is_fair) {
        take(&mut reader, step);
    }
    reader.view.0.borrow_mut().finish_halves();
    reader.finish();
    reader
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_whole_line_is_stored_exactly_once(steps in prop::collection::vec(step(), 1..80), tells_births in any::<bool>()) {
        let verdict = verdict(&run(&steps, tells_births, 100));
        prop_assert!(verdict.is_ok(), "{verdict:?}");
    }

    // Without births, a copy that gets the inode of a deleted file at once may be taken for that file, if it was empty and closed.
    #[test]
    fn the_same_with_hardly_any_file_open(steps in prop::collection::vec(step(), 1..80)) {
        let verdict = verdict(&run(&steps, true, 1));
        prop_assert!(verdict.is_ok(), "{verdict:?}");
    }
}

/// Whether random steps find that a reader of this kind loses lines or stores them twice.
fn is_found_out(reader: impl Fn() -> Reader) -> bool {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 1..80);
    (0..500).any(|_| {
        let steps = steps.new_tree(&mut runner).expect("steps").current();
        verdict(&finish(reader(), &steps)).is_err()
    })
}

#[test]
fn readers_without_one_of_the_safeties_are_found_out() {
    assert!(!is_found_out(|| Reader::new(View::default(), settings())));
    assert!(is_found_out(|| Reader::new(View::default(), Settings { trusts_inodes: true, ..settings() })));
    assert!(is_found_out(|| Reader::new(View::default(), Settings { keeps_no_trails: true, ..settings() })));
    assert!(is_found_out(|| {
        let mut reader = Reader::new(View::default(), settings());
        reader.stores_places_late = true;
        reader
    }));
}
