//! Shared subscriptions: of each group one member gets a message, in turns.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use super::subscriber::Handle;
use crate::core::mqtt::outbound::Wants;
use crate::core::mqtt::topic_tree::TopicTree;

/// A client in a group.
#[derive(Clone)]
pub struct Member {
    pub handle: Handle,
    pub wants: Wants,
}

/// The members of one group with one filter.
struct Group {
    members: Vec<Member>,
    /// Whose turn it is.
    next: Cell<usize>,
}

/// All groups, by the filters of their shared subscriptions, which name group and filter.
#[derive(Default)]
pub struct Groups {
    groups: HashMap<Rc<str>, Group>,
    tree: TopicTree<Rc<str>, ()>,
}

impl Groups {
    /// Takes a member in, or changes what it wants. `pattern` is the filter without the group.
    pub fn join(&mut self, filter: &str, pattern: &str, member: Member) {
        let Some(group) = self.groups.get_mut(filter) else {
            let name: Rc<str> = filter.into();
            self.tree.insert(pattern, Rc::clone(&name), ());
            self.groups.insert(name, Group { members: vec![member], next: Cell::new(0) });
            return;
        };
        match group.members.iter_mut().find(|known| known.handle == member.handle) {
            Some(known) => *known = member,
            None => group.members.push(member),
        }
    }

    pub fn leave(&mut self, filter: &str, pattern: &str, handle: &Handle) {
        let Some(group) = self.groups.get_mut(filter) else { return };
        group.members.retain(|member| member.handle != *handle);
        if group.members.is_empty() {
            self.groups.remove(filter);
            self.tree.remove(pattern, &Rc::from(filter));
        }
    }

    /// As of any filter, see [`TopicTree::new_shapes`]: they bound what a publish visits.
    pub fn new_shapes(&self, pattern: &str) -> usize {
        self.tree.new_shapes(pattern)
    }

    pub fn shapes(&self) -> usize {
        self.tree.shapes()
    }

    pub fn may_match(&self, topic: &str, nodes_max: usize) -> bool {
        !self.groups.is_empty() && self.tree.may_match(topic, nodes_max)
    }

    /// Calls `reach` with one member of each group that matches. Returns how many nodes of the tree were visited.
    pub fn each_match(&self, topic: &str, bytes: usize, mut reach: impl FnMut(&Member)) -> usize {
        if self.groups.is_empty() {
            return 0;
        }
        self.tree.each_match(topic, |name, ()| {
            let chosen = self.groups.get(name).and_then(|group| group.choose(topic, bytes));
            chosen.into_iter().for_each(&mut reach);
        })
    }
}

impl Group {
    /// The next member that is there and has room; else one whose session keeps it; else the next.
    fn choose(&self, topic: &str, bytes: usize) -> Option<&Member> {
        let count = self.members.len();
        let first = self.next.get() % count.max(1);
        let in_turn = || (first..first + count).map(|at| at % count);
        let is_fit = |at: &usize, is_there: bool| {
            let Member { handle, wants } = &self.members[*at];
            let may = handle.0.may_receive(topic);
            may && handle.0.is_connected() == is_there && (is_there || wants.qos > 0) && handle.0.has_room(bytes)
        };
        let found = in_turn().find(|at| is_fit(at, true)).or_else(|| in_turn().find(|at| is_fit(at, false)));
        let may = |at: &usize| self.members[*at].handle.0.may_receive(topic);
        let at = found.or_else(|| in_turn().find(may))?;
        self.next.set(at + 1);
        self.members.get(at)
    }
}
