//! An operator's requests to the running gateway, and their answers, given after the commit that makes them durable.

use std::fmt;

use tokio::sync::oneshot;

use crate::core::detection::alert::AlertKey;
use crate::counter::many;
use crate::store::cursors::DroppedSink;
use crate::store::letters::DeliveredLetter;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Forgets one series, or all of a device, as if they had never been seen.
    ForgetSeries {
        device: String,
        metric: Option<String>,
    },
    ClearAlert(AlertKey),
    /// Drops the cursors of a sink that is no longer configured.
    DropSink(String),
    /// A dead letter that was sent again was taken.
    LetterDelivered(DeliveredLetter),
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
            Operation::LetterDelivered(letter) => write!(f, "count a dead letter of {:?} as delivered", letter.sink),
        }
    }
}

/// The answer, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done(String),
    /// What the request is about does not exist.
    Unknown(String),
    Refused(String),
}

pub type Answer = oneshot::Sender<Outcome>;

/// The answer to a request to drop a sink.
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
