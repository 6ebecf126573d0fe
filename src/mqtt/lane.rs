//! Where connections with much work wait for each other. Each does a little at a time, and the sockets are polled between two of them, so
//! that a connection with little work waits for one turn of theirs and not for all.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a connection may work without a turn.
const FREE_TURN: Duration = Duration::from_micros(100);
/// How long it may work in its turn.
const LANE_TURN: Duration = Duration::from_millis(1);
/// The first packet of a read is handled without a turn up to this size, even if it takes longer.
const FREE_PACKET_BYTES_MAX: usize = 4 * 1024;
/// After this many light reads, a connection that had much work may again work without a turn.
const LIGHT_TURNS: u32 = 8;
/// For packets of up to the size below, the clock is read only once for this many.
const PACKETS_A_LOOK: u32 = 8;
const SMALL_PACKET_BYTES: usize = 256;

/// First come, first served. Cheap to clone.
#[derive(Clone)]
pub struct Lane {
    turn: Arc<Semaphore>,
    free_turn: Duration,
}

impl Lane {
    /// Without turns, every connection may do everything at once.
    pub fn new(takes_turns: bool) -> Lane {
        Lane { turn: Arc::new(Semaphore::new(1)), free_turn: if takes_turns { FREE_TURN } else { Duration::MAX } }
    }
}

type Waiting = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>>>>;

/// A connection's turn in the lane.
pub struct Turn {
    lane: Lane,
    waiting: Option<Waiting>,
    permit: Option<OwnedSemaphorePermit>,
    is_used: bool,
    /// Reads left until it may work without a turn again.
    heavy: u32,
}

/// How much may be done now.
pub struct Allowance {
    started: Instant,
    time: Duration,
    has_turn: bool,
    packets: u32,
}

impl Turn {
    pub fn new(lane: &Lane) -> Turn {
        Turn { lane: lane.clone(), waiting: None, permit: None, is_used: false, heavy: 0 }
    }

    /// Waits in line.
    pub fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.permit.is_none() {
            let lane = &self.lane;
            let waiting = self.waiting.get_or_insert_with(|| {
                let lane = Arc::clone(&lane.turn);
                Box::pin(async move { lane.acquire_owned().await.ok() })
            });
            self.permit = ready!(waiting.as_mut().poll(context));
            self.waiting = None;
        }
        Poll::Ready(())
    }

    /// Lets the next connection have its turn, if this one is used or no longer wanted. The sockets are polled first: somebody with little
    /// work may have become ready.
    pub async fn pass_on(&mut self, is_wanted: bool) {
        if self.is_used {
            tokio::task::yield_now().await;
        }
        if self.is_used || !is_wanted {
            (self.permit, self.waiting, self.is_used) = (None, None, false);
        }
    }

    pub fn allowance(&mut self) -> Allowance {
        self.is_used |= self.permit.is_some();
        let time = match (self.permit.is_some(), self.heavy) {
            (true, _) => LANE_TURN,
            (false, 0) => self.lane.free_turn,
            (false, _) => Duration::ZERO,
        };
        Allowance { started: Instant::now(), time, has_turn: self.permit.is_some(), packets: 0 }
    }

    /// Records whether all the work was done, or took longer than allowed.
    pub fn note(&mut self, allowance: &Allowance, is_done: bool) {
        if allowance.is_nothing() {
            return;
        }
        if !is_done || allowance.has_turn && allowance.started.elapsed() > FREE_TURN {
            self.heavy = LIGHT_TURNS;
        } else {
            self.heavy = self.heavy.saturating_sub(1);
        }
    }
}

impl Allowance {
    pub fn is_nothing(&self) -> bool {
        self.time.is_zero()
    }

    /// Whether a packet of this size may be handled now.
    pub fn permits(&mut self, bytes: usize) -> bool {
        let is_large = bytes > FREE_PACKET_BYTES_MAX;
        if self.is_nothing() || is_large && !self.has_turn && self.time <= FREE_TURN {
            return false;
        }
        self.packets += 1;
        // The clock is read only now and then, because small packets cost little.
        let is_free = self.packets == 1 || bytes <= SMALL_PACKET_BYTES && !self.packets.is_multiple_of(PACKETS_A_LOOK);
        is_free || self.started.elapsed() < self.time
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn who_has_much_to_do_waits_for_the_others_and_who_has_little_does_not() {
        let lane = Lane::new(true);
        let (mut first, mut second) = (Turn::new(&lane), Turn::new(&lane));
        assert!(first.allowance().permits(100), "of its own accord");
        assert!(!first.allowance().permits(FREE_PACKET_BYTES_MAX + 1), "what is large has to wait");
        let spent = |turn: &mut Turn| {
            let mut allowance = turn.allowance();
            allowance.started -= LANE_TURN;
            assert!(allowance.permits(1 << 20) || !allowance.has_turn, "each turn does something");
            while allowance.permits(100) {}
            turn.note(&allowance, false);
        };
        for turn in [&mut first, &mut second] {
            spent(turn);
            assert!(!turn.allowance().permits(1), "it had its share");
        }
        poll_fn(|context| first.poll_wait(context)).await;
        spent(&mut first);
        let mut waits = Box::pin(poll_fn(|context| second.poll_wait(context)));
        assert!(poll_fn(|context| Poll::Ready(waits.as_mut().poll(context).is_pending())).await);
        first.pass_on(true).await;
        waits.await;
        // A turn that is no longer wanted blocks nobody.
        second.pass_on(true).await;
        let mut waits = Box::pin(poll_fn(|context| first.poll_wait(context)));
        assert!(poll_fn(|context| Poll::Ready(waits.as_mut().poll(context).is_pending())).await);
        second.pass_on(false).await;
        waits.await;
        for _ in 0..LIGHT_TURNS {
            let mut allowance = first.allowance();
            allowance.started = Instant::now() + LANE_TURN;
            assert!(allowance.permits(1));
            first.note(&allowance, true);
        }
        first.pass_on(false).await;
        assert!(first.allowance().permits(1), "it is as free as any other");
    }
}
