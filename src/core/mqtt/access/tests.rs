//! Rights as a table to be read by people, and what must hold of any rights.

use std::fmt::Write;
use std::sync::Arc;

use super::*;

/// A line at the margin is a listener: `open` or `closed`, its rights (who or `-`, topic, what is allowed of publish, subscribe and
/// acknowledge or `.`, a code), and behind `acl` the lines of its ACL file. Below it: a client (`name@client_id`, `cn=x@client_id`, or
/// `@client_id` if anonymous), an action, its topic, whether it is allowed, and by what:
/// a right, a line, or what decides if none does.
const TABLE: &str = "
closed | -  a/#  ps | -  +/b  p | ann  c/+  s
  ann@1 publish   a          yes right[0]
  ann@1 publish   a/b/c      yes right[0]
  ann@1 receive   a/x        yes right[0]
  ann@1 publish   c/b        yes right[1]
  ann@1 receive   c/b        no  right[1]
  ann@1 receive   c/x        yes right[2]
  bob@1 receive   c/x        no  closed
  @1    publish   b          no  closed
  ann@1 subscribe a          yes right[0]
  ann@1 subscribe a/+        yes right[0]
  ann@1 subscribe a/b/#      yes right[0]
  ann@1 subscribe x/b        no  right[1]
  ann@1 subscribe +/b        no  right[1]
  ann@1 subscribe c/+        yes right[2]
  ann@1 subscribe c/#        no  closed
  ann@1 subscribe #          no  closed
  ann@1 subscribe $share/g/a/+  yes right[0]
  ann@1 subscribe $share/a/#    no  closed
  ann@1 subscribe $share/a      no  no filter
  ann@1 acknowledge a/b/c/d/ack no  right[0]

open | -  test/x  p
  @1 subscribe #      yes open
  @1 receive   test/x no  right[0]
  @1 receive   test/y yes open
  @1 subscribe test/x no  right[0]
  @1 subscribe test/+ yes open
  @1 publish   test/x yes right[0]
  @1 publish   other  yes open

closed | -  a/secret/#  . | -  a/#  ps | -  a/late  .
  ann@1 publish   a/secret/x  no  right[0]
  ann@1 receive   a/secret    no  right[0]
  ann@1 subscribe a/secret/+  no  right[0]
  ann@1 subscribe a/#         yes right[1]
  ann@1 subscribe a/+/x       yes right[1]
  ann@1 publish   a/late      yes right[1]

closed | anonymous  open/#  ps | *  members/#  ps | truck-*  fleet/+  p | anonymou*  x  p
  @1         publish   open/x    yes right[0]
  ann@1      publish   open/x    no  closed
  ann@1      publish   members/x yes right[1]
  @1         publish   members/x no  closed
  truck-7@1  publish   fleet/x   yes right[2]
  truck@1    publish   fleet/x   no  closed
  @truck-7   publish   fleet/x   no  closed
  anonymous@1 publish  open/x    no  closed
  anonymous@1 publish  x         yes right[3]

closed | -  d/{client_id}/#  ps | -  u/{user}  p | -  truck-{cn}/+  p | -  {user}/{client_id}  s | *  n  p
  ann@1    publish   d/1/x      yes right[0]
  ann@1    publish   d/2/x      no  closed
  ann@1    subscribe d/1/#      yes right[0]
  ann@1    subscribe d/+/x      no  closed
  ann@1    publish   u/ann      yes right[1]
  cn=7@1   publish   u/7        no  closed
  cn=7@1   publish   truck-7/x  yes right[2]
  cn=7@1   publish   truck-8/x  no  closed
  ann@1    publish   truck-/x   no  closed
  cn=a/b@1 publish   truck-a/b  no  closed
  cn=a/b@1 publish   n          yes right[4]
  ann@1    subscribe ann/1      yes right[3]
  @1       publish   u/         no  closed
  @        publish   d//x       no  closed
  @+       publish   d/x/y      no  closed
  @#       subscribe d/#        no  closed

closed | ann  #  . not_authorized | bob  #  psa | cid  #  . unspecified | -  alerts/+/+/gap/ack  a | -  outrider/#  s
  ann@1 publish     x                 no  right[0]
  ann@1 acknowledge alerts/d/m/gap/ack  no  right[0]
  bob@1 acknowledge alerts/d/m/x/ack  yes right[1]
  bob@1 subscribe   $SYS/#            yes right[1]
  bob@1 receive     outrider/status   yes right[1]
  bob@1 subscribe   #                 yes right[1]
  cid@1 subscribe   $SYS/#            no  right[2]
  dee@1 acknowledge alerts/d/m/gap/ack  yes right[3]
  dee@1 publish     alerts/d/m/gap/ack  no  right[3]
  dee@1 acknowledge alerts/d/m/x/ack  no  closed
  dee@1 subscribe   outrider/status   yes right[4]

