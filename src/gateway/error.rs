//! Why a gateway could not run, or ended.

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::counter::many;
use crate::sinks::start::StartError;
use crate::store::lock::LockError;
use crate::store::schema::OpenError;

#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error(transparent)]
    Locked(LockError),
    #[error(transparent)]
    Store(OpenError),
    #[error("cannot use the store")]
    Sqlite(#[source] rusqlite::Error),
    #[error("cannot listen for {what} on {address}")]
    Listen {
        what: &'static str,
        /// Its key in the configuration.
        key: String,
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Sink(StartError),
    /// The operating system refused something: a verb and its object.
    #[error("cannot {tried}")]
    System { tried: Cow<'static, str>, source: std::io::Error },
    #[error("the router of local subscriptions has ended")]
    RouterDead,
    /// A thread that should live as long as the process has ended.
    #[error("the {thread} thread has ended unexpectedly")]
    Ended { thread: &'static str },
    /// Threads that were still working when the grace period was over.
    #[error("stopped before these had finished: {}; nothing is lost", .0.join(", "))]
    Stragglers(Vec<String>),
    /// The disk did not accept the last readings, which were not acknowledged.
    #[error("stopped, but the disk {trouble}: {}", what_is_unstored(*readings))]
    Unstored { readings: u64, trouble: &'static str },
}

fn what_is_unstored(readings: u64) -> String {
    match readings {
        0 => "no readings are lost; the progress of the sinks and the state of the detectors could not be saved"
            .to_owned(),
        _ => format!(
            "{} could not be stored; not acknowledged, so that devices that publish at QoS 1 send again",
            many(readings, "reading")
        ),
    }
}

impl GatewayError {
    /// Makes an error for what failed: `cannot {tried}`.
    pub fn system(tried: impl Into<Cow<'static, str>>) -> impl FnOnce(std::io::Error) -> GatewayError {
        move |source| GatewayError::System { tried: tried.into(), source }
    }
}
