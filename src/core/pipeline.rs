//! What happens to a reading: it gets its position, is judged, and goes into the open batch. An anomaly becomes a record of the second
//! stream too, and may raise an alert. Sealing hands everything that is open to the writer, for one transaction.

mod alerting;
pub mod commit_clock;
mod open;
mod records;
mod ruling;
mod sealed;
mod settings;
mod snapshot;
mod teaching;
mod ticks;
mod times;
mod unstored;

pub use records::RecordRefusal;
pub use sealed::{AlertRow, Sealed, SealedBatch, SnapshotChunk};
pub use settings::{PipelineSettings, RuleSettings};
pub use snapshot::RestoredPart;
pub use times::ClockNotice;
pub use unstored::Storing;

use std::sync::Arc;

use super::batch::Tag;
use super::identity::{PerStream, RunId, Stream};
use super::json;
use super::reading::{Reading, Readings};
use super::record::{self, AnomalyPart};
use super::rulebook::Rulebook;
use crate::detection::alert::{
    self, AlertBook, AlertChange, AlertKey, AlertNews, ClearedReason, Flag, Heard, Holder, Moment, Report, ReportPacer,
    Severity, Weight,
};
use crate::detection::detectors::maturity::Maturity;
use crate::detection::detectors::{Detector, Findings, Kinds, Verdict};
use crate::detection::devices::{DEVICE_METRIC, Publisher};
use crate::detection::monitor::{Arrival, LATE_AFTER_MS, Monitor, Place};
use open::OpenBatch;
use ruling::Ruling;
use snapshot::{SnapshotPace, SnapshotRound};
use teaching::TaughtChunks;
use times::{Receipts, WrongClocks};
use unstored::Unstored;

/// Most readings, and bytes of the records of their anomalies, that are judged in one turn: then time and alerts have theirs.
const READINGS_A_TURN: usize = 2_000;
const BYTES_A_TURN: usize = 512 << 10;

/// One owner, no locks: the pipeline thread drives it, and so can a test.
#[derive(Debug)]
pub struct Pipeline {
    run: RunId,
    /// Name of the gateway, escaped for a JSON string.
    gateway: String,
    open: PerStream<OpenBatch>,
    monitor: Monitor,
    receipts: Receipts,
    wrong_clocks: WrongClocks,
    book: AlertBook,
    /// How many readings were not watched and series gave way, as last reported.
    crowd_told: u64,
    /// How many flags raised no alert, as last reported.
    unraised_told: u64,
    crowd_pacer: ReportPacer,
    accepted: u64,
    /// How many flags raised no alert, as last sealed.
    unraised_sealed: u64,
    flagged: u64,
    alerts: Vec<AlertRow>,
    news: Vec<AlertNews>,
    news_left_out: u64,
    unstored: Unstored,
    ruling: Ruling,
    findings: Findings,
    changes: Vec<AlertChange>,
    line: Vec<u8>,
    round: Option<SnapshotRound>,
    chunks_a_commit: usize,
    /// At the last tick, or at the start.
    now: Moment,
    /// The first is due at once: a start that had to replay must not leave that to the next one.
    snapshots: SnapshotPace,
    /// Sequence of the last raw record in the last complete snapshot.
    snapshot_covers: u64,
    taught: TaughtChunks,
}

impl Pipeline {
    /// A pipeline without any state; restoring comes next. `last_sequences`: of the newest records in the store; 0 where there is none. It has
    /// the streams that these have.
    pub fn new(settings: PipelineSettings, last_sequences: &PerStream<u64>) -> Pipeline {
        Pipeline {
            run: settings.run,
            gateway: json::escape(&settings.gateway),
            open: last_sequences.map(|stream, last_sequence| OpenBatch::new(stream, *last_sequence)),
            monitor: Monitor::new(settings.monitor),
            receipts: Receipts::default(),
            wrong_clocks: WrongClocks::default(),
            book: AlertBook::new(&settings.gateway, settings.alerts),
            crowd_told: 0,
            unraised_told: 0,
            crowd_pacer: ReportPacer::default(),
            accepted: 0,
            unraised_sealed: 0,
            flagged: 0,
            alerts: Vec::new(),
            news: Vec::new(),
            news_left_out: 0,
            unstored: Unstored::default(),
            ruling: Ruling::new(settings.rules),
            findings: Findings::default(),
            changes: Vec::new(),
            line: Vec::new(),
            round: None,
            chunks_a_commit: 1,
            now: Moment::default(),
            snapshots: SnapshotPace::default(),
            snapshot_covers: 0,
            taught: TaughtChunks::default(),
        }
    }

