//! One line of `topics`: `PATTERN DIRECTION QOS LOCAL-PREFIX REMOTE-PREFIX`, as Mosquitto writes it behind `topic`.

use std::fmt;

use crate::mqtt::topic::{self, TopicError};

/// Which way messages pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the other broker to ours.
    In,
    /// From our broker to the other.
    Out,
    /// Both ways.
    Both,
}

impl Direction {
    /// Whether messages come from the other broker.
    pub fn is_in(self) -> bool {
        self != Direction::Out
    }

    /// Whether messages go to the other broker.
    pub fn is_out(self) -> bool {
        self != Direction::In
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
            Direction::Both => "both",
        }
    }
}

/// A line, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What both sides have in common: a filter, or empty if one topic stands for one other.
    pattern: String,
    /// Which way messages pass.
    pub direction: Direction,
    /// Highest quality of service, on both sides.
    pub qos: u8,
    local_prefix: String,
    remote_prefix: String,
    /// The filter on our side.
    pub local: String,
    /// The filter on the other side.
    pub remote: String,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// There are too few or too many words.
    #[error("a line is PATTERN DIRECTION QOS, and maybe LOCAL-PREFIX REMOTE-PREFIX; it has {0} of them")]
    Words(usize),
    /// A quoted word does not end.
    #[error("the quotes are not closed")]
    QuotesOpen,
    /// The second word.
    #[error("the direction is in, out or both, not \"{0}\"")]
    Direction(String),
    /// The third word.
    #[error("the quality of service is 0, 1 or 2, not \"{0}\"")]
    Qos(String),
    /// A message goes out at QoS 1 at most.
    #[error("messages go out at QoS 0 or 1; 2 is for `in` only")]
    QosOut,
    /// A prefix is no part of a topic.
    #[error("the {side} prefix {}", .why.reason())]
    Prefix {
        /// Which one.
        side: &'static str,
        /// The rule that it breaks.
        why: TopicError,
    },
    /// Pattern and prefix are no filter together.
    #[error("the {side} filter \"{filter}\" {}", .why.reason())]
    Filter {
        /// Which one.
        side: &'static str,
        /// Prefix and pattern.
        filter: String,
        /// The rule that it breaks.
        why: TopicError,
    },
    /// Without a pattern the prefixes are the topics.
    #[error("an empty pattern maps one topic to another: both prefixes are needed")]
    NothingToMap,
    /// Shared subscriptions have their group in front.
    #[error("a shared subscription cannot be bridged")]
    Shared,
    /// Topics that our broker keeps to itself.
    #[error("\"{0}\" belongs to the gateway: nothing is bridged to there")]
    Reserved(String),
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Line, LineError> {
        let words = words(text)?;
        let (pattern, direction, qos, [local_prefix, remote_prefix]) = match words.as_slice() {
            [pattern, direction, qos] => (pattern, direction, qos, [String::new(), String::new()]),
            [pattern, direction, qos, local] => (pattern, direction, qos, [local.clone(), String::new()]),
            [pattern, direction, qos, local, remote] => (pattern, direction, qos, [local.clone(), remote.clone()]),
            _ => return Err(LineError::Words(words.len())),
        };
        let direction = [Direction::In, Direction::Out, Direction::Both]
            .into_iter()
            .find(|known| known.name() == direction)
            .ok_or_else(|| LineError::Direction(direction.clone()))?;
        let qos = match qos.as_str() {
            "0" => 0,
            "1" => 1,
            "2" => 2,
            _ => return Err(LineError::Qos(qos.clone())),
        };
        if qos == 2 && direction.is_out() {
            return Err(LineError::QosOut);
        }
        if pattern.is_empty() && (local_prefix.is_empty() || remote_prefix.is_empty()) {
            return Err(LineError::NothingToMap);
        }
        let local = filter("local", &local_prefix, pattern)?;
        let remote = filter("remote", &remote_prefix, pattern)?;
        if local.starts_with('$') {
            return Err(LineError::Filter { side: "local", filter: local, why: TopicError::Dollar });
        }
        if direction.is_in() && topic::is_reserved(&local) {
            return Err(LineError::Reserved(local));
        }
        Ok(Line { pattern: pattern.clone(), direction, qos, local_prefix, remote_prefix, local, remote })
    }

    /// What a topic of ours is called on the other side; `None` if it is not this line's.
    pub fn to_remote(&self, local: &str) -> Option<String> {
        self.map(local, &self.local, &self.local_prefix, &self.remote_prefix)
    }

    /// What a topic of the other side is called here; `None` if it is not this line's.
    pub fn to_local(&self, remote: &str) -> Option<String> {
        self.map(remote, &self.remote, &self.remote_prefix, &self.local_prefix)
    }

    fn map(&self, topic: &str, filter: &str, from: &str, to: &str) -> Option<String> {
        let rest = topic::matches(filter, topic).then(|| topic.strip_prefix(from)).flatten();
        match rest {
            Some(rest) => Some(format!("{to}{rest}")),
            // `a/#` matches `a`, which lacks the slash that the prefix ends with.
            None if self.pattern == "#" && topic::matches(filter, topic) => {
                Some(to.strip_suffix('/').unwrap_or(to).to_owned()).filter(|topic| !topic.is_empty())
            }
            None => None,
        }
    }
}

/// As it is written in the configuration.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |text: &str| if text.is_empty() { "\"\"".to_owned() } else { text.to_owned() };
        write!(f, "{} {} {}", word(&self.pattern), self.direction.name(), self.qos)?;
        match (self.local_prefix.as_str(), self.remote_prefix.as_str()) {
            ("", "") => Ok(()),
            (local, remote) => write!(f, " {} {}", word(local), word(remote)),
        }
    }
}

