//! How the pipeline thread handles each message.

use std::sync::atomic::Ordering;

use super::committer::{Pending, damage};
use super::messages::Message;
use super::operation::{Answer, Operation, Outcome};
use super::{PipelineLoop, announce};
use crate::clock;
use crate::core::pipeline::Storing;
use crate::core::rulebook::RuleMessage;
use crate::handoff::{AlertAcknowledgement, Input};
use crate::mqtt::outbox::OwnMessage;
use crate::store::cursors::CursorChange;

/// The gateway's own retained message.
const STATUS_TOPIC: &str = "outrider/status";

impl PipelineLoop {
    pub(super) fn take(&mut self, message: Message) {
        self.look_at_store();
        match message {
            Message::Input(input @ (Input::Submission(_) | Input::Farewell(_) | Input::Rules(_))) => {
                self.backlog.push_back(input);
                self.work();
            }
            Message::Input(Input::Acknowledge(seen)) => {
                let AlertAcknowledgement { key, seen, answer, share: _share } = seen;
                let lesson = self.pipeline.acknowledge(&key, &seen, self.moment());
                if lesson.is_some() {
                    self.outbox.put(announce::acknowledgement(&key, &seen));
                    self.hurry();
                } else {
                    self.counters.acknowledgements_unknown.add(1);
                }
                // Whoever asked may have gone.
                let _ = answer.map(|answer| answer.send(lesson));
            }
            Message::Input(Input::Report(report)) => self.pipeline.report(&report, self.moment()),
            Message::Input(Input::Ping(ping)) => ping.answer(),
            Message::Committed { has_more } => {
                self.clock.returned(self.elapsed());
                let unsaved = std::mem::take(&mut *self.committing.waiting.lock_cursors());
                self.open.input.cursors.splice(..0, unsaved);
                let committed = std::mem::take(&mut self.committing);
                self.publish_of_rules(committed.messages);
                if self.counters.hung.swap(false, Ordering::Relaxed) {
                    tracing::info!("the disk answers again");
                }
                self.announcer.committed(|key| self.pipeline.differs_from_store(key));
                self.intake.committed();
                self.waits_for_room = false;
                self.look_at_store();
                if has_more {
                    self.has_more_to_delete = true;
                    self.hurry();
                }
            }
            Message::Abandoned => self.ending.is_refused = true,
            Message::Cursor(change) => {
                if !change.unreadable.is_empty() || !change.lost.is_empty() {
                    self.pipeline.report(&damage(), self.moment());
                }
                // A cursor can wait for the next readings: lost in a crash, it costs only duplicates. A dead letter cannot wait.
                match change.dead_letters.is_empty() {
                    true => self.clock.lingers(self.elapsed()),
                    false => self.hurry(),
                }
                self.note_cursor(change);
            }
            Message::Gateway(tail) => {
                let now = self.moment();
                let payload = self.pipeline.gateway_record(&tail, now).trim_ascii_end().to_vec();
                self.outbox.put(OwnMessage::state(STATUS_TOPIC.to_owned(), payload));
                self.clock.lingers(self.elapsed());
            }
            Message::Damaged(file) => {
                self.open.damaged = Some(file);
                self.hurry();
            }
            Message::Salvaged { chunk, committed } => {
                self.open.input.salvaged.extend(chunk);
                self.open.waiting.salvage.push(committed);
                self.hurry();
            }
            Message::Operate { operation, answer } => self.operate(operation, answer),
            // Whoever asked may have gone.
            Message::Overview { answer } => drop(answer.send(self.overview())),
            Message::ListSeries { device, metric, answer } => drop(answer.send(self.series_after(&device, &metric))),
            Message::Explain { device, metric, answer } => drop(answer.send(self.explain(&device, &metric))),
            Message::ListDevices { after, part, answer } => drop(answer.send(self.devices_after(&after, &part))),
            Message::ListValues { after: (device, metric), device: only, answer } => {
                drop(answer.send(self.values_after(&device, &metric, only.as_deref())));
            }
            Message::Heard { question, answer } => drop(answer.send(self.heard(&question))),
            Message::Draining { until } => {
                let now = clock::instant();
                self.ending.grace = Some(until.saturating_duration_since(now));
                // While sinks still run.
                self.pipeline.close_spans(self.moment());
                self.turn_away(now);
            }
            Message::Shutdown { until } => {
                self.ending.until = Some(until);
                if self.storing != Storing::Nothing {
                    let now = self.moment();
                    self.pipeline.store_alerts(now);
                }
                self.counters.ending.store(true, Ordering::Relaxed);
            }
        }
    }

    fn publish_of_rules(&self, messages: Vec<RuleMessage>) {
        if messages.is_empty() {
            return;
        }
        let left_out = self.outbox.put_of_rules(messages);
        if left_out > 0 {
            tracing::warn!(left_out, "rules publish more than subscribers take: messages are left out");
        }
    }

    /// A cursor is saved with the next commit, or with the one that is failing at present; either way in order.
    fn note_cursor(&mut self, change: CursorChange) {
        let mut before = std::mem::take(&mut self.open.input.cursors);
        let is_in_vain = self.clock.is_busy() && self.counters.is_failing();
        let mut of_commit = is_in_vain.then(|| self.committing.waiting.lock_cursors());
        let cursors = match &mut of_commit {
            Some(cursors) => {
                cursors.append(&mut before);
                &mut **cursors
            }
            None => &mut before,
        };
        cursors.retain(|known| known.sink != change.sink || known.stream != change.stream || !known.is_replaceable());
        cursors.push(change);
        drop(of_commit);
        self.open.input.cursors = before;
    }

    /// The operator is answered after the commit that makes it durable.
    fn operate(&mut self, operation: Operation, answer: Answer) {
        // There may be thousands of letters, and the wish to send them is in the log.
        if !matches!(operation, Operation::LetterDelivered(_)) {
            tracing::info!("request of the operator: {operation}");
        }
        let now = self.moment();
        let pending = match &operation {
            Operation::ForgetSeries { device, metric } => {
                match self.pipeline.forget_series(device, metric.as_deref(), now) {
                    0 => Pending::Outcome(Outcome::Unknown(
                        "no such series is watched, and no alert is about it".to_owned(),
                    )),
                    count => Pending::Outcome(Outcome::Done(format!("forgot {count} series"))),
                }
            }
            Operation::ClearAlert(key) => Pending::Outcome(match self.pipeline.clear_alert(key, now) {
                true => Outcome::Done("cleared".to_owned()),
                false => Outcome::Unknown("no such alert is raised".to_owned()),
            }),
            Operation::DropSink(name) => {
                self.open.input.dropped_sinks.push(name.clone());
                Pending::DroppedSink(name.clone())
            }
            Operation::LetterDelivered(letter) => {
                self.open.input.letters.push(letter.clone());
                Pending::Outcome(Outcome::Done(String::new()))
            }
        };
        self.open.answers.push((answer, pending));
        self.hurry();
    }
}
