//! The task that looks for what has changed, for all clients together.
//!
//! Four times a second it takes the changes of alerts; once a second it asks the pipeline for the values that came, if the answer before has
//! arrived; every two seconds it reads the status. Without a client it sleeps.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use rustls::pki_types::UnixTime;
use serde::Serialize;
use tokio::sync::oneshot;

use super::Live;
use super::brief::Brief;
use super::stream::Stream;
use crate::admin::alerts;
use crate::admin::role::Role;
use crate::admin::status::Sources;
use crate::mqtt::alert_feed::AlertChanges;
use crate::pipeline::Message;
use crate::pipeline::values::{HeardQuestion, HeardValues, ValueLine};

const LOOK_EVERY: Duration = Duration::from_millis(250);
const ASK_EVERY: Duration = Duration::from_secs(1);
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// A large store is not read for each who comes, but for all together who came meanwhile.
const LARGE_STORE_EVERY: Duration = Duration::from_millis(500);
/// How soon a store that could not be read is tried again.
const UNREADABLE_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether clients still may be told.
const ADMIT_EVERY: Duration = Duration::from_secs(2);
/// How soon a browser connects again after a connection is lost.
const RETRY: &[u8] = b"retry: 1000\n\n";
/// Most alerts that are told with all others although they are not stored.
const UNSTORED_MAX: usize = 200;

/// Tells all clients until dropped.
pub(in crate::admin) async fn run(live: &Live, sources: &Sources, pipeline: &Sender<Message>) {
    let mut hub = Hub::new(sources, pipeline);
    loop {
        live.opened.notified().await;
        sources.alerts.watch(true);
        // Whoever comes and goes makes it read the store no sooner.
        hub = Hub { store_rests: hub.store_rests, ..Hub::new(sources, pipeline) };
        loop {
            let streams = live.present();
            if streams.is_empty() {
                break;
            }
            hub.look(&streams, Instant::now());
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = live.opened.notified() => {}
            }
        }
        sources.alerts.watch(false);
    }
}

struct Hub<'a> {
    sources: &'a Sources,
    pipeline: &'a Sender<Message>,
    heard: Heard,
    answer: Option<oneshot::Receiver<HeardValues>>,
    asked: Option<Instant>,
    told_status: Option<(Instant, String)>,
    admitted: Instant,
    /// Alerts are not read from the store before.
    store_rests: Option<Instant>,
    /// They could not be read when it was last tried.
    is_unreadable: bool,
}

/// How far the table of series has been looked at.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    since_ms: i64,
    from: usize,
    /// When this round through the table began.
    began_ms: i64,
}

impl Heard {
    /// The first look only tells what time it is.
    const NEW: Heard = Heard { since_ms: i64::MAX, from: 0, began_ms: i64::MAX };

    fn answered(&mut self, at_ms: i64, next: Option<usize>) {
        if self.from == 0 {
            self.began_ms = at_ms;
        }
        self.from = next.unwrap_or(0);
        if next.is_none() {
            self.since_ms = self.began_ms;
        }
    }
}

