//! The results of a load run, and its one line for other programs.

use super::histogram::Histogram;
use crate::access::{Qos, Version};
use crate::sequences::SequenceSet;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Read};

/// What the devices of one run measured.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    pub connections: u16,
    pub version: Version,
    pub qos: Qos,
    /// Publishes made, each counted once.
    pub published: u64,
    /// Publishes that the broker acknowledged, with QoS 2 by PUBCOMP; none with QoS 0.
    pub acknowledged: u64,
    /// Publishes that a broker of version 5 refused.
    pub refused: u64,
    /// Publishes sent again after a reconnect.
    pub redelivered: u64,
    /// Seconds from the first publish to the last acknowledgement, with QoS 0 to the last publish.
    pub elapsed_s: f64,
    /// From the publish in memory, before any wait for the socket, to its PUBACK or PUBCOMP; in microseconds.
    pub puback_latency_us: Histogram,
    /// Processor time used by this process, in seconds to 10 ms; `None` if the system does not tell.
    pub cpu_s: Option<f64>,
    /// Lost or refused connections, and unexpected acknowledgements.
    pub errors: u64,
    pub last_error: Option<String>,
    /// Only with spikes.
    pub spikes: Option<SpikeReport>,
    /// By device: the sequence numbers that were acknowledged.
    pub sequences: Vec<DeviceSequences>,
}

/// Spikes and their alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpikeReport {
    pub made: u64,
    /// Spikes for which an alert with their device and value arrived.
    pub alerted: u64,
    /// All raised alerts about the temperature, including updates.
    pub alerts_seen: u64,
    /// From the publish of the spike to the arrival of its alert, in microseconds.
    pub latency_us: Histogram,
}

/// What was acknowledged of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSequences {
    pub device: String,
    pub acknowledged: SequenceSet,
}

impl LoadReport {
    /// Acknowledged publishes per second; 0 if there were none.
    pub fn acknowledged_per_second(&self) -> f64 {
        if self.elapsed_s > 0.0 { self.acknowledged as f64 / self.elapsed_s } else { 0.0 }
    }

    fn unacknowledged(&self) -> u64 {
        self.published - self.acknowledged - self.refused
    }

    /// Why this run does not count as a success; `None` if it does.
    pub fn failure(&self) -> Option<String> {
        let last_error = self.last_error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
        let is_unanswered = self.qos == Qos::AtMostOnce;
        match &self.spikes {
            _ if self.published == 0 => Some(format!("nothing was published{last_error}")),
            _ if is_unanswered && self.errors > 0 => Some(format!("not everything was sent{last_error}")),
            _ if self.refused > 0 => {
                Some(format!("{} of {} publishes were refused{last_error}", self.refused, self.published))
            }
            _ if !is_unanswered && self.acknowledged == 0 => Some(format!("nothing was acknowledged{last_error}")),
            _ if !is_unanswered && self.unacknowledged() > 0 => {
                let missing = self.unacknowledged();
                Some(format!("{missing} of {} publishes were not acknowledged{last_error}", self.published))
            }
            Some(spikes) if spikes.made == 0 => Some("the run was too short for a single spike".to_owned()),
            Some(spikes) if spikes.alerted == 0 => Some(format!("no alert about any of {} spikes", spikes.made)),
            _ => None,
        }
    }

    /// The summary as one JSON object.
    pub fn to_json(&self) -> Value {
        // With QoS 0 there are no acknowledgements, and a zero would look as if there should have been some.
        let acknowledged_by = self.qos.acknowledged_by();
        let mut line = json!({
            "event": "load",
            "mqtt": self.version.name(),
            "qos": self.qos.level(),
            "acknowledged_by": acknowledged_by,
            "connections": self.connections,
            "published": self.published,
            "acknowledged": acknowledged_by.map(|_| self.acknowledged),
            "unacknowledged": acknowledged_by.map(|_| self.unacknowledged()),
            "refused": self.refused,
            "redelivered": self.redelivered,
            "elapsed_s": rounded(self.elapsed_s),
            "acknowledged_per_second": acknowledged_by.map(|_| rounded(self.acknowledged_per_second())),
            "puback_ms_p50": milliseconds(&self.puback_latency_us, 0.5),
            "puback_ms_p99": milliseconds(&self.puback_latency_us, 0.99),
            "puback_ms_max": milliseconds(&self.puback_latency_us, 1.0),
            "cpu_s": self.cpu_s.map(rounded),
            "errors": self.errors,
            "last_error": self.last_error,
            "failure": self.failure(),
        });
        if let Some(spikes) = &self.spikes {
            line["spikes"] = json!({
                "made": spikes.made,
                "alerted": spikes.alerted,
                "alerts_seen": spikes.alerts_seen,
                "alert_ms_p50": milliseconds(&spikes.latency_us, 0.5),
                "alert_ms_p99": milliseconds(&spikes.latency_us, 0.99),
                "alert_ms_max": milliseconds(&spikes.latency_us, 1.0),
            });
        }
        line
    }
}

