//! What is known of the cluster: its brokers, who leads which partition of the topic, and the connections to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, MetadataRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::task::JoinSet;

use super::batch::ProducerId;
use super::connection::{Access, Address, Connection};
use super::outcome::{self, LEADER_NOT_AVAILABLE, Place, UNKNOWN_TOPIC, Verdict, later};
use super::protocol::{Ask, Metadata, Produced};
use crate::core::delivery::Outcome;

/// What is known is looked up again after this time, because a topic may have got more partitions.
const LASTS: Duration = Duration::from_secs(300);
/// A topic that was just created is not known to every broker at once.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// The longest that a broker's wish to be left alone is heeded without asking it again.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// A broker that could not be reached is left alone for so many times as long as it took to find that out: others must not wait for it.
const ALONE_FOR: u32 = 4;
const ALONE_MIN: Duration = Duration::from_millis(200);
/// All replicas that are in sync have to have it.
const ALL_REPLICAS: i16 = -1;

pub struct Cluster {
    access: Rc<Access>,
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
    /// Why leaders could not be reached, and until when they are left alone.
    away: HashMap<Address, (Outcome, Instant)>,
}

/// What one broker answered to batches, by partition.
type Answered = (Vec<i32>, Result<(Connection, Produced), Outcome>);

impl Cluster {
    pub fn new(access: Rc<Access>, topic: String, first: Vec<Address>) -> Cluster {
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
            away: HashMap::new(),
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
        for address in self.askable() {
            match self.ask_for_metadata(&address).await {
                Ok(answer) => return self.take_over(answer),
                // What somebody has to mend says more than that another broker is away.
                Err(outcome) if !matches!(last, Outcome::Halt(_)) => last = outcome,
                Err(_) => {}
            }
        }
        Err(last)
    }

    /// Brokers in the order in which they are asked: those that there is a connection to, then others. Those that are known may be gone, all
    /// of them; the configured ones are asked then, each time another one first.
    fn askable(&mut self) -> Vec<Address> {
        self.turn = self.turn.wrapping_add(1);
        let (connected, others): (Vec<&Address>, Vec<&Address>) =
            self.brokers.values().partition(|address| self.connections.contains_key(*address));
        let configured = (0..self.first.len()).map(|n| &self.first[(self.turn + n) % self.first.len()]);
        let mut askable: Vec<Address> = Vec::new();
        for address in connected.into_iter().chain(others).chain(configured) {
            if !askable.contains(address) {
                askable.push(address.clone());
            }
        }
        askable
    }

    async fn ask_for_metadata(&mut self, address: &Address) -> Result<Metadata, Outcome> {
        let topic = MetadataRequestTopic::default().with_name(Some(self.topic_name()));
        // The name of a topic may be misspelt: none is created by asking.
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        self.ask(address, &request).await
    }

    fn topic_name(&self) -> TopicName {
        TopicName(StrBytes::from_string(self.topic.clone()))
    }

