//! Kafka, and what speaks its protocol: a record holds lines of one key, and its key says which partition it belongs to.
//!
//! Each record is stored once, whatever breaks (`journal` says what outlives a kill). A batch whose answer is lost is in doubt; it is sent
//! again as it was before anything else of its partition, because the broker recognises it by its producer and sequence numbers. The
//! delivery does not know batches: it hears that the records failed, and brings them again one by one. By then it may be known that they are
//! stored, and they are accepted without being sent.
//!
//! One request is under way at a time, with one batch for each partition: so the sequence numbers need no window, and the broker, which
//! remembers five batches of a producer, always remembers the last one.

mod batch;
mod cluster;
mod connection;
mod journal;
mod known;
mod outcome;
mod protocol;
mod sasl;
pub mod sink;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::clock;
use crate::core::delivery::{Outcome, OutgoingRecord, Reply, RetryReason, Scope};
use crate::sinks::Sink;
use crate::sinks::compression::Compression;
use crate::sinks::status::ForwardStatus;
use crate::store::cursors::Saves;
use batch::{Batch, ProducerId, partition_of};
use cluster::Cluster;
use connection::{Access, Address};
use journal::{Doubt, Journal};
use known::Known;
use outcome::{Verdict, later};

/// One topic.
pub struct KafkaSink {
    /// Never contended: one request is under way at a time.
    producer: Mutex<Producer>,
}

/// Where records go, and in which form.
pub struct KafkaTarget {
    pub topic: String,
    /// The prefix of each key, or the key itself.
    pub gateway: String,
    pub compression: Compression,
    /// Of the configuration, what decides which lines share a record: a journal is of use only to the same.
    pub form: String,
    pub journal: PathBuf,
    pub saves: Arc<Saves>,
    pub status: Arc<ForwardStatus>,
}

struct Producer {
    cluster: Cluster,
    target: KafkaTarget,
    /// `None` until the cluster is known.
    journal: Option<Journal>,
    known: Known,
    /// By partition; at most one each.
    doubts: BTreeMap<i32, Doubt>,
    id: Option<ProducerId>,
    /// By partition, the next sequence number of this producer.
    sequences: HashMap<i32, i32>,
}

/// Where records are among those of their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    InOrder,
    /// Later ones have been sent, or are in doubt.
    Late,
}

/// A record on its way.
struct Parcel {
    record: OutgoingRecord,
    key: Bytes,
    partition: i32,
    /// What is not known to be stored.
    left: Bytes,
    outcome: Option<Outcome>,
}

/// What is to be sent to one partition: groups of parcels, by their numbers, each a batch.
type Work = BTreeMap<i32, VecDeque<Vec<usize>>>;

impl KafkaSink {
    /// Connects with the first request.
    pub fn new(access: Rc<Access>, brokers: Vec<Address>, target: KafkaTarget) -> KafkaSink {
        let cluster = Cluster::new(access, target.topic.clone(), brokers);
        let producer = Producer {
            cluster,
            target,
            journal: None,
            known: Known::default(),
            doubts: BTreeMap::new(),
            id: None,
            sequences: HashMap::new(),
        };
        KafkaSink { producer: Mutex::new(producer) }
    }
}

impl Sink for KafkaSink {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        self.producer.lock().await.send(records, Place::InOrder).await
    }

    async fn send_late(&self, records: Vec<OutgoingRecord>) -> Reply {
        self.producer.lock().await.send(records, Place::Late).await
    }
}

impl Producer {
    async fn send(&mut self, records: Vec<OutgoingRecord>, place: Place) -> Reply {
        if let Some(journal) = &mut self.journal {
            journal.settle();
        }
        if let Err(outcome) = self.prepare().await {
            return Reply::whole(outcome, records.len());
        }
        let mut parcels: Vec<Parcel> = records.into_iter().map(|record| self.parcel(record)).collect();
        self.settle_doubts(&mut parcels).await;
        self.take_out_known(&mut parcels);
        self.deliver(&mut parcels).await;
        self.reply(parcels, place)
    }

