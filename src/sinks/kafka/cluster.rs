//! What is known of the cluster: its brokers, who leads which partition of the topic, and the connections to them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinSet;

use super::batch::ProducerId;
use super::connection::{Access, Address, Ask, Connection};
use super::outcome::{self, LEADER_NOT_AVAILABLE, Place, UNKNOWN_TOPIC, Verdict};
use crate::core::delivery::{Outcome, RetryReason};

/// What is known is looked up again after this time, because a topic may have got more partitions.
const LASTS: Duration = Duration::from_secs(300);
/// A topic that was just created is not known to every broker at once.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// The longest that a broker's wish to be left alone is heeded without asking it again.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// All replicas that are in sync have to have it.
const ALL_REPLICAS: i16 = -1;

impl Ask for MetadataRequest {
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSIONS: (i16, i16) = (4, 9);
    type Answer = MetadataResponse;
}

impl Ask for InitProducerIdRequest {
    const KEY: ApiKey = ApiKey::InitProducerId;
    const VERSIONS: (i16, i16) = (0, 4);
    type Answer = InitProducerIdResponse;
}

impl Ask for ProduceRequest {
    const KEY: ApiKey = ApiKey::Produce;
    const VERSIONS: (i16, i16) = (3, 11);
    type Answer = ProduceResponse;
}

pub struct Cluster {
    access: std::rc::Rc<Access>,
    topic: String,
    /// The addresses of the configuration.
    first: Vec<Address>,
    /// Which of them is asked next.
    turn: usize,
    brokers: BTreeMap<i32, Address>,
    /// By partition.
    leaders: Vec<Option<i32>>,
    id: String,
    looked_up: Option<Instant>,
    is_stale: bool,
    /// Since when no broker knows the topic.
    unknown_since: Option<Instant>,
    connections: HashMap<Address, Connection>,
    /// Until when brokers want to be left alone.
    quiet: HashMap<Address, Instant>,
}

/// What one broker answered to batches, by partition.
type Answered = (Vec<i32>, Result<(Connection, ProduceResponse), Outcome>);

