//! Grants filters, and bounds what they take: levels and shapes of the tree, and bytes.

use std::cell::Cell;
use std::rc::Rc;

use super::{Fanout, Inner};
use crate::core::mqtt::packet::RetainHandling;
use crate::core::mqtt::subscription::Wants;
use crate::core::mqtt::topic;
use crate::core::mqtt::topic_tree::{self, TopicTree};
use crate::mqtt::EdgeSettings;
use crate::mqtt::pool::host_part;
use crate::mqtt::retained::Scan;
use crate::mqtt::shared::Member;
use crate::mqtt::subscriber::{Grant, Handle, Subscriber};

/// One client may take this fraction of the filter levels that are still free, so that no number of clients can take the last one.
const FILTER_SHARE: usize = 64;
/// Most bytes of all filters together; and the fraction of what may be stored that they may take.
const FILTER_BYTES_MAX: usize = 16 << 20;
const FILTERS_PART: usize = 4;
/// Most distinct shapes of filters: bounds the tree nodes that a publish visits.
const SHAPES_MAX: usize = 256;
/// One client may add this fraction of the shapes that are still free.
const SHAPE_SHARE: usize = 8;
/// Levels of filters on the gateway's own topics reserved for each client: enough for `alerts/+/+/+`, `alerts/#` and `outrider/#`.
const OWN_LEVELS: usize = 8;

/// Which fraction of what is free a client may take.
#[derive(Clone, Copy)]
struct Shares {
    filters: usize,
    shapes: usize,
}

impl Shares {
    const OF_ONE: Shares = Shares { filters: FILTER_SHARE, shapes: SHAPE_SHARE };
    const ALL: Shares = Shares { filters: 1, shapes: 1 };
}

/// A filter that cannot be granted: there are too many, or this client has too many.
#[derive(Debug, PartialEq, Eq)]
pub struct TooManyFilters;

impl Fanout {
    /// Grants a valid filter; retained messages that it matches follow as the client reads, if that is wanted. Subscribing again grants it
    /// anew. Returns whether the filter is new.
    pub fn subscribe(
        &self,
        subscriber: &Rc<Subscriber>,
        filter: &str,
        wants: Wants,
        retained: RetainHandling,
    ) -> Result<bool, TooManyFilters> {
        self.grant(subscriber, filter, wants, retained, Shares::OF_ONE)
    }

    /// Grants a filter as before a restart, as long as there is room for it at all. Returns whether there is.
    pub fn restore_filter(
        &self,
        subscriber: &Rc<Subscriber>,
        filter: &str,
        wants: Wants,
        retained: RetainHandling,
    ) -> bool {
        self.grant(subscriber, filter, wants, retained, Shares::ALL).is_ok()
    }

    fn grant(
        &self,
        subscriber: &Rc<Subscriber>,
        filter: &str,
        wants: Wants,
        retained: RetainHandling,
        shares: Shares,
    ) -> Result<bool, TooManyFilters> {
        let (group, pattern) = topic::split_shared(filter).map_err(|_| TooManyFilters)?;
        let inner = &mut *self.inner.borrow_mut();
        let mut filters = subscriber.filters.borrow_mut();
        let known = filters.get(filter).copied();
        let is_sent = match retained {
            RetainHandling::Always => group.is_none(),
            RetainHandling::IfNew => group.is_none() && known.is_none(),
            RetainHandling::Never => false,
        };
        let grant = match known {
            Some(grant) => Grant { wants, is_scanned: grant.is_scanned || is_sent, ..grant },
            None if filters.len() < subscriber.filters_max() => {
                let (levels, shapes) = inner.charge(subscriber, pattern, group.is_some(), (&self.settings, shares))?;
                Grant { wants, levels, shapes, is_scanned: is_sent }
            }
            None => return Err(TooManyFilters),
        };
        if known.is_none() {
            inner.count(subscriber, pattern, &grant, usize::wrapping_add);
        }
        if known.is_none_or(|known| known.wants != wants || known.is_scanned != grant.is_scanned) {
            filters.insert(filter.to_owned(), grant);
            let handle = Handle(Rc::clone(subscriber));
            match group {
                Some(_) => inner.groups.join(filter, pattern, Member { handle, wants }),
                None => _ = inner.tree_of(pattern).insert(pattern, handle, wants),
            }
            inner.note_stored_filter(subscriber, filter, wants);
        }
        if is_sent {
            let mut scans = subscriber.scans.borrow_mut();
            scans.retain(|scan| scan.filter != filter);
            scans.push_back(Scan::new(filter, wants));
        }
        subscriber.changed.ring();
        Ok(known.is_none())
    }

