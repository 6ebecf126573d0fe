//! One byte budget for everything that waits for its commit, granted first come, first served.
//!
//! A connection that wants to read waits in line for its turn, reads, and only then charges what the read decoded to. So the budget may go
//! into debt by one read; nothing is reserved for connections that have nothing to say; and a small read waits for at most one read of each
//! connection ahead of it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: i64,
    /// The waiting connections, in order of arrival.
    line: BTreeMap<u64, Waker>,
    last_number: u64,
    charges: u64,
}

impl Budget {
    pub fn new(bytes_max: u32) -> Budget {
        let state = State { free: i64::from(bytes_max), line: BTreeMap::new(), last_number: 0, charges: 0 };
        Budget(Arc::new(Mutex::new(state)))
    }

    /// Takes this many bytes, whether they are free or not.
    pub fn charge(&self, bytes: usize) -> Share {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut state = self.lock();
        state.free = state.free.saturating_sub(bytes);
        state.charges += 1;
        drop(state);
        Share { budget: self.clone(), bytes }
    }

    /// Number of charges so far: if it grows, the line moves.
    pub fn charges(&self) -> u64 {
        self.lock().charges
    }

    /// A place in the line, taken by the first call of [`Place::poll_turn`].
    pub fn place(&self) -> Place {
        Place { budget: self.clone(), number: None }
    }

    pub fn in_line(&self) -> usize {
        self.lock().line.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it is held")
    }

    /// Changes the state, then wakes the first in line if there is room.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let next = state.first_if_room();
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }
}

impl State {
    fn first_if_room(&self) -> Option<Waker> {
        let (_, first) = self.line.first_key_value().filter(|_| self.free > 0)?;
        Some(first.clone())
    }
}

/// Bytes of the budget, given back when this is dropped, on any thread.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: i64,
}

impl Share {
    pub fn bytes(&self) -> u64 {
        self.bytes.unsigned_abs()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.change(|state| state.free = state.free.saturating_add(self.bytes));
    }
}

/// A place in the line. Keep it until what was read in its turn is charged. Dropping it at any time lets the next one have its turn.
#[derive(Debug)]
pub struct Place {
    budget: Budget,
    number: Option<u64>,
}

impl Place {
    /// Ready when this is first in line and there is room.
    pub fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.budget.lock();
        let is_first = match (self.number, state.line.first_key_value()) {
            (None, first) => first.is_none(),
            (Some(number), first) => first.is_some_and(|(first, _)| *first == number),
        };
        if is_first && state.free > 0 {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            state.last_number += 1;
            state.last_number
        });
        match state.line.get_mut(&number) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                state.line.insert(number, context.waker().clone());
            }
        }
        Poll::Pending
    }

    pub async fn turn(&mut self) {
        poll_fn(|context| self.poll_turn(context)).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.budget.change(|state| drop(state.line.remove(&number)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// A connection that wants to publish once.
    struct Waiter {
        place: Option<Place>,
        bytes: usize,
        share: Option<Share>,
        woken: Arc<Woken>,
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(1, Ordering::SeqCst);
        }
    }

    impl Waiter {
        fn new(budget: &Budget, bytes: usize) -> Waiter {
            let woken = Arc::new(Woken(AtomicUsize::new(1)));
            Waiter { place: Some(budget.place()), bytes, share: None, woken }
        }

        /// Polls only if woken, as the runtime does. Returns whether it was polled.
        fn run(&mut self, budget: &Budget) -> bool {
            if self.woken.0.swap(0, Ordering::SeqCst) == 0 {
                return false;
            }
            let waker = Waker::from(Arc::clone(&self.woken));
            let Some(place) = &mut self.place else { return true };
            if place.poll_turn(&mut Context::from_waker(&waker)).is_ready() {
                self.share = Some(budget.charge(self.bytes));
                self.place = None;
            }
            true
        }

        fn is_served(&self) -> bool {
            self.place.is_none()
        }
    }

    /// Runs until nobody is woken any more. Returns the number of polls.
    fn run_all(waiters: &mut [Waiter], budget: &Budget) -> usize {
        let mut polls = 0;
        loop {
            let polled = waiters.iter_mut().map(|waiter| waiter.run(budget)).filter(|was_polled| *was_polled).count();
            polls += polled;
            assert!(polls < 10_000, "they wake each other for ever");
            if polled == 0 {
                return polls;
            }
        }
    }

    fn free(budget: &Budget) -> i64 {
        budget.lock().free
    }

    #[test]
    fn however_many_wait_all_get_through_and_nobody_spins() {
        let budget = Budget::new(1_000);
        let all = budget.charge(1_000);
        let mut waiters: Vec<Waiter> = (0..100).map(|_| Waiter::new(&budget, 400)).collect();
        assert_eq!(run_all(&mut waiters, &budget), 100);
        assert!(!waiters.iter().any(Waiter::is_served));
        drop(all);
        let mut polls = 0;
        while !waiters.iter().all(Waiter::is_served) {
            polls += run_all(&mut waiters, &budget);
            let served = waiters.iter().filter(|waiter| waiter.is_served()).count();
            assert!(waiters[..served].iter().all(Waiter::is_served), "first come, first served");
            assert!(free(&budget) > -400, "in debt by one read at the most");
            // The commit.
            waiters.iter_mut().for_each(|waiter| waiter.share = None);
        }
        assert!(polls <= 300, "{polls} polls for a hundred turns");
        drop(waiters);
        assert_eq!((free(&budget), budget.lock().line.len()), (1_000, 0));
    }

    #[test]
    fn a_small_one_has_its_turn_among_large_ones() {
        let budget = Budget::new(1_000);
        let all = budget.charge(5_000);
        let mut waiters: Vec<Waiter> = (0..20).map(|n| Waiter::new(&budget, if n == 10 { 1 } else { 900 })).collect();
        run_all(&mut waiters, &budget);
        drop(all);
        let mut commits = 0;
        while !waiters[10].is_served() {
            run_all(&mut waiters, &budget);
            waiters.iter_mut().for_each(|waiter| waiter.share = None);
            commits += 1;
        }
        assert!(commits <= 6, "{commits}");
    }

    #[test]
    fn whoever_comes_while_others_wait_waits_behind_them() {
        let budget = Budget::new(100);
        let all = budget.charge(100);
        let mut waiters = vec![Waiter::new(&budget, 100)];
        run_all(&mut waiters, &budget);
        drop(all);
        // There is room, and the first in line has not had its turn yet.
        let mut late = Waiter::new(&budget, 1);
        assert!(late.run(&budget) && !late.is_served());
        run_all(&mut waiters, &budget);
        assert!(waiters[0].is_served());
        waiters.clear();
        assert!(late.run(&budget) && late.is_served());
    }

    #[test]
    fn who_leaves_the_line_passes_the_turn_on() {
        let budget = Budget::new(100);
        let all = budget.charge(100);
        let mut waiters: Vec<Waiter> = (0..3).map(|_| Waiter::new(&budget, 1)).collect();
        run_all(&mut waiters, &budget);
        drop(all);
        // Woken, but gone before its turn.
        waiters.remove(0);
        run_all(&mut waiters, &budget);
        assert!(waiters.iter().all(Waiter::is_served));
    }

    #[test]
    fn other_threads_give_back() {
        let budget = Budget::new(1);
        let share = budget.charge(1);
        let releasing = std::thread::spawn(move || drop(share));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let mut place = budget.place();
            let turn = pin!(place.turn());
            tokio::time::timeout(std::time::Duration::from_secs(30), turn).await.expect("called");
        });
        releasing.join().expect("does not panic");
    }
}
