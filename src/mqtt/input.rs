//! From the socket to complete packets. All connections read into one shared buffer, and a connection keeps only an incomplete packet:
//! thousands of clients that send one byte each cost one byte each.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::lane::{Allowance, Lane, Turn};
use super::transport::Transport;
use crate::handoff::{Input as PipelineInput, PipelineHandle, Place};

/// Most bytes of one socket read.
const READ_BYTES: usize = 64 * 1024;
/// If more connections than this wait for the budget, each reads less, so that a full round through the line stays bounded.
const WHOLE_READS_IN_LINE: usize = 8;
/// An incomplete packet up to this size is not limited; a larger one takes a share of what all connections may keep.
const KEPT_BYTES_FREE: usize = 4 * 1024;
/// Most bytes that all connections may have read and not handled; as it fills, each reads less at a time.
const RESTS_BYTES_MAX: usize = 4 << 20;
/// One connection may take this fraction of what is free.
const RESTS_SHARE: usize = RESTS_BYTES_MAX / READ_BYTES;
const READ_BYTES_MIN: usize = 2 * 1024;

/// What all connections share for reading.
pub struct ReadBuffer {
    bytes: RefCell<Box<[u8]>>,
    /// Bytes of incomplete large packets.
    kept: Cell<usize>,
    kept_max: usize,
    /// Bytes of complete packets that wait for their connection's turn.
    rests: Cell<usize>,
    lane: Lane,
}

impl ReadBuffer {
    pub fn new(kept_max: usize, lane: Lane) -> ReadBuffer {
        ReadBuffer {
            bytes: RefCell::new(vec![0; READ_BYTES].into()),
            kept: Cell::new(0),
            kept_max,
            rests: Cell::new(0),
            lane,
        }
    }

    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    fn read_bytes_max(&self) -> usize {
        (RESTS_BYTES_MAX.saturating_sub(self.rests.get()) / RESTS_SHARE).max(READ_BYTES_MIN)
    }
}

/// How much a connection may read in its turn if this many wait for the budget: a device with little to say waits for one turn of each.
fn fair_read_bytes(in_line: usize) -> usize {
    (READ_BYTES * WHOLE_READS_IN_LINE / in_line.max(WHOLE_READS_IN_LINE)).max(READ_BYTES_MIN)
}

/// The connection is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost;

/// Large packets already take too much memory.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoom;

/// One connection's input.
pub struct Input {
    shared: Rc<ReadBuffer>,
    /// Complete packets that wait for their turn, then the beginning of an incomplete one.
    kept: Vec<u8>,
    /// Its share of [`ReadBuffer::rests`].
    rest: usize,
    pub turn: Turn,
    /// Its share of [`ReadBuffer::kept`].
    charged: usize,
    /// When the incomplete packet in `kept` became a large one.
    large_since: Option<Instant>,
    /// Its place in the line for the pipeline's budget, while there is something to read.
    place: Option<Place>,
    /// `kept` holds bytes not looked at yet, which came right behind the CONNECT.
    has_more: bool,
}

impl Input {
    pub fn new(shared: Rc<ReadBuffer>, kept: Vec<u8>) -> Input {
        let has_more = !kept.is_empty();
        let turn = Turn::new(&shared.lane);
        Input { shared, kept, rest: 0, turn, charged: 0, large_since: None, place: None, has_more }
    }

    /// Whether there is something to read but others have their turn first.
    pub fn is_in_line(&self) -> bool {
        self.place.is_some() || self.has_rest()
    }

    /// Call this before waiting for anything else: an unattended place in line would block everybody behind it.
    pub fn leave_line(&mut self) {
        self.place = None;
    }

    /// The socket was not being read, so an incomplete packet is not late.
    pub fn excuse(&mut self, now: Instant) {
        if self.large_since.is_some() {
            self.large_since = Some(now);
        }
    }

    /// Whether complete packets wait for their turn.
    pub fn has_rest(&self) -> bool {
        self.rest > 0
    }

    pub fn large_since(&self) -> Option<Instant> {
        self.large_since
    }

