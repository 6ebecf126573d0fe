//! A filter and a topic, separated by a line feed: the tree of subscriptions agrees with the direct comparison.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider::core::mqtt::topic::{alert_acknowledgement, check_filter, check_topic, matches, percent_decode, percent_encode};
use outrider::core::mqtt::topic_tree::TopicTree;

fuzz_target!(|text: &str| {
    let (filter, topic) = text.split_once('\n').unwrap_or((text, ""));
    let level = percent_encode(filter);
    assert_eq!(percent_decode(&level), filter);
    assert!(!level.contains(['/', '+', '#']));
    let _ = alert_acknowledgement(topic);
    if check_filter(filter).is_err() || check_topic(topic).is_err() {
        return;
    }
    let mut tree = TopicTree::default();
    tree.insert(filter, 0, 1);
    let mut reached = 0;
    tree.each_match(topic, |_, _| reached += 1);
    assert_eq!(reached == 1, matches(filter, topic));
    assert!(tree.remove(filter, &0));
});
