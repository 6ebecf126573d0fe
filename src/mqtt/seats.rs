//! Seats for connections: how many there are, and how many one host may have.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pool::host_address;

/// The same log line is repeated at most this often.
const SAID_EVERY_MS: i64 = 60_000;

pub struct Seats {
    free: Arc<Semaphore>,
    count: usize,
    a_host_max: usize,
    /// The key that says how many there are.
    key: &'static str,
    taken: Rc<RefCell<HashMap<IpAddr, usize>>>,
}

/// Held as long as its connection exists.
pub struct Seat {
    _permit: OwnedSemaphorePermit,
    host: IpAddr,
    taken: Rc<RefCell<HashMap<IpAddr, usize>>>,
}

/// Why there is no free seat.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSeat {
    #[error("all {count} connections are in use, so further clients are turned away ({key})")]
    AllTaken { count: usize, key: &'static str },
    #[error(
        "{host} has {count} connections, so further ones of it are turned away (mqtt.connections_per_address_percent)"
    )]
    HostHasItsShare { host: IpAddr, count: usize },
}

impl NoSeat {
    pub fn host(&self) -> Option<IpAddr> {
        match self {
            NoSeat::AllTaken { .. } => None,
            NoSeat::HostHasItsShare { host, .. } => Some(*host),
        }
    }
}

impl Seats {
    pub fn new(count: usize, a_host_percent: usize) -> Seats {
        let a_host_max = (count * a_host_percent / 100).max(1);
        let free = Arc::new(Semaphore::new(count));
        Seats { free, count, a_host_max, key: "mqtt.connections_max", taken: Rc::default() }
    }

    /// Of one listener, beside those of all: its clients may be of one host.
    pub fn of_listener(count: usize) -> Seats {
        Seats { key: "connections_max of the listener", ..Seats::new(count, 100) }
    }

    pub fn take(&self, peer: IpAddr) -> Result<Seat, NoSeat> {
        let host = host_address(peer);
        let mut taken = self.taken.borrow_mut();
        if taken.get(&host).is_some_and(|count| *count >= self.a_host_max) {
            return Err(NoSeat::HostHasItsShare { host, count: self.a_host_max });
        }
        let permit = Arc::clone(&self.free).try_acquire_owned();
        let permit = permit.map_err(|_| NoSeat::AllTaken { count: self.count, key: self.key })?;
        *taken.entry(host).or_default() += 1;
        Ok(Seat { _permit: permit, host, taken: Rc::clone(&self.taken) })
    }

    /// Waits until every connection has ended.
    pub async fn all_free(&self) {
        let all = u32::try_from(self.count).unwrap_or(u32::MAX);
        let _ = self.free.acquire_many(all).await;
    }
}

impl Seat {
    pub fn host(&self) -> IpAddr {
        self.host
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.taken.borrow_mut();
        if let Some(count) = taken.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.host);
            }
        }
    }
}

/// Whether a state was logged that may change a thousand times a second.
#[derive(Debug, Default)]
pub struct Told {
    is_on: bool,
    said_ms: Option<i64>,
}

impl Told {
    /// Whether to log now that the state has begun.
    pub fn turn_on(&mut self, now_ms: i64) -> bool {
        let is_news = !self.is_on && self.said_ms.is_none_or(|said| (now_ms - said).abs() >= SAID_EVERY_MS);
        if is_news {
            (self.is_on, self.said_ms) = (true, Some(now_ms));
        }
        is_news
    }

    /// Whether to log now that the state is over.
    pub fn turn_off(&mut self) -> bool {
        std::mem::take(&mut self.is_on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_leaves_seats_to_others() {
        let seats = Seats::new(4, 75);
        let take = |host: &str| seats.take(host.parse().expect("an address"));
        let mut held: Vec<Seat> = (0..3).map(|_| take("10.0.0.1").expect("a seat")).collect();
        let host = "10.0.0.1".parse().expect("an address");
        assert_eq!(take("10.0.0.1").err(), Some(NoSeat::HostHasItsShare { host, count: 3 }));
        held.push(take("10.0.0.2").expect("a seat"));
        assert_eq!(take("10.0.0.3").err(), Some(NoSeat::AllTaken { count: 4, key: "mqtt.connections_max" }));
        held.clear();
        assert!(take("10.0.0.1").is_ok());
        assert!(seats.taken.borrow().is_empty(), "who is gone costs nothing");
    }

    #[test]
    fn a_network_of_ipv6_is_one_host_and_ipv4_stays_itself_within_ipv6() {
        let host = |text: &str| host_address(text.parse().expect("an address")).to_string();
        assert_eq!([host("2001:db8:1:2:3::4"), host("2001:db8:1:2:ffff::1")], ["2001:db8:1:2::", "2001:db8:1:2::"]);
        assert_eq!([host("::ffff:10.0.0.1"), host("10.0.0.1")], ["10.0.0.1", "10.0.0.1"]);
    }

    #[test]
    fn what_comes_and_goes_is_said_once_a_minute() {
        let mut told = Told::default();
        assert!(told.turn_on(5) && !told.turn_on(6) && told.turn_off() && !told.turn_off());
        assert!(!told.turn_on(60_004) && !told.turn_off() && told.turn_on(60_005));
    }
}
