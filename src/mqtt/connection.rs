//! One connection: moves bytes between the socket and the session machine. It reads whenever it may and writes whenever it can; neither
//! waits for the other.

mod ending;
mod opening;
mod packets;

use self::opening::{Admitted, admit, refuse};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Edge;
use super::answers::AnswerTimes;
use super::client::Client;
use super::end::End;
use super::fanout::PassingOn;
use super::fanout::Prepared;
use super::input::{Arrived, Input, Lost};
use super::keeper::Ticket;
use super::listener::{ClientLimits, Listener};
use super::output::Output;
use super::quota::QuotaSeat;
use super::router::RouterDead;
use super::sessions::Attached;
use super::transport::{Transport, write};
use super::wills::leave_will;
use crate::core::mqtt::inbound::Inbound;
use crate::core::mqtt::outbound::Limits;
use crate::core::mqtt::pace::PublishPace;
use crate::core::mqtt::session::{self, Close};
use crate::handoff::{self, PipelineHandle, SessionProgress};

/// With this much to write nothing more is added: no messages are forwarded, and the socket is not read, so no acknowledgements arise.
const OUTPUT_BYTES: usize = 16 * 1024;
/// With so many answers that wait for the store, nothing more is read.
const ANSWERED_LATER_MAX: usize = 64;
/// Write time limit while the gateway is stopping: a client that does not read must not delay the end.
const DRAINING_WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// The timer is set this far ahead if there is nothing to watch for.
const FAR_AHEAD: Duration = Duration::from_secs(86_400);

/// A publish that is fanned out after its commit.
struct UncommittedPublish {
    ordinal: u64,
    prepared: Prepared,
}

struct Connection<T: From<handoff::Input>> {
    edge: Rc<Edge<T>>,
    attached: Attached,
    client: Rc<Client>,
    client_id: String,
    quota: QuotaSeat,
    /// The generation of the listener's policy by which the client is here.
    generation: u64,
    limits: Limits,
    is_bridge: bool,
    /// How long the session is kept when the connection has ended.
    session_expiry: Duration,
    inbound: Inbound,
    pace: PublishPace,
    answers: AnswerTimes,
    connected: Instant,
    progress: Arc<SessionProgress>,
    held: VecDeque<UncommittedPublish>,
    /// Answers to what the store has to know first.
    answered_later: VecDeque<(Ticket, Vec<u8>)>,
    /// The first of them, while it waits for its place in the router's log.
    passing_on: Option<PassingOn>,
    output: Output,
    silence_max: Option<Duration>,
    last_heard: Instant,
    last_written: Instant,
}

/// Serves one client until either side closes the connection.
pub(super) async fn serve<T: From<handoff::Input> + 'static>(
    edge: Rc<Edge<T>>,
    listener: Rc<Listener>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let Some((transport, mut admitted)) = admit(&edge, &listener, stream, peer).await else { return };
    let transport = RefCell::new(transport);
    let (mut will, client) = (admitted.will.take(), Rc::clone(&admitted.client));
    let client_id = client.id().to_owned();
    let attaching = edge.sessions.attach(&client, admitted.clean_start, admitted.session_expiry, peer.ip());
    let Ok(attached) = attaching.await else {
        return refuse(&edge, &transport, &admitted, peer).await;
    };
    will.iter_mut().for_each(|will| edge.store_will(&client, will));
    if attached.is_changed || will.is_some() {
        edge.keeper.settled(edge.keeper.ticket()).await;
    }
    let input = Input::new(Rc::clone(&edge.read_buffer), std::mem::take(&mut admitted.input).to_vec());
    let mut connection = Connection::new(&edge, attached, admitted);
    let end = connection.run(&transport, input).await;
    connection.say_goodbye(&transport, &end).await;
    // Whoever waits for its end sees it now.
    drop(transport);
    connection.finish().await;
    if matches!(end, End::Disconnected) && connection.inbound.last_ordinal() > 0 {
        // Without a pipeline the process is ending and no longer watches for silent devices.
        let _ = edge.pipeline.farewell(&connection.progress);
    }
    let is_expelled = matches!(end, End::NoLongerAdmitted);
    let expiry = if is_expelled && !client.comes_back() { Duration::ZERO } else { connection.session_expiry };
    edge.sessions.detach(&client_id, expiry);
    drop(connection);
    edge.counters.disconnections.add(1);
    if end.is_noteworthy() {
        edge.warn_of_client(peer, &client_id, &end.reason());
    } else {
        tracing::debug!(%peer, client_id, "{}", end.reason());
    }
    match (will, end) {
        // The gateway leaves, not the client: if the client does not come back, the next start publishes it.
        (_, End::Draining) | (None, _) => {}
        (Some(will), End::Disconnected | End::NoLongerAdmitted) => edge.forget_will(&will),
        (Some(will), _) => leave_will(edge, client, will, expiry).await,
    }
}

