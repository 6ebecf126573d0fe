//! Deals the router's logs out: finds everybody whose filter matches a message, and queues it for them.

use super::queueing::message;
use super::receiver::Receiver;
use super::storing::ExpectedMessage;
use super::{Fanout, Inner};
use crate::core::mqtt::subscription::Wants;
use crate::mqtt::router::{Envelope, RouterLog};
use crate::mqtt::shared::{Chosen, Member};
use crate::mqtt::subscriber::Handle;

/// The cost of passing on a message besides its payload: waking its receiver, and writing it.
const MESSAGE_COST: usize = 512;
/// The cost of visiting a tree node.
const NODE_COST: usize = 32;
/// The cost after which other tasks run, among them those that write the queues out: a burst must not overflow the queue of a subscriber
/// that reads.
const COST_A_TURN: usize = 64 * 1024;

impl Fanout {
    /// Reads one of the router's logs as long as the process lives, and queues each message for everybody whose filter matches, letting
    /// other tasks run in between.
    pub(super) async fn deal_out(self, mut log: RouterLog, is_own: bool) {
        let (mut cost, mut receivers) = (0, Vec::new());
        while let Ok(envelope) = log.next().await {
            if envelope.is_ping() {
                self.pinged.notify_one();
                continue;
            }
            let mut expected = envelope.number().and_then(|number| self.take_expected(number));
            let chosen = expected.as_ref().map_or(&[][..], |expected| &expected.chosen);
            cost += NODE_COST * self.find_receivers(&envelope, is_own, chosen, &mut receivers);
            for Receiver { subscriber, qos, keeps_retain, identifiers } in receivers.drain(..) {
                let (retain, is_reserved) = (keeps_retain && envelope.retain(), is_own && self.settings.reserves_own);
                let stored = expected.as_mut().filter(|_| qos > 0).and_then(|expected| expected.hold_of(&subscriber));
                let message = message(&envelope, qos, retain, identifiers.into(), is_reserved, stored);
                self.queue(&subscriber, message);
                cost += MESSAGE_COST + envelope.len();
                if cost >= COST_A_TURN {
                    cost = 0;
                    tokio::task::yield_now().await;
                }
            }
            expected.into_iter().for_each(ExpectedMessage::end);
        }
    }

    /// Returns how many tree nodes were visited.
    fn find_receivers(
        &self,
        envelope: &Envelope,
        is_own: bool,
        chosen: &[Chosen],
        receivers: &mut Vec<Receiver>,
    ) -> usize {
        let Inner { tree, own_tree, groups, dealt, walks, .. } = &mut *self.inner.borrow_mut();
        *dealt += 1;
        *walks += 1;
        let (topic, publisher) = (envelope.topic(), envelope.publisher());
        let mut reach = |Handle(subscriber): &Handle, wants: Wants| {
            if !(wants.no_local && subscriber.number == publisher) && subscriber.may_receive(topic) {
                Receiver::reach(receivers, *walks, subscriber, wants);
            }
        };
        let mut nodes = tree.each_match(topic, &mut reach);
        if is_own {
            nodes += own_tree.each_match(topic, &mut reach);
        }
        // One of each group, even if it gets the message by a filter of its own too.
        nodes
            + groups.each_match(topic, envelope.len(), chosen, |Member { handle, wants }| {
                receivers.push(Receiver::new(&handle.0, *wants));
            })
    }
}
