//! What brokers are asked, in which versions, and how their answers are read.
//!
//! Requests are encoded by `kafka-protocol`. Answers are read here: that crate takes memory for as many elements as an answer says it has, before
//! it looks whether they are there, so a few bytes of whoever is at the other end would end the process. Versions are those without
//! flexible headers.

use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, InitProducerIdRequest, MetadataRequest, ProduceRequest, SaslAuthenticateRequest,
    SaslHandshakeRequest,
};
use kafka_protocol::protocol::Encodable;

/// A request, and the versions of it that are known here.
pub trait Ask: Encodable {
    const KEY: ApiKey;
    const VERSIONS: (i16, i16);
    type Answer;

    /// `None` if the answer is not complete.
    fn read(answer: &mut Reader<'_>, version: i16) -> Option<Self::Answer>;
}

/// Reads what is there.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(answer: &'a [u8]) -> Reader<'a> {
        Reader { rest: answer }
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn i16(&mut self) -> Option<i16> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Option<i32> {
        self.fixed().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// A null text is an empty one.
    fn text(&mut self) -> Option<String> {
        match self.i16()? {
            -1 => Some(String::new()),
            length => Some(String::from_utf8_lossy(self.bytes(usize::try_from(length).ok()?)?).into_owned()),
        }
    }

    /// The same with a length of 32 bits.
    fn blob(&mut self) -> Option<Vec<u8>> {
        match self.i32()? {
            -1 => Some(Vec::new()),
            length => Some(self.bytes(usize::try_from(length).ok()?)?.to_vec()),
        }
    }

    /// A null list is an empty one. Takes memory for what is there only.
    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut list = Vec::new();
        for _ in 0..self.i32()?.max(0) {
            list.push(element(self)?);
        }
        Some(list)
    }
}

/// What a broker speaks.
#[derive(Debug, PartialEq)]
pub struct Versions {
    pub code: i16,
    /// API key, lowest and highest version.
    pub versions: Vec<(i16, (i16, i16))>,
}

#[derive(Debug, PartialEq)]
pub struct Handshake {
    pub code: i16,
    pub mechanisms: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub struct Authenticated {
    pub code: i16,
    pub message: String,
    pub said: Vec<u8>,
    /// 0 if the session has no end.
    pub lifetime_ms: i64,
}

#[derive(Debug, PartialEq)]
pub struct Metadata {
    pub brokers: Vec<Broker>,
    pub cluster: String,
    pub topics: Vec<Topic>,
}

#[derive(Debug, PartialEq)]
pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: i32,
}

#[derive(Debug, PartialEq)]
pub struct Topic {
    pub code: i16,
    pub name: String,
    /// Numbers of partitions, each with its leader.
    pub partitions: Vec<(i32, i32)>,
}

#[derive(Debug, PartialEq)]
pub struct NewProducer {
    pub code: i16,
    pub id: i64,
    pub epoch: i16,
}

#[derive(Debug, PartialEq)]
pub struct Produced {
    pub partitions: Vec<ProducedPartition>,
    pub throttle_ms: i32,
}

#[derive(Debug, PartialEq)]
pub struct ProducedPartition {
    pub partition: i32,
    pub code: i16,
    pub message: String,
}

impl Ask for ApiVersionsRequest {
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VERSIONS: (i16, i16) = (0, 0);
    type Answer = Versions;

    fn read(answer: &mut Reader<'_>, _: i16) -> Option<Versions> {
        let code = answer.i16()?;
        Some(Versions { code, versions: answer.list(|one| Some((one.i16()?, (one.i16()?, one.i16()?))))? })
    }
}

impl Ask for SaslHandshakeRequest {
    const KEY: ApiKey = ApiKey::SaslHandshake;
    const VERSIONS: (i16, i16) = (1, 1);
    type Answer = Handshake;

    fn read(answer: &mut Reader<'_>, _: i16) -> Option<Handshake> {
        Some(Handshake { code: answer.i16()?, mechanisms: answer.list(Reader::text)? })
    }
}

