//! When a forwarder reads the store, and what it does when that fails.

use super::{Forwarder, SALVAGE_PAUSE, STORE_PAUSE, WAITING_MAX};
use crate::clock;
use crate::pipeline::Message;
use crate::sinks::source::Read;
use crate::sinks::status::Link;

impl Forwarder {
    /// When to read what has been committed since everything was read. Commits are far more frequent than requests need to be, so they are
    /// read together, once the first of them has waited as long as a line may.
    pub(super) fn read_due_us(&mut self) -> Option<u64> {
        let head = *self.committed.borrow();
        // A part that is full is read for when it has room: until then its lines are no reason to look.
        let may_be_read = || self.following().filter(|part| self.can_read(*part));
        let waiting = may_be_read().map(|part| self.delivery.unread_of(part, head)).max().unwrap_or(0);
        let is_behind = may_be_read().any(|part| !self.caught_up[part]);
        let now_us = self.now_us();
        if self.can_read_backlog() {
            return Some(now_us);
        }
        // After an error always read again: only that shows whether it is over.
        if waiting == 0 && self.store_error.is_none() {
            return None;
        }
        let is_urgent =
            is_behind || self.store_error.is_some() || waiting >= WAITING_MAX || *self.link.borrow() == Link::Ending;
        let noticed_us = *self.noticed_us.get_or_insert(now_us);
        Some(if is_urgent { now_us } else { noticed_us + self.linger_us })
    }

    pub(super) fn is_pausing(&self) -> bool {
        self.store_pause_until.is_some_and(|until| until > clock::instant())
    }

    pub(super) fn wants_aside(&self) -> bool {
        !self.is_pausing() && self.aside_pause_until.is_none() && self.delivery.aside_wants()
    }

    /// A block of the log for the keys that are set aside.
    pub(super) fn read_aside(&mut self) {
        self.aside_pause_until = self.aside_pause_until.filter(|until| *until > clock::instant());
        if !self.wants_aside() {
            return;
        }
        let now_us = self.now_us();
        let Some(whole) = self.delivery.whole() else { return };
        let call = self.beat.at_disk();
        let offered = self.source.offer_aside_to(whole, now_us);
        drop(call);
        match offered {
            Ok(read) => self.aside_pause_until = (read == Read::Salvaging).then(|| clock::instant() + SALVAGE_PAUSE),
            Err(error) => self.store_fails(&error),
        }
    }

    pub(super) fn read(&mut self) -> Read {
        let is_pausing = self.is_pausing();
        let is_due = self.read_due_us().is_some_and(|due_us| due_us <= self.now_us());
        if is_pausing || !is_due {
            return Read::End;
        }
        let since_us = self.noticed_us.take().unwrap_or_else(|| self.now_us());
        self.committed.mark_unchanged();
        let call = self.beat.at_disk();
        let offered = self.offer(since_us);
        drop(call);
        match offered {
            Ok(read) => {
                self.is_salvaging = read == Read::Salvaging;
                self.unreadable_since.is_over();
                self.store_pause_until = self.is_salvaging.then(|| clock::instant() + SALVAGE_PAUSE);
                if self.store_error.take().is_some() {
                    tracing::info!(sink = self.name, stream = &*self.stream_name, "the store is readable again");
                }
                read
            }
            Err(error) => {
                self.store_fails(&error);
                Read::End
            }
        }
    }

    /// Offers what is stored to each part of the delivery.
    fn offer(&mut self, since_us: u64) -> rusqlite::Result<Read> {
        let head = *self.committed.borrow();
        self.delivery.set_head(head);
        let now_us = self.now_us();
        let mut all = Read::End;
        for part in 0..self.delivery.count() {
            let is_backlog = self.delivery.is_backlog(part);
            let since_us = if is_backlog { now_us } else { since_us };
            let mut read = self.source.offer_to(&mut self.delivery, part, since_us)?;
            if is_backlog && read == Read::End && self.delivery.unread(part) > 0 {
                // What was committed is not there, and may be taken over from a store that was set aside.
                read = Read::Salvaging;
            }
            self.caught_up[part] = is_backlog || read == Read::End;
            all = match (all, read) {
                (Read::Enough, _) | (_, Read::Enough) => Read::Enough,
                (Read::Salvaging, _) | (_, Read::Salvaging) => Read::Salvaging,
                _ => Read::End,
            };
        }
        Ok(all)
    }

    pub(super) fn store_fails(&mut self, error: &rusqlite::Error) {
        if self.store_error.is_none() {
            tracing::error!(sink = self.name, stream = &*self.stream_name, "cannot read the store: {error}");
        }
        if self.unreadable_since.is_damage(error, clock::instant()) {
            // Without a pipeline the process is ending; the next start detects the damage too.
            let _ = self.pipeline.send(Message::Damaged(self.source.file()));
        }
        self.store_error = Some(format!("cannot read the store: {error}"));
        self.store_pause_until = Some(clock::instant() + STORE_PAUSE);
        self.caught_up.fill(false);
    }
}
