//! Whether two filters of topics can match the same topic.

/// Whether there is a topic that both filters match. Both are valid and no shared subscriptions.
///
/// A wildcard in front does not match what begins with `$`, as the standard has it.
pub fn overlap(left: &str, right: &str) -> bool {
    // They would meet in the empty topic, and there is none.
    if matches!((left, right), ("+", "/#") | ("/#", "+")) {
        return false;
    }
    let (mut left, mut right) = (left.split('/').peekable(), right.split('/').peekable());
    if let (Some(first), Some(other)) = (left.peek(), right.peek())
        && (is_wildcard(first) && other.starts_with('$') || is_wildcard(other) && first.starts_with('$'))
    {
        return false;
    }
    loop {
        match (left.next(), right.next()) {
            // It matches whatever follows, and nothing as well.
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(level), Some(other)) if level == other => {}
            _ => return false,
        }
    }
}

fn is_wildcard(level: &str) -> bool {
    level == "+" || level == "#"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::topic::{check_filter, matches};

    #[test]
    fn filters_overlap_if_a_topic_matches_both() {
        for (left, right, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/#", "a", true),
            ("a/#", "b/#", false),
            ("#", "a/b/c", true),
            ("+/b", "a/+", true),
            ("+/b", "a/+/c", false),
            ("+", "a/b", false),
            ("a/+", "a", false),
            ("a/+/#", "a", false),
            ("+", "/#", false),
            ("+", "+/#", true),
            ("/+", "/#", true),
            ("#", "$aws/things", false),
            ("+/things", "$aws/#", false),
            ("$aws/#", "$aws/+/shadow", true),
        ] {
            assert_eq!((overlap(left, right), overlap(right, left)), (expected, expected), "{left} {right}");
        }
    }

    /// All topics of up to three levels over a small alphabet. Filters of up to three levels that overlap have one of these in common.
    fn topics() -> Vec<String> {
        let levels = ["a", "b", "", "$s"];
        let mut all: Vec<String> = Vec::new();
        for first in levels {
            all.push(first.to_owned());
            for second in levels {
                all.push(format!("{first}/{second}"));
                all.extend(levels.iter().map(|third| format!("{first}/{second}/{third}")));
            }
        }
        all.retain(|topic| !topic.is_empty());
        all
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop::sample::select(vec!["a", "b", "", "+", "#", "$s"]);
        prop::collection::vec(level, 1..=3)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("valid", |filter| check_filter(filter).is_ok())
    }

    proptest! {
        #[test]
        fn it_agrees_with_trying_all_topics(left in filter(), right in filter()) {
            let is_common = topics().iter().any(|topic| matches(&left, topic) && matches(&right, topic));
            prop_assert_eq!(overlap(&left, &right), is_common, "{} {}", left, right);
        }
    }
}