impl Ask for SaslAuthenticateRequest {
    const KEY: ApiKey = ApiKey::SaslAuthenticate;
    const VERSIONS: (i16, i16) = (0, 1);
    type Answer = Authenticated;

    fn read(answer: &mut Reader<'_>, version: i16) -> Option<Authenticated> {
        Some(Authenticated {
            code: answer.i16()?,
            message: answer.text()?,
            said: answer.blob()?,
            lifetime_ms: if version >= 1 { answer.i64()? } else { 0 },
        })
    }
}

impl Ask for MetadataRequest {
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSIONS: (i16, i16) = (4, 8);
    type Answer = Metadata;

    fn read(answer: &mut Reader<'_>, version: i16) -> Option<Metadata> {
        answer.i32()?; // How long to pause.
        let brokers = answer.list(|one| {
            let broker = Broker { id: one.i32()?, host: one.text()?, port: one.i32()? };
            one.text()?; // Its rack.
            Some(broker)
        })?;
        let cluster = answer.text()?;
        answer.i32()?; // The controller.
        let topics = answer.list(|one| {
            let (code, name) = (one.i16()?, one.text()?);
            one.bytes(1)?; // Whether it is Kafka's own.
            let partitions = one.list(|one| partition(one, version))?;
            if version >= 8 {
                one.i32()?; // What is allowed.
            }
            Some(Topic { code, name, partitions })
        })?;
        if version >= 8 {
            answer.i32()?; // The same for the cluster.
        }
        Some(Metadata { brokers, cluster, topics })
    }
}

fn partition(one: &mut Reader<'_>, version: i16) -> Option<(i32, i32)> {
    one.i16()?; // An error, such as that a replica is away.
    let partition = (one.i32()?, one.i32()?);
    if version >= 7 {
        one.i32()?; // The epoch of the leader.
    }
    // Replicas, those in sync, and those that are away.
    for _ in 0..if version >= 5 { 3 } else { 2 } {
        one.list(Reader::i32)?;
    }
    Some(partition)
}

impl Ask for InitProducerIdRequest {
    const KEY: ApiKey = ApiKey::InitProducerId;
    const VERSIONS: (i16, i16) = (0, 1);
    type Answer = NewProducer;

    fn read(answer: &mut Reader<'_>, _: i16) -> Option<NewProducer> {
        answer.i32()?; // How long to pause.
        Some(NewProducer { code: answer.i16()?, id: answer.i64()?, epoch: answer.i16()? })
    }
}

impl Ask for ProduceRequest {
    const KEY: ApiKey = ApiKey::Produce;
    const VERSIONS: (i16, i16) = (3, 8);
    type Answer = Produced;

    fn read(answer: &mut Reader<'_>, version: i16) -> Option<Produced> {
        let topics = answer.list(|one| {
            one.text()?; // The topic, of which there is one.
            one.list(|one| produced(one, version))
        })?;
        Some(Produced { partitions: topics.into_iter().flatten().collect(), throttle_ms: answer.i32()? })
    }
}

