//! Bounds, templates, lone expressions, and what the table of cases cannot say.

use proptest::prelude::*;

use super::*;
use crate::mqtt::packet::PassedOn;

fn context() -> Context<'static> {
    Context { topic: Some("a/b"), seed: 7, ..Context::default() }
}

fn result(sql: &str, payload: &[u8]) -> Result<String, EvaluationError> {
    let statement = Statement::parse(sql).unwrap_or_else(|error| panic!("{error}"));
    let (payload, context) = (Payload::new(payload), context());
    let mut out = Vec::new();
    if let Some(found) = statement.evaluate(&payload, &context)? {
        found.write(&mut out)?;
    }
    Ok(String::from_utf8(out).expect("text"))
}

fn fault(sql: &str) -> ParseFault {
    Statement::parse(sql).expect_err("refused").fault
}

fn warnings(sql: &str) -> Vec<String> {
    let statement = Statement::parse(sql).expect("a statement");
    statement.warnings().iter().map(|w| format!("{}:{} {}", w.line, w.column, w.text)).collect()
}

#[test]
fn what_is_nested_too_deeply_is_refused() {
    let too_deep = |max| ParseFault::TooDeep { max };
    let wrapped = |open: &str, close: &str, depth: usize| {
        format!("SELECT VALUE {}1{} FROM 'a'", open.repeat(depth), close.repeat(depth))
    };
    for (open, close) in [("(", ")"), ("[", "]"), ("{'a':", "}"), ("abs(", ")"), ("NOT ", ""), ("- ", ""), ("1+(", ")")]
    {
        assert!(Statement::parse(&wrapped(open, close, 20)).is_ok(), "{open}");
        assert_eq!(fault(&wrapped(open, close, 5000)), too_deep(NESTING_MAX), "{open}");
    }
    assert_eq!(fault(&wrapped("(SELECT VALUE ", " FROM e)", 500)), too_deep(NESTING_MAX));
    assert_eq!(fault(&format!("SELECT VALUE q{} FROM 'a'", ".a".repeat(300))), too_deep(EXPRESSION_DEPTH_MAX));
    assert_eq!(fault(&format!("SELECT VALUE q{} FROM 'a'", "+q".repeat(300))), too_deep(EXPRESSION_DEPTH_MAX));
    assert!(Statement::parse(&format!("SELECT VALUE q{} FROM 'a'", " AND q".repeat(200))).is_ok());
}

#[test]
fn what_is_as_deep_as_allowed_is_evaluated() {
    let payload = br#"{"n":1}"#;
    assert_eq!(result(&format!("SELECT VALUE n{} FROM 'a'", "+n".repeat(250)), payload), Ok("251".to_owned()));
    let nested = format!("SELECT VALUE {}n{} FROM 'a'", "[".repeat(60), "]".repeat(60));
    assert_eq!(result(&nested, payload), Ok("[".repeat(60) + "1" + &"]".repeat(60)));
    let queries = format!("SELECT VALUE {}[n]{} FROM 'a'", "(SELECT VALUE @n FROM ".repeat(15), ")".repeat(15));
    assert_eq!(result(&format!("SET @n = n {queries}"), payload), Ok("[1]".to_owned()));
}

#[test]
fn a_value_cannot_be_nested_through_variables_without_end() {
    let wrap = |name: usize| format!("@v{name} = {}@v{}{}", "[".repeat(30), name - 1, "]".repeat(30));
    let clauses: Vec<String> = (1..30).map(wrap).collect();
    let sql = format!("SET @v0 = q, {} SELECT VALUE @v29 FROM 'a'", clauses.join(", "));
    assert_eq!(fault(&sql), ParseFault::TooDeep { max: EXPRESSION_DEPTH_MAX });
}

#[test]
fn statements_have_a_length() {
    let long = format!("SELECT '{}' FROM 'a'", "x".repeat(STATEMENT_BYTES_MAX));
    assert_eq!(fault(&long), ParseFault::TooLong { max: STATEMENT_BYTES_MAX });
    let many: Vec<String> = (0..70).map(|n| format!("@v{n} = 1")).collect();
    let too_many = fault(&format!("SET {} SELECT 1 FROM 'a'", many.join(", ")));
    assert_eq!(too_many, ParseFault::TooMany { what: "variables", max: 64 });
}