open | acl
  @1 publish   a no no line
  @1 subscribe a no no line

open | acl | topic read a/# | topic deny a/x/# | user ann | topic b/+ | topic write c | topic read c/d | user bob | topic read a b/c | user ann | topic deny b/no
  @1    receive   a/b   yes acl line 1
  @1    publish   a/b   no  no line
  @1    receive   a/x   no  acl line 2
  @1    subscribe a/x/+ no  acl line 2
  @1    subscribe a/+   yes acl line 1
  @1    subscribe #     yes acl line 1
  @1    subscribe b/#   no  no line
  @1    subscribe $share/g/a  yes acl line 1
  ann@1 receive   a/b   no  no line
  ann@1 publish   b/x   yes acl line 4
  ann@1 receive   b/x   yes acl line 4
  ann@1 publish   b/no  no  acl line 10
  ann@1 publish   c     yes acl line 5
  ann@1 receive   c     no  no line
  ann@1 subscribe c     no  no line
  ann@1 subscribe c/#   yes acl line 6
  ann@1 acknowledge c   yes acl line 5
  bob@1 receive   a~b/c yes acl line 8
  eve@1 receive   a/b   no  no line

closed | acl | pattern write d/%c/# | pattern read u/%u | pattern deny d/%c/no | user ann | topic # | topic read $SYS/x | user bob | topic read outrider/y | topic %u
  ann@1 publish   d/1/a      yes acl line 5
  cid@1 publish   d/1/a      yes acl line 1
  cid@1 publish   d/2/a      no  no line
  cid@1 receive   u/cid      yes acl line 2
  @1    receive   u/         no  no line
  @1    publish   d/1        yes acl line 1
  @a/b  publish   d/a/b      no  no line
  @+    publish   d/x        no  no line
  ann@1 publish   d/1/no     no  acl line 3
  ann@1 receive   outrider/x yes acl line 5
  ann@1 receive   $SYS/x     yes acl line 6
  ann@1 receive   $SYS/y     no  no line
  ann@1 subscribe $SYS/#     yes acl line 6
  bob@1 subscribe #          yes acl line 9
  bob@1 subscribe +/y        no  no line
  bob@1 subscribe outrider/+ yes acl line 8
  bob@1 receive   %u         yes acl line 9
  bob@1 receive   bob        no  no line

open | ann  a/#  p | acl | topic read b | user ann | topic read a/# | topic read c
  ann@1 receive   a/x no  right[0]
  ann@1 subscribe a/+ no  right[0]
  ann@1 subscribe +   yes acl line 3
  ann@1 receive   c   yes acl line 4
  ann@1 publish   a   yes right[0]
  ann@1 publish   c   no  no line
  @1    receive   b   yes acl line 1
";

/// All texts of 1 to `depth` levels out of these.
pub(super) fn texts_of_levels(alphabet: &[&str], depth: usize) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut last: Vec<String> = alphabet.iter().map(ToString::to_string).collect();
    for _ in 0..depth {
        let next = last.iter().flat_map(|text| alphabet.iter().map(move |level| format!("{text}/{level}"))).collect();
        texts.append(&mut std::mem::replace(&mut last, next));
    }
    texts
}

fn filters(alphabet: &[&str]) -> Vec<String> {
    let mut filters = texts_of_levels(alphabet, 3);
    filters.retain(|filter| topic::check_filter(filter).is_ok());
    filters
}

fn identity(text: &str) -> Identity {
    let (who, client_id) = text.split_once('@').unwrap();
    let client_id = client_id.to_owned();
    match who.strip_prefix("cn=") {
        Some(cn) => Identity { name: Some(cn.into()), user: None, cn: Some(cn.into()), client_id },
        None if who.is_empty() => Identity { client_id, ..Identity::default() },
        None => Identity { name: Some(who.into()), user: Some(who.into()), cn: None, client_id },
    }
}

