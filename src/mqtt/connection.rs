//! One connection: moves bytes between the socket and the session machine. It reads whenever it may and writes whenever it can; neither
//! waits for the other.

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

use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use super::answers::AnswerTimes;
use super::client::Client;
use super::end::End;
use super::fanout::PassingOn;
use super::fanout::Prepared;
use super::input::{Arrived, Input, Lost};
use super::keeper::Ticket;
use super::lane::Turn;
use super::listener::{ClientLimits, Listener};
use super::output::Output;
use super::publish::LeftWill;
use super::quota::QuotaSeat;
use super::router::RouterDead;
use super::sessions::{Attached, ClientIsBack};
use super::transport::{Transport, write, write_all};
use super::{Edge, Phase};
use crate::core::mqtt::inbound::Inbound;
use crate::core::mqtt::outbound::Limits;
use crate::core::mqtt::pace::PublishPace;
use crate::core::mqtt::packet::{self, Version};
use crate::core::mqtt::session::{self, Close};
use crate::handoff::{self, PipelineHandle, SessionProgress};

/// With this much to write nothing more is added: no messages are forwarded, and the socket is not read, so no acknowledgements arise.
const OUTPUT_BYTES: usize = 16 * 1024;
/// With so many answers that wait for the store, nothing more is read.
const ANSWERED_LATER_MAX: usize = 64;
/// Write time limit while the gateway is stopping: a client that does not read must not delay the end.
const DRAINING_WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take to read why its connection ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// The timer is set this far ahead if there is nothing to watch for.
const FAR_AHEAD: Duration = Duration::from_secs(86_400);

/// Pause before a will that could not be stored is tried again.
const WILL_RETRY_PAUSE: Duration = Duration::from_secs(1);

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

/// Publishes a will at once, or when its delay or its session is over, unless the client comes back before that.
async fn leave_will<T: From<handoff::Input> + 'static>(
    edge: Rc<Edge<T>>,
    client: Rc<Client>,
    will: LeftWill,
    session_expiry: Duration,
) {
    let delay = will.delay.min(session_expiry);
    if delay.is_zero() && edge.publish_will(&client, &will).await {
        return;
    }
    let back = edge.sessions.keep_will(client.id());
    // It must not keep the seat of its connection.
    tokio::task::spawn_local(wait_with_will(edge, client, will, delay, back));
}

/// Publishes a will after so long, or when its session has ended, unless the client comes back before that. As long as it cannot be stored, it
/// waits.
pub(super) async fn wait_with_will<T: From<handoff::Input> + 'static>(
    edge: Rc<Edge<T>>,
    client: Rc<Client>,
    will: LeftWill,
    mut delay: Duration,
    mut back: oneshot::Receiver<ClientIsBack>,
) {
    let mut phase = edge.phase.clone();
    loop {
        tokio::select! {
            back = &mut back => if let Ok(ClientIsBack) = back {
                return edge.forget_will(&will);
            },
            () = sleep(delay) => {}
            // As for those of connections: the next start has it.
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => return,
        }
        edge.sessions.forget_will(client.id());
        if edge.publish_will(&client, &will).await {
            return;
        }
        delay = WILL_RETRY_PAUSE;
        back = edge.sessions.keep_restored_will(client.id());
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

    /// Waits for the commits of what was read, and writes the acknowledgements as long as the client reads them.
    async fn flush(&mut self, transport: &RefCell<Transport>) {
        let limit = self.client_limits().write_timeout;
        let _ = timeout(limit, async {
            let mut turn = Turn::new(self.edge.read_buffer.lane());
            while self.is_answerable() && self.settle(&mut turn).is_ok() {
                if self.is_answerable() {
                    tokio::select! {
                        () = self.progress.changed() => {}
                        () = self.attached.subscriber.changed.rung() => {}
                    }
                }
            }
            while self.has_to_write(transport) {
                match write(transport, self.output.unwritten()).await {
                    Ok(count) => self.wrote(count),
                    Err(_) => break,
                }
            }
        })
        .await;
    }

    /// Tells a client that understands it why its connection ends.
    async fn say_goodbye(&mut self, transport: &RefCell<Transport>, end: &End) {
        let reason = end.code().filter(|_| self.limits.version == Version::V5);
        if let Some(reason) = reason {
            let Limits { version, packet_bytes_max, .. } = self.limits;
            packet::disconnect(version, reason, &end.reason(), packet_bytes_max, &mut self.output.bytes);
            let _ = timeout(GOODBYE_TIMEOUT, write_all(transport, self.output.unwritten())).await;
        }
        self.output = Output::default();
        // Whoever takes over the client id of a connection that is dead must not wait for it.
        match reason.is_some() && matches!(end, End::Broken(_) | End::Undecodable(_) | End::NoLongerAdmitted) {
            true => linger(transport).await,
            // The end of TLS and of WebSocket is said as far as the socket takes it.
            false => transport.borrow_mut().try_shutdown(),
        }
    }

    /// The connection is gone, but its publishes are still stored and then fanned out. A session that is kept has to know which of those at
    /// QoS 2 are stored.
    async fn finish(&mut self) {
        let mut turn = Turn::new(self.edge.read_buffer.lane());
        loop {
            if let Some(passing_on) = self.passing_on.take()
                && passing_on.await.is_err()
            {
                return;
            }
            let is_storing =
                || self.attached.subscriber.unreleased.borrow().is_storing() && self.inbound.uncommitted() > 0;
            let is_over = self.held.is_empty() && !is_storing();
            if is_over || self.settle(&mut turn).is_err() {
                self.pass_on_rest().await;
                return self.attached.subscriber.unreleased.borrow_mut().forget_unstored();
            }
            turn.pass_on(self.may_pass_on()).await;
            match (self.has_to_pass_on(), &self.passing_on) {
                (true, None) => poll_fn(|context| turn.poll_wait(context)).await,
                // What is excused from waiting is still held, and comes back from the disk at some time.
                (false, None) if self.inbound.uncommitted() > 0 || !self.held.is_empty() => {
                    self.progress.changed().await
                }
                _ => {}
            }
        }
    }
}

impl<T: From<handoff::Input> + 'static> Connection<T> {
    /// The client is turned away: what is committed reaches its receivers all the same.
    async fn pass_on_rest(&mut self) {
        let committed = self.progress.committed();
        loop {
            if let Some(passing_on) = self.passing_on.take()
                && passing_on.await.is_err()
            {
                return;
            }
            let Some(held) = self.held.pop_front_if(|held| held.ordinal <= committed) else { break };
            match self.edge.fanout.pass_on(held.prepared) {
                Ok(passing_on) => self.passing_on = passing_on,
                Err(_) => return,
            }
        }
        // The disk may still take what it has not answered yet.
        let excused = self.progress.excused();
        self.held.iter().filter(|held| held.ordinal <= excused).for_each(|held| held.prepared.may_be_stored());
    }
}

/// Waits until the client has closed its side, for a while. If a socket is closed with unread input in it, the system tells the client at once,
/// which then cannot read any more what it was sent last.
async fn linger(transport: &RefCell<Transport>) {
    let _ = timeout(GOODBYE_TIMEOUT, async {
        poll_fn(|context| transport.borrow_mut().poll_shutdown(context)).await?;
        let mut unread = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut unread);
            poll_fn(|context| transport.borrow_mut().poll_read(context, &mut buffer)).await?;
            if buffer.filled().is_empty() {
                return std::io::Result::Ok(());
            }
        }
    })
    .await;
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
