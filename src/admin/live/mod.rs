//! `GET /api/events`: what changes, told as it changes (server-sent events). One task looks for all clients together, so the store and the
//! pipeline are asked as often for one page as for many, and not at all without any.

mod brief;
mod hub;
pub mod stream;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;

use stream::{Client, EventBody, Stream, Wants};

pub(super) use hub::run;

/// Most clients that are told of events; each takes one of the places for connections. So many of one address.
const STREAMS_MAX: usize = 24;
const STREAMS_MAX_OF_ADDRESS: usize = 12;

/// All clients that are told of events.
#[derive(Debug, Default)]
pub(super) struct Live {
    streams: RefCell<Vec<Rc<Stream>>>,
    opened: Notify,
}

impl Live {
    /// Tells one more client of events; `None` if there are too many.
    pub fn open(&self, wants: Wants, client: Client, now: Instant) -> Option<EventBody> {
        let mut streams = self.streams.borrow_mut();
        streams.retain(|stream| !stream.is_ended());
        let of_address =
            streams.iter().filter(|stream| stream.client.place.address() == client.place.address()).count();
        if streams.len() >= STREAMS_MAX || of_address >= STREAMS_MAX_OF_ADDRESS {
            return None;
        }
        let stream = Stream::new(wants, client, now);
        streams.push(Rc::clone(&stream));
        self.opened.notify_one();
        Some(EventBody(stream))
    }

    /// Ends the streams of somebody who logs out. Who is still logged in elsewhere connects again.
    pub fn log_out(&self, name: &str) {
        let streams = self.streams.borrow();
        let of_holder = |stream: &&Rc<Stream>| stream.client.holder.as_ref().is_some_and(|holder| holder.name == name);
        streams.iter().filter(of_holder).for_each(|stream| stream.end());
    }

    /// Those that are still there.
    fn present(&self) -> Vec<Rc<Stream>> {
        let mut streams = self.streams.borrow_mut();
        streams.retain(|stream| !stream.is_ended());
        streams.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::stream::tests::client;
    use super::*;
    use crate::admin::role::Role;
    use crate::admin::tokens::Holder;

    fn wants() -> Wants {
        Wants::parse(None).expect("everything")
    }

    #[test]
    fn streams_are_bounded_and_one_address_does_not_take_them_all() {
        let (live, now) = (Live::default(), Instant::now());
        let open = |address| live.open(wants(), client(address), now);
        let mut of_one: Vec<_> = (0..STREAMS_MAX_OF_ADDRESS).filter_map(|_| open(1)).collect();
        assert_eq!(of_one.len(), STREAMS_MAX_OF_ADDRESS);
        assert!(open(1).is_none());
        let of_others: Vec<_> = (2..99).filter_map(open).collect();
        assert_eq!(of_one.len() + of_others.len(), STREAMS_MAX);
        of_one.pop();
        assert!(open(1).is_some(), "a place that was given back is free");
    }

    #[test]
    fn who_logs_out_is_told_nothing_any_more_and_others_are() {
        let (live, now) = (Live::default(), Instant::now());
        let of = |name: &str| {
            let holder = Some(Holder { name: name.to_owned(), role: Role::View });
            live.open(wants(), Client { holder, ..client(1) }, now).expect("room")
        };
        let [anna, bob] = [of("anna"), of("bob")];
        live.log_out("anna");
        assert!(anna.0.is_ended() && !bob.0.is_ended());
        assert_eq!(live.present().len(), 1);
    }
}
