//! One connection: a task that writes and reads, and what its owners hold of it.

mod driver;
mod shared;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::broker::Broker;
use super::transport::{self, ConnectError};
use crate::core::mqtt::client::{Answer, Arrived, End, Filter, Message, Settings, Token, Unfit, Welcome};
use crate::core::mqtt::packet::client::FIELD_BYTES_MAX;
use shared::{Owner, Shared};

/// A connection that is open.
#[derive(Debug)]
pub struct Opened {
    /// To publish, subscribe and acknowledge.
    pub handle: Handle,
    /// Where messages arrive. Who wants none drops it: then what arrives is acknowledged and forgotten.
    pub incoming: Incoming,
    /// What the broker has said.
    pub welcome: Welcome,
}

/// What can be asked of an open connection. When the last clone is gone, the client leaves.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Rc<Shared>,
    _owner: Rc<Owner>,
}

/// Where messages arrive. They have to be taken: while many wait here nothing more is read, acknowledgements of ours included.
#[derive(Debug)]
pub struct Incoming {
    shared: Rc<Shared>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// The broker has it; at QoS 0, it is on its way.
    Accepted,
    /// The broker has it, and says that nobody is subscribed.
    NobodySubscribed,
    /// The broker does not take it.
    Refused(crate::core::mqtt::client::Refusal),
    /// It was not sent: the broker can never take it.
    Unfit(Unfit),
    /// The connection has ended. The broker may have it, or not.
    Unanswered(End),
}

/// A message that is on its way; it is what becomes of it, when that is known. Whoever drops it is not told.
#[derive(Debug)]
pub struct Publishing {
    answer: oneshot::Receiver<Answer>,
}

/// Why there is no subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscribeError {
    /// It was not asked for: the broker can never grant it.
    Unfit(Unfit),
    /// The connection has ended.
    Ended(End),
}

/// Connects and logs in. Must be called within a `LocalSet`, where the connection gets a task.
///
/// # Errors
///
/// Why there is no connection.
pub async fn open(broker: &Broker, settings: Settings) -> Result<Opened, ConnectError> {
    check(&settings)?;
    let stream = transport::connect(broker).await?;
    let shared = Rc::new(Shared::new(&settings));
    let mut driver = driver::Driver::new(stream, Rc::clone(&shared));
    let welcome = driver.log_in(broker).await?;
    tokio::task::spawn_local(driver.run());
    let owner = Rc::new(Owner::of(&shared));
    let handle = Handle { shared: Rc::clone(&shared), _owner: owner };
    Ok(Opened { handle, incoming: Incoming { shared }, welcome })
}

/// Connects, logs in and leaves. Needs no `LocalSet`.
///
/// # Errors
///
/// Why there is no connection.
pub async fn try_login(broker: &Broker, settings: Settings) -> Result<Welcome, ConnectError> {
    check(&settings)?;
    let stream = transport::connect(broker).await?;
    let shared = Rc::new(Shared::new(&settings));
    let mut driver = driver::Driver::new(stream, Rc::clone(&shared));
    let welcome = driver.log_in(broker).await?;
    shared.leave();
    driver.run().await;
    Ok(welcome)
}

/// Texts that MQTT can say.
fn check(settings: &Settings) -> Result<(), ConnectError> {
    let login = settings.login.iter();
    let logins = login.flat_map(|login| [login.user_name.len(), login.password.as_ref().map_or(0, Vec::len)]);
    let wills = settings.will.iter().flat_map(|will| [will.message.topic.len(), will.message.payload.len()]);
    match logins.chain(wills).chain([settings.client_id.len()]).all(|len| len <= FIELD_BYTES_MAX) {
        true => Ok(()),
        false => {
            Err(ConnectError::Ended(End::Protocol("a name, a password or a will of more than 65535 bytes".to_owned())))
        }
    }
}