impl Cluster {
    pub fn new(access: std::rc::Rc<Access>, topic: String, first: Vec<Address>) -> Cluster {
        Cluster {
            access,
            topic,
            first,
            turn: 0,
            brokers: BTreeMap::new(),
            leaders: Vec::new(),
            id: String::new(),
            looked_up: None,
            is_stale: true,
            unknown_since: None,
            connections: HashMap::new(),
            quiet: HashMap::new(),
        }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn partitions(&self) -> usize {
        self.leaders.len()
    }

    pub fn place(&self, partition: i32) -> Place {
        Place { topic: self.topic.clone(), partition }
    }

    /// Looks up what is not known or may have changed.
    pub async fn look_up(&mut self) -> Result<(), Outcome> {
        let is_old = self.looked_up.is_none_or(|at| at.elapsed() > LASTS);
        if !self.is_stale && !is_old {
            return Ok(());
        }
        let mut last = Outcome::Unreachable("no broker is configured".to_owned());
        // Brokers that are known may be gone, all of them; the configured ones are asked then.
        let known: Vec<Address> = self.brokers.values().cloned().collect();
        let configured = (0..self.first.len()).map(|n| self.first[(self.turn + n) % self.first.len()].clone());
        let asked: Vec<Address> = known.into_iter().chain(configured).collect();
        self.turn = self.turn.wrapping_add(1);
        for address in asked {
            match self.ask_for_metadata(&address).await {
                Ok(answer) => return self.take_over(&answer),
                // What somebody has to mend says more than that another broker is away.
                Err(outcome) if !matches!(last, Outcome::Halt(_)) => last = outcome,
                Err(_) => {}
            }
        }
        Err(last)
    }

    async fn ask_for_metadata(&mut self, address: &Address) -> Result<MetadataResponse, Outcome> {
        let topic = MetadataRequestTopic::default().with_name(Some(self.topic_name()));
        // The name of a topic may be misspelt: none is created by asking.
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        self.ask(address, &request).await
    }

    fn topic_name(&self) -> TopicName {
        TopicName(StrBytes::from_string(self.topic.clone()))
    }

    fn take_over(&mut self, answer: &MetadataResponse) -> Result<(), Outcome> {
        let address = |host: &StrBytes, port: i32| {
            Some(Address { host: host.to_string(), port: u16::try_from(port).ok().filter(|port| *port > 0)? })
        };
        let brokers = answer.brokers.iter().filter_map(|one| Some((one.node_id.0, address(&one.host, one.port)?)));
        let brokers: BTreeMap<i32, Address> = brokers.collect();
        if !brokers.is_empty() {
            let (first, known) = (&self.first, &brokers);
            self.connections.retain(|address, _| first.contains(address) || known.values().any(|one| one == address));
            self.quiet.retain(|_, until| *until > Instant::now());
            self.brokers = brokers;
        }
        if let Some(id) = &answer.cluster_id {
            self.id = id.to_string();
        }
        let topic = answer.topics.iter().find(|topic| topic.name.as_ref().is_some_and(|name| name.0 == *self.topic));
        let code = topic.map_or(UNKNOWN_TOPIC, |topic| topic.error_code);
        let partitions = topic.map(|topic| topic.partitions.as_slice()).unwrap_or_default();
        if code != 0 || partitions.is_empty() {
            return Err(self.without_topic(code));
        }
        self.unknown_since = None;
        let mut leaders = vec![None; partitions.len()];
        for partition in partitions {
            let place = usize::try_from(partition.partition_index).ok().and_then(|index| leaders.get_mut(index));
            let Some(leader) = place else { return Err(self.without_topic(LEADER_NOT_AVAILABLE)) };
            *leader = Some(partition.leader_id.0).filter(|id| self.brokers.contains_key(id));
        }
        self.leaders = leaders;
        (self.looked_up, self.is_stale) = (Some(Instant::now()), false);
        Ok(())
    }

    fn without_topic(&mut self, code: i16) -> Outcome {
        let topic = &self.topic;
        if code != UNKNOWN_TOPIC {
            let mended = outcome::of_any(code, None, topic);
            let reason = format!("the topic {topic} takes nothing at present ({})", outcome::words(code, None));
            return mended.unwrap_or(Outcome::Later { reason, after_us: None });
        }
        let since = *self.unknown_since.get_or_insert_with(Instant::now);
        let text = format!("there is no topic {topic}; create it, or correct its name in the [[sink]]");
        match since.elapsed() > UNKNOWN_FOR {
            true => Outcome::Halt(text),
            false => Outcome::Later { reason: text, after_us: None },
        }
    }

    /// The connection that is there, or a new one.
    async fn connection(&mut self, address: &Address) -> Result<Connection, Outcome> {
        if let Some(mut connection) = self.connections.remove(address)
            && connection.is_alive()
        {
            return Ok(connection);
        }
        Connection::open(address, &self.access).await.inspect_err(|_| self.is_stale = true)
    }

    async fn ask<A: Ask>(&mut self, address: &Address, request: &A) -> Result<A::Answer, Outcome> {
        let mut connection = self.connection(address).await?;
        let answer = connection.ask(request).await?;
        self.connections.insert(address.clone(), connection);
        Ok(answer)
    }

    /// A producer that no broker has heard of yet.
    pub async fn new_producer(&mut self) -> Result<ProducerId, Outcome> {
        let address = self.brokers.values().next().or(self.first.first()).cloned();
        let address = address.ok_or_else(|| Outcome::Unreachable("no broker is known".to_owned()))?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let answer = self.ask(&address, &request).await.inspect_err(|_| self.is_stale = true)?;
        match answer.error_code {
            0 => Ok(ProducerId { id: answer.producer_id.0, epoch: answer.producer_epoch }),
            code => Err(outcome::of_any(code, None, &self.topic).unwrap_or_else(|| Outcome::Later {
                reason: format!("{address} gives no producer id at present ({})", outcome::words(code, None)),
                after_us: None,
            })),
        }
    }

    /// Connects to whoever leads this partition, if need be.
    pub async fn reach(&mut self, partition: i32) -> Result<(), Outcome> {
        let address = self.leader(partition).ok_or_else(|| {
            self.is_stale = true;
            Outcome::Later { reason: format!("{} has no leader at present", self.place(partition)), after_us: None }
        })?;
        let connection = self.connection(&address).await?;
        self.connections.insert(address, connection);
        Ok(())
    }

    fn leader(&self, partition: i32) -> Option<Address> {
        let leader = self.leaders.get(usize::try_from(partition).ok()?).copied().flatten()?;
        self.brokers.get(&leader).cloned()
    }

    /// Sends one batch of each partition to its leader, which was reached before. All leaders are asked at once.
    pub async fn produce(&mut self, batches: Vec<(i32, Bytes)>) -> BTreeMap<i32, Verdict> {
        let mut verdicts = BTreeMap::new();
        let mut by_leader: BTreeMap<Address, Vec<(i32, Bytes)>> = BTreeMap::new();
        for (partition, bytes) in batches {
            match self.leader(partition).filter(|leader| self.connections.contains_key(leader)) {
                Some(leader) => by_leader.entry(leader).or_default().push((partition, bytes)),
                None => {
                    let gone =
                        Outcome::Unreachable(format!("no connection to the leader of {}", self.place(partition)));
                    verdicts.insert(partition, Verdict::Doubt(gone));
                }
            }
        }
        let mut asked: JoinSet<Answered> = JoinSet::new();
        for (leader, batches) in by_leader {
            let connection = self.connections.remove(&leader).expect("only leaders with a connection are asked");
            let quiet_until = self.quiet.remove(&leader);
            let partitions = batches.iter().map(|(partition, _)| *partition).collect();
            let request = self.produce_request(batches);
            asked.spawn_local(async move { (partitions, ask_when_wanted(connection, request, quiet_until).await) });
        }
        while let Some(answered) = asked.join_next().await {
            let (partitions, answer) = answered.expect("nothing panics there, and nobody aborts it");
            self.take_verdicts(&mut verdicts, &partitions, answer);
        }
        verdicts
    }

    fn produce_request(&self, batches: Vec<(i32, Bytes)>) -> ProduceRequest {
        let data = |(partition, bytes)| PartitionProduceData::default().with_index(partition).with_records(Some(bytes));
        let topic = TopicProduceData::default()
            .with_name(self.topic_name())
            .with_partition_data(batches.into_iter().map(data).collect());
        // The broker answers that it takes too long before the client stops waiting.
        let timeout_ms = i32::try_from(self.access.request_timeout.as_millis() * 3 / 4).unwrap_or(i32::MAX);
        ProduceRequest::default().with_acks(ALL_REPLICAS).with_timeout_ms(timeout_ms).with_topic_data(vec![topic])
    }

    fn take_verdicts(
        &mut self,
        verdicts: &mut BTreeMap<i32, Verdict>,
        partitions: &[i32],
        answer: Result<(Connection, ProduceResponse), Outcome>,
    ) {
        let (connection, answer) = match answer {
            Ok(answer) => answer,
            Err(outcome) => {
                self.is_stale = true;
                verdicts.extend(partitions.iter().map(|partition| (*partition, Verdict::Doubt(outcome.clone()))));
                return;
            }
        };
        let address = connection.address.clone();
        if let Ok(quiet_ms @ 1..) = u64::try_from(answer.throttle_time_ms) {
            let until = Instant::now() + Duration::from_millis(quiet_ms).min(QUIET_MAX);
            self.quiet.insert(address.clone(), until);
        }
        self.connections.insert(address, connection);
        let answered: BTreeMap<i32, _> =
            answer.responses.iter().flat_map(|topic| &topic.partition_responses).map(|one| (one.index, one)).collect();
        for partition in partitions {
            let verdict = match answered.get(partition) {
                Some(one) => {
                    self.is_stale |= outcome::asks_for_metadata(one.error_code);
                    outcome::of_produce(one.error_code, one.error_message.as_deref(), &self.place(*partition))
                }
                None => Verdict::Doubt(Outcome::Retry(RetryReason::Internal)),
            };
            verdicts.insert(*partition, verdict);
        }
    }
}

async fn ask_when_wanted(
    mut connection: Connection,
    request: ProduceRequest,
    quiet_until: Option<Instant>,
) -> Result<(Connection, ProduceResponse), Outcome> {
    if let Some(until) = quiet_until {
        tokio::time::sleep_until(until.into()).await;
    }
    let answer = connection.ask(&request).await?;
    Ok((connection, answer))
}
