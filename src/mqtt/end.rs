//! How connections end, and which ends deserve a warning.

use super::input::NoRoom;
use super::router::RouterDead;
use crate::core::mqtt::packet::{DecodeError, reason};
use crate::core::mqtt::session::Close;
use crate::handoff::PipelineGone;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The client sent DISCONNECT: its will is not published.
    Disconnected,
    /// The client sent a DISCONNECT that leaves its will to be published.
    LeftWithWill,
    /// The client or the network closed the connection.
    Lost,
    Broken(Close),
    Undecodable(DecodeError),
    TakenOver,
    Overrun,
    NotReading,
    /// A large packet took too long to arrive.
    Slow,
    /// Too many other clients are sending large packets.
    Crowded,
    /// The pipeline has ended, or a submission was not stored.
    Refused,
    Draining,
    RouterDead,
    /// Its certificate or its login is no longer good for this listener.
    NoLongerAdmitted,
}

impl End {
    pub fn reason(&self) -> String {
        match self {
            End::Disconnected | End::LeftWithWill => "it said goodbye".to_owned(),
            End::Lost => "the connection was lost".to_owned(),
            End::Broken(close) => close.to_string(),
            End::Undecodable(error) => error.to_string(),
            End::TakenOver => "another client connected with this client id".to_owned(),
            End::Overrun => "it does not read what it subscribed to fast enough".to_owned(),
            End::NotReading => "it took nothing of what was sent to it for the write time-out".to_owned(),
            End::Slow => "a large packet did not arrive within the packet time-out".to_owned(),
            End::Crowded => "too many large packets are under way at once".to_owned(),
            End::Refused => "what it published could not be stored".to_owned(),
            End::Draining => "the gateway is stopping".to_owned(),
            End::RouterDead => "the router has ended".to_owned(),
            End::NoLongerAdmitted => "its certificate or its login is no longer valid".to_owned(),
        }
    }

    /// The reason code that a client of version 5 is told; `None` if there is nobody to be told.
    pub fn code(&self) -> Option<u8> {
        match self {
            End::Disconnected | End::LeftWithWill | End::Lost | End::NotReading => None,
            End::Broken(close) => Some(close.reason()),
            End::Undecodable(error) => Some(error.reason()),
            End::TakenOver => Some(reason::TAKEN_OVER),
            End::Overrun | End::Slow | End::Crowded | End::Refused => Some(reason::QUOTA),
            End::NoLongerAdmitted => Some(reason::NOT_AUTHORIZED),
            End::Draining | End::RouterDead => Some(reason::SHUTTING_DOWN),
        }
    }

    /// Clients come and go; only what somebody should fix deserves a warning. That nothing can be stored is logged once, not for each
    /// client.
    pub fn is_noteworthy(&self) -> bool {
        !matches!(self, End::Disconnected | End::LeftWithWill | End::Lost | End::Draining | End::Refused)
    }
}

impl From<Close> for End {
    fn from(close: Close) -> End {
        End::Broken(close)
    }
}

impl From<RouterDead> for End {
    fn from(_: RouterDead) -> End {
        End::RouterDead
    }
}

impl From<PipelineGone> for End {
    fn from(_: PipelineGone) -> End {
        End::Refused
    }
}

impl From<NoRoom> for End {
    fn from(_: NoRoom) -> End {
        End::Crowded
    }
}
