//! Who gets a message of those whose filters match, and how.

use std::rc::Rc;

use crate::core::mqtt::subscription::Wants;
use crate::mqtt::subscriber::Subscriber;

/// One of them.
pub struct Receiver {
    pub subscriber: Rc<Subscriber>,
    pub qos: u8,
    pub keeps_retain: bool,
    pub identifiers: Vec<u32>,
}

impl Receiver {
    /// A walk through a tree comes to a subscriber's filter, maybe not to its first.
    pub fn reach(receivers: &mut Vec<Receiver>, walk: u64, subscriber: &Rc<Subscriber>, wants: Wants) {
        match subscriber.reached.get() {
            (number, at) if number == walk => receivers[at].also(wants),
            _ => {
                subscriber.reached.set((walk, receivers.len()));
                receivers.push(Receiver::new(subscriber, wants));
            }
        }
    }

    pub fn new(subscriber: &Rc<Subscriber>, wants: Wants) -> Receiver {
        let mut receiver =
            Receiver { subscriber: Rc::clone(subscriber), qos: 0, keeps_retain: false, identifiers: Vec::new() };
        receiver.also(wants);
        receiver
    }

    /// Another of its filters matches too.
    fn also(&mut self, wants: Wants) {
        self.qos = self.qos.max(wants.qos);
        self.keeps_retain |= wants.retain_as_published;
        self.identifiers.extend((wants.identifier != 0).then_some(wants.identifier));
    }
}
