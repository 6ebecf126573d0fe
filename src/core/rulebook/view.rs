//! What the names and functions of a condition stand for: the latest readings of one device.

use std::cell::RefCell;

use super::device::{Device, Latest};
use super::functions::{self, ReadingFunction};
use super::index::ReadingIndex;
use super::models::{Given, NamedModel};
use super::surroundings::Surroundings;
use crate::detection::detectors::Verdict;
use crate::reading::Reading;
use crate::rules::{Crossing, Names, Side, Statistic, Value};

/// A crossing is looked for once in an evaluation, however often it is asked for.
#[derive(Debug)]
pub(super) struct Crossings {
    pub sides: Vec<(Box<str>, Side)>,
    found: Vec<(Box<str>, Crossing)>,
}

impl Crossings {
    pub fn new(sides: Vec<(Box<str>, Side)>) -> Crossings {
        Crossings { sides, found: Vec::new() }
    }
}

/// One device, at a moment.
pub(super) struct View<'a> {
    pub index: &'a ReadingIndex,
    pub surroundings: &'a Surroundings,
    pub name: &'a str,
    pub device: &'a Device,
    /// The reading that has come; `None` if only time has passed.
    pub reading: Option<&'a Reading<'a>>,
    /// The device's time.
    pub at_ms: i64,
    /// The steady clock, and since when we listen by it.
    pub now_ms: i64,
    pub listening_ms: i64,
    pub crossings: RefCell<Crossings>,
}

