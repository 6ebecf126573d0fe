//! One connection: bytes in and out of the session machine. It reads while it may, writes while it can, and never waits for one of the
//! two before it does the other.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::codec::{self, DecodeError, Packet};
use super::fanout::SubscribeError;
use super::sessions::Attached;
use super::{Edge, Phase};
use crate::core::session::{self, Close, Connect, Inbound, PublishVerdict, Will};
use crate::core::topic;
use crate::handoff::{AlertAcknowledgement, Input, PipelineGone, SessionProgress, Submission, Undecodable};
use crate::ingest::Decoded;

use crate::core::reading::Readings;

/// One read of the socket.
const READ_BYTES: usize = 32 * 1024;
/// Forwards are added to the output up to here; acknowledgements always find room.
const OUTPUT_BYTES: usize = 64 * 1024;
/// Of a payload that cannot be decoded, this much is kept.
const SAMPLE_BYTES: usize = 1024;
/// With nothing to watch for, the timer is set this far ahead.
const FAR_AHEAD_S: u64 = 86_400;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client said DISCONNECT: no will.
    Disconnected,
    /// The client closed the connection, or the network did.
    Lost,
    Broken(Close),
    Undecodable(DecodeError),
    TakenOver,
    Overrun,
    NotReading,
    /// The pipeline takes nothing more, or what was submitted was not stored.
    Refused,
    Draining,
    RouterDead,
}

impl End {
    fn reason(&self) -> String {
        match self {
            End::Disconnected => "it said goodbye".to_owned(),
            End::Lost => "the connection was lost".to_owned(),
            End::Broken(close) => close.to_string(),
            End::Undecodable(error) => error.to_string(),
            End::TakenOver => "another client connected with this client id".to_owned(),
            End::Overrun => "it does not read what it subscribed to fast enough".to_owned(),
            End::NotReading => "it took nothing of what was sent to it for the write time-out".to_owned(),
            End::Refused => "what it published could not be stored".to_owned(),
            End::Draining => "the gateway is stopping".to_owned(),
            End::RouterDead => "the router has ended".to_owned(),
        }
    }

    /// Clients come and go; only what somebody should mend is worth a warning.
    fn is_noteworthy(&self) -> bool {
        !matches!(self, End::Disconnected | End::Lost | End::Draining)
    }
}

/// A publish that waits for its commit to be fanned out.
struct Held {
    ordinal: u64,
    topic: Box<str>,
    payload: Box<[u8]>,
    qos: u8,
    retain: bool,
}

type Submitting = Pin<Box<dyn Future<Output = Result<(), PipelineGone>>>>;

struct Connection<T: From<Input>> {
    edge: Rc<Edge<T>>,
    attached: Attached,
    client_id: String,
    inbound: Inbound,
    progress: Arc<SessionProgress>,
    held: VecDeque<Held>,
    input: BytesMut,
    output: Vec<u8>,
    written: usize,
    /// A submission that waits for its share of the budget.
    submitting: Option<Submitting>,
    silence_ms_max: Option<u64>,
    last_heard: Instant,
    last_written: Instant,
    draining: bool,
}

/// Serves one client until it or we close.
pub(super) async fn serve<T: From<Input> + 'static>(edge: Rc<Edge<T>>, mut stream: TcpStream, peer: SocketAddr) {
    // A small packet must not wait for another one's acknowledgement; without the option it only would be slower.
    let _ = stream.set_nodelay(true);
    let mut input = BytesMut::new();
    let first = timeout(edge.settings.connect_timeout, read_connect(&edge, &mut stream, &mut input)).await;
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
    let attached = edge.sessions.attach(&client_id, connect.clean_session).await;
    let mut output = Vec::new();
    codec::encode_connack(attached.session_present, 0, &mut output);
    attached.subscriber.outbound.borrow().resend(&mut output);
    let now = Instant::now();
    let mut connection = Connection {
        attached,
        client_id: client_id.clone(),
        inbound: Inbound::default(),
        progress: Arc::default(),
        held: VecDeque::new(),
        input,
        output,
        written: 0,
        submitting: None,
        silence_ms_max: session::silence_ms_max(connect.keep_alive_s),
        last_heard: now,
        last_written: now,
        draining: false,
        edge: Rc::clone(&edge),
    };
    let end = connection.run(stream).await;
    connection.finish().await;
    edge.sessions.detach(&client_id, connect.clean_session, (edge.now_ms)());
    edge.counters.disconnections.add(1);
    if end.is_noteworthy() {
        edge.warn_of_client(peer, &client_id, &end.reason());
    } else {
        tracing::debug!(%peer, client_id, "{}", end.reason());
    }
    if let Some(will) = connect.will
        && !matches!(end, End::Disconnected | End::Draining)
    {
        publish_will(&edge, &client_id, will).await;
    }
}

