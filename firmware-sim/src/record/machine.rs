//! What all simulated machines have in common.

use super::moment::Moment;
use super::sensor::Sensor;

/// A fault of the machine and not of a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Coolant is lost, and the engine becomes hotter than the thermostat allows.
    Overheating,
    /// The voltage regulator fails, and the alternator charges too little or nothing.
    Undervoltage,
    /// A tank runs out.
    Leak,
    /// The refrigerating circuit has lost most of its effect, and the room warms up.
    CoolingFailure,
    /// A bearing runs dry: warmer, and vibrating.
    BearingDamage,
}

impl Trouble {
    pub fn name(self) -> &'static str {
        match self {
            Trouble::Overheating => "overheating",
            Trouble::Undervoltage => "undervoltage",
            Trouble::Leak => "leak",
            Trouble::CoolingFailure => "cooling_failure",
            Trouble::BearingDamage => "bearing_damage",
        }
    }
}

/// A trouble that a machine can have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TroubleType {
    pub trouble: Trouble,
    /// The metric that shows it best.
    pub metric: &'static str,
    /// How long the cause lasts.
    pub seconds: (f64, f64),
    /// What departs by less than this counts as recovered.
    pub tolerance: f64,
}

pub trait Machine: Send {
    fn sensors(&self) -> &'static [Sensor];

    /// Simulates one second. Sets the true value for each sensor, NaN for one that does not report now.
    fn step(&mut self, at: Moment, truth: &mut [f64]);

    fn troubles(&self) -> &'static [TroubleType];

    /// Whether the trouble would show now.
    fn may_begin(&self, trouble: Trouble) -> bool;

    /// Begins (severity 0 to 1) or ends (`None`) the cause of the trouble.
    fn set_trouble(&mut self, trouble: Trouble, severity: Option<f64>);

    /// How far beyond the usual the trouble's metric is now, in its unit and with its sign.
    fn excess(&self, trouble: Trouble) -> f64;

    /// How long, in seconds, what reports now surely goes on reporting.
    fn seconds_left(&self) -> u32;

    /// Hours a day in which faults may begin.
    fn hours_a_day(&self) -> f64 {
        24.0
    }
}
