//! A connection that counts what goes over it: everything that TCP carries, so TLS and its handshakes, headers and repeats are in it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Where bytes of sockets are counted.
pub trait Counts: fmt::Debug + Send + Sync {
    /// So many more have gone over a socket, in whichever direction.
    fn add(&self, bytes: u64);
}

/// Counts bytes both ways, if anybody wants to know.
#[derive(Debug)]
pub struct CountedStream<S> {
    below: S,
    bytes: Option<Arc<dyn Counts>>,
}

impl<S> CountedStream<S> {
    pub fn new<C: Counts + 'static>(below: S, bytes: Option<Arc<C>>) -> CountedStream<S> {
        CountedStream { below, bytes: bytes.map(|bytes| bytes as Arc<dyn Counts>) }
    }

    /// The same, of a counter whose kind is not known here.
    pub fn counted_by(below: S, bytes: Option<Arc<dyn Counts>>) -> CountedStream<S> {
        CountedStream { below, bytes }
    }

    fn count(&self, bytes: usize) {
        if let Some(counter) = &self.bytes {
            counter.add(bytes as u64);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.below).poll_read(cx, buffer);
        self.count(buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.below).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.count(written);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.below).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(written)) = polled {
            self.count(written);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.below.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.below).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.below).poll_shutdown(cx)
    }
}
