//! Many trees as one flat list of nodes, and how they are walked.
//!
//! A value goes to the left where it is at most the threshold. scikit-learn compares values of single precision with thresholds of double
//! precision. A value of single precision is at most a threshold exactly if it is at most the greatest number of single precision that is not
//! above the threshold, so that is what is kept: half the size, and the same answer for every value.
//!
//! Leaves stand behind all other nodes, and both their branches lead to themselves. So a walk needs no question whether it has arrived: it
//! takes as many steps as its tree is deep. Several trees are walked at once, because each step waits for the memory of the one before.

use super::reader::{Read, Reader};
use super::{DEPTH_MAX, INPUTS_MAX, NODES_MAX, OUTPUTS_MAX, STEPS_MAX, TREES_MAX};

/// Trees that are walked at once.
const LANES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Node {
    threshold: f32,
    input: u32,
    left: u32,
    right: u32,
}

/// Trees, and the values of their leaves.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forest {
    nodes: Box<[Node]>,
    /// Root and depth of each tree.
    roots: Box<[(u32, u32)]>,
    /// So many of the nodes are no leaves.
    inner: u32,
    /// Of each leaf, `width` values.
    values: Box<[f64]>,
    width: usize,
}

/// A tree as it is written.
#[derive(Default)]
struct Tree {
    input: Vec<f64>,
    threshold: Vec<f64>,
    left: Vec<f64>,
    right: Vec<f64>,
    leaves: Vec<f64>,
}

/// Where a branch leads: to a node of its tree, or to a leaf.
enum Target {
    Inner(usize),
    Leaf(usize),
}

impl Tree {
    /// An index that is not negative is a node, and -1, -2, ... are leaves.
    fn target(&self, index: f64, width: usize) -> Option<Target> {
        if index.fract() != 0.0 || index.abs() > NODES_MAX as f64 + 1.0 {
            return None;
        }
        match index < 0.0 {
            true => Some((-index) as usize - 1).filter(|leaf| *leaf < self.leaves.len() / width).map(Target::Leaf),
            false => Some(index as usize).filter(|node| *node < self.input.len()).map(Target::Inner),
        }
    }
}

/// Reads a list of trees whose leaves have so many values each.
pub(super) struct ForestReader {
    nodes: Vec<Node>,
    roots: Vec<(u32, u32)>,
    values: Vec<f64>,
    /// Of each branch to a leaf: node, whether it is the right one, and the leaf.
    to_leaves: Vec<(usize, bool, u32)>,
    /// Trees that are one leaf, and which.
    lone: Vec<(usize, u32)>,
    width: usize,
    steps: usize,
}

const NAMES: [&str; 5] = ["input", "threshold", "left", "right", "leaves"];

impl ForestReader {
    pub fn read(reader: &mut Reader<'_>, inputs: usize, width: usize) -> Read<Forest> {
        assert!((1..=OUTPUTS_MAX).contains(&width) && inputs <= INPUTS_MAX, "they were checked");
        let mut forest = ForestReader {
            nodes: Vec::new(),
            roots: Vec::new(),
            values: Vec::new(),
            to_leaves: Vec::new(),
            lone: Vec::new(),
            width,
            steps: 0,
        };
        reader.array(TREES_MAX, |reader, _| forest.tree(reader, inputs))?;
        if forest.roots.is_empty() {
            return reader.expected("at least one tree");
        }
        Ok(forest.finish())
    }

    fn tree(&mut self, reader: &mut Reader<'_>, inputs: usize) -> Read<()> {
        let mut tree = Tree::default();
        let left = NODES_MAX.saturating_sub(self.nodes.len());
        let values_left = (NODES_MAX * self.width).saturating_sub(self.values.len());
        reader.object(&NAMES, |reader, place| {
            let of = match place {
                0 => &mut tree.input,
                1 => &mut tree.threshold,
                2 => &mut tree.left,
                3 => &mut tree.right,
                _ => &mut tree.leaves,
            };
            *of = reader.numbers(if place == 4 { values_left } else { left })?;
            if place == 0
                && let Some(at) =
                    of.iter().position(|input| input.fract() != 0.0 || !(0.0..inputs as f64).contains(input))
            {
                return reader.expected(format!("in element {at} the place of an input, from 0 to {}", inputs - 1));
            }
            Ok(())
        })?;
        let count = tree.input.len();
        if [&tree.threshold, &tree.left, &tree.right].iter().any(|list| list.len() != count) {
            return reader.expected("input, threshold, left and right of one length");
        }
        if tree.leaves.len() != (count + 1) * self.width {
            let (leaves, width) = (count + 1, self.width);
            return reader.expected(format!("{leaves} leaves (one more than nodes) of {width} values each"));
        }
        let depth = self.depth(reader, &tree)?;
        self.steps += depth;
        if self.steps > STEPS_MAX {
            return reader.expected(format!("trees whose depths are at most {STEPS_MAX} together"));
        }
        self.push(&tree, depth);
        Ok(())
    }

