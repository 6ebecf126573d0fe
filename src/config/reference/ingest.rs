//! Where readings come from: topics, payloads, and files.

use crate::config::presets;
use crate::keys::key::Fallback::{Literal, Otherwise, Required};
use crate::keys::key::{Group, Key, key_of, seconds};
use crate::keys::kind::{Kind, Shape};

#[rustfmt::skip]
pub(super) const INGEST: &[Key] = &[
    key_of(Group::Ingest, "builtin_routes", Kind::Boolean, Literal("true"),
        "Whether devices/{device}, vehicles/{device} and the topics below them are stored as well; each [[route]] comes before them."),
];

#[rustfmt::skip]
pub(super) const ROUTE: &[Key] = &[
    key_of(Group::Route, "topic", Kind::Text(Shape::TopicTemplate), Required { example: "\"plant/{device}/{metric...}\"" },
        "Topics whose publishes are readings; {metric...} takes the remaining levels, another {name} becomes an attribute."),
    key_of(Group::Route, "preset", Kind::Choice(&presets::NAMES),
        Otherwise { meaning: "the section says everything itself", example: "\"openxc\"" },
        "The routes of a known device family, with their topics; other keys of the section come before those of the preset."),
    key_of(Group::Route, "format", Kind::Choice(&["auto", "json", "cbor", "number", "csv", "senml_json", "senml_cbor", "influx", "sparkplug"]), Literal("\"auto\""),
        "How payloads are written; auto decides between JSON and CBOR for each payload, and refuses a bare number that could be either, such as 1 or 9.5, until its topic has sent one that could not, such as 12. number is a bare number with or without its unit; influx is the line protocol, sparkplug is Sparkplug B."),
    key_of(Group::Route, "columns", Kind::Texts { shape: Shape::Name, count_max: 256 }, Literal("[]"),
        "Names of the columns, for format = \"csv\"; without them the first line of each payload names them."),
    key_of(Group::Route, "separator", Kind::Choice(&[",", ";", "tab"]), Literal("\",\""),
        "What stands between two cells, for format = \"csv\"."),
    key_of(Group::Route, "device", Kind::Text(Shape::PlaceText),
        Otherwise { meaning: "{device} in the topic", example: "\"boiler\"" },
        "The device: a fixed name, or for example \"{line}-{$.id}\" with a level of the topic and a place in the payload."),
    key_of(Group::Route, "metric", Kind::Text(Shape::PlaceText),
        Otherwise { meaning: "from the topic or the payload", example: "\"temperature\"" },
        "The metric of a bare number or of `value`; the names of all other numbers begin with it."),
    key_of(Group::Route, "each", Kind::Text(Shape::PayloadPath),
        Otherwise { meaning: "the payload, or each element if it is a list", example: "\"$.list[*]\"" },
        "What is a reading, or several of one time; * stands for all elements of a list or all members of an object. In the other keys @ is the element then, and {@key} its name."),
    key_of(Group::Route, "value", Kind::Text(Shape::PayloadPath),
        Otherwise { meaning: "all numbers are metrics", example: "\"@.value\"" },
        "Where the value is. Other numbers of the element are metrics too, unless `metrics` says which are."),
    key_of(Group::Route, "metrics", Kind::Measures,
        Otherwise { meaning: "all numbers are metrics", example: "{ speed = \"@.sp\", supply = { path = \"@.66\", factor = 0.001, offset = 0.0 } }" },
        "Which numbers are metrics, with a name of their own and calculated as value times factor plus offset. A path to an object stands for all numbers in it that no path before it leads to."),
    key_of(Group::Route, "numbers", Kind::Choice(&["strict", "lenient"]),
        Otherwise { meaning: "\"strict\", and with format = \"number\" \"lenient\"", example: "\"lenient\"" },
        "Whether texts such as \"317.3988\", \"74.50%\" and \"82C\" are numbers, without their unit."),
    key_of(Group::Route, "decimal_separator", Kind::Choice(&[".", ","]), Literal("\".\""),
        "The decimal separator of numbers in texts, where `numbers` is \"lenient\"."),
    key_of(Group::Route, "time", Kind::Text(Shape::PayloadPath),
        Otherwise { meaning: "ts, time and other usual names", example: "\"$.at\"" },
        "Where the time is. If it is not there the time of receipt is taken; if it is no time, the publish is refused."),
    key_of(Group::Route, "time_format", Kind::Text(Shape::TimeFormat), Literal("\"auto\""),
        "How `time` is written; auto tells the unit of a number by its size, and takes RFC 3339."),
    key_of(Group::Route, "time_zone", Kind::Text(Shape::TimeZone),
        Otherwise { meaning: "such a time is refused", example: "\"+01:00\"" },
        "The zone of times that are written without one."),
    key_of(Group::Route, "sequence", Kind::Text(Shape::PayloadPath),
        Otherwise { meaning: "seq", example: "\"$.n\"" },
        "Where the device's own number of the reading is."),
    key_of(Group::Route, "attributes", Kind::Attributes,
        Otherwise { meaning: "all texts that have no other meaning", example: "[\"$.firmware\"]" },
        "Which values are attributes."),
    key_of(Group::Route, "ignore", Kind::Paths,
        Otherwise { meaning: "nothing", example: "[\"$.debug\"]" },
        "What is neither a metric nor an attribute, with everything below it."),
    key_of(Group::Route, "test", Kind::RouteTests,
        Otherwise { meaning: "nothing is tried", example: "{ topic = \"plant/3\", payload = '{\"list\":[]}', expect = \"no_element\" }" },
        "An example that `outrider check` tries: `expect` lists the readings that come of it, such as [{ device = \"a\", metric = \"t\", value = 1.5 }], or is the reason of a refusal."),
];

