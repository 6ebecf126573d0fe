//! The only file that names rumqttd's router: it decides which filters a topic matches, and keeps a log for each filter.
//!
//! The gateway has one link for each distinct filter, and one that publishes. Clients come and go without the router noticing: a
//! link, once made, is kept, because most of the ways to end the router begin with a link that goes. What a client may see of a
//! filter's log is dealt out by [`super::fanout`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::{BufMut, Bytes, BytesMut};
use rumqttd::local::{LinkBuilder, LinkError, LinkRx, LinkTx};
use rumqttd::{Notification, Router, RouterConfig};
use tokio::sync::{mpsc, oneshot};

/// A filter's log is at most twice this: a reader that falls behind it by more has lost something, and is told so.
const SEGMENT_BYTES: usize = 512 * 1024;
const SEGMENTS: usize = 3;
/// Messages between the edge and the router.
const FEED_LEN: usize = 1024;

enum Feed {
    Publish { topic: Bytes, envelope: Bytes },
    Subscribe { filter: String, reply: oneshot::Sender<FilterLog> },
}

/// The way into the router; its thread does the calls that block.
#[derive(Clone)]
pub struct RouterFeed {
    feed: mpsc::Sender<Feed>,
    dead: Arc<AtomicBool>,
}

/// The router has ended, and with it local subscriptions; the process has to end too.
#[derive(Debug, PartialEq, Eq)]
pub struct RouterDead;

impl RouterFeed {
    /// `filters_max`: how many distinct filters there may ever be.
    pub fn start(filters_max: usize) -> std::io::Result<RouterFeed> {
        let config = RouterConfig {
            max_connections: filters_max + 1,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        };
        let (feed, next) = mpsc::channel(FEED_LEN);
        let dead = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&dead);
        thread::Builder::new().name("fanout".to_owned()).spawn(move || {
            if let Err(error) = run_feed(config, next) {
                tracing::error!(%error, "the router has ended");
                flag.store(true, Ordering::Release);
            }
        })?;
        Ok(RouterFeed { feed, dead })
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Waits for room. The quality of service travels in the envelope: the router's own is fixed by its subscriptions.
    pub async fn publish(&self, topic: &[u8], payload: &[u8], qos: u8) -> Result<(), RouterDead> {
        // Copied: a slice would pin the whole read buffer for as long as the log keeps the message.
        let mut envelope = BytesMut::with_capacity(payload.len() + 1);
        envelope.put_u8(qos);
        envelope.put_slice(payload);
        let publish = Feed::Publish { topic: Bytes::copy_from_slice(topic), envelope: envelope.freeze() };
        self.feed.send(publish).await.map_err(|_| RouterDead)
    }

    pub async fn subscribe(&self, filter: &str) -> Result<FilterLog, RouterDead> {
        let (reply, subscribed) = oneshot::channel();
        self.feed.send(Feed::Subscribe { filter: filter.to_owned(), reply }).await.map_err(|_| RouterDead)?;
        subscribed.await.map_err(|_| RouterDead)
    }
}

fn run_feed(config: RouterConfig, mut next: mpsc::Receiver<Feed>) -> Result<(), Box<LinkError>> {
    let router = Router::new(0, config).spawn();
    // Held though nothing is read from it: the router ends a link whose receiving half is gone.
    let (mut publisher, _acknowledgements, _) =
        LinkBuilder::new("publisher", router.clone()).build().map_err(Box::new)?;
    let mut subscribers: Vec<LinkTx> = Vec::new();
    while let Some(feed) = next.blocking_recv() {
        match feed {
            Feed::Publish { topic, envelope } => {
                publisher.publish(topic, envelope).map_err(Box::new)?;
            }
            Feed::Subscribe { filter, reply } => {
                let name = format!("filter-{}", subscribers.len());
                let (mut link, mut log, _) = LinkBuilder::new(&name, router.clone()).build().map_err(Box::new)?;
                link.subscribe(filter).map_err(Box::new)?;
                // The acknowledgement: from here on nothing that matches is missed.
                while !matches!(log.recv().map_err(Box::new)?, Some(Notification::DeviceAck(_))) {}
                subscribers.push(link);
                // The client that asked may be gone; the link stays for the next one.
                let _ = reply.send(FilterLog { log, last_offset: None });
            }
        }
    }
    Ok(())
}

/// What the router has for one filter, in order.
pub struct FilterLog {
    log: LinkRx,
    last_offset: Option<u64>,
}

/// A message as it went in.
#[derive(Debug)]
pub struct Routed {
    pub topic: Bytes,
    pub payload: Bytes,
    pub qos: u8,
    /// The log was overrun: something before this message is missing.
    pub after_gap: bool,
}

impl FilterLog {
    pub async fn next(&mut self) -> Result<Routed, RouterDead> {
        loop {
            match self.log.next().await.map_err(|_| RouterDead)? {
                Some(Notification::Forward(forward)) => {
                    let offset = forward.cursor.map(|(_, offset)| offset);
                    let after_gap = match (self.last_offset, offset) {
                        (Some(last), Some(offset)) => offset != last + 1,
                        _ => false,
                    };
                    self.last_offset = offset;
                    let mut payload = forward.publish.payload;
                    if payload.is_empty() {
                        continue;
                    }
                    let qos = payload.split_to(1)[0];
                    return Ok(Routed { topic: forward.publish.topic, payload, qos, after_gap });
                }
                // The router has stopped scheduling this link until it is woken.
                Some(Notification::Unschedule) => self.log.wake().await.map_err(|_| RouterDead)?,
                // `None` is a spurious wake-up, not an end.
                Some(_) | None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_that_matches_arrives_in_order() {
        let router = RouterFeed::start(4).expect("a thread");
        let mut log = router.subscribe("a/+").await.expect("a router");
        let feed = router.clone();
        let publishing = tokio::spawn(async move {
            for n in 0..5000u32 {
                feed.publish(b"a/b", &n.to_be_bytes(), 1).await.expect("a router");
            }
        });
        for n in 0..5000u32 {
            let message = log.next().await.expect("a router");
            assert_eq!((&message.payload[..], message.qos, message.after_gap), (&n.to_be_bytes()[..], 1, false));
        }
        publishing.await.expect("no panic");
        assert!(!router.is_dead());
    }
}
