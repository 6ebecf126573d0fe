//! A load connection's socket, with or without TLS, which never waits: the caller asks when it is ready.

use crate::tls::Tls;
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use tokio::io::{AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;

/// TLS keeps so much that the socket does not take; the rest is refused.
const TLS_WAITING_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Link {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

/// The socket as rustls wants it.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Link {
    /// Connects, and shakes hands.
    pub async fn connect(broker: SocketAddr, tls: Option<&Tls>) -> io::Result<Self> {
        let stream = TcpStream::connect(broker).await?;
        stream.set_nodelay(true)?;
        match tls {
            Some(tls) => {
                let (stream, mut connection) = tls.shake_hands(stream).await?.into_inner();
                connection.set_buffer_limit(Some(TLS_WAITING_BYTES_MAX));
                Ok(Link { stream, tls: Some(Box::new(connection)) })
            }
            None => Ok(Link { stream, tls: None }),
        }
    }

    /// Waits until it may be read from, or written to if that is asked for or TLS has something to write.
    pub async fn ready(&self, writes: bool) -> io::Result<Ready> {
        let writes = writes || self.has_waiting();
        self.stream.ready(if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }).await
    }

    /// Whether TLS keeps something that the socket did not take.
    pub fn has_waiting(&self) -> bool {
        self.tls.as_ref().is_some_and(|connection| connection.wants_write())
    }

    /// Returns how many of the bytes were taken; none if there is no room.
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(connection) = &mut self.tls else {
            return or_nothing(self.stream.try_write(bytes));
        };
        let mut taken = 0;
        loop {
            let more = connection.writer().write(&bytes[taken..])?;
            taken += more;
            while connection.wants_write() {
                match connection.write_tls(&mut Socket(&self.stream)) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                    Err(error) => return Err(error),
                }
            }
            if more == 0 || taken == bytes.len() {
                return Ok(taken);
            }
        }
    }

    /// Appends what has arrived. Returns false at the end of the stream.
    pub fn try_read(&mut self, buffer: &mut [u8], held: &mut Vec<u8>) -> io::Result<bool> {
        let Some(connection) = &mut self.tls else {
            return match self.stream.try_read(buffer) {
                Ok(read) => {
                    held.extend_from_slice(&buffer[..read]);
                    Ok(read > 0)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
                Err(error) => Err(error),
            };
        };
        match connection.read_tls(&mut Socket(&self.stream)) {
            // TLS says below whether the end was announced.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        let processed = connection.process_new_packets().map_err(io::Error::other);
        // What was understood before an error counts.
        let is_open = loop {
            match connection.reader().read(buffer) {
                Ok(0) => break false,
                Ok(read) => held.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) => return Err(error),
            }
        };
        processed.map(|_| is_open)
    }

    /// Says that nothing more will be sent, and waits until the other side has closed as well. A socket that is closed with something to read
    /// in it takes back what it has not sent.
    pub async fn end(&mut self) -> io::Result<()> {
        if let Some(connection) = &mut self.tls {
            connection.send_close_notify();
        }
        while self.has_waiting() {
            self.try_write(&[])?;
            self.ready(false).await?;
        }
        self.stream.shutdown().await?;
        let (mut buffer, mut held) = ([0; 1024], Vec::new());
        while self.try_read(&mut buffer, &mut held)? {
            held.clear();
            self.stream.readable().await?;
        }
        Ok(())
    }
}

fn or_nothing(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
