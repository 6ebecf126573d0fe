//! Splunk's HTTP Event Collector: events are posted, and with acknowledgements they count as delivered only once an indexer says that it has
//! written them. Until then, the collector has them in memory.
//!
//! Deliberately absent: a look at late acknowledgements. Events that were not acknowledged in time are posted again on another channel, so
//! Splunk may hold them twice, with the same identity.

mod channels;
mod event;
mod verdict;
mod wait;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use super::client::{Client, Question};
use super::forms::SplunkForm;
use super::outcome;
use crate::core::delivery::{Outcome, Reply, RetryReason, Scope};
use crate::finding::Finding;
use crate::sinks::compression::Compression;
use crate::sinks::probe::of_outcome;
use crate::sinks::secret::Secret;
use channels::{Channel, Channels};
use verdict::{NO_ACKNOWLEDGEMENTS, Polled, Posted};
use wait::{End, Wait};

const EVENTS: &str = "/services/collector/event";
const ACKNOWLEDGEMENTS: &str = "/services/collector/ack";
const HEALTH: &str = "/services/collector/health";

/// So many records are left out of a refused request by what the collector says of it. After that, the request is halved.
const LEFT_OUT_MAX: usize = 3;
const ANSWER_BYTES_MAX: usize = 4 << 10;

const OTHER_INDEXER: &str = "an acknowledgement id came a second time, so another indexer answers now";

/// Posts events of one stream.
pub struct Collector {
    form: SplunkForm,
    compression: Compression,
    channels: RefCell<Channels>,
    started: Instant,
    /// A reply had no acknowledgement id, or no indexer has answered for one: nothing more is posted before it is known that some will.
    is_doubtful: Cell<bool>,
    /// How long the last acknowledgement took.
    usual: Cell<Option<Duration>>,
}

/// What became of one post.
enum Attempt {
    Stored,
    /// For one of its events, of which the collector may say which.
    Refused {
        event: Option<usize>,
        said: String,
    },
    Failed(Outcome),
}

impl Collector {
    pub fn new(form: SplunkForm, compression: Compression) -> Collector {
        let (channels, started) = (RefCell::default(), Instant::now());
        Collector { form, compression, channels, started, is_doubtful: Cell::new(false), usual: Cell::new(None) }
    }

    /// Posts the lines of all records, and waits until they are stored.
    ///
    /// Where one event is refused, the collector may have taken those before it, but gives no id by which it would say that they are stored. So
    /// the others are posted again, without the record that is to blame. That record is refused only once they have been stored: so the
    /// collector takes events, and this record is what it did not take.
    pub async fn send(&self, client: &Client, records: &[Vec<&[u8]>]) -> Reply {
        if self.is_doubtful.get()
            && let Some(outcome) = self.doubt(client).await
        {
            return Reply::whole(outcome, records.len());
        }
        let mut left_out: Vec<(usize, String)> = Vec::new();
        loop {
            let is_in = |index: usize| left_out.iter().all(|(out, _)| *out != index);
            let events: Vec<(usize, &[u8])> = (0..records.len())
                .filter(|index| is_in(*index))
                .flat_map(|index| records[index].iter().map(move |line| (index, *line)))
                .collect();
            match self.attempt(client, &events).await {
                Attempt::Stored if left_out.is_empty() => {
                    return Reply::whole(Outcome::Accepted { shard: None }, records.len());
                }
                Attempt::Stored => return reply(records.len(), &left_out),
                Attempt::Refused { event, said } => {
                    let suspect = event.and_then(|event| events.get(event)).map(|(index, _)| *index);
                    match suspect {
                        Some(index) if left_out.len() < LEFT_OUT_MAX && events.iter().any(|(of, _)| *of != index) => {
                            left_out.push((index, said));
                        }
                        _ => return Reply::whole(Outcome::Reject(said), records.len()),
                    }
                }
                Attempt::Failed(outcome) => return Reply::whole(outcome, records.len()),
            }
        }
    }

