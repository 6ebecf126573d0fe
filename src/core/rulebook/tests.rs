//! Rules on messages and on readings, as a whole.

use super::*;
use crate::detection::alert::{Moment, RULE_METRIC};
use crate::detection::detectors::Verdict;
use crate::detection::severity::Severity;
use crate::mqtt::packet::PassedOn;
use crate::reading::Reading;

fn alert() -> ActionDefinition {
    ActionDefinition::Alert { severity: Severity::Major, message: None, device: None }
}

fn republish(topic: &str) -> ActionDefinition {
    ActionDefinition::Republish { topic: topic.to_owned(), payload: None, qos: 0, retain: false }
}

fn sql(name: &str, sql: &str, actions: Vec<ActionDefinition>) -> Definition {
    Definition { name: name.to_owned(), sql: Some(sql.to_owned()), actions, ..Definition::default() }
}

fn when(when: &str, actions: Vec<ActionDefinition>) -> Definition {
    Definition { name: "rule".to_owned(), when: Some(when.to_owned()), actions, ..Definition::default() }
}

fn book(definitions: &[Definition]) -> Rulebook {
    let compile = |definition| Rule::compile(definition, &Surroundings::default());
    let rules =
        definitions.iter().map(|definition| compile(definition).unwrap_or_else(|problems| panic!("{problems:?}")));
    Rulebook::new(rules.collect(), Surroundings::default())
}

fn problems(definition: &Definition) -> Vec<String> {
    let problems = Rule::compile(definition, &Surroundings::default()).err().unwrap_or_default();
    problems.into_iter().map(|RuleProblem { key, message }| format!("{key}: {message}")).collect()
}

fn applied(book: &Rulebook, message: &Message<'_>) -> Effects {
    let mut effects = Effects::default();
    book.apply(message, &|| 0, &mut effects);
    effects
}

const MESSAGE: Message<'static> = Message {
    topic: "trucks/7/engine",
    payload: br#"{"temp":120.5,"id":"t7"}"#,
    client_id: Some("c"),
    properties: PassedOn::from_own(b""),
    received_at_ms: 1_000,
    device: Some("truck-7"),
    seed: 1,
    made_by: &[],
};

