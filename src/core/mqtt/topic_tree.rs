//! Who gets what: the filters of all subscribers as a tree of levels.
//!
//! A topic can match along many paths, because each `+` is a fork: with 4,096 filters `{+,a}^12/x` a publish visited 8,191 nodes. The
//! *shape* of a path says which of its levels are `+`. For one topic and one shape there is at most one node, so the number of shapes
//! bounds what a publish costs, whatever others are subscribed to. The tree counts them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::topic::{is_asked_for_by_name, split_level};

/// `S` names a subscriber, and `G` says what it was granted: its quality of service, for one.
#[derive(Debug)]
pub struct TopicTree<S, G = u8> {
    root: Node<S, G>,
    levels: usize,
    /// How many filters have a path of this shape.
    shapes: HashMap<Shape, u32>,
}

/// Of the path to a node below a `+`: its length, and a bit for each level that is `+`.
type Shape = (u8, u64);

#[derive(Debug)]
struct Node<S, G> {
    children: HashMap<Box<str>, Node<S, G>>,
    /// Below `+`.
    any: Option<Box<Node<S, G>>>,
    /// Filters that end here.
    here: Vec<(S, G)>,
    /// Filters that end here with `#`: this level and all below.
    below: Vec<(S, G)>,
}

impl<S, G> Default for Node<S, G> {
    fn default() -> Self {
        Node { children: HashMap::new(), any: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<S, G> Default for TopicTree<S, G> {
    fn default() -> Self {
        TopicTree { root: Node::default(), levels: 0, shapes: HashMap::new() }
    }
}

/// How many levels a filter has: each may take a node of the tree.
pub fn levels(filter: &str) -> usize {
    filter.split('/').count()
}

/// Shapes of the paths to a filter's nodes. Filters have no more levels than a shape has bits.
fn shapes(filter: &str) -> impl Iterator<Item = Shape> + '_ {
    let levels = filter.split('/').take_while(|level| *level != "#").enumerate();
    let paths = levels.scan(0u64, |plus, (at, level)| {
        *plus |= u64::from(level == "+") << at.min(63);
        Some((at as u8 + 1, *plus))
    });
    paths.filter(|(_, plus)| *plus != 0)
}

impl<S: PartialEq, G: Copy> TopicTree<S, G> {
    /// Levels of all filters together: what bounds the tree's memory.
    pub fn levels(&self) -> usize {
        self.levels
    }

    /// Distinct shapes of all filters. A publish visits at most one node for each, and one for each of its own levels.
    pub fn shapes(&self) -> usize {
        self.shapes.len()
    }

    /// How many shapes this filter would add.
    pub fn new_shapes(&self, filter: &str) -> usize {
        shapes(filter).filter(|shape| !self.shapes.contains_key(shape)).count()
    }

    /// Enters a valid filter with what is granted, or changes that of a known one. Returns whether it is new.
    pub fn insert(&mut self, filter: &str, subscriber: S, grant: G) -> bool {
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
                *granted = grant;
                false
            }
            None => {
                list.push((subscriber, grant));
                self.levels += levels(filter);
                shapes(filter).for_each(|shape| *self.shapes.entry(shape).or_default() += 1);
                true
            }
        }
    }

    /// Removes a subscriber's filter. Returns whether it was there.
    pub fn remove(&mut self, filter: &str, subscriber: &S) -> bool {
        let removed = self.root.remove(Some(filter), subscriber);
        if removed {
            self.levels -= levels(filter);
            for shape in shapes(filter) {
                if let Entry::Occupied(mut filters) = self.shapes.entry(shape) {
                    *filters.get_mut() -= 1;
                    if *filters.get() == 0 {
                        filters.remove();
                    }
                }
            }
        }
        removed
    }

    /// Calls `reach` with the subscriber and the grant of each filter that matches, so a subscriber with several of them is reached
    /// several times. Returns how many nodes were visited.
    pub fn each_match<'a>(&'a self, topic: &str, mut reach: impl FnMut(&'a S, G)) -> usize {
        let mut nodes = usize::MAX;
        self.visit(topic, &mut nodes, &mut |(subscriber, grant)| {
            reach(subscriber, *grant);
            false
        });
        usize::MAX - nodes
    }

