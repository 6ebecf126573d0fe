//! What readings mean for alerts, and what becomes of changes of alerts.

use super::*;

/// What a judged reading says of alerts.
pub(super) fn heard<'a>(reading: &Reading<'a>, findings: &Findings) -> Heard<'a> {
    Heard {
        device: reading.device,
        metric: reading.metric,
        value: reading.value,
        rhythm: findings.rhythm,
        flagged: Kinds::of(&findings.list),
        is_late: findings.late,
        is_usable: findings.is_usable,
        is_judged: findings.is_judged,
        has_level: findings.has_level,
        uncleared_limits: findings.uncleared_limits,
    }
}

/// Most changes of alerts that are kept in words until they are asked for.
const NEWS_MAX: usize = 64;

impl Pipeline {
    /// Lets the alerts of its series, and of its device as a whole, hear of a reading: it may clear them.
    pub(super) fn hear(&mut self, reading: &Reading<'_>, now: Moment) {
        let &Reading { device, metric, .. } = reading;
        if self.findings.series_may_have_alert
            && !self.book.hear(now, &heard(reading, &self.findings), &mut self.changes)
        {
            self.monitor.note_alert(device, metric, false);
        }
        if self.findings.device_may_have_alert && !self.book.hear_device(now, device, &mut self.changes) {
            self.monitor.note_alert(device, DEVICE_METRIC, false);
        }
        self.record_changes(now);
    }

    /// Raises one alert for each kind of trouble that was found.
    pub(super) fn raise(
        &mut self,
        reading: &Reading<'_>,
        raw_position: u64,
        findings: &Findings,
        holder: Holder,
        now: Moment,
    ) {
        for (at, finding) in findings.list.iter().enumerate() {
            let kind = finding.detector.alert_kind();
            if findings.list[..at].iter().any(|earlier| earlier.detector.alert_kind() == kind) {
                continue;
            }
            let of_kind: Vec<_> =
                findings.list.iter().filter(|finding| finding.detector.alert_kind() == kind).collect();
            let detectors: Vec<&str> = of_kind.iter().map(|finding| finding.detector.name()).collect();
            let gravest = of_kind.iter().fold(finding, |a, b| if b.score > a.score { b } else { a });
            let is_limit = finding.detector == Detector::Limit;
            let limit = findings.limit.filter(|_| is_limit);
            let flag = Flag {
                device: reading.device,
                metric: reading.metric,
                kind,
                detectors: &detectors,
                // A limit that has to be exceeded for longer changes no severity.
                weight: findings.weight_of(gravest).unwrap_or(Weight::just(Severity::Warning)),
                value: reading.value,
                text: None,
                expected: limit.map_or(finding.expected, |limit| limit.bound),
                score: limit.map_or(gravest.score, |limit| limit.score),
                run: self.run,
                position: raw_position,
                is_held: false,
                rhythm: findings.rhythm,
                limits: if is_limit { findings.due_limits } else { 0 },
                is_pending: is_limit && limit.is_none(),
                maturity: findings.maturity.filter(|_| !is_limit),
                holder: Holder { is_limit_set: is_limit && finding.expected.is_some(), ..holder },
            };
            self.book.flag(now, &flag, &mut self.changes);
        }
        self.monitor.note_alert(reading.device, reading.metric, true);
        self.record_changes(now);
    }

    /// Something is wrong with the gateway itself, or still is.
    pub fn report(&mut self, report: &Report, now: Moment) {
        let position = match self.unstored.stores_nothing() {
            true => self.unstored.next_identity(),
            false => self.open.of(Stream::ANOMALIES).position + 1,
        };
        let identity = (self.run, position);
        self.book.report(now, report, identity, &mut self.changes);
        self.record_changes(now);
    }

    /// Alert changes become records of the second stream and rows of the alert table.
    pub(super) fn record_changes(&mut self, now: Moment) {
        for change in std::mem::take(&mut self.changes) {
            let AlertChange { key, what, alert } = change;
            if let Some(alert) = alert.as_ref().filter(|_| what.is_news()) {
                match self.news.len() < NEWS_MAX {
                    true => self.news.push(AlertNews::new(what, &key, alert)),
                    false => self.news_left_out += 1,
                }
            }
            if self.unstored.concerns(&key) {
                self.publish_unstored(key, alert.as_ref());
                continue;
            }
            let body = alert.map(|alert| {
                let position = self.open.of_mut(Stream::ANOMALIES).number(now.wall_ms);
                self.line.clear();
                alert::write_alert(&mut self.line, &self.gateway, self.run, position, &key, &alert);
                self.open.of_mut(Stream::ANOMALIES).encoder.push_line(Tag::Alert, &key.device, &self.line);
                self.line.clone()
            });
            self.alerts.push(AlertRow { device: key.device, metric: key.metric, kind: key.kind, body });
        }
    }

    /// Takes the changes of alerts since this was last asked, and how many more there were than are kept.
    pub fn take_news(&mut self) -> (Vec<AlertNews>, u64) {
        (std::mem::take(&mut self.news), std::mem::take(&mut self.news_left_out))
    }
}
