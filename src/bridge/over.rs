//! How a connection of a bridge ends.

use crate::core::mqtt::client::End;
use crate::uplink::ConnectError;

/// Why a connection is over, or there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Over {
    #[error("{0}")]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Remote(End),
    /// Something is refused that may be taken later.
    #[error("{0}")]
    Refused(String),
    #[error("what comes in cannot be stored at present")]
    Unstored,
    /// Our broker has ended it, as it does when the gateway ends.
    #[error("our own broker has ended the link")]
    Local,
}
