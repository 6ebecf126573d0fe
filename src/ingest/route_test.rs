//! An example that the configuration gives with a route, and what should come of it.

use super::explain::{Explained, explain};
use super::route::Route;
use crate::core::detection::detectors::profile::Profiles;
use crate::core::reading::Reading;

/// A publish, and what should come of it.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteTest {
    pub topic: String,
    pub payload: Vec<u8>,
    pub expected: Expected,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    Readings(Vec<ExpectedReading>),
    /// With this reason.
    Refused(String),
}

/// What is `None` is not compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExpectedReading {
    pub device: Option<String>,
    pub metric: Option<String>,
    pub value: Option<f64>,
    pub measured_at_ms: Option<i64>,
}

impl RouteTest {
    /// What came instead, where something else came than was expected.
    pub fn run(&self, routes: &[Route], received_at_ms: i64) -> Result<(), String> {
        let explained = explain(routes, &self.topic, &self.payload, received_at_ms);
        let is_right = match (&explained, &self.expected) {
            (Explained::Refused { reason, .. }, Expected::Refused(expected)) => reason == expected,
            (Explained::Readings(readings), Expected::Readings(expected)) => {
                readings.len() == expected.len() && readings.iter().zip(expected).all(|(found, it)| it.is_met(&found))
            }
            _ => false,
        };
        match is_right {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&explained.lines(&Profiles::default())).trim_end().to_owned()),
        }
    }
}

impl ExpectedReading {
    fn is_met(&self, found: &Reading<'_>) -> bool {
        self.device.as_ref().is_none_or(|device| device == found.device)
            && self.metric.as_ref().is_none_or(|metric| metric == found.metric)
            && self.value.is_none_or(|value| is_close(value, found.value))
            && self.measured_at_ms.is_none_or(|at_ms| at_ms == found.measured_at_ms)
    }
}

/// A factor such as 0.001 leaves a rounding error that nobody writes down.
fn is_close(expected: f64, found: f64) -> bool {
    expected == found || (expected - found).abs() <= expected.abs() * 1e-12
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Ingest;

    #[test]
    fn what_came_instead_is_shown() {
        let reading =
            ExpectedReading { metric: Some("t".to_owned()), value: Some(12.84), ..ExpectedReading::default() };
        let test = |payload: &str, expected: Expected| {
            let test = RouteTest { topic: "devices/a".to_owned(), payload: payload.into(), expected };
            test.run(&Ingest::default_routes(), 1)
        };
        let readings = || Expected::Readings(vec![reading.clone()]);
        assert_eq!(test("{\"t\":12.840000000000001}", readings()), Ok(()));
        assert_eq!(test("on", Expected::Refused("not_json".to_owned())), Ok(()));
        let wrong = test("{\"t\":12.85}", readings()).expect_err("another value");
        assert!(wrong.starts_with("{\"device\":\"a\",\"metric\":\"t\",\"value\":12.85,"), "{wrong}");
        assert!(test("{\"t\":12.84,\"h\":1}", readings()).is_err(), "one too many");
        assert!(test("on", readings()).is_err() && test("1", Expected::Refused("not_json".to_owned())).is_err());
        let device = ExpectedReading { device: Some("b".to_owned()), ..reading.clone() };
        assert!(test("{\"t\":12.84}", Expected::Readings(vec![device])).is_err());
        let at = ExpectedReading { measured_at_ms: Some(2), ..reading.clone() };
        assert!(test("{\"t\":12.84}", Expected::Readings(vec![at])).is_err());
    }
}
