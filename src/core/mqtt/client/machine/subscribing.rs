//! Filters: what is asked of the broker, and no more than it takes.

use super::Client;
use crate::mqtt::client::limits::check_filters;
use crate::mqtt::client::sending::Step;
use crate::mqtt::client::{Filter, Unfit, Wish};
use crate::mqtt::packet::{Subscription, client};

impl Client {
    /// Asks for messages. The answer is of [`super::super::Answer::Filters`].
    ///
    /// # Errors
    ///
    /// Why the broker does not take such filters.
    pub fn subscribe(&mut self, filters: &[Filter], now_ms: u64) -> Result<Wish, Unfit> {
        check_filters(filters, &self.limits, &self.takes)?;
        let filters_max = self.limits.subscriptions_max;
        if self.subscriptions + filters.len() > filters_max {
            return Err(Unfit::TooManyFilters { filters_max });
        }
        let begun = self.sending.begin(Step::Subscribe(filters.len()), now_ms);
        let (wish, packet_id) = begun.ok_or(Unfit::TooManyFilters { filters_max: usize::from(u16::MAX) })?;
        self.subscriptions += filters.len();
        let asked: Vec<Subscription<'_>> = filters
            .iter()
            .map(|filter| Subscription {
                filter: &filter.filter,
                qos: filter.qos.min(self.limits.qos_max),
                no_local: filter.no_local,
                retain_as_published: filter.retain_as_published,
                retained: filter.retained,
            })
            .collect();
        client::subscribe(self.version, packet_id, None, &asked, &mut self.out);
        self.sending.ends_at(wish, self.ends_at());
        Ok(wish)
    }

    /// Asks for nothing more of what matches these filters.
    ///
    /// # Errors
    ///
    /// Why the broker does not take such filters.
    pub fn unsubscribe(&mut self, filters: &[&str], now_ms: u64) -> Result<Wish, Unfit> {
        let filters_max = self.limits.filters_max;
        if filters.len() > filters_max {
            return Err(Unfit::TooManyFilters { filters_max });
        }
        if filters.is_empty() || filters.iter().any(|filter| filter.len() > client::FIELD_BYTES_MAX) {
            return Err(Unfit::Filter("is not there, or is too long"));
        }
        let begun = self.sending.begin(Step::Unsubscribe(filters.len()), now_ms);
        let (wish, packet_id) = begun.ok_or(Unfit::TooManyFilters { filters_max: usize::from(u16::MAX) })?;
        self.subscriptions = self.subscriptions.saturating_sub(filters.len());
        client::unsubscribe(self.version, packet_id, filters, &mut self.out);
        self.sending.ends_at(wish, self.ends_at());
        Ok(wish)
    }
}
