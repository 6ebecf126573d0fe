//! Models that are asked by rules, and alerts that come of them.

use std::collections::HashMap;

use super::*;
use crate::detection::alert::Moment;
use crate::detection::detectors::Verdict;
use crate::detection::severity::Severity;
use crate::mqtt::packet::PassedOn;
use crate::reading::Reading;
use crate::rulebook::{
    ActionDefinition, AlertVerdict, Conditions, Definition, Effects, Message, ModelDetectors, Rule, Rulebook, Seen,
    Surroundings, Threshold,
};

/// What the weights are multiplied with is added up.
fn sum_of(inputs: &str, weights: &str) -> Model {
    let file = format!(
        r#"{{"format":"outrider-model","version":1,"inputs":[{inputs}],
           "estimator":{{"type":"dense","layers":[{{"weights":[{weights}],"bias":[0],"activation":"identity"}}]}}}}"#
    );
    Model::parse(file.as_bytes()).expect("a model")
}

fn named(model: Model) -> NamedModel {
    let inputs = model.inputs().into();
    NamedModel::new(model, inputs, 10_000)
}

/// Of two metrics: the mean of one, and ten times the slope of the other.
fn pump() -> NamedModel {
    let inputs = r#"{"name":"a","metric":"heat","feature":"mean"},{"name":"b","metric":"current","feature":"slope"}"#;
    named(sum_of(inputs, "[1,10]"))
}

fn classifier() -> NamedModel {
    let file = r#"{"format":"outrider-model","version":1,"inputs":[{"name":"t"},{"name":"is_open"}],"labels":["good","it's worn"],
        "estimator":{"type":"dense","layers":[{"weights":[[1,2]],"bias":[0],"activation":"logistic"}]}}"#;
    named(Model::parse(file.as_bytes()).expect("a model"))
}

fn surroundings() -> Surroundings {
    let models = [("pump", pump()), ("worn", classifier())];
    let models: HashMap<String, Arc<NamedModel>> =
        models.into_iter().map(|(name, model)| (name.to_owned(), Arc::new(model))).collect();
    Surroundings { models, ..Surroundings::default() }
}

fn threshold() -> Threshold {
    Threshold { above: 50.0, clear: Some(45.0), label: None, from: None, hold_ms: 0, severity: Severity::Critical }
}

fn book(definitions: &[Definition]) -> Rulebook {
    let surroundings = surroundings();
    let compile =
        |definition| Rule::compile(definition, &surroundings).unwrap_or_else(|problems| panic!("{problems:?}"));
    let rules = definitions.iter().map(compile).collect();
    Rulebook::new(rules, surroundings)
}

/// Shows the rules a reading, and returns what was said of alerts: their metric, whether they are raised, and their text.
fn show(
    book: &Rulebook,
    conditions: &mut Conditions,
    (metric, second, value): (&str, f64, f64),
) -> Vec<(String, String)> {
    let at_ms = 1_000_000 + (second * 1_000.0) as i64;
    let reading = Reading::at(at_ms, "truck", metric, value);
    let now = Moment { steady_ms: at_ms as u64, wall_ms: at_ms };
    let seen = Seen { reading: &reading, verdict: Verdict::Normal, score: 0.0, is_late: false, now, made_by: &[] };
    let mut effects = Effects::default();
    conditions.see(book, &seen, &|| 0, &mut effects);
    let said = effects.words.iter().map(|word| {
        let verdict = match &word.verdict {
            AlertVerdict::Raised { message, .. } => message.clone().map(String::from).unwrap_or_default(),
            AlertVerdict::Good => "good".to_owned(),
            AlertVerdict::Bad => "bad".to_owned(),
        };
        (word.metric.to_string(), verdict)
    });
    said.collect()
}

#[test]
fn a_threshold_raises_an_alert_that_names_score_threshold_and_inputs() {
    let book = book(&[threshold().rule("pump")]);
    let mut conditions = Conditions::default();
    for second in 0..5 {
        let second = f64::from(second);
        assert_eq!(show(&book, &mut conditions, ("heat", second, 40.0)), []);
        assert_eq!(show(&book, &mut conditions, ("current", second, second / 10.0)), [], "the score is 41");
    }
    show(&book, &mut conditions, ("heat", 5.0, 140.0));
    let said = show(&book, &mut conditions, ("current", 5.0, 0.5));
    // The mean of the heat, and ten times the slope of the current.
    let text = "the model pump says 57.67 of a 56.67, b 0.1; its threshold is 50";
    assert_eq!(said, [("heat".to_owned(), text.to_owned())]);
}

