//! The bytes of one connection: over TCP, within TLS or not, and within WebSocket or not.
//!
//! What is accepted for writing may be kept here until the socket takes it: one record of TLS, and one frame of WebSocket.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::core::mqtt::websocket::frames::{self, Frames};

/// Most bytes of one frame that is sent.
const FRAME_BYTES_MAX: usize = 16 * 1024;

/// The code of a connection that ends as intended.
const CLOSE_NORMAL: u16 = 1000;

pub(super) struct Transport {
    socket: Socket,
    websocket: Option<Box<WebSocket>>,
}

/// What carries the bytes.
pub(super) enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

#[derive(Default)]
struct WebSocket {
    frames: Frames,
    /// Answers to control frames.
    replies: Vec<u8>,
    /// Whole frames that are on their way to the socket.
    sent: Vec<u8>,
    written: usize,
    is_close_sent: bool,
}

impl Transport {
    pub fn new(socket: Socket) -> Transport {
        Transport { socket, websocket: None }
    }

    /// From here on there are frames of WebSocket.
    pub fn framed(self) -> Transport {
        Transport { websocket: Some(Box::default()), ..self }
    }

    pub fn tcp(&self) -> &TcpStream {
        match &self.socket {
            Socket::Tcp(stream) => stream,
            Socket::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Those that the client has shown.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        match &self.socket {
            Socket::Tcp(_) => &[],
            Socket::Tls(stream) => stream.get_ref().1.peer_certificates().unwrap_or_default(),
        }
    }

    /// Ready when a read may bring something, without memory to read into.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        let is_decrypted = matches!(&self.socket, Socket::Tls(stream) if !stream.get_ref().1.wants_read());
        if is_decrypted || self.is_closed() {
            return Poll::Ready(());
        }
        self.tcp().poll_read_ready(context).map(|_| ())
    }

    /// No bytes are the end of the connection.
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_closed() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(self.socket.poll_read(context, buffer))?;
        let Some(websocket) = &mut self.websocket else { return Poll::Ready(Ok(())) };
        let arrived = &mut buffer.filled_mut()[before..];
        if arrived.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let bytes = websocket.take(arrived);
        buffer.set_filled(before + bytes);
        if let Poll::Ready(Err(error)) = websocket.poll_send(&mut self.socket, context) {
            return Poll::Ready(Err(error));
        }
        if bytes == 0 && !self.is_closed() {
            // Frames without a payload: others have their turn before more of them are looked at.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// The other side has said that nothing more comes, or what comes is wrong.
    fn is_closed(&self) -> bool {
        self.websocket.as_ref().is_some_and(|websocket| websocket.frames.is_closed())
    }

    /// Whether something that was accepted for writing has not reached the socket.
    pub fn has_unsent(&self) -> bool {
        let is_framed = self.websocket.as_ref().is_some_and(|websocket| websocket.has_unsent());
        is_framed || matches!(&self.socket, Socket::Tls(stream) if stream.get_ref().1.wants_write())
    }

    /// Accepts some of the bytes for writing. Without any, sends what was accepted before, and is ready when all of it has reached the socket.
    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Transport { socket, websocket } = self;
        let Some(websocket) = websocket else {
            return match bytes {
                [] => socket.poll_flush(context).map_ok(|()| 0),
                bytes => socket.poll_write(context, bytes),
            };
        };
        ready!(websocket.poll_send(socket, context))?;
        if bytes.is_empty() {
            return socket.poll_flush(context).map_ok(|()| 0);
        }
        let taken = &bytes[..bytes.len().min(FRAME_BYTES_MAX)];
        frames::header(taken.len(), &mut websocket.sent);
        websocket.sent.extend_from_slice(taken);
        match websocket.poll_send(socket, context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is left of the frame is sent later.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(taken.len())),
        }
    }

    /// The same without waiting: `WouldBlock` if nothing is accepted now.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Tells the other side that nothing more comes, after what was accepted for writing.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Transport { socket, websocket } = self;
        if let Some(websocket) = websocket {
            websocket.close();
            ready!(websocket.poll_send(socket, context))?;
        }
        socket.poll_shutdown(context)
    }

    /// The same as far as it is possible without waiting.
    pub fn try_shutdown(&mut self) {
        let _ = self.poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }
}

impl WebSocket {
    /// Takes the payload out of frames, in place. Returns how much of it there is.
    fn take(&mut self, bytes: &mut [u8]) -> usize {
        self.frames.take(bytes, &mut self.replies).unwrap_or_else(|error| {
            tracing::debug!("a frame of WebSocket is wrong: {error}");
            error.close_frame(&mut self.replies);
            self.is_close_sent = true;
            0
        })
    }

    /// Says goodbye once.
    fn close(&mut self) {
        if !self.frames.is_closed() && !std::mem::replace(&mut self.is_close_sent, true) {
            frames::close(CLOSE_NORMAL, &mut self.replies);
        }
    }

    fn has_unsent(&self) -> bool {
        !self.sent.is_empty() || !self.replies.is_empty()
    }

    /// Sends all frames.
    fn poll_send(&mut self, socket: &mut Socket, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while self.written < self.sent.len() {
                let count = ready!(socket.poll_write(context, &self.sent[self.written..]))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += count;
            }
            self.sent.clear();
            self.sent.shrink_to(FRAME_BYTES_MAX);
            self.written = 0;
            if self.replies.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // Only now: of a client that does not read, no more answers are kept than `Frames` allows.
            std::mem::swap(&mut self.sent, &mut self.replies);
        }
    }
}

impl Socket {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Writes some of it; with nothing to write, what the transport has not sent yet.
pub(super) async fn write(transport: &RefCell<Transport>, bytes: &[u8]) -> io::Result<usize> {
    let count = poll_fn(|context| transport.borrow_mut().poll_write(context, bytes)).await?;
    match count == 0 && !bytes.is_empty() {
        true => Err(io::ErrorKind::WriteZero.into()),
        false => Ok(count),
    }
}

/// Writes it, and sends it.
pub(super) async fn write_all(transport: &RefCell<Transport>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() || transport.borrow().has_unsent() {
        bytes = &bytes[write(transport, bytes).await?..];
    }
    Ok(())
}