#[test]
fn what_loops_or_explodes_is_stopped() {
    let list = format!(r#"{{"a":[{}1],"s":"{}"}}"#, "1,".repeat(2000), "x".repeat(60_000));
    let payload = list.as_bytes();
    let too_slow = Err(EvaluationError::TooManySteps { max: STEPS_MAX });
    let too_large = |max| Err(EvaluationError::TooLarge { max });
    assert_eq!(
        result("SELECT VALUE (SELECT VALUE (SELECT VALUE j FROM a AS j) FROM a AS i) FROM 'a'", payload),
        Ok("[]".to_owned())
    );
    let product = "SELECT VALUE (SELECT VALUE (SELECT VALUE j FROM @a AS j) FROM @a AS i) FROM 'a'";
    assert_eq!(result(&format!("SET @a = a {product}"), payload), too_slow);
    // Shared four ways at each of twelve levels: sixteen million times the list.
    let levels: Vec<String> = (1..13).map(|n| format!("@v{n} = [@v{0},@v{0},@v{0},@v{0}]", n - 1)).collect();
    let doubled = format!("SET @v0 = a, {} SELECT VALUE @v12 FROM 'a'", levels.join(", "));
    assert_eq!(result(&doubled, payload), too_large(RESULT_BYTES_MAX));
    assert_eq!(result(&doubled.replace("VALUE @v12", "VALUE @v12 = @v11"), payload), Ok("false".to_owned()));
    assert_eq!(result(&doubled.replace("VALUE @v12", "VALUE length(@v12)"), payload), too_large(TEXT_BYTES_MAX));
    assert_eq!(result("SELECT VALUE s+s+s+s+s FROM 'a'", payload), too_large(TEXT_BYTES_MAX));
    assert_eq!(result("SELECT VALUE concat(s,s,s,s,s) FROM 'a'", payload), too_large(TEXT_BYTES_MAX));
    assert_eq!(result("SELECT VALUE replace(s,'x','xxxxx') FROM 'a'", payload), too_large(TEXT_BYTES_MAX));
    assert_eq!(result("SELECT VALUE regexp_replace(s,'x','xxxxx') FROM 'a'", payload), too_large(TEXT_BYTES_MAX));
    let hashes = format!("SELECT VALUE ({} 1) FROM 'a'", "sha512(s) + ".repeat(60));
    assert_eq!(result(&hashes, payload), too_slow);
    let each = "SELECT VALUE (SELECT VALUE regexp_matches('x', '(a|b)*c' + i) FROM a AS i) FROM 'a'";
    assert_eq!(result(each, payload), too_slow);
}

#[test]
fn many_properties_cost_steps_whether_they_are_taken_or_only_looked_at() {
    let properties = b"\x26\x00\x00\x00\x00".repeat(60_000);
    let context = Context { properties: PassedOn::from_own(&properties), ..context() };
    let list = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(100));
    let payload = Payload::new(list.as_bytes());
    let evaluated = |expression: &str| {
        let statement = Statement::parse(&format!("SELECT VALUE {expression} FROM 'a/b'")).expect("a statement");
        statement.evaluate(&payload, &context).map(|found| found.is_some())
    };
    let too_slow = Err(EvaluationError::TooManySteps { max: STEPS_MAX });
    let all = |times: usize| format!("[{}]", vec!["get_user_properties()"; times].join(","));
    assert_eq!((evaluated(&all(3)), evaluated(&all(5))), (Ok(true), too_slow));
    for missing in ["get_user_properties('k')", "get_mqtt_property('content_type')"] {
        let again = format!("(SELECT VALUE {missing} FROM a)");
        assert_eq!((evaluated(missing), evaluated(&again)), (Ok(true), too_slow), "{missing}");
    }
}

#[test]
fn a_huge_regular_expression_is_invalid() {
    let sql = |pattern: &str| format!("SELECT VALUE regexp_matches('x', '{pattern}') FROM 'a'");
    for pattern in ["((a{90}){90}){90}".to_owned(), "(".repeat(100) + &")".repeat(100), "x".repeat(2000)] {
        assert_eq!(result(&sql(&pattern), b"{}"), Ok(String::new()), "{pattern}");
        assert_eq!(warnings(&sql(&pattern)).len(), 1, "{pattern}");
    }
}