fn right(text: &str) -> Right {
    let words: Vec<&str> = text.split_whitespace().collect();
    let allow = |letter| words[2].contains(letter);
    let allow = Allowed { publish: allow('p'), subscribe: allow('s'), acknowledge: allow('a') };
    let code = words.get(3).map(|word| DenyCode::NAMES.iter().find(|(name, _)| name == word).unwrap().1);
    Right::new((words[0] != "-").then_some(words[0]), words[1], allow, code.unwrap_or_default()).unwrap()
}

fn access(text: &str) -> Access {
    let mut parts = text.split(" | ");
    let is_open = parts.next().unwrap() == "open";
    let rights = parts.by_ref().take_while(|part| *part != "acl").map(right).collect();
    let lines = parts.collect::<Vec<_>>().join("\n");
    let acl = text.contains(" | acl").then(|| Arc::new(Acl::parse(&lines).unwrap()));
    Access::new(rights, acl, is_open).unwrap()
}

#[test]
fn rights_decide_as_the_table_says() {
    let mut listener = None;
    let mut rows = 0;
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        let Some(row) = line.strip_prefix("  ") else {
            listener = Some(access(line));
            continue;
        };
        let words: Vec<&str> = row.split_whitespace().collect();
        let action = Action::NAMES.iter().find(|(name, _)| *name == words[1]).unwrap().1;
        let topic = words[2].replace('~', " ");
        let permissions = listener.as_ref().unwrap().permissions(&identity(words[0]));
        let decision = permissions.decide(action, &topic);
        let allowed = if decision.is_allowed() { "yes" } else { "no" };
        let by = match decision.by {
            By::Right(_) | By::AclLine(_) => decision.by.to_string(),
            By::NoAclLine => "no line".to_owned(),
            By::OpenListener => "open".to_owned(),
            By::ClosedListener => "closed".to_owned(),
            By::NotAFilter(_) => "no filter".to_owned(),
        };
        assert_eq!(format!("{allowed} {by}"), words[3..].join(" "), "{line}");
        let outcome = match action {
            Action::Publish => permissions.publish(&topic),
            Action::Acknowledge => permissions.acknowledge(&topic),
            Action::Subscribe => permissions.subscribe(&topic),
            Action::Receive if permissions.receive(&topic) => Ok(()),
            Action::Receive => Err(DenyCode::NotAuthorized),
        };
        assert_eq!(outcome, decision.outcome, "{line}");
        rows += 1;
    }
    assert!(rows >= 70, "{rows} rows");
}

#[test]
fn a_client_is_told_what_the_right_says() {
    let listener = access("open | ann  #  . unspecified | bob  #  .");
    let answer = |client| listener.permissions(&identity(client)).publish("x").map_err(DenyCode::reason);
    assert_eq!([answer("ann@1"), answer("bob@1"), answer("cid@1")], [Err(0x80), Err(0x87), Ok(())]);
    let listener = access("closed");
    assert_eq!(listener.permissions(&identity("@1")).subscribe("x").map_err(DenyCode::reason), Err(0x87));
}

#[test]
fn what_decided_can_be_told() {
    for (by, expected) in [
        (By::Right(3), "right[3]"),
        (By::AclLine(7), "acl line 7"),
        (By::NoAclLine, "nothing matches: an acl file refuses what no line of it allows"),
        (By::OpenListener, "nothing matches: a listener without authentication allows"),
        (By::ClosedListener, "nothing matches: a listener with authentication refuses"),
        (By::NotAFilter(TopicError::Empty), "the filter is empty"),
    ] {
        assert_eq!(by.to_string(), expected);
    }
}

#[test]
fn nothing_needs_to_be_asked_where_all_is_allowed() {
    for (listener, client, expected) in [
        ("open", "@1", true),
        ("closed", "@1", false),
        ("open | acl", "@1", false),
        ("open | acl | topic #", "@1", false),
        ("open | ann  a  .", "@1", true),
        ("open | ann  a  .", "ann@1", false),
        ("open | -  a  psa", "ann@1", true),
        ("open | -  a  ps", "ann@1", false),
        ("closed | ann  #  psa | -  x  .", "ann@1", true),
        ("closed | ann  +/#  psa | acl", "ann@1", true),
        ("closed | -  x  . | ann  #  psa", "ann@1", false),
        ("closed | ann  +  psa", "ann@1", false),
        ("open | -  u/{user}  .", "@1", true),
    ] {
        assert_eq!(access(listener).permissions(&identity(client)).is_everything(), expected, "{listener} {client}");
    }
}

