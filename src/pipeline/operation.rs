//! What an operator asks of the running gateway, and how it is answered: with the commit that makes it durable.

use std::fmt;

use tokio::sync::oneshot;

use crate::core::detection::alert::AlertKey;
use crate::counter::many;
use crate::store::cursors::DroppedSink;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One series, or all of a device: as if nobody had ever heard of them.
    ForgetSeries {
        device: String,
        metric: Option<String>,
    },
    ClearAlert(AlertKey),
    /// The cursors of a sink that has left the configuration.
    DropSink(String),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::ForgetSeries { device, metric: None } => write!(f, "forget the device {device:?}"),
            Operation::ForgetSeries { device, metric: Some(metric) } => write!(f, "forget {metric:?} of {device:?}"),
            Operation::ClearAlert(AlertKey { device, metric, kind }) => {
                write!(f, "clear the alert {kind:?} of {metric:?} of {device:?}")
            }
            Operation::DropSink(name) => write!(f, "drop the sink {name:?}"),
        }
    }
}

/// The answer, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done(String),
    /// There is no such thing.
    Unknown(String),
    Refused(String),
}

pub type Answer = oneshot::Sender<Outcome>;

/// How it is answered that a sink was to be dropped.
pub fn dropped(sink: &DroppedSink, name: &str) -> Outcome {
    match sink {
        DroppedSink::Dropped(waiting) => {
            let records = many(waiting.iter().map(|(_, count)| count).sum(), "record");
            Outcome::Done(format!("dropped the sink {name}; {records} not delivered to it, counted as expired"))
        }
        DroppedSink::Unknown => Outcome::Unknown(format!("there is no sink {name}")),
        DroppedSink::Configured => Outcome::Refused(format!(
            "the sink {name} is in the configuration: take it out and restart the gateway first"
        )),
    }
}