#[test]
fn warnings_say_what_is_probably_not_meant() {
    assert_eq!(
        warnings("SELECT (t - 32) * 5 / 9 AS c\nFROM 'a' WHERE abs() > 1"),
        [
            "1:21 an Int divided by an Int is an Int, its fraction cut off; / '9' keeps the fraction",
            "2:16 abs() is always Undefined: it takes another number of arguments",
        ]
    );
    assert_eq!(warnings("SELECT t / 2.5 AS a, t / '9' AS b, 1.5 / 2 AS c FROM 'a'"), Vec::<String>::new());
    assert_eq!(
        warnings(r"SELECT regexp_matches(t, '(a)\1') AS m FROM 'a'"),
        ["1:8 regexp_matches() is always Undefined: backreferences are not supported"]
    );
    assert_eq!(
        warnings("SELECT parse_time('yyyy QQ', 0) AS m FROM 'a'"),
        ["1:8 parse_time() is always Undefined: QQ is not supported in a pattern"]
    );
}

#[test]
fn constants_are_calculated_once() {
    let is_constant = |text: &str| Expression::parse(text, Vocabulary::default()).expect("an expression").is_constant();
    for constant in ["1+2*3", "upper('a')+'b'", "get([1,2],1)", "CASE 1 WHEN 1 THEN 2 END", "NOT 'true'", "{'a':[1]}.a"]
    {
        assert!(is_constant(constant), "{constant}");
    }
    for varying in ["a+1", "timestamp()", "rand()", "topic(1)", "newuuid()", "*"] {
        assert!(!is_constant(varying), "{varying}");
    }
    // A constant of more than 4 KiB is not kept.
    assert!(!is_constant("replace(lpad('x',999),' ','abcdefghij')"));
}

#[test]
fn the_seed_decides_what_is_random() {
    let statement = Statement::parse("SELECT VALUE [rand(), newuuid()] FROM 'a'").expect("a statement");
    let payload = Payload::new(b"{}");
    let with = |seed| {
        let context = Context { seed, ..context() };
        let mut out = Vec::new();
        statement.evaluate(&payload, &context).expect("bounded").expect("a match").write(&mut out).expect("bounded");
        out
    };
    assert_eq!(with(1), with(1));
    assert_ne!(with(1), with(2));
}

#[test]
fn filters_say_which_topics_a_statement_is_for() {
    let statement = Statement::parse("SELECT * FROM 'site/+/truck'").expect("a statement");
    assert_eq!(statement.filter(), Some("site/+/truck"));
    assert!(statement.is_for("site/7/truck") && !statement.is_for("site/7"));
    assert!(statement.is_for("$aws/rules/any/site/7"), "Basic Ingest does not look at FROM");
    let without = Statement::parse("SELECT *").expect("a statement");
    assert!(without.filter().is_none() && !without.is_for("site/7") && without.is_for("$aws/rules/r"));
}