impl<'a> Hub<'a> {
    fn new(sources: &'a Sources, pipeline: &'a Sender<Message>) -> Hub<'a> {
        let (heard, admitted) = (Heard::NEW, Instant::now());
        Hub {
            sources,
            pipeline,
            heard,
            answer: None,
            asked: None,
            told_status: None,
            admitted,
            store_rests: None,
            is_unreadable: false,
        }
    }

    fn look(&mut self, streams: &[Rc<Stream>], now: Instant) {
        if now.saturating_duration_since(self.admitted) >= ADMIT_EVERY {
            self.admitted = now;
            self.admit(streams, UnixTime::now());
        }
        streams.iter().filter(|stream| stream.is_new.get()).for_each(|stream| {
            stream.tell(&Bytes::from_static(RETRY), now);
        });
        // Before all alerts are read from the store: then these are in it.
        self.tell_alerts(streams, now);
        if streams.iter().any(|stream| stream.needs_alerts()) {
            self.tell_all_alerts(streams, now);
        }
        self.tell_status(streams, now);
        self.tell_values(streams, now);
        self.ask_for_values(streams, now);
        for stream in streams {
            stream.is_new.set(false);
            stream.keep_alive(now);
        }
    }

    /// Ends those who may not look any more.
    fn admit(&self, streams: &[Rc<Stream>], now: UnixTime) {
        let access = self.sources.access.get();
        for stream in streams.iter().filter(|_| !access.is_open()) {
            let client = &stream.client;
            if access.admit_again(&client.headers, &client.certificates, Role::View, now).is_err() {
                stream.end();
            }
        }
    }

    fn tell_alerts(&self, streams: &[Rc<Stream>], now: Instant) {
        let AlertChanges { messages, is_incomplete } = self.sources.alerts.take();
        let wanting = || streams.iter().filter(|stream| stream.wants.alerts);
        for (topic, payload) in messages {
            let Some(frame) = frame_of_alert(&topic, &payload) else { continue };
            for stream in wanting() {
                // Who waits for all of them hears of the new ones at least.
                match self.is_unreadable && stream.has_missed_alerts() {
                    true => stream.tell(&frame, now),
                    false => stream.tell_alert(&frame, now),
                }
            }
        }
        if is_incomplete {
            wanting().for_each(|stream| stream.miss_alerts());
        }
    }

    fn tell_all_alerts(&mut self, streams: &[Rc<Stream>], now: Instant) {
        #[derive(Serialize)]
        struct All {
            alerts: Vec<serde_json::Value>,
            raised: u64,
            total: u64,
        }
        if self.store_rests.is_some_and(|until| now < until) {
            return;
        }
        let waiting = || streams.iter().filter(|stream| stream.needs_alerts());
        let view = self.sources.look_anew();
        let unstored = self.sources.alerts.unstored();
        self.is_unreadable = view.is_err();
        let Ok(view) = view else {
            // Each by itself: that these were all would be wrong.
            self.store_rests = Some(now + UNREADABLE_EVERY);
            let frames: Vec<_> = unstored.iter().take(UNSTORED_MAX).map(|alert| frame_of_record(alert)).collect();
            waiting().for_each(|stream| frames.iter().for_each(|frame| stream.tell(frame, now)));
            return;
        };
        self.store_rests = view.is_large().then(|| now + LARGE_STORE_EVERY);
        let unstored_count = unstored.len() as u64;
        let unstored = unstored.iter().take(UNSTORED_MAX);
        let unstored: Vec<_> = unstored.filter_map(|alert| serde_json::from_slice(alert).ok()).collect();
        let all = All {
            alerts: view.alerts.iter().cloned().chain(unstored).collect(),
            raised: view.alerts_raised.max(unstored_count),
            total: view.alerts_total.max(unstored_count),
        };
        let frame = frame("alerts", &all);
        waiting().for_each(|stream| stream.tell_alerts(&frame, now));
    }

    fn tell_status(&mut self, streams: &[Rc<Stream>], now: Instant) {
        let state = self.sources.state_name();
        let is_due = self
            .told_status
            .as_ref()
            .is_none_or(|(at, known)| now.saturating_duration_since(*at) >= STATUS_EVERY || *known != *state);
        let wanting = || streams.iter().filter(|stream| stream.wants.status && (is_due || stream.is_new.get()));
        if wanting().next().is_none() {
            return;
        }
        let status = self.sources.status_in_any_case();
        if is_due {
            self.told_status = Some((now, state.into_owned()));
        }
        let frame = frame("status", &Brief::from(status));
        wanting().for_each(|stream| stream.tell(&frame, now));
    }

    fn ask_for_values(&mut self, streams: &[Rc<Stream>], now: Instant) {
        let mut wanting = streams.iter().filter(|stream| stream.wants.values).peekable();
        let is_due = self.asked.is_none_or(|at| now.saturating_duration_since(at) >= ASK_EVERY);
        if self.answer.is_some() || !is_due || wanting.peek().is_none() {
            return;
        }
        let devices: Option<Vec<_>> = wanting.map(|stream| stream.wants.devices.as_ref()).collect();
        let devices = devices.map(|sets| Arc::new(sets.into_iter().flatten().cloned().collect()));
        let question = HeardQuestion { since_ms: self.heard.since_ms, from: self.heard.from, devices };
        let (answer, answered) = oneshot::channel();
        if self.pipeline.send(Message::Heard { question, answer }).is_ok() {
            (self.asked, self.answer) = (Some(now), Some(answered));
        }
    }

    fn tell_values(&mut self, streams: &[Rc<Stream>], now: Instant) {
        let Some(answer) = &mut self.answer else { return };
        let HeardValues { values, next, at_ms } = match answer.try_recv() {
            Ok(heard) => heard,
            // A stalled pipeline is asked once, however long it takes.
            Err(oneshot::error::TryRecvError::Empty) => return,
            Err(oneshot::error::TryRecvError::Closed) => return self.answer = None,
        };
        self.answer = None;
        self.heard.answered(at_ms, next);
        let now_ms = (self.sources.now_ms)();
        let mut of_all = None;
        for stream in streams.iter().filter(|stream| stream.wants.values) {
            let frame = match &stream.wants.devices {
                None => of_all.get_or_insert_with(|| frame_of_values(now_ms, values.iter().collect())).clone(),
                Some(devices) => {
                    frame_of_values(now_ms, values.iter().filter(|value| devices.contains(&value.device)).collect())
                }
            };
            if let Some(frame) = frame {
                stream.tell(&frame, now);
            }
        }
    }
}

fn frame(event: &str, data: &impl Serialize) -> Bytes {
    let mut frame = format!("event: {event}\ndata: ").into_bytes();
    serde_json::to_writer(&mut frame, data).expect("plain data");
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

fn frame_of_record(alert: &[u8]) -> Bytes {
    [b"event: alert\ndata: ".as_slice(), alert, b"\n\n"].concat().into()
}

/// The record of an alert, or which one was removed.
fn frame_of_alert(topic: &str, payload: &[u8]) -> Option<Bytes> {
    if !payload.is_empty() {
        return Some(frame_of_record(payload));
    }
    let key = alerts::key(topic.strip_prefix("alerts/")?)?;
    let removed = serde_json::json!({"device": key.device, "metric": key.metric, "kind": key.kind, "state": "removed"});
    Some(frame("alert", &removed))
}

fn frame_of_values(now_ms: i64, values: Vec<&ValueLine>) -> Option<Bytes> {
    #[derive(Serialize)]
    struct Values<'a> {
        now_ms: i64,
        values: Vec<&'a ValueLine>,
    }
    (!values.is_empty()).then(|| frame("values", &Values { now_ms, values }))
}

#[cfg(test)]
mod tests;
