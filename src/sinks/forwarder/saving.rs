//! Has the progress of a delivery saved in the store.

use std::sync::Arc;

use super::Forwarder;
use crate::core::delivery::{KeyChange, Persist};
use crate::pipeline::Message;
use crate::store::cursors::{CursorChange, DeadLetter};
use crate::store::held_keys::HeldKeyChange;
use crate::store::links::CountedLink;

impl Forwarder {
    pub(super) fn persist(&mut self, persist: Persist) {
        if !persist.expired.is_empty() && !std::mem::replace(&mut self.has_expired, true) {
            let (sink, stream) = (&self.name, &*self.stream_name);
            tracing::warn!(sink, stream, "records are older than max_age: they are not sent, and counted as expired");
        }
        let held_keys = held_key_changes(&persist);
        let letter = |refused: crate::core::delivery::Refused| DeadLetter {
            sequence: refused.sequence,
            reason: refused.reason,
            line: refused.line,
        };
        let damage = self.source.take_damage();
        let change = CursorChange {
            sink: self.name.clone(),
            stream: self.stream,
            state: persist.state,
            dead_letters: persist.refused.into_iter().map(letter).collect(),
            unreadable: damage.unreadable,
            lost: damage.lost,
            passed_over: self.passed_over_before + persist.passed_over,
            expired: persist.expired,
            held_keys,
            link: self.gate.link().map(|link| Arc::clone(link) as Arc<dyn CountedLink>),
            save: Some(self.saves.begin()),
        };
        // Without a pipeline the process is ending; what was not saved is sent again under the same identities.
        let _ = self.pipeline.send(Message::Cursor(change));
    }

    /// What is spent of the link's budget is stored before it is spent.
    pub(super) fn save_spending(&mut self) {
        if self.gate.link().is_some_and(|link| link.wants_saving()) {
            self.delivery.touch(self.now_us());
            self.save();
        }
    }

    /// Nothing more is sent, and what was spent is known.
    pub(super) fn save_all(&mut self) {
        self.gate.close();
        if self.gate.link().is_some() {
            self.delivery.touch(self.now_us());
        }
        self.save();
    }

    pub(super) fn save(&mut self) {
        let now_us = self.now_us();
        if let Some(persist) = self.delivery.save(now_us) {
            self.persist(persist);
        }
    }
}

fn held_key_changes(persist: &Persist) -> Vec<HeldKeyChange> {
    let dead: Vec<u64> = persist.refused.iter().filter(|one| one.is_aside).map(|one| one.sequence).collect();
    let is_in =
        |runs: &[(u64, u64)], sequence: u64| runs.iter().any(|(first, last)| (*first..=*last).contains(&sequence));
    let change = |change: &KeyChange| HeldKeyChange {
        key: change.key.clone(),
        state: change.state.clone(),
        passed: change.passed.clone(),
        taken: change.taken.clone(),
        expired: change.expired.clone(),
        dead: dead.iter().copied().filter(|sequence| is_in(&change.taken, *sequence)).collect(),
    };
    persist.keys.iter().map(change).collect()
}
