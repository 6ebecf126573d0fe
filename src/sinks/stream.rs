//! What the task of one (sink, stream) works with.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;

use tokio::sync::watch;

use super::links::{SharedLink, SocketBytes};
use super::status::{ForwardStatus, Link};
use crate::core::cursor::CursorState;
use crate::core::delivery::Plan;
use crate::core::identity::Stream;
use crate::heartbeat::Beat;
use crate::pipeline::Message;
use crate::store::cursors::Saves;
use crate::store::reader::Reader;

pub struct StreamParts {
    pub sink: String,
    pub stream: Stream,
    pub stream_name: Arc<str>,
    pub reader: Reader,
    pub cursor: CursorState,
    /// What the sink did not take, of all that the cursor says it is done with.
    pub passed_over: u64,
    /// Keys that are set aside, and where each of them is.
    pub held_keys: Vec<(String, CursorState)>,
    pub committed: watch::Receiver<u64>,
    /// Up to which sequence the store has given up what this sink had not got.
    pub given_up: Arc<AtomicU64>,
    pub link: watch::Receiver<Link>,
    pub pipeline: Sender<Message>,
    /// Of the progress that is sent there.
    pub saves: Arc<Saves>,
    pub status: Arc<ForwardStatus>,
    /// The heartbeat of the sink's thread.
    pub beat: Beat,
    /// How its records travel.
    pub plan: Plan,
    /// The link that they take, if it is counted, and what goes over the sink's sockets.
    pub counted_link: Option<Arc<SharedLink>>,
    pub socket: Arc<SocketBytes>,
}

impl StreamParts {
    /// Where connections count their bytes, if the sink's link wants to know.
    pub fn counts(&self) -> Option<Arc<SocketBytes>> {
        self.counted_link.as_ref().map(|_| Arc::clone(&self.socket))
    }
}
