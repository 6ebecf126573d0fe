use proptest::prelude::*;
use serde_json::json;

use super::*;

const SQL: &str = "SELECT *, topic(2) AS truck FROM 'site/+/truck' WHERE t > 90";

/// As `aws iot get-topic-rule` prints it.
fn printed(rule: Value) -> String {
    let mut printed = json!({ "ruleArn": "arn:aws:iot:eu-west-1:1:rule/hot", "rule": {
        "ruleName": "hot", "sql": SQL, "description": "", "createdAt": "2024-01-01T00:00:00+00:00", "actions": [],
        "ruleDisabled": false, "awsIotSqlVersion": "2016-03-23" } });
    for (name, value) in rule.as_object().expect("members") {
        printed["rule"][name] = value.clone();
    }
    serde_json::to_string_pretty(&printed).expect("JSON")
}

fn text(file: &str) -> String {
    import(file).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The rules as the configuration is read.
fn rules(file: &str) -> toml::Value {
    let text = text(file);
    let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    table["rule"].clone()
}

fn problems(file: &str) -> Vec<String> {
    import(file).expect_err("refused").iter().map(ToString::to_string).collect()
}

fn with_action(action: Value) -> String {
    printed(json!({ "actions": [action] }))
}

#[test]
fn a_rule_of_the_api_is_printed() {
    let file = printed(json!({
        "description": "Hot trucks",
        "ruleDisabled": true,
        "actions": [
            { "republish": { "roleArn": "arn", "topic": "hot/${topic(2)}", "qos": 1, "headers": { "contentType": "x" } } },
            { "republish": { "roleArn": "arn", "topic": "$$aws/things/${topic(2)}/shadow/update" } },
            { "kinesis": { "roleArn": "arn", "streamName": "Trips", "partitionKey": "${topic()}" } },
            { "sns": { "roleArn": "arn", "targetArn": "arn:aws:sns:eu-west-1:1:hot", "messageFormat": "RAW" } },
            { "cloudwatchAlarm": { "alarmName": "hot", "stateReason": "r", "stateValue": "ALARM" } },
        ],
        "errorAction": { "republish": { "topic": "errors/rules" } },
    }));
    let expected = r#"[[rule]]
# Hot trucks
name = "hot"
sql = "SELECT *, topic(2) AS truck FROM 'site/+/truck' WHERE t > 90"
enabled = false

# republish: without headers
[[rule.republish]]
topic = "hot/${topic(2)}"
qos = 1

[[rule.republish]]
topic = "$aws/things/${topic(2)}/shadow/update"
qos = 0

# kinesis "Trips": add [[stream]] name = "trips" and a [[sink]] that takes it; its settings are left out: partitionKey
[[rule.stream]]
name = "trips"

# sns "arn:aws:sns:eu-west-1:1:hot": whoever is to know subscribes to alerts/#, or a [[sink]] tells them; add device = "..." unless a route says the device
# cloudwatchAlarm "hot": whoever is to know subscribes to alerts/#, or a [[sink]] tells them; add device = "..." unless a route says the device
[rule.alert]
severity = "major"

[rule.error]

[[rule.error.republish]]
topic = "errors/rules"
qos = 0
"#;
    assert_eq!(text(&file), expected);
    let read = rules(&file);
    assert_eq!(read[0]["sql"].as_str(), Some(SQL));
    assert_eq!(read[0]["error"]["republish"][0]["topic"].as_str(), Some("errors/rules"));
    assert_eq!(read[0]["alert"]["severity"].as_str(), Some("major"));
}

#[test]
fn every_action_with_an_equivalent_is_translated() {
    let streams = [
        (json!({ "firehose": { "deliveryStreamName": "to-S3_x" } }), "to-s3_x"),
        (
            json!({ "kafka": { "destinationArn": "arn", "topic": "trips.${topic(2)}", "clientProperties": {} } }),
            "trips-topic-2",
        ),
        (json!({ "s3": { "bucketName": "raw", "key": "${topic()}" } }), "raw-s3"),
        (
            json!({ "sqs": { "queueUrl": "https://sqs.eu-west-1.amazonaws.com/1/Orders", "useBase64": false } }),
            "orders",
        ),
        (json!({ "timestream": { "databaseName": "d", "tableName": "Engine", "dimensions": [] } }), "engine"),
        (json!({ "dynamoDB": { "tableName": "T 1", "hashKeyField": "k" } }), "t-1"),
        (json!({ "dynamoDBv2": { "putItem": { "tableName": "T2" } } }), "t2"),
        (
            json!({ "openSearch": { "endpoint": "https://x", "index": "logs", "type": "t", "id": "${newuuid()}" } }),
            "logs",
        ),
        (json!({ "elasticsearch": { "endpoint": "https://x", "index": "logs" } }), "logs"),
        (json!({ "iotSiteWise": { "putAssetPropertyValueEntries": [] } }), "iotsitewise"),
        (json!({ "iotAnalytics": { "channelName": "ch" } }), "ch"),
        (json!({ "iotEvents": { "inputName": "ÄÖ" } }), "iotevents"),
    ];
    for (action, name) in streams {
        let read = rules(&with_action(action.clone()));
        assert_eq!(read[0]["stream"][0]["name"].as_str(), Some(name), "{action}");
        let of_error = rules(&printed(json!({ "errorAction": action })));
        assert_eq!(of_error[0]["error"]["stream"][0]["name"].as_str(), Some(name), "{action}");
    }
    let plain = rules(&printed(json!({})));
    assert_eq!(
        plain[0].as_table().map(|table| table.keys().cloned().collect()),
        Some(vec!["name".into(), "sql".into()])
    );
}

#[test]
fn one_target_is_one_stream_and_two_targets_are_two() {
    let kinesis = |name: &str| json!({ "kinesis": { "streamName": name } });
    let s3 = json!({ "s3": { "bucketName": "Trips" } });
    let actions = [kinesis("trips"), kinesis("trips"), s3.clone(), kinesis("TRIPS"), kinesis("Trips"), s3];
    let read = rules(&printed(json!({ "actions": actions })));
    let names = read[0]["stream"].as_array().expect("streams").iter().map(|stream| stream["name"].as_str());
    let names: Vec<_> = names.flatten().collect();
    assert_eq!(names, ["trips", "trips-s3", "trips-kinesis", "trips-2"]);
}

#[test]
fn what_cannot_be_translated_is_named() {
    let file = printed(json!({
        "sql": "SELECT a\nFROM 'x' WHERE a LIKE 'b'",
        "actions": [
            { "lambda": { "functionArn": "arn" } },
            { "republish": { "topic": "ok" } },
            { "republish": { "topic": "a/#", "qos": 2 } },
            { "republish": { "topic": "a", "qos": 2 } },
            { "republish": { "topic": "a/${topic(}" } },
            { "teleport": {} },
            { "Fn::If": ["c", {}, {}] },
            { "kinesis": { "partitionKey": "x" } },
            {},
        ],
        "errorAction": { "stepFunctions": { "stateMachineName": "s" } },
    }));
    let problems = problems(&file);
    let expected = [
        "rule hot: sql, line 2, column 18: LIKE is not part of AWS IoT SQL: use startswith(), endswith(), indexof() or regexp_matches()",
        "rule hot: action 1: lambda has no equivalent: republish the message, and have a program subscribe to that topic",
        "rule hot: action 3: republish: topic, ",
        "rule hot: action 4: republish: qos is 0 or 1",
        "rule hot: action 5: republish: topic, line 1, column 11: ",
        "rule hot: action 6: teleport is not known",
        "rule hot: action 7: it depends on the template's parameters (Fn::If): write it out",
        "rule hot: action 8: kinesis has no streamName, or one that depends on the template's parameters: write it out",
        "rule hot: action 9: one action is expected, by its name",
        "rule hot: errorAction: stepFunctions has no equivalent: forward a stream, and start the state machine in the cloud",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}, not {expected}");
    }
    for kind in ["lambda", "stepFunctions", "salesforce", "http", "location", "cloudwatchLogs", "cloudwatchMetric"] {
        let refused = self::problems(&with_action(json!({ kind: {} })));
        assert!(refused[0].starts_with(&format!("rule hot: action 1: {kind} has no equivalent: ")), "{refused:?}");
    }
}

