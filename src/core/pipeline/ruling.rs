//! Rules that see readings, and what rules of both kinds want done.

use std::collections::VecDeque;

use super::*;
use crate::detection::alert::{Weight, rule_text};
use crate::identity::Streams;
use crate::reading::{Attributes, TimeQuality, pack_attribute};
use crate::record::{RulePayload, RuleRecord};
use crate::rulebook::{
    AlertVerdict, AlertWord, Conditions, Derived, DerivedReadings, Effects, RecordDraft, RuleMessage, Seen, Summary,
};

/// Most messages and failures that are kept until they are asked for.
const KEPT_MAX: usize = 4_096;
/// Attribute of a reading that a rule has made: the rule's name.
const RULE_ATTRIBUTE: &str = "rule";
/// Attribute of a reading that stands for a span of time: the length of the span, in milliseconds.
const SPAN_ATTRIBUTE: &str = "span_ms";

/// Rules at work in the pipeline.
#[derive(Debug)]
pub(super) struct Ruling {
    pub book: Arc<Rulebook>,
    pub conditions: Conditions,
    /// Counts nanoseconds.
    stopwatch: fn() -> u64,
    /// What the last reading brought about; a buffer that is used again.
    effects: Effects,
    /// Readings that rules have made, to be taken behind the one that they were made of.
    derived: VecDeque<DerivedReading>,
    /// All streams of the store, by name.
    streams: Streams,
    /// Records that could not be stored when they were made, because the reading could not either.
    waiting: VecDeque<RecordDraft>,
    messages: Vec<RuleMessage>,
    failures: Vec<(Arc<str>, String)>,
    /// Since the last commit.
    dropped: u64,
    summarised: u64,
    made: u64,
    /// Readings that were kept out of the raw stream before they came here.
    dropped_before: u64,
    /// Readings that came here because rules have made them.
    made_before: u64,
}

#[derive(Debug)]
struct DerivedReading {
    device: Box<str>,
    metric: Box<str>,
    value: f64,
    measured_at_ms: i64,
    received_at_ms: i64,
    time_quality: TimeQuality,
    made_by: Vec<u16>,
}

impl Ruling {
    pub fn new(settings: RuleSettings) -> Ruling {
        Ruling {
            book: settings.book,
            conditions: Conditions::default(),
            stopwatch: settings.stopwatch,
            effects: Effects::default(),
            derived: VecDeque::new(),
            streams: Streams::default(),
            waiting: VecDeque::new(),
            messages: Vec::new(),
            failures: Vec::new(),
            dropped: 0,
            summarised: 0,
            made: 0,
            dropped_before: 0,
            made_before: 0,
        }
    }

    /// Counts a reading that goes into the raw stream, if rules have made it.
    pub fn count_made(&mut self, is_kept: bool, made_by: &[u16]) {
        self.made += u64::from(is_kept && !made_by.is_empty());
    }

    /// Takes the amounts to be added to the store's totals with the next commit. Of the readings that were accepted, those that are not
    /// stored as they are do not count as such.
    pub fn totals(&mut self, accepted: u64) -> [(&'static str, u64); 4] {
        let take = |count: &mut u64| std::mem::take(count);
        let (dropped, summarised, made_before) =
            (take(&mut self.dropped), take(&mut self.summarised), take(&mut self.made_before));
        [
            ("accepted", accepted.saturating_sub(dropped + summarised + made_before)),
            ("dropped_by_rule", dropped + take(&mut self.dropped_before)),
            ("summarised_by_rule", summarised),
            ("derived", take(&mut self.made) + made_before),
        ]
    }
}

impl Pipeline {
    /// Lets other rules take the place of those before: what an alert of a rule that is gone, or is another one now, was about is no longer
    /// watched for.
    pub fn adopt_rules(&mut self, book: Arc<Rulebook>, now: Moment) {
        if Arc::ptr_eq(&book, &self.ruling.book) {
            return;
        }
        // Nobody else would: their rules may be gone.
        self.close_spans(now);
        let before = std::mem::replace(&mut self.ruling.book, book);
        self.ruling.conditions.adopt(&before, &self.ruling.book);
        let book = Arc::clone(&self.ruling.book);
        let is_obsolete = |key: &AlertKey| before.named(&key.kind).is_some() && !book.goes_on(&before, &key.kind);
        self.book.clear_all(now, is_obsolete, ClearedReason::Configuration, &mut self.changes);
        self.record_changes(now);
        self.note_rule_alerts();
    }

