//! Keys that are set aside, in processes that follow each other: each line is taken, or given up once, whenever a process ends.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// So many lines are read at once, by the cursor and for keys that are set aside.
const LINES: u64 = 20;

/// What outlives a process, and the log that it reads.
#[derive(Default)]
struct Lives {
    /// The device of each line, and whether it is too long.
    log: Vec<(&'static str, bool)>,
    state: CursorState,
    keys: BTreeMap<String, CursorState>,
    taken: BTreeSet<u64>,
    given_up: Vec<u64>,
}

impl Lives {
    fn of(log: &[(&'static str, bool)]) -> Lives {
        Lives { log: log.to_vec(), ..Lives::default() }
    }

    fn save(&mut self, persist: Persist) {
        self.state = persist.state;
        self.given_up.extend(persist.refused.iter().map(|refused| refused.sequence));
        for change in persist.keys {
            match change.state {
                Some(state) => self.keys.insert(change.key, state),
                None => self.keys.remove(&change.key),
            };
        }
    }

    fn act(&mut self, actions: Actions) -> Vec<Request> {
        actions.persist.into_iter().for_each(|persist| self.save(persist));
        actions.send
    }

    fn line(&self, sequence: u64) -> (&'static str, String) {
        let (device, is_too_long) = self.log[sequence as usize - 1];
        let more = if is_too_long { " too long".repeat(40) } else { String::new() };
        (device, format!("{device}:{sequence}{more}\n"))
    }

    /// Offers what is in the log, and some of it to the keys that are set aside.
    fn read(&self, delivery: &mut Delivery, now_us: u64) {
        let offered = delivery.offered_through();
        for sequence in offered + 1..=(offered + LINES).min(self.log.len() as u64) {
            let (device, line) = self.line(sequence);
            delivery.offer(sequence, device, now_us, |out| out.extend(line.bytes()));
        }
        if let Some(after) = delivery.aside_wants() {
            let through = (after + LINES).min(delivery.offered_through());
            for sequence in after + 1..=through {
                let (device, line) = self.line(sequence);
                delivery.offer_aside(sequence, device, now_us, |out| out.extend(line.bytes()));
            }
            delivery.aside_was_read(after, through, now_us);
        }
    }

    /// One process, which ends as soon as `ends` says so. What there is to save is saved at once.
    fn live(&mut self, fails: impl Fn(u64) -> bool, mut ends: impl FnMut(&mut Lives, &Delivery) -> bool) {
        let settings = DeliverySettings { record_bytes_max: PARTITION_KEY_BYTES_MAX + 100, ..single() };
        let mut delivery = Delivery::new(settings, &self.state, 7);
        let keys: Vec<_> = self.keys.iter().map(|(key, state)| (key.clone(), state.clone())).collect();
        delivery.restore_aside(&keys);
        let mut sent = VecDeque::new();
        for now_us in (0..120 * SECOND_US).step_by(50_000) {
            self.read(&mut delivery, now_us);
            sent.extend(self.act(delivery.step(Event::Tick { behind: false }, now_us)));
            while let Some(request) = sent.pop_front() {
                let judge = |sequence| match fails(sequence) {
                    true => Outcome::Retry(RetryReason::Internal),
                    false => accepted("0"),
                };
                let sequences: Vec<u64> = texts(&request).into_iter().map(sequence_of).collect();
                self.taken.extend(sequences.iter().filter(|sequence| !fails(**sequence)));
                let outcomes: Vec<Outcome> = sequences.into_iter().map(judge).collect();
                sent.extend(self.act(answer(&mut delivery, &request, &outcomes, now_us)));
            }
            if let Some(persist) = delivery.save(now_us) {
                self.save(persist);
            }
            if ends(self, &delivery) {
                return;
            }
            // Others are accepted all the time, so that the key is to blame.
            self.log.push(("well", false));
        }
        panic!("it never came: {:?}, given up {:?}", delivery.status(), self.given_up);
    }
}

fn sequence_of(text: &str) -> u64 {
    let digits = text.trim_end().rsplit(':').next();
    digits.and_then(|digits| digits.parse().ok()).expect("a sequence")
}

fn is_set_aside(lives: &mut Lives, _: &Delivery) -> bool {
    lives.keys.contains_key("sick")
}

/// Nothing is set aside or held any more; then each line was taken or given up.
fn is_through(lives: &mut Lives, delivery: &Delivery) -> bool {
    let is_through = lives.keys.is_empty() && delivery.is_drained();
    if is_through {
        let is_missing = |sequence: &u64| !lives.taken.contains(sequence) && !lives.given_up.contains(sequence);
        assert_eq!((1..=lives.log.len() as u64).find(is_missing), None);
    }
    is_through
}

#[test]
fn what_an_earlier_process_gave_up_is_not_read_again_with_its_key() {
    let mut lives = Lives::of(&[("well", false), ("sick", false), ("sick", true), ("sick", false)]);
    let is_sick = |sequence| [2, 4].contains(&sequence);
    lives.live(is_sick, |lives, _| lives.given_up == [3]);
    assert!(lives.keys.is_empty() && lives.state.cursor == 1, "{:?}", lives.state);
    lives.live(is_sick, is_set_aside);
    lives.live(|_| false, is_through);
    assert_eq!(lives.given_up, [3]);
}

#[test]
fn what_is_given_up_with_nothing_before_it_is_behind_the_position_of_its_key() {
    let mut lives = Lives::of(&[("well", false), ("sick", false)]);
    lives.live(|sequence| sequence == 2, is_set_aside);
    lives.log.push(("sick", true));
    let long = lives.log.len() as u64;
    lives.log.extend([("well", false); 3 * LINES as usize]);
    lives.live(|_| false, |lives, _| lives.given_up == [long]);
    assert!(lives.keys.contains_key("sick"), "there is more to be read for it");
    lives.live(|_| false, is_through);
    assert_eq!(lives.given_up, [long]);
}

#[test]
fn what_is_given_up_behind_what_was_read_for_a_key_is_known_to_the_next_process() {
    let mut lives = Lives::of(&[("well", false), ("sick", false), ("sick", false)]);
    lives.live(|sequence| [2, 3].contains(&sequence), is_set_aside);
    let mut long = None;
    let gives_up_behind_3 = |lives: &mut Lives, delivery: &Delivery| {
        if lives.keys.contains_key("sick") && !delivery.is_aside("sick") && long.is_none() {
            lives.log.push(("sick", true));
            long = Some(lives.log.len() as u64);
        }
        !lives.given_up.is_empty()
    };
    lives.live(|sequence| sequence == 3, gives_up_behind_3);
    let long = long.expect("the key has rejoined");
    assert!(lives.keys.contains_key("sick") && lives.given_up == [long], "3 is not taken yet: {:?}", lives.keys);
    lives.live(|_| false, is_through);
    assert_eq!(lives.given_up, [long]);
}

/// The cursor's own reading begins before the position of the key: the key has not caught up by being ahead of that.
#[test]
fn a_key_whose_position_is_ahead_of_the_cursor_gets_what_was_passed_over() {
    let mut lives = Lives::of(&[("well", false), ("sick", false), ("ill", false)]);
    let (slow, sick) = (Cell::new(u64::MAX), Cell::new(2));
    let ends = |lives: &mut Lives, _: &Delivery| {
        if lives.keys.contains_key("sick") && sick.get() == 2 {
            lives.log.push(("slow", false));
            slow.set(lives.log.len() as u64);
            lives.log.extend([("well", false); 3 * LINES as usize]);
            lives.log.extend([("sick", false); 2]);
            sick.set(lives.log.len() as u64 - 1);
        }
        lives.keys.get("sick").is_some_and(|state| state.cursor > slow.get())
    };
    // Another key that is set aside is read for, and then it is asked which have caught up.
    lives.live(|sequence| sequence == slow.get() || sequence == sick.get() || sequence == 3, ends);
    assert!(lives.state.cursor < slow.get() && !lives.keys.contains_key("slow"), "{:?}", lives.state);
    lives.live(|_| false, is_through);
}