#[test]
fn rights_that_cannot_be_meant_are_refused() {
    fn new(who: Option<&str>, topic: &str) -> Result<(), RightError> {
        Right::new(who, topic, Allowed::ALL, DenyCode::default()).map(|_| ())
    }
    assert_eq!(new(Some(""), "a"), Err(RightError::Who));
    assert_eq!(new(Some(&"a".repeat(WHO_BYTES_MAX + 1)), "a"), Err(RightError::Who));
    assert_eq!(new(None, "a/#/b"), Err(RightError::Topic(TemplateError::Filter(TopicError::MisplacedWildcard))));
    assert_eq!(new(Some(&"a".repeat(WHO_BYTES_MAX)), "a/{cn}"), Ok(()));
    let many = |count| Access::new(vec![right("-  a  p"); count], None, false).map(|_| ());
    assert_eq!((many(RIGHTS_MAX), many(RIGHTS_MAX + 1)), (Ok(()), Err(RightError::TooMany(RIGHTS_MAX + 1))));
}

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        &from[(self.0 >> 33) as usize % from.len()]
    }
}

#[test]
fn what_is_subscribed_to_and_not_received_is_refused_by_an_earlier_right() {
    let (filters, topics) = (filters(&["a", "b", "+", "#"]), texts_of_levels(&["a", "b"], 3));
    let mut random = Random(1);
    let (mut granted, mut withheld) = (0, 0);
    for _ in 0..300 {
        let mut text = "closed".to_owned();
        for _ in 0..5 {
            let (filter, allowed) = (random.pick(&filters), random.pick(&[".", "p", "s", "ps", "psa"]));
            write!(text, " | -  {filter}  {allowed}").unwrap();
        }
        let permissions = access(&text).permissions(&identity("ann@1"));
        for filter in &filters {
            let subscribed = permissions.decide(Action::Subscribe, filter);
            let By::Right(granting) = subscribed.by else { continue };
            if !subscribed.is_allowed() {
                continue;
            }
            granted += 1;
            for topic in topics.iter().filter(|topic| topic::matches(filter, topic)) {
                let received = permissions.decide(Action::Receive, topic);
                let is_by_earlier = matches!(received.by, By::Right(refusing) if refusing < granting);
                assert!(received.is_allowed() || is_by_earlier, "{text}: {filter} {topic} {received:?}");
                withheld += usize::from(!received.is_allowed());
            }
        }
        if permissions.is_everything() {
            for ((_, action), topic) in Action::NAMES.iter().zip(filters.iter().chain(&topics)) {
                assert!(permissions.decide(*action, topic).is_allowed(), "{text}: {action:?} {topic}");
            }
        }
    }
    assert!(granted > 1_000 && withheld > 100, "{granted} {withheld}");
}

#[test]
fn a_subscription_that_an_acl_refuses_would_be_sent_nothing() {
    let filters = filters(&["a", "$s", "outrider", "+", "#"]);
    let topics = texts_of_levels(&["a", "b", "$s", "outrider"], 3);
    let mut random = Random(2);
    let (mut refused, mut sent) = (0, 0);
    for _ in 0..100 {
        let mut text = "closed | acl".to_owned();
        for _ in 0..4 {
            let (effect, filter) = (random.pick(&["read", "write", "readwrite", "deny"]), random.pick(&filters));
            write!(text, " | pattern {effect} {filter}").unwrap();
        }
        let permissions = access(&text).permissions(&identity("ann@1"));
        for filter in &filters {
            let is_granted = permissions.subscribe(filter).is_ok();
            let mut matched = topics.iter().filter(|topic| topic::matches(filter, topic));
            let is_sent = matched.any(|topic| permissions.receive(topic));
            assert!(is_granted || !is_sent, "{text}: {filter}");
            // Only a deny can leave a granted one without messages.
            assert!(!is_granted || is_sent || text.contains("deny"), "{text}: {filter}");
            refused += usize::from(!is_granted);
            sent += usize::from(is_sent);
        }
    }
    assert!(refused > 1_000 && sent > 1_000, "{refused} {sent}");
}

#[test]
fn rights_that_leave_nobody_anything_are_found() {
    for (text, may) in [
        ("open", true),
        ("closed", false),
        ("closed | - a/# s", false),
        ("closed | - a/# s | ann a/{user} p", true),
        ("open | ann # -", true),
        ("open | - # - | ann a/# p", false),
        ("closed | acl | user ann | topic read a/#", false),
        ("closed | acl | user ann | topic write a/#", true),
        ("closed | acl | pattern readwrite a/%u", true),
    ] {
        assert_eq!(access(text).allows_somebody(Action::Publish), may, "{text}");
    }
}