    /// Says which streams there are: rules know them by their names.
    pub fn name_streams(&mut self, streams: Streams) {
        self.ruling.streams = streams;
    }

    /// Takes the messages that rules publish. To be sent once what is open now is stored.
    pub fn take_rule_messages(&mut self) -> Vec<RuleMessage> {
        std::mem::take(&mut self.ruling.messages)
    }

    /// Readings that no condition saw, because there are too many devices; since the start.
    pub fn readings_no_rule_saw(&self) -> u64 {
        self.ruling.conditions.left_out()
    }

    /// Whether rules publish something.
    pub fn has_rule_messages(&self) -> bool {
        !self.ruling.messages.is_empty()
    }

    /// What rules that have seen messages say of alerts, where the messages cannot be stored.
    pub fn say_unstored(&mut self, words: &[AlertWord], now: Moment) {
        words.iter().for_each(|word| self.say(word, now));
        self.record_changes_unstored(now);
    }

    /// Takes the failures of rules, each with the rule's name.
    pub fn take_rule_failures(&mut self) -> Vec<(Arc<str>, String)> {
        std::mem::take(&mut self.ruling.failures)
    }

    /// Carries out what rules want done that have looked at messages.
    pub fn carry_out(&mut self, effects: &mut Effects, now: Moment) {
        self.carry_out_of(effects, now);
        self.record_changes(now);
    }

    /// Counts readings that rules kept out of the raw stream before they came here, and those that come here because rules have made them.
    pub fn count_ruled(&mut self, dropped: u64, made: u64) {
        self.ruling.dropped_before += dropped;
        self.ruling.made_before += made;
    }

    /// Lets the rules look at a reading that was judged. Returns whether it goes into the raw stream as it is.
    pub(super) fn let_rules_see(
        &mut self,
        reading: &Reading<'_>,
        verdict: Verdict,
        made_by: &[u16],
        now: Moment,
    ) -> bool {
        let book = Arc::clone(&self.ruling.book);
        let mut effects = std::mem::take(&mut self.ruling.effects);
        let seen = self.seen(reading, verdict, made_by, now);
        self.ruling.conditions.see(&book, &seen, &self.ruling.stopwatch, &mut effects);
        // One that a rule has made was not received, so it is not missing among what was.
        let was_received = u64::from(made_by.is_empty());
        // A reading that cannot be stored comes again: then it is decided what becomes of it.
        let is_kept = match (effects.drops, effects.downsampled_by) {
            _ if self.unstored.judges_only() => {
                effects.readings.clear();
                true
            }
            (true, _) => {
                self.ruling.dropped += was_received;
                false
            }
            (false, Some(place)) => {
                self.ruling.summarised += was_received;
                for summary in self.ruling.conditions.sample_down(&book, place, &seen) {
                    self.summarise(&summary, now);
                }
                false
            }
            (false, None) => true,
        };
        // A replay of what is stored would not restore what this reading has changed.
        self.snapshots.has_news |= !is_kept;
        for derived in effects.readings.drain(..) {
            self.derive(derived, reading, made_by);
        }
        self.carry_out_of(&mut effects, now);
        (effects.drops, effects.downsampled_by) = (false, None);
        self.ruling.effects = effects;
        is_kept
    }

