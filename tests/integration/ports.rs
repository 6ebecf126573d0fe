//! Ports for servers of others that cannot choose one themselves.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below what the kernel hands out for port 0 and for outgoing connections (32768 and up): so nobody
/// else gets the port before the server has it, and who connects too early is not connected to itself.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A port that no other caller in this process gets and that nobody listens on.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side begin at different ports.
    let start = std::process::id().wrapping_mul(97);
    let next = || {
        let taken = u32::from(TAKEN.fetch_add(1, Ordering::Relaxed));
        u16::try_from(FIRST + start.wrapping_add(taken) % COUNT).unwrap()
    };
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    std::iter::repeat_with(next).take(COUNT as usize).find(is_free).expect("a free port below 32768")
}