    /// Returns whether there was such a subscription.
    pub fn unsubscribe(&self, subscriber: &Rc<Subscriber>, filter: &str) -> bool {
        let grant = subscriber.filters.borrow_mut().remove(filter);
        if let Some(grant) = grant {
            self.remove(subscriber, filter, &grant);
        }
        grant.is_some()
    }

    pub(super) fn remove(&self, subscriber: &Rc<Subscriber>, filter: &str, grant: &Grant) {
        subscriber.scans.borrow_mut().retain(|scan| scan.filter != filter);
        let Ok((group, pattern)) = topic::split_shared(filter) else { return };
        let inner = &mut *self.inner.borrow_mut();
        let handle = Handle(Rc::clone(subscriber));
        match group {
            Some(_) => inner.groups.leave(filter, pattern, &handle),
            None => {
                inner.tree_of(pattern).remove(pattern, &handle);
                inner.stored_tree.remove(pattern, &handle);
            }
        }
        inner.count(subscriber, pattern, grant, usize::wrapping_sub);
    }
}

impl Inner {
    pub(super) fn tree_of(&mut self, filter: &str) -> &mut TopicTree<Handle, Wants> {
        if topic::is_reserved(filter) { &mut self.own_tree } else { &mut self.tree }
    }

    /// What a new filter takes from the shared levels and shapes.
    fn charge(
        &self,
        subscriber: &Subscriber,
        filter: &str,
        is_shared: bool,
        (settings, shares): (&EdgeSettings, Shares),
    ) -> Result<(usize, usize), TooManyFilters> {
        // A group's filter costs each publish a visit, whatever it is on.
        let (levels, is_own) = (topic_tree::levels(filter), !is_shared && topic::is_reserved(filter));
        if is_own && settings.reserves_own && subscriber.own_levels.get() + levels <= OWN_LEVELS {
            return Ok((0, 0));
        }
        let free = |max: usize, used: usize, of_host: usize| {
            max.saturating_sub(used).min(host_part(max).saturating_sub(of_host))
        };
        let host = &subscriber.host;
        let levels_free = free(settings.filter_levels_max, self.levels, host.filter_levels.get());
        // The gateway's own topics have few levels, which bounds the shapes of filters on them.
        let shapes = match (is_own, is_shared) {
            (true, _) => 0,
            (false, true) => self.groups.new_shapes(filter),
            (false, false) => self.tree.new_shapes(filter),
        };
        let shapes_free = free(SHAPES_MAX, self.tree.shapes() + self.groups.shapes(), host.shapes.get());
        // They are stored, too.
        let bytes_max = FILTER_BYTES_MAX.min(settings.stored_bytes_max / FILTERS_PART);
        let bytes_free = bytes_max.saturating_sub(self.filter_bytes);
        let has_bytes = subscriber.filter_bytes.get() + filter.len() <= bytes_free / shares.filters;
        let has_levels = subscriber.filter_levels.get() + levels <= levels_free / shares.filters;
        let has_shapes = shapes == 0 || subscriber.shapes.get() + shapes <= shapes_free / shares.shapes;
        if has_levels && has_shapes && has_bytes { Ok((levels, shapes)) } else { Err(TooManyFilters) }
    }

    fn count(&mut self, subscriber: &Subscriber, filter: &str, grant: &Grant, change: fn(usize, usize) -> usize) {
        let count = |cell: &Cell<usize>, by: usize| cell.set(change(cell.get(), by));
        if grant.levels == 0 {
            count(&subscriber.own_levels, topic_tree::levels(filter));
        }
        self.levels = change(self.levels, grant.levels);
        self.filter_bytes = change(self.filter_bytes, filter.len());
        count(&subscriber.filter_bytes, filter.len());
        for (levels, shapes) in
            [(&subscriber.filter_levels, &subscriber.shapes), (&subscriber.host.filter_levels, &subscriber.host.shapes)]
        {
            count(levels, grant.levels);
            count(shapes, grant.shapes);
        }
    }
}
