//! How much may wait for subscribers, all together, and on which hosts they are.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::{Rc, Weak};

/// The gateway's own messages have this fraction of the pool.
const OWN_PART: usize = 8;
/// Sessions that are away share this fraction of the rest.
const AWAY_PART: usize = 4;

/// All subscribers of one host may take three quarters of any limit.
pub fn host_part(of: usize) -> usize {
    of - of / 4
}

/// Bytes that wait for subscribers, all together.
#[derive(Debug)]
pub struct Pool {
    pub used: Cell<usize>,
    pub away: Cell<usize>,
    pub own: Cell<usize>,
    pub bytes_max: usize,
    pub own_max: usize,
}

impl Pool {
    pub fn new(bytes_max: usize) -> Pool {
        let own_max = bytes_max / OWN_PART;
        let [used, away, own] = [(); 3].map(|()| Cell::new(0));
        Pool { used, away, own, bytes_max: bytes_max - own_max, own_max }
    }

    pub fn free(&self) -> usize {
        self.bytes_max.saturating_sub(self.used.get())
    }

    pub fn away_max(&self) -> usize {
        self.bytes_max / AWAY_PART
    }

    pub fn is_away_full(&self, cost: usize) -> bool {
        self.away.get() + cost > self.away_max()
    }
}

/// The machine that a client runs on, as far as its address tells.
#[derive(Debug, Default)]
pub struct Host {
    pub used: Cell<usize>,
    pub away: Cell<usize>,
    pub filter_levels: Cell<usize>,
    pub shapes: Cell<usize>,
}

/// Hosts of the existing sessions.
#[derive(Debug, Default)]
pub struct Hosts {
    known: HashMap<IpAddr, Weak<Host>>,
    sweep_at: usize,
}

impl Hosts {
    pub fn get(&mut self, address: IpAddr) -> Rc<Host> {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, host| host.strong_count() > 0);
            self.sweep_at = 64 + 2 * self.known.len();
        }
        let known = self.known.entry(host_address(address)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let host = Rc::<Host>::default();
            *known = Rc::downgrade(&host);
            host
        })
    }
}

/// A whole /64 of IPv6 counts as one host.
pub fn host_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_a_network_of_ipv6() {
        let mut hosts = Hosts::default();
        let mut get = |address: &str| hosts.get(address.parse().expect("an address"));
        let first = get("10.0.0.1");
        assert!(Rc::ptr_eq(&first, &get("::ffff:10.0.0.1")) && !Rc::ptr_eq(&first, &get("10.0.0.2")));
        let first = get("fd00::1:0:0:0:1");
        assert!(Rc::ptr_eq(&first, &get("fd00::1:0:0:0:2")) && !Rc::ptr_eq(&first, &get("fd00::2:0:0:0:1")));
        for n in 0..10_000u32 {
            hosts.get(IpAddr::V4(n.into()));
        }
        assert!(hosts.known.len() < 200, "those that are gone are forgotten");
    }
}
