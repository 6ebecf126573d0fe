//! One load connection: a thin shell with socket and timer around the [`Publisher`].

use super::Shared;
use super::frame::{Answer, push_connect, push_disconnect, take_answer};
use super::link::Link;
use super::publisher::{Outcome, Publisher};
use crate::access::Qos;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

const RECONNECT_WAIT: Duration = Duration::from_millis(100);
/// For the socket, TLS and CONNACK together.
const CONNECT_MAX: Duration = Duration::from_secs(20);
/// How long a broker may take to close a connection after DISCONNECT.
const END_MAX: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 16 * 1024;

/// What goes out on a connection, and what has come in of a packet that is not whole yet.
struct Traffic {
    link: Link,
    out: Vec<u8>,
    written: usize,
    held: Vec<u8>,
}

impl Traffic {
    fn new(link: Link) -> Self {
        Traffic { link, out: Vec::with_capacity(32 * 1024), written: 0, held: Vec::with_capacity(READ_BYTES) }
    }

    fn is_written(&self) -> bool {
        self.written == self.out.len()
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.is_written() || self.link.has_waiting() {
            self.written += self.link.try_write(&self.out[self.written..])?;
        }
        if self.is_written() {
            self.out.clear();
            self.written = 0;
        }
        Ok(())
    }