fn produced(one: &mut Reader<'_>, version: i16) -> Option<ProducedPartition> {
    let (partition, code) = (one.i32()?, one.i16()?);
    one.bytes(16)?; // The first offset, and the time of the log.
    if version >= 5 {
        one.i64()?; // Where the log starts.
    }
    let mut message = String::new();
    if version >= 8 {
        let of_records = one.list(|one| {
            one.i32()?;
            one.text()
        })?;
        message = one.text()?;
        if message.is_empty() {
            message = of_records.into_iter().next().unwrap_or_default();
        }
    }
    Some(ProducedPartition { partition, code, message })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
    };
    use kafka_protocol::messages::{MetadataResponse, ProduceResponse, SaslAuthenticateResponse, TopicName};
    use kafka_protocol::protocol::StrBytes;
    use proptest::prelude::*;

    use super::*;

    fn text(text: &'static str) -> StrBytes {
        StrBytes::from_static_str(text)
    }

    /// Reads what the codec encodes, in each version, to its end.
    fn each<A: Ask>(answer: &impl Encodable, check: impl Fn(i16, A::Answer)) {
        for version in A::VERSIONS.0..=A::VERSIONS.1 {
            let mut encoded = BytesMut::new();
            answer.encode(&mut encoded, version).unwrap();
            let mut reader = Reader::new(&encoded);
            check(version, A::read(&mut reader, version).unwrap());
            assert!(reader.rest.is_empty(), "version {version}");
            for cut in 0..encoded.len() {
                assert!(
                    A::read(&mut Reader::new(&encoded[..cut]), version).is_none(),
                    "version {version} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn answers_are_read_in_all_versions() {
        let partition = |index: i32, leader: i32| {
            let partition = MetadataResponsePartition::default().with_partition_index(index);
            partition.with_leader_id(leader.into()).with_replica_nodes(vec![1.into(), 2.into()])
        };
        let topic = MetadataResponseTopic::default().with_name(Some(TopicName(text("readings"))));
        let broker = MetadataResponseBroker::default().with_node_id(2.into()).with_host(text("b-2")).with_port(9092);
        let metadata = MetadataResponse::default()
            .with_cluster_id(Some(text("id")))
            .with_brokers(vec![broker])
            .with_topics(vec![topic.with_partitions(vec![partition(0, 2), partition(1, -1)])]);
        each::<MetadataRequest>(&metadata, |_, read| {
            assert_eq!(read.brokers, [Broker { id: 2, host: "b-2".to_owned(), port: 9092 }]);
            assert_eq!((read.cluster.as_str(), read.topics[0].name.as_str()), ("id", "readings"));
            assert_eq!(read.topics[0].partitions, [(0, 2), (1, -1)]);
        });
        let one = PartitionProduceResponse::default().with_index(7).with_error_code(87);
        let said = BatchIndexAndErrorMessage::default().with_batch_index_error_message(Some(text("no key")));
        let produced = |one: PartitionProduceResponse| {
            let topic = TopicProduceResponse::default().with_name(TopicName(text("readings")));
            ProduceResponse::default()
                .with_throttle_time_ms(90)
                .with_responses(vec![topic.with_partition_responses(vec![one])])
        };
        each::<ProduceRequest>(&produced(one.clone()), |_, read| {
            assert_eq!((read.throttle_ms, read.partitions[0].partition, read.partitions[0].code), (90, 7, 87));
        });
        let mut encoded = BytesMut::new();
        produced(one.with_record_errors(vec![said])).encode(&mut encoded, 8).unwrap();
        let read = ProduceRequest::read(&mut Reader::new(&encoded), 8).unwrap();
        assert_eq!(read.partitions[0].message, "no key");
        let login = SaslAuthenticateResponse::default()
            .with_error_code(58)
            .with_error_message(Some(text("wrong")))
            .with_auth_bytes(vec![1, 2].into());
        each::<SaslAuthenticateRequest>(&login, |_, read| {
            assert_eq!((read.code, read.message.as_str(), read.said), (58, "wrong", vec![1, 2]));
        });
    }

    #[test]
    fn a_list_takes_no_memory_for_what_is_not_there() {
        let answer = [0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1];
        assert_eq!(ApiVersionsRequest::read(&mut Reader::new(&answer), 0), None);
    }

    proptest! {
        #[test]
        fn noise_is_read_without_a_panic(noise in prop::collection::vec(any::<u8>(), 0..200), version in 0_i16..9) {
            ApiVersionsRequest::read(&mut Reader::new(&noise), version);
            SaslHandshakeRequest::read(&mut Reader::new(&noise), version);
            SaslAuthenticateRequest::read(&mut Reader::new(&noise), version);
            MetadataRequest::read(&mut Reader::new(&noise), version);
            InitProducerIdRequest::read(&mut Reader::new(&noise), version);
            ProduceRequest::read(&mut Reader::new(&noise), version);
        }
    }
}
