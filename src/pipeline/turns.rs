//! What sessions send is taken in turns, and only while the open batches have room: neither a large submission nor a disk that hangs lets
//! them grow without bound, and ticks and alerts are handled in between.

use super::PipelineLoop;
use super::intake::Admission;
use crate::core::batch::CLOSED_AT_BYTES;
use crate::core::pipeline::Storing;
use crate::handoff::{Input, Submission, Undecodable};
use crate::pipeline::committer::WaitingSession;

/// While a commit is under way the open batches take no more readings than this, before compression: what comes then waits in the backlog,
/// within the sessions' budget.
const OPEN_BYTES_MAX: usize = 8 * CLOSED_AT_BYTES;

impl PipelineLoop {
    pub(super) fn may_work(&self) -> bool {
        let waits_for_room = self.waits_for_room && self.storing != Storing::Nothing;
        !self.backlog.is_empty() && !waits_for_room && !self.is_held_up()
    }

    /// Whether all input has to wait until the disk answers, or is found to hang.
    pub(super) fn is_held_up(&self) -> bool {
        let is_enough = self.waits_for_room || self.pipeline.open_bytes() >= OPEN_BYTES_MAX;
        self.clock.is_busy() && self.storing != Storing::Nothing && is_enough
    }

    /// Whether no submission is half taken whose entries belong to all of its readings: they are stored in one commit, or neither.
    pub(super) fn may_seal(&self) -> bool {
        let begun = self.begun.and(self.backlog.front());
        !matches!(begun, Some(Input::Submission(submission)) if !submission.entries.is_empty())
    }

    /// Takes a turn's worth of what sessions sent: a large submission holds up neither ticks nor alerts.
    pub(super) fn work(&mut self) {
        if !self.may_work() {
            return;
        }
        match self.backlog.pop_front() {
            Some(Input::Submission(submission)) => self.submission(submission),
            Some(Input::Farewell(publisher)) => self.pipeline.sleep(publisher),
            Some(Input::Rules(book)) => self.pipeline.adopt_rules(book, self.moment()),
            _ => {}
        }
    }

    fn submission(&mut self, mut submission: Submission) {
        let taken = match self.begun.take() {
            Some(taken) => taken,
            None => match self.admit(&submission) {
                Admission::Taken => 0,
                Admission::Later => {
                    self.waits_for_room = true;
                    self.backlog.push_front(Input::Submission(submission));
                    return self.hurry();
                }
                Admission::Refused | Admission::Done => return,
            },
        };
        if let Some(mut ruled) = submission.ruled.take() {
            let now = self.moment();
            self.pipeline.carry_out(&mut ruled.effects, now);
            self.pipeline.count_ruled(ruled.dropped, ruled.derived);
        }
        let Submission { session, readings, urgency, .. } = &submission;
        let taken = self.pipeline.take_turn(readings, taken, session.number(), self.moment());
        self.clock.received(self.elapsed(), session.number(), *urgency);
        if self.pipeline.has_rule_messages() {
            self.hurry();
        }
        if taken < readings.len() {
            self.begun = Some(taken);
            self.backlog.push_front(Input::Submission(submission));
            return;
        }
        let Submission { session, through, publishes, wants_answer, undecodable, entries, share, .. } = submission;
        self.intake.taken();
        self.open.input.undecodable.extend::<Vec<Undecodable>>(undecodable);
        self.open.input.entries.extend(entries);
        let publishes = (through + 1).saturating_sub(publishes)..=through;
        if self.storing == Storing::Nothing {
            session.excuse_through(through);
        }
        self.open.waiting.sessions.push(WaitingSession { session, publishes, wants_answer });
        if self.storing == Storing::Nothing {
            // It was begun before the disk was found to hang: its budget is released, and its client is turned away like the others.
            self.committing.is_given_up = false;
        } else if let Some(share) = share {
            self.open.bytes += share.bytes();
            self.open.waiting.hold(share);
        }
    }