/// Reads until the first packet is whole. Answers what is no CONNECT of 3.1.1 by itself.
async fn read_connect<T: From<Input> + 'static>(
    edge: &Edge<T>,
    stream: &mut TcpStream,
    input: &mut BytesMut,
) -> Option<Connect> {
    loop {
        let problem = match codec::frame_len(input, edge.settings.packet_bytes_max) {
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

impl<T: From<Input> + 'static> Connection<T> {
    async fn run(&mut self, mut stream: TcpStream) -> End {
        let (mut reader, mut writer) = stream.split();
        let mut phase = self.edge.phase.clone();
        let mut timer = Box::pin(sleep_until(Instant::now()));
        // What came right behind the CONNECT.
        if !self.input.is_empty()
            && let Err(end) = self.take_input().await
        {
            return end;
        }
        loop {
            if let Err(end) = self.settle().await {
                return end;
            }
            self.fill_output();
            if self.draining && self.inbound.uncommitted() == 0 && self.output.is_empty() {
                return End::Draining;
            }
            let may_read = self.may_read();
            self.arm(&mut timer);
            tokio::select! {
                result = writer.write(&self.output[self.written..]), if !self.output.is_empty() => match result {
                    Ok(0) | Err(_) => return End::Lost,
                    Ok(count) => self.wrote(count),
                },
                result = read_some(&mut reader, &mut self.input), if may_read => match result {
                    Ok(0) | Err(_) => return End::Lost,
                    Ok(count) => {
                        self.edge.counters.bytes_received.add(count as u64);
                        self.last_heard = Instant::now();
                        if let Err(end) = self.take_input().await {
                            // What came before the offence is stored and acknowledged like any other.
                            self.flush(&mut writer).await;
                            return end;
                        }
                    }
                },
                () = self.progress.changed() => {}
                () = self.attached.subscriber.changed.notified() => {
                    if self.attached.subscriber.overrun.get() {
                        self.edge.counters.subscribers_overrun.add(1);
                        return End::Overrun;
                    }
                }
                () = self.attached.takeover.notified() => return End::TakenOver,
                result = wait_submitted(&mut self.submitting) => {
                    self.submitting = None;
                    if result.is_err() {
                        return End::Refused;
                    }
                }
                _ = phase.wait_for(|phase| *phase == Phase::Draining), if !self.draining => self.draining = true,
                () = &mut timer => {
                    if let Some(end) = self.judge_silence(may_read) {
                        return end;
                    }
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        !self.draining && self.submitting.is_none() && self.inbound.uncommitted() < self.edge.settings.uncommitted_max
    }

    /// Handles every whole packet of the input, and submits what they publish as one.
    async fn take_input(&mut self) -> Result<(), End> {
        let now_ms = (self.edge.now_ms)();
        let mut batch = Batch::default();
        let mut input = std::mem::take(&mut self.input);
        let mut result = Ok(());
        while result.is_ok() && !input.is_empty() {
            result = match codec::frame_len(&input, self.edge.settings.packet_bytes_max) {
                Ok(Some(len)) if input.len() >= len => {
                    let handled = match codec::decode(&input[..len]) {
                        Ok(packet) => self.packet(packet, now_ms, &mut batch).await,
                        Err(error) => Err(End::Undecodable(error)),
                    };
                    input.advance(len);
                    handled
                }
                Ok(_) => break,
                Err(error) => Err(End::Undecodable(error)),
            };
        }
        self.input = input;
        self.submit(batch)?;
        result
    }

    async fn packet(&mut self, packet: Packet<'_>, now_ms: i64, batch: &mut Batch) -> Result<(), End> {
        match packet {
            Packet::Publish { topic, qos, retain, packet_id, payload } => {
                let verdict = self.inbound.publish(topic, qos, packet_id).map_err(End::Broken)?;
                let counters = &self.edge.counters;
                (if qos == 0 { &counters.publishes_qos_0 } else { &counters.publishes_qos_1 }).add(1);
                batch.publishes += 1;
                let passes_on = match verdict {
                    PublishVerdict::Take => self.edge.decode(topic, payload, now_ms, batch),
                    PublishVerdict::AcknowledgeAlert => {
                        self.edge.acknowledge_alert(topic, payload, &self.client_id)?;
                        true
                    }
                    PublishVerdict::Refuse => {
                        counters.publishes_refused.add(1);
                        self.edge.warn_of_topic(&self.client_id, topic);
                        false
                    }
                };
                if passes_on && self.edge.fanout.wants(retain) {
                    let ordinal = self.inbound.last_ordinal();
                    self.held.push_back(Held { ordinal, topic: topic.into(), payload: payload.into(), qos, retain });
                }
                Ok(())
            }
            Packet::PubAck { packet_id } => {
                self.attached.subscriber.outbound.borrow_mut().acknowledge(packet_id).map_err(End::Broken)
            }
            Packet::Subscribe { packet_id, filters } => self.subscribe(packet_id, filters).await,
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

    async fn subscribe(&mut self, packet_id: u16, filters: Vec<(String, u8)>) -> Result<(), End> {
        let mut granted = Vec::with_capacity(filters.len());
        for (filter, qos) in &filters {
            // QoS 2 is not served: the client is told what it gets.
            let qos = (*qos).min(1);
            let code = match topic::check_filter(filter) {
                Err(error) => {
                    self.edge.counters.filters_refused.add(1);
                    tracing::debug!(client_id = self.client_id, filter, "filter refused: it {}", error.reason());
                    0x80
                }
                Ok(()) => match self.edge.fanout.subscribe(&self.attached.subscriber, filter, qos).await {
                    Ok(()) => qos,
                    Err(SubscribeError::TooMany) => {
                        self.edge.counters.filters_refused.add(1);
                        0x80
                    }
                    Err(SubscribeError::Router(_)) => return Err(End::RouterDead),
                },
            };
            granted.push(code);
        }
        codec::encode_suback(packet_id, &granted, &mut self.output);
        Ok(())
    }

    fn submit(&mut self, batch: Batch) -> Result<(), End> {
        if batch.publishes == 0 {
            return Ok(());
        }
        let submission = Submission {
            session: Arc::clone(&self.progress),
            through: self.inbound.last_ordinal(),
            readings: batch.readings,
            undecodable: batch.undecodable,
            permit: None,
        };
        match self.edge.pipeline.try_submit(submission) {
            Ok(None) => Ok(()),
            Ok(Some(submission)) => {
                let pipeline = self.edge.pipeline.clone();
                self.submitting = Some(Box::pin(async move { pipeline.submit(submission).await }));
                Ok(())
            }
            Err(PipelineGone) => Err(End::Refused),
        }
    }

    /// Commits set publishes free: first they are fanned out, then acknowledged, in their order.
    async fn settle(&mut self) -> Result<(), End> {
        let committed = self.progress.committed();
        while self.held.front().is_some_and(|held| held.ordinal <= committed) {
            let held = self.held.pop_front().expect("just looked at");
            let sent = self.edge.fanout.publish(held.topic.as_bytes(), &held.payload, held.qos, held.retain).await;
            sent.map_err(|_| End::RouterDead)?;
        }
        if self.inbound.uncommitted() > 0 {
            let was_full = !self.may_read();
            self.inbound.committed(committed, &mut self.output);
            if was_full {
                // The client was not heard because we did not listen.
                self.last_heard = Instant::now();
            }
        }
        if self.progress.is_failed() { Err(End::Refused) } else { Ok(()) }
    }

    fn fill_output(&mut self) {
        if self.output.is_empty() {
            self.last_written = Instant::now();
        }
        self.attached.subscriber.outbound.borrow_mut().fill(&mut self.output, OUTPUT_BYTES);
    }

    fn wrote(&mut self, count: usize) {
        self.written += count;
        self.last_written = Instant::now();
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
            if self.output.capacity() > OUTPUT_BYTES {
                self.output.shrink_to(OUTPUT_BYTES);
            }
        }
    }

    /// Sets the timer to the earliest thing to watch for, unless it fires before that anyway.
    fn arm(&self, timer: &mut Pin<Box<Sleep>>) {
        let mut deadline = Instant::now() + std::time::Duration::from_secs(FAR_AHEAD_S);
        if let Some(silence_ms) = self.silence_ms_max {
            deadline = deadline.min(self.last_heard + std::time::Duration::from_millis(silence_ms));
        }
        if !self.output.is_empty() {
            deadline = deadline.min(self.last_written + self.edge.settings.write_timeout);
        }
        if timer.is_elapsed() || deadline < timer.deadline() {
            timer.as_mut().reset(deadline);
        }
    }

    fn judge_silence(&mut self, was_reading: bool) -> Option<End> {
        let now = Instant::now();
        if !self.output.is_empty() && now >= self.last_written + self.edge.settings.write_timeout {
            return Some(End::NotReading);
        }
        if !was_reading {
            self.last_heard = now;
        }
        let silence = std::time::Duration::from_millis(self.silence_ms_max?);
        (now >= self.last_heard + silence).then_some(End::Broken(Close::KeepAlive))
    }

    /// Waits for the commits of what was taken, and writes their acknowledgements, as long as the client reads them.
    async fn flush(&mut self, writer: &mut tokio::net::tcp::WriteHalf<'_>) {
        let limit = self.edge.settings.write_timeout;
        let _ = timeout(limit, async {
            while self.inbound.uncommitted() > 0 && self.settle().await.is_ok() {
                if self.inbound.uncommitted() > 0 {
                    tokio::select! {
                        () = self.progress.changed() => {}
                        _ = wait_submitted(&mut self.submitting) => self.submitting = None,
                    }
                }
            }
            let _ = writer.write_all(&self.output[self.written..]).await;
            self.output.clear();
        })
        .await;
    }

    /// The connection is gone, but what it published goes its way: stored, then fanned out.
    async fn finish(&mut self) {
        if let Some(submitting) = self.submitting.take() {
            let _ = submitting.await;
        }
        while !self.held.is_empty() && self.settle().await.is_ok() {
            if !self.held.is_empty() {
                self.progress.changed().await;
            }
        }
    }
}

/// What one read of the socket publishes.
#[derive(Default)]
pub(super) struct Batch {
    publishes: usize,
    readings: Readings,
    undecodable: Vec<Undecodable>,
}

impl<T: From<Input> + 'static> Edge<T> {
    /// Decodes one publish into the batch; whether it is to be fanned out.
    fn decode(&self, topic: &str, payload: &[u8], now_ms: i64, batch: &mut Batch) -> bool {
        match self.ingest.borrow_mut().decode(topic, payload, now_ms, &mut batch.readings) {
            Decoded::Stored { .. } => true,
            Decoded::Unrouted => {
                if self.counters.note_unrouted(topic) {
                    tracing::info!(
                        topic,
                        "no route takes this topic; to store it add  [[route]] topic = \"{}\"",
                        route_line(topic)
                    );
                }
                self.settings.unrouted == super::Unrouted::Pass
            }
            Decoded::Undecodable { reason } => {
                self.counters.publishes_undecodable.add(1);
                batch.undecodable.push(Undecodable {
                    reason,
                    topic: topic.to_owned(),
                    sample: payload[..payload.len().min(SAMPLE_BYTES)].to_vec(),
                    received_at_ms: now_ms,
                });
                true
            }
        }
    }

    fn acknowledge_alert(&self, topic: &str, payload: &[u8], client_id: &str) -> Result<(), End> {
        let Some((device, metric, kind)) = topic::alert_acknowledgement(topic) else {
            return Ok(());
        };
        let by = serde_json::from_slice::<serde_json::Value>(payload)
            .ok()
            .and_then(|value| value.get("by")?.as_str().map(str::to_owned));
        let acknowledgement = AlertAcknowledgement {
            device: topic::percent_decode(device),
            metric: topic::percent_decode(metric),
            kind: topic::percent_decode(kind),
            by: by.unwrap_or_else(|| client_id.to_owned()),
        };
        self.pipeline.acknowledge(acknowledgement).map_err(|PipelineGone| End::Refused)
    }

    fn warn_of_client(&self, peer: SocketAddr, client_id: &str, reason: &str) {
        if let Some(more) = self.refusals.borrow_mut().permit((self.now_ms)()) {
            tracing::warn!(%peer, client_id, more, "connection closed: {reason}");
        }
    }

    fn warn_of_topic(&self, client_id: &str, topic: &str) {
        if let Some(more) = self.refusals.borrow_mut().permit((self.now_ms)()) {
            tracing::warn!(client_id, topic, more, "publish dropped: alerts/ and outrider/ belong to the gateway");
        }
    }

    fn make_client_id(&self) -> String {
        let number = self.made_client_ids.get() + 1;
        self.made_client_ids.set(number);
        format!("outrider-made-{number}")
    }
}

/// The template that would take a topic like this one.
fn route_line(topic: &str) -> String {
    let levels: Vec<&str> = topic.split('/').collect();
    match levels.as_slice() {
        [_] => format!("{topic}\" with device = \"{topic}"),
        [root, _] => format!("{root}/{{device}}"),
        [root, ..] => format!("{root}/{{device}}/{{metric...}}"),
        [] => topic.to_owned(),
    }
}

/// A will is a publish like any other: stored, then fanned out.
async fn publish_will<T: From<Input> + 'static>(edge: &Rc<Edge<T>>, client_id: &str, will: Will) {
    if topic::check_topic(&will.topic).is_err() || topic::is_reserved(&will.topic) {
        edge.counters.publishes_refused.add(1);
        return edge.warn_of_topic(client_id, &will.topic);
    }
    let mut batch = Batch::default();
    if !edge.decode(&will.topic, &will.payload, (edge.now_ms)(), &mut batch) {
        return;
    }
    let progress = Arc::<SessionProgress>::default();
    let submission = Submission {
        session: Arc::clone(&progress),
        through: 1,
        readings: batch.readings,
        undecodable: batch.undecodable,
        permit: None,
    };
    if edge.pipeline.submit(submission).await.is_err() {
        return;
    }
    while progress.committed() < 1 && !progress.is_failed() {
        progress.changed().await;
    }
    if progress.committed() >= 1 {
        // A dead router is noticed by the listener, which ends the process.
        let _ = edge.fanout.publish(will.topic.as_bytes(), &will.payload, will.qos.min(1), will.retain).await;
    }
}

async fn read_some(reader: &mut tokio::net::tcp::ReadHalf<'_>, input: &mut BytesMut) -> std::io::Result<usize> {
    // Waiting first keeps an idle connection without a buffer.
    reader.readable().await?;
    input.reserve(READ_BYTES);
    match reader.try_read_buf(input) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            if input.is_empty() {
                *input = BytesMut::new();
            }
            reader.read_buf(input).await
        }
        result => result,
    }
}

async fn wait_submitted(submitting: &mut Option<Submitting>) -> Result<(), PipelineGone> {
    match submitting {
        Some(submitting) => submitting.as_mut().await,
        None => std::future::pending().await,
    }
}
