//! One connection: bytes in and out of the session machine. It reads while it may, writes while it can, and never waits for one of the
//! two before it does the other.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::answers::AnswerTimes;
use super::codec::{self, DecodeError, Packet};
use super::end::End;
use super::fanout::{PassingOn, TooManyFilters};
use super::input::{Arrived, Input, Lost, Taken};
use super::lane::{Allowance, Turn};
use super::publish::Batch;
use super::router::{Envelope, RouterDead};
use super::sessions::Attached;
use super::{Edge, Phase, moderation};
use crate::core::mqtt::pace::{PublishPace, Urgency};
use crate::core::mqtt::publishing::PublishVerdict;
use crate::core::mqtt::session::{self, Close, Connect, Inbound};
use crate::core::mqtt::topic;
use crate::handoff::{self, PipelineHandle, SessionProgress};

/// With so much to write, nothing more is added, neither forwards nor, by not reading, acknowledgements.
const OUTPUT_BYTES: usize = 16 * 1024;
/// A CONNECT with the longest client id and a generous will. A will is kept as long as its connection.
const CONNECT_BYTES_MAX: usize = 16 * 1024;
/// Time for a client to take what is sent to it once the gateway is stopping: one that does not read must not hold up the end.
const DRAINING_WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Filters of one packet that are looked at, unless one client may have more: a packet is handled at one go.
const FILTERS_A_PACKET: usize = 256;
/// With nothing to watch for, the timer is set this far ahead.
const FAR_AHEAD: Duration = Duration::from_secs(86_400);
/// A peer that has vanished without a word is noticed by the system, also with keep-alive 0.
const TCP_KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);

/// A publish that waits for its commit to be fanned out.
struct UncommittedPublish {
    ordinal: u64,
    envelope: Envelope,
    retain: bool,
}

struct Connection<T: From<handoff::Input>> {
    edge: Rc<Edge<T>>,
    attached: Attached,
    client_id: String,
    inbound: Inbound,
    pace: PublishPace,
    answers: AnswerTimes,
    connected: Instant,
    progress: Arc<SessionProgress>,
    held: VecDeque<UncommittedPublish>,
    /// One of them that waits for its place in the router's log.
    passing_on: Option<PassingOn>,
    output: Vec<u8>,
    written: usize,
    silence_max: Option<Duration>,
    last_heard: Instant,
    last_written: Instant,
}

