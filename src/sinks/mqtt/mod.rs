//! Records as messages to another MQTT broker, at QoS 1.
//!
//! All streams of a sink share one connection, which always begins clean: what is not acknowledged when it ends is sent again from the store,
//! so it may arrive twice, with the same identity. What a broker can never take, for its size, its topic or its depth, is looked at before it
//! is sent, and [`blame`](crate::core::mqtt::client::blame) finds what a broker takes offence at all the same.
//!
//! ```text
//! outcome, messages <- uplink <- sink
//! ```

mod messages;
mod outcome;
pub mod sink;
mod uplink;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::core::delivery::{Outcome, OutgoingRecord, Reply, Scope};
use crate::core::mqtt::client::Message;
use crate::sinks::Sink;
use crate::sinks::status::ForwardStatus;
use crate::uplink::{Handle, Published, Publishing};
use messages::MessageMaker;
use uplink::Uplink;

/// Publishes one stream of the store.
pub struct MqttSink {
    name: String,
    uplink: Rc<Uplink>,
    maker: MessageMaker,
    status: Arc<ForwardStatus>,
    /// Whether it was said that nobody is subscribed.
    is_unheard: Cell<bool>,
}

/// A message of a record that is on its way.
struct OnItsWay {
    record: usize,
    message: Message,
    publishing: Publishing,
}

const ACCEPTED: Outcome = Outcome::Accepted { shard: None };
/// Within a request, so many connections in a row may end at a message and the next one is tried all the same.
const ENDS_IN_A_ROW_MAX: u32 = 2;

impl MqttSink {
    pub fn new(name: String, uplink: Rc<Uplink>, maker: MessageMaker, status: Arc<ForwardStatus>) -> MqttSink {
        MqttSink { name, uplink, maker, status, is_unheard: Cell::new(false) }
    }

    /// All of them at once. The first error of a record is its outcome; what was sent of it is sent again with the rest.
    async fn send_together(&self, handle: &Handle, records: &[OutgoingRecord]) -> Vec<Outcome> {
        let mut outcomes = vec![ACCEPTED; records.len()];
        let mut under_way = Vec::new();
        for (record, OutgoingRecord { device, data }) in records.iter().enumerate() {
            let messages = self.maker.messages(device, data);
            if let Some(outcome) = unfit(handle, &messages) {
                outcomes[record] = outcome;
                continue;
            }
            for message in messages {
                match handle.send(&message).await {
                    Ok(publishing) => {
                        self.count(&message);
                        under_way.push(OnItsWay { record, message, publishing });
                    }
                    Err(published) => {
                        outcomes[record] = self.outcome(published, &message);
                        break;
                    }
                }
            }
        }
        for OnItsWay { record, message, publishing } in under_way {
            let outcome = self.outcome(publishing.await, &message);
            if outcomes[record] == ACCEPTED {
                outcomes[record] = outcome;
            }
        }
        outcomes
    }

    /// One message at a time, alone on the connection.
    async fn send_alone(&self, records: &[OutgoingRecord]) -> Vec<Outcome> {
        let messages = |record: usize| self.maker.messages(&records[record].device, &records[record].data);
        // What comes through before them tells whether the suspects are to blame. Each record is of another device, so the order is free.
        let is_suspected = |record: &usize| self.uplink.suspects(&messages(*record));
        let (suspected, others): (Vec<usize>, Vec<usize>) = (0..records.len()).partition(is_suspected);
        let mut outcomes = vec![None; records.len()];
        let (mut last, mut ends_in_a_row, mut is_any_judged) = (ACCEPTED, 0, false);
        for record in others.into_iter().chain(suspected) {
            let messages = messages(record);
            last = self.send_record_alone(&messages).await;
            let is_judged = matches!(last, Outcome::Accepted { .. } | Outcome::Reject(_));
            is_any_judged |= is_judged;
            outcomes[record] = Some(last.clone());
            ends_in_a_row = if is_judged { 0 } else { ends_in_a_row + 1 };
            let may_be_its_fault = matches!(last, Outcome::Unreachable(_) | Outcome::Later { .. });
            let goes_on = may_be_its_fault && ends_in_a_row < ENDS_IN_A_ROW_MAX && self.uplink.suspects(&messages);
            if !is_judged && !goes_on {
                break;
            }
        }
        // The others wait for the next connection. If nothing was judged, it is one thing for all of them.
        let outcomes = outcomes.into_iter().map(|outcome| outcome.filter(|_| is_any_judged));
        outcomes.map(|outcome| outcome.unwrap_or_else(|| last.clone())).collect()
    }

    async fn send_record_alone(&self, messages: &[Message]) -> Outcome {
        for (at, message) in messages.iter().enumerate() {
            let _alone = self.uplink.alone.lock().await;
            let handle = match self.uplink.connect().await {
                Ok(handle) => handle,
                Err(outcome) => return outcome,
            };
            if let Some(outcome) = unfit(&handle, messages).filter(|_| at == 0) {
                return outcome;
            }
            self.count(message);
            let outcome = match handle.publish(message).await {
                Published::Unanswered(end) => self.uplink.unanswered_alone(&end, message),
                published => self.outcome(published, message),
            };
            if outcome != ACCEPTED {
                return outcome;
            }
        }
        ACCEPTED
    }

    fn outcome(&self, published: Published, message: &Message) -> Outcome {
        match published {
            Published::Accepted | Published::NobodySubscribed => {
                self.uplink.accepted(message);
                self.note_heard(published == Published::Accepted, &message.topic);
                ACCEPTED
            }
            Published::Refused(refusal) => outcome::of_refusal(&refusal, &message.topic),
            Published::Unfit(unfit) => outcome::of_unfit(&unfit, &message.topic),
            Published::Unanswered(end) => self.uplink.unanswered(&end),
        }
    }

    /// That nobody is subscribed is no fault, and yet somebody may want to know: once each time that it begins.
    fn note_heard(&self, is_heard: bool, topic: &str) {
        if !is_heard && !self.is_unheard.replace(true) {
            tracing::info!(
                sink = self.name,
                topic,
                "the broker takes what is sent, and says that nobody is subscribed"
            );
        } else if is_heard {
            self.is_unheard.set(false);
        }
    }

    fn count(&self, message: &Message) {
        self.status.sent_bytes.add((message.topic.len() + message.payload.len()) as u64);
    }
}

/// What comes of a record of which a message can never be sent: nothing of it is.
fn unfit(handle: &Handle, messages: &[Message]) -> Option<Outcome> {
    messages.iter().find_map(|message| {
        let unfit = handle.check(message).err()?;
        Some(outcome::of_unfit(&unfit, &message.topic))
    })
}

impl Sink for MqttSink {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        // It is known only after the next connection whether care is needed.
        let handle = match self.uplink.connect().await {
            Ok(handle) => handle,
            Err(outcome) => return Reply::whole(outcome, records.len()),
        };
        let outcomes = match self.uplink.is_careful() {
            true => self.send_alone(&records).await,
            false => self.send_together(&handle, &records).await,
        };
        reply(outcomes)
    }
}

/// What all records have met, and is the fault of none, is said of the request.
fn reply(outcomes: Vec<Outcome>) -> Reply {
    let is_of_all = |first: &Outcome| {
        !matches!(first, Outcome::Accepted { .. } | Outcome::Reject(_)) && outcomes.iter().all(|other| other == first)
    };
    let scope = if outcomes.first().is_some_and(is_of_all) { Scope::Request } else { Scope::Records };
    Reply { scope, outcomes, passed_over: 0 }
}