/// The order in which the readings of a moment come is nothing to a model of several metrics.
#[test]
fn a_model_is_asked_about_the_time_that_all_its_metrics_have_reached() {
    let of_pump = "model_score(pump) > 50";
    let definition = Definition {
        name: "rule".to_owned(),
        when: Some(of_pump.to_owned()),
        actions: vec![ActionDefinition::Alert {
            severity: Severity::Major,
            message: Some("${model_score(pump)}".to_owned()),
            device: None,
        }],
        ..Definition::default()
    };
    let scores = |is_heat_first: bool| {
        let book = book(std::slice::from_ref(&definition));
        let mut conditions = Conditions::default();
        let mut said = Vec::new();
        for second in 0..30 {
            let second = f64::from(second);
            let mut both = [("heat", second, 60.0 + second), ("current", second, second * 0.1)];
            if !is_heat_first {
                both.reverse();
            }
            said.extend(both.into_iter().flat_map(|one| show(&book, &mut conditions, one)));
        }
        said.retain(|(_, text)| text != "good" && text != "bad");
        said.dedup();
        said
    };
    let first = scores(true);
    assert!(first.len() > 20, "{first:?}");
    assert_eq!(first, scores(false));
}

#[test]
fn a_metric_that_is_behind_leaves_a_model_without_an_answer() {
    let book = book(&[threshold().rule("pump")]);
    let mut conditions = Conditions::default();
    for second in 0..3 {
        show(&book, &mut conditions, ("current", f64::from(second), 0.0));
    }
    let raised = |second: f64, conditions: &mut Conditions| !show(&book, conditions, ("heat", second, 99.0)).is_empty();
    assert!(raised(2.0, &mut conditions));
    assert!(raised(7.0, &mut conditions), "half a window behind");
    assert!(!raised(7.1, &mut conditions), "more than that");
    // The control: it is the metric that lacks.
    assert_eq!(show(&book, &mut conditions, ("current", 7.1, 0.0)).len(), 1);
}

#[test]
fn an_alert_clears_below_its_own_line() {
    let book = book(&[threshold().rule("pump")]);
    let mut conditions = Conditions::default();
    book.named("pump").expect("a rule").tally.set_alert(true);
    let said = |value: f64, second: f64, conditions: &mut Conditions| {
        show(&book, conditions, ("current", second - 1.0, 0.0));
        show(&book, conditions, ("current", second, 0.0));
        show(&book, conditions, ("heat", second, value)).pop().map(|(_, text)| text)
    };
    assert!(said(60.0, 1.0, &mut conditions).is_some_and(|text| text.contains("60")));
    assert_eq!(said(47.0, 20.0, &mut conditions).as_deref(), Some("bad"), "not above, and not yet good");
    assert_eq!(said(44.0, 40.0, &mut conditions).as_deref(), Some("good"));
}

#[test]
fn a_statement_asks_a_model_about_its_message() {
    let asked = |record: &str| {
        let definition = Definition {
            name: "rule".to_owned(),
            sql: Some(format!("SELECT machinelearning_predict('worn', 'role', {record}) AS p FROM 'a'")),
            actions: vec![ActionDefinition::Count],
            ..Definition::default()
        };
        let book = book(&[definition]);
        let message = Message {
            topic: "a",
            payload: br#"{"t":1,"is_open":true,"more":7}"#,
            client_id: None,
            properties: PassedOn::from_own(b""),
            received_at_ms: 1_000,
            device: None,
            seed: 1,
            made_by: &[],
        };
        let found = book.result_of(book.named("rule").expect("a rule"), &message).expect("within bounds");
        String::from_utf8(found.expect("a result")).expect("a text")
    };
    let worn = 1.0 / (1.0 + (-3.0_f64).exp());
    let expected = format!(
        r#"{{"p":{{"details":{{"Algorithm":"dense","PredictiveModelType":"BINARY"}},"predictedLabel":"it's worn","predictedScores":{{"good":{},"it's worn":{worn}}}}}}}"#,
        1.0 - worn
    );
    assert_eq!(asked("*"), expected);
    assert_eq!(asked("{'t': 1, 'is_open': '1'}"), expected, "a text that is a number is one");
    assert_eq!(asked("{'t': 1}"), "{}", "an input is missing");
    assert_eq!(asked("{'t': 1, 'is_open': 'x'}"), "{}");
    assert_eq!(asked("7"), "{}");
}

