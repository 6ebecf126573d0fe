//! Batches of records as a broker keeps them, and which partition a key belongs to.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::records::{
    Compression as Codec, NO_PARTITION_LEADER_EPOCH, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use crate::sinks::compression::Compression;

/// Sequence numbers begin again after this.
const SEQUENCES: i64 = 1 << 31;

/// Who sends: brokers know a batch that is sent again by its producer and its first sequence number in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerId {
    pub id: i64,
    pub epoch: i16,
}

/// Records of one partition that are stored together or not at all. Sent again, it is byte for byte the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub partition: i32,
    pub producer: ProducerId,
    pub first_sequence: i32,
    pub records: i32,
    pub bytes: Bytes,
}

impl Batch {
    /// Keys with their values, as records of this time.
    ///
    /// # Errors
    ///
    /// The compressor fails only for lack of memory, and the encoding only beyond 2 GiB.
    pub fn encode(
        (partition, producer, first_sequence): (i32, ProducerId, i32),
        records: impl IntoIterator<Item = (Bytes, Bytes)>,
        compression: Compression,
        now_ms: i64,
    ) -> io::Result<Batch> {
        let record = |(index, (key, value)): (i32, (Bytes, Bytes))| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            timestamp_type: TimestampType::Creation,
            offset: index.into(),
            sequence: first_sequence.wrapping_add(index),
            timestamp: now_ms,
            key: Some(key),
            value: Some(value),
            headers: Default::default(),
        };
        let records: Vec<Record> = (0..).zip(records).map(record).collect();
        let codec = match compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Zstd => Codec::Zstd,
        };
        let pack = |plain: &mut BytesMut, out: &mut BytesMut, _| {
            match compression {
                Compression::None => out.put_slice(plain),
                _ => out.put_slice(&compression.compress(plain.to_vec())?),
            }
            Ok(())
        };
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: codec };
        RecordBatchEncoder::encode_with_custom_compression(&mut bytes, &records, &options, Some(pack))
            .map_err(io::Error::other)?;
        let count = i32::try_from(records.len()).map_err(io::Error::other)?;
        Ok(Batch { partition, producer, first_sequence, records: count, bytes: bytes.freeze() })
    }

    /// The sequence number behind its last record.
    pub fn next_sequence(&self) -> i32 {
        let next = (i64::from(self.first_sequence) + i64::from(self.records)) % SEQUENCES;
        i32::try_from(next).expect("less than 2^31")
    }
}

/// The partition of a key, the same that clients in Java choose, so that other producers may share a topic.
pub fn partition_of(key: &[u8], partitions: usize) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    i32::try_from(positive as usize % partitions.max(1)).expect("less than 2^31")
}

/// MurmurHash2 of 32 bits, with the seed of Kafka's clients.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let words = data.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let mut k = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kafka_protocol::records::RecordBatchDecoder;

    use super::*;

    const PRODUCER: ProducerId = ProducerId { id: 4_000, epoch: 7 };

    fn batch(first_sequence: i32, records: usize, compression: Compression) -> Batch {
        let record = |n: usize| (Bytes::from(format!("g/tank-{n}")), Bytes::from(format!("{{\"value\":{n}}}\n")));
        Batch::encode((3, PRODUCER, first_sequence), (0..records).map(record), compression, 1_700_000_000_000).unwrap()
    }

    #[test]
    fn keys_go_where_other_clients_put_them() {
        // As kafka-python computes them, which follows the Java client.
        let known: [(&str, u32); 6] = [
            ("", 0x106e_08d9),
            ("a", 0xa2d0_b27c),
            ("ab", 0x12d8_262a),
            ("abc", 0x1c94_221b),
            ("truck-0042/tank-1", 0xb5cb_d32d),
            ("g/zähler", 0xd350_b79d),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key:?} {:#x}", murmur2(key.as_bytes()));
        }
    }

    #[test]
    fn a_broker_reads_what_was_batched() {
        let mut bytes = batch(12, 3, Compression::None).bytes;
        let read = RecordBatchDecoder::decode(&mut bytes).unwrap().records;
        assert_eq!(read.len(), 3);
        assert_eq!((read[2].producer_id, read[2].producer_epoch, read[2].sequence), (4_000, 7, 14));
        assert_eq!(read[1].key.as_deref(), Some(&b"g/tank-1"[..]));
        assert_eq!(read[1].value.as_deref(), Some(&b"{\"value\":1}\n"[..]));
    }

    #[test]
    fn a_batch_that_is_compressed_is_smaller_and_says_how() {
        let plain = batch(0, 200, Compression::None).bytes;
        for (compression, codec) in [(Compression::Gzip, 1), (Compression::Zstd, 4)] {
            let packed = batch(0, 200, compression).bytes;
            assert!(packed.len() * 3 < plain.len(), "{compression:?}: {} of {}", packed.len(), plain.len());
            assert_eq!(packed[22] & 7, codec);
        }
    }

    #[test]
    fn sequence_numbers_begin_again() {
        assert_eq!(batch(i32::MAX - 1, 2, Compression::None).next_sequence(), 0);
        assert_eq!(batch(i32::MAX, 3, Compression::None).next_sequence(), 2);
        assert_eq!(batch(5, 3, Compression::None).next_sequence(), 8);
    }
}
