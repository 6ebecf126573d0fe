//! What a model says of a device, for people who ask: rules ask by themselves.

use std::cell::RefCell;

use super::Rulebook;
use super::conditions::Conditions;
use super::view::{Crossings, View};

/// What a model says of the last readings of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelWord {
    /// The time that all of its metrics have reached.
    pub at_ms: i64,
    /// The number that a threshold is for.
    pub score: f64,
    /// Its inputs, and what it was given for them.
    pub given: Vec<(String, f64)>,
    /// The score and what it was made of, in words.
    pub reason: String,
}

impl Conditions {
    /// Asks a model about a device; `label` is that of a classifier whose probability is meant. `None` if there is no such model or device,
    /// or what it needs of the device is not there.
    pub fn ask_model(&self, book: &Rulebook, device: &str, model: &str, label: Option<&str>) -> Option<ModelWord> {
        let model = book.surroundings.models.get(model)?;
        let known = self.devices.get(device)?;
        let newest = |metric: &str| {
            let slot = usize::from(book.readings.slot(metric)?);
            known.latest.get(slot)?.as_ref().map(|latest| latest.at_ms)
        };
        let view = View {
            index: &book.readings,
            surroundings: &book.surroundings,
            name: device,
            device: known,
            reading: None,
            at_ms: model.metrics().filter_map(newest).max()?,
            now_ms: 0,
            listening_ms: 0,
            crossings: RefCell::new(Crossings::new(Vec::new())),
        };
        let given = view.given(model)?;
        Some(ModelWord {
            at_ms: given.until_ms,
            score: model.score(&given, label)?,
            given: model.named(&given).map(|(name, value)| (name.to_owned(), value)).collect(),
            reason: model.reason(&given, label)?,
        })
    }
}