    /// Reads what there is.
    fn read(&mut self) -> io::Result<()> {
        match self.link.try_read(&mut [0; READ_BYTES], &mut self.held)? {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

pub(super) struct Connection {
    pub place: usize,
    pub publisher: Publisher,
    pub errors: u64,
    pub last_error: Option<String>,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    /// The first connection, made before the run begins.
    first: Option<Traffic>,
    /// Set once there is nothing new to publish; until then outstanding acknowledgements are awaited.
    deadline: Option<Instant>,
}

impl Connection {
    pub(super) fn new(place: usize, shared: Arc<Shared>, publisher: Publisher, stop: watch::Receiver<bool>) -> Self {
        Connection { place, publisher, errors: 0, last_error: None, shared, stop, first: None, deadline: None }
    }

    /// Connects for the first time, without publishing anything.
    pub(super) async fn prepared(mut self) -> Self {
        let connected = tokio::select! {
            connected = connect(&self.shared, self.place) => connected,
            () = stopped(&mut self.stop) => return self,
        };
        match connected {
            Ok((traffic, receive_max)) => {
                self.publisher.connected(receive_max);
                self.first = Some(traffic);
            }
            Err(error) => self.note(&error),
        }
        self
    }

    pub(super) async fn run(mut self) -> Self {
        loop {
            let traffic = match self.first.take() {
                Some(traffic) => Some(traffic),
                None if self.shared.settings.reconnect && !self.finished() => self.reconnect().await,
                None => break,
            };
            if let Some(traffic) = traffic {
                match self.session(traffic).await {
                    Ok(()) => break,
                    Err(error) => self.note(&error),
                }
            }
            self.look_for_the_end();
        }
        self
    }

    async fn reconnect(&mut self) -> Option<Traffic> {
        sleep(RECONNECT_WAIT).await;
        match connect(&self.shared, self.place).await {
            Ok((mut traffic, receive_max)) => {
                self.publisher.connected(receive_max);
                self.publisher.redeliver(&mut traffic.out);
                Some(traffic)
            }
            Err(error) => {
                self.note(&error);
                None
            }
        }
    }

    fn note(&mut self, error: &io::Error) {
        self.errors += 1;
        self.last_error = Some(error.to_string());
    }

    /// One connection, until everything is done (`Ok`) or it breaks.
    async fn session(&mut self, mut traffic: Traffic) -> io::Result<()> {
        let is_unanswered = self.shared.settings.qos == Qos::AtMostOnce;
        loop {
            self.look_for_the_end();
            let is_sent = traffic.is_written() && !traffic.link.has_waiting();
            // With QoS 0 nothing but the socket says that a publish has left.
            if self.finished() && (!is_unanswered || is_sent || self.is_late()) {
                break;
            }
            if self.deadline.is_none() && traffic.is_written() {
                let before = self.publisher.published;
                let (now_us, epoch_offset_us) = self.shared.clock().now_us();
                self.publisher.publish_due(&mut traffic.out, now_us, epoch_offset_us);
                self.shared.progress.published.fetch_add(self.publisher.published - before, Ordering::Relaxed);
            }
            traffic.write()?;
            if self.deadline.is_none() && self.publisher.is_exhausted() {
                // With QoS 0 no answer would wake us.
                continue;
            }
            if self.wait(&traffic).await? {
                let read = traffic.read();
                self.take(&mut traffic)?;
                read?;
            }
        }
        if is_unanswered && !traffic.is_written() {
            return Err(refused("the broker did not take all publishes in time"));
        }
        push_disconnect(&mut traffic.out);
        traffic.write()?;
        if is_unanswered {
            let ended = async {
                while !traffic.is_written() {
                    traffic.link.ready(true).await?;
                    traffic.write()?;
                }
                traffic.link.end().await
            };
            // Not every broker says goodbye.
            return timeout(END_MAX, ended).await.unwrap_or(Ok(()));
        }
        // Everything is acknowledged or given up, so it does not matter if the DISCONNECT does not fit the socket.
        Ok(())
    }

    fn look_for_the_end(&mut self) {
        let late = self.shared.end_at().is_some_and(|end_at| end_at <= Instant::now());
        let stopped = *self.stop.borrow() || self.stop.has_changed().is_err();
        if self.deadline.is_none() && (self.publisher.is_exhausted() || late || stopped) {
            self.deadline = Some(Instant::now() + self.shared.settings.drain_max);
        }
    }

    fn finished(&self) -> bool {
        self.deadline.is_some() && (self.publisher.unacknowledged() == 0 || self.is_late())
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }

    /// Until there is something to do. Returns whether there may be something to read.
    async fn wait(&mut self, traffic: &Traffic) -> io::Result<bool> {
        let writes = !traffic.is_written();
        let due = match self.deadline {
            Some(deadline) => Some(deadline),
            None => {
                let publish = (!writes).then(|| self.publisher.next_due_us()).flatten();
                let publish = publish.map(|due_us| self.shared.clock().instant_of_us(due_us));
                publish.into_iter().chain(self.shared.end_at()).min()
            }
        };
        if due.is_some_and(|due| due <= Instant::now()) {
            yield_now().await;
            return Ok(true);
        }
        tokio::select! {
            biased;
            ready = traffic.link.ready(writes) => Ok(ready?.is_readable()),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Ok(false),
            () = stopped(&mut self.stop), if self.deadline.is_none() => Ok(false),
        }
    }

    /// Takes all whole packets of what has arrived.
    fn take(&mut self, traffic: &mut Traffic) -> io::Result<()> {
        let (now_us, epoch_offset_us) = self.shared.clock().now_us();
        let before = self.publisher.acknowledged.count();
        let mut rest = &traffic.held[..];
        let taken = loop {
            let answer = match take_answer(&mut rest, self.shared.settings.access.version) {
                Ok(Some(Answer::Disconnect { reason })) => {
                    break Err(refused(&format!("the broker disconnected with reason {reason:#04x}")));
                }
                Ok(Some(answer)) => answer,
                Ok(None) => break Ok(()),
                Err(error) => break Err(refused(&error.to_string())),
            };
            match self.publisher.take(answer, &mut traffic.out, now_us, epoch_offset_us) {
                Outcome::Acknowledged | Outcome::Continued => {}
                Outcome::Refused { reason } => {
                    self.last_error = Some(format!("a publish was refused with reason {reason:#04x}"));
                }
                Outcome::Unexpected => self.note(&refused(&format!("an unexpected answer, {answer:?}"))),
            }
        };
        let len = traffic.held.len() - rest.len();
        traffic.held.drain(..len);
        self.shared.progress.acknowledged.fetch_add(self.publisher.acknowledged.count() - before, Ordering::Relaxed);
        taken
    }
}

/// Returns the connection, and how many publishes the broker takes in flight.
async fn connect(shared: &Shared, place: usize) -> io::Result<(Traffic, u16)> {
    let settings = &shared.settings;
    let access = &settings.access;
    let _turn = shared.handshakes.turn().await;
    let connecting = async {
        let mut traffic = Traffic::new(Link::connect(settings.broker, access.tls.as_ref()).await?);
        let (client_id, is_clean) = (format!("load-{place:02}"), !settings.reconnect);
        push_connect(&mut traffic.out, access.version, &client_id, is_clean, access.login.as_ref());
        loop {
            traffic.write()?;
            let is_readable = traffic.link.ready(!traffic.is_written()).await?.is_readable();
            // A broker that refuses closes the connection right behind its answer.
            let read = if is_readable { traffic.read() } else { Ok(()) };
            let mut rest = &traffic.held[..];
            match take_answer(&mut rest, access.version).map_err(|error| refused(&error.to_string()))? {
                None => read?,
                Some(Answer::ConnAck { code: 0, receive_max }) => {
                    let len = traffic.held.len() - rest.len();
                    traffic.held.drain(..len);
                    return Ok((traffic, receive_max));
                }
                Some(Answer::ConnAck { code, .. }) => {
                    return Err(refused(&format!("connection refused with code {code:#04x}")));
                }
                Some(_) => return Err(refused("the first answer is not a CONNACK")),
            }
        }
    };
    timeout(CONNECT_MAX, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone can never stop us, so it counts as a stop.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn refused(reason: &str) -> io::Error {
    io::Error::other(reason.to_owned())
}
