//! One load connection: a thin shell with socket and timer around the [`Publisher`].

use super::Shared;
use super::frame::{Answer, push_connect, push_disconnect, take_answer};
use super::publisher::Publisher;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

const RECONNECT_WAIT: Duration = Duration::from_millis(100);
const CONNECT_MAX: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 16 * 1024;

pub(super) struct Connection {
    pub place: usize,
    pub publisher: Publisher,
    pub errors: u64,
    pub last_error: Option<String>,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    /// Set once there is nothing new to publish; until then outstanding acknowledgements are awaited.
    deadline: Option<Instant>,
}

impl Connection {
    pub(super) fn new(place: usize, shared: Arc<Shared>, publisher: Publisher, stop: watch::Receiver<bool>) -> Self {
        Connection { place, publisher, errors: 0, last_error: None, shared, stop, deadline: None }
    }

    pub(super) async fn run(mut self) -> Self {
        let mut redelivers = false;
        loop {
            match self.session(redelivers).await {
                Ok(()) => break,
                Err(error) => {
                    self.errors += 1;
                    self.last_error = Some(error.to_string());
                }
            }
            self.look_for_the_end();
            if !self.shared.settings.reconnect || self.finished() {
                break;
            }
            redelivers = true;
            sleep(RECONNECT_WAIT).await;
        }
        self
    }

    /// One connection, until everything is done (`Ok`) or it breaks.
    async fn session(&mut self, redelivers: bool) -> io::Result<()> {
        let mut stream = self.connect().await?;
        let (mut out, mut written, mut held) = (Vec::with_capacity(32 * 1024), 0, Vec::with_capacity(READ_BYTES));
        if redelivers {
            self.publisher.redeliver(&mut out);
        }
        loop {
            self.look_for_the_end();
            if self.finished() {
                break;
            }
            if self.deadline.is_none() && written == out.len() {
                out.clear();
                written = 0;
                let before = self.publisher.published;
                let (now_us, epoch_offset_us) = self.shared.clock.now_us();
                self.publisher.publish_due(&mut out, now_us, epoch_offset_us);
                self.shared.progress.published.fetch_add(self.publisher.published - before, Ordering::Relaxed);
            }
            if written < out.len() {
                written += try_write(&stream, &out[written..])?;
            }
            let readable = self.wait(&stream, written < out.len()).await?;
            if readable {
                self.read(&mut stream, &mut held)?;
            }
        }
        let mut goodbye = Vec::new();
        push_disconnect(&mut goodbye);
        // Everything is acknowledged or given up, so it does not matter if the DISCONNECT does not fit the socket.
        let _ = stream.try_write(&goodbye);
        Ok(())
    }

    async fn connect(&mut self) -> io::Result<TcpStream> {
        let settings = &self.shared.settings;
        let connecting = async {
            let stream = TcpStream::connect(settings.broker).await?;
            stream.set_nodelay(true)?;
            let mut out = Vec::new();
            push_connect(&mut out, &format!("load-{:02}", self.place), !settings.reconnect);
            let mut written = 0;
            while written < out.len() {
                stream.writable().await?;
                written += try_write(&stream, &out[written..])?;
            }
            let mut connack = [0; 4];
            let mut filled = 0;
            while filled < connack.len() {
                stream.readable().await?;
                match stream.try_read(&mut connack[filled..]) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            match take_answer(&mut &connack[..]) {
                Ok(Some(Answer::ConnAck { code: 0 })) => Ok(stream),
                Ok(Some(Answer::ConnAck { code })) => Err(refused(&format!("connection refused with code {code}"))),
                _ => Err(refused("the first answer is not a CONNACK")),
            }
        };
        timeout(CONNECT_MAX, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn look_for_the_end(&mut self) {
        let late = self.shared.end_at.is_some_and(|end_at| end_at <= Instant::now());
        let stopped = *self.stop.borrow() || self.stop.has_changed().is_err();
        if self.deadline.is_none() && (self.publisher.is_exhausted() || late || stopped) {
            self.deadline = Some(Instant::now() + self.shared.settings.drain_max);
        }
    }

    fn finished(&self) -> bool {
        self.deadline.is_some_and(|at| self.publisher.unacknowledged() == 0 || at <= Instant::now())
    }

    async fn wait(&mut self, stream: &TcpStream, writes: bool) -> io::Result<bool> {
        let interest = if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let due = match self.deadline {
            Some(deadline) => Some(deadline),
            None => {
                let publish = (!writes).then(|| self.publisher.next_due_us()).flatten();
                let publish = publish.map(|due_us| self.shared.clock.instant_of_us(due_us));
                publish.into_iter().chain(self.shared.end_at).min()
            }
        };
        tokio::select! {
            biased;
            ready = stream.ready(interest) => Ok(ready?.is_readable()),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Ok(false),
            () = stopped(&mut self.stop), if self.deadline.is_none() => Ok(false),
        }
    }

    fn read(&mut self, stream: &mut TcpStream, held: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        let read = match stream.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        held.extend_from_slice(&buffer[..read]);
        let (now_us, epoch_offset_us) = self.shared.clock.now_us();
        let before = self.publisher.acknowledged.count();
        let mut rest = &held[..];
        while let Some(answer) = take_answer(&mut rest).map_err(|error| refused(&error.to_string()))? {
            if let Answer::PubAck { packet_id } = answer
                && !self.publisher.acknowledge(packet_id, now_us, epoch_offset_us)
            {
                self.errors += 1;
                self.last_error = Some(format!("an unexpected acknowledgement of packet {packet_id}"));
            }
        }
        let taken = held.len() - rest.len();
        held.drain(..taken);
        self.shared.progress.acknowledged.fetch_add(self.publisher.acknowledged.count() - before, Ordering::Relaxed);
        Ok(())
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone can never stop us, so it counts as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn try_write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.try_write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

fn refused(reason: &str) -> io::Error {
    io::Error::other(reason.to_owned())
}
