//! The task of a connection: writes what the machine has to say, gives it what comes, and the time.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::shared::Shared;
use crate::core::mqtt::client::{End, Welcome};
use crate::tls;
use crate::uplink::broker::Broker;
use crate::uplink::transport::{ConnectError, Stream, is_closed, refused_by_tls};

/// What is to be said last is given so long.
const FAREWELL_WITHIN: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 16 << 10;
/// What a listener that expects TLS says to anything else.
const TLS_ALERT: [u8; 2] = [21, 3];

pub(super) struct Driver {
    reader: ReadHalf<Pin<Box<dyn Stream>>>,
    writer: WriteHalf<Pin<Box<dyn Stream>>>,
    shared: Rc<Shared>,
    input: BytesMut,
    output: BytesMut,
    /// Something was written that may wait in a buffer of TLS.
    is_unflushed: bool,
    /// Why the network has ended it, if it has.
    broken: Option<io::Error>,
    has_heard: bool,
    /// The other side has answered as one does that expects TLS.
    speaks_tls: bool,
}

impl Driver {
    pub(super) fn new(stream: Pin<Box<dyn Stream>>, shared: Rc<Shared>) -> Driver {
        let (reader, writer) = tokio::io::split(stream);
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Driver {
            reader,
            writer,
            shared,
            input,
            output,
            is_unflushed: false,
            broken: None,
            has_heard: false,
            speaks_tls: false,
        }
    }

    /// Runs until the broker has answered CONNECT.
    pub(super) async fn log_in(&mut self, broker: &Broker) -> Result<Welcome, ConnectError> {
        loop {
            if let Some(welcome) = self.turn().await {
                return Ok(welcome);
            }
            if let Some(end) = self.shared.ended() {
                return Err(self.not_welcome(end, broker));
            }
        }
    }

    /// Why there was no answer to CONNECT, in the words of who has to act.
    fn not_welcome(&mut self, end: End, broker: &Broker) -> ConnectError {
        let endpoint = &broker.endpoint;
        if self.speaks_tls && !endpoint.is_tls {
            return ConnectError::Tls(format!("{endpoint} speaks TLS; begin url with mqtts://, or correct the port"));
        }
        match (self.broken.take(), end) {
            // In TLS 1.3 the broker looks at the client's certificate when the client takes the handshake for done.
            (Some(error), _) if tls::is_of_tls(&error) => refused_by_tls(broker, &error),
            (_, End::Closed) if !self.has_heard => {
                let hint = match endpoint.is_tls {
                    true => "look at client_id, certificate, alpn and what the client may do there",
                    false => "does this port need mqtts://, or a login?",
                };
                ConnectError::Unreachable(format!("{endpoint} closes the connection at CONNECT; {hint}"))
            }
            (_, end) => ConnectError::Ended(end),
        }
    }

    /// Runs until the connection has ended.
    pub(super) async fn run(mut self) {
        while self.shared.ended().is_none() {
            self.turn().await;
        }
        self.take_output();
        // Whoever has closed it, or cannot be reached, is not told anything.
        if self.broken.is_none() {
            let farewell = async {
                self.writer.write_all(&self.output).await?;
                self.writer.flush().await?;
                self.writer.shutdown().await
            };
            drop(tokio::time::timeout(FAREWELL_WITHIN, farewell).await);
        }
    }

    fn take_output(&mut self) {
        let (output, _) = self.shared.with(|client, _| client.take_output());
        self.output.extend_from_slice(&output);
    }

    /// Waits for one thing, and does it.
    async fn turn(&mut self) -> Option<Welcome> {
        self.take_output();
        let is_full = self.shared.is_full();
        let due = self.shared.due_at();
        let Driver { reader, writer, shared, input, output, is_unflushed, .. } = self;
        input.reserve(READ_BYTES);
        let done = tokio::select! {
            sent = send(writer, output), if !output.is_empty() || *is_unflushed => sent,
            read = reader.read_buf(input), if !is_full => Done::Read(read),
            () = until(due) => Done::Due,
            () = shared.work.notified() => Done::Nothing,
        };
        match done {
            Done::Wrote(Ok(bytes)) if bytes > 0 => {
                self.output.advance(bytes);
                self.is_unflushed = true;
                self.shared.with(|client, now_ms| client.written(bytes, now_ms));
            }
            Done::Flushed(Ok(())) => self.is_unflushed = false,
            Done::Read(Ok(bytes)) if bytes > 0 => return self.frames(),
            Done::Wrote(Ok(_)) | Done::Read(Ok(_)) => self.breaks(io::ErrorKind::UnexpectedEof.into()),
            // What the broker said before it closed the connection is read first: it may say why.
            Done::Wrote(Err(error)) | Done::Flushed(Err(error)) => return self.read_rest(error).await,
            Done::Read(Err(error)) => self.breaks(error),
            Done::Due => {
                self.shared.with(|client, now_ms| {
                    if is_full {
                        client.excuse_silence(now_ms);
                    }
                    client.tick(now_ms);
                });
            }
            Done::Nothing => {}
        }
        None
    }

    /// Gives whole frames to the machine.
    fn frames(&mut self) -> Option<Welcome> {
        self.speaks_tls |= !self.has_heard && self.input.starts_with(&TLS_ALERT);
        let mut welcome = None;
        loop {
            let (len, _) = self.shared.with(|client, _| client.frame_len(&self.input));
            let Some(len) = len.filter(|len| self.input.len() >= *len) else { return welcome };
            self.has_heard = true;
            let frame = self.input.split_to(len);
            let ((), said) = self.shared.with(|client, now_ms| client.frame(&frame, now_ms));
            welcome = welcome.or(said);
            if self.shared.ended().is_some() {
                return welcome;
            }
        }
    }

    async fn read_rest(&mut self, error: io::Error) -> Option<Welcome> {
        let reading = async {
            while let Ok(1..) = self.reader.read_buf(&mut self.input).await {
                self.frames();
                self.input.reserve(READ_BYTES);
                if self.shared.ended().is_some() {
                    break;
                }
            }
        };
        drop(tokio::time::timeout(FAREWELL_WITHIN, reading).await);
        self.breaks(error);
        None
    }

    fn breaks(&mut self, error: io::Error) {
        let end = if is_closed(&error) { End::Closed } else { End::Broken(error.to_string()) };
        self.shared.with(|client, _| client.broken(end));
        self.broken = Some(error);
    }
}

enum Done {
    Wrote(io::Result<usize>),
    Flushed(io::Result<()>),
    Read(io::Result<usize>),
    Due,
    Nothing,
}

/// Writes a part, or has written what waits in a buffer.
async fn send(writer: &mut WriteHalf<Pin<Box<dyn Stream>>>, output: &[u8]) -> Done {
    match output.is_empty() {
        true => Done::Flushed(writer.flush().await),
        false => Done::Wrote(writer.write(output).await),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
