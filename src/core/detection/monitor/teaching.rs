//! What a person says of an alert reaches the detectors of its series.

use super::Monitor;
use crate::detection::alert::AlertKey;
use crate::detection::detectors::{Detector, Lesson};

impl Monitor {
    /// A person says whether what an alert is about is normal. `detectors`: those that have flagged it.
    pub fn teach(&mut self, key: &AlertKey, detectors: &[String], is_normal: bool) -> Lesson {
        let learned = [Detector::Shift.alert_kind(), Detector::Stuck.alert_kind()];
        if !learned.contains(&key.kind.as_str()) {
            return Lesson::NotOfKind;
        }
        let Some(index) = self.table.find(&key.device, &key.metric) else { return Lesson::Unknown };
        let profile = *self.profile_of(index);
        let series = &mut self.table.get_mut(index).series;
        let mut is_known = false;
        for detector in detectors {
            is_known |= series.teach(detector, is_normal, &profile);
        }
        match (is_known, is_normal) {
            (false, _) => Lesson::Unknown,
            (true, true) => Lesson::Normal,
            (true, false) => Lesson::Fault,
        }
    }
}
