//! Which of the messages that are stored for a session it is not done with.

use std::collections::BTreeSet;

use crate::mqtt::keeping::MessageNumber;

/// Most messages that are named as done with although an earlier one waits. Beyond it some may be sent again after a restart.
const DONE_MAX: usize = 4_096;

/// Messages come in another order than that of their numbers, because clients publish side by side: so those that wait are known one by one.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// Not sent yet, or still on their way to the queue.
    waiting: BTreeSet<MessageNumber>,
    /// Done with, while an earlier one waits.
    done: BTreeSet<MessageNumber>,
}

impl Unfinished {
    /// It is to come.
    pub fn expect(&mut self, number: MessageNumber) {
        self.waiting.insert(number);
    }

    /// It is in flight now.
    pub fn sent(&mut self, number: MessageNumber) {
        self.waiting.remove(&number);
    }

    /// The session needs it no more.
    pub fn done(&mut self, number: MessageNumber) {
        self.waiting.remove(&number);
        match self.waiting.first() {
            Some(first) if *first < number => _ = self.done.insert(number),
            _ => {}
        }
    }

    /// Messages before this one are done with; `next` is the number that the next message gets.
    pub fn waiting_from(&mut self, next: MessageNumber) -> MessageNumber {
        let from = self.waiting.first().copied().unwrap_or(next);
        self.done = self.done.split_off(&from);
        from
    }

    /// Later ones that are done with, too. To be called after [`Self::waiting_from`].
    pub fn done_after(&self) -> Vec<u64> {
        self.done.iter().take(DONE_MAX).map(|number| number.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_known_whatever_the_order() {
        let number = MessageNumber;
        let mut unfinished = Unfinished::default();
        assert_eq!(unfinished.waiting_from(number(1)), number(1));
        (1..=6).for_each(|n| unfinished.expect(number(n)));
        unfinished.done(number(1));
        unfinished.sent(number(3));
        unfinished.done(number(3));
        unfinished.done(number(5));
        assert_eq!((unfinished.waiting_from(number(7)), unfinished.done_after()), (number(2), vec![3, 5]));
        unfinished.done(number(2));
        unfinished.sent(number(4));
        assert_eq!((unfinished.waiting_from(number(7)), unfinished.done_after()), (number(6), vec![]));
        unfinished.done(number(6));
        assert_eq!(unfinished.waiting_from(number(7)), number(7));
    }
}