    /// The depth of a tree in which each node but the first, and each leaf, is the branch of one node before it.
    fn depth(&self, reader: &Reader<'_>, tree: &Tree) -> Read<usize> {
        let count = tree.input.len();
        let mut depths = vec![0_usize; count];
        let mut has_leaf = vec![false; count + 1];
        let mut deepest = 0;
        for node in 0..count {
            if node > 0 && depths[node] == 0 {
                return reader.expected(format!("node {node} as the branch of a node before it"));
            }
            let depth = depths[node] + 1;
            deepest = deepest.max(depth);
            for (index, side) in [(tree.left[node], "left"), (tree.right[node], "right")] {
                let is_new = match tree.target(index, self.width) {
                    Some(Target::Inner(child)) if child > node && depths[child] == 0 => {
                        depths[child] = depth;
                        true
                    }
                    Some(Target::Leaf(leaf)) => !std::mem::replace(&mut has_leaf[leaf], true),
                    _ => false,
                };
                if !is_new {
                    let what = "a later node, or -1 for the first leaf and so on, that no other branch leads to";
                    return reader.expected(format!("in {side}[{node}] {what}"));
                }
            }
        }
        match deepest > DEPTH_MAX {
            true => reader.expected(format!("a tree that is at most {DEPTH_MAX} deep")),
            false => Ok(deepest),
        }
    }

    fn push(&mut self, tree: &Tree, depth: usize) {
        let (first, first_leaf) = (self.nodes.len(), (self.values.len() / self.width) as u32);
        let root = first as u32;
        if tree.input.is_empty() {
            self.lone.push((self.roots.len(), first_leaf));
        }
        self.roots.push((root, depth as u32));
        for at in 0..tree.input.len() {
            let mut branch = |index: f64, is_right: bool| match tree.target(index, self.width) {
                Some(Target::Inner(node)) => (first + node) as u32,
                Some(Target::Leaf(leaf)) => {
                    self.to_leaves.push((first + at, is_right, first_leaf + leaf as u32));
                    0
                }
                None => 0,
            };
            let (left, right) = (branch(tree.left[at], false), branch(tree.right[at], true));
            let threshold = single_not_above(tree.threshold[at]);
            self.nodes.push(Node { threshold, input: tree.input[at] as u32, left, right });
        }
        self.values.extend_from_slice(&tree.leaves);
    }

    /// Puts the leaves behind all other nodes.
    fn finish(mut self) -> Forest {
        let inner = self.nodes.len() as u32;
        for (node, is_right, leaf) in self.to_leaves {
            let node = &mut self.nodes[node];
            *(if is_right { &mut node.right } else { &mut node.left }) = inner + leaf;
        }
        for (tree, leaf) in self.lone {
            self.roots[tree] = (inner + leaf, 0);
        }
        let leaves = (self.values.len() / self.width) as u32;
        let leaf = |at| Node { threshold: 0.0, input: 0, left: at, right: at };
        self.nodes.extend((inner..inner + leaves).map(leaf));
        Forest {
            nodes: self.nodes.into(),
            roots: self.roots.into(),
            inner,
            values: self.values.into(),
            width: self.width,
        }
    }
}

/// The greatest number of single precision that is not above this one.
fn single_not_above(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    if f64::from(nearest) > threshold { nearest.next_down() } else { nearest }
}

impl Forest {
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// Nodes, leaves included.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The steps of a walk through all trees.
    pub fn steps(&self) -> usize {
        self.roots.iter().map(|(_, depth)| *depth as usize).sum()
    }

    /// Gives `each` the number of each tree, in their order, and the values of the leaf in which it ends.
    pub fn walk(&self, inputs: &[f32; INPUTS_MAX], mut each: impl FnMut(usize, &[f64])) {
        let mut tree = 0;
        for roots in self.roots.chunks(LANES) {
            let mut at = [0_u32; LANES];
            let mut depth = 0;
            for (at, (root, deep)) in at.iter_mut().zip(roots) {
                *at = *root;
                depth = depth.max(*deep);
            }
            for _ in 0..depth {
                for at in &mut at {
                    let node = &self.nodes[*at as usize];
                    let is_left = inputs[node.input as usize % INPUTS_MAX] <= node.threshold;
                    *at = if is_left { node.left } else { node.right };
                }
            }
            for at in at.iter().take(roots.len()) {
                let from = at.wrapping_sub(self.inner) as usize * self.width;
                each(tree, self.values.get(from..from + self.width).unwrap_or_default());
                tree += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_of_single_precision_is_on_the_same_side_of_the_threshold_that_is_kept(
            value in any::<f32>(), threshold in any::<f64>(), near in -2_i32..3,
        ) {
            prop_assume!(!value.is_nan() && threshold.is_finite());
            prop_assert_eq!(value <= single_not_above(threshold), f64::from(value) <= threshold);
            // Most thresholds that are learned lie in the middle of two values.
            let beside = f64::from(value) + f64::from(near) * f64::from(value).abs() * 1e-9;
            if beside.is_finite() {
                prop_assert_eq!(value <= single_not_above(beside), f64::from(value) <= beside);
            }
        }
    }
}
