//! What a publish becomes: readings, a sample of an undecodable payload, or an acknowledgement of an alert. A will is a publish too.

use std::sync::Arc;
use std::time::Instant;

use super::Edge;
use super::router::Envelope;
use crate::core::detection::alert::{self, AlertKey};
use crate::core::mqtt::pace::Urgency;
use crate::core::mqtt::publishing::{self, PublishVerdict, Voice};
use crate::core::mqtt::session::Will;
use crate::core::mqtt::topic;
use crate::core::reading::Readings;
use crate::handoff::{AlertAcknowledgement, Input, PipelineGone, SessionProgress, Submission, Undecodable};
use crate::ingest::{Decoded, SAMPLE_BYTES_MAX};

/// The publishes of one socket read.
#[derive(Default)]
pub(super) struct Batch {
    pub publishes: usize,
    /// How many need a PUBACK.
    pub answers: u64,
    pub urgency: Urgency,
    pub readings: Readings,
    pub undecodable: Vec<Undecodable>,
    pub held_bytes: usize,
}

impl Batch {
    pub fn for_read_of(bytes: usize) -> Batch {
        Batch { readings: Readings::for_read_of(bytes), ..Batch::default() }
    }

    pub fn submission(self, session: &Arc<SessionProgress>, through: u64) -> Submission {
        Submission {
            session: Arc::clone(session),
            through,
            publishes: self.publishes as u64,
            wants_answer: self.answers > 0,
            urgency: self.urgency,
            readings: self.readings,
            undecodable: self.undecodable,
            held_bytes: self.held_bytes,
            share: None,
        }
    }
}

impl<T: From<Input> + 'static> Edge<T> {
    /// Decodes one publish into the batch. Returns whether it may be fanned out.
    pub(super) fn decode(&self, topic: &str, qos: u8, payload: &[u8], now_ms: i64, batch: &mut Batch) -> bool {
        let decoded = self.ingest.borrow_mut().decode(topic, payload, now_ms, &mut batch.readings);
        match decoded {
            Decoded::Stored { .. } => true,
            Decoded::Unrouted => {
                self.counters.note_unrouted(topic);
                self.note_unrouted(topic, qos, payload);
                self.settings.unrouted == super::Unrouted::Pass
            }
            Decoded::Undecodable { reason } => {
                self.note_undecodable(reason, topic, payload);
                batch.undecodable.push(Undecodable {
                    reason,
                    topic: topic.to_owned(),
                    sample: payload[..payload.len().min(SAMPLE_BYTES_MAX)].to_vec(),
                    received_at_ms: now_ms,
                });
                true
            }
        }
    }

    /// The first of each kind is examined: the status says what would take it, and so does the log, once for each line of configuration.
    fn note_undecodable(&self, reason: &'static str, topic: &str, payload: &[u8]) {
        let mut kinds = self.counters.undecodable.lock().expect("nothing panics while it is held");
        let hint = || self.ingest.borrow().hint(topic, payload, reason);
        if let Some(advice) = kinds.note((reason, topic, payload), Instant::now(), hint) {
            tracing::warn!("a publish to \"{}\" is not stored: {advice}", topic.escape_debug());
        }
    }

    /// For a publish that is not stored: the log names the missing route, and an alert tells whoever expects its numbers to be stored.
    fn note_unrouted(&self, topic: &str, qos: u8, payload: &[u8]) {
        let mut unrouted = self.unrouted.borrow_mut();
        unrouted.advise(topic);
        let now = Instant::now();
        if qos > 0 && unrouted.is_due(topic, now) && self.ingest.borrow_mut().carries_number(payload) {
            // Without a pipeline the process is ending.
            let _ = self.pipeline.report(unrouted.report(topic, now));
        }
    }

    /// Returns whether it was accepted.
    pub(super) fn acknowledge_alert(&self, topic: &str, payload: &[u8], client_id: &str) -> Result<bool, PipelineGone> {
        let Some((device, metric, kind)) = topic::alert_acknowledgement(topic) else {
            return Ok(false);
        };
        let by = match alert::read_by(payload) {
            Ok(by) => by,
            Err(error) => {
                if let Some(more) = self.refusals.borrow_mut().permit((self.now_ms)()) {
                    tracing::warn!(client_id, topic, more, "acknowledgement of an alert dropped: {error}");
                }
                return Ok(false);
            }
        };
        let [device, metric, kind] = [device, metric, kind].map(topic::percent_decode);
        let key = AlertKey { device, metric, kind };
        self.pipeline.acknowledge(AlertAcknowledgement { key, by, share: None })?;
        Ok(true)
    }

    /// A will is a publish like any other: stored, then fanned out.
    pub(super) async fn publish_will(&self, client_id: &str, will: Will) {
        if publishing::judge(Voice::Will, &will.topic) != Ok(PublishVerdict::Take) {
            self.counters.publishes_refused.add(1);
            return self.warn_of_topic(client_id, &will.topic);
        }
        let mut place = self.pipeline.place();
        place.turn().await;
        let mut batch = Batch { publishes: 1, urgency: Urgency::Urgent, ..Batch::default() };
        if !self.decode(&will.topic, will.qos, &will.payload, (self.now_ms)(), &mut batch) {
            return;
        }
        let progress = Arc::<SessionProgress>::default();
        if self.pipeline.submit(batch.submission(&progress, 1)).is_err() {
            return;
        }
        drop(place);
        while progress.committed() < 1 && !progress.is_failed() && progress.take_refused().is_none() {
            progress.changed().await;
        }
        if progress.committed() >= 1 {
            let envelope = Envelope::new(&will.topic, &will.payload, will.qos.min(1));
            // The listener notices a dead router and ends the process.
            if let Ok(Some(passing_on)) = self.fanout.pass_on(envelope, will.retain) {
                let _ = passing_on.await;
            }
        }
    }

    pub(super) fn warn_of_topic(&self, client_id: &str, topic: &str) {
        if let Some(more) = self.refusals.borrow_mut().permit((self.now_ms)()) {
            tracing::warn!(client_id, topic, more, "publish dropped: alerts/ and outrider/ belong to the gateway");
        }
    }
}
