//! Commands that wait in the store until the clock is set, and those for which there is no more room there: they stay with the other broker,
//! unacknowledged, and in memory as long as the link lasts. Both are bounded.

use std::collections::BTreeMap;

use super::Message;
use crate::core::bridge::command::Command;
use crate::core::bridge::kept::KeptCommand;

/// Commands that may wait until the clock is set, and their bytes.
const WAITING_MAX: usize = 256;
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Commands for which there is no room, and which hold up nothing but acknowledgements: as many as the other broker may leave
/// unacknowledged, and their bytes.
const WITHOUT_ROOM_MAX: usize = 64;
const WITHOUT_ROOM_BYTES_MAX: usize = 1 << 20;

/// A command that waits.
pub(super) struct WaitingCommand {
    pub kept: KeptCommand,
    pub command: Command,
    /// See [`Message`]. After a restart the time in which the gateway was off is not known, and not counted.
    pub deadline_ms: Option<u64>,
}

impl WaitingCommand {
    fn bytes(&self) -> usize {
        self.kept.payload.0.len() + self.kept.topic.len()
    }
}

/// All of a bridge, in the order in which they came.
#[derive(Default)]
pub(super) struct WaitingCommands {
    all: BTreeMap<u64, WaitingCommand>,
    bytes: usize,
    last: u64,
}

impl WaitingCommands {
    pub fn insert(&mut self, number: u64, waiting: WaitingCommand) {
        self.last = self.last.max(number);
        self.bytes += waiting.bytes();
        self.all.insert(number, waiting);
    }

    pub fn remove(&mut self, number: u64) {
        if let Some(waiting) = self.all.remove(&number) {
            self.bytes -= waiting.bytes();
        }
    }

    /// Of the next one.
    pub fn new_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn has_id(&self, id: &str) -> bool {
        self.all.values().any(|waiting| waiting.command.id.as_deref() == Some(id))
    }

    /// Whether there is room for one of so many bytes beside these, which are about to wait.
    pub fn has_room(&self, beside: &[(u64, WaitingCommand)], bytes: usize) -> bool {
        let beside_bytes: usize = beside.iter().map(|(_, waiting)| waiting.bytes()).sum();
        self.all.len() + beside.len() < WAITING_MAX && self.bytes + beside_bytes + bytes <= WAITING_BYTES_MAX
    }

    /// Those that wait no longer: all once the time is known, and before that those that are over by the other broker's word.
    pub fn due(&self, is_time_known: bool, now_ms: u64) -> impl Iterator<Item = (u64, &WaitingCommand)> {
        let is_over =
            move |waiting: &WaitingCommand| waiting.deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms);
        let is_due = move |(_, waiting): &(&u64, &WaitingCommand)| is_time_known || is_over(waiting);
        self.all.iter().filter(is_due).map(|(number, waiting)| (*number, waiting))
    }
}

/// Commands for which there is no room to wait, in the order in which they came.
#[derive(Default)]
pub(super) struct WithoutRoom {
    all: Vec<Message>,
    bytes: usize,
}

impl WithoutRoom {
    /// Takes one more.
    ///
    /// # Errors
    ///
    /// Gives it back if there are too many. One alone may be of any size.
    pub fn push(&mut self, message: Message) -> Result<(), Message> {
        let bytes = message.payload.len() + message.topic.len();
        if self.all.len() >= WITHOUT_ROOM_MAX || !self.all.is_empty() && self.bytes + bytes > WITHOUT_ROOM_BYTES_MAX {
            return Err(message);
        }
        self.bytes += bytes;
        self.all.push(message);
        Ok(())
    }

    /// All of them, which are tried again.
    pub fn take(&mut self) -> Vec<Message> {
        self.bytes = 0;
        std::mem::take(&mut self.all)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Source;
    use super::*;
    use crate::core::mqtt::keeping::Blob;

    fn waiting(id: &str, bytes: usize, deadline_ms: Option<u64>) -> WaitingCommand {
        let kept = KeptCommand {
            topic: String::new(),
            payload: Blob(vec![0; bytes]),
            qos: 1,
            passed_on: Blob(Vec::new()),
            expiry_s: None,
        };
        WaitingCommand { kept, command: Command { id: Some(id.to_owned()), expires_at_ms: Some(1) }, deadline_ms }
    }

    fn message(bytes: usize) -> Message {
        Message {
            topic: String::new(),
            payload: vec![0; bytes],
            qos: 1,
            retain: false,
            deadline_ms: None,
            passed_on: Vec::new(),
            source: Source::Waiting(0),
        }
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_bytes_and_makes_room_when_it_goes() {
        let mut all = WaitingCommands::default();
        for _ in 0..WAITING_MAX - 1 {
            let number = all.new_number();
            all.insert(number, waiting("a", 1, None));
        }
        assert!(all.has_room(&[], 1) && !all.has_room(&[(999, waiting("b", 1, None))], 1));
        let number = all.new_number();
        all.insert(number, waiting("c", 1, None));
        assert!(!all.has_room(&[], 0) && all.has_id("c") && !all.has_id("d"));
        all.remove(number);
        assert!(all.has_room(&[], WAITING_BYTES_MAX - all.len()) && !all.has_room(&[], WAITING_BYTES_MAX));
        assert!(all.new_number() > number, "a number is not given twice");
    }

    #[test]
    fn they_wait_for_the_time_or_until_they_are_over() {
        let mut all = WaitingCommands::default();
        all.insert(3, waiting("a", 1, None));
        all.insert(1, waiting("b", 1, Some(100)));
        let numbers = |is_known, now_ms| all.due(is_known, now_ms).map(|(number, _)| number).collect::<Vec<_>>();
        assert_eq!((numbers(false, 99), numbers(false, 100), numbers(true, 0)), (vec![], vec![1], vec![1, 3]));
    }

    #[test]
    fn without_room_there_are_so_many_and_they_keep_their_order() {
        let mut without_room = WithoutRoom::default();
        (0..WITHOUT_ROOM_MAX).for_each(|bytes| assert!(without_room.push(message(bytes)).is_ok()));
        assert!(without_room.push(message(0)).is_err());
        let again = without_room.take();
        assert!(without_room.is_empty() && again.iter().map(|message| message.payload.len()).eq(0..WITHOUT_ROOM_MAX));
        assert!(
            without_room.push(message(2 * WITHOUT_ROOM_BYTES_MAX)).is_ok() && without_room.push(message(1)).is_err()
        );
        assert_eq!(without_room.len(), 1);
    }
}