#[test]
fn another_version_of_the_language_is_refused() {
    let refused = |version: Value| problems(&printed(json!({ "awsIotSqlVersion": version }))).remove(0);
    assert!(
        refused(Value::Null)
            .starts_with("rule hot: it has no awsIotSqlVersion, which stands for 2015-10-08 there: set it")
    );
    assert!(
        refused(json!("2015-10-08")).starts_with("rule hot: its awsIotSqlVersion is 2015-10-08: set it to 2016-03-23")
    );
    assert!(refused(json!("beta")).contains("is beta"));
}

#[test]
fn other_files_and_rules_are_refused() {
    assert!(problems("{").remove(0).starts_with("the file is no JSON: EOF"));
    for file in ["{}", "[]", "", "7", "Resources:\n  a: {Type: AWS::SNS::Topic}\n", r#"{"rule":7}"#] {
        assert!(problems(file)[0].starts_with("there is no rule in the file"), "{file}");
    }
    assert_eq!(problems(r#"{"rule":{}}"#), ["the rule has no ruleName"]);
    let named = |name: &str| problems(&printed(json!({ "ruleName": name })));
    for name in ["", "a b", "ä", "a.b", &"n".repeat(129)] {
        assert_eq!(named(name), [format!("rule {name}: a name is 1 to 128 letters, digits, _ or -")]);
    }
    assert_eq!(problems(&printed(json!({ "sql": null }))), ["rule hot: it has no sql"]);
    assert_eq!(problems(&printed(json!({ "actions": {} }))), ["rule hot: actions is a list"]);
    assert_eq!(problems(&printed(json!({ "ruleDisabled": "yes" }))), ["rule hot: ruleDisabled is true or false"]);
}

const TEMPLATE: &str = r#"
AWSTemplateFormatVersion: '2010-09-09'
Resources:
  TripsStream: {Type: AWS::Kinesis::Stream}
  HotTrucks:
    Type: AWS::IoT::TopicRule
    Condition: IsProduction
    Properties:
      RuleName: !Sub "${AWS::StackName}_hot"
      TopicRulePayload:
        AwsIotSqlVersion: 2016-03-23
        RuleDisabled: False
        Sql: !Sub |
          SELECT *, 'it''s "hot" \ ' AS why
          FROM 'site/+/truck'
        Actions:
          - Kinesis: {StreamName: !Ref TripsStream, PartitionKey: "${topic()}", RoleArn: !GetAtt Role.Arn}
          - Republish: {Topic: !Sub "hot/${!topic(2)}", RoleArn: x, Qos: 1}
          - Sqs: {QueueUrl: !GetAtt Orders.QueueUrl, RoleArn: x}
        ErrorAction:
          Sns: {TargetArn: !Ref Alarms, RoleArn: x}
  Other:
    Type: AWS::IoT::TopicRule
    Properties:
      RuleName: other-1
      TopicRulePayload:
        AwsIotSqlVersion: !Join ['-', ["2016", "03", '23']]
        Sql: >-
          SELECT a
          FROM 'b'
        Actions: []
"#;

#[test]
fn rules_of_a_template_are_printed() {
    let read = rules(TEMPLATE);
    let (hot, other) = (&read[0], &read[1]);
    assert_eq!(hot["name"].as_str(), Some("HotTrucks"), "the name is not known: that of the resource");
    assert_eq!(hot["sql"].as_str(), Some("SELECT *, 'it''s \"hot\" \\ ' AS why\nFROM 'site/+/truck'\n"));
    assert_eq!(hot["stream"][0]["name"].as_str(), Some("tripsstream"));
    assert_eq!(hot["stream"][1]["name"].as_str(), Some("orders"));
    assert_eq!(hot["republish"][0]["topic"].as_str(), Some("hot/${topic(2)}"));
    assert_eq!(hot["republish"][0]["qos"].as_integer(), Some(1));
    assert_eq!(hot["error"]["alert"]["severity"].as_str(), Some("major"));
    assert_eq!((other["name"].as_str(), other["sql"].as_str()), (Some("other-1"), Some("SELECT a FROM 'b'")));
    let text = text(TEMPLATE);
    assert!(text.contains("# in the template only under the condition IsProduction\nname = \"HotTrucks\"\n"), "{text}");
    // The same template in JSON, as the command line tool converts it.
    let json = yaml::read(TEMPLATE).expect("YAML").to_string();
    assert_eq!(super::import(&json).expect("rules"), text);
}

#[test]
fn what_a_template_leaves_open_is_refused() {
    let refused = |from: &str, to: &str| {
        assert!(TEMPLATE.contains(from), "{from}");
        problems(&TEMPLATE.replace(from, to))
    };
    let open = |member: &str| {
        vec![format!("rule Other: {member} depends on the template's parameters or on other resources: write it out")]
    };
    let rule = |problem: &str| problem.replace("rule Other", "rule other-1");
    let open = |member: &str| open(member).iter().map(|problem| rule(problem)).collect::<Vec<_>>();
    assert_eq!(
        refused("Sql: >-\n          SELECT a\n          FROM 'b'", "Sql: !Sub \"SELECT a FROM '${Topic}'\""),
        open("sql")
    );
    assert_eq!(refused("!Join ['-', [\"2016\", \"03\", '23']]", "!Ref Version"), open("awsIotSqlVersion"));
    assert_eq!(refused("RuleName: other-1", "RuleName: HotTrucks"), ["rule HotTrucks: another rule has this name"]);
    assert_eq!(refused("${!topic(2)}", "${Topic}").len(), 1);
    assert_eq!(
        refused("TopicRulePayload:\n        AwsIotSqlVersion: !J", "Payload:\n        AwsIotSqlVersion: !J"),
        ["resource Other has no Properties.TopicRulePayload"]
    );
    let generated = refused("  Other:\n", "  \"Fn::ForEach::Rules\":\n");
    assert_eq!(generated, ["Fn::ForEach::Rules makes rules that are not in the template as it is: write them out"]);
}

#[test]
fn yaml_that_is_not_certain_is_refused_with_its_place() {
    let refused = |text: &str| problems(text).remove(0);
    let start = "the file is no YAML that is understood: line ";
    assert_eq!(
        refused("a: &x 1\nb: *x\n"),
        format!("{start}2, column 4: aliases are not understood: write the value out")
    );
    assert_eq!(refused("a: 1\na: 2\n"), format!("{start}2, column 4: a is there twice"));
    assert!(refused("a: [1\nb: }").starts_with(start));
    assert!(refused("[a]: 1").ends_with("the name of a member is a text"));
    assert!(refused("a: 1\n---\nb: 1\n").ends_with("only one document is expected"));
    assert!(refused(&"[".repeat(100)).ends_with("nested too deeply"));
    assert!(refused(&"[".repeat(100_000)).starts_with(start));
    // What the command line tool prints, as YAML.
    let rule =
        format!("rule:\n  ruleName: hot\n  awsIotSqlVersion: '2016-03-23'\n  ruleDisabled: true\n  sql: {SQL}\n");
    assert_eq!(rules(&rule)[0]["enabled"].as_bool(), Some(false));
}

#[test]
fn what_is_probably_not_meant_is_said() {
    let text = text(&printed(json!({ "sql": "SELECT n / 2 AS half FROM 'a'" })));
    assert!(text.contains("# sql, line 1, column "), "{text}");
}

proptest! {
    #[test]
    fn statements_survive_to_the_byte(
        literal in "[a-z\"'\\\\\n\r\t #=$\u{7f}\u{1}é]{0,12}",
        end in prop::sample::select(vec!["", "\n", " ", "\r\n"]),
        start in prop::sample::select(vec!["", "\n", "\r\n\n"]),
    ) {
        let sql = format!("{start}SELECT '{}' AS x FROM 'a'{end}", literal.replace('\'', "''"));
        let file = printed(json!({ "sql": sql, "description": literal }));
        let read = rules(&file);
        prop_assert_eq!(read[0]["sql"].as_str(), Some(sql.as_str()));
    }

    #[test]
    fn no_file_is_too_odd(text in "[a-z{}\\[\\]:,&*!|>\"' \n-]{0,60}") {
        let _ = import(&text);
        let _ = import(&TEMPLATE.replace("SELECT", &text));
    }
}
