//! What rules want done: they decide, the pipeline and the listener act.

use std::sync::Arc;

use crate::detection::severity::Severity;

/// What the rules that looked at a message, or at a reading, want done.
#[derive(Debug, Default)]
pub struct Effects {
    /// What is said of alerts.
    pub words: Vec<AlertWord>,
    /// Records of named streams.
    pub records: Vec<RecordDraft>,
    /// Messages to be published.
    pub messages: Vec<RuleMessage>,
    /// Further readings.
    pub readings: Vec<DerivedReadings>,
    /// What went wrong, for the log; error actions have been taken.
    pub failures: Vec<Failure>,
    /// Readings of the message, or the reading, are kept out of the raw stream.
    pub drops: bool,
    /// The reading is replaced by one for each span of time, by the rule of this place.
    pub downsampled_by: Option<u16>,
}

impl Effects {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        let Effects { words, records, messages, readings, failures, drops, downsampled_by } = self;
        let has_lists = !(words.is_empty() && records.is_empty() && messages.is_empty() && readings.is_empty());
        !(has_lists || !failures.is_empty() || *drops || downsampled_by.is_some())
    }

    /// Takes over what others want done.
    pub fn extend(&mut self, others: Effects) {
        let Effects { words, records, messages, readings, failures, drops, downsampled_by } = others;
        self.words.extend(words);
        self.records.extend(records);
        self.messages.extend(messages);
        self.readings.extend(readings);
        self.failures.extend(failures);
        self.drops |= drops;
        self.downsampled_by = self.downsampled_by.or(downsampled_by);
    }

    /// Bytes that they take on their way to the disk.
    pub fn byte_size(&self) -> usize {
        let words = self.words.iter().map(|word| word.device.len() + word.metric.len());
        let records = self.records.iter().map(|record| record.payload.len() + size_of::<RecordDraft>());
        let messages = self.messages.iter().map(|message| message.payload.len() + message.topic.len());
        words.chain(records).chain(messages).sum()
    }
}

/// What a rule says of its alert about a device.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertWord {
    /// The rule's place in its book.
    pub rule: u16,
    /// Which device the alert is about.
    pub device: Box<str>,
    /// Which of its metrics; [`crate::detection::alert::RULE_METRIC`] if none.
    pub metric: Box<str>,
    /// What is said.
    pub verdict: AlertVerdict,
}

/// What is said of an alert.
#[derive(Clone, Debug, PartialEq)]
pub enum AlertVerdict {
    /// It is raised, or goes on.
    Raised {
        /// As configured.
        severity: Severity,
        /// What it says to people.
        message: Option<Box<str>>,
        /// `NaN` if it is about no value.
        value: f64,
    },
    /// Not raised by this, and nothing has shown that it is over.
    Bad,
    /// All is well.
    Good,
}

/// A record of a named stream, before it has a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordDraft {
    /// The rule's place in its book.
    pub rule: u16,
    /// The name of the stream that it goes to.
    pub stream: Arc<str>,
    /// The device, where one is known.
    pub device: Option<Box<str>>,
    /// Of the message; `None` of a reading.
    pub topic: Option<Box<str>>,
    /// By the gateway's clock, in milliseconds since 1970.
    pub received_at_ms: i64,
    /// The result.
    pub payload: Box<[u8]>,
    /// The result is JSON, and not any bytes.
    pub is_json: bool,
}

/// A message that a rule publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMessage {
    /// The rule's place in its book.
    pub rule: u16,
    /// A topic that MQTT allows, and not one of the gateway's own.
    pub topic: Box<str>,
    /// What is published.
    pub payload: Box<[u8]>,
    /// Quality of service, 0 or 1.
    pub qos: u8,
    /// Whether it is kept for later subscribers.
    pub retain: bool,
}

/// Readings that a rule makes.
#[derive(Clone, Debug, PartialEq)]
pub struct DerivedReadings {
    /// The rule's place in its book.
    pub rule: u16,
    /// Their device.
    pub device: Box<str>,
    /// What they say.
    pub what: Derived,
}

/// What derived readings say.
#[derive(Clone, Debug, PartialEq)]
pub enum Derived {
    /// A payload that is read as one of the device's own.
    Payload(Box<[u8]>),
    /// One value, at the time of the reading that it was made of.
    Value {
        /// Its metric.
        metric: Box<str>,
        /// Finite.
        value: f64,
    },
}

/// An error of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The rule's place in its book.
    pub rule: u16,
    /// What went wrong.
    pub message: String,
}
