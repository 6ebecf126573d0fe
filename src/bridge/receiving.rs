//! From the other broker to ours, over one connection.

use std::collections::VecDeque;

use tokio::sync::{mpsc, oneshot};

use super::BridgeSettings;
use super::over::Over;
use super::status::BridgeSource;
use crate::core::mqtt::client::{Arrived, Token};
use crate::mqtt::bridging::Arriving;
use crate::uplink::{Handle, Incoming};

/// Bytes and messages that wait for our broker. A message of QoS 0 that finds no room is lost, as such messages may be; for one that is
/// acknowledged nothing more is read until there is.
const WAITING_BYTES_MAX: usize = 8 << 20;
const WAITING_MAX: usize = 1_024;
/// Messages whose commit is waited for.
const UNSTORED_MAX: usize = 2 * WAITING_MAX;

/// Waits for the commit of a message.
struct Unstored {
    token: Token,
    stored: oneshot::Receiver<()>,
}

/// The receiving half of a link.
pub(super) struct Receiving<'a> {
    pub settings: &'a BridgeSettings,
    pub source: &'a BridgeSource,
    pub handle: Handle,
}

impl Receiving<'_> {
    /// Hands over what comes, until the link is over.
    pub async fn run(&self, incoming: &mut Incoming, arriving: mpsc::Sender<Arriving>) -> Over {
        let (taken, mut unstored) = mpsc::channel(UNSTORED_MAX);
        tokio::select! {
            over = self.take_all(incoming, arriving, taken) => over,
            over = self.acknowledge_all(&mut unstored) => over,
        }
    }

    /// Goes on taking while our broker takes nothing: behind what comes are acknowledgements of what was sent.
    async fn take_all(
        &self,
        incoming: &mut Incoming,
        arriving: mpsc::Sender<Arriving>,
        unstored: mpsc::Sender<Unstored>,
    ) -> Over {
        let (mut waiting, mut bytes) = (VecDeque::<(Arriving, usize)>::new(), 0);
        loop {
            tokio::select! {
                arrived = incoming.next() => {
                    let arrived = match arrived {
                        Ok(arrived) => arrived,
                        Err(end) => return Over::Remote(end),
                    };
                    let (size, token) = (arrived.topic.len() + arrived.payload.len() + arrived.properties.len(), arrived.token);
                    let Some((message, stored)) = self.message(arrived) else {
                        token.into_iter().for_each(|token| self.handle.acknowledge(token));
                        continue;
                    };
                    // One that is larger than the bound passes alone, or it would come again for ever.
                    let is_full = |waiting: &VecDeque<_>, bytes| {
                        waiting.len() >= WAITING_MAX || !waiting.is_empty() && bytes + size > WAITING_BYTES_MAX
                    };
                    match token {
                        Some(token) => {
                            // A broker that sends more than it may at once is read no faster than ours takes it.
                            while is_full(&waiting, bytes) {
                                match (arriving.reserve().await, waiting.pop_front()) {
                                    (Ok(permit), Some((message, size))) => {
                                        bytes -= size;
                                        permit.send(message);
                                    }
                                    _ => return Over::Unstored,
                                }
                            }
                            if unstored.try_send(Unstored { token, stored }).is_err() {
                                return Over::Refused("more has come than there is room for".to_owned());
                            }
                        }
                        None if is_full(&waiting, bytes) => {
                            self.source.counters.received_refused.add(1);
                            continue;
                        }
                        None => {}
                    }
                    bytes += size;
                    waiting.push_back((message, size));
                }
                // Also while nothing waits: what comes next could not be answered.
                () = arriving.closed() => return Over::Unstored,
                permit = arriving.reserve(), if !waiting.is_empty() => match (permit, waiting.pop_front()) {
                    (Ok(permit), Some((message, size))) => {
                        bytes -= size;
                        permit.send(message);
                    }
                    _ => return Over::Local,
                },
            }
        }
    }

    /// As it is called here; `None` if it is left out, which is counted.
    fn message(&self, arrived: Arrived) -> Option<(Arriving, oneshot::Receiver<()>)> {
        let Arrived { topic: remote, payload, qos, retain, expiry_s, properties, .. } = arrived;
        let is_too_large = remote.len() + payload.len() + properties.len() > self.settings.packet_bytes_max;
        let topic = match self.settings.plan.to_local(&remote) {
            Ok(_) if is_too_large => Err("it is larger than packets may be here".to_owned()),
            mapped => mapped.map_err(|why| why.to_string()),
        };
        let topic = match topic {
            Ok(topic) => topic,
            Err(why) => {
                self.source.counters.received_refused.add(1);
                let name = self.settings.name();
                tracing::debug!(topic = remote, "bridge {name}: a message that came in is left out: {why}");
                return None;
            }
        };
        let (stored, is_stored) = oneshot::channel();
        let message = Arriving { topic, payload: payload.into(), qos, retain, expiry_s, passed_on: properties, stored };
        Some((message, is_stored))
    }

    async fn acknowledge_all(&self, unstored: &mut mpsc::Receiver<Unstored>) -> Over {
        while let Some(Unstored { token, stored }) = unstored.recv().await {
            match stored.await {
                Ok(()) => self.handle.acknowledge(token),
                Err(_) => return Over::Unstored,
            }
        }
        Over::Local
    }
}