/// Serves one client until it or we close.
pub(super) async fn serve<T: From<handoff::Input> + 'static>(
    edge: Rc<Edge<T>>,
    mut stream: TcpStream,
    peer: SocketAddr,
) {
    // A small packet must not wait for another one's acknowledgement; without the options it only would be slower.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_keepalive(&TCP_KEEPALIVE);
    let mut input = BytesMut::new();
    let mut phase = edge.phase.clone();
    let first = tokio::select! {
        first = timeout(edge.settings.connect_timeout, read_connect(&edge, &mut stream, &mut input)) => first,
        _ = phase.wait_for(|phase| *phase == Phase::Draining) => return,
    };
    drop(phase);
    let connect = match first {
        Ok(Some(connect)) => connect,
        Ok(None) => return,
        Err(_) => return edge.warn_of_client(peer, "", "no CONNECT within the time limit"),
    };
    let client_id = match session::check_connect(&connect, || edge.make_client_id()) {
        Ok(client_id) => client_id,
        Err(refusal) => {
            let mut out = Vec::new();
            codec::encode_connack(false, refusal as u8, &mut out);
            let _ = timeout(edge.settings.write_timeout, stream.write_all(&out)).await;
            edge.counters.connections_refused.add(1);
            return edge.warn_of_client(
                peer,
                &connect.client_id,
                "refused: a client id has 1 to 128 bytes without + # $ / (an empty one needs a clean session)",
            );
        }
    };
    edge.counters.connections.add(1);
    if connect.has_login {
        edge.note_login(peer, &client_id);
    }
    let attached = edge.sessions.attach(&client_id, connect.clean_session, peer.ip()).await;
    let mut output = Vec::new();
    codec::encode_connack(attached.session_present, 0, &mut output);
    attached.subscriber.resend(&mut output);
    let now = Instant::now();
    let mut connection = Connection {
        attached,
        client_id: client_id.clone(),
        inbound: Inbound::default(),
        pace: PublishPace::default(),
        answers: AnswerTimes::default(),
        connected: now,
        progress: Arc::default(),
        held: VecDeque::new(),
        passing_on: None,
        output,
        written: 0,
        silence_max: session::silence_ms_max(connect.keep_alive_s).map(Duration::from_millis),
        last_heard: now,
        last_written: now,
        edge: Rc::clone(&edge),
    };
    let input = Input::new(Rc::clone(&edge.read_buffer), input.to_vec());
    let end = connection.run(stream, input).await;
    connection.finish().await;
    if matches!(end, End::Disconnected) && connection.inbound.last_ordinal() > 0 {
        // Without a pipeline the process is ending, and misses nobody.
        let _ = edge.pipeline.farewell(&connection.progress);
    }
    edge.sessions.detach(&client_id, connect.clean_session);
    drop(connection);
    edge.counters.disconnections.add(1);
    if end.is_noteworthy() {
        edge.warn_of_client(peer, &client_id, &end.reason());
    } else {
        tracing::debug!(%peer, client_id, "{}", end.reason());
    }
    if let Some(will) = connect.will
        && !matches!(end, End::Disconnected | End::Draining)
    {
        edge.publish_will(&client_id, will).await;
    }
}

/// Reads until the first packet is whole. Answers what is no CONNECT of 3.1.1 by itself.
async fn read_connect<T: From<handoff::Input> + 'static>(
    edge: &Edge<T>,
    stream: &mut TcpStream,
    input: &mut BytesMut,
) -> Option<Connect> {
    loop {
        let problem = match codec::frame_len(input, CONNECT_BYTES_MAX) {
            Ok(Some(len)) if input.len() >= len => {
                let frame = input.split_to(len);
                match codec::decode(&frame) {
                    Ok(Packet::Connect(connect)) => return Some(connect),
                    Ok(_) => Close::NotConnected.to_string(),
                    Err(error) => {
                        let mut out = Vec::new();
                        match error {
                            DecodeError::ProtocolLevel(5) => codec::encode_connack_v5_unsupported(&mut out),
                            DecodeError::ProtocolLevel(_) => codec::encode_connack(false, 1, &mut out),
                            DecodeError::Malformed | DecodeError::TooLarge { .. } => {}
                        }
                        let _ = stream.write_all(&out).await;
                        error.to_string()
                    }
                }
            }
            Ok(_) => match stream.read_buf(input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => continue,
            },
            Err(error) => error.to_string(),
        };
        edge.counters.connections_refused.add(1);
        if let Ok(peer) = stream.peer_addr() {
            edge.warn_of_client(peer, "", &problem);
        }
        return None;
    }
}

