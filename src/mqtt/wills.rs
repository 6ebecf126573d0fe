//! Wills: what is published of a client that goes without saying goodbye, perhaps later.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::client::Client;
use super::keeper::{Known, WillRoom};
use super::publish::{Batch, Published, Republished};
use super::router::Draft;
use super::sessions::ClientIsBack;
use super::{Edge, Phase};
use crate::core::mqtt::keeping::{self, Blob, KeptClient, KeptWill, Key, SessionNumber};
use crate::core::mqtt::pace::Urgency;
use crate::core::mqtt::packet::{PassedOn, Will};
use crate::core::mqtt::publishing::{self, PublishVerdict, Voice};
use crate::core::mqtt::session::number_of;
use crate::handoff::{EntryChange, Input, SessionProgress};

/// Wills may take this fraction of what may be stored of clients.
const WILLS_PART: usize = 8;

/// Pause before a will that could not be stored is tried again.
const WILL_RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A will that waits for the end of its connection, or for longer.
pub(super) struct LeftWill {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub delay: Duration,
    pub expiry_s: Option<u32>,
    pub passed_on: Vec<u8>,
    /// Under which it is stored, and its room there.
    pub number: Option<SessionNumber>,
    room: Option<WillRoom>,
}

impl LeftWill {
    pub fn new(will: &Will<'_>) -> LeftWill {
        LeftWill {
            topic: will.topic.to_owned(),
            payload: will.payload.to_owned(),
            qos: will.qos,
            retain: will.retain,
            delay: Duration::from_secs(will.delay_s.into()),
            expiry_s: will.expiry_s,
            passed_on: will.passed_on.each().flatten().copied().collect(),
            number: None,
            room: None,
        }
    }

    /// One that was left before a restart.
    pub fn restored(number: SessionNumber, kept: KeptWill) -> LeftWill {
        LeftWill {
            topic: kept.topic,
            payload: kept.payload.0,
            qos: kept.qos,
            retain: kept.retain,
            delay: Duration::from_millis(kept.delay_ms),
            expiry_s: kept.expiry_s,
            passed_on: kept.passed_on.0,
            number: Some(number),
            room: None,
        }
    }

    fn kept(&self, client: &Client) -> KeptWill {
        KeptWill {
            client: KeptClient::new(&client.identity, &client.listener.settings.name),
            topic: self.topic.clone(),
            payload: Blob(self.payload.clone()),
            qos: self.qos,
            retain: self.retain,
            delay_ms: u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX),
            expiry_s: self.expiry_s,
            passed_on: Blob(self.passed_on.clone()),
        }
    }
}

/// Publishes a will at once, or when its delay or its session is over, unless the client comes back before that.
pub(super) async fn leave_will<T: From<Input> + 'static>(
    edge: Rc<Edge<T>>,
    client: Rc<Client>,
    will: LeftWill,
    session_expiry: Duration,
) {
    let delay = will.delay.min(session_expiry);
    if delay.is_zero() && edge.publish_will(&client, &will).await {
        return;
    }
    let back = edge.sessions.keep_will(client.id());
    // It must not keep the seat of its connection.
    tokio::task::spawn_local(wait_with_will(edge, client, will, delay, back));
}

/// Publishes a will after so long, or when its session has ended, unless the client comes back before that. As long as it cannot be stored, it
/// waits.
pub(super) async fn wait_with_will<T: From<Input> + 'static>(
    edge: Rc<Edge<T>>,
    client: Rc<Client>,
    will: LeftWill,
    mut delay: Duration,
    mut back: oneshot::Receiver<ClientIsBack>,
) {
    let mut phase = edge.phase.clone();
    loop {
        tokio::select! {
            back = &mut back => if let Ok(ClientIsBack) = back {
                return edge.forget_will(&will);
            },
            () = sleep(delay) => {}
            // As for those of connections: the next start has it.
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => return,
        }
        edge.sessions.forget_will(client.id());
        if edge.publish_will(&client, &will).await {
            return;
        }
        delay = WILL_RETRY_PAUSE;
        back = edge.sessions.keep_restored_will(client.id());
    }
}

impl<T: From<Input> + 'static> Edge<T> {
    /// The next start is to know of a will.
    pub(super) fn store_will(&self, client: &Client, will: &mut LeftWill) {
        let value = keeping::to_value(&will.kept(client));
        will.room = self.keeper.will_room(value.len(), self.settings.stored_bytes_max / WILLS_PART);
        if will.room.is_none() {
            return self.fanout.note_short();
        }
        let number = self.keeper.new_session();
        will.number = Some(number);
        self.keeper.put(&Key::Will(number), value, Known::No);
    }

    /// A will is not published.
    pub(super) fn forget_will(&self, will: &LeftWill) {
        if let Some(number) = will.number {
            self.keeper.delete(&Key::Will(number));
            self.keeper.flush();
        }
    }

    /// A will is a publish like any other: stored, then fanned out. Returns whether it is done with; if not, nothing can be stored at
    /// present.
    pub(super) async fn publish_will(&self, client: &Client, will: &LeftWill) -> bool {
        let client_id = client.id();
        match publishing::judge(Voice::Will, &will.topic, &client.permissions()) {
            Ok(PublishVerdict::Take) => {}
            Ok(PublishVerdict::Deny(_)) => {
                self.forget_will(will);
                self.note_denied(client, &will.topic);
                return true;
            }
            _ => {
                self.forget_will(will);
                self.counters.publishes_refused.add(1);
                self.warn_of_topic(client_id, &will.topic);
                return true;
            }
        }
        let mut place = self.pipeline.place();
        place.turn().await;
        if self.renew_rules().is_err() {
            return true;
        }
        let mut batch = Batch { publishes: 1, urgency: Urgency::Urgent, ..Batch::default() };
        if let Some(key) = will.number.map(Key::Will) {
            self.keeper.supersede(&key);
            batch.entries.push(EntryChange { key: key.to_bytes(), value: None });
        }
        let published = Published {
            topic: &will.topic,
            payload: &will.payload,
            qos: will.qos,
            client_id: Some(client_id),
            properties: PassedOn::from_own(&will.passed_on),
            received_at_ms: (self.now_ms)(),
        };
        let is_taken = self.decode(&published, &mut batch);
        let mut passed_on = std::mem::take(&mut batch.republished);
        if is_taken {
            let draft = Draft {
                topic: &will.topic,
                payload: &will.payload,
                qos: will.qos,
                retain: will.retain,
                publisher: number_of(client_id),
                deadline_ms: self.deadline_ms(will.expiry_s),
                number: None,
                retained_max: client.limits().retained_max,
                passed_on: PassedOn::from_own(&will.passed_on),
            };
            let prepared = self.fanout.prepare(draft, &mut batch.entries);
            passed_on.insert(0, Republished { prepared, may_have_receivers: true });
        }
        batch.entries.extend(self.keeper.take_ended_sessions());
        let progress = Arc::<SessionProgress>::default();
        if self.pipeline.submit(batch.submission(&progress, 1)).is_err() {
            return true;
        }
        drop(place);
        while progress.committed() < 1 && !progress.is_failed() && progress.take_refused().is_none() {
            progress.changed().await;
        }
        if progress.committed() < 1 {
            return false;
        }
        for Republished { prepared, .. } in passed_on {
            // The listener notices a dead router and ends the process.
            if let Ok(Some(passing_on)) = self.fanout.pass_on(prepared) {
                let _ = passing_on.await;
            }
        }
        true
    }
}
