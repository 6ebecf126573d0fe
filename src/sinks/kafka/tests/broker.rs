//! Brokers in memory, of one topic: they number producers, know a batch that comes again, and fail when they are told to.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, InitProducerIdResponse, MetadataResponse, ProduceRequest, ProduceResponse,
    ResponseHeader, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes, decode_request_header_from_buffer};
use kafka_protocol::records::RecordBatchDecoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::super::connection::Address;

pub const TOPIC: &str = "readings";

/// What goes wrong with the next Produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks, and nothing is stored.
    LostRequest,
    /// The connection breaks, and everything is stored.
    LostAnswer,
    /// Each partition answers this, and stores nothing.
    Code(i16),
    /// Everything is stored, and the broker asks for a pause.
    Throttle(i32),
}

#[derive(Default)]
pub struct State {
    pub has_topic: bool,
    /// By partition.
    pub logs: Vec<Log>,
    /// By partition, the node.
    pub leaders: Vec<i32>,
    pub faults: VecDeque<Fault>,
    pub batch_bytes_max: usize,
    pub produced_at: Vec<Instant>,
    /// Mechanism, and the message that logs in.
    pub login: Option<(&'static str, Vec<u8>)>,
    /// Nodes whose port is told to be another one.
    pub moved: HashMap<usize, u16>,
    producers: i64,
}

#[derive(Default)]
pub struct Log {
    pub records: Vec<(String, String)>,
    /// Of each producer, the first and the last sequence number of its last batches.
    producers: HashMap<i64, VecDeque<(i32, i32)>>,
}

impl Log {
    fn append(&mut self, batch: &Bytes) -> i16 {
        let records = RecordBatchDecoder::decode(&mut batch.clone()).unwrap().records;
        let (first, last) = (records[0].sequence, records[records.len() - 1].sequence);
        let batches = self.producers.entry(records[0].producer_id).or_default();
        if batches.contains(&(first, last)) {
            return 0;
        }
        if batches.back().is_some_and(|(_, before)| first != before + 1) {
            return 45;
        }
        batches.push_back((first, last));
        if batches.len() > 5 {
            batches.pop_front();
        }
        let text = |bytes: Option<Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        self.records.extend(records.into_iter().map(|record| (text(record.key), text(record.value))));
        0
    }
}

/// Nodes from 0 on.
pub struct Brokers {
    pub state: Rc<RefCell<State>>,
    pub addresses: Vec<Address>,
    connections: watch::Sender<()>,
}

impl Brokers {
    /// Must run in a `LocalSet`.
    pub async fn start(nodes: usize, partitions: usize) -> Brokers {
        let state = State {
            has_topic: true,
            logs: (0..partitions).map(|_| Log::default()).collect(),
            leaders: (0..partitions).map(|partition| (partition % nodes) as i32).collect(),
            batch_bytes_max: 1 << 20,
            ..State::default()
        };
        let mut brokers =
            Brokers { state: Rc::new(RefCell::new(state)), addresses: Vec::new(), connections: watch::Sender::new(()) };
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            brokers.addresses.push(Address { host: "127.0.0.1".to_owned(), port });
            listeners.push(listener);
        }
        for (node, listener) in (0..).zip(listeners) {
            let (state, addresses) = (Rc::clone(&brokers.state), brokers.addresses.clone());
            let closed = brokers.connections.subscribe();
            tokio::task::spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let node = Node { id: node, state: Rc::clone(&state), addresses: addresses.clone() };
                    let mut closed = closed.clone();
                    closed.mark_unchanged();
                    tokio::task::spawn_local(async move {
                        tokio::select! {
                            _ = node.serve(stream) => {}
                            _ = closed.changed() => {}
                        }
                    });
                }
            });
        }
        brokers
    }

    /// Nobody listens at a node's address any more.
    pub async fn forget(&mut self, node: usize) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.state.borrow_mut().moved.insert(node, listener.local_addr().unwrap().port());
        self.addresses.rotate_left(1);
    }

    /// As brokers do with connections that were idle for long.
    pub async fn close_connections(&self) {
        self.connections.send_replace(());
        tokio::task::yield_now().await;
    }

    /// All values of a key.
    pub fn values(&self, key: &str) -> Vec<String> {
        let state = self.state.borrow();
        let records = state.logs.iter().flat_map(|log| &log.records);
        records.filter(|(known, _)| known == key).map(|(_, value)| value.clone()).collect()
    }

    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.borrow_mut().faults.extend(faults);
    }
}

struct Node {
    id: i32,
    state: Rc<RefCell<State>>,
    addresses: Vec<Address>,
}

