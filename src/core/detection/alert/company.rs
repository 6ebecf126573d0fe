//! Which series of a device are in trouble at the same time: that is one trouble, which is more severe.

use hashbrown::HashMap;

use crate::detection::detectors::Detector;
use crate::detection::severity::{Severity, Weight};

/// Series of one device that are in trouble within so long of each other are one trouble.
const COMPANY_MS: i64 = 10_000;
/// Most metrics of a device that are remembered for that.
const COMPANY_MAX: usize = 8;
const LIMIT: &str = Detector::Limit.alert_kind();

/// Metrics of each device that were flagged of late, and when.
#[derive(Clone, Debug, Default)]
pub struct Company(HashMap<String, Vec<(String, i64)>>);

impl Company {
    /// The severity of what is flagged now, an alert of this kind of the series: one more if another series of the device is in trouble too;
    /// never more than its weight allows.
    pub fn severity(&mut self, now_ms: i64, (device, metric): (&str, &str), kind: &str, weight: Weight) -> Severity {
        let company = self.0.entry(device.to_owned()).or_default();
        company.retain(|(known, at_ms)| known != metric && is_with(now_ms, *at_ms));
        // The severity of a limit was configured, and stays as it is.
        let is_worse = !company.is_empty() && kind != LIMIT;
        company.truncate(COMPANY_MAX - 1);
        company.push((metric.to_owned(), now_ms));
        if is_worse { weight.in_company() } else { weight.alone() }
    }

    /// Forgets what is no company any more.
    pub fn tick(&mut self, now_ms: i64) {
        self.0.retain(|_, metrics| metrics.iter().any(|(_, at_ms)| is_with(now_ms, *at_ms)));
    }
}

fn is_with(now_ms: i64, at_ms: i64) -> bool {
    now_ms <= at_ms.saturating_add(COMPANY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn company_makes_worse_as_far_as_the_weight_allows() {
        use Severity::{Critical, Major, Minor, Warning};
        // Seconds after another series of the device, kind, severity and its bound, and what becomes of it.
        for (seconds, kind, severity, severity_max, expected) in [
            (10, "anomaly", Minor, Critical, Major),
            (11, "anomaly", Minor, Critical, Minor),
            (10, "stuck", Warning, Minor, Minor),
            (10, "anomaly", Minor, Minor, Minor),
            (10, "anomaly", Critical, Minor, Minor),
            (10, "limit", Minor, Critical, Minor),
        ] {
            let mut company = Company::default();
            let weight = Weight { severity, severity_max };
            assert_eq!(company.severity(0, ("d", "other"), "anomaly", weight), severity.min(severity_max));
            assert_eq!(company.severity(0, ("e", "m"), "anomaly", weight), severity.min(severity_max), "of another");
            let found = company.severity(seconds * 1_000, ("d", "m"), kind, weight);
            assert_eq!(found, expected, "{seconds} s, {kind}, {severity:?} up to {severity_max:?}");
            company.tick(100_000);
            assert!(company.0.is_empty());
        }
    }
}
