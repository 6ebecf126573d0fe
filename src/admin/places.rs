//! Limits the connections served at one time: a new one always gets a place, taken from one that only occupies it.
//!
//! A connection is one request and its response, so none may stay idle. When all places are taken, the one to go is one that has sent no
//! request, of the address with the most places, and the oldest of these; if there is none, one whose response is read slowly. Who is told of
//! events keeps the place until the end.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Younger connections have had no time to send a request.
const GRACE: Duration = Duration::from_secs(1);
/// In this time a connection whose stream has ended sends what is left; a client that reads nothing would hold it for ever.
const LEAVING_TIME_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct Places {
    max: usize,
    taken: RefCell<Vec<Rc<Place>>>,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    places: Rc<Places>,
    place: Rc<Place>,
}

#[derive(Debug)]
pub struct Place {
    address: IpAddr,
    since: Instant,
    has_asked: Cell<bool>,
    is_stream: Cell<bool>,
    leave: Notify,
    stream_ended: Notify,
}

impl Place {
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// It is told of events no longer, and ends soon.
    pub fn end_stream(&self) {
        self.is_stream.set(false);
        self.stream_ended.notify_one();
    }
}

impl Places {
    pub fn new(max: usize) -> Rc<Places> {
        Rc::new(Places { max, taken: RefCell::default() })
    }

    pub fn take(self: &Rc<Places>, address: IpAddr, now: Instant) -> Taken {
        if self.taken.borrow().len() >= self.max {
            self.clear_one(now);
        }
        let place = Rc::new(Place {
            address,
            since: now,
            has_asked: Cell::new(false),
            is_stream: Cell::new(false),
            leave: Notify::new(),
            stream_ended: Notify::new(),
        });
        self.taken.borrow_mut().push(Rc::clone(&place));
        Taken { places: Rc::clone(self), place }
    }

    fn clear_one(&self, now: Instant) {
        let mut taken = self.taken.borrow_mut();
        let places_of = |address: IpAddr| taken.iter().filter(|place| place.address == address).count();
        let rank = |place: &Rc<Place>| {
            let is_young = now.duration_since(place.since) < GRACE;
            (is_young, place.has_asked.get(), place.is_stream.get(), usize::MAX - places_of(place.address), place.since)
        };
        let Some(at) = (0..taken.len()).min_by_key(|&at| rank(&taken[at])) else { return };
        taken.remove(at).leave.notify_one();
    }
}

impl Taken {
    pub fn note_question(&self) {
        self.place.has_asked.set(true);
    }

    /// It is told of events for as long as it likes; there is a limit to such connections of its own.
    pub fn note_stream(&self) {
        self.place.is_stream.set(true);
    }

    pub fn is_stream(&self) -> bool {
        self.place.is_stream.get()
    }

    pub fn place(&self) -> Rc<Place> {
        Rc::clone(&self.place)
    }

    /// Ready when the place is given to another connection, or is to be left soon after a stream.
    pub async fn given_away(&self) {
        let after_stream = async {
            self.place.stream_ended.notified().await;
            tokio::time::sleep(LEAVING_TIME_MAX).await;
        };
        tokio::select! {
            () = self.place.leave.notified() => {}
            () = after_stream => {}
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.places.taken.borrow_mut().retain(|place| !Rc::ptr_eq(place, &self.place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn is_cleared(taken: &Taken) -> bool {
        !taken.places.taken.borrow().iter().any(|place| Rc::ptr_eq(place, &taken.place))
    }

    #[test]
    fn who_asks_nothing_gives_way_first_the_address_with_most_places_before_others() {
        let (places, start) = (Places::new(4), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let other = places.take(OTHER, at(0));
        let asking = places.take(BUSY, at(1));
        asking.note_question();
        let silent = [places.take(BUSY, at(2)), places.take(BUSY, at(3))];
        let fifth = places.take(OTHER, at(10));
        assert!(is_cleared(&silent[0]) && !is_cleared(&silent[1]), "the oldest of the address that has the most");
        let sixth = places.take(OTHER, at(20));
        assert!(!is_cleared(&asking) && !is_cleared(&sixth), "who has asked stays as long as others ask nothing");
        let last = [places.take(BUSY, at(30)), places.take(BUSY, at(40))];
        assert!(is_cleared(&other) && is_cleared(&silent[1]) && !is_cleared(&last[1]));
        drop((fifth, sixth, last));
        assert_eq!(places.taken.borrow().len(), 1);
        (0..9).for_each(|_| drop(places.take(BUSY, at(50))));
        assert!(!is_cleared(&asking), "places that were given back are free");
    }
}