#[test]
fn templates_are_filled_in() {
    let variables = ["unit".to_owned()];
    let rendered = |text: &str| {
        let template =
            Template::parse(text, &variables, Vocabulary::default()).unwrap_or_else(|error| panic!("{error}"));
        let (payload, context) = (Payload::new(br#"{"n":7,"o":{"k":"v"},"z":null}"#), context());
        template.render(&payload, &context, &[Value::from("bar".to_owned())]).expect("bounded")
    };
    let complete = |text: &str| Rendered { text: text.to_owned(), is_complete: true };
    assert_eq!(rendered("plain $ {text}"), complete("plain $ {text}"));
    assert_eq!(rendered("${topic(2)}/${n + 1}/${o.k}"), complete("b/8/v"));
    assert_eq!(rendered("${n}${@unit}: ${o} ${ {'a':'}'}.a }"), complete("7bar: {\"k\":\"v\"} }"));
    assert_eq!(rendered("a/${q}/b"), Rendered { text: "a//b".to_owned(), is_complete: false });
    assert_eq!(rendered("${z}"), Rendered { text: String::new(), is_complete: false });
    assert_eq!(Template::parse("a/b", &[], Vocabulary::default()).expect("a template").literal(), Some("a/b"));
    assert_eq!(Template::parse("${n}", &[], Vocabulary::default()).expect("a template").literal(), None);
    let refused = |text: &str| {
        Template::parse(text, &[], Vocabulary::default()).map_err(|error| (error.column, error.fault)).err()
    };
    assert_eq!(refused("a ${n"), Some((6, ParseFault::OpenTemplate)));
    assert_eq!(refused("ä${@x}"), Some((4, ParseFault::UnknownVariable { name: "x".to_owned() })));
    assert!(matches!(refused("${n m}"), Some((5, ParseFault::Expected { .. }))));
    assert!(matches!(refused("${}"), Some((3, ParseFault::Expected { .. }))));
}

/// The latest readings of a device, and one function of them.
struct Readings;

impl Names for Readings {
    fn name<'v>(&'v self, name: &str) -> Value<'v> {
        match name {
            "engine_temperature" => Value::from(Number::from_text("111.5")),
            _ => Value::Undefined,
        }
    }

    fn whole(&self) -> Value<'_> {
        Value::Undefined
    }

    fn call<'v>(&'v self, function: usize, arguments: &[Value<'v>]) -> Value<'v> {
        assert_eq!(function, 0);
        Value::from(arguments.iter().find_map(Value::to_number))
    }
}

#[test]
fn lone_expressions_see_other_names_and_functions() {
    const AVG: ExtraFunction = ExtraFunction { name: "avg", arguments_min: 1, arguments_max: 2, names: 0 };
    const EXTRA: Vocabulary<'_> = Vocabulary { functions: &[AVG], has_dotted_names: false };
    let worth = |text: &str| {
        let expression = Expression::parse(text, EXTRA).unwrap_or_else(|error| panic!("{error}"));
        let context = context();
        expression.evaluate(&Readings, &context).expect("bounded").to_boolean()
    };
    assert_eq!(worth("engine_temperature > 110"), Some(true));
    assert_eq!(worth("engine_temperature > 110 AND NOT speed > 5"), None);
    assert_eq!(worth("AVG(engine_temperature, 30) > 111"), Some(true));
    assert_eq!(worth("avg() > 111"), None);
    let expression = Expression::parse("b > 1 AND a.x < b OR avg(c) > (SELECT d FROM e AS f WHERE f > 1)", EXTRA);
    assert_eq!(expression.expect("an expression").names(), ["b", "a", "c", "e"]);
    assert!(Expression::parse("a > 1 FROM 'x'", Vocabulary::default()).is_err());
    assert!(matches!(
        Expression::parse("avg(a) > 1", Vocabulary::default()).map_err(|error| error.fault),
        Err(ParseFault::UnknownFunction { .. })
    ));
}

#[test]
fn metrics_may_have_dots_and_be_given_by_name() {
    const AVG: ExtraFunction = ExtraFunction { name: "avg", arguments_min: 2, arguments_max: 2, names: 1 };
    let words = Vocabulary { functions: &[AVG], has_dotted_names: true };
    let expression = Expression::parse("engine.temp > 5 AND avg(oil.temp.c, 30) > b OR AVG('x-y', b) > 1", words);
    let expression = expression.expect("an expression");
    assert_eq!(expression.names(), ["engine.temp", "b"]);
    let texts = |call: ExtraCall<'_>| -> Vec<Option<String>> {
        call.arguments.iter().map(|value| value.and_then(|value| Some(value.to_text().ok()??.into_owned()))).collect()
    };
    let calls: Vec<_> = expression.calls().map(texts).collect();
    assert_eq!(calls[0], [Some("oil.temp.c".to_owned()), Some("30".to_owned())]);
    assert_eq!(calls[1], [Some("x-y".to_owned()), None]);
    for refused in ["avg(a + b, 3) > 1", "avg(3, a) > 1", "avg(a.*, 3)"] {
        assert!(Expression::parse(refused, words).is_err(), "{refused}");
    }
}

