//! What is done as time passes, and what is logged.

use std::time::{Duration, Instant};

use super::PipelineLoop;
use crate::core::mqtt::pace::Urgency;
use crate::core::pipeline::ClockNotice;

/// If a tick is late by this, or a commit takes this long, devices may not have been heard.
const DEAF_AFTER: Duration = Duration::from_secs(3);

/// Whether a slow commit keeps us from hearing devices.
#[derive(Debug, Default)]
pub(super) struct Deafness(bool);

impl Deafness {
    /// Returns whether that begins or ends now: both restart the silence timers.
    fn changes(&mut self, is_deaf: bool) -> bool {
        std::mem::replace(&mut self.0, is_deaf) != is_deaf
    }
}

impl PipelineLoop {
    pub(super) fn tick(&mut self, now: Instant) {
        let is_behind = now > self.ticked + DEAF_AFTER;
        self.ticked = now;
        // Clients that wait for an answer send nothing more. Once they are turned away all are heard, however long the disk hangs.
        let is_deaf = self.clock.is_busy_for(DEAF_AFTER, self.since_start(now)) && !self.committing.is_given_up;
        if is_behind | self.deafness.changes(is_deaf) {
            // This thread or the disk was blocked, so missing readings prove nothing: restart the silence timers.
            self.pipeline.listen_from(self.moment());
        }
        self.watch_clocks();
        self.pipeline.tick(self.moment());
        self.log.tick(self.moment().steady_ms);
        if self.has_work() || self.pipeline.is_snapshot_open() {
            self.clock.waits(self.elapsed(), Urgency::Relaxed);
        }
        self.intake.look_again();
        self.counters.series.set(self.pipeline.monitor().series_count() as u64);
        self.counters.readings_unwatched.set(self.pipeline.monitor().over_cap_readings());
        self.counters.readings_no_rule_saw.set(self.pipeline.readings_no_rule_saw());
        self.counters.anomalies.set(self.pipeline.flagged());
        self.counters.alerts_unraised.set(self.pipeline.alerts_unraised());
        self.counters.raised_unstored.set(self.pipeline.raised_unstored());
        self.counters.alerts_raised.set(self.pipeline.alerts_raised() as u64);
    }

    /// Logs each clock that is wrong, and when it is right again.
    fn watch_clocks(&mut self) {
        if let Some(jump_ms) = self.pipeline.watch_own_clock(self.moment()) {
            tracing::warn!(jump_ms, "the gateway's own clock was set");
        }
        for ClockNotice { device, fault, offset_ms } in self.pipeline.take_clock_notices() {
            match fault {
                Some(fault) => tracing::warn!(
                    device,
                    fault = fault.name(),
                    offset_ms,
                    "the clock of a device is wrong: its readings are judged by the gateway's clock"
                ),
                None => {
                    tracing::info!(device, "the clock of a device is right again, or the device is no longer heard")
                }
            }
        }
    }

    pub(super) fn tell_log(&mut self) {
        for (rule, failure) in self.pipeline.take_rule_failures() {
            self.log.rule_failed(&rule, &failure, self.moment().steady_ms);
            self.counters.note_rule_failure(rule, &failure);
        }
        let (news, more) = self.pipeline.take_news();
        if more > 0 || !news.is_empty() {
            self.log.alerts(&news, more, self.moment().steady_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Deafness;

    #[test]
    fn silence_is_counted_anew_where_deafness_begins_and_ends_and_not_all_the_while() {
        let mut deafness = Deafness::default();
        let anew = [false, true, true, true, false, false].map(|is_deaf| deafness.changes(is_deaf));
        assert_eq!(anew, [false, true, false, false, true, false]);
    }
}