#[rustfmt::skip]
pub(super) const FILE: &[Key] = &[
    key_of(Group::File, "path", Kind::Text(Shape::Path), Required { example: "\"/var/log/plant/*.log\"" },
        "The files: a folder, and a name in which * stands for any text. Files that end in .gz are read when they are finished. Their places in the store are under this text."),
    key_of(Group::File, "topic", Kind::Text(Shape::Name), Required { example: "\"devices/{file}\"" },
        "Where routes see the lines; {file} is the file's name up to its first dot."),
    key_of(Group::File, "format", Kind::Choice(&["lines", "csv", "pattern"]), Literal("\"lines\""),
        "What a line is: a payload as the route reads it; a row of CSV, for a route with format = \"csv\"; or what `pattern` takes apart."),
    key_of(Group::File, "header", Kind::Boolean, Literal("true"),
        "Whether the first line of a CSV file names its columns; else the route's `columns` do."),
    key_of(Group::File, "separator", Kind::Choice(&[",", ";", "tab"]), Literal("\",\""),
        "What stands between two cells, for format = \"csv\"; the route says the same."),
    key_of(Group::File, "pattern", Kind::Text(Shape::Rule),
        Otherwise { meaning: "the format has none", example: "'^(?<time>[^ ]+) (?<value>[-0-9.]+)'" },
        "A regular expression, for format = \"pattern\": each group with a name is a field of a JSON object, which the route reads."),
    key_of(Group::File, "multiline_start", Kind::Text(Shape::Rule),
        Otherwise { meaning: "each line is a record", example: "'^[0-9]'" },
        "A regular expression: a record begins with a line that matches, and ends before the next one."),
    key_of(Group::File, "start", Kind::Choice(&["beginning", "end"]), Literal("\"beginning\""),
        "Where to begin with files that are there at the very first look; later ones are read from their beginning."),
    key_of(Group::File, "idle", seconds(1, 86_400), Literal("\"30s\""),
        "A last line without a newline is taken when nothing was written for so long."),
    key_of(Group::File, "line_size_max", Kind::Size { min: 256, max: 1 << 20, auto: false }, Literal("\"64KiB\""),
        "Longer lines are left out, and counted."),
];
