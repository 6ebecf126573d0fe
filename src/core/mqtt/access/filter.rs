//! How filters stand to topics and to each other, for rights. Unlike in subscriptions, a wildcard at the front stands for any level here,
//! also for `$SYS` and `outrider`: a right on `#` is one on everything. All filters and topics are valid ones, without `$share/{group}/`.

use crate::mqtt::topic::levels;

/// Whether a filter matches a topic.
pub fn matches(filter: &str, topic: &str) -> bool {
    let mut topic_levels = levels(topic);
    for wanted in levels(filter) {
        if wanted == "#" {
            return true;
        }
        match topic_levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

/// Whether every topic that `narrow` matches is matched by `wide`.
pub fn covers(wide: &str, narrow: &str) -> bool {
    if narrow == "#" {
        // A topic has at least one level.
        return matches!(wide, "#" | "+/#");
    }
    let (mut wide, mut narrow) = (levels(wide), levels(narrow));
    loop {
        match (wide.next(), narrow.next()) {
            (Some("#"), _) | (None, None) => return true,
            // `a/#` matches `a` too, which nothing but `#` at this level does.
            (_, Some("#")) => return false,
            (Some(level), Some(narrow_level)) if level == "+" || level == narrow_level => {}
            _ => return false,
        }
    }
}

/// Whether there is a topic that both filters match.
pub fn overlaps(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (levels(one), levels(other));
    loop {
        match (one.next(), other.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(level), Some(other_level)) if level == other_level || level == "+" || other_level == "+" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::mqtt::access::tests::texts_of_levels;
    use crate::mqtt::topic;

    fn filters() -> Vec<String> {
        let mut filters = texts_of_levels(&["a", "b", "+", "#"], 3);
        filters.retain(|filter| topic::check_filter(filter).is_ok());
        filters
    }

    #[test]
    fn a_wildcard_at_the_front_stands_for_every_first_level() {
        for (filter, topic, expected) in [
            ("#", "$SYS/x", true),
            ("+/x", "$SYS/x", true),
            ("#", "outrider/status", true),
            ("+/status", "outrider/status", true),
            ("+", "/a", false),
            ("a/#", "a", true),
            ("a/b", "a/b/", false),
            ("a/+", "a/", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn ordinary_topics_are_matched_as_subscriptions_match_them() {
        for filter in filters() {
            for topic in texts_of_levels(&["a", "b", "c"], 4) {
                assert_eq!(matches(&filter, &topic), topic::matches(&filter, &topic), "{filter} {topic}");
            }
        }
    }

    #[test]
    fn covering_and_overlapping_are_what_the_topics_say() {
        let topics = texts_of_levels(&["a", "b", "c"], 4);
        let matched: Vec<(String, Vec<bool>)> = filters()
            .into_iter()
            .map(|filter| {
                let matched = topics.iter().map(|topic| topic::matches(&filter, topic)).collect();
                (filter, matched)
            })
            .collect();
        assert_eq!(matched.len(), 4 + 3 * 4 + 9 * 4);
        for (one, by_one) in &matched {
            for (other, by_other) in &matched {
                let is_covered = by_one.iter().zip(by_other).all(|(one, other)| *one || !*other);
                assert_eq!(covers(one, other), is_covered, "{one} covers {other}");
                let is_overlap = by_one.iter().zip(by_other).any(|(one, other)| *one && *other);
                assert_eq!(overlaps(one, other), is_overlap, "{one} overlaps {other}");
            }
        }
    }
}