#[test]
fn what_cannot_be_asked_is_said_when_rules_are_read() {
    for (when, expected) in [
        ("model_score(tyre) > 1", "there is no model \"tyre\"; a [[model]] section names each of them, and its file"),
        ("model_score(pump, 'x') > 1", "the model \"pump\" has no labels"),
        (
            "model_score(worn) > 1",
            "the input \"t\" of the model \"worn\" is no feature of a metric; `inputs` of its [[model]] can say which it is, as in \
             \"engine_temperature.mean\", or machinelearning_predict('worn', '', {...}) gives it",
        ),
    ] {
        let definition = Definition {
            name: "rule".to_owned(),
            when: Some(when.to_owned()),
            actions: vec![ActionDefinition::Count],
            ..Definition::default()
        };
        let problems = Rule::compile(&definition, &surroundings()).expect_err(when);
        assert_eq!(problems.first().map(|problem| problem.message.as_str()), Some(expected), "{when}");
    }
}

#[test]
fn a_label_with_marks_in_it_is_still_asked_about() {
    let worn = NamedModel::new(classifier().model, ["heat.mean", "current.last"].map(Input::named).into(), 10_000);
    let threshold = Threshold { above: 0.6, clear: None, label: Some("it's worn".to_owned()), ..threshold() };
    let mut surroundings = surroundings();
    let definition = threshold.rule("worn");
    surroundings.models.insert("worn".to_owned(), Arc::new(worn));
    let rule = Rule::compile(&definition, &surroundings).expect("a rule");
    let book = Rulebook::new(vec![rule], surroundings);
    let mut conditions = Conditions::default();
    show(&book, &mut conditions, ("heat", 0.0, 0.0));
    let said = show(&book, &mut conditions, ("current", 0.0, 2.0));
    let text = "the model worn sees it's worn with 0.982 of heat.mean 0, current.last 2; its threshold is 0.6";
    assert_eq!(said.first().map(|(_, text)| text.as_str()), Some(text));
}

/// What the package for training makes of recorded readings, `cloud/models/golden.py`: rows at the same times, with the same features.
#[test]
fn windows_are_those_of_the_training() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../models/golden/windows.json")).expect("golden windows");
    let list = |name: &str| golden[name].as_array().expect("a list").clone();
    let model = document(&golden["model"]);
    let mut surroundings = Surroundings::default();
    surroundings.models.insert("m".to_owned(), Arc::new(named(model)));
    let definition = Definition {
        name: "rule".to_owned(),
        when: Some("model_score('m') > -1000000".to_owned()),
        actions: vec![ActionDefinition::Alert {
            severity: Severity::Major,
            message: Some("${model_score('m')}".to_owned()),
            device: None,
        }],
        ..Definition::default()
    };
    let book = Rulebook::new(vec![Rule::compile(&definition, &surroundings).expect("a rule")], surroundings);
    let mut conditions = Conditions::default();
    let mut found: Vec<f64> = Vec::new();
    let readings = list("readings");
    for (place, reading) in readings.iter().enumerate() {
        let (at_ms, metric) = (reading[0].as_f64().expect("a time"), reading[1].as_str().expect("a metric"));
        let said = show(&book, &mut conditions, (metric, at_ms / 1_000.0, reading[2].as_f64().expect("a value")));
        let is_last_of_its_time = readings.get(place + 1).is_none_or(|next| next[0] != reading[0]);
        let score = said.first().filter(|_| is_last_of_its_time).map(|(_, text)| text.parse::<f64>().expect("a score"));
        // The score of a time is the same until all metrics have come further.
        found.extend(score.filter(|score| found.last() != Some(score)));
    }
    let expected: Vec<f64> = list("scores").iter().map(|score| score[1].as_f64().expect("a score")).collect();
    assert!(expected.len() > 60 && found.len() == expected.len(), "{} of {}", found.len(), expected.len());
    for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{place}: {found}, not {expected}");
    }
}

/// A document as its file has it: `serde_json` does not keep the order of members.
fn document(value: &serde_json::Value) -> Model {
    let member = |name: &str| format!("\"{name}\":{}", value[name]);
    let estimator = &value["estimator"];
    assert_eq!(estimator["type"], "dense");
    let head = ["format", "version", "inputs"].map(member).join(",");
    let text = format!("{{{head},\"estimator\":{{\"type\":\"dense\",\"layers\":{}}}}}", estimator["layers"]);
    Model::parse(text.as_bytes()).expect("a model")
}

