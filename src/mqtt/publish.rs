//! What a publish becomes: readings, a sample of an undecodable payload, or an acknowledgement of an alert.

use std::sync::Arc;
use std::time::Instant;

use super::Edge;
use super::client::Client;
use super::fanout::Prepared;
use crate::core::detection::alert::{self, AlertKey, Trouble};
use crate::core::mqtt::pace::Urgency;
use crate::core::mqtt::packet::PassedOn;
use crate::core::mqtt::session::BRIDGE_ID_PREFIX;
use crate::core::mqtt::topic;
use crate::core::reading::{Mark, Readings};
use crate::core::rulebook::Effects;
use crate::handoff::{
    AlertAcknowledgement, EntryChange, Input, PipelineGone, Ruled, SessionProgress, Submission, Undecodable,
};
use crate::ingest::undecodable::Refused;
use crate::ingest::{Decoded, SAMPLE_BYTES_MAX};

/// A message, as it was published.
#[derive(Clone, Copy)]
pub(super) struct Published<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: u8,
    /// `None` if a rule publishes it.
    pub client_id: Option<&'a str>,
    /// Nothing before version 5, and of rules.
    pub properties: PassedOn<'a>,
    pub received_at_ms: i64,
}

impl Published<'_> {
    /// Whether it came from another broker.
    fn is_of_bridge(&self) -> bool {
        self.client_id.is_some_and(|client_id| client_id.starts_with(BRIDGE_ID_PREFIX))
    }
}

/// Where the readings of a publish begin in its batch.
pub(super) struct Decoding {
    pub before: usize,
    pub mark: Mark,
}

/// A message that is passed on once the publish that it comes from is stored.
pub(super) struct Republished {
    pub prepared: Prepared,
    pub may_have_receivers: bool,
}

/// The publishes of one socket read.
#[derive(Default)]
pub(super) struct Batch {
    pub publishes: usize,
    /// How many need a PUBACK.
    pub answers: u64,
    pub urgency: Urgency,
    pub readings: Readings,
    pub undecodable: Vec<Undecodable>,
    /// To be changed in the store with them.
    pub entries: Vec<EntryChange>,
    pub held_bytes: usize,
    /// What rules want done with the publishes.
    pub effects: Effects,
    /// Readings that rules kept out of the raw stream.
    pub dropped: u64,
    /// Readings that rules have made.
    pub derived: u64,
    /// What rules have made of the last publish, to be passed on behind it.
    pub republished: Vec<Republished>,
}

impl Batch {
    pub fn for_read_of(bytes: usize) -> Batch {
        Batch { readings: Readings::for_read_of(bytes), ..Batch::default() }
    }

    pub fn submission(self, session: &Arc<SessionProgress>, through: u64) -> Submission {
        let Batch { effects, dropped, derived, .. } = self;
        let is_ruled = !effects.is_empty() || dropped > 0 || derived > 0;
        Submission {
            session: Arc::clone(session),
            through,
            publishes: self.publishes as u64,
            wants_answer: self.answers > 0,
            urgency: self.urgency,
            readings: self.readings,
            undecodable: self.undecodable,
            ruled: is_ruled.then(|| Box::new(Ruled { effects, dropped, derived })),
            entries: self.entries,
            held_bytes: self.held_bytes,
            share: None,
        }
    }
}

impl<T: From<Input> + 'static> Edge<T> {
    /// Decodes one publish into the batch, and lets the rules see it. Returns whether it may be fanned out.
    pub(super) fn decode(&self, published: &Published<'_>, batch: &mut Batch) -> bool {
        self.decode_made_by(published, &[], batch)
    }

    /// The same for a publish that rules have made.
    pub(super) fn decode_made_by(&self, published: &Published<'_>, made_by: &[u16], batch: &mut Batch) -> bool {
        let &Published { topic, payload, qos, received_at_ms, .. } = published;
        if topic::is_echo(topic) {
            return true;
        }
        let (before, mark) = (batch.readings.len(), batch.readings.mark());
        let decoded = self.ingest.borrow_mut().decode(topic, payload, received_at_ms, &mut batch.readings);
        let is_ruled = self.let_rules_see(published, Decoding { before, mark }, made_by, batch);
        match decoded {
            Decoded::Stored { .. } => true,
            // A rule takes it, or has made it.
            Decoded::Unrouted if is_ruled || !made_by.is_empty() => true,
            // A line of the bridge has asked for it: it is no reading that somebody misses.
            Decoded::Unrouted if published.is_of_bridge() => true,
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
                    file: None,
                    sample: payload[..payload.len().min(SAMPLE_BYTES_MAX)].to_vec(),
                    received_at_ms,
                });
                true
            }
        }
    }

    /// The first of each kind is examined: the status says what would take it, and so does the log, once for each line of configuration.
    fn note_undecodable(&self, reason: &'static str, topic: &str, payload: &[u8]) {
        let hint = || self.ingest.borrow().hint(topic, payload, reason);
        let refused = Refused { reason, topic, sample: payload, count: 1 };
        if let Some(advice) = self.counters.undecodable.note(refused, Instant::now(), hint) {
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
        let seen = match alert::read_acknowledgement(payload) {
            Ok(seen) => seen,
            Err(error) => {
                if let Some(more) = self.refusals.borrow_mut().permit((self.now_ms)()) {
                    tracing::warn!(client_id, topic, more, "acknowledgement of an alert dropped: {error}");
                }
                return Ok(false);
            }
        };
        let [device, metric, kind] = [device, metric, kind].map(topic::percent_decode);
        let key = AlertKey { device, metric, kind };
        self.pipeline.acknowledge(AlertAcknowledgement { key, seen, answer: None, share: None })?;
        Ok(true)
    }

    /// When a message is of no use any more, by the clock of the fan-out.
    pub(super) fn deadline_ms(&self, expiry_s: Option<u32>) -> Option<u64> {
        expiry_s.map(|seconds| self.fanout.now_ms() + u64::from(seconds) * 1_000)
    }

    /// A publish was dropped because its client has no right to it.
    pub(super) fn note_denied(&self, client: &Client, topic: &str) {
        self.counters.publishes_denied.add(1);
        self.warn_of_right(client, "publish to", topic);
    }

    /// The same for a subscription.
    pub(super) fn note_denied_filter(&self, client: &Client, filter: &str) {
        self.counters.filters_denied.add(1);
        self.warn_of_right(client, "subscribe to", filter);
    }

    /// Names the user, too: a client may call itself anything.
    fn warn_of_right(&self, client: &Client, action: &str, topic: &str) {
        let (client_id, user) = (client.id(), client.identity.name.as_deref());
        if let Some(more) = self.refusals.borrow_mut().permit((self.now_ms)()) {
            tracing::warn!(client_id, user, topic, more, "denied: it has no right to {action} this");
        }
        let of_user = user.map(|user| format!(" (user {})", user.escape_debug())).unwrap_or_default();
        let text = format!(
            "clients ask for what they have no right to: {}{of_user} would {action} \"{}\"",
            client_id.escape_debug(),
            topic.escape_debug()
        );
        self.report(Trouble::Denied, text);
    }

    pub(super) fn warn_of_topic(&self, client_id: &str, topic: &str) {
        if let Some(more) = self.refusals.borrow_mut().permit((self.now_ms)()) {
            tracing::warn!(
                client_id,
                topic,
                more,
                "publish dropped: alerts/, outrider/ and what begins with $ belong to the gateway"
            );
        }
    }
}
