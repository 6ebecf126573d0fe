//! What time alone brings: silences, too many series, the end of alerts, the next snapshot.

use super::*;
use crate::detection::alert::Trouble;

impl Pipeline {
    /// Does what is due at this time.
    pub fn tick(&mut self, now: Moment) {
        self.now = now;
        self.unstored.tick(now);
        self.miss(now);
        self.monitor.sweep(now.signed_steady_ms());
        self.watch_crowd(now);
        self.watch_clocks(now);
        self.watch_suppressed(now);
        self.tick_rules(now);
        self.book.tick(now, &mut self.changes);
        self.record_changes(now);
        if self.round.is_none()
            && self.snapshots.is_due(now.steady_ms, self.open.of(Stream::RAW).sequence, self.monitor.series_count())
        {
            self.begin_snapshot();
        }
    }

    /// A client has disconnected in order: from now on the silence of the devices that it published for is not reported. Silences that were
    /// reported before stay.
    pub fn sleep(&mut self, publisher: Publisher) {
        self.monitor.sleep(publisher);
        self.snapshots.has_news = true;
    }

    /// Forgets a series, or all series of a device without `metric`. Nothing would ever clear their alerts, so these are cleared too.
    /// Returns how many series were forgotten, and at least 1 if an alert was cleared.
    pub fn forget_series(&mut self, device: &str, metric: Option<&str>, now: Moment) -> usize {
        let mut count = 0;
        self.monitor.forget_series(device, metric, |_| count += 1);
        let is_device_gone = !self.monitor.knows_device(device);
        let of_it = |key: &AlertKey| {
            let is_metric = metric.is_none_or(|metric| metric == key.metric);
            key.device == device && (is_metric || is_device_gone && key.metric == DEVICE_METRIC)
        };
        let alerts = self.book.clear_all(now, of_it, ClearedReason::Operator, &mut self.changes);
        self.record_changes(now);
        if count > 0 {
            // If the process were killed before the next regular snapshot, the series would come back.
            self.begin_snapshot();
        }
        count.max(usize::from(alerts > 0))
    }

    /// Clears an alert for an operator. Returns whether it was raised.
    pub fn clear_alert(&mut self, key: &AlertKey, now: Moment) -> bool {
        let is_known = self.book.clear_all(now, |known| known == key, ClearedReason::Operator, &mut self.changes) > 0;
        self.record_changes(now);
        is_known
    }

    /// Makes each new silence a record of the second stream, without a reading, and an alert that stays until something is heard.
    fn miss(&mut self, now: Moment) {
        let mut all = Vec::new();
        self.monitor.tick(now.signed_steady_ms(), |missed| all.push(missed));
        for missed in all {
            let finding = self.monitor.gap_of(missed, now.signed_steady_ms());
            let (device, metric) = self.monitor.name_of_missed(missed);
            let position = match self.unstored.stores_nothing() {
                true => self.unstored.next_identity(),
                false => {
                    let mut reading = Reading::at(now.wall_ms, device, metric, f64::NAN);
                    self.receipts.stamp(&mut reading);
                    let part = AnomalyPart {
                        raw_position: None,
                        detector: finding.detector.name(),
                        also: &[],
                        score: finding.score,
                        expected: None,
                        spread: None,
                        reason: &finding.reason,
                        late: false,
                        maturity: self.monitor.maturity_of(missed).map(Maturity::name),
                    };
                    let position = self.open.of_mut(Stream::ANOMALIES).number(reading.received_at_ms);
                    self.line.clear();
                    record::write_anomaly(&mut self.line, &self.gateway, self.run, position, &reading, &part);
                    self.open.of_mut(Stream::ANOMALIES).encoder.push_line(Tag::Anomaly, device, &self.line);
                    position
                }
            };
            let flag = Flag {
                device,
                metric,
                kind: finding.detector.alert_kind(),
                detectors: &[finding.detector.name()],
                weight: self.monitor.weight_of(missed),
                value: f64::NAN,
                text: None,
                expected: None,
                score: finding.score,
                run: self.run,
                position,
                is_held: true,
                rhythm: self.monitor.rhythm_of(device, metric),
                limits: 0,
                is_pending: false,
                maturity: None,
                holder: self.monitor.holder_of(device, metric, 0),
            };
            self.book.flag(now, &flag, &mut self.changes);
            self.monitor.note_missed(missed);
        }
    }

    /// Reports that alerts were not raised, or were taken back, because there are too many.
    fn watch_suppressed(&mut self, now: Moment) {
        let unraised = self.book.unraised();
        if unraised > self.unraised_told && self.crowd_pacer.is_due(&Trouble::Alerts, now.steady_ms) {
            let text = "there are too many alerts: some were not raised, or were taken back for others; find what floods the gateway, \
                        then `outrider series forget` and `outrider alerts clear` make room";
            self.report(&Report::new(Trouble::Alerts, text), now);
            self.unraised_told = unraised;
        }
    }

    /// Reports that there are more series than are watched: one alert, however many they are.
    fn watch_crowd(&mut self, now: Moment) {
        for (device, metric) in self.monitor.take_unmissed() {
            let key = AlertKey { device, metric, kind: Detector::Gap.alert_kind().to_owned() };
            self.book.clear(now, &key, ClearedReason::Forgotten, &mut self.changes);
        }
        for (device, metric) in self.monitor.take_abandoned() {
            for detector in [Detector::Shift, Detector::Stuck] {
                let (device, metric, kind) = (device.clone(), metric.clone(), detector.alert_kind().to_owned());
                let key = AlertKey { device, metric, kind };
                self.book.clear(now, &key, ClearedReason::Displaced, &mut self.changes);
            }
        }
        let crowd = self.monitor.over_cap_readings() + self.monitor.displaced_series();
        if crowd <= self.crowd_told {
            return;
        }
        self.crowd_told = crowd;
        if self.crowd_pacer.is_due(&Trouble::Series, now.steady_ms) {
            let series_max = self.monitor.series_max();
            let largest = self.monitor.largest_device().unwrap_or_default();
            let text = format!(
                "there are more than {series_max} series: readings of the others are stored, but not watched; the device with the most \
                 series is {largest}"
            );
            self.report(&Report::new(Trouble::Series, text), now);
        }
    }
}