impl Handle {
    /// Sends a message as soon as the broker takes another one: messages leave in the order in which this is called and first polled. What
    /// comes back says later what became of it, so others can be sent meanwhile.
    pub async fn send(&self, message: &Message) -> Result<Publishing, Published> {
        let _turn = self.shared.turn.lock().await;
        loop {
            if let Some(end) = self.ended() {
                return Err(Published::Unanswered(end));
            }
            let room = self.shared.room.notified();
            match self.shared.publish(message) {
                Ok(Ok(answer)) => return Ok(Publishing { answer }),
                Ok(Err(unfit)) => return Err(Published::Unfit(unfit)),
                Err(shared::Wait::ForRoom) => room.await,
                Err(shared::Wait::Until(at)) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = room => {}
                    }
                }
            }
        }
    }

    /// Sends a message, and waits until it is known what became of it.
    pub async fn publish(&self, message: &Message) -> Published {
        match self.send(message).await {
            Ok(publishing) => publishing.await,
            Err(published) => published,
        }
    }

    /// Subscribes, in as many requests as the broker needs. For each filter: the quality of service that is granted, or the reason code.
    ///
    /// # Errors
    ///
    /// Why nothing more was asked for.
    pub async fn subscribe(&self, filters: &[Filter]) -> Result<Vec<Result<u8, u8>>, SubscribeError> {
        let mut granted = Vec::new();
        for filters in filters.chunks(self.shared.filters_max()) {
            let answer = self.shared.subscribe(filters).map_err(SubscribeError::Unfit)?;
            granted.extend(filters_of(answer.await)?);
        }
        Ok(granted)
    }

    /// Gives subscriptions up.
    ///
    /// # Errors
    ///
    /// Why nothing more was asked for.
    pub async fn unsubscribe(&self, filters: &[&str]) -> Result<(), SubscribeError> {
        for filters in filters.chunks(self.shared.filters_max()) {
            let answer = self.shared.unsubscribe(filters).map_err(SubscribeError::Unfit)?;
            filters_of(answer.await)?;
        }
        Ok(())
    }

    /// The owner is done with a message that has arrived: the broker may forget it. Acknowledgements leave in the order of the messages.
    pub fn acknowledge(&self, token: Token) {
        self.shared.acknowledge(token);
    }

    /// Whether a message can be sent at all, of this size, to this topic.
    ///
    /// # Errors
    ///
    /// Why the broker can never take it.
    pub fn check(&self, message: &Message) -> Result<(), Unfit> {
        self.shared.check(message)
    }

    /// Messages of ours that are not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight()
    }

    /// For [`Settings::unreleased`] of the session's next connection.
    pub fn unreleased(&self) -> Vec<u16> {
        self.shared.unreleased()
    }

    /// Why the connection has ended, if it has.
    pub fn ended(&self) -> Option<End> {
        self.shared.ended()
    }

    /// Waits for the end of the connection.
    pub async fn closed(&self) -> End {
        self.shared.closed().await
    }

    /// Leaves. What is not acknowledged comes back unanswered.
    pub fn leave(&self) {
        self.shared.leave();
    }
}

impl Incoming {
    /// The next message.
    ///
    /// # Errors
    ///
    /// Why no more will come.
    pub async fn next(&mut self) -> Result<Arrived, End> {
        loop {
            let came = self.shared.came.notified();
            if let Some(arrived) = self.shared.take_arrived() {
                return Ok(arrived);
            }
            if let Some(end) = self.shared.ended() {
                return Err(end);
            }
            came.await;
        }
    }

    /// Messages that have arrived and were not taken.
    pub fn waiting(&self) -> usize {
        self.shared.waiting()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.shared.want_nothing();
    }
}

impl Future for Publishing {
    type Output = Published;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Published> {
        Pin::new(&mut self.answer).poll(context).map(|answer| match answer {
            Ok(Answer::Accepted | Answer::Filters(_)) => Published::Accepted,
            Ok(Answer::NobodySubscribed) => Published::NobodySubscribed,
            Ok(Answer::Refused(refusal)) => Published::Refused(refusal),
            Ok(Answer::Unanswered(end)) => Published::Unanswered(end),
            // Its task is gone without a word: the runtime ends.
            Err(_) => Published::Unanswered(End::Left),
        })
    }
}

fn filters_of(answer: Result<Answer, oneshot::error::RecvError>) -> Result<Vec<Result<u8, u8>>, SubscribeError> {
    match answer {
        Ok(Answer::Filters(codes)) => Ok(codes),
        Ok(Answer::Unanswered(end)) => Err(SubscribeError::Ended(end)),
        Ok(_) | Err(_) => Err(SubscribeError::Ended(End::Left)),
    }
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubscribeError::Unfit(unfit) => unfit.fmt(f),
            SubscribeError::Ended(end) => end.fmt(f),
        }
    }
}

impl std::error::Error for SubscribeError {}
