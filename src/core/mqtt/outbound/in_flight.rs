//! Messages that have an id, because they were sent, or are about to be.

use super::message::Message;
use crate::mqtt::keeping::KeptInFlight;

#[derive(Debug)]
pub(super) struct InFlight<P> {
    pub packet_id: u16,
    /// `None` once the client has said that it has it: it only has to release the id.
    pub message: Option<Message<P>>,
    /// Whether it was sent over this connection.
    pub is_sent: bool,
    /// Whether it may have been sent over this or an earlier one.
    pub was_sent: bool,
    /// The client has it, and is to be told to release the id once that is stored.
    pub owes_release: bool,
    /// What has to be stored before it, or the release of its id, is sent.
    pub revision: u64,
}

/// A message that was in flight before a restart; without one, the client has it.
#[derive(Debug)]
pub struct Restored<P> {
    /// The id under which the client knows it.
    pub packet_id: u16,
    /// `None` if the client only has to release the id.
    pub message: Option<Message<P>>,
}

impl<P: AsRef<[u8]>> InFlight<P> {
    pub fn sent(packet_id: u16, message: Message<P>) -> InFlight<P> {
        InFlight { is_sent: true, was_sent: true, ..InFlight::assigned(packet_id, message, 0) }
    }

    pub fn assigned(packet_id: u16, message: Message<P>, revision: u64) -> InFlight<P> {
        let message = Some(message);
        InFlight { packet_id, message, is_sent: false, was_sent: false, owes_release: false, revision }
    }

    pub fn restored(packet_id: u16, message: Option<Message<P>>) -> InFlight<P> {
        InFlight { packet_id, message, is_sent: false, was_sent: true, owes_release: false, revision: 0 }
    }

    pub fn sends(&mut self, message: Option<Message<P>>) {
        (self.message, self.is_sent, self.was_sent) = (message, true, true);
    }

    pub fn connection_ended(&mut self) {
        (self.is_sent, self.owes_release) = (false, false);
    }

    pub fn kept(&self) -> KeptInFlight {
        let message = self.message.as_ref().and_then(Message::number);
        let qos = self.message.as_ref().map_or(2, |message| message.qos);
        KeptInFlight { packet_id: self.packet_id, message, qos, is_received: self.message.is_none() }
    }
}