#[test]
fn cbor_payloads_are_seen_like_json() {
    let json = serde_json::json!({"t": 21.5, "n": -7, "o": {"k": "v"}, "a": [1, null, true], "large": u64::MAX});
    let mut payload = Vec::new();
    ciborium::into_writer(&json, &mut payload).expect("CBOR");
    let found = |sql: &str| result(sql, &payload).expect("bounded");
    assert_eq!(found("SELECT t * 2 AS u, n, o.k FROM 'a' WHERE get(a, 2)"), r#"{"u":43,"n":-7,"k":"v"}"#);
    assert_eq!(
        found("SELECT * FROM 'a'"),
        r#"{"a":[1,null,true],"large":18446744073709551615,"n":-7,"o":{"k":"v"},"t":21.5}"#
    );
    assert_eq!(found("SELECT VALUE numbytes(decode(encode(*, 'base64'), 'base64')) FROM 'a'"), "");
    // An indefinite map with a name in two parts, a byte string, a half, an integer as a name, and a tag that changes nothing.
    let odd = b"\xbf\x7f\x61a\x61b\xff\x42\x01\xff\x61h\xf9\x3e\x00\x05\xc1\x1a\x00\x01\x00\x00\xff";
    assert_eq!(result("SELECT * FROM 'a'", odd), Ok(r#"{"ab":"Af8","h":1.5,"5":65536}"#.to_owned()));
    assert_eq!(result("SELECT * FROM 'a'", b"\xd9\xd9\xf7\xa1\x61a\x01"), Ok(r#"{"a":1}"#.to_owned()));
    // As CBOR this text would be an empty map with a tag.
    assert_eq!(result("SELECT VALUE encode(*, 'base64') FROM 'a'", "قؠ".as_bytes()), Ok("\"2YLYoA==\"".to_owned()));
    assert_eq!(result("SELECT * FROM 'a'", "قؠ".as_bytes()), Ok("قؠ".to_owned()));
    // A number in bytes would be misread as a text.
    assert!(result("SELECT VALUE isUndefined(a) FROM 'a'", b"\xa1\x61a\xc2\x41\x01").is_ok_and(|text| text == "true"));
}

/// Texts that look like statements.
fn any_statement() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("SELECT"),
        Just("VALUE"),
        Just("FROM"),
        Just("WHERE"),
        Just("AS"),
        Just("CASE"),
        Just("WHEN"),
        Just("THEN"),
        Just("ELSE"),
        Just("END"),
        Just("SET"),
        Just("IN"),
        Just("EXISTS"),
        Just("NOT"),
        Just("AND"),
        Just("OR"),
        Just("*"),
        Just("-"),
        Just("+"),
        Just("/"),
        Just("%"),
        Just("="),
        Just("<>"),
        Just("<"),
        Just("("),
        Just(")"),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just(","),
        Just("."),
        Just(":"),
        Just("@v"),
        Just("'a'"),
        Just("a"),
        Just("n"),
        Just("o.k"),
        Just("1"),
        Just("2.5"),
        Just("1E999"),
        Just("get("),
        Just("substring("),
        Just("concat("),
        Just("regexp_replace("),
        Just("cast("),
        Just("null"),
        Just("'"),
        Just("é"),
        Just("parse_time("),
        Just("trunc("),
    ];
    prop::collection::vec(word, 0..24).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn no_statement_is_too_odd(text in any_statement(), tail in "[ -~é]{0,8}") {
        for text in [format!("SELECT {text} FROM 'a'"), format!("SELECT VALUE {text}{tail}"), format!("{text}{tail}")] {
            match Statement::parse(&text) {
                Ok(statement) => {
                    let (payload, context) = (Payload::new(br#"{"a":[1,"x",{"k":2}],"n":7,"o":{"k":null}}"#), context());
                    if let Ok(Some(found)) = statement.evaluate(&payload, &context) {
                        let mut out = Vec::new();
                        found.write(&mut out).expect("a small result");
                        prop_assert!(out.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(&out).is_ok());
                    }
                }
                Err(error) => prop_assert!(error.column <= text.chars().count() + 1),
            }
            let _ = Template::parse(&format!("a${{{text}}}b"), &[], Vocabulary::default());
        }
    }
}
