//! What a client gets as it reads: what waits for it, and the retained messages that its new filters match.

use std::rc::Rc;

use super::Fanout;
use super::queueing::message;
use crate::mqtt::retained::ScanStep;
use crate::mqtt::subscriber::Subscriber;

/// Most retained messages looked at in a subscriber's turn, before other tasks run.
const LOOKS_A_TURN: usize = 128;
/// Most retained messages queued ahead of what the client has read.
const RETAINED_AHEAD: usize = 64;
/// The gateway's own messages are rarely larger than this.
const OWN_MESSAGE_BYTES: usize = 4 * 1024;

impl Fanout {
    /// Appends waiting messages to `out`, up to `bytes_max`. Returns whether there may be more once other tasks have run.
    pub fn fill(&self, subscriber: &Rc<Subscriber>, out: &mut Vec<u8>, bytes_max: usize) -> bool {
        let now_ms = self.now_ms();
        let mut left_out = subscriber.fill(out, bytes_max, now_ms, &self.keeper);
        subscriber.make_up_for_missed();
        let has_scans = !subscriber.scans.borrow().is_empty();
        let is_paused = has_scans && self.queue_retained(subscriber);
        if has_scans {
            left_out += subscriber.fill(out, bytes_max, now_ms, &self.keeper);
        }
        if left_out > 0 {
            self.counters.messages_left_out.add(left_out as u64);
        }
        is_paused
    }

    fn queue_retained(&self, subscriber: &Subscriber) -> bool {
        let inner = self.inner.borrow();
        let mut scans = subscriber.scans.borrow_mut();
        let (mut looks, now_ms) = (LOOKS_A_TURN, self.now_ms());
        while let Some(scan) = scans.front_mut() {
            let message_max = self.settings.packet_bytes_max;
            let (waiting, has_room) = match scan.is_own() {
                true => (subscriber.own_waiting(), subscriber.has_own_room(OWN_MESSAGE_BYTES)),
                false => (subscriber.waiting(), subscriber.has_room(message_max)),
            };
            if waiting >= RETAINED_AHEAD || (waiting > 0 && !has_room) {
                return false;
            }
            match inner.retained.advance(scan, &mut looks) {
                ScanStep::Message(envelope) => {
                    let is_own = scan.is_own() && self.settings.reserves_own;
                    let is_wanted = !(scan.wants.no_local && envelope.publisher() == subscriber.number)
                        && subscriber.may_receive(envelope.topic());
                    if !is_wanted || envelope.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
                        continue;
                    }
                    let identifiers = Some(scan.wants.identifier).filter(|id| *id != 0).into_iter().collect();
                    let message = message(&envelope, scan.wants.qos, true, identifiers, is_own, None);
                    let has_room = message.is_own || subscriber.has_room(message.cost());
                    if !has_room && subscriber.is_bridge {
                        subscriber.dropped.set(subscriber.dropped.get() + 1);
                        continue;
                    }
                    if !has_room && subscriber.waiting() == 0 {
                        subscriber.cut_off();
                        return false;
                    }
                    subscriber.push(message);
                }
                ScanStep::Done => {
                    scans.pop_front();
                }
                ScanStep::Paused => return true,
            }
        }
        false
    }
}
