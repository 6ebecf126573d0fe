//! What the client says of messages that it was sent.

use super::{InFlight, Message, Outbound, PUBREL};
use crate::mqtt::packet::{self, reason};
use crate::mqtt::session::Close;

impl<P: AsRef<[u8]>> Outbound<P> {
    /// Takes a PUBACK: the message is no longer kept. One for what was not sent, as after a reconnect, means nothing.
    ///
    /// # Errors
    ///
    /// If what has this id is no message of QoS 1.
    pub fn acknowledged(&mut self, packet_id: u16) -> Result<(), Close> {
        let is_meant = |message: Option<&Message<P>>| message.is_some_and(|message| message.qos == 1);
        let at = self.place_of(packet_id, is_meant)?;
        at.into_iter().for_each(|at| self.remove(at));
        Ok(())
    }

    /// Takes a PUBREC: the client has the message, or refuses it.
    ///
    /// # Errors
    ///
    /// If what has this id is no message of QoS 2.
    pub fn received(&mut self, packet_id: u16, reason: u8, out: &mut Vec<u8>) -> Result<(), Close> {
        let is_meant = |message: Option<&Message<P>>| message.is_none_or(|message| message.qos == 2);
        let at = self.place_of(packet_id, is_meant)?;
        if reason >= reason::UNSPECIFIED {
            at.into_iter().for_each(|at| self.remove(at));
            return Ok(());
        }
        let message = at.and_then(|at| self.in_flight[at].message.take());
        let is_new = message.is_some();
        self.let_go(message);
        match at.map(|at| &mut self.in_flight[at]) {
            Some(sent) if self.is_stored && is_new => {
                self.revision += 1;
                self.unreleased += 1;
                (sent.owes_release, sent.revision) = (true, self.revision);
            }
            Some(sent) if sent.owes_release => {}
            known => {
                let reason = if known.is_some() { reason::SUCCESS } else { reason::UNKNOWN_ID };
                packet::ack(self.limits.version, PUBREL, packet_id, reason, out);
            }
        }
        Ok(())
    }

    /// Takes a PUBCOMP: the id is free.
    ///
    /// # Errors
    ///
    /// If what has this id was not released.
    pub fn completed(&mut self, packet_id: u16) -> Result<(), Close> {
        let at = self.place_of(packet_id, |message| message.is_none())?;
        at.into_iter().for_each(|at| self.remove(at));
        Ok(())
    }

    /// Where it is among what is in flight, if it is there at all.
    fn place_of(&self, packet_id: u16, is_meant: impl Fn(Option<&Message<P>>) -> bool) -> Result<Option<usize>, Close> {
        let Some(at) = self.in_flight.iter().position(|sent| sent.packet_id == packet_id) else { return Ok(None) };
        let sent = &self.in_flight[at];
        // What was not sent over this connection may have been answered over the one before.
        match is_meant(sent.message.as_ref()) {
            true => Ok(Some(at)),
            false if sent.is_sent => Err(Close::WrongAnswer),
            false => Ok(None),
        }
    }

    fn remove(&mut self, at: usize) {
        let Some(InFlight { message, is_sent, owes_release, .. }) = self.in_flight.remove(at) else { return };
        self.unsent -= usize::from(!is_sent);
        self.unreleased -= usize::from(owes_release);
        self.is_changed = true;
        self.let_go(message);
    }

    pub(super) fn let_go(&mut self, message: Option<Message<P>>) {
        if let Some(message) = message {
            *self.kept.of(message.is_own) -= message.cost();
            if let Some(number) = message.number() {
                self.is_changed = true;
                self.unfinished.done(number);
            }
        }
    }
}