    fn seen<'a>(&self, reading: &'a Reading<'a>, verdict: Verdict, made_by: &'a [u16], now: Moment) -> Seen<'a> {
        let score = self.findings.list.iter().map(|finding| finding.score).fold(0.0, f64::max);
        Seen { reading, verdict, score, is_late: self.findings.late, now, made_by }
    }

    fn derive(&mut self, derived: DerivedReadings, of: &Reading<'_>, made_by: &[u16]) {
        let DerivedReadings { rule, device, what } = derived;
        let Derived::Value { metric, value } = what else { return };
        let made_by = made_by.iter().copied().chain([rule]).collect();
        let &Reading { measured_at_ms, received_at_ms, time_quality, .. } = of;
        self.ruling.derived.push_back(DerivedReading {
            device,
            metric,
            value,
            measured_at_ms,
            received_at_ms,
            time_quality,
            made_by,
        });
    }

    /// Takes the readings that rules have made of those before.
    pub(super) fn take_derived(&mut self, arrival: Arrival, now: Moment) {
        while let Some(derived) = self.ruling.derived.pop_front() {
            let name =
                derived.made_by.last().and_then(|place| self.ruling.book.rule(*place)).map(|rule| rule.name.clone());
            let mut packed = Vec::new();
            pack_attribute(&mut packed, RULE_ATTRIBUTE, name.as_deref().unwrap_or_default());
            let reading = Reading {
                received_at_ms: derived.received_at_ms,
                time_quality: derived.time_quality,
                attributes: Attributes::from_own(&packed),
                ..Reading::at(derived.measured_at_ms, &derived.device, &derived.metric, derived.value)
            };
            let place = self.monitor.locate(reading.device, reading.metric);
            self.findings.late = false;
            self.take_one(place, &reading, &derived.made_by, arrival, now);
        }
    }

    /// Stores a reading that stands for a span of time. The detectors have seen the readings themselves.
    fn summarise(&mut self, summary: &Summary, now: Moment) {
        let mut packed = Vec::new();
        pack_attribute(&mut packed, SPAN_ATTRIBUTE, &summary.every_ms.to_string());
        let mut reading = Reading {
            received_at_ms: now.wall_ms,
            attributes: Attributes::from_own(&packed),
            ..Reading::at(summary.at_ms, &summary.device, &summary.metric, summary.value)
        };
        self.receipts.stamp(&mut reading);
        self.open.of_mut(Stream::RAW).number(reading.received_at_ms);
        self.open.of_mut(Stream::RAW).encoder.push_reading(&reading);
        self.ruling.made += 1;
    }

    /// Whether a stored reading stands for a span of time.
    pub(super) fn is_summary(reading: &Reading<'_>) -> bool {
        reading.attributes.iter().any(|(name, _)| name == SPAN_ATTRIBUTE)
    }

    /// What time alone brings.
    pub(super) fn tick_rules(&mut self, now: Moment) {
        if self.ruling.book.sees_no_reading() {
            return;
        }
        let book = Arc::clone(&self.ruling.book);
        let mut effects = std::mem::take(&mut self.ruling.effects);
        self.ruling.conditions.tick(&book, now, &self.ruling.stopwatch, &mut effects);
        self.carry_out_of(&mut effects, now);
        self.close(now, |conditions| conditions.close_silent(&book, now));
        self.ruling.effects = effects;
        self.record_changes(now);
        self.note_rule_alerts();
    }

    /// Closes the spans of time that rules hold back readings for: the process ends, or other rules come.
    pub fn close_spans(&mut self, now: Moment) {
        let book = Arc::clone(&self.ruling.book);
        self.close(now, |conditions| conditions.close_all(&book));
    }

    /// Stores what was held back, unless no reading can be stored at present: then it goes on being held back.
    fn close(&mut self, now: Moment, close: impl FnOnce(&mut Conditions) -> Vec<Summary>) {
        if self.unstored.stores_readings() {
            let summaries = close(&mut self.ruling.conditions);
            summaries.iter().for_each(|summary| self.summarise(summary, now));
        }
    }

    fn carry_out_of(&mut self, effects: &mut Effects, now: Moment) {
        for word in effects.words.drain(..) {
            self.say(&word, now);
        }
        // In the order in which they were made.
        self.ruling.waiting.extend(effects.records.drain(..));
        self.store_records();
        for message in effects.messages.drain(..) {
            match self.ruling.messages.len() < KEPT_MAX {
                true => self.ruling.messages.push(message),
                false => self.ruling.book.rule(message.rule).into_iter().for_each(|rule| rule.tally.failed()),
            }
        }
        for failure in effects.failures.drain(..) {
            let name = self.ruling.book.rule(failure.rule).map(|rule| Arc::clone(&rule.name));
            if let Some(name) = name.filter(|_| self.ruling.failures.len() < KEPT_MAX) {
                self.ruling.failures.push((name, failure.message));
            }
        }
    }

    /// Puts records into their streams, unless the reading that is looked at cannot be stored either.
    fn store_records(&mut self) {
        if self.unstored.judges_only() || self.unstored.stores_nothing() {
            self.ruling.waiting.truncate(KEPT_MAX);
            return;
        }
        let book = Arc::clone(&self.ruling.book);
        while let Some(draft) = self.ruling.waiting.pop_front() {
            let Some(rule) = book.rule(draft.rule) else { continue };
            let payload = match draft.is_json {
                true if draft.payload.is_empty() => RulePayload::Json(b"null"),
                true => RulePayload::Json(&draft.payload),
                false => RulePayload::Binary(&draft.payload),
            };
            let record = RuleRecord {
                stream: &draft.stream,
                rule: &rule.name,
                device: draft.device.as_deref(),
                topic: draft.topic.as_deref(),
                received_at_ms: draft.received_at_ms,
                payload,
            };
            let refusal = match self.ruling.streams.find(&draft.stream) {
                Some(stream) => self.push_record(stream, &record).err().map(|refusal| refusal.to_string()),
                None => Some(format!("there is no stream {}", draft.stream)),
            };
            if let Some(refusal) = refusal {
                rule.tally.failed();
                self.ruling.failures.push((Arc::clone(&rule.name), format!("stream: {refusal}")));
            }
        }
    }

    fn say(&mut self, word: &AlertWord, now: Moment) {
        let book = Arc::clone(&self.ruling.book);
        let Some(rule) = book.rule(word.rule) else { return };
        let key = key_of(word, &rule.name);
        let (severity, message, value) = match &word.verdict {
            AlertVerdict::Raised { severity, message, value } => (*severity, message.as_deref(), *value),
            verdict => {
                self.book.hear_rule(now, &key, *verdict == AlertVerdict::Good, &mut self.changes);
                return;
            }
        };
        let position = match self.unstored.stores_nothing() {
            true => self.unstored.next_identity(),
            false => self.open.of(Stream::ANOMALIES).position + 1,
        };
        let text = message.map_or_else(|| rule_text(&rule.name, &key.device, &key.metric, value), str::to_owned);
        let flag = Flag {
            device: &key.device,
            metric: &key.metric,
            kind: &key.kind,
            detectors: &[],
            weight: Weight::just(severity),
            value,
            text: Some(&text),
            expected: None,
            score: 1.0,
            run: self.run,
            position,
            is_held: true,
            rhythm: None,
            limits: 0,
            is_pending: false,
            maturity: None,
            holder: self.monitor.holder_of(&key.device, &key.metric, 0),
        };
        self.book.flag(now, &flag, &mut self.changes);
        rule.tally.set_alert(true);
    }

    /// Rules of which an alert is raised say when all is well again; the others need not.
    pub(super) fn note_rule_alerts(&mut self) {
        for rule in self.ruling.book.rules().iter().filter(|rule| rule.has_alert()) {
            rule.tally.set_alert(self.book.has_raised(&rule.name));
        }
    }

    /// Shows a stored reading to the rules again: they learn from it, and nothing is done.
    pub(super) fn replay_to_rules(&mut self, reading: &Reading<'_>, verdict: Verdict, received: Moment) {
        if self.ruling.book.sees_no_reading() {
            return;
        }
        let book = Arc::clone(&self.ruling.book);
        let mut effects = Effects::default();
        let seen = self.seen(reading, verdict, &[], received);
        self.ruling.conditions.see(&book, &seen, &|| 0, &mut effects);
        for word in &effects.words {
            let Some(rule) = book.rule(word.rule) else { continue };
            self.book.hear_rule_again(received, &key_of(word, &rule.name), word.verdict == AlertVerdict::Good);
        }
    }

    /// Where the conditions of rules stand, for the next start.
    pub(super) fn encode_rules(&self, out: &mut Vec<u8>) {
        self.ruling.conditions.encode(&self.ruling.book, self.now, out);
    }
}

/// The alert that a rule speaks of.
fn key_of(word: &AlertWord, rule: &str) -> AlertKey {
    AlertKey { device: word.device.to_string(), metric: word.metric.to_string(), kind: rule.to_owned() }
}

#[cfg(test)]
mod tests;