    async fn attempt(&self, client: &Client, events: &[(usize, &[u8])]) -> Attempt {
        let mut body = Vec::new();
        events.iter().for_each(|(_, line)| event::write(&mut body, &self.form, line));
        let body = match self.compression.compress(body) {
            Ok(body) => body,
            Err(error) => {
                return Attempt::Failed(Outcome::Later { reason: format!("cannot compress: {error}"), after_us: None });
            }
        };
        let Some(within) = self.form.acknowledged_within else {
            return match self.post(client, body, Vec::new()).await {
                Ok((Posted::Received { .. }, _)) => Attempt::Stored,
                Ok((Posted::Refused { event, said }, _)) => Attempt::Refused { event, said },
                Ok((Posted::Failed(outcome), _)) | Err(outcome) => Attempt::Failed(outcome),
            };
        };
        // Whatever happens before its acknowledgement has come, the channel is given up.
        let mut channel = match self.channel() {
            Ok(channel) => channel,
            Err(outcome) => return Attempt::Failed(outcome),
        };
        let (posted, cookies) = match self.post(client, body, headers(&channel)).await {
            Ok(posted) => posted,
            Err(outcome) => return Attempt::Failed(outcome),
        };
        let id = match posted {
            Posted::Received { acknowledgement: Some(id) } => id,
            Posted::Received { acknowledgement: None } => {
                self.is_doubtful.set(true);
                return Attempt::Failed(Outcome::Halt(NO_ACKNOWLEDGEMENTS.to_owned()));
            }
            Posted::Refused { event, said } => return Attempt::Refused { event, said },
            Posted::Failed(outcome) => return Attempt::Failed(outcome),
        };
        channel.stay_with(&cookies);
        if !channel.is_new(id) {
            self.channels.borrow_mut().another_answered(&channel, self.now_us());
            return Attempt::Failed(Outcome::Later { reason: OTHER_INDEXER.to_owned(), after_us: None });
        }
        match self.acknowledged(client, &channel, id, within).await {
            Ok(()) => {
                self.channels.borrow_mut().give_back(channel, self.now_us());
                Attempt::Stored
            }
            Err(outcome) => Attempt::Failed(outcome),
        }
    }