fn filter(side: &'static str, prefix: &str, pattern: &str) -> Result<String, LineError> {
    if prefix.contains(['+', '#']) {
        return Err(LineError::Prefix { side, why: TopicError::Wildcard });
    }
    let filter = format!("{prefix}{pattern}");
    if filter.starts_with("$share/") {
        return Err(LineError::Shared);
    }
    match topic::check_filter(&filter) {
        Ok(()) => Ok(filter),
        Err(why) => Err(LineError::Filter { side, filter, why }),
    }
}

/// Words between spaces; one in quotes may be empty or hold spaces.
fn words(text: &str) -> Result<Vec<String>, LineError> {
    let (mut words, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(LineError::QuotesOpen)?,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_as_mosquitto_writes_them() {
        for (text, local, remote) in [
            ("commands/# in 1", "commands/#", "commands/#"),
            ("commands/# in 1 \"\" fleet/truck-1/", "commands/#", "fleet/truck-1/commands/#"),
            ("  status/+   out 0 local/  remote/ ", "local/status/+", "remote/status/+"),
            ("# both 1 site/", "site/#", "#"),
            ("\"\" out 1 a/b c/d", "a/b", "c/d"),
            ("shadow/update out 1 \"\" $aws/things/t/", "shadow/update", "$aws/things/t/shadow/update"),
            ("\"with space/#\" in 2", "with space/#", "with space/#"),
        ] {
            let line = Line::parse(text).unwrap();
            assert_eq!((line.local.as_str(), line.remote.as_str()), (local, remote), "{text}");
            assert_eq!(
                Line::parse(&line.to_string()).ok().filter(|_| !text.contains("space")),
                Some(line).filter(|_| !text.contains("space"))
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_exactly() {
        for (text, message) in [
            ("", "a line is PATTERN DIRECTION QOS, and maybe LOCAL-PREFIX REMOTE-PREFIX; it has 0 of them"),
            ("a in", "a line is PATTERN DIRECTION QOS, and maybe LOCAL-PREFIX REMOTE-PREFIX; it has 2 of them"),
            ("a in 1 b c d", "a line is PATTERN DIRECTION QOS, and maybe LOCAL-PREFIX REMOTE-PREFIX; it has 6 of them"),
            ("\"a in 1", "the quotes are not closed"),
            ("a inn 1", "the direction is in, out or both, not \"inn\""),
            ("a in 3", "the quality of service is 0, 1 or 2, not \"3\""),
            ("a out 2", "messages go out at QoS 0 or 1; 2 is for `in` only"),
            ("a both 2", "messages go out at QoS 0 or 1; 2 is for `in` only"),
            ("a in 1 +/ b/", "the local prefix holds a wildcard"),
            ("a in 1 b/ c/#", "the remote prefix holds a wildcard"),
            ("a# in 1", "the local filter \"a#\" has a wildcard that is not a whole level, or # before the end"),
            ("+ out 1 a b/", "the local filter \"a+\" has a wildcard that is not a whole level, or # before the end"),
            ("\"\" out 1 a", "an empty pattern maps one topic to another: both prefixes are needed"),
            ("a out 1 $SYS/", "the local filter \"$SYS/a\" starts with $"),
            ("a in 1 \"\" $share/g/", "a shared subscription cannot be bridged"),
            ("alerts/# in 1", "\"alerts/#\" belongs to the gateway: nothing is bridged to there"),
            ("status both 0 outrider/ x/", "\"outrider/status\" belongs to the gateway: nothing is bridged to there"),
        ] {
            assert_eq!(Line::parse(text).unwrap_err().to_string(), message, "{text}");
        }
        assert!(Line::parse("alerts/# out 1 \"\" fleet/").is_ok());
    }

    #[test]
    fn topics_are_mapped_both_ways() {
        let line = Line::parse("commands/# both 1 \"\" fleet/truck-1/").unwrap();
        assert_eq!(line.to_local("fleet/truck-1/commands/door").as_deref(), Some("commands/door"));
        assert_eq!(line.to_local("fleet/truck-1/commands").as_deref(), Some("commands"));
        assert_eq!(line.to_local("fleet/truck-2/commands/door"), None);
        assert_eq!(line.to_remote("commands/door").as_deref(), Some("fleet/truck-1/commands/door"));
        let all = Line::parse("# in 1 from/cloud/ site/").unwrap();
        assert_eq!(all.to_local("site").as_deref(), Some("from/cloud"));
        assert_eq!(all.to_local("site/").as_deref(), Some("from/cloud/"));
        let whole = Line::parse("# out 1 site/").unwrap();
        assert_eq!(whole.to_remote("site"), None, "it would have no name");
        let one = Line::parse("\"\" in 1 a/b c/d").unwrap();
        assert_eq!((one.to_local("c/d").as_deref(), one.to_local("c/d/e")), (Some("a/b"), None));
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same_topic(
            pattern in prop::sample::select(vec!["#", "a/#", "+/b", "a/+/c", "a/b"]),
            prefixes in prop::collection::vec(prop::sample::select(vec!["", "x/", "x/y/", "z"]), 2),
            topic in "[abcxyz]{0,2}(/[abcxyz]{0,2}){0,4}",
        ) {
            let text = format!("{pattern} both 1 \"{}\" \"{}\"", prefixes[0], prefixes[1]);
            let Ok(line) = Line::parse(&text) else { return Ok(()) };
            if let Some(remote) = line.to_remote(&topic) {
                prop_assert!(topic::matches(&line.remote, &remote), "{} {}", text, remote);
                // Whatever lacked the slash of a prefix comes back without it.
                prop_assert_eq!(line.to_local(&remote), Some(topic), "{}", text);
            }
        }
    }
}
