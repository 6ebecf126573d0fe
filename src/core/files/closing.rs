//! What is closed, and what is forgotten.

use std::collections::HashSet;

use super::follower::Follower;
use super::generation::{Generation, State};
use super::place::GenerationNumber;
use super::{Note, Settings};

/// A copy that is compressed during one look is found by the next.
const LOOKS_FOR_COPIES: u64 = 3;

impl<H> Follower<H> {
    /// Has it stored of what was rotated and read to its end that it is whole: if it is deleted while nobody looks, nothing is missing.
    pub(super) fn finish(&mut self, now_ms: i64) {
        let grace_ms = self.settings.grace_ms;
        for one in self.generations.values_mut() {
            let is_read = one.state == State::Reading && one.unread_bytes() == 0 && one.is_settled();
            let is_done = one.is_rotated && is_read && one.is_stored && now_ms - one.changed_ms >= grace_ms;
            if is_done && !std::mem::replace(&mut one.is_finished, true) {
                self.changes.insert(one.number, Some(one.place(one.committed)));
            }
        }
    }

    /// Closes what is done with, and what has been held for too long.
    pub(super) fn close(&mut self, now_ms: i64) {
        let Settings { grace_ms, close_after_ms, held_bytes_max, held_files_max, held_ms_max, .. } = self.settings;
        let mut held: Vec<(i64, GenerationNumber, u64)> = Vec::new();
        for number in self.open.clone() {
            let is_ready = self.ready.contains(number);
            let one = self.get(number);
            let is_idle = |for_ms: i64| now_ms - one.changed_ms >= for_ms;
            let is_copy = matches!(one.state, State::Copy { .. });
            match one.unlisted_since_ms {
                None if is_idle(close_after_ms) && !is_ready && !is_copy => drop(self.close_file(number)),
                None => {}
                Some(since_ms) => {
                    let is_done = !is_ready && one.unread_bytes() == 0 && one.is_settled() && !is_copy;
                    if is_done && is_idle(grace_ms) && now_ms - since_ms >= grace_ms {
                        self.put_away(number, now_ms);
                    } else {
                        held.push((since_ms, number, if one.is_linked { 0 } else { one.size }));
                    }
                }
            }
        }
        held.sort_unstable();
        let mut bytes: u64 = held.iter().map(|(_, _, size)| size).sum();
        let mut files = held.len();
        for (since_ms, number, size) in held {
            if bytes > held_bytes_max || files > held_files_max || now_ms - since_ms >= held_ms_max {
                (bytes, files) = (bytes - size, files - 1);
                self.let_go(number, now_ms);
            }
        }
    }

    /// Of more files than may be open, those that are not being rotated are opened again when they are read.
    pub(super) fn close_surplus(&mut self) {
        let surplus = self.open.len().saturating_sub(self.settings.open_max);
        if surplus == 0 {
            return;
        }
        let open = self.open.iter().map(|number| &self.generations[number]);
        let closable = open.filter(|one| one.is_listed() && one.state == State::Reading);
        let numbers: Vec<_> = closable.map(|one| one.number).take(surplus).collect();
        for number in numbers {
            self.close_file(number);
        }
    }

    fn let_go(&mut self, number: GenerationNumber, now_ms: i64) {
        let one = self.get(number);
        let (path, unread_bytes) = (one.path.clone(), one.unread_bytes());
        self.counts.let_go += 1;
        self.counts.lost_bytes += unread_bytes;
        self.note(Note::LetGo { path, unread_bytes });
        self.put_away(number, now_ms);
    }

    /// A file that no path of the glob leads to is not looked at any more.
    fn put_away(&mut self, number: GenerationNumber, now_ms: i64) {
        self.close_file(number);
        self.ready.remove(number);
        let remembers_deleted = self.settings.remember_deleted_ms > 0;
        let one = self.get(number);
        one.trail.clear();
        // Its compressed copy may be still to come.
        let is_remembered = remembers_deleted && one.packed.is_none() && one.read.offset > 0;
        if one.is_linked || !one.is_settled() || is_remembered {
            one.state = State::Gone { since_ms: now_ms };
            if is_remembered && !one.is_linked {
                let place = one.place(one.committed);
                self.changes.insert(number, Some(place));
            }
        } else {
            self.remove(number);
        }
    }

    /// What nobody will ask for any more.
    pub(super) fn forget(&mut self, now_ms: i64) {
        let Settings { grace_ms, forget_after_ms, gone_max, remember_deleted_ms, .. } = self.settings;
        let originals = self.originals();
        // What may be a copy of one that was cut may turn out to be a copy of another one; what is not read is not compared yet.
        let is_uncompared = |one: &Generation<H>| {
            one.read.offset == 0 && !one.is_original && one.state == State::Reading && self.ready.contains(one.number)
        };
        let may_be_copy = |one: &&Generation<H>| matches!(one.state, State::Copy { .. }) || is_uncompared(one);
        let copies = self.generations.values().filter(may_be_copy);
        let undecided: HashSet<&str> = copies.map(|one| &*one.name.family).collect();
        let is_gone = |one: &&Generation<H>| matches!(one.state, State::Gone { .. });
        let mut surplus = self.generations.values().filter(is_gone).count().saturating_sub(gone_max);
        let mut old = Vec::new();
        for one in self.generations.values().filter(|one| one.is_settled() && !originals.contains(&one.number)) {
            let is_old = match one.state {
                State::Cut { at_ms } => {
                    let is_looked_for = self.look >= one.look + LOOKS_FOR_COPIES;
                    is_looked_for && now_ms - at_ms >= grace_ms && !undecided.contains(&*one.name.family)
                }
                State::Gone { since_ms } => {
                    let forget_after_ms = if one.is_linked { forget_after_ms } else { remember_deleted_ms };
                    let is_done = one.continued_by.is_some() && !one.is_linked;
                    let is_old = is_done || now_ms - since_ms >= forget_after_ms || surplus > 0;
                    surplus -= usize::from(is_old && surplus > 0);
                    is_old
                }
                _ => false,
            };
            if is_old {
                old.push(one.number);
            }
        }
        for number in old {
            let one = &self.generations[&number];
            // Of one that is continued it was said when its copy was found, and of one that was finished nothing is missing.
            if matches!(one.state, State::Cut { .. }) && one.continued_by.is_none() && !one.is_finished {
                let (path, unread_bytes) = (one.path.clone(), one.unread_bytes());
                self.counts.lost_bytes += unread_bytes;
                self.note(Note::Cut { path, unread_bytes });
            }
            self.remove(number);
        }
    }

    pub(super) fn remove(&mut self, number: GenerationNumber) {
        self.close_file(number);
        self.ready.remove(number);
        let removed = self.generations.remove(&number).expect("it is known");
        self.index.remove(&removed);
        match removed.is_stored {
            true => drop(self.changes.insert(number, None)),
            false => drop(self.changes.remove(&number)),
        }
    }
}
