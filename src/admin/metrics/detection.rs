//! Of the detectors and alerts.

use super::text::Text;
use crate::admin::status::Status;
use crate::core::detection::alert::Severity;

pub fn write(text: &mut Text, status: &Status) {
    text.gauge("detection_series", "series that are watched", status.detection.series as f64);
    text.counter(
        "detection_readings_unwatched_total",
        "readings of series above the cap, stored but not watched",
        status.detection.readings_unwatched,
    );
    text.counter("detection_anomalies_total", "flagged readings since the start", status.detection.anomalies);
    text.gauge("alerts_raised", "alerts that are raised now", status.detection.alerts_raised as f64);
    text.family("alerts_raised_by_severity", "gauge", "those of them that are stored, by severity");
    for severity in Severity::ALL {
        let count = status.alerts_by_severity[severity as usize];
        text.sample("alerts_raised_by_severity", &[("severity", severity.name())], count as f64);
    }
    text.counter(
        "alerts_unraised_total",
        "flagged readings that raised no alert because there are too many alerts, over all runs",
        status.received.unraised,
    );
    text.counter(
        "alerts_raised_unstored_total",
        "alerts that were raised while nothing could be stored, over all runs",
        status.received.raised_unstored,
    );
    text.counter(
        "alert_acknowledgements_unknown_total",
        "acknowledgements of unknown alerts, since the start",
        status.detection.acknowledgements_unknown,
    );
}