impl<T: From<handoff::Input> + 'static> Connection<T> {
    async fn run(&mut self, mut stream: TcpStream, mut input: Input) -> End {
        let (mut reader, mut writer) = stream.split();
        let mut timer = Box::pin(sleep_until(Instant::now() + FAR_AHEAD));
        let mut result = Ok(());
        loop {
            if let Err(end) = result {
                input.leave_line();
                input.turn.pass_on(false).await;
                // What came before the offence is stored and acknowledged like any other.
                self.flush(&mut writer).await;
                return end;
            }
            result = Ok(());
            if let Err(end) = self.settle(&mut input.turn) {
                // What was stored before is acknowledged, or it would be sent and stored again.
                let _ = self.write_now(&writer);
                return end;
            }
            if let Err(end) = self.write_now(&writer) {
                return end;
            }
            if self.fill_output() {
                tokio::task::yield_now().await;
            }
            if let Some(end) = self.called_away() {
                return end;
            }
            let (may_read, may_pass_on) = (self.may_read(), self.has_to_pass_on() && self.passing_on.is_none());
            if !may_read {
                input.leave_line();
            }
            input.turn.pass_on(may_pass_on || may_read && input.has_rest()).await;
            self.arm(&mut timer, &input);
            tokio::select! {
                result = writer.write(&self.output[self.written..]), if !self.output.is_empty() => match result {
                    Ok(0) | Err(_) => return End::Lost,
                    Ok(count) => self.wrote(count),
                },
                arrived = next(&mut input, &mut reader, &self.edge.pipeline, may_read), if may_read || may_pass_on => match arrived {
                    Ok(Some(arrived)) => result = self.take(&mut input, arrived),
                    // It is our turn to pass on what is held.
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
                () = self.attached.subscriber.changed.notified() => {}
                () = &mut timer => {
                    if let Some(end) = self.judge_silence(may_read, &mut input) {
                        return end;
                    }
                }
            }
        }
    }

    /// Writes acknowledgements as far as the socket takes them at once: as a rule that is all, and nothing has to be waited for.
    fn write_now(&mut self, writer: &WriteHalf<'_>) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        match writer.try_write(&self.output[self.written..]) {
            Ok(0) => return Err(End::Lost),
            Ok(count) => self.wrote(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Err(End::Lost),
        }
        Ok(())
    }

    /// Whether the connection has to end for a reason that is not its client's doing at this moment.
    fn called_away(&self) -> Option<End> {
        let subscriber = &self.attached.subscriber;
        if subscriber.overrun.get() {
            self.edge.counters.subscribers_overrun.add(1);
            return Some(End::Overrun);
        }
        if subscriber.taken_over.get() {
            return Some(End::TakenOver);
        }
        let is_done = !self.inbound.is_waiting() && self.output.is_empty();
        (self.edge.draining.get() && is_done).then_some(End::Draining)
    }

    /// Publishes are committed that were not passed on to their receivers.
    fn has_to_pass_on(&self) -> bool {
        self.passing_on.is_some() || self.held.front().is_some_and(|held| held.ordinal <= self.progress.committed())
    }

    /// Not before what was read is under way to the disk and, once it is there, to its receivers, and not while the client leaves our
    /// answers unread.
    fn may_read(&self) -> bool {
        !self.edge.draining.get()
            && !self.has_to_pass_on()
            && self.inbound.uncommitted() < self.edge.settings.uncommitted_max
            && self.output.len() < OUTPUT_BYTES
    }

    /// Handles the whole packets of the input, as many as there is time for, and submits what they publish as one. Awaits nothing: what came
    /// lies in a shared buffer.
    fn take(&mut self, input: &mut Input, arrived: Arrived) -> Result<(), End> {
        self.edge.counters.bytes_received.add(arrived.bytes as u64);
        self.last_heard = Instant::now();
        let (kept, result) = input.handle(arrived, |bytes, allowance| self.packets(bytes, allowance));
        result?;
        Ok(kept?)
    }

    fn packets(&mut self, bytes: &[u8], allowance: &mut Allowance) -> Taken<Result<(), End>> {
        let now_ms = (self.edge.now_ms)();
        let mut batch = Batch::for_read_of(if allowance.is_nothing() { 0 } else { bytes.len() });
        let mut rest = bytes;
        let mut result = Ok(());
        let mut has_rest = false;
        while result.is_ok() && !rest.is_empty() {
            result = match codec::frame_len(rest, self.edge.settings.packet_bytes_max) {
                Ok(Some(len)) if rest.len() >= len => {
                    if !allowance.permits(len) {
                        has_rest = true;
                        break;
                    }
                    let (frame, after) = rest.split_at(len);
                    rest = after;
                    match codec::decode(frame) {
                        Ok(packet) => self.packet(packet, now_ms, &mut batch),
                        Err(error) => Err(End::Undecodable(error)),
                    }
                }
                Ok(_) => break,
                Err(error) => Err(End::Undecodable(error)),
            };
        }
        let submitted = self.submit(batch);
        Taken { used: bytes.len() - rest.len(), has_rest, result: submitted.and(result) }
    }

    fn packet(&mut self, packet: Packet<'_>, now_ms: i64, batch: &mut Batch) -> Result<(), End> {
        match packet {
            Packet::Publish { topic, qos, retain, packet_id, payload } => {
                let verdict = self.inbound.publish(topic, qos, packet_id).map_err(End::Broken)?;
                batch.publishes += 1;
                batch.answers += u64::from(qos > 0);
                self.publish(verdict, (topic, payload), (qos, retain), now_ms, batch)
            }
            Packet::PubAck { packet_id } => self.attached.subscriber.acknowledge(packet_id).map_err(End::Broken),
            Packet::Subscribe { packet_id, filters } => {
                self.subscribe(packet_id, &filters);
                Ok(())
            }
            Packet::Unsubscribe { packet_id, filters } => {
                for filter in &filters {
                    self.edge.fanout.unsubscribe(&self.attached.subscriber, filter);
                }
                codec::encode_unsuback(packet_id, &mut self.output);
                Ok(())
            }
            Packet::PingReq => {
                self.output.extend_from_slice(&codec::PINGRESP);
                Ok(())
            }
            Packet::Disconnect => Err(End::Disconnected),
            Packet::Connect(_) => Err(End::Broken(Close::SecondConnect)),
        }
    }

    fn publish(
        &mut self,
        verdict: PublishVerdict,
        (topic, payload): (&str, &[u8]),
        (qos, retain): (u8, bool),
        now_ms: i64,
        batch: &mut Batch,
    ) -> Result<(), End> {
        let counters = &self.edge.counters;
        (if qos == 0 { &counters.publishes_qos_0 } else { &counters.publishes_qos_1 }).add(1);
        let is_taken = match verdict {
            PublishVerdict::Take => self.edge.decode(topic, qos, payload, now_ms, batch),
            PublishVerdict::AcknowledgeAlert => self.edge.acknowledge_alert(topic, payload, &self.client_id)?,
            PublishVerdict::Refuse => {
                self.edge.warn_of_topic(&self.client_id, topic);
                false
            }
        };
        if verdict != PublishVerdict::Take {
            // The pipeline tells subscribers of an acknowledgement, once it knows the alert.
            counters.publishes_refused.add(u64::from(!is_taken));
            return Ok(());
        }
        let has_receivers = is_taken && self.edge.fanout.may_reach(topic);
        if has_receivers {
            batch.urgency = Urgency::Urgent;
        }
        // The bytes of others need not be kept until the commit.
        if has_receivers || is_taken && retain {
            let envelope = Envelope::new(topic, payload, qos);
            batch.held_bytes += topic.len() + payload.len();
            self.held.push_back(UncommittedPublish { ordinal: self.inbound.last_ordinal(), envelope, retain });
        }
        Ok(())
    }

    fn subscribe(&mut self, packet_id: u16, filters: &[(String, u8)]) {
        let mut granted = Vec::with_capacity(filters.len());
        let filters_max = FILTERS_A_PACKET.max(self.edge.settings.filters_a_client_max);
        for (at, (filter, qos)) in filters.iter().enumerate() {
            // QoS 2 is not served: the client is told what it gets.
            let qos = (*qos).min(1);
            let refusal = match topic::check_filter(filter) {
                Err(error) => Some(error.reason()),
                Ok(()) if at >= filters_max => Some("is one too many"),
                Ok(()) => match self.edge.fanout.subscribe(&self.attached.subscriber, filter, qos) {
                    Ok(()) => None,
                    Err(TooManyFilters) => {
                        self.edge.fanout.note_short();
                        Some("is one too many")
                    }
                },
            };
            if let Some(reason) = refusal {
                self.edge.counters.filters_refused.add(1);
                tracing::debug!(client_id = self.client_id, filter, "filter refused: it {reason}");
            }
            granted.push(if refusal.is_some() { 0x80 } else { qos });
        }
        codec::encode_suback(packet_id, &granted, &mut self.output);
    }

    fn submit(&mut self, mut batch: Batch) -> Result<(), End> {
        if batch.publishes == 0 {
            return Ok(());
        }
        let now = self.last_heard.saturating_duration_since(self.connected);
        batch.urgency = batch.urgency.max(self.pace.published(now, batch.answers > 0));
        self.answers.read(self.inbound.last_ordinal(), self.last_heard, batch.answers);
        moderation::note(batch.publishes);
        Ok(self.edge.pipeline.submit(batch.submission(&self.progress, self.inbound.last_ordinal()))?)
    }

    /// Commits set publishes free: they are passed on to their receivers, as many as there is time for, and acknowledged, in their order. An
    /// acknowledgement says that a publish is stored, and does not wait for what others are subscribed to.
    fn settle(&mut self, turn: &mut Turn) -> Result<(), End> {
        while let Some(refused) = self.progress.take_refused() {
            self.held.retain(|held| !refused.contains(&held.ordinal));
            self.answers.refused(&refused);
            self.inbound.refused(refused);
        }
        let was_full = !self.may_read();
        let committed = self.progress.committed();
        self.pass_on(committed, turn)?;
        if self.inbound.is_waiting() {
            let unwritten = self.output.len();
            self.inbound.committed(committed, &mut self.output);
            if self.output.len() > unwritten {
                let now = Instant::now();
                self.pace.answered(now.saturating_duration_since(self.connected), self.inbound.is_waiting());
                self.answers.answered(committed, now, &self.edge.counters.puback);
            }
            if was_full {
                // The client was not heard because we did not listen.
                self.last_heard = Instant::now();
            }
        }
        if self.progress.is_failed() { Err(End::Refused) } else { Ok(()) }
    }

    fn pass_on(&mut self, committed: u64, turn: &mut Turn) -> Result<(), RouterDead> {
        if self.passing_on.is_some() || self.held.front().is_none_or(|held| held.ordinal > committed) {
            return Ok(());
        }
        let mut allowance = turn.allowance();
        while self.passing_on.is_none()
            && let Some(held) =
                self.held.pop_front_if(|held| held.ordinal <= committed && allowance.permits(held.envelope.len()))
        {
            self.passing_on = self.edge.fanout.pass_on(held.envelope, held.retain)?;
        }
        turn.note(&allowance, self.passing_on.is_some() || !self.has_to_pass_on());
        Ok(())
    }

    /// Whether others should have their turn before this goes on.
    fn fill_output(&mut self) -> bool {
        if self.output.is_empty() {
            self.last_written = Instant::now();
        }
        let subscriber = &self.attached.subscriber;
        let is_paused = self.edge.fanout.fill(subscriber, &mut self.output, OUTPUT_BYTES);
        subscriber.note_output(self.output.len());
        if is_paused {
            subscriber.changed.notify_one();
        }
        is_paused
    }

    fn wrote(&mut self, count: usize) {
        self.written += count;
        self.last_written = Instant::now();
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
            self.output.shrink_to(OUTPUT_BYTES);
        }
    }

    fn write_timeout(&self) -> Duration {
        let usual = self.edge.settings.write_timeout;
        if self.edge.draining.get() { usual.min(DRAINING_WRITE_TIMEOUT) } else { usual }
    }

    /// Sets the timer to the earliest thing to watch for, unless it fires before that anyway.
    fn arm(&self, timer: &mut Pin<Box<Sleep>>, input: &Input) {
        let silence = self.silence_max.map(|max| self.last_heard + max);
        let unread = (!self.output.is_empty()).then(|| self.last_written + self.write_timeout());
        let slow = input.large_since().map(|since| since + self.edge.settings.packet_timeout);
        let Some(deadline) = [silence, unread, slow].into_iter().flatten().min() else { return };
        if timer.is_elapsed() || deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
    }

    fn judge_silence(&mut self, may_read: bool, input: &mut Input) -> Option<End> {
        let now = Instant::now();
        if !self.output.is_empty() && now >= self.last_written + self.write_timeout() {
            return Some(End::NotReading);
        }
        if !may_read || input.is_in_line() {
            self.last_heard = now;
            input.excuse(now);
        }
        if input.large_since().is_some_and(|since| now >= since + self.edge.settings.packet_timeout) {
            return Some(End::Slow);
        }
        (now >= self.last_heard + self.silence_max?).then_some(End::Broken(Close::KeepAlive))
    }

    /// Waits for the commits of what was taken, and writes their acknowledgements, as long as the client reads them.
    async fn flush(&mut self, writer: &mut WriteHalf<'_>) {
        let limit = self.edge.settings.write_timeout;
        let _ = timeout(limit, async {
            let mut turn = Turn::new(self.edge.read_buffer.lane());
            while self.inbound.is_answerable() && self.settle(&mut turn).is_ok() {
                if self.inbound.is_answerable() {
                    self.progress.changed().await;
                }
            }
            let _ = writer.write_all(&self.output[self.written..]).await;
            self.output.clear();
        })
        .await;
    }

    /// The connection is gone, but what it published goes its way: stored, then fanned out.
    async fn finish(&mut self) {
        let mut turn = Turn::new(self.edge.read_buffer.lane());
        loop {
            if let Some(passing_on) = self.passing_on.take()
                && passing_on.await.is_err()
            {
                return;
            }
            if self.held.is_empty() || self.settle(&mut turn).is_err() {
                return;
            }
            turn.pass_on(self.has_to_pass_on() && self.passing_on.is_none()).await;
            match (self.has_to_pass_on(), &self.passing_on) {
                (true, None) => poll_fn(|context| turn.poll_wait(context)).await,
                (false, None) if !self.held.is_empty() => self.progress.changed().await,
                _ => {}
            }
        }
    }
}