    /// The run that all its records carry.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The detectors, to be looked at.
    pub fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    /// Flagged readings since the start.
    pub fn flagged(&self) -> u64 {
        self.flagged
    }

    /// Flagged readings that raised no alert because there are too many.
    pub fn alerts_unraised(&self) -> u64 {
        self.book.unraised()
    }

    /// Alerts that are raised, stored or not.
    pub fn alerts_raised(&self) -> usize {
        self.book.raised()
    }

    /// Records waiting in the open batches.
    pub fn open_count(&self) -> u32 {
        self.open.iter().map(|(_, open)| open.count()).sum()
    }

    /// Bytes of the open batches, before compression.
    pub fn open_bytes(&self) -> usize {
        self.open.iter().map(|(_, open)| open.byte_size()).sum()
    }

    /// Readings waiting in the open batch.
    pub fn open_readings(&self) -> u32 {
        self.open.of(Stream::RAW).count()
    }

    /// Alerts that changed in the open batch, in the order in which they did.
    pub fn open_alerts(&self) -> &[AlertRow] {
        &self.alerts
    }

    /// To be called when a client was turned away: for a while no silence is reported. What is heard of others counts as before.
    pub fn excuse_silence(&mut self, now: Moment) {
        self.monitor.listen_from(now.signed_steady_ms());
    }

    /// Counts silences from now on. To be called before anything is restored.
    pub fn listen_from(&mut self, now: Moment) {
        self.now = now;
        self.monitor.listen_from(now.signed_steady_ms());
        self.ruling.conditions.listen_from(now);
        self.book.listen_from(now);
    }

    /// Takes readings that come from no client.
    pub fn take(&mut self, readings: &Readings, now: Moment) {
        self.take_from(readings, 0, now);
    }

    /// Takes the readings that one client published.
    pub fn take_from(&mut self, readings: &Readings, publisher: Publisher, now: Moment) {
        let mut taken = 0;
        while taken < readings.len() {
            taken = self.take_turn(readings, taken, publisher, now);
        }
    }

    /// Takes readings after the first `taken`, as many as one turn allows. Returns how many are taken by then.
    pub fn take_turn(&mut self, readings: &Readings, taken: usize, publisher: Publisher, now: Moment) -> usize {
        let arrival = Arrival { now_ms: now.signed_steady_ms(), publisher };
        let mut bytes_left = BYTES_A_TURN;
        let mut through = taken;
        for mut reading in readings.iter_from(taken).take(READINGS_A_TURN) {
            through += 1;
            let was_judged = self.unstored.has_judged(&reading);
            let mut place = self.monitor.locate(reading.device, reading.metric);
            self.findings.late = self.judge_times(&mut place, &mut reading, arrival);
            if was_judged {
                self.open.of_mut(Stream::RAW).number(reading.received_at_ms);
                self.open.of_mut(Stream::RAW).encoder.push_reading(&reading);
                continue;
            }
            bytes_left = bytes_left.saturating_sub(self.take_one(place, &reading, &[], arrival, now));
            self.take_derived(arrival, now);
            if bytes_left == 0 {
                break;
            }
        }
        self.accepted += (through - taken) as u64;
        through
    }

    /// Takes a reading whose times were judged when it came; it counts as late if they say so.
    pub fn take_judged(&mut self, reading: &Reading<'_>, now: Moment) {
        let arrival = Arrival { now_ms: now.signed_steady_ms(), publisher: 0 };
        let place = self.monitor.locate(reading.device, reading.metric);
        self.findings.late = reading.received_at_ms.saturating_sub(reading.measured_at_ms) > LATE_AFTER_MS;
        self.take_one(place, reading, &[], arrival, now);
        self.take_derived(arrival, now);
        self.accepted += 1;
    }

