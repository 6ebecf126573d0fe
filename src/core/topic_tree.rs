//! Who gets what: the filters of all subscribers as a tree of levels, so that a publish costs what its topic's levels and its
//! receivers cost, not what others are subscribed to.

use std::collections::HashMap;

/// `S` names a subscriber.
#[derive(Debug)]
pub struct TopicTree<S> {
    root: Node<S>,
    levels: usize,
}

#[derive(Debug)]
struct Node<S> {
    children: HashMap<Box<str>, Node<S>>,
    /// Below `+`.
    any: Option<Box<Node<S>>>,
    /// Filters that end here, with the quality of service granted.
    here: Vec<(S, u8)>,
    /// Filters that end here with `#`: this level and all below.
    below: Vec<(S, u8)>,
}

impl<S> Default for Node<S> {
    fn default() -> Self {
        Node { children: HashMap::new(), any: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<S> Default for TopicTree<S> {
    fn default() -> Self {
        TopicTree { root: Node::default(), levels: 0 }
    }
}

/// What a filter is counted as: a level of its own may be a node of the tree.
pub fn levels(filter: &str) -> usize {
    filter.split('/').count()
}

impl<S: PartialEq> TopicTree<S> {
    /// Levels of all filters together: what bounds the tree's memory.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// Enters a valid filter, or grants it anew; whether it is new.
    pub fn insert(&mut self, filter: &str, subscriber: S, qos: u8) -> bool {
        let mut node = &mut self.root;
        let mut rest = Some(filter);
        while let Some(text) = rest {
            let (level, after) = split_level(text);
            rest = after;
            node = match level {
                "#" => break,
                "+" => node.any.get_or_insert_default(),
                // Looked up twice rather than copied each time.
                _ if node.children.contains_key(level) => node.children.get_mut(level).expect("just found"),
                _ => node.children.entry(level.into()).or_default(),
            };
        }
        let list = if ends_below(filter) { &mut node.below } else { &mut node.here };
        match list.iter_mut().find(|(known, _)| *known == subscriber) {
            Some((_, granted)) => {
                *granted = qos;
                false
            }
            None => {
                list.push((subscriber, qos));
                self.levels += levels(filter);
                true
            }
        }
    }

    /// Whether it was there.
    pub fn remove(&mut self, filter: &str, subscriber: &S) -> bool {
        let removed = self.root.remove(Some(filter), subscriber);
        if removed {
            self.levels -= levels(filter);
        }
        removed
    }

    /// Calls `reach` for each filter that matches; a subscriber with several of them is reached several times.
    pub fn each_match<'a>(&'a self, topic: &str, mut reach: impl FnMut(&'a S, u8)) {
        self.visit(topic, &mut |(subscriber, qos)| {
            reach(subscriber, *qos);
            false
        });
    }

    pub fn has_match(&self, topic: &str) -> bool {
        self.visit(topic, &mut |_| true)
    }

    fn visit<'a>(&'a self, topic: &str, found: &mut impl FnMut(&'a (S, u8)) -> bool) -> bool {
        if !topic.starts_with('$') {
            return self.root.visit(Some(topic), found);
        }
        // A wildcard at the front matches nothing that begins with `$`.
        let (level, after) = split_level(topic);
        self.root.children.get(level).is_some_and(|child| child.visit(after, found))
    }
}

impl<S: PartialEq> Node<S> {
    /// Walks what matches until `found` says that it is enough. As deep as the deepest filter, not as the topic.
    fn visit<'a>(&'a self, rest: Option<&str>, found: &mut impl FnMut(&'a (S, u8)) -> bool) -> bool {
        if self.below.iter().any(&mut *found) {
            return true;
        }
        let Some(text) = rest else {
            return self.here.iter().any(found);
        };
        let (level, after) = split_level(text);
        self.any.as_ref().is_some_and(|any| any.visit(after, found))
            || self.children.get(level).is_some_and(|child| child.visit(after, found))
    }

    fn remove(&mut self, rest: Option<&str>, subscriber: &S) -> bool {
        let (level, after) = match rest.map(split_level) {
            None => return take(&mut self.here, subscriber),
            Some(("#", _)) => return take(&mut self.below, subscriber),
            Some(split) => split,
        };
        let child = if level == "+" { self.any.as_deref_mut() } else { self.children.get_mut(level) };
        let Some(child) = child else { return false };
        let removed = child.remove(after, subscriber);
        if child.is_empty() {
            if level == "+" {
                self.any = None;
            } else {
                self.children.remove(level);
            }
        }
        removed
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_empty() && self.below.is_empty()
    }
}

fn take<S: PartialEq>(list: &mut Vec<(S, u8)>, subscriber: &S) -> bool {
    let at = list.iter().position(|(known, _)| known == subscriber);
    if let Some(at) = at {
        list.swap_remove(at);
    }
    at.is_some()
}

fn split_level(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((level, after)) => (level, Some(after)),
        None => (text, None),
    }
}

fn ends_below(filter: &str) -> bool {
    filter == "#" || filter.ends_with("/#")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::topic;
    use proptest::prelude::*;

    fn matched(tree: &TopicTree<usize>, topic: &str) -> Vec<(usize, u8)> {
        let mut found = Vec::new();
        tree.each_match(topic, |subscriber, qos| found.push((*subscriber, qos)));
        found.sort_unstable();
        found
    }

    #[test]
    fn filters_come_and_go_and_leave_nothing() {
        let mut tree = TopicTree::default();
        assert!(tree.insert("a/+/c", 1, 0));
        assert!(tree.insert("a/#", 2, 1));
        assert!(!tree.insert("a/+/c", 1, 1), "granted anew");
        assert_eq!(matched(&tree, "a/b/c"), [(1, 1), (2, 1)]);
        assert_eq!(matched(&tree, "a"), [(2, 1)]);
        assert_eq!(tree.levels(), 5);
        assert!(!tree.remove("a/+", &1) && !tree.remove("a/#", &1), "not what it has");
        assert!(tree.remove("a/+/c", &1) && tree.remove("a/#", &2));
        assert!(!tree.has_match("a/b/c"));
        assert_eq!((tree.levels(), tree.root.is_empty()), (0, true));
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(&["", "a", "b", "$s", "+"][..])
    }

    proptest! {
        #[test]
        fn it_finds_what_a_search_through_all_filters_finds(
            filters in prop::collection::vec((prop::collection::vec(level(), 1..5), any::<bool>()), 0..12),
            topic in prop::collection::vec(prop::sample::select(&["", "a", "b", "$s"][..]), 1..5),
            removed in 0usize..12,
        ) {
            let topic = topic.join("/");
            let mut filters: Vec<String> = filters
                .into_iter()
                .map(|(levels, below)| levels.join("/") + if below { "/#" } else { "" })
                .filter(|filter| !filter.is_empty())
                .collect();
            let mut tree = TopicTree::default();
            for (subscriber, filter) in filters.iter().enumerate() {
                prop_assert!(tree.insert(filter, subscriber, 1));
            }
            if removed < filters.len() {
                prop_assert!(tree.remove(&filters[removed], &removed));
                filters[removed] = "elsewhere".to_owned();
            }
            let expected: Vec<_> = (0..filters.len()).filter(|at| topic::matches(&filters[*at], &topic)).collect();
            let found: Vec<_> = matched(&tree, &topic).into_iter().map(|(subscriber, _)| subscriber).collect();
            prop_assert_eq!(tree.has_match(&topic), !expected.is_empty());
            prop_assert_eq!(found, expected);
        }
    }
}
