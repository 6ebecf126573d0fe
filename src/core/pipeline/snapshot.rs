//! How the state of the detectors is kept across a restart: chunk by chunk with the commits, and back into a new pipeline.

use super::alerting::heard;
use super::{Pipeline, SnapshotChunk, Stream};
use crate::batch::varint::{self, Cursor};
use crate::detection::alert::{ALERTS_VERSION, Alert, AlertKey, ClearedReason, Moment, is_of_rule};
use crate::detection::detectors::Verdict;
use crate::detection::detectors::hold::Holds;
use crate::detection::monitor::{Arrival, LATE_AFTER_MS, RestoreError};
use crate::reading::{Reading, TimeQuality};

/// What a restored part of a snapshot held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoredPart {
    /// The state of some series.
    Series {
        /// How many series were left out, because there are too many or their metric is no longer watched.
        left_out: usize,
    },
    /// What was heard of alerts.
    Alerts,
}

/// A snapshot under way: a chunk with each commit, so that no commit is large.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotRound {
    next: usize,
    pub(super) end: usize,
    /// Sequence of the last raw record when it began: every chunk of the round includes at least that.
    covers: u64,
}

/// When the state of all detectors is written again. That costs about a kilobyte for each series, and a start has to read again what came
/// after it; so it waits for several readings of each series, but not for ever.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SnapshotPace {
    began_ms: Option<u64>,
    /// Sequence of the last raw record when the last round began.
    began_at: u64,
    /// Something has changed that a replay of readings would not restore.
    pub has_news: bool,
}

const SNAPSHOT_AFTER_MS: u64 = 60_000;
const SNAPSHOT_AFTER_MS_MAX: u64 = 600_000;
const READINGS_A_SERIES: u64 = 8;

impl SnapshotPace {
    pub fn is_due(&self, now_ms: u64, last_raw: u64, series: usize) -> bool {
        let Some(began_ms) = self.began_ms else { return true };
        let (elapsed_ms, readings) = (now_ms.saturating_sub(began_ms), last_raw.saturating_sub(self.began_at));
        let is_worth_it = self.has_news || readings > 0 && readings >= READINGS_A_SERIES * series as u64;
        elapsed_ms >= SNAPSHOT_AFTER_MS && is_worth_it || elapsed_ms >= SNAPSHOT_AFTER_MS_MAX && readings > 0
    }

    fn begin(&mut self, now_ms: u64, last_raw: u64) {
        *self = SnapshotPace { began_ms: Some(now_ms), began_at: last_raw, has_news: false };
    }
}

impl Pipeline {
    /// Restores one part of a snapshot.
    ///
    /// # Errors
    ///
    /// If it is of an unknown version or damaged; then nothing of it is restored.
    pub fn restore(&mut self, chunk: &[u8], now: Moment) -> Result<RestoredPart, RestoreError> {
        match chunk {
            [ALERTS_VERSION, rest @ ..] => {
                self.restore_alerts_part(&mut Cursor { rest }, now).ok_or(RestoreError::Damaged)?;
                Ok(RestoredPart::Alerts)
            }
            _ => self.monitor.restore(chunk, now).map(|left_out| RestoredPart::Series { left_out }),
        }
    }

    fn restore_alerts_part(&mut self, cursor: &mut Cursor<'_>, now: Moment) -> Option<()> {
        // Limits are known by their number, which another configuration gives to others.
        let are_limits_known = cursor.number()? == self.monitor.holds().1;
        self.book.remember(cursor, are_limits_known, now)?;
        let holds = Holds::decode(cursor, now.signed_steady_ms())?;
        if are_limits_known {
            self.monitor.restore_holds(holds);
        }
        // Earlier versions end here.
        match cursor.rest.is_empty() {
            true => Some(()),
            false => self.ruling.conditions.decode(cursor, &self.ruling.book, now),
        }
    }

    /// What was heard of alerts, of limits that wait before they raise one, and where the conditions of rules stand.
    fn alerts_part(&self) -> Vec<u8> {
        let (holds, limits) = self.monitor.holds();
        let mut out = vec![ALERTS_VERSION];
        varint::put(&mut out, limits);
        self.book.snapshot(self.now, &mut out);
        holds.encode(&mut out);
        self.encode_rules(&mut out);
        out
    }