    /// Reads once, when there is input and it is this connection's turn; or waits until it may continue with earlier input. The result must
    /// be handled, with [`Self::handle`], before anything else is awaited: it is in the shared buffer.
    pub async fn read<T: From<PipelineInput>>(
        &mut self,
        transport: &RefCell<Transport>,
        pipeline: &PipelineHandle<T>,
    ) -> Result<Arrived, Lost> {
        poll_fn(|context| self.poll_read(context, &mut transport.borrow_mut(), pipeline)).await
    }

    fn poll_read<T: From<PipelineInput>>(
        &mut self,
        context: &mut Context<'_>,
        transport: &mut Transport,
        pipeline: &PipelineHandle<T>,
    ) -> Poll<Result<Arrived, Lost>> {
        let has_some = self.has_more || self.has_rest();
        if !has_some && transport.poll_readable(context).is_pending() {
            self.leave_line();
            return Poll::Pending;
        }
        // Everybody waits for the lane first, then for the budget. A connection that waited for the lane while holding the first place in
        // the budget's line could block the one that has the lane.
        if self.has_rest() && self.turn.poll_wait(context).is_pending() {
            self.leave_line();
            return Poll::Pending;
        }
        ready!(self.place.get_or_insert_with(|| pipeline.place()).poll_turn(context));
        let turn = self.place.take();
        self.has_more = false;
        if has_some {
            return Poll::Ready(Ok(Arrived { bytes: 0, before: 0, _turn: turn }));
        }
        let bytes_max = self.shared.read_bytes_max().min(fair_read_bytes(pipeline.in_line()));
        let mut shared = self.shared.bytes.borrow_mut();
        // A large packet is extended in `kept`; the beginning of a small one is copied in front of the new bytes.
        let before = if self.kept.len() > READ_BYTES / 2 { 0 } else { self.kept.len() };
        let end = shared.len().min(before + bytes_max);
        let mut buffer = ReadBuf::new(&mut shared[before..end]);
        ready!(transport.poll_read(context, &mut buffer)).map_err(|_| Lost)?;
        match buffer.filled().len() {
            0 => Poll::Ready(Err(Lost)),
            bytes => Poll::Ready(Ok(Arrived { bytes, before, _turn: turn })),
        }
    }

    /// Passes all input to `take`, and keeps what it leaves.
    pub fn handle<R>(
        &mut self,
        arrived: Arrived,
        take: impl FnOnce(&[u8], &mut Allowance) -> Taken<R>,
    ) -> (Result<(), NoRoom>, R) {
        let Arrived { bytes, before, _turn } = arrived;
        if bytes == 0 {
            return self.handle_kept(take);
        }
        let shared = Rc::clone(&self.shared);
        let mut shared_bytes = shared.bytes.borrow_mut();
        if before < self.kept.len() {
            self.kept.extend_from_slice(&shared_bytes[..bytes]);
            drop(shared_bytes);
            return self.handle_kept(take);
        }
        shared_bytes[..before].copy_from_slice(&self.kept);
        let all = &shared_bytes[..before + bytes];
        let mut allowance = self.turn.allowance();
        let Taken { used, has_rest, result } = take(all, &mut allowance);
        self.kept.clear();
        self.kept.extend_from_slice(&all[used..]);
        (self.account(&allowance, has_rest), result)
    }

    /// The same with what is kept and nothing new.
    fn handle_kept<R>(&mut self, take: impl FnOnce(&[u8], &mut Allowance) -> Taken<R>) -> (Result<(), NoRoom>, R) {
        let mut allowance = self.turn.allowance();
        let Taken { used, has_rest, result } = take(&self.kept, &mut allowance);
        self.kept.drain(..used);
        (self.account(&allowance, has_rest), result)
    }

