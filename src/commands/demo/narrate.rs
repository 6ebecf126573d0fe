//! The texts of the demonstration. Every number in them comes from the run.

use std::path::Path;
use std::time::Duration;

use firmware_sim::fault::FaultKind;
use firmware_sim::ground_truth::GroundTruth;

use super::archive_check::{Found, Known};
use super::figures::Figures;
use super::matching::{AlertHeard, Score};
use super::screen::{count, short_time};
use crate::gateway::Ready;

pub fn header(vehicles: u16, ready: &Ready, folder: &Path, length: Option<Duration>) -> Vec<String> {
    let mqtt = ready.mqtt;
    let page = ready.admin.map_or("none".to_owned(), |admin| format!("http://{admin}/"));
    let end = match length {
        Some(length) => format!("after {} s, with a summary", length.as_secs_f64()),
        None => "with Ctrl-C, with a summary".to_owned(),
    };
    vec![
        format!(
            "Outrider {} demo: {vehicles} simulated vehicles, real broker, real store, real detectors",
            env!("CARGO_PKG_VERSION")
        ),
        format!("  MQTT   {:<18} try: mosquitto_sub -p {} -t 'alerts/#' -v", mqtt.to_string(), mqtt.port()),
        format!("  page   {page}"),
        format!("  files  {}/archive/   the gateway's log: {}/log", folder.display(), folder.display()),
        format!("  ends   {end}"),
    ]
}

pub fn history(readings: u64, took: Duration) -> String {
    let readings = count(readings);
    format!(
        "{readings} readings from the vehicles' buffers stored and acknowledged in {}, detectors warm",
        short_time(took)
    )
}

pub fn figures(readings_a_second: f64, figures: Figures) -> String {
    format!(
        "{} readings/s   stored {}   buffered {}   delivered {}",
        count(readings_a_second.round() as u64),
        count(figures.stored),
        count(figures.buffered),
        count(figures.delivered)
    )
}

pub fn fault(truth: &GroundTruth) -> String {
    let GroundTruth { device, metric, magnitude, .. } = truth;
    let size = magnitude.abs();
    let (unit, way) = (unit_of(metric), if *magnitude < 0.0 { "below" } else { "above" });
    let seconds = (truth.end_ms - truth.start_ms) / 1000;
    match truth.fault {
        FaultKind::Spike => format!("one {metric} of {device} is {size}{unit} {way} the true one"),
        FaultKind::Step => format!("every {metric} of {device} is {size}{unit} {way} the true one, for {seconds} s"),
        FaultKind::Drift => format!("{metric} of {device} drifts, to {size}{unit} {way} the true one in {seconds} s"),
        FaultKind::Stuck => format!("{metric} of {device} is stuck, for {seconds} s"),
        FaultKind::Dropout => format!("{metric} of {device} is silent, for {seconds} s"),
        FaultKind::Noise => format!("{metric} of {device} is noisy, by {size}{unit}, for {seconds} s"),
    }
}

fn unit_of(metric: &str) -> &'static str {
    if metric.ends_with("temperature") { " degrees" } else { "" }
}

pub fn alert(alert: &AlertHeard) -> String {
    let AlertHeard { device, metric, severity, .. } = alert;
    let value = alert.value.map_or("not a number".to_owned(), |value| format!("{value:.1}"));
    let normal = alert.expected.map_or(String::new(), |expected| format!(", {expected:.1} was normal"));
    format!("{device} {metric} {value}{normal} ({}, {severity})", alert.detectors.join(" and "))
}

/// The lines of the summary, below its time.
pub fn summary(found: &Found, score: Score) -> Vec<String> {
    let (acknowledged, readings) = (count(found.acknowledged), count(found.readings));
    let width = acknowledged.len().max(readings.len());
    let mut lines = vec![
        format!("  acknowledged to vehicles    {acknowledged:>width$}"),
        format!(
            "  found in the archive files  {readings:>width$}   missing {}   duplicates {}",
            count(found.missing),
            count(found.duplicates)
        ),
    ];
    if found.others > 0 {
        lines.push(format!("  and of other devices        {:>width$}", count(found.others)));
    }
    let open = if score.open > 0 { format!(", {} too young to tell", score.open) } else { String::new() };
    lines.push(format!(
        "  faults made {}, found {}{open}, false alarms {}",
        score.made, score.found, score.false_alarms
    ));
    lines
}

/// Why the demonstration has failed; empty if it has not.
pub fn failures<'a>(found: &Found, known: &Known, missed: impl Iterator<Item = &'a GroundTruth>) -> Vec<String> {
    let mut reasons = found.disagreements(known);
    reasons.extend(
        missed.map(|truth| {
            format!("no alert came for the {} of {} of {}", truth.fault.name(), truth.metric, truth.device)
        }),
    );
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_and_alerts_are_told_in_a_sentence() {
        let mut truth = GroundTruth {
            device: "truck-07".to_owned(),
            metric: "container_temperature",
            fault: FaultKind::Step,
            start_ms: 0,
            end_ms: 12_000,
            magnitude: 6.0,
        };
        assert_eq!(fault(&truth), "every container_temperature of truck-07 is 6 degrees above the true one, for 12 s");
        (truth.fault, truth.metric, truth.magnitude) = (FaultKind::Spike, "speed", -40.5);
        assert_eq!(fault(&truth), "one speed of truck-07 is 40.5 below the true one");
        let mut heard = AlertHeard {
            id: "1".to_owned(),
            revision: 1,
            device: "truck-07".to_owned(),
            metric: "container_temperature".to_owned(),
            state: "raised".to_owned(),
            severity: "major".to_owned(),
            detectors: vec!["spike".to_owned(), "shift".to_owned()],
            value: Some(28.44),
            expected: Some(22.31),
        };
        assert_eq!(alert(&heard), "truck-07 container_temperature 28.4, 22.3 was normal (spike and shift, major)");
        (heard.value, heard.expected) = (None, None);
        assert_eq!(alert(&heard), "truck-07 container_temperature not a number (spike and shift, major)");
    }

    #[test]
    fn the_summary_has_its_numbers_in_columns() {
        let found = Found { acknowledged: 63_000, readings: 9_998, missing: 2, others: 5, ..Found::default() };
        let score = Score { made: 4, found: 3, open: 1, false_alarms: 0 };
        let expected = [
            "  acknowledged to vehicles    63,000",
            "  found in the archive files   9,998   missing 2   duplicates 0",
            "  and of other devices             5",
            "  faults made 4, found 3, 1 too young to tell, false alarms 0",
        ];
        assert_eq!(summary(&found, score), expected);
    }
}