    /// Replays a stored reading, of which nothing is emitted. `is_new_to_series`: the detectors have not learned from it. `is_news`: it came
    /// after what the snapshot says of alerts and rules.
    pub fn replay(&mut self, reading: &Reading<'_>, is_new_to_series: bool, is_news: bool, now: Moment) {
        if Pipeline::is_summary(reading) {
            return;
        }
        let arrival = Arrival { now_ms: now.signed_steady_ms(), publisher: 0 };
        let is_synced = reading.time_quality == TimeQuality::Synced;
        self.findings.late = is_synced && reading.received_at_ms.saturating_sub(reading.measured_at_ms) > LATE_AFTER_MS;
        let received = Moment { wall_ms: reading.received_at_ms, ..now };
        let mut verdict = Verdict::Unjudged;
        if is_new_to_series {
            let place = self.monitor.locate(reading.device, reading.metric);
            self.monitor.relearn_clock(place, reading, arrival);
            verdict = self.monitor.judge_at(place, reading, arrival, &mut self.findings);
            if is_news && self.findings.series_may_have_alert {
                self.book.hear_again(received, &heard(reading, &self.findings));
            }
        } else {
            self.findings.list.clear();
        }
        if is_news {
            self.replay_to_rules(reading, verdict, received);
        }
    }

    /// Restores an alert from the store. To be called after the snapshot is restored and before readings are replayed.
    pub fn restore_alert(&mut self, key: AlertKey, alert: Alert, now: Moment) {
        let rhythm = self.monitor.rhythm_of(&key.device, &key.metric);
        let is_obsolete = match is_of_rule(&key.kind) {
            true => !self.ruling.book.raises(&key.kind),
            false => !self.monitor.can_raise(&key, &alert),
        };
        self.book.restore(key.clone(), alert, rhythm, now);
        self.book.restore_holder(&key, self.monitor.holder_of(&key.device, &key.metric, 0));
        if is_obsolete {
            self.book.clear(now, &key, ClearedReason::Configuration, &mut self.changes);
            self.record_changes(now);
        }
    }

    /// Ends the recovery, when everything is restored and replayed: silences that were reported before are not reported again.
    pub fn end_recovery(&mut self) {
        for (device, metric) in self.book.restored() {
            self.monitor.restore_missed(device, metric);
        }
        self.note_rule_alerts();
    }

    pub(super) fn begin_snapshot(&mut self) {
        self.snapshots.begin(self.now.steady_ms, self.open.of(Stream::RAW).sequence);
        // One part says what was heard of alerts and where rules stand. It is the first, so that it is always in the same place: nothing but
        // a newer one replaces it.
        let end = 1 + self.monitor.snapshot_chunks();
        self.round = Some(SnapshotRound { next: 0, end, covers: self.open.of(Stream::RAW).sequence });
    }

    /// To be called when the process ends: the next commit carries the whole state of the detectors.
    pub fn request_final_snapshot(&mut self) {
        self.close_spans(self.now);
        self.begin_snapshot();
        self.chunks_a_commit = usize::MAX;
    }

    /// The next chunks of the round; with the last of them, how many there are.
    pub(super) fn next_chunks(&mut self, count: usize) -> (Vec<SnapshotChunk>, Option<u32>) {
        let Some(mut round) = self.round else { return (Vec::new(), None) };
        let end = round.end.min(round.next.saturating_add(count));
        let chunks = (round.next..end).map(|index| self.chunk(index)).collect();
        round.next = end;
        if round.next < round.end {
            self.round = Some(round);
            return (chunks, None);
        }
        self.snapshot_covers = round.covers;
        self.round = None;
        (chunks, Some(end as u32))
    }

    pub(super) fn chunk(&self, index: usize) -> SnapshotChunk {
        SnapshotChunk {
            index: index as u32,
            sequence: self.open.of(Stream::RAW).sequence,
            state: match index.checked_sub(1) {
                Some(series) => self.monitor.snapshot_chunk(series, self.now.wall_ms),
                None => self.alerts_part(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_waits_for_readings_but_not_for_ever() {
        let mut pace = SnapshotPace::default();
        assert!(pace.is_due(0, 0, 0), "the first");
        pace.begin(1_000, 500);
        assert!(!pace.is_due(60_999, 9_000, 10), "a minute has not gone by");
        assert!(pace.is_due(61_000, 580, 10) && !pace.is_due(61_000, 579, 10));
        assert!(!pace.is_due(600_999, 8_499, 1_000) && pace.is_due(601_000, 8_499, 1_000), "ten minutes are enough");
        assert!(!pace.is_due(u64::MAX, 500, 10), "nothing has changed");
        pace.has_news = true;
        assert!(pace.is_due(61_000, 500, 10));
    }
}
