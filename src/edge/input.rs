//! From the socket to whole packets. All connections read into one buffer, and a connection keeps only the packet that has not come
//! whole: thousands that send a byte each cost a byte each.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::ReadHalf;
use tokio::time::Instant;

use crate::handoff::{Input as PipelineInput, PipelineHandle, Place};

/// One read of a socket.
const READ_BYTES: usize = 64 * 1024;
/// An incomplete packet of this size costs nothing but itself; beyond, it takes a share of what all may keep.
const KEPT_BYTES_FREE: usize = 4 * 1024;

/// What all connections share for reading.
pub struct ReadBuffer {
    bytes: RefCell<Box<[u8]>>,
    /// Bytes of large packets that have not come whole.
    kept: Cell<usize>,
    kept_max: usize,
}

impl ReadBuffer {
    pub fn new(kept_max: usize) -> ReadBuffer {
        ReadBuffer { bytes: RefCell::new(vec![0; READ_BYTES].into()), kept: Cell::new(0), kept_max }
    }
}

/// The connection is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost;

/// Too much of large packets is kept already.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoom;

/// One connection's input.
pub struct Input {
    shared: Rc<ReadBuffer>,
    /// The beginning of a packet.
    kept: Vec<u8>,
    /// Its share of [`ReadBuffer::kept`].
    charged: usize,
    /// Since when the packet that is kept is a large one.
    large_since: Option<Instant>,
    /// In the line for the pipeline's budget, while there is something to read.
    place: Option<Place>,
    /// What is kept was not looked at yet: it came right behind the CONNECT.
    has_more: bool,
}

impl Input {
    pub fn new(shared: Rc<ReadBuffer>, kept: Vec<u8>) -> Input {
        let has_more = !kept.is_empty();
        Input { shared, kept, charged: 0, large_since: None, place: None, has_more }
    }

    /// Whether there is something to read and others have their turn before.
    pub fn is_in_line(&self) -> bool {
        self.place.is_some()
    }

    /// To be called before anything else is waited for: a place in line that nobody looks after would hold up all behind it.
    pub fn leave_line(&mut self) {
        self.place = None;
    }

    /// We did not listen, so a packet that has not come whole is not late.
    pub fn excuse(&mut self, now: Instant) {
        if self.large_since.is_some() {
            self.large_since = Some(now);
        }
    }

    pub fn large_since(&self) -> Option<Instant> {
        self.large_since
    }

    /// Reads once, when there is something to read and it is this connection's turn. What came has to be handled, with [`Self::handle`],
    /// before anything else is awaited: it lies in the buffer that all share.
    pub async fn read<T: From<PipelineInput>>(
        &mut self,
        reader: &mut ReadHalf<'_>,
        pipeline: &PipelineHandle<T>,
    ) -> Result<Arrived, Lost> {
        poll_fn(|context| self.poll_read(context, reader, pipeline)).await
    }

    fn poll_read<T: From<PipelineInput>>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut ReadHalf<'_>,
        pipeline: &PipelineHandle<T>,
    ) -> Poll<Result<Arrived, Lost>> {
        if !self.has_more && reader.as_ref().poll_read_ready(context).is_pending() {
            self.leave_line();
            return Poll::Pending;
        }
        ready!(self.place.get_or_insert_with(|| pipeline.place()).poll_turn(context));
        let turn = self.place.take();
        if std::mem::take(&mut self.has_more) {
            return Poll::Ready(Ok(Arrived { bytes: 0, before: 0, _turn: turn }));
        }
        let mut shared = self.shared.bytes.borrow_mut();
        // A large packet grows by itself; the beginning of a small one is put before what comes.
        let before = if self.kept.len() > READ_BYTES / 2 { 0 } else { self.kept.len() };
        let mut buffer = ReadBuf::new(&mut shared[before..]);
        ready!(Pin::new(reader).poll_read(context, &mut buffer)).map_err(|_| Lost)?;
        match buffer.filled().len() {
            0 => Poll::Ready(Err(Lost)),
            bytes => Poll::Ready(Ok(Arrived { bytes, before, _turn: turn })),
        }
    }

    /// Lets `take` have all that is there; it says how much of it were whole packets, and the rest is kept.
    pub fn handle<R>(&mut self, arrived: Arrived, take: impl FnOnce(&[u8]) -> (usize, R)) -> (Result<(), NoRoom>, R) {
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
        let (used, result) = take(all);
        self.kept.clear();
        self.kept.extend_from_slice(&all[used..]);
        (self.account(), result)
    }

    /// The same with what is kept and nothing new.
    fn handle_kept<R>(&mut self, take: impl FnOnce(&[u8]) -> (usize, R)) -> (Result<(), NoRoom>, R) {
        let (used, result) = take(&self.kept);
        self.kept.drain(..used);
        (self.account(), result)
    }

    /// A large packet may take half of what is free: so many of them leave something to the next.
    fn account(&mut self) -> Result<(), NoRoom> {
        let len = self.kept.len();
        let charge = if len > KEPT_BYTES_FREE { len } else { 0 };
        if charge == 0 && self.kept.capacity() > KEPT_BYTES_FREE {
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
    }
}

/// What a read gave; nothing new where only what is kept has to be looked at.
#[derive(Debug)]
pub struct Arrived {
    pub bytes: usize,
    /// What is kept belongs before it, when it is small enough.
    before: usize,
    /// The others' turn comes when this is handled, and charged.
    _turn: Option<Place>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep_all(input: &mut Input, bytes: &[u8]) -> Result<(), NoRoom> {
        input.kept.extend_from_slice(bytes);
        input.handle_kept(|_| (0, ())).0
    }

    #[test]
    fn large_packets_share_what_there_is_and_small_ones_are_free() {
        let shared = Rc::new(ReadBuffer::new(100_000));
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
        assert_eq!(first.handle_kept(|all| (all.len() - 1, ())).0, Ok(()));
        assert_eq!((first.kept.len(), first.large_since(), shared.kept.get()), (1, None, 25_000));
        drop(third);
        assert_eq!(shared.kept.get(), 0);
    }
}
