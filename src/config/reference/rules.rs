//! Rules, with what they look up, and the streams that they write to.

use crate::keys::actions::ActionKind;
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, key_of, seconds};
use crate::keys::kind::{Kind, Shape};

#[rustfmt::skip]
pub(super) const STREAM: &[Key] = &[
    key_of(Group::Stream, "name", Kind::Text(Shape::LogStream), Required { example: "\"trips\"" },
        "A stream that rules write to, besides raw and anomalies. Sinks take it by this name; the archive has a folder of it."),
    key_of(Group::Stream, "keep", Kind::Choice(&["bulk", "reserve"]), Literal("\"bulk\""),
        "When the store has no more room: bulk is dropped when no raw readings are left, reserve only after all that."),
];

#[rustfmt::skip]
pub(super) const RULES: &[Key] = &[
    key_of(Group::Rules, "folder", Kind::Text(Shape::Path), Literal("\"rules.d\""),
        "A folder beside this file: each .toml file in it holds further [[rule]], in the order of the files' names. It need not exist."),
    key_of(Group::Rules, "zones", Kind::Text(Shape::Path), Otherwise { meaning: "there are no zones", example: "\"zones.geojson\"" },
        "A GeoJSON file, beside this one if its path is relative, with the zones that inside(), entered() and left() know: polygons with a name among their properties, longitude before latitude."),
];

#[rustfmt::skip]
pub(super) const TABLE: &[Key] = &[
    key_of(Group::Table, "name", Kind::Text(Shape::RuleName), Required { example: "\"offers\"" },
        "As lookup(offers, key) has it."),
    key_of(Group::Table, "file", Kind::Text(Shape::Path), Required { example: "\"offers.csv\"" },
        "A .csv file whose first line names the columns, or a .json file with an object of rows or a list of them; beside this one if its path is relative. Read again when it changes."),
    key_of(Group::Table, "key", Kind::Text(Shape::Name), Otherwise { meaning: "a .json file holds an object, whose names are the keys", example: "\"zone\"" },
        "The column that rows are found by."),
];

#[rustfmt::skip]
pub(super) const RULE: &[Key] = &[
    key_of(Group::Rule, "name", Kind::Text(Shape::RuleName), Required { example: "\"overheated\"" },
        "Unique; also the kind of its alerts, alerts/{device}/{metric}/{name}."),
    key_of(Group::Rule, "enabled", Kind::Boolean, Literal("true"),
        "Whether it runs. One that does not is checked all the same."),
    key_of(Group::Rule, "when", Kind::Text(Shape::Rule), Otherwise { meaning: "`sql` says what is looked for", example: "\"engine_temperature > 110\"" },
        "A condition on the readings of a device: a name is the latest value of that metric. docs/RULES.md lists operators and functions."),
    key_of(Group::Rule, "from", Kind::Text(Shape::Pattern), Otherwise { meaning: "every device", example: "\"truck-*\"" },
        "The devices that `when` is for; * stands for anything."),
    key_of(Group::Rule, "for", seconds(0, 86_400), Literal("\"0s\""),
        "How long `when` has to hold, by the device's own times, before anything is done."),
    key_of(Group::Rule, "until", Kind::Text(Shape::Rule), Otherwise { meaning: "not `when`", example: "\"engine_temperature < 100\"" },
        "What has to hold before the alert clears: for alert.clear_after, in at least two readings."),
    key_of(Group::Rule, "repeat", Kind::Boolean, Literal("false"),
        "Whether something is published and recorded for each reading while `when` holds, and not only when it begins to."),
    key_of(Group::Rule, "sql", Kind::Text(Shape::Rule), Otherwise { meaning: "`when` says what is looked for", example: "\"SELECT * FROM 'trucks/+/engine' WHERE temperature > 110\"" },
        "A statement of AWS IoT SQL, which sees messages as they are published, whatever is in them."),
    key_of(Group::Rule, "alert", Kind::Actions(ActionKind::Alert), Otherwise { meaning: "no alert", example: "\"critical\"" },
        "Raises an alert. In its message ${...} is filled in; `device` is needed where no route says which device a message is of."),
    key_of(Group::Rule, "republish", Kind::Actions(ActionKind::Republish), Otherwise { meaning: "nothing is published", example: "{ topic = \"hot/${device()}\", qos = 1 }" },
        "Publishes the result, or `payload` with ${...} filled in. What a rule with `sql` publishes is seen by routes and other rules."),
    key_of(Group::Rule, "stream", Kind::Actions(ActionKind::Stream), Otherwise { meaning: "nothing is recorded", example: "\"trips\"" },
        "Puts the result into a [[stream]], from which sinks take it."),
    key_of(Group::Rule, "webhook", Kind::Actions(ActionKind::Webhook), Otherwise { meaning: "nothing is posted", example: "\"trips\"" },
        "Puts the result into a [[stream]] that a [[sink]] of type \"http\" posts: tried until it succeeds, also after a restart."),
    key_of(Group::Rule, "readings", Kind::Actions(ActionKind::Readings), Otherwise { meaning: "no readings are made", example: "{ metric = \"power\", value = \"voltage * current\" }" },
        "Makes readings: with `sql` the result is read as a payload of `device`; with `when` it is `value`, an expression, under `metric`."),
    key_of(Group::Rule, "count", Kind::Boolean, Literal("false"),
        "Nothing but counting, for outrider_rule_matches_total{rule}. All rules are counted, whatever else they do."),
    key_of(Group::Rule, "drop", Kind::Boolean, Literal("false"),
        "Whether the readings are kept out of the raw stream, counted as dropped_by_rule. The detectors see them."),
    key_of(Group::Rule, "downsample", Kind::Actions(ActionKind::Downsample), Otherwise { meaning: "every reading is stored", example: "{ every = \"60s\", keep = [\"last\", \"mean\", \"min\", \"max\"] }" },
        "Stores one reading of each series for each span of time instead; keep says which, and all but last have a name of their own, such as rpm.mean."),
    key_of(Group::Rule, "error", Kind::Actions(ActionKind::Error), Otherwise { meaning: "errors are only counted and logged", example: "{ republish = { topic = \"errors/rules\" } }" },
        "What is done about an error of the rule; the payload names the rule, the message and what failed, as AWS IoT has it."),
    key_of(Group::Rule, "test", Kind::RuleTests,
        Otherwise { meaning: "nothing is tried", example: "{ readings = [{ metric = \"engine_temperature\", value = 120.0, at = \"5s\" }], expect = \"5s\" }" },
        "An example that `outrider rules test` and `outrider check` try: when the condition begins to hold, or what the statement makes of a message, or \"no match\". docs/RULES.md shows both."),
];