/// Each input is looked for among all members of the record: without a bound, one message could hold up all others.
#[test]
fn a_large_record_for_a_model_of_many_inputs_exceeds_the_steps() {
    let inputs: Vec<String> = (0..INPUTS_MAX).map(|at| format!(r#"{{"name":"i{at}"}}"#)).collect();
    let weights = format!("{:?}", vec![1; INPUTS_MAX]);
    let model = named(sum_of(&inputs.join(","), &weights));
    let mut surroundings = Surroundings::default();
    surroundings.models.insert("m".to_owned(), Arc::new(model));
    let definition = Definition {
        name: "rule".to_owned(),
        sql: Some("SELECT machinelearning_predict('m', '', *).predictedValue AS v FROM 'a'".to_owned()),
        actions: vec![ActionDefinition::Count],
        ..Definition::default()
    };
    let rule = Rule::compile(&definition, &surroundings).expect("a rule");
    let book = Rulebook::new(vec![rule], surroundings);
    let asked = |members: usize| {
        let members: Vec<String> = (0..members).map(|at| format!(r#""i{at}":1"#)).collect();
        let payload = format!("{{{}}}", members.join(","));
        let message = Message {
            topic: "a",
            payload: payload.as_bytes(),
            client_id: None,
            properties: PassedOn::from_own(b""),
            received_at_ms: 1_000,
            device: None,
            seed: 1,
            made_by: &[],
        };
        book.result_of(book.named("rule").expect("a rule"), &message)
    };
    assert_eq!(asked(INPUTS_MAX), Ok(Some(br#"{"v":128}"#.to_vec())));
    assert!(asked(60_000).is_err());
}

#[test]
fn a_text_names_as_many_inputs_as_have_room() {
    let inputs: Vec<String> = (0..INPUTS_MAX)
        .map(|at| format!(r#"{{"name":"a_rather_long_name_{at}","metric":"heat","feature":"mean"}}"#))
        .collect();
    let model = named(sum_of(&inputs.join(","), &format!("{:?}", vec![1; INPUTS_MAX])));
    let models = HashMap::from([("m".to_owned(), Arc::new(model))]);
    let thresholds = vec![("m".to_owned(), threshold())];
    let book = ModelDetectors { models, thresholds }.book();
    let mut conditions = Conditions::default();
    let said = show(&book, &mut conditions, ("heat", 0.0, 1.5));
    let [(_, text)] = said.as_slice() else { panic!("{said:?}") };
    assert!(text.starts_with("the model m says 192 of a_rather_long_name_0 1.5, a_rather_long_name_1 1.5, "), "{text}");
    assert!(text.ends_with(", a_rather_long_name_11 1.5 and 116 more; its threshold is 50"), "{text}");
}

#[test]
fn a_threshold_of_any_size_is_compared_as_it_is() {
    for above in [1e20, 1e-9, -2.5e-7, 0.1 + 0.2, -7.0, 1e300] {
        let threshold = Threshold { above, clear: Some(above), ..threshold() };
        let models = HashMap::from([("m".to_owned(), Arc::new(named(sum_of(HEAT, "[1]"))))]);
        let book = ModelDetectors { models, thresholds: vec![("m".to_owned(), threshold)] }.book();
        let is_raised = |value: f64| !show(&book, &mut Conditions::default(), ("heat", 0.0, value)).is_empty();
        assert!(!is_raised(above), "{above}");
        assert!(is_raised(above + above.abs() * 1e-6), "{above}");
    }
}

const HEAT: &str = r#"{"name":"heat.last","metric":"heat","feature":"last"}"#;

#[test]
fn people_who_ask_are_told_what_a_model_says_of_a_device() {
    let models = HashMap::from([("pump".to_owned(), Arc::new(pump()))]);
    let book = ModelDetectors { models, thresholds: vec![("pump".to_owned(), threshold())] }.book();
    let mut conditions = Conditions::default();
    show(&book, &mut conditions, ("heat", 0.0, 20.0));
    show(&book, &mut conditions, ("current", 0.0, 1.0));
    assert_eq!(conditions.ask_model(&book, "truck", "pump", None), None, "a slope needs two readings");
    show(&book, &mut conditions, ("heat", 1.0, 30.0));
    show(&book, &mut conditions, ("current", 2.0, 2.0));
    show(&book, &mut conditions, ("heat", 3.0, 40.0));
    let word = conditions.ask_model(&book, "truck", "pump", None).expect("an answer");
    assert_eq!((word.at_ms, word.score), (1_002_000, 30.0), "when both have come to 2 s");
    assert_eq!(word.given, [("a".to_owned(), 25.0), ("b".to_owned(), 0.5)]);
    assert_eq!(word.reason, "30 of a 25, b 0.5");
    assert_eq!(conditions.ask_model(&book, "van", "pump", None), None);
    assert_eq!(conditions.ask_model(&book, "truck", "fan", None), None);
}