impl Node {
    /// `None` when the connection ends.
    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut is_let_in = self.state.borrow().login.is_none();
        loop {
            let length = stream.read_u32().await.ok()?;
            let mut frame = vec![0; length as usize];
            stream.read_exact(&mut frame).await.ok()?;
            let mut frame = Bytes::from(frame);
            let header = decode_request_header_from_buffer(&mut frame).unwrap();
            let version = header.request_api_version;
            let mut out = BytesMut::new();
            let number = header.correlation_id;
            match ApiKey::try_from(header.request_api_key).unwrap() {
                ApiKey::ApiVersions => write(&mut out, number, version, &versions()),
                ApiKey::Metadata if !is_let_in => return None,
                ApiKey::Metadata => write(&mut out, number, version, &self.metadata()),
                ApiKey::InitProducerId => write(&mut out, number, version, &self.new_producer()),
                ApiKey::SaslHandshake => write(&mut out, number, version, &self.handshake(&frame)),
                ApiKey::SaslAuthenticate => {
                    let request = SaslAuthenticateRequest::decode(&mut frame, version).unwrap();
                    let answer = self.authenticate(&request);
                    is_let_in = answer.error_code == 0;
                    write(&mut out, number, version, &answer);
                }
                ApiKey::Produce => {
                    let request = ProduceRequest::decode(&mut frame, version).unwrap();
                    write(&mut out, number, version, &self.produce(&request)?);
                }
                other => panic!("nobody asks for {other:?}"),
            }
            let length = (out.len() as u32).to_be_bytes();
            stream.write_all(&[&length[..], &out].concat()).await.ok()?;
        }
    }

    fn metadata(&self) -> MetadataResponse {
        let state = self.state.borrow();
        let broker = |(id, address): (i32, &Address)| {
            let port = state.moved.get(&(id as usize)).copied().unwrap_or(address.port);
            MetadataResponseBroker::default()
                .with_node_id(id.into())
                .with_host(StrBytes::from_string(address.host.clone()))
                .with_port(port.into())
        };
        let partition = |(index, leader): (i32, &i32)| {
            MetadataResponsePartition::default().with_partition_index(index).with_leader_id((*leader).into())
        };
        let mut topic = MetadataResponseTopic::default().with_name(Some(TopicName(StrBytes::from_static_str(TOPIC))));
        match state.has_topic {
            true => topic.partitions = (0..).zip(&state.leaders).map(partition).collect(),
            false => topic.error_code = 3,
        }
        MetadataResponse::default()
            .with_cluster_id(Some(StrBytes::from_static_str("in memory")))
            .with_brokers((0..).zip(&self.addresses).map(broker).collect())
            .with_topics(vec![topic])
    }

    fn new_producer(&self) -> InitProducerIdResponse {
        let mut state = self.state.borrow_mut();
        state.producers += 1;
        InitProducerIdResponse::default().with_producer_id(state.producers.into()).with_producer_epoch(0)
    }

    fn handshake(&self, request: &Bytes) -> SaslHandshakeResponse {
        let state = self.state.borrow();
        let Some((mechanism, _)) = &state.login else {
            return SaslHandshakeResponse::default().with_error_code(34);
        };
        let is_known = request[2..] == *mechanism.as_bytes();
        SaslHandshakeResponse::default()
            .with_error_code(if is_known { 0 } else { 33 })
            .with_mechanisms(vec![StrBytes::from_static_str(mechanism)])
    }

    fn authenticate(&self, request: &SaslAuthenticateRequest) -> SaslAuthenticateResponse {
        let state = self.state.borrow();
        let is_right = state.login.as_ref().is_some_and(|(_, message)| *message == request.auth_bytes);
        SaslAuthenticateResponse::default().with_error_code(if is_right { 0 } else { 58 })
    }

    /// `None` breaks the connection.
    fn produce(&self, request: &ProduceRequest) -> Option<ProduceResponse> {
        let mut state = self.state.borrow_mut();
        state.produced_at.push(Instant::now());
        let fault = state.faults.pop_front();
        if fault == Some(Fault::LostRequest) {
            return None;
        }
        let topic = &request.topic_data[0];
        let mut answers = Vec::new();
        for data in &topic.partition_data {
            let (index, batch) = (data.index as usize, data.records.as_ref().unwrap());
            let code = match fault {
                Some(Fault::Code(code)) => code,
                _ if state.leaders[index] != self.id => 6,
                _ if batch.len() > state.batch_bytes_max => 10,
                _ => state.logs[index].append(batch),
            };
            answers.push(PartitionProduceResponse::default().with_index(data.index).with_error_code(code));
        }
        if fault == Some(Fault::LostAnswer) {
            return None;
        }
        let throttle_ms = if let Some(Fault::Throttle(ms)) = fault { ms } else { 0 };
        let topic = TopicProduceResponse::default().with_name(topic.name.clone()).with_partition_responses(answers);
        Some(ProduceResponse::default().with_throttle_time_ms(throttle_ms).with_responses(vec![topic]))
    }
}

fn versions() -> ApiVersionsResponse {
    let keys = [(ApiKey::Produce, 3, 13), (ApiKey::Metadata, 0, 13), (ApiKey::InitProducerId, 0, 5)];
    let logins = [(ApiKey::SaslHandshake, 0, 1), (ApiKey::SaslAuthenticate, 0, 2), (ApiKey::ApiVersions, 0, 4)];
    let version = |(key, lowest, highest): (ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(lowest).with_max_version(highest)
    };
    ApiVersionsResponse::default().with_api_keys(keys.into_iter().chain(logins).map(version).collect())
}

fn write<A: Encodable + HeaderVersion>(out: &mut BytesMut, number: i32, version: i16, answer: &A) {
    let header = ResponseHeader::default().with_correlation_id(number);
    header.encode(out, A::header_version(version)).unwrap();
    answer.encode(out, version).unwrap();
    assert!(out.has_remaining());
}
