//! What is watched, and what raises an alert.

use crate::core::models::INPUTS_MAX;
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, count, key_of, seconds};
use crate::keys::kind::{Kind, Shape};

/// The names in [`crate::core::detection::detectors::profile`]; a test compares them.
const PROFILE_NAMES: &[&str] = &["off", "temperature", "slow", "driven", "generic", "plant"];

#[rustfmt::skip]
pub(super) const DETECTION: &[Key] = &[
    key_of(Group::Detection, "series_max", count(0, 1_000_000), Literal("10000"),
        "The most series that are watched; further ones are stored and sent but not watched, and counted. 0 watches none."),
    key_of(Group::Detection, "false_alarms_per_week", count(1, 3), Literal("3"),
        "How many alarms of one kind that end by themselves a detector of a series gives in a week of being heard before it takes them for usual."),
];

#[rustfmt::skip]
pub(super) const ALERT: &[Key] = &[
    key_of(Group::Alert, "clear_after", seconds(1, 86_400), Literal("\"30s\""),
        "An alert clears when readings have been good for this time, at least two of them."),
    key_of(Group::Alert, "remove_after", seconds(1, 86_400), Literal("\"60s\""),
        "The retained message of a cleared alert is removed after this time."),
];

#[rustfmt::skip]
pub(super) const LIMIT: &[Key] = &[
    key_of(Group::Limit, "metric", Kind::Text(Shape::Name), Required { example: "\"container_temperature\"" },
        "The metric that these bounds apply to; its whole name. Several may apply to one metric: there is one alert, as severe as the most severe of them."),
    key_of(Group::Limit, "device", Kind::Text(Shape::Name), Otherwise { meaning: "every device", example: "\"freezer-*\"" },
        "The devices that they apply to; * stands for anything."),
    key_of(Group::Limit, "min", Kind::Number, Otherwise { meaning: "no lower bound", example: "-25.0" },
        "A reading below this is an anomaly."),
    key_of(Group::Limit, "max", Kind::Number, Otherwise { meaning: "no upper bound", example: "40.0" },
        "A reading above this is an anomaly."),
    key_of(Group::Limit, "severity", Kind::Choice(&["warning", "minor", "major", "critical"]), Literal("\"major\""),
        "The severity of an alert when one of them is exceeded."),
    key_of(Group::Limit, "for", seconds(0, 86_400), Literal("\"0s\""),
        "How long a bound has to be exceeded, by the device's own times, before an alert is raised; a reading beyond it is an anomaly at once."),
    key_of(Group::Limit, "clear_min", Kind::Number, Otherwise { meaning: "as min", example: "-22.0" },
        "Readings are good again from this value up; above min, so that the alert does not flap when the value is near min."),
    key_of(Group::Limit, "clear_max", Kind::Number, Otherwise { meaning: "as max", example: "36.0" },
        "Readings are good again up to this value; below max, so that the alert does not flap when the value is near max."),
    key_of(Group::Limit, "sentinel", Kind::Numbers { count_max: 8 },
        Otherwise { meaning: "none, but -127 for temperatures", example: "[-127.0, 85.0]" },
        "Values that a broken sensor sends; each is an anomaly."),
];

#[rustfmt::skip]
pub(super) const PROFILE: &[Key] = &[
    key_of(Group::Profile, "metrics", Kind::Text(Shape::Name), Required { example: "\"door hatch\"" },
        "Words, one of which is part of the metric's name, or whole names; the first [[profile]] that matches is used, before the built-in ones."),
    key_of(Group::Profile, "like", Kind::Choice(PROFILE_NAMES), Literal("\"generic\""),
        "The profile that the other keys change; plant is for stationary machines."),
    key_of(Group::Profile, "gap", Kind::Choice(&["on", "off"]),
        Otherwise { meaning: "as in that profile", example: "\"off\"" },
        "Whether silence raises an alert; off for metrics that report only on change."),
    key_of(Group::Profile, "stuck", Kind::Choice(&["on", "off"]),
        Otherwise { meaning: "as in that profile", example: "\"off\"" },
        "Whether a value that does not change raises an alert."),
    key_of(Group::Profile, "baseline", Kind::Choice(&["rolling", "frozen"]),
        Otherwise { meaning: "as in that profile", example: "\"frozen\"" },
        "What levels are compared with: the last minutes, or always the first 400 readings."),
    key_of(Group::Profile, "spike", Kind::Number, Otherwise { meaning: "as in that profile", example: "12.0" },
        "A reading that is off by this many times the usual distance is a spike."),
    key_of(Group::Profile, "shift", Kind::Number, Otherwise { meaning: "as in that profile", example: "6.0" },
        "A level that is off by this many times the usual departure is a shift."),
    key_of(Group::Profile, "burst", Kind::Number, Otherwise { meaning: "as in that profile", example: "3.0" },
        "This many times the usual noise is a burst; 0 for never."),
    key_of(Group::Profile, "severity_max", Kind::Choice(&["warning", "minor", "major", "critical"]),
        Otherwise { meaning: "as in that profile", example: "\"warning\"" },
        "No alert of these metrics is more severe than this; the built-in maximum of a profile does not apply to those of a [[limit]]."),
];

#[rustfmt::skip]
pub(super) const MODEL: &[Key] = &[
    key_of(Group::Model, "name", Kind::Text(Shape::RuleName), Required { example: "\"pump\"" },
        "As predict(pump) has it; also the kind of its alerts, alerts/{device}/{metric}/{name}, with the metric of its first input."),
    key_of(Group::Model, "file", Kind::Text(Shape::Path), Required { example: "\"pump.json\"" },
        "The file; beside this one if its path is relative. Read again when it changes; while it is wrong, the model that was read before stays."),
    key_of(Group::Model, "window", seconds(1, 3_600), Literal("\"10s\""),
        "The time that its features are about, as it was trained. Its metrics may be apart by half of it."),
    key_of(Group::Model, "inputs", Kind::Texts { shape: Shape::Name, count_max: INPUTS_MAX },
        Otherwise { meaning: "as the file says", example: "[\"vibration.deviation\", \"motor_current.mean\"]" },
        "What its columns are here, in their order: a metric, a dot, and one of mean, deviation, minimum, maximum, slope, last, count."),
    key_of(Group::Model, "threshold", Kind::Number, Otherwise { meaning: "only rules ask it", example: "0.6" },
        "Above this an alert is raised: the value of a regression, the probability of a label, or how unusual an isolation forest finds it, from 0 to 1."),
    key_of(Group::Model, "clear", Kind::Number, Otherwise { meaning: "as threshold", example: "0.5" },
        "At most this is good again."),
    key_of(Group::Model, "label", Kind::Text(Shape::Name), Otherwise { meaning: "the second of two", example: "\"worn\"" },
        "Of a classifier, the label whose probability is compared with the threshold."),
    key_of(Group::Model, "device", Kind::Text(Shape::Pattern), Otherwise { meaning: "every device", example: "\"pump-*\"" },
        "The devices that the threshold is for; * stands for anything."),
    key_of(Group::Model, "for", seconds(0, 86_400), Literal("\"0s\""),
        "How long the threshold has to be exceeded, by the device's own times, before an alert is raised."),
    key_of(Group::Model, "severity", Kind::Choice(&["warning", "minor", "major", "critical"]), Literal("\"major\""),
        "The severity of its alerts."),
];
