//! Shared subscriptions: of each group one member gets a message, in turns.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::subscriber::Handle;
use crate::core::mqtt::subscription::Wants;
use crate::core::mqtt::topic_tree::TopicTree;

/// A client in a group.
#[derive(Clone)]
pub struct Member {
    pub handle: Handle,
    pub wants: Wants,
}

/// A member that was chosen before a message is dealt out, of the group with this filter.
pub struct Chosen {
    group: Rc<str>,
    pub member: Member,
    /// Its place in the group.
    at: usize,
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
    /// Groups with a member whose session is stored, so that messages have to be stored for it.
    stored: HashSet<Rc<str>>,
}

impl Groups {
    /// Takes a member in, or changes what it wants. `pattern` is the filter without the group.
    pub fn join(&mut self, filter: &str, pattern: &str, member: Member) {
        let Some(group) = self.groups.get_mut(filter) else {
            let name: Rc<str> = filter.into();
            self.tree.insert(pattern, Rc::clone(&name), ());
            self.groups.insert(name, Group { members: vec![member], next: Cell::new(0) });
            return self.look_for_stored(filter);
        };
        match group.members.iter_mut().find(|known| known.handle == member.handle) {
            Some(known) => *known = member,
            None => group.members.push(member),
        }
        self.look_for_stored(filter);
    }

    pub fn leave(&mut self, filter: &str, pattern: &str, handle: &Handle) {
        let Some(group) = self.groups.get_mut(filter) else { return };
        group.members.retain(|member| member.handle != *handle);
        if group.members.is_empty() {
            self.groups.remove(filter);
            self.tree.remove(pattern, &Rc::from(filter));
        }
        self.look_for_stored(filter);
    }

    /// The session of one of its members is stored from here on, or no longer.
    pub fn look_for_stored(&mut self, filter: &str) {
        let is_stored = |member: &Member| member.wants.qos > 0 && member.handle.0.session().is_some();
        match self.groups.get_key_value(filter) {
            Some((name, group)) if group.members.iter().any(is_stored) => _ = self.stored.insert(Rc::clone(name)),
            _ => _ = self.stored.remove(filter),
        }
    }

    /// Whether messages have to be stored for a member of a group.
    pub fn has_stored(&self) -> bool {
        !self.stored.is_empty()
    }

    /// Chooses a member of each group that matches and has one whose session is stored. Whose turn it is changes with [`Self::take_turns`].
    pub fn choose_for_stored(&self, topic: &str, bytes: usize) -> Vec<Chosen> {
        let mut chosen = Vec::new();
        if self.has_stored() {
            self.tree.each_match(topic, |name, ()| {
                let group = self.groups.get(name).filter(|_| self.stored.contains(name));
                let choose = |group: &Group| {
                    let at = group.choose(topic, bytes)?;
                    Some(Chosen { group: Rc::clone(name), member: group.members.get(at)?.clone(), at })
                };
                chosen.extend(group.and_then(choose));
            });
        }
        chosen
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

    /// The chosen members get their message: it is the turn of others.
    pub fn take_turns(&self, chosen: &[Chosen]) {
        for Chosen { group, at, .. } in chosen {
            self.groups.get(group).into_iter().for_each(|group| group.next.set(at + 1));
        }
    }

    /// Calls `reach` with one member of each group that matches: one that was chosen before, if it is still there. Returns how many nodes of
    /// the tree were visited.
    pub fn each_match(&self, topic: &str, bytes: usize, before: &[Chosen], mut reach: impl FnMut(&Member)) -> usize {
        if self.groups.is_empty() {
            return 0;
        }
        self.tree.each_match(topic, |name, ()| {
            let before = before.iter().find(|before| before.group == *name);
            let choose = |group: &'_ Group| {
                let before = before.and_then(|before| group.members.iter().find(|m| m.handle == before.member.handle));
                let choose = || {
                    let at = group.choose(topic, bytes)?;
                    group.next.set(at + 1);
                    group.members.get(at)
                };
                before.or_else(choose).cloned()
            };
            self.groups.get(name).and_then(choose).iter().for_each(&mut reach);
        })
    }
}

impl Group {
    /// The next member that is there and has room; else one whose session keeps it; else the next.
    fn choose(&self, topic: &str, bytes: usize) -> Option<usize> {
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
        found.or_else(|| in_turn().find(may))
    }
}