    fn take_over(&mut self, answer: Metadata) -> Result<(), Outcome> {
        let address =
            |host: String, port: i32| Some(Address { host, port: u16::try_from(port).ok().filter(|port| *port > 0)? });
        let brokers = answer.brokers.into_iter().filter_map(|one| Some((one.id, address(one.host, one.port)?)));
        let brokers: BTreeMap<i32, Address> = brokers.collect();
        if !brokers.is_empty() {
            let (first, known) = (&self.first, &brokers);
            self.connections.retain(|address, _| first.contains(address) || known.values().any(|one| one == address));
            self.brokers = brokers;
        }
        self.quiet.retain(|_, until| *until > Instant::now());
        self.away.retain(|_, (_, until)| *until > Instant::now());
        if !answer.cluster.is_empty() {
            self.id = answer.cluster;
        }
        let topic = answer.topics.into_iter().find(|topic| topic.name == self.topic);
        let (code, partitions) = topic.map_or((UNKNOWN_TOPIC, Vec::new()), |topic| (topic.code, topic.partitions));
        if code != 0 || partitions.is_empty() {
            return Err(self.without_topic(code));
        }
        self.unknown_since = None;
        let mut leaders = vec![None; partitions.len()];
        for (partition, leader) in partitions {
            let place = usize::try_from(partition).ok().and_then(|index| leaders.get_mut(index));
            let Some(place) = place else { return Err(self.without_topic(LEADER_NOT_AVAILABLE)) };
            *place = Some(leader).filter(|id| self.brokers.contains_key(id));
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
            return mended.unwrap_or(later(reason));
        }
        let since = *self.unknown_since.get_or_insert_with(Instant::now);
        let text = format!("there is no topic {topic}; create it, or correct its name in the [[sink]]");
        match since.elapsed() > UNKNOWN_FOR {
            true => Outcome::Halt(text),
            false => later(text),
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

    /// A producer that no broker has heard of yet. Any broker knows one.
    pub async fn new_producer(&mut self) -> Result<ProducerId, Outcome> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let mut last = Outcome::Unreachable("no broker is known".to_owned());
        for address in self.askable() {
            match self.ask(&address, &request).await {
                Ok(answer) if answer.code == 0 => return Ok(ProducerId { id: answer.id, epoch: answer.epoch }),
                Ok(answer) => {
                    let words = outcome::words(answer.code, None);
                    let passing = || later(format!("{address} gives no producer id at present ({words})"));
                    last = outcome::of_any(answer.code, None, &self.topic).unwrap_or_else(passing);
                }
                Err(outcome) => last = outcome,
            }
        }
        Err(last)
    }

    /// Connects to the leaders of these partitions, at once. Returns the partitions whose leader is not there, and why.
    pub async fn reach(&mut self, partitions: impl IntoIterator<Item = i32>) -> BTreeMap<i32, Outcome> {
        let mut missing = BTreeMap::new();
        let mut by_leader: BTreeMap<Address, Vec<i32>> = BTreeMap::new();
        for partition in partitions.into_iter().collect::<BTreeSet<i32>>() {
            match self.leader(partition) {
                Some(leader) => by_leader.entry(leader).or_default().push(partition),
                None => {
                    self.is_stale = true;
                    let text = format!("{} has no leader at present", self.place(partition));
                    missing.insert(partition, later(text));
                }
            }
        }
        let mut opening = JoinSet::new();
        for address in by_leader.keys() {
            let is_alive = self.connections.get_mut(address).is_some_and(Connection::is_alive);
            let is_left_alone = self.away.get(address).is_some_and(|(_, until)| *until > Instant::now());
            if !is_alive && !is_left_alone {
                let (address, access, begun) = (address.clone(), Rc::clone(&self.access), Instant::now());
                self.connections.remove(&address);
                opening.spawn_local(async move {
                    let opened = Connection::open(&address, &access).await;
                    (address, opened, begun.elapsed())
                });
            }
        }
        while let Some(opened) = opening.join_next().await {
            let (address, opened, took) = opened.expect("nothing panics there, and nobody aborts it");
            match opened {
                Ok(connection) => {
                    self.away.remove(&address);
                    self.connections.insert(address, connection);
                }
                Err(outcome) => {
                    self.is_stale = true;
                    self.away.insert(address, (outcome, Instant::now() + (took * ALONE_FOR).max(ALONE_MIN)));
                }
            }
        }
        for (address, partitions) in by_leader.iter().filter(|(address, _)| !self.connections.contains_key(*address)) {
            let why = self.away.get(address).map(|(outcome, _)| outcome.clone());
            let why = why.unwrap_or_else(|| Outcome::Unreachable(format!("there is no connection to {address}")));
            missing.extend(partitions.iter().map(|partition| (*partition, why.clone())));
        }
        missing
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
        answer: Result<(Connection, Produced), Outcome>,
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
        if let Ok(quiet_ms @ 1..) = u64::try_from(answer.throttle_ms) {
            let until = Instant::now() + Duration::from_millis(quiet_ms).min(QUIET_MAX);
            self.quiet.insert(address.clone(), until);
        }
        for partition in partitions {
            let place = self.place(*partition);
            let verdict = match answer.partitions.iter().find(|one| one.partition == *partition) {
                Some(one) => {
                    self.is_stale |= outcome::asks_for_metadata(one.code);
                    outcome::of_produce(one.code, Some(&one.message), &place)
                }
                None => Verdict::Doubt(later(format!("{address} says nothing of {place}"))),
            };
            verdicts.insert(*partition, verdict);
        }
        self.connections.insert(address, connection);
    }
}

async fn ask_when_wanted(
    mut connection: Connection,
    request: ProduceRequest,
    quiet_until: Option<Instant>,
) -> Result<(Connection, Produced), Outcome> {
    if let Some(until) = quiet_until {
        tokio::time::sleep_until(until.into()).await;
    }
    let answer = connection.ask(&request).await?;
    Ok((connection, answer))
}