    async fn post(
        &self,
        client: &Client,
        body: Vec<u8>,
        mut headers: Vec<(&'static str, String)>,
    ) -> Result<(Posted, Vec<String>), Outcome> {
        headers.push(("content-type", "application/json".to_owned()));
        let encoding = self.compression.encoding();
        let question = Question {
            method: "POST",
            path: EVENTS,
            headers: &headers,
            encoding,
            body,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answered = client.ask(question).await?;
        Ok((verdict::of_post(&answered.shown, &answered.text), answered.cookies))
    }

    /// Asks until the indexer has stored what was posted under this id, or the time for it is over.
    async fn acknowledged(&self, client: &Client, channel: &Channel, id: u64, within: Duration) -> Result<(), Outcome> {
        let posted = Instant::now();
        let mut wait = Wait::new(within, self.usual.get());
        loop {
            tokio::time::sleep_until(posted + wait.next(posted.elapsed())).await;
            let polled = self.poll(client, channel, id).await;
            match wait.hear(polled, posted.elapsed()) {
                None => {}
                Some(End::Stored) => {
                    self.usual.set(Some(posted.elapsed()));
                    return Ok(());
                }
                Some(End::Failed(outcome)) => return Err(outcome),
                Some(End::Unheard(outcome)) => {
                    self.is_doubtful.set(true);
                    return Err(outcome);
                }
            }
        }
    }

    async fn poll(&self, client: &Client, channel: &Channel, id: u64) -> Polled {
        let mut headers = headers(channel);
        headers.push(("content-type", "application/json".to_owned()));
        let question = Question {
            method: "POST",
            path: &format!("{ACKNOWLEDGEMENTS}?channel={}", channel.id()),
            headers: &headers,
            encoding: None,
            body: format!("{{\"acks\":[{id}]}}").into_bytes(),
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        match client.ask(question).await {
            Ok(answered) => verdict::of_poll(&answered.shown, &answered.text, id),
            Err(Outcome::Halt(reason)) => Polled::Failed(Outcome::Halt(reason)),
            // The connection may be back before the time is over.
            Err(outcome) => Polled::Lost(outcome),
        }
    }

    /// What speaks against a post: the token still has no acknowledgements, or nobody answers for them. Asking for one that nobody gave tells.
    async fn doubt(&self, client: &Client) -> Option<Outcome> {
        let channel = match self.channel() {
            Ok(channel) => channel,
            Err(outcome) => return Some(outcome),
        };
        match self.poll(client, &channel, 0).await {
            Polled::Failed(outcome) | Polled::Lost(outcome) => Some(outcome),
            Polled::Other(Outcome::Halt(said)) => Some(Outcome::Halt(format!("{ACKNOWLEDGEMENTS}: {said}"))),
            Polled::Other(outcome) => Some(outcome),
            Polled::Stored | Polled::NotYet => {
                self.is_doubtful.set(false);
                None
            }
        }
    }

    fn channel(&self) -> Result<Channel, Outcome> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|_| Outcome::Retry(RetryReason::Internal))?;
        Ok(self.channels.borrow_mut().take(random, self.now_us()))
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn headers(channel: &Channel) -> Vec<(&'static str, String)> {
    let mut headers = vec![("x-splunk-request-channel", channel.id().to_owned())];
    if let Some(cookie) = channel.cookie() {
        headers.push(("cookie", cookie));
    }
    headers
}

/// The header that a token is sent in.
pub fn authorization(form: &SplunkForm) -> (String, Secret) {
    ("authorization".to_owned(), Secret(format!("Splunk {}", form.token.0)))
}

/// The others were stored once the last one was left out: it is to blame. Of those left out before it, this is not known.
fn reply(count: usize, left_out: &[(usize, String)]) -> Reply {
    let mut outcomes = vec![Outcome::Accepted { shard: None }; count];
    if let Some(((to_blame, said), before)) = left_out.split_last() {
        for (index, _) in before {
            outcomes[*index] = Outcome::Retry(RetryReason::Internal);
        }
        outcomes[*to_blame] = Outcome::Reject(said.clone());
    }
    Reply { scope: Scope::Records, outcomes, passed_over: 0 }
}

/// Asks how the collector is. It takes nothing by this.
pub async fn health(client: &Client, origin: &str) -> Finding {
    let asked = format!("the health of the collector at {origin}");
    let question = Question {
        method: "GET",
        path: HEALTH,
        headers: &[],
        encoding: None,
        body: Vec::new(),
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    match client.ask(question).await {
        Ok(answered) => match answered.shown.status {
            200 => Finding::well(format!("{asked}: it answers and is well")),
            503 => Finding::warning(
                format!("{asked}: {}", outcome::said(&answered.shown)),
                "its queues are full: look at the indexers; what it does not take waits in the store meanwhile",
            ),
            400 | 401 | 403 => {
                Finding::bad(format!("{asked}: {}", outcome::said(&answered.shown)), "look at token in the [[sink]]")
            }
            _ => Finding::bad(
                format!("{asked}: {}", outcome::said(&answered.shown)),
                "look at url in the [[sink]], which names the port of the HTTP Event Collector, and whether that is on",
            ),
        },
        Err(outcome) => of_outcome(&asked, &outcome),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_left_out_last_is_proven_to_be_refused() {
        let out = |index: usize| (index, format!("no {index}"));
        let Reply { scope, outcomes, .. } = reply(4, &[out(2), out(0)]);
        let accepted = Outcome::Accepted { shard: None };
        let expected =
            [Outcome::Reject("no 0".to_owned()), accepted.clone(), Outcome::Retry(RetryReason::Internal), accepted];
        assert_eq!((scope, outcomes), (Scope::Records, expected.to_vec()));
    }
}