impl<T: From<handoff::Input> + 'static> Connection<T> {
    /// Its output begins with the CONNACK; what the session had not acknowledged comes behind it.
    fn new(edge: &Rc<Edge<T>>, attached: Attached, admitted: Admitted) -> Connection<T> {
        let mut output = Vec::new();
        let client = Rc::clone(&admitted.client);
        let client_limits = &client.listener.settings.client;
        admitted.welcome(attached.session_present, client_limits, &mut output);
        attached.subscriber.connect(admitted.limits);
        let now = Instant::now();
        Connection {
            attached,
            quota: admitted.quota,
            client_id: client.id().to_owned(),
            generation: admitted.generation,
            limits: admitted.limits,
            is_bridge: admitted.is_bridge,
            session_expiry: admitted.session_expiry,
            inbound: Inbound::new(admitted.version, client_limits.receive_maximum),
            pace: PublishPace::default(),
            answers: AnswerTimes::default(),
            connected: now,
            progress: Arc::default(),
            held: VecDeque::new(),
            answered_later: VecDeque::new(),
            passing_on: None,
            output: Output::of(output),
            silence_max: session::silence_ms_max(admitted.keep_alive_s).map(Duration::from_millis),
            last_heard: now,
            last_written: now,
            edge: Rc::clone(edge),
            client,
        }
    }

    fn client_limits(&self) -> &ClientLimits {
        &self.client.listener.settings.client
    }

    async fn run(&mut self, transport: &RefCell<Transport>, mut input: Input) -> End {
        let mut timer = Box::pin(sleep_until(Instant::now() + FAR_AHEAD));
        let mut result = Ok(());
        loop {
            if let Err(end) = result {
                input.leave_line();
                input.turn.pass_on(false).await;
                // Packets received before the offending one are stored and acknowledged as usual.
                self.flush(transport).await;
                return end;
            }
            result = Ok(());
            if let Err(end) = self.prepare(&mut input, transport).await {
                return end;
            }
            let (may_read, may_pass_on) = (self.may_read(), self.may_pass_on());
            if !may_read {
                input.leave_line();
            }
            input.turn.pass_on(may_pass_on || may_read && input.has_rest()).await;
            self.arm(&mut timer, &input, self.has_to_write(transport));
            tokio::select! {
                result = write(transport, self.output.unwritten()), if self.has_to_write(transport) => match result {
                    Ok(count) => self.wrote(count),
                    Err(_) => return End::Lost,
                },
                arrived = next(&mut input, transport, &self.edge.pipeline, may_read), if may_read || may_pass_on => match arrived {
                    Ok(Some(arrived)) => result = self.take(&mut input, arrived),
                    // It is our turn in the lane to pass on held publishes.
                    Ok(None) => {}
                    Err(Lost) => return End::Lost,
                },
                result = wait_passed_on(&mut self.passing_on) => {
                    self.passing_on = None;
                    if result.is_err() {
                        return End::RouterDead;
                    }
                }
                () = self.progress.changed() => {}
                () = self.attached.subscriber.changed.rung() => {}
                () = &mut timer => {
                    if let Some(end) = self.judge_silence(may_read, &mut input, self.has_to_write(transport)) {
                        return end;
                    }
                }
            }
        }
    }

    /// What is to be done before it is waited for anything: acknowledgements of what is stored, messages, and whether to go on at all.
    async fn prepare(&mut self, input: &mut Input, transport: &RefCell<Transport>) -> Result<(), End> {
        if let Err(end) = self.settle(&mut input.turn) {
            // Acknowledge what is already stored, or the client would send it again and it would be stored twice.
            let _ = self.write_now(transport);
            return Err(end);
        }
        self.write_now(transport)?;
        if self.fill_output(transport) {
            tokio::task::yield_now().await;
        }
        let generation = self.client.listener.generation();
        if std::mem::replace(&mut self.generation, generation) != generation
            && !self.client.is_still_admitted(transport.borrow().certificates())
        {
            return Err(End::NoLongerAdmitted);
        }
        self.called_away(transport).map_or(Ok(()), Err)
    }

    /// Writes as much output as the socket takes without waiting, which usually is all of it.
    fn write_now(&mut self, transport: &RefCell<Transport>) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        let result = transport.borrow_mut().try_write(self.output.unwritten());
        match result {
            Ok(0) => return Err(End::Lost),
            Ok(count) => self.wrote(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Err(End::Lost),
        }
        Ok(())
    }

    /// Whether the connection must end for a reason other than the client's current packet.
    fn called_away(&self, transport: &RefCell<Transport>) -> Option<End> {
        let subscriber = &self.attached.subscriber;
        if subscriber.overrun.get() {
            self.edge.counters.subscribers_overrun.add(1);
            return Some(End::Overrun);
        }
        if subscriber.taken_over.get() {
            return Some(End::TakenOver);
        }
        let is_answered = !self.inbound.is_waiting() && self.answered_later.is_empty();
        let is_done = is_answered && !self.has_to_write(transport);
        (self.edge.draining.get() && is_done).then_some(End::Draining)
    }

    fn has_to_write(&self, transport: &RefCell<Transport>) -> bool {
        !self.output.is_empty() || transport.borrow().has_unsent()
    }

    /// Whether there are committed publishes that were not passed on to their receivers.
    fn has_to_pass_on(&self) -> bool {
        self.passing_on.is_some() || self.held.front().is_some_and(|held| held.ordinal <= self.progress.committed())
    }

    fn may_pass_on(&self) -> bool {
        self.has_to_pass_on() && self.passing_on.is_none()
    }

    /// Reading pauses while earlier publishes wait to be committed or passed on, and while the client does not read our answers.
    fn may_read(&self) -> bool {
        !self.edge.draining.get()
            && !self.has_to_pass_on()
            && self.inbound.uncommitted() < self.client_limits().uncommitted_max
            && self.output.bytes.len() < OUTPUT_BYTES
            && self.answered_later.len() < ANSWERED_LATER_MAX
            && self.quota.is_ready()
    }

    /// Returns whether other tasks should run before this continues.
    fn fill_output(&mut self, transport: &RefCell<Transport>) -> bool {
        if !self.has_to_write(transport) {
            self.last_written = Instant::now();
        }
        let subscriber = &self.attached.subscriber;
        let is_paused = self.edge.fanout.fill(subscriber, &mut self.output.bytes, OUTPUT_BYTES);
        subscriber.note_output(self.output.bytes.len());
        if is_paused {
            subscriber.changed.ring();
        }
        is_paused
    }

    fn wrote(&mut self, count: usize) {
        self.output.wrote(count, OUTPUT_BYTES);
        self.last_written = Instant::now();
    }

    fn write_timeout(&self) -> Duration {
        let usual = self.client_limits().write_timeout;
        if self.edge.draining.get() { usual.min(DRAINING_WRITE_TIMEOUT) } else { usual }
    }

    /// Sets the timer to the earliest deadline, unless it fires before that anyway.
    fn arm(&self, timer: &mut Pin<Box<Sleep>>, input: &Input, has_to_write: bool) {
        let silence = self.silence_max.map(|max| self.last_heard + max);
        let unread = has_to_write.then(|| self.last_written + self.write_timeout());
        let slow = input.large_since().map(|since| since + self.client_limits().packet_timeout);
        let over_rate = self.quota.wait().map(|wait| Instant::now() + wait);
        let Some(deadline) = [silence, unread, slow, over_rate].into_iter().flatten().min() else { return };
        if timer.is_elapsed() || deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
    }

    fn judge_silence(&mut self, may_read: bool, input: &mut Input, has_to_write: bool) -> Option<End> {
        let now = Instant::now();
        if has_to_write && now >= self.last_written + self.write_timeout() {
            return Some(End::NotReading);
        }
        if !may_read || input.is_in_line() {
            self.last_heard = now;
            input.excuse(now);
        }
        if input.large_since().is_some_and(|since| now >= since + self.client_limits().packet_timeout) {
            return Some(End::Slow);
        }
        (now >= self.last_heard + self.silence_max?).then_some(End::Broken(Close::KeepAlive))
    }

    fn is_answerable(&self) -> bool {
        self.inbound.is_answerable() || !self.answered_later.is_empty()
    }
}

/// Reads input if allowed; otherwise waits for a turn to pass on held publishes.
async fn next<T: From<handoff::Input> + 'static>(
    input: &mut Input,
    transport: &RefCell<Transport>,
    pipeline: &PipelineHandle<T>,
    may_read: bool,
) -> Result<Option<Arrived>, Lost> {
    if may_read {
        return input.read(transport, pipeline).await.map(Some);
    }
    poll_fn(|context| input.turn.poll_wait(context)).await;
    Ok(None)
}

async fn wait_passed_on(passing_on: &mut Option<PassingOn>) -> Result<(), RouterDead> {
    match passing_on {
        Some(passing_on) => passing_on.as_mut().await,
        None => std::future::pending().await,
    }
}