impl<T: From<handoff::Input> + 'static> Edge<T> {
    fn warn_of_client(&self, peer: SocketAddr, client_id: &str, reason: &str) {
        if let Some(more) = self.refusals.borrow_mut().permit((self.now_ms)()) {
            tracing::warn!(%peer, client_id, more, "connection closed: {reason}");
        }
    }

    /// A login is accepted: refusing those who send one would shut out devices that have one configured and let in all others. But
    /// nobody may believe that it protects anything. User names can be secrets, so the log names none.
    fn note_login(&self, peer: SocketAddr, client_id: &str) {
        self.counters.logins_unchecked.add(1);
        let mut told = self.told_of_logins.borrow_mut();
        if told.len() < super::LOGIN_WARNINGS_MAX && told.insert(peer.ip()) {
            tracing::warn!(
                client_id,
                "{} sent a login, but logins are not checked: whoever reaches this port can publish and subscribe",
                peer.ip()
            );
        }
    }

    fn make_client_id(&self) -> String {
        let number = self.made_client_ids.get() + 1;
        self.made_client_ids.set(number);
        format!("outrider-made-{number}")
    }
}

/// What to go on with: of the input, if it may be read, or else in passing on what is held.
async fn next<T: From<handoff::Input> + 'static>(
    input: &mut Input,
    reader: &mut ReadHalf<'_>,
    pipeline: &PipelineHandle<T>,
    may_read: bool,
) -> Result<Option<Arrived>, Lost> {
    if may_read {
        return input.read(reader, pipeline).await.map(Some);
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