    /// The cluster, the journal and the producer's id.
    async fn prepare(&mut self) -> Result<(), Outcome> {
        self.cluster.look_up().await?;
        if self.journal.is_none() {
            let scope = journal::Scope::of(self.cluster.id(), &self.target.topic, &self.target.form);
            let (journal, left) = Journal::open(self.target.journal.clone(), scope, Arc::clone(&self.target.saves));
            self.journal = Some(journal);
            self.known = left.known;
            self.doubts = left.doubts.into_iter().map(|doubt| (doubt.batch.partition, doubt)).collect();
        }
        if self.id.is_none() {
            self.id = Some(self.cluster.new_producer().await?);
            self.sequences.clear();
        }
        Ok(())
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().expect("it is opened before anything is sent")
    }

    fn parcel(&self, record: OutgoingRecord) -> Parcel {
        let gateway = &self.target.gateway;
        let key = match &*record.device {
            "" => gateway.clone(),
            device => format!("{gateway}/{device}"),
        };
        let partition = partition_of(key.as_bytes(), self.cluster.partitions());
        Parcel { key: key.into(), partition, left: record.data.clone(), outcome: None, record }
    }

    /// Sends again what is in doubt, as far as these parcels depend on it. Where it stays in doubt, they wait.
    async fn settle_doubts(&mut self, parcels: &mut [Parcel]) {
        let partitions: BTreeSet<i32> = parcels.iter().map(|parcel| parcel.partition).collect();
        let is_of_them = |doubt: &Doubt| {
            // With more partitions than there were, a key may have moved.
            let has_key = |key: &String| parcels.iter().any(|parcel| *parcel.record.device == **key);
            partitions.contains(&doubt.batch.partition) || doubt.keys.iter().any(has_key)
        };
        let doubts: Vec<Doubt> = self.doubts.values().filter(|doubt| is_of_them(doubt)).cloned().collect();
        let partitions_there = self.cluster.partitions();
        let is_there =
            |doubt: &Doubt| usize::try_from(doubt.batch.partition).is_ok_and(|index| index < partitions_there);
        let (doubts, gone): (Vec<Doubt>, Vec<Doubt>) = doubts.into_iter().partition(is_there);
        for doubt in gone {
            // The topic is another one of the same name.
            self.give_up_doubt(doubt.batch.partition);
        }
        let mut waiting = self.cluster.reach(doubts.iter().map(|doubt| doubt.batch.partition)).await;
        let batches = doubts.into_iter().filter(|doubt| !waiting.contains_key(&doubt.batch.partition));
        let batches: Vec<_> = batches.map(|doubt| (doubt.batch.partition, doubt.batch.bytes)).collect();
        if !batches.is_empty() {
            for (partition, verdict) in self.produce(batches).await {
                if let Some(outcome) = self.judge_doubt(partition, verdict) {
                    waiting.insert(partition, outcome);
                }
            }
        }
        for (partition, outcome) in waiting {
            let Some(doubt) = self.doubts.get(&partition) else { continue };
            let waits = |parcel: &&mut Parcel| {
                parcel.partition == partition || doubt.keys.iter().any(|key| **key == *parcel.record.device)
            };
            parcels.iter_mut().filter(waits).for_each(|parcel| parcel.outcome = Some(outcome.clone()));
        }
    }

    /// What has become of a doubt; the outcome for who waits for it, if it stays one.
    fn judge_doubt(&mut self, partition: i32, verdict: Verdict) -> Option<Outcome> {
        match verdict {
            Verdict::Doubt(outcome) | Verdict::Forbidden(outcome) => return Some(outcome),
            Verdict::Stored => {}
            // It may be stored all the same, so its sequence numbers must not be used for anything else. Its records are batched anew, under
            // another producer.
            Verdict::Refused(_) | Verdict::Unfit(_) | Verdict::OutOfStep(_) => {
                self.give_up_doubt(partition);
                return None;
            }
        }
        let Doubt { entry, batch, .. } = self.doubts.remove(&partition)?;
        let journal = self.journal.as_mut().expect("it was opened before anything was sent");
        journal.stored_untold(entry, &mut self.known);
        self.advance(&batch);
        None
    }