    /// Whether any filter matches. After `nodes_max` nodes the search ends, and the answer is yes.
    pub fn may_match(&self, topic: &str, nodes_max: usize) -> bool {
        self.visit(topic, &mut nodes_max.clone(), &mut |_| true)
    }

    fn visit<'a>(&'a self, topic: &str, nodes: &mut usize, found: &mut impl FnMut(&'a (S, G)) -> bool) -> bool {
        if !is_asked_for_by_name(topic) {
            return self.root.visit(Some(topic), nodes, found);
        }
        let (level, after) = split_level(topic);
        self.root.children.get(level).is_some_and(|child| child.visit(after, nodes, found))
    }
}

impl<S: PartialEq, G: Copy> Node<S, G> {
    /// Walks what matches until `found` says that it is enough or `nodes` are used up. It goes as deep as the deepest filter, not as the
    /// topic.
    fn visit<'a>(&'a self, rest: Option<&str>, nodes: &mut usize, found: &mut impl FnMut(&'a (S, G)) -> bool) -> bool {
        if *nodes == 0 {
            return true;
        }
        *nodes -= 1;
        if self.below.iter().any(&mut *found) {
            return true;
        }
        let Some(text) = rest else {
            return self.here.iter().any(found);
        };
        let (level, after) = split_level(text);
        self.any.as_ref().is_some_and(|any| any.visit(after, nodes, found))
            || self.children.get(level).is_some_and(|child| child.visit(after, nodes, found))
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

fn take<S: PartialEq, G>(list: &mut Vec<(S, G)>, subscriber: &S) -> bool {
    let at = list.iter().position(|(known, _)| known == subscriber);
    if let Some(at) = at {
        list.swap_remove(at);
    }
    at.is_some()
}

fn ends_below(filter: &str) -> bool {
    filter == "#" || filter.ends_with("/#")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::topic;
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
        assert!(!tree.may_match("a/b/c", 100));
        assert_eq!((tree.levels(), tree.shapes(), tree.root.is_empty()), (0, 0, true));
    }

    #[test]
    fn shapes_bound_what_a_publish_visits() {
        let mut tree = TopicTree::default();
        for n in 0..64 {
            for filter in [format!("fleet/+/{n}"), format!("+/{n}/#"), format!("plain/{n}/x")] {
                tree.insert(&filter, n, 1);
            }
        }
        // fleet/+, fleet/+/x, +, +/x: however many there are of each.
        assert_eq!((tree.shapes(), tree.new_shapes("site/+/x"), tree.new_shapes("a/+/+/b")), (4, 0, 2));
        // What is refused by its shapes: each level may be a name or a `+`.
        for mask in 0..256 {
            let levels: Vec<&str> = (0..8).map(|at| if mask >> at & 1 == 1 { "+" } else { "a" }).collect();
            tree.insert(&levels.join("/"), 1000, 1);
        }
        let visited = tree.each_match("a/a/a/a/a/a/a/b", |_, _| {});
        assert!(visited > 200 && visited <= tree.shapes() + 9, "{visited} of {}", tree.shapes());
        assert!(!tree.may_match("a/a/a/a/a/a/a/a/b", 1000), "looked everywhere");
        assert!(tree.may_match("a/a/a/a/a/a/a/a/b", 32), "perhaps");
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
            prop_assert_eq!(tree.may_match(&topic, usize::MAX), !expected.is_empty());
            prop_assert!(expected.is_empty() || tree.may_match(&topic, 0));
            let visited = tree.each_match(&topic, |_, _| {});
            prop_assert!(visited <= 1 + tree.shapes() + topic.split('/').count());
            prop_assert!(tree.shapes.values().all(|filters| *filters > 0));
            prop_assert_eq!(found, expected);
        }
    }
}
