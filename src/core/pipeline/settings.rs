//! What a pipeline is made from.

use std::sync::Arc;

use crate::detection::alert::AlertTimes;
use crate::detection::monitor::MonitorSettings;
use crate::identity::RunId;
use crate::rulebook::Rulebook;

/// What a pipeline is made from.
#[derive(Clone, Debug)]
pub struct PipelineSettings {
    /// Name of the gateway, not escaped.
    pub gateway: String,
    /// Of this start of the process.
    pub run: RunId,
    /// What the detectors watch.
    pub monitor: MonitorSettings,
    /// Durations of an alert's life.
    pub alerts: AlertTimes,
    /// Rules that see readings, and raise alerts.
    pub rules: RuleSettings,
}

impl PipelineSettings {
    /// With the defaults of everything else.
    pub fn new(gateway: &str, run: RunId) -> PipelineSettings {
        PipelineSettings {
            gateway: gateway.to_owned(),
            run,
            monitor: MonitorSettings::default(),
            alerts: AlertTimes::default(),
            rules: RuleSettings::default(),
        }
    }
}

/// The rules that a pipeline begins with.
#[derive(Clone, Debug)]
pub struct RuleSettings {
    /// All rules.
    pub book: Arc<Rulebook>,
    /// Counts nanoseconds, for what is shown of each rule.
    pub stopwatch: fn() -> u64,
}

impl Default for RuleSettings {
    fn default() -> RuleSettings {
        RuleSettings { book: Arc::default(), stopwatch: || 0 }
    }
}