    fn give_up_doubt(&mut self, partition: i32) {
        if let Some(doubt) = self.doubts.remove(&partition) {
            self.journal().dropped(doubt.entry);
            self.id = None;
        }
    }

    fn advance(&mut self, batch: &Batch) {
        if self.id == Some(batch.producer) {
            self.sequences.insert(batch.partition, batch.next_sequence());
        }
    }

    fn take_out_known(&mut self, parcels: &mut [Parcel]) {
        for parcel in parcels.iter_mut().filter(|parcel| parcel.outcome.is_none()) {
            parcel.left = self.known.left_of(&parcel.record.device, &parcel.record.data);
            if parcel.left.is_empty() {
                parcel.outcome = Some(accepted(parcel.partition));
            }
        }
    }

    /// Sends what is left, and again in halves what is refused, until each parcel has an outcome.
    async fn deliver(&mut self, parcels: &mut [Parcel]) {
        let mut work = Work::new();
        for (number, parcel) in parcels.iter().enumerate().filter(|(_, parcel)| parcel.outcome.is_none()) {
            let groups = work.entry(parcel.partition).or_insert_with(|| VecDeque::from([Vec::new()]));
            groups[0].push(number);
        }
        for (partition, outcome) in self.cluster.reach(work.keys().copied()).await {
            fail(parcels, work.remove(&partition), &outcome);
        }
        // Where everything is refused at once, the delivery looks for what is to blame; it also knows when no record is.
        let mut is_everything = parcels.iter().all(|parcel| parcel.outcome.is_none());
        while !work.is_empty() {
            // Another partition's batch may have shown that this producer's numbers are void.
            let Some(producer) = self.id else {
                let anew = later("another producer id is needed".to_owned());
                return work.into_values().for_each(|groups| fail(parcels, Some(groups), &anew));
            };
            let sent = match self.next_batches(producer, &mut work, parcels) {
                Ok(sent) => sent,
                Err(error) => {
                    let outcome = later(format!("cannot compress: {error}"));
                    let open = parcels.iter_mut().filter(|parcel| parcel.outcome.is_none());
                    return open.for_each(|parcel| parcel.outcome = Some(outcome.clone()));
                }
            };
            let batches = sent.iter().map(|(doubt, _)| (doubt.batch.partition, doubt.batch.bytes.clone())).collect();
            let mut verdicts = self.produce(batches).await;
            let is_all_refused =
                is_everything && verdicts.values().all(|verdict| matches!(verdict, Verdict::Refused(_)));
            for (doubt, group) in sent {
                let internal = Verdict::Doubt(Outcome::Retry(RetryReason::Internal));
                let verdict = verdicts.remove(&doubt.batch.partition).unwrap_or(internal);
                self.judge(doubt, verdict, (&group, is_all_refused), &mut work, parcels);
            }
            work.retain(|_, groups| !groups.is_empty());
            is_everything = false;
        }
    }

    /// One batch for each partition, each written to the journal.
    fn next_batches(
        &mut self,
        producer: ProducerId,
        work: &mut Work,
        parcels: &[Parcel],
    ) -> std::io::Result<Vec<(Doubt, Vec<usize>)>> {
        let mut batches = Vec::new();
        for (partition, groups) in work {
            let Some(group) = groups.pop_front() else { continue };
            let sequence = self.sequences.get(partition).copied().unwrap_or(0);
            let records = group.iter().map(|number| (parcels[*number].key.clone(), parcels[*number].left.clone()));
            let batch =
                Batch::encode((*partition, producer, sequence), records, self.target.compression, clock::now_ms())?;
            batches.push((batch, group));
        }
        let begin = |(batch, group): (Batch, Vec<usize>)| {
            let lines = |number: &usize| (&*parcels[*number].record.device, &*parcels[*number].left);
            (self.journal().begin(&batch, group.iter().map(lines)), group)
        };
        Ok(batches.into_iter().map(begin).collect())
    }

