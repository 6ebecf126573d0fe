//! Whether a reading departs from what is normal for its series, and what becomes of that: windows, detectors, alerts.

pub mod alert;
pub mod detectors;
pub mod devices;
pub mod monitor;
pub mod rewind_guard;
pub mod severity;
pub mod silence;
pub mod window;
