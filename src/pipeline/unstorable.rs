//! What the pipeline thread does while nothing can be stored, and how it detects that.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{PipelineLoop, Unstorable};
use crate::clock;
use crate::core::detection::alert::{Report, Trouble};
use crate::core::pipeline::Storing;
use crate::core::pipeline::commit_clock::Load;
use crate::handoff::Submission;
use crate::pipeline::unanswered::ANSWER_WITHIN;

impl PipelineLoop {
    /// Judges readings that cannot be stored; nothing of them is kept, and their client gets no answer.
    pub(super) fn refuse(&mut self, submission: &Submission) {
        let Submission { session, through, publishes, wants_answer, readings, ruled, .. } = submission;
        let now = self.moment();
        if let Some(ruled) = ruled {
            self.pipeline.say_unstored(&ruled.effects.words, now);
        }
        self.pipeline.judge_unstored(readings, session.number(), *wants_answer, now);
        self.counters.readings_refused.add(readings.len() as u64);
        self.counters.raised_unstored.set(self.pipeline.raised_unstored());
        if *publishes > 0 {
            session.refuse((through + 1).saturating_sub(*publishes)..=*through);
        }
        if *wants_answer {
            // A client that waits for its answer, or is turned away, is not silent.
            self.pipeline.excuse_silence(now);
            self.unanswered.note(session, clock::instant());
        }
    }

    fn is_hung(&self, now: Instant) -> bool {
        let waiting = self.committing.bytes + self.open.bytes;
        let is_heard = waiting < self.budget_bytes - self.budget_bytes / 4 && !self.is_held_up();
        // The commit may have returned without this thread knowing it yet: then this thread is late, not the disk.
        let has_returned = self.counters.commits.get() != self.commits_at_seal;
        let load = Load { is_heard, grace: self.ending.grace };
        !has_returned && !self.counters.is_failing() && self.clock.is_hung(self.since_start(now), load)
    }

    pub(super) fn look_at_disk(&mut self, now: Instant) {
        if self.is_hung(now) && !self.counters.hung.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the disk hangs: readings are judged, but neither stored nor acknowledged, until it answers"
            );
        }
        self.look_at_store();
        self.turn_away(now);
        if let Some((trouble, text)) = self.trouble() {
            let moment = self.moment();
            if self.reports.is_due(&trouble, moment.steady_ms) {
                self.pipeline.report(&Report::new(trouble, text), moment);
            }
        }
    }

    fn trouble(&self) -> Option<(Trouble, &'static str)> {
        Some(match (self.counters.unstorable(), self.counters.is_expiring()) {
            (Some(Unstorable::DiskFailing), _) => (
                Trouble::Disk,
                "the disk answers with errors: readings are judged, but neither stored nor acknowledged",
            ),
            (Some(Unstorable::DiskHung), _) => {
                (Trouble::Disk, "the disk does not answer: readings are judged, but neither stored nor acknowledged")
            }
            (Some(Unstorable::StoreFull), _) => {
                (Trouble::Store, "the store is full: readings are judged, but neither stored nor acknowledged")
            }
            (None, true) => (
                Trouble::Store,
                "the store is full: the oldest readings that are not delivered yet are removed to make room",
            ),
            (None, false) => return None,
        })
    }

    /// Updates what can be stored. The disk counts as working again only once the commit that it did not accept has returned.
    pub(super) fn look_at_store(&mut self) {
        let storing = match self.counters.unstorable() {
            _ if self.clock.is_busy() && self.storing == Storing::Nothing => Storing::Nothing,
            None => Storing::Everything,
            Some(Unstorable::StoreFull) => Storing::AllButReadings,
            Some(Unstorable::DiskFailing | Unstorable::DiskHung) => Storing::Nothing,
        };
        if storing == self.storing {
            return;
        }
        self.storing = storing;
        let now = self.moment();
        self.pipeline.set_storing(storing, now);
        match storing {
            // What they send again is accepted.
            Storing::Everything => self.unanswered.turn_away(clock::instant()),
            Storing::AllButReadings => {}
            Storing::Nothing => {
                // What waits for the disk stays in memory, but its budget is released, so that all clients are read.
                self.open.waiting.release();
                self.committing.waiting.release();
                (self.open.bytes, self.committing.bytes) = (0, 0);
                for waiting in self.committing.waiting.sessions.iter().chain(&self.open.waiting.sessions) {
                    waiting.session.excuse_through(*waiting.publishes.end());
                }
            }
        }
    }

    /// Turns away clients that have waited too long for an answer.
    pub(super) fn turn_away(&mut self, now: Instant) {
        let patience = if self.ending.grace.is_some() { Duration::ZERO } else { ANSWER_WITHIN };
        if let Some(until) = now.checked_sub(patience) {
            self.unanswered.turn_away(until);
        }
        let is_overdue = self.clock.is_busy_for(patience, self.since_start(now));
        if self.storing != Storing::Nothing || self.committing.is_given_up || !is_overdue {
            return;
        }
        self.committing.is_given_up = true;
        // A session that waits for no answer is refused, or it would no longer be read once it has too much in flight.
        for waiting in self.committing.waiting.sessions.iter().chain(&self.open.waiting.sessions) {
            match waiting.wants_answer || self.ending.grace.is_some() {
                true => waiting.session.fail(),
                false => waiting.session.refuse(waiting.publishes.clone()),
            }
        }
        let now = self.moment();
        self.pipeline.listen_from(now);
    }

    /// Whether the process has to end without its last commit, because the disk does not accept it.
    pub(super) fn is_abandoned(&self, now: Instant) -> bool {
        let is_too_late = self.ending.until.is_some_and(|until| now >= until);
        // A disk that answered with errors may hang by now, which `is_hung` does not tell: the last answer was an error.
        let is_stuck = self.clock.is_busy() && (self.counters.is_failing() || self.is_hung(now));
        self.ending.until.is_some() && (self.ending.is_refused || is_too_late && is_stuck)
    }
}