impl DeviceSequences {
    /// The first and last of each run of numbers: `{"device":"d00","acknowledged":[[1,500],[502,600]]}`.
    pub fn to_json(&self) -> Value {
        let ranges: Vec<_> = self.acknowledged.ranges().map(|range| [*range.start(), *range.end()]).collect();
        json!({ "device": self.device, "acknowledged": ranges })
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// `None` if nothing was measured: a zero would look like a very good value.
fn milliseconds(latency_us: &Histogram, share: f64) -> Option<f64> {
    (latency_us.count() > 0).then(|| latency_us.quantile(share) as f64 / 1_000.0)
}

/// Processor seconds used by this process so far.
pub(super) fn cpu_seconds() -> Option<f64> {
    let mut stat = String::new();
    fs::File::open("/proc/self/stat").and_then(|mut file| file.read_to_string(&mut stat)).ok()?;
    cpu_seconds_of(&stat)
}

fn cpu_seconds_of(stat: &str) -> Option<f64> {
    // The name may hold spaces and brackets; after its last bracket, user and system time are fields 12 and 13.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    // Linux reports these times to programs in ticks of 10 ms, whatever the kernel's own are.
    Some((ticks()? + ticks()?) as f64 / 100.0)
}

/// Writes the acknowledged sequence numbers, one line per device.
pub fn write_sequences(sequences: &[DeviceSequences], mut out: impl io::Write) -> io::Result<()> {
    for device in sequences {
        writeln!(out, "{}", device.to_json())?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> LoadReport {
        LoadReport { connections: 2, published: 1_000, acknowledged: 1_000, elapsed_s: 0.5, ..Default::default() }
    }

    #[test]
    fn a_run_fails_when_anything_is_missing() {
        let spikes =
            |made, alerted| Some(SpikeReport { made, alerted, alerts_seen: 0, latency_us: Histogram::default() });
        assert_eq!(report().failure(), None);
        assert_eq!(LoadReport { spikes: spikes(3, 2), errors: 1, ..report() }.failure(), None);
        for wrong in [
            LoadReport { published: 0, acknowledged: 0, ..report() },
            LoadReport { acknowledged: 999, ..report() },
            LoadReport { acknowledged: 999, refused: 1, ..report() },
            LoadReport { acknowledged: 0, refused: 1_000, ..report() },
            LoadReport { qos: Qos::AtMostOnce, acknowledged: 0, errors: 1, ..report() },
            LoadReport { qos: Qos::AtMostOnce, acknowledged: 0, published: 0, ..report() },
            LoadReport { spikes: spikes(0, 0), ..report() },
            LoadReport { spikes: spikes(3, 0), ..report() },
        ] {
            assert!(wrong.failure().is_some(), "{wrong:?}");
        }
    }

    #[test]
    fn the_line_has_the_numbers_and_no_number_where_nothing_was_measured() {
        let mut report = report();
        let line = report.to_json();
        assert_eq!((&line["acknowledged_per_second"], &line["puback_ms_p50"]), (&2_000.0.into(), &Value::Null));
        assert_eq!((&line["spikes"], &line["failure"]), (&Value::Null, &Value::Null));
        report.puback_latency_us.record(2_000);
        assert_eq!(report.to_json()["puback_ms_p99"], 2.0);
    }

    #[test]
    fn without_acknowledgements_none_are_claimed_or_missed() {
        let report = LoadReport { qos: Qos::AtMostOnce, acknowledged: 0, ..report() };
        assert_eq!(report.failure(), None);
        let line = report.to_json();
        for key in ["acknowledged_by", "acknowledged", "unacknowledged", "acknowledged_per_second"] {
            assert!(line.as_object().expect("an object").contains_key(key) && line[key].is_null(), "{key}: {line}");
        }
        let confirmed = LoadReport { qos: Qos::ExactlyOnce, version: Version::V5, ..report }.to_json();
        assert_eq!((&confirmed["acknowledged_by"], &confirmed["mqtt"]), (&"PUBCOMP".into(), &"5".into()));
    }

    #[test]
    fn what_is_refused_is_neither_acknowledged_nor_missing() {
        let report = LoadReport { acknowledged: 990, refused: 10, ..report() };
        let line = report.to_json();
        assert_eq!([&line["acknowledged"], &line["refused"], &line["unacknowledged"]], [990, 10, 0]);
        assert_eq!(report.failure().as_deref(), Some("10 of 1000 publishes were refused"));
    }

    #[test]
    fn processor_time_is_found_after_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 1 0 5 10 2";
        assert_eq!(cpu_seconds_of(stat), Some(1.75));
        assert_eq!(cpu_seconds_of("7 (a"), None);
        assert_eq!(cpu_seconds_of("7 (a) S 1"), None);
    }

    #[test]
    fn sequences_are_written_as_ranges() {
        let mut acknowledged = SequenceSet::default();
        for sequence in [1, 2, 3, 5] {
            acknowledged.insert(sequence);
        }
        let mut out = Vec::new();
        write_sequences(&[DeviceSequences { device: "d00".to_owned(), acknowledged }], &mut out).expect("memory");
        assert_eq!(out, b"{\"acknowledged\":[[1,3],[5,5]],\"device\":\"d00\"}\n");
    }
}