    /// Whether there is something to be taken, and the store takes it. A submission that is refused, or needs no storing, is finished here.
    fn admit(&mut self, submission: &Submission) -> Admission {
        let Submission { session, through, readings, undecodable, ruled, entries, .. } = submission;
        let has_records = !readings.is_empty() || !undecodable.is_empty() || ruled.is_some();
        let stores_something = has_records || !entries.is_empty();
        let is_answered = !session.is_unanswered() && !session.is_failed() && self.storing != Storing::Nothing;
        let makes_room = self.has_more_to_delete || self.committing.is_deleting;
        let admission = match (is_answered, stores_something) {
            (false, _) => Admission::Refused,
            (true, false) => Admission::Taken,
            // Entries have a bound of their own, within what is kept free of readings.
            (true, true) if !has_records => Admission::Taken,
            (true, true) => {
                let ruled_bytes = ruled.as_ref().map_or(0, |ruled| ruled.effects.byte_size());
                self.intake.admit(readings, undecodable, ruled_bytes, makes_room)
            }
        };
        if admission != Admission::Later && !undecodable.is_empty() {
            self.log.undecodable(undecodable, self.moment().steady_ms);
        }
        match admission {
            Admission::Later | Admission::Done => return admission,
            Admission::Refused => {
                self.look_at_store();
                self.refuse(submission);
                return admission;
            }
            Admission::Taken => {}
        }
        if !stores_something && !self.clock.is_busy() && !self.has_work() {
            // Nothing of this session can be waiting for the disk: it is answered at once.
            session.commit_through(*through);
            return Admission::Done;
        }
        if self.pacing.acknowledge_early {
            session.commit_through(*through);
        }
        Admission::Taken
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use crate::clock;
    use crate::core::identity::{PerStream, RunId, Stream};
    use crate::core::mqtt::pace::Urgency;
    use crate::core::pipeline::{Pipeline, PipelineSettings};
    use crate::core::reading::{Reading, Readings};
    use crate::handoff::{EntryChange, Input, SessionProgress, Submission};
    use crate::pipeline::committer::Job;
    use crate::pipeline::{LoopParts, Message, PipelineLoop, StoreBeats, StoreCounters};
    use crate::store::retention::WhenFull;

    const READINGS: usize = 20_000;

    /// The first commit of a submission that takes many turns: how many of its readings are in it, and how many entries.
    fn first_commit(entries: Vec<EntryChange>) -> (usize, usize) {
        let mut readings = Readings::default();
        (0..READINGS).for_each(|at| readings.push(&Reading::at(at as i64, "tank", "t", 1.0)));
        let submission = Submission {
            session: Arc::<SessionProgress>::default(),
            through: 1,
            publishes: 1,
            wants_answer: true,
            urgency: Urgency::Urgent,
            readings,
            undecodable: Vec::new(),
            ruled: None,
            entries,
            held_bytes: 0,
            share: None,
        };
        let counters = Arc::new(StoreCounters::default());
        counters.room_bytes.set(u64::MAX);
        let (jobs, sealed) = mpsc::sync_channel::<Job>(1);
        let mut pipeline = PipelineLoop::new(LoopParts {
            pipeline: Pipeline::new(PipelineSettings::new("g", RunId([7; 8])), &PerStream::default()),
            pacing: Default::default(),
            jobs,
            when_full: WhenFull::DropOldest,
            counters,
            outbox: Default::default(),
            beats: StoreBeats::default(),
            budget_bytes: 8 << 20,
            now_ms: clock::now_ms,
        });
        let (_sender, receiver) = mpsc::channel();
        let mut message = Some(Message::Input(Input::Submission(submission)));
        loop {
            pipeline.turn(message.take(), &receiver);
            if let Ok(Job { input, .. }) = sealed.try_recv() {
                let readings = input.sealed.of(Stream::RAW).map(|batch| batch.count as usize).sum();
                return (readings, input.entries.len());
            }
        }
    }

    #[test]
    fn entries_are_in_the_commit_of_all_the_readings_that_they_came_with() {
        let (readings, entries) = first_commit(Vec::new());
        assert!(readings < READINGS && entries == 0, "the control: without entries it is divided");
        let place = EntryChange { key: b"F".to_vec(), value: Some(b"place".to_vec()) };
        assert_eq!(first_commit(vec![place]), (READINGS, 1));
    }
}