    /// A large packet may take half of what is free, which leaves something for the next one.
    fn account(&mut self, allowance: &Allowance, has_rest: bool) -> Result<(), NoRoom> {
        self.turn.note(allowance, !has_rest);
        let len = self.kept.len();
        let rest = if has_rest { len } else { 0 };
        self.shared.rests.set(self.shared.rests.get() - self.rest + rest);
        self.rest = rest;
        let charge = if len > KEPT_BYTES_FREE && !has_rest { len } else { 0 };
        if charge == 0 && !has_rest && self.kept.capacity() > KEPT_BYTES_FREE {
            self.kept.shrink_to(KEPT_BYTES_FREE);
        }
        let others = self.shared.kept.get() - self.charged;
        if charge > self.shared.kept_max.saturating_sub(others) / 2 {
            return Err(NoRoom);
        }
        self.shared.kept.set(others + charge);
        self.charged = charge;
        self.large_since = (charge > 0).then(|| self.large_since.unwrap_or_else(Instant::now));
        Ok(())
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.shared.kept.set(self.shared.kept.get() - self.charged);
        self.shared.rests.set(self.shared.rests.get() - self.rest);
    }
}

/// What was consumed of the input.
pub struct Taken<R> {
    /// Bytes of the packets that were handled.
    pub used: usize,
    /// Whether more complete packets remain.
    pub has_rest: bool,
    pub result: R,
}

/// The result of a read.
#[derive(Debug)]
pub struct Arrived {
    pub bytes: usize,
    /// Bytes of `kept` that belong in front of it, if they are few.
    before: usize,
    /// Held until this is handled and charged, which gives the next connection its turn.
    _turn: Option<Place>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep_all(input: &mut Input, bytes: &[u8]) -> Result<(), NoRoom> {
        input.kept.extend_from_slice(bytes);
        input.handle_kept(|_, _| Taken { used: 0, has_rest: false, result: () }).0
    }

    #[test]
    fn large_packets_share_what_there_is_and_small_ones_are_free() {
        let shared = Rc::new(ReadBuffer::new(100_000, Lane::new(true)));
        let input = || Input::new(Rc::clone(&shared), Vec::new());
        let mut small: Vec<Input> = (0..100).map(|_| input()).collect();
        assert!(small.iter_mut().all(|input| keep_all(input, &[0; KEPT_BYTES_FREE]) == Ok(())));
        let mut first = input();
        assert_eq!((keep_all(&mut first, &[0; 50_000]), first.large_since().is_some()), (Ok(()), true));
        let mut second = input();
        assert_eq!(keep_all(&mut second, &[0; 26_000]), Err(NoRoom));
        let mut third = input();
        assert_eq!(keep_all(&mut third, &[0; 25_000]), Ok(()));
        drop(second);
        assert_eq!(first.handle_kept(|all, _| Taken { used: all.len() - 1, has_rest: false, result: () }).0, Ok(()));
        assert_eq!((first.kept.len(), first.large_since(), shared.kept.get()), (1, None, 25_000));
        drop(third);
        assert_eq!(shared.kept.get(), 0);
    }

    #[test]
    fn the_more_wait_for_the_budget_the_less_each_reads_in_its_turn() {
        assert_eq!((fair_read_bytes(0), fair_read_bytes(8)), (READ_BYTES, READ_BYTES));
        for in_line in [9, 100, 255] {
            let once_through = in_line * fair_read_bytes(in_line);
            assert!(once_through <= WHOLE_READS_IN_LINE * READ_BYTES, "{in_line}: {once_through}");
        }
        assert_eq!(fair_read_bytes(4096), READ_BYTES_MIN, "each turn does something");
    }

    #[test]
    fn whole_packets_that_wait_are_no_large_packet_and_less_is_read_as_they_add_up() {
        let shared = Rc::new(ReadBuffer::new(1000, Lane::new(true)));
        let mut inputs = Vec::new();
        for _ in 0..4096 {
            let mut input = Input::new(Rc::clone(&shared), vec![0; shared.read_bytes_max()]);
            let left = input.handle_kept(|_, _| Taken { used: 0, has_rest: true, result: () }).0;
            assert_eq!((left, input.has_rest(), input.large_since()), (Ok(()), true, None));
            inputs.push(input);
        }
        assert!(shared.rests.get() < RESTS_BYTES_MAX + 4096 * READ_BYTES_MIN, "{}", shared.rests.get());
        inputs[0].handle_kept(|all, _| Taken { used: all.len(), has_rest: false, result: () }).0.expect("room");
        assert!(!inputs[0].has_rest());
        inputs.clear();
        assert_eq!((shared.rests.get(), shared.read_bytes_max()), (0, READ_BYTES));
    }
}