    async fn produce(&mut self, batches: Vec<(i32, Bytes)>) -> BTreeMap<i32, Verdict> {
        let bytes: usize = batches.iter().map(|(_, bytes)| bytes.len()).sum();
        self.target.status.sent_bytes.add(bytes as u64);
        self.cluster.produce(batches).await
    }

    fn judge(
        &mut self,
        doubt: Doubt,
        verdict: Verdict,
        (group, is_all_refused): (&[usize], bool),
        work: &mut Work,
        parcels: &mut [Parcel],
    ) {
        let partition = doubt.batch.partition;
        let outcome = match verdict {
            Verdict::Stored => {
                self.advance(&doubt.batch);
                self.journal().stored(doubt.entry);
                accepted(partition)
            }
            Verdict::Doubt(outcome) => {
                self.doubts.insert(partition, doubt);
                fail(parcels, work.remove(&partition), &outcome);
                outcome
            }
            Verdict::Forbidden(outcome) | Verdict::Unfit(outcome) => {
                self.journal().dropped(doubt.entry);
                fail(parcels, work.remove(&partition), &outcome);
                outcome
            }
            Verdict::OutOfStep(outcome) => {
                self.id = None;
                self.journal().dropped(doubt.entry);
                outcome
            }
            Verdict::Refused(outcome) => {
                self.journal().dropped(doubt.entry);
                if group.len() > 1 && !is_all_refused {
                    let (first, second) = group.split_at(group.len() / 2);
                    let groups = work.entry(partition).or_default();
                    groups.push_front(second.to_vec());
                    groups.push_front(first.to_vec());
                    return;
                }
                outcome
            }
        };
        group.iter().for_each(|number| parcels[*number].outcome = Some(outcome.clone()));
    }

    fn reply(&mut self, parcels: Vec<Parcel>, place: Place) -> Reply {
        for parcel in &parcels {
            if let Some(Outcome::Accepted { .. }) = parcel.outcome {
                let lies_behind = place == Place::InOrder && !parcel.left.is_empty();
                let told = self.known.told(&parcel.record.device, &parcel.record.data, lies_behind);
                self.journal().told(told);
            }
        }
        let outcome = |parcel: Parcel| parcel.outcome.unwrap_or(Outcome::Retry(RetryReason::Internal));
        let is_taken =
            |parcel: &Parcel| !parcel.left.is_empty() && matches!(parcel.outcome, Some(Outcome::Accepted { .. }));
        let was_any_taken = parcels.iter().any(is_taken);
        let mut outcomes: Vec<Outcome> = parcels.into_iter().map(outcome).collect();
        // A refusal is to be believed if something was accepted beside it, or if it was of everything.
        let has_refusals = outcomes.iter().any(is_refusal) && !outcomes.iter().all(is_refusal);
        if has_refusals && !was_any_taken {
            for outcome in outcomes.iter_mut().filter(|outcome| is_refusal(outcome)) {
                *outcome = Outcome::Retry(RetryReason::Internal);
            }
        }
        // What fails everywhere for one reason is no fault of any key.
        match outcomes.first() {
            Some(first) if is_failure(first) && outcomes.iter().all(|outcome| outcome == first) => {
                Reply::whole(first.clone(), outcomes.len())
            }
            Some(first) if is_refusal(first) && outcomes.iter().all(is_refusal) => {
                Reply::whole(first.clone(), outcomes.len())
            }
            _ => Reply { scope: Scope::Records, outcomes, passed_over: 0 },
        }
    }
}

fn accepted(partition: i32) -> Outcome {
    Outcome::Accepted { shard: Some(partition.to_string()) }
}

fn is_failure(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Accepted { .. })
}

fn is_refusal(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Reject(_) | Outcome::TooLarge(_))
}

fn fail(parcels: &mut [Parcel], groups: Option<VecDeque<Vec<usize>>>, outcome: &Outcome) {
    let numbers = groups.into_iter().flatten().flatten();
    numbers.for_each(|number| parcels[number].outcome = Some(outcome.clone()));
}