#[test]
fn a_message_passes_the_rules_for_its_topic_in_their_order() {
    let book = book(&[
        sql(
            "hot",
            "SELECT temp, topic(2) AS truck FROM 'trucks/+/engine' WHERE temp > 100",
            vec![republish("hot/${id}")],
        ),
        sql("cold", "SELECT * FROM 'trucks/#' WHERE temp < 0", vec![republish("cold")]),
        sql("other", "SELECT * FROM 'ships/#'", vec![republish("ship")]),
        sql("all", "SELECT * FROM '#'", vec![republish("all"), ActionDefinition::Drop]),
    ]);
    assert!(book.sees("trucks/7") && book.sees("x") && !book.sees("$SYS/x"));
    let effects = applied(&book, &MESSAGE);
    let published: Vec<_> = effects.messages.iter().map(|message| (&*message.topic, &*message.payload)).collect();
    assert_eq!(published, [("hot/t7", &br#"{"temp":120.5,"truck":"7"}"#[..]), ("all", MESSAGE.payload)]);
    assert!(effects.drops && effects.failures.is_empty());
    let counts = |name: &str| book.named(name).expect("a rule").tally.counts();
    assert_eq!((counts("hot").matches, counts("cold").matches, counts("cold").evaluations), (1, 0, 1));
    assert_eq!(counts("other").evaluations, 0);
}

#[test]
fn all_rules_of_a_message_together_have_a_bound() {
    // Each takes about 100,000 steps, or makes about 6,000 steps of result: alone it may.
    let payload = format!(r#"{{"a":[{}1],"s":"{}"}}"#, "1,".repeat(20_000), "x".repeat(60_000));
    let slow = "SELECT VALUE (SELECT VALUE i FROM a AS i WHERE i = 2) FROM 'trucks/#'";
    let large = "SELECT s, s AS s1, s AS s2, s AS s3, s AS s4, s AS s5 FROM 'trucks/#'";
    for (about, count, actions) in [(slow, 100, vec![ActionDefinition::Count]), (large, 500, vec![republish("out")])] {
        let definitions: Vec<Definition> = (0..count).map(|n| sql(&format!("r{n}"), about, actions.clone())).collect();
        let book = book(&definitions);
        let effects = applied(&book, &Message { payload: payload.as_bytes(), ..MESSAGE });
        let passed = book.rules().iter().take_while(|rule| rule.tally.counts().errors == 0).count();
        let failed = book.rules().iter().filter(|rule| rule.tally.counts().errors == 1).count();
        assert!(passed > 5 && passed + failed == count && failed > 10, "{about}: {passed} passed, {failed} failed");
        assert!(effects.failures.iter().all(|failure| failure.message.contains("all rules together")));
        assert!(effects.messages.iter().map(|message| message.payload.len()).sum::<usize>() < 64_000_000);
        let next = applied(&book, &MESSAGE);
        assert!(next.failures.is_empty(), "the next message begins anew");
    }
}

#[test]
fn a_topic_of_basic_ingest_names_its_rule() {
    let book = book(&[
        sql("named", "SELECT topic() AS t FROM 'elsewhere'", vec![republish("out")]),
        sql("all", "SELECT * FROM '#'", vec![republish("all")]),
    ]);
    let effects = applied(&book, &Message { topic: "$aws/rules/named/a/b", ..MESSAGE });
    assert_eq!(effects.messages.len(), 1);
    assert_eq!(&*effects.messages[0].payload, br#"{"t":"a/b"}"#);
    assert!(book.sees("$aws/rules/named") && !book.sees("$aws/rules/unknown/x"));
}

#[test]
fn an_action_that_fails_costs_no_other_and_is_told_once() {
    let mut rule = sql(
        "broken",
        "SELECT * FROM '#'",
        vec![republish("a/${missing}"), republish("alerts/${id}"), republish("fine"), alert()],
    );
    rule.on_error = vec![republish("errors/${id}")];
    let book = book(&[rule, sql("next", "SELECT * FROM '#'", vec![republish("next")])]);
    let effects = applied(&book, &Message { device: None, ..MESSAGE });
    let topics: Vec<_> = effects.messages.iter().map(|message| &*message.topic).collect();
    assert_eq!(topics, ["fine", "errors/t7", "next"]);
    let error: serde_json::Value = serde_json::from_slice(&effects.messages[1].payload).expect("JSON");
    assert_eq!((error["ruleName"].as_str(), error["topic"].as_str()), (Some("broken"), Some("trucks/7/engine")));
    assert_eq!(error["base64OriginalPayload"], "eyJ0ZW1wIjoxMjAuNSwiaWQiOiJ0NyJ9");
    let failed: Vec<_> = error["failures"].as_array().expect("a list").iter().map(|one| &one["failedAction"]).collect();
    assert_eq!(failed, ["republish", "republish", "alert"]);
    assert_eq!((book.rules()[0].tally.counts().errors, effects.failures.len()), (1, 1));
}

#[test]
fn loops_are_cut_and_counted() {
    let book = book(&[sql("echo", "SELECT * FROM '#'", vec![republish("again")])]);
    assert_eq!(applied(&book, &MESSAGE).messages.len(), 1);
    assert_eq!(applied(&book, &Message { made_by: &[0], ..MESSAGE }).messages.len(), 0);
    assert_eq!(applied(&book, &Message { made_by: &[9; 8], ..MESSAGE }).messages.len(), 0, "a chain that is too long");
    assert_eq!(book.rules()[0].tally.counts().loops, 2);
}

#[test]
fn a_statement_raises_an_alert_about_the_device_of_the_route_or_its_own() {
    let own = ActionDefinition::Alert {
        severity: Severity::Critical,
        message: Some("hot: ${temp}".to_owned()),
        device: Some("unit-${id}".to_owned()),
    };
    let book = book(&[
        sql("route", "SELECT * FROM '#' WHERE temp > 100", vec![alert()]),
        sql("own", "SELECT * FROM '#' WHERE temp > 100", vec![own]),
    ]);
    let said = |effects: Effects| -> Vec<(String, String, AlertVerdict)> {
        let said = effects.words.into_iter().map(|word| (word.device.into(), word.metric.into(), word.verdict));
        said.collect()
    };
    let metric = RULE_METRIC.to_owned();
    let words = said(applied(&book, &MESSAGE));
    assert_eq!((&words[0].0, &words[0].1), (&"truck-7".to_owned(), &metric));
    let AlertVerdict::Raised { severity, message, .. } = &words[1].2 else { panic!("{words:?}") };
    assert_eq!((&*words[1].0, *severity, message.as_deref()), ("unit-t7", Severity::Critical, Some("hot: 120.5")));
    let cold = Message { payload: br#"{"temp":20,"id":"t7"}"#, ..MESSAGE };
    assert!(applied(&book, &cold).words.is_empty(), "nothing is raised");
    book.rules().iter().for_each(|rule| rule.tally.set_alert(true));
    let words = said(applied(&book, &cold));
    assert_eq!(words.iter().map(|word| &word.2).collect::<Vec<_>>(), [&AlertVerdict::Good; 2]);
}

#[test]
fn what_is_wrong_with_a_rule_is_said_with_its_place() {
    let says = |definition: &Definition, expected: &str| {
        let problems = problems(definition);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:?} lack {expected}");
    };
    says(&sql("r", "SELECT * FROM 'a' WHERE x LIKE 'y'", vec![alert()]), "sql: line 1, column 27: LIKE is not part");
    says(&sql("r", "SELECT * FROM 'a/#/b'", vec![alert()]), "sql:");
    says(&sql("r", "SELECT * FROM 'alerts/#'", vec![alert()]), "belong to the gateway");
    says(&when("x > ", vec![alert()]), "when: line 1, column 5");
    says(&when("1 > 0", vec![alert()]), "worth the same for every reading");
    says(&when("x > 1", vec![]), "does nothing");
    says(&when("avg(x, y) > 1", vec![alert()]), "number of seconds");
    says(&when("avg(x, 100000) > 1", vec![alert()]), "number of seconds");
    says(&when("inside('depot', lat, lon)", vec![alert()]), "no zone \"depot\"");
    says(&when("lookup('trucks', device()) > x", vec![alert()]), "no table \"trucks\"");
    says(&when("x > 1", vec![republish("a/+")]), "republish.topic");
    says(&when("x > 1", vec![republish("alerts/a")]), "belongs to the gateway");
    says(&Definition { until: Some("x <".to_owned()), ..when("x > 1", vec![alert()]) }, "until: line 1");
    says(
        &Definition { when: Some("x > 1".to_owned()), ..sql("r", "SELECT * FROM 'a'", vec![alert()]) },
        "either `sql`",
    );
    says(&Definition { hold_ms: 5, ..sql("r", "SELECT * FROM 'a'", vec![alert()]) }, "for: it belongs");
    says(&Definition { on_error: vec![alert()], ..when("x > 1", vec![alert()]) }, "error:");
    let readings = ActionDefinition::Readings { device: None, metric: None, value: None };
    says(&when("x > 1", vec![readings.clone()]), "`metric` and `value`");
    says(&sql("r", "SELECT * FROM 'a'", vec![readings]), "readings.device");
}

/// Conditions, and what they have said so far.
struct Life {
    book: Rulebook,
    conditions: Conditions,
    second: i64,
}

impl Life {
    fn new(definitions: &[Definition]) -> Life {
        let book = book(definitions);
        book.rules().iter().for_each(|rule| rule.tally.set_alert(true));
        Life { book, conditions: Conditions::default(), second: 0 }
    }

    fn at(&self) -> Moment {
        Moment { wall_ms: self.second * 1000, steady_ms: self.second as u64 * 1000 }
    }

    /// A reading each second from the next one on.
    fn see(&mut self, device: &str, metric: &str, value: f64) -> Effects {
        self.second += 1;
        self.see_now(device, metric, value)
    }

    fn see_now(&mut self, device: &str, metric: &str, value: f64) -> Effects {
        let reading = Reading::at(self.second * 1000, device, metric, value);
        let seen = Seen {
            reading: &reading,
            verdict: Verdict::Normal,
            score: 0.5,
            is_late: false,
            now: self.at(),
            made_by: &[],
        };
        let mut effects = Effects::default();
        self.conditions.see(&self.book, &seen, &|| 0, &mut effects);
        effects
    }

    /// What is said of the alert: `!` raised, `+` good, `-` bad, `.` nothing.
    fn says(&mut self, metric: &str, value: f64) -> char {
        mark(&self.see("d", metric, value))
    }
}

fn mark(effects: &Effects) -> char {
    match effects.words.first().map(|word| &word.verdict) {
        Some(AlertVerdict::Raised { .. }) => '!',
        Some(AlertVerdict::Good) => '+',
        Some(AlertVerdict::Bad) => '-',
        None => '.',
    }
}

#[test]
fn three_lines_raise_an_alert_once_the_condition_has_held() {
    let mut life = Life::new(&[Definition { hold_ms: 5_000, ..when("engine_temperature > 110", vec![alert()]) }]);
    let values = [90.0, 111.0, 112.0, 113.0, 114.0, 115.0, 116.0, 117.0, 109.0, 111.0];
    let said: String = values.iter().map(|value| life.says("engine_temperature", *value)).collect();
    assert_eq!(said, "+-----!!+-");
    let effects = life.see("d", "engine_temperature", 120.0);
    assert!(effects.words.iter().all(|word| &*word.metric == "engine_temperature"));
    assert_eq!(mark(&life.see("d", "speed", 500.0)), '.', "another metric changes nothing");
}

#[test]
fn an_alert_clears_by_its_own_condition() {
    let mut life = Life::new(&[Definition { until: Some("t < 100".to_owned()), ..when("t > 110", vec![alert()]) }]);
    let said: String = [111.0, 105.0, 99.0, 101.0, 111.0].iter().map(|value| life.says("t", *value)).collect();
    assert_eq!(said, "!-+-!");
}

#[test]
fn metrics_of_one_device_are_combined_and_an_old_one_is_undefined() {
    let mut life = Life::new(&[when("engine.temp > 110 AND speed < 5", vec![alert()])]);
    assert_eq!(life.says("engine.temp", 120.0), '.', "no speed is known");
    assert_eq!(life.says("speed", 3.0), '!');
    assert_eq!(mark(&life.see("other", "engine.temp", 120.0)), '.', "the speed of another device is none of its own");
    assert_eq!(life.says("speed", 30.0), '+');
    assert_eq!(life.says("speed", 3.0), '!');
    life.second += 70;
    assert_eq!(life.says("speed", 3.0), '.', "the temperature is older than a minute");
}

#[test]
fn a_rule_is_for_the_devices_that_it_selects() {
    let mut life = Life::new(&[Definition { from: Some("freezer-*".to_owned()), ..when("t > 5", vec![alert()]) }]);
    assert_eq!(mark(&life.see("freezer-1", "t", 6.0)), '!');
    assert_eq!(mark(&life.see("oven", "t", 6.0)), '.');
}

#[test]
fn messages_are_published_when_a_condition_begins_to_hold_or_each_time() {
    let messages = |repeats| {
        let mut life = Life::new(&[Definition { repeats, ..when("t > 5", vec![republish("out/${device()}/${t}")]) }]);
        let values = [6.0, 7.0, 1.0, 8.0];
        let topics: Vec<String> =
            values.iter().flat_map(|value| life.see("d", "t", *value).messages).map(|one| one.topic.into()).collect();
        topics
    };
    assert_eq!(messages(false), ["out/d/6", "out/d/8"]);
    assert_eq!(messages(true), ["out/d/6", "out/d/7", "out/d/8"]);
    let mut life = Life::new(&[when("t > 5", vec![republish("out")])]);
    let payload = life.see("d", "t", 6.5).messages.remove(0).payload;
    let expected = r#"{"rule":"rule","device":"d","metric":"t","measured_at_ms":1000,"values":{"t":6.5}}"#;
    assert_eq!(std::str::from_utf8(&payload), Ok(expected));
}

#[test]
fn readings_are_made_dropped_and_sampled_down() {
    let power = ActionDefinition::Readings {
        device: None,
        metric: Some("power".to_owned()),
        value: Some("volt * amp".to_owned()),
    };
    let mut life = Life::new(&[when("volt > 0", vec![power])]);
    assert!(life.see("d", "volt", 10.0).readings.is_empty(), "no current is known");
    let made = life.see("d", "amp", 2.5).readings;
    assert!(made.is_empty(), "only the volts are named by the condition");
    let made = life.see("d", "volt", 11.0).readings.remove(0);
    assert_eq!(made.what, Derived::Value { metric: "power".into(), value: 27.5 });

    let mut life = Life::new(&[when("metric() = 'noise' AND value() < 1", vec![ActionDefinition::Drop])]);
    assert!(life.see("d", "noise", 0.5).drops && !life.see("d", "noise", 2.0).drops && !life.see("d", "t", 0.5).drops);

    let keep = Keep::ALL.map(|(_, keep)| keep).to_vec();
    let mut life =
        Life::new(&[when("metric() = 'rpm'", vec![ActionDefinition::Downsample { every_ms: 10_000, keep }])]);
    let mut summaries = Vec::new();
    for second in 0..25 {
        let effects = life.see("d", "rpm", f64::from(second));
        let reading = Reading::at(life.second * 1000, "d", "rpm", f64::from(second));
        let place = effects.downsampled_by.expect("sampled down");
        let seen = Seen {
            reading: &reading,
            verdict: Verdict::Normal,
            score: 0.0,
            is_late: false,
            now: life.at(),
            made_by: &[],
        };
        summaries.extend(life.conditions.sample_down(&life.book, place, &seen));
    }
    let of: Vec<_> = summaries.iter().map(|one| (one.metric.as_str(), one.value, one.at_ms)).collect();
    assert_eq!(
        of,
        [
            ("rpm", 8.0, 9_000),
            ("rpm.mean", 4.0, 9_000),
            ("rpm.min", 0.0, 9_000),
            ("rpm.max", 8.0, 9_000),
            ("rpm", 18.0, 19_000),
            ("rpm.mean", 13.5, 19_000),
            ("rpm.min", 9.0, 19_000),
            ("rpm.max", 18.0, 19_000),
        ]
    );
    assert_eq!(life.conditions.close_all(&life.book).len(), 4, "the span that was open");
}

#[test]
fn time_alone_brings_what_is_missing() {
    let mut life = Life::new(&[when("age(t) > 30", vec![alert()])]);
    assert_eq!(life.says("t", 1.0), '+');
    let tick = |life: &mut Life, seconds| {
        life.second += seconds;
        let mut effects = Effects::default();
        life.conditions.tick(&life.book, life.at(), &|| 0, &mut effects);
        mark(&effects)
    };
    assert_eq!(tick(&mut life, 30), '+');
    assert_eq!(tick(&mut life, 1), '!');
    life.conditions.listen_from(life.at());
    assert_eq!(tick(&mut life, 20), '+', "time in which nobody listened does not count");
}

#[test]
fn what_the_detectors_say_can_be_asked_for() {
    let mut life = Life::new(&[when("score(t) > 0.4 AND verdict(t) = 'normal'", vec![alert()])]);
    assert_eq!(life.says("t", 1.0), '!');
}

#[test]
fn a_late_reading_changes_nothing() {
    let mut life = Life::new(&[when("t > 5", vec![alert()])]);
    life.second = 100;
    let reading = Reading { measured_at_ms: 1_000, ..Reading::at(100_000, "d", "t", 9.0) };
    let seen =
        Seen { reading: &reading, verdict: Verdict::Normal, score: 0.0, is_late: true, now: life.at(), made_by: &[] };
    let mut effects = Effects::default();
    life.conditions.see(&life.book, &seen, &|| 0, &mut effects);
    assert!(effects.is_empty() && life.conditions.is_empty());
}

#[test]
fn where_conditions_stand_survives_a_restart_as_far_as_the_rules_are_the_same() {
    let definitions = |limit: &str| {
        let hold = |name: &str, when: &str| Definition {
            name: name.to_owned(),
            hold_ms: 10_000,
            when: Some(when.to_owned()),
            actions: vec![alert()],
            ..Definition::default()
        };
        [hold("a", "t > 5"), hold("b", limit)]
    };
    let mut life = Life::new(&definitions("t > 6"));
    (0..9).for_each(|_| _ = life.see("d", "t", 9.0));
    let mut kept = Vec::new();
    life.conditions.encode(&life.book, life.at(), &mut kept);
    let restored = |definitions: &[Definition]| {
        let mut next = Life { second: life.second, ..Life::new(definitions) };
        let mut cursor = crate::batch::varint::Cursor { rest: &kept };
        next.conditions.decode(&mut cursor, &next.book, next.at()).expect("as it was written");
        assert!(cursor.rest.is_empty());
        next
    };
    let said = |life: &mut Life| -> String {
        life.see("d", "t", 9.0);
        life.see("d", "t", 9.0).words.iter().map(|word| mark_of(&word.verdict)).collect()
    };
    assert_eq!(said(&mut restored(&definitions("t > 6"))), "!!", "both have held for ten seconds");
    assert_eq!(said(&mut restored(&definitions("t > 7"))), "!-", "the one that was edited begins anew");
    for end in 0..kept.len() {
        let mut cursor = crate::batch::varint::Cursor { rest: &kept[..end] };
        assert!(Conditions::default().decode(&mut cursor, &life.book, life.at()).is_none(), "cut at {end}");
    }
    let mut other = Life::new(&definitions("t > 7"));
    std::mem::swap(&mut other.conditions, &mut life.conditions);
    other.second = life.second;
    other.conditions.adopt(&life.book, &other.book);
    assert_eq!(said(&mut other), "!-", "the same when rules are reloaded");
}

fn mark_of(verdict: &AlertVerdict) -> char {
    match verdict {
        AlertVerdict::Raised { .. } => '!',
        AlertVerdict::Good => '+',
        AlertVerdict::Bad => '-',
    }
}