    /// Judges, numbers and encodes a reading; whether it is late has been decided. `made_by`: the rules that made it. Returns how many bytes
    /// the records of its anomaly and alerts take, because they are what costs time.
    fn take_one(
        &mut self,
        place: Place,
        reading: &Reading<'_>,
        made_by: &[u16],
        arrival: Arrival,
        now: Moment,
    ) -> usize {
        let before = self.open.of(Stream::ANOMALIES).byte_size();
        let verdict = self.monitor.judge_at(place, reading, arrival, &mut self.findings);
        let is_kept = self.ruling.book.sees_no_reading() || self.let_rules_see(reading, verdict, made_by, now);
        self.ruling.count_made(is_kept, made_by);
        let raw_position = is_kept.then(|| {
            let raw = self.open.of_mut(Stream::RAW);
            let position = raw.number(reading.received_at_ms);
            raw.encoder.push_reading(reading);
            position
        });
        if verdict == Verdict::Anomalous {
            self.flag(reading, raw_position, arrival.publisher, now);
        }
        if self.findings.series_may_have_alert || self.findings.device_may_have_alert {
            self.hear(reading, now);
        }
        self.open.of(Stream::ANOMALIES).byte_size() - before
    }

    /// Makes an anomaly a record of the second stream, and raises an alert unless the reading is late.
    fn flag(&mut self, reading: &Reading<'_>, raw_position: Option<u64>, publisher: Publisher, now: Moment) {
        self.flagged += 1;
        let findings = std::mem::take(&mut self.findings);
        let first = findings.list.first().expect("anomalous means at least one finding");
        let also: Vec<&str> = findings.list[1..].iter().map(|finding| finding.detector.name()).collect();
        let part = AnomalyPart {
            raw_position,
            detector: first.detector.name(),
            also: &also,
            score: first.score,
            expected: first.expected,
            spread: first.spread,
            reason: &first.reason,
            late: findings.late,
            maturity: findings.maturity.map(Maturity::name),
        };
        let position = self.open.of_mut(Stream::ANOMALIES).number(reading.received_at_ms);
        self.line.clear();
        record::write_anomaly(&mut self.line, &self.gateway, self.run, position, reading, &part);
        self.open.of_mut(Stream::ANOMALIES).encoder.push_line(Tag::Anomaly, reading.device, &self.line);
        if !findings.late {
            let holder = self.monitor.holder_of(reading.device, reading.metric, publisher);
            // A reading that a rule keeps out of the raw stream is known by its record in the second.
            self.raise(reading, raw_position.unwrap_or(position), &findings, holder, now);
        }
        self.findings = findings;
    }

    /// Whether the next commit has a part of a snapshot to carry.
    pub fn is_snapshot_open(&self) -> bool {
        self.round.is_some() || self.taught.is_open()
    }

    /// Makes a record of the gateway's own and returns it whole. `tail` holds the fields after those that every record begins with. While
    /// nothing can be stored the record has no position, and is only shown.
    pub fn gateway_record(&mut self, tail: &[u8], now: Moment) -> Vec<u8> {
        let is_stored = !self.unstored.stores_nothing();
        let position =
            if is_stored { self.open.of_mut(Stream::ANOMALIES).number(now.wall_ms) } else { record::NO_POSITION };
        let mut line = Vec::with_capacity(tail.len() + 128);
        record::write_start(&mut line, "gateway", &self.gateway, self.run, position);
        line.extend_from_slice(tail);
        if is_stored {
            self.open.of_mut(Stream::ANOMALIES).encoder.push_line(Tag::Gateway, "_gateway", &line);
        }
        line
    }

    /// Takes everything that is open, for one commit.
    pub fn seal(&mut self) -> Sealed {
        let (snapshot, snapshot_chunks) = self.next_parts();
        let accepted = std::mem::take(&mut self.accepted);
        let unraised = self.book.unraised() - std::mem::replace(&mut self.unraised_sealed, self.book.unraised());
        let received = self.ruling.totals(accepted).into_iter().chain([("unraised", unraised)]);
        let batches = self.open.iter_mut().flat_map(|(_, open)| open.seal()).collect();
        Sealed {
            batches,
            alerts: std::mem::take(&mut self.alerts),
            snapshot,
            snapshot_chunks,
            snapshot_covers: self.snapshot_covers,
            received: received.chain(self.unstored.totals()).filter(|(_, count)| *count > 0).collect(),
        }
    }
}

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod tests;
