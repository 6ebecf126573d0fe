//! Rules that see messages, on the listener's thread: each publish is shown to them as it comes. What they want stored goes to the pipeline
//! with the publish, and is stored in the same commit; what they publish is passed on after it, behind the publish itself.

use std::sync::Arc;

use super::Edge;
use super::publish::{Batch, Decoding, Published, Republished};
use super::router::Draft;
use crate::clock;
use crate::core::mqtt::pace::Urgency;
use crate::core::mqtt::packet::PassedOn;
use crate::core::rulebook::{Derived, Effects, Failure, Message, RuleMessage, Rulebook};
use crate::handoff::rules::CurrentRules;
use crate::handoff::{Input, PipelineGone};
use crate::ingest::Decoded;

/// The rules that the listener runs.
pub(super) struct EdgeRules {
    current: CurrentRules,
    book: Arc<Rulebook>,
    /// Of the book; none has the highest number.
    version: u64,
    seed: u64,
}

impl EdgeRules {
    pub fn new(current: CurrentRules) -> EdgeRules {
        // Without a source of randomness ids are less random, which is no reason not to run.
        EdgeRules { book: Arc::default(), current, version: u64::MAX, seed: getrandom::u64().unwrap_or_default() }
    }

    fn next_seed(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.seed
    }
}

impl<T: From<Input> + 'static> Edge<T> {
    /// Between two reads: if there are newer rules, they hold for all that comes from here on, also in the pipeline.
    pub(super) fn renew_rules(&self) -> Result<(), PipelineGone> {
        let mut rules = self.rules.borrow_mut();
        let version = rules.current.version();
        if version != rules.version {
            (rules.version, rules.book) = (version, rules.current.book());
            self.pipeline.adopt_rules(Arc::clone(&rules.book))?;
        }
        Ok(())
    }

    /// Shows a publish to the rules. `made_by`: the rules that made it. Returns whether a rule is for messages of its topic.
    pub(super) fn let_rules_see(
        &self,
        published: &Published<'_>,
        decoding: Decoding,
        made_by: &[u16],
        batch: &mut Batch,
    ) -> bool {
        let mut rules = self.rules.borrow_mut();
        if rules.book.sees_no_message() || !rules.book.sees(published.topic) {
            return false;
        }
        let (book, seed) = (Arc::clone(&rules.book), rules.next_seed());
        drop(rules);
        let device = batch.readings.iter_from(decoding.before).next().map(|reading| reading.device.to_owned());
        let message = Message {
            topic: published.topic,
            payload: published.payload,
            client_id: published.client_id,
            properties: published.properties,
            received_at_ms: published.received_at_ms,
            device: device.as_deref(),
            seed,
            made_by,
        };
        let mut effects = Effects::default();
        book.apply(&message, &clock::nanoseconds, &mut effects);
        if !effects.records.is_empty() || !effects.messages.is_empty() {
            batch.urgency = Urgency::Urgent;
        }
        if std::mem::take(&mut effects.drops) {
            batch.dropped += (batch.readings.len() - decoding.before) as u64;
            batch.readings.drop_from(decoding.mark);
        }
        self.make_readings(&book, published, &mut effects, batch);
        for message in std::mem::take(&mut effects.messages) {
            self.republish(published, message, made_by, batch);
        }
        batch.effects.extend(effects);
        true
    }

    /// The readings that rules make of messages. A result that is no reading is an error of its rule.
    fn make_readings(&self, book: &Rulebook, published: &Published<'_>, effects: &mut Effects, batch: &mut Batch) {
        for made in std::mem::take(&mut effects.readings) {
            let Derived::Payload(payload) = &made.what else { continue };
            let (mut ingest, readings) = (self.ingest.borrow_mut(), &mut batch.readings);
            match ingest.decode_of(&made.device, payload, published.received_at_ms, readings) {
                Decoded::Stored { readings } => batch.derived += readings as u64,
                Decoded::Undecodable { reason } => {
                    book.rule(made.rule).into_iter().for_each(|rule| rule.tally.failed());
                    let message = format!("readings: the result is not taken: {reason}");
                    effects.failures.push(Failure { rule: made.rule, message });
                }
                Decoded::Unrouted => {}
            }
        }
    }

    /// What a rule publishes is a publish as any other: routes and rules see it too, but not those that it comes from.
    fn republish(&self, of: &Published<'_>, message: RuleMessage, made_by: &[u16], batch: &mut Batch) {
        let RuleMessage { rule, topic, payload, qos, retain } = message;
        let made_by: Vec<u16> = made_by.iter().copied().chain([rule]).collect();
        let published = Published {
            topic: &topic,
            payload: &payload,
            qos,
            client_id: None,
            properties: PassedOn::default(),
            received_at_ms: of.received_at_ms,
        };
        if self.decode_made_by(&published, &made_by, batch) {
            let may_have_receivers = self.fanout.may_reach(&topic);
            let draft = Draft { topic: &topic, payload: &payload, qos, retain, ..Draft::default() };
            let prepared = self.fanout.prepare(draft, &mut batch.entries);
            batch.republished.push(Republished { prepared, may_have_receivers });
        }
    }
}