impl View<'_> {
    pub fn latest(&self, metric: &str) -> Option<&Latest> {
        let slot = usize::from(self.index.slot(metric)?);
        self.device.latest.get(slot)?.as_ref().filter(|latest| latest.is_present(self.at_ms))
    }

    fn statistic(&self, statistic: Statistic, metric: &Value<'_>, seconds: &Value<'_>) -> Option<f64> {
        let metric = metric.to_text().ok()??;
        let slot = usize::from(self.index.slot(&metric)?);
        let span_ms = (seconds.to_number()?.to_double() * 1000.0).round() as i64;
        self.device.windows.get(slot)?.as_ref()?.statistic(statistic, self.at_ms, span_ms)
    }

    /// What a model is given: features of the windows that end where all of its metrics have come to.
    pub fn given(&self, model: &NamedModel) -> Option<Given> {
        let (mut until_ms, mut newest_ms) = (i64::MAX, i64::MIN);
        for metric in model.metrics() {
            let at_ms = self.latest(metric)?.at_ms;
            (until_ms, newest_ms) = (until_ms.min(at_ms), newest_ms.max(at_ms));
        }
        if newest_ms.saturating_sub(until_ms) > model.apart_ms_max() {
            return None;
        }
        model.given_by_windows(until_ms, |metric, statistic| {
            let slot = usize::from(self.index.slot(metric)?);
            self.device.windows.get(slot)?.as_ref()?.statistic(statistic, until_ms, model.window_ms())
        })
    }

    /// What a model says of the device, which `say` makes of what it is given and of the label that is asked about.
    fn ask<T>(
        &self,
        model: &Value<'_>,
        label: Option<&Value<'_>>,
        say: impl FnOnce(&NamedModel, &Given, Option<&str>) -> Option<T>,
    ) -> Option<T> {
        let model = self.surroundings.model(model)?;
        let label = match label {
            Some(label) => Some(label.to_text().ok()??),
            None => None,
        };
        say(model, &self.given(model)?, label.as_deref())
    }

    fn seconds_since(&self, metric: &Value<'_>) -> Option<f64> {
        let metric = metric.to_text().ok()??;
        let slot = usize::from(self.index.slot(&metric)?);
        let heard_ms = self.device.latest.get(slot)?.as_ref()?.heard_ms;
        // Time in which the gateway did not listen proves nothing.
        Some(self.now_ms.saturating_sub(heard_ms.max(self.listening_ms)).max(0) as f64 / 1000.0)
    }

    fn judged<'v>(&self, metric: &Value<'_>, say: impl Fn(&Latest) -> Value<'v>) -> Value<'v> {
        let metric = metric.to_text().ok().flatten();
        metric.and_then(|metric| self.latest(&metric)).map_or(Value::Undefined, say)
    }

    /// Latitude and longitude, if the device has said both at one time.
    fn position(&self, latitude: &Value<'_>, longitude: &Value<'_>) -> Option<(f64, f64)> {
        let latest = |metric: &Value<'_>| self.latest(&metric.to_text().ok()??).copied();
        let (latitude, longitude) = (latest(latitude)?, latest(longitude)?);
        latitude.is_pair_with(&longitude).then_some((latitude.value, longitude.value))
    }

    /// Whether the device is in a zone. `None` without such a zone or a position.
    fn is_inside(&self, [zone, latitude, longitude]: [&Value<'_>; 3]) -> Option<bool> {
        let (latitude, longitude) = self.position(latitude, longitude)?;
        self.surroundings.is_inside(zone, latitude, longitude)
    }

    fn crossing(&self, place: [&Value<'_>; 3], stay: Option<&Value<'_>>) -> Option<Crossing> {
        let zone = place[0].to_text().ok()??;
        let mut crossings = self.crossings.borrow_mut();
        if let Some((_, found)) = crossings.found.iter().find(|(known, _)| **known == *zone) {
            return Some(*found);
        }
        let is_inside = self.is_inside(place)?;
        let stay_ms = match stay {
            Some(stay) => (stay.to_number()?.to_double() * 1000.0).round() as i64,
            None => 0,
        };
        if !crossings.sides.iter().any(|(known, _)| **known == *zone) {
            crossings.sides.push((zone.as_ref().into(), Side::default()));
        }
        let (_, side) = crossings.sides.iter_mut().find(|(known, _)| **known == *zone)?;
        let found = side.step(is_inside, self.at_ms, stay_ms);
        crossings.found.push((zone.as_ref().into(), found));
        Some(found)
    }
}

impl Names for View<'_> {
    fn name<'v>(&'v self, name: &str) -> Value<'v> {
        self.latest(name).map_or(Value::Undefined, Latest::value)
    }

    fn whole(&self) -> Value<'_> {
        Value::Undefined
    }

    fn steps(&self, function: usize, arguments: &[Value<'_>]) -> u32 {
        match (functions::of_readings(function), arguments) {
            (Some(ReadingFunction::PredictRecord), [model, _, record]) => {
                self.surroundings.model(model).map_or(0, |model| model.steps_of_record(record))
            }
            (Some(function), [model, ..]) if function.asks_model() => {
                self.surroundings.model(model).map_or(0, NamedModel::steps)
            }
            _ => 0,
        }
    }

    fn call<'v>(&'v self, function: usize, arguments: &[Value<'v>]) -> Value<'v> {
        let double = |value: Option<f64>| value.map_or(Value::Undefined, number);
        let function = functions::of_readings(function);
        match (function, arguments) {
            (Some(ReadingFunction::Window(statistic)), [metric, seconds]) => {
                double(self.statistic(statistic, metric, seconds))
            }
            (Some(ReadingFunction::Age), [metric]) => double(self.seconds_since(metric)),
            (Some(ReadingFunction::Verdict), [metric]) => {
                self.judged(metric, |latest| Value::Text(word(latest.verdict).into()))
            }
            (Some(ReadingFunction::Score), [metric]) => self.judged(metric, |latest| number(latest.score)),
            (Some(ReadingFunction::Metric), []) => text(self.reading.map(|reading| reading.metric)),
            (Some(ReadingFunction::Value), []) => double(self.reading.map(|reading| reading.value)),
            (Some(ReadingFunction::Device), []) => text(Some(self.name)),
            (Some(ReadingFunction::Inside), [zone, latitude, longitude]) => {
                self.is_inside([zone, latitude, longitude]).into()
            }
            (Some(ReadingFunction::Entered | ReadingFunction::Left), [zone, latitude, longitude, stay @ ..]) => {
                let wanted = match function {
                    Some(ReadingFunction::Entered) => Crossing::Entered,
                    _ => Crossing::Left,
                };
                let crossing = self.crossing([zone, latitude, longitude], stay.first());
                crossing.map(|crossing| crossing == wanted).into()
            }
            (Some(ReadingFunction::Zone), [latitude, longitude]) => match self.position(latitude, longitude) {
                Some((latitude, longitude)) => self.surroundings.zone(latitude, longitude),
                None => Value::Undefined,
            },
            (Some(ReadingFunction::Predict), [model]) => {
                let answer = self.ask(model, None, |model, given, _| Some(model.answer(&model.scores(given)?)));
                answer.unwrap_or(Value::Undefined)
            }
            (Some(ReadingFunction::ModelScore), [model, label @ ..]) => {
                double(self.ask(model, label.first(), NamedModel::score))
            }
            (Some(ReadingFunction::ModelReason), [model, label @ ..]) => {
                let reason = self.ask(model, label.first(), NamedModel::reason);
                reason.map_or(Value::Undefined, |reason| Value::Text(reason.into()))
            }
            (Some(ReadingFunction::PredictRecord), [model, _, record]) => self.surroundings.prediction(model, record),
            (Some(ReadingFunction::Lookup), [table, key]) => self.surroundings.row(table, key),
            _ => Value::Undefined,
        }
    }
}

fn number<'v>(double: f64) -> Value<'v> {
    crate::rules::Number::from_double(double).into()
}

fn text(text: Option<&str>) -> Value<'_> {
    text.map_or(Value::Undefined, |text| Value::Text(text.into()))
}

/// What the detectors say, in a word.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Anomalous => "anomalous",
        Verdict::Normal => "normal",
        Verdict::WarmingUp => "learning",
        Verdict::Unjudged => "unjudged",
        Verdict::Unwatched => "unwatched",
    }
}
