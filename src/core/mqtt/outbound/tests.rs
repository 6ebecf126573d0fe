use std::rc::Rc;

use super::*;
use crate::mqtt::keeping::KeptProgress;
use crate::mqtt::session::Close;

fn message(topic: &str, payload: &[u8], qos: u8) -> Message<Vec<u8>> {
    Message {
        topic: topic.into(),
        payload: payload.to_vec(),
        passed_on: Vec::new(),
        deadline_ms: None,
        identifiers: Box::default(),
        qos,
        retain: false,
        is_own: false,
        stored: None,
    }
}

fn filled(outbound: &mut Outbound<Vec<u8>>, now_ms: u64) -> Vec<u8> {
    let mut out = Vec::new();
    outbound.fill(&mut out, usize::MAX, now_ms);
    out
}

#[test]
fn the_window_bounds_what_is_unacknowledged_and_ids_are_not_given_twice() {
    let mut outbound = Outbound::default();
    for n in 0..300u16 {
        outbound.push(message("t", &n.to_be_bytes(), 1));
    }
    let mut seen = 0;
    while seen < 300 {
        let out = filled(&mut outbound, 0);
        assert!(!out.is_empty());
        for packet in out.chunks(9) {
            assert_eq!(packet[7..9], (seen as u16).to_be_bytes());
            outbound.acknowledged(u16::from_be_bytes([packet[5], packet[6]])).expect("sent");
            seen += 1;
        }
    }
    outbound.acknowledged(1).expect("nothing");
    assert_eq!((outbound.kept(), outbound.waiting()), (Kept::default(), 0), "one too many means nothing");
}

#[test]
fn own_messages_go_first_and_are_counted_by_themselves() {
    let mut outbound = Outbound::default();
    for (topic, is_own) in [("a", false), ("b", true), ("c", false), ("d", true)] {
        outbound.push(Message { is_own, ..message(topic, b"", 1) });
    }
    assert_eq!(outbound.kept(), Kept { bytes: 130, own_bytes: 130 });
    assert_eq!((outbound.waiting(), outbound.own_waiting()), (2, 2));
    let topics: Vec<u8> = filled(&mut outbound, 0).chunks(7).map(|packet| packet[4]).collect();
    assert_eq!(topics, b"bdac");
    outbound.acknowledged(1).expect("sent");
    outbound.acknowledged(3).expect("sent");
    assert_eq!(outbound.kept(), Kept { bytes: 65, own_bytes: 65 });
}

#[test]
fn a_client_that_returns_gets_the_unacknowledged_again_marked_as_duplicates() {
    let mut outbound = Outbound::default();
    outbound.push(message("t", b"x", 1));
    outbound.push(message("t", b"y", 0));
    let mut out = Vec::new();
    outbound.fill(&mut out, 1, 0);
    outbound.drop_qos_0();
    outbound.connect(Limits::default());
    assert_eq!(filled(&mut outbound, 0), [0x3a, 6, 0, 1, b't', 0, 1, b'x']);
    assert!(filled(&mut outbound, 0).is_empty(), "once a connection");
    assert_eq!((outbound.waiting(), outbound.kept().bytes), (0, 66), "what is in flight is counted too");
}

#[test]
fn a_message_of_qos_2_is_sent_until_the_client_has_it_and_released_until_it_says_so() {
    let mut outbound = Outbound::default();
    outbound.push(message("t", b"x", 2));
    outbound.push(message("t", b"y", 2));
    assert_eq!(filled(&mut outbound, 0).len(), 16);
    let mut out = Vec::new();
    let wrong = [outbound.acknowledged(1), outbound.completed(1)];
    assert_eq!(wrong, [Err(Close::WrongAnswer); 2]);
    for _ in 0..2 {
        outbound.received(1, 0, &mut out).expect("sent");
    }
    assert_eq!(out, [0x62, 2, 0, 1, 0x62, 2, 0, 1], "PUBREL, as often as it is asked for");
    assert_eq!(outbound.kept().bytes, 66);
    let limits = Limits { receive_maximum: 1, version: Version::V5, ..Limits::default() };
    outbound.connect(limits);
    assert_eq!(filled(&mut outbound, 0), [0x62, 2, 0, 1], "released, and no more than the client takes");
    outbound.completed(1).expect("released");
    assert_eq!(filled(&mut outbound, 0), [0x3c, 7, 0, 1, b't', 0, 2, 0, b'y']);
    out.clear();
    outbound.received(2, 0x97, &mut out).expect("sent");
    assert!(out.is_empty() && outbound.kept() == Kept::default(), "it refuses it, so nothing is released");
    outbound.received(9, 0, &mut out).expect("nothing");
    assert_eq!(out, [0x62, 3, 0, 9, 0x92]);
}

#[test]
fn version_5_is_sent_what_the_publisher_said_and_how_long_it_is_of_use() {
    let mut outbound = Outbound::default();
    outbound.connect(Limits { version: Version::V5, aliases_max: 1, packet_bytes_max: 30, ..Limits::default() });
    let full = Message {
        passed_on: vec![1, 1],
        deadline_ms: Some(10_000),
        identifiers: [5, 200].into(),
        ..message("tt", b"x", 0)
    };
    outbound.push(full.clone());
    outbound.push(Message { deadline_ms: None, ..full.clone() });
    outbound.push(message("u", &[b'y'; 40], 1));
    outbound.push(full);
    let mut out = Vec::new();
    assert_eq!(outbound.fill(&mut out, 30, 5_500), 0);
    assert_eq!(out[..9], [0x30, 21, 0, 2, b't', b't', 15, 2, 0], "expiry");
    assert_eq!(
        out[9..],
        [
            0, 0, 5, 0x23, 0, 1, 11, 5, 11, 200, 1, 1, 1, b'x', 0x30, 14, 0, 0, 10, 0x23, 0, 1, 11, 5, 11, 200, 1, 1,
            1, b'x'
        ]
    );
    out.clear();
    assert_eq!(outbound.fill(&mut out, usize::MAX, 10_000), 2, "too large for the client, and too late");
    assert_eq!((out.len(), outbound.kept()), (0, Kept::default()));
}

/// The id of a message in flight, its number, and whether the client has it.
type Sent = (u16, Option<u64>, bool);

/// A session that is stored, and everything that is stored for it.
struct StoredSession {
    outbound: Outbound<Vec<u8>>,
    shelf: Rc<Shelf>,
}

impl StoredSession {
    fn new() -> StoredSession {
        let mut outbound = Outbound::default();
        outbound.set_stored(true);
        StoredSession { outbound, shelf: Rc::default() }
    }

    fn push(&mut self, number: u64, qos: u8) {
        let stored = self.shelf.hold(MessageNumber(number), 10);
        stored.mark_stored();
        self.outbound.push(Message { stored: Some(stored), ..message("t", &[number as u8], qos) });
    }

    /// What it sends, and after that once everything is stored.
    fn fill_and_store(&mut self) -> [Vec<u8>; 2] {
        let before = filled(&mut self.outbound, 0);
        self.outbound.stored_through(self.outbound.revisions().0);
        [before, filled(&mut self.outbound, 0)]
    }

    fn progress(&mut self, next: u64) -> (u64, Vec<u64>, Vec<Sent>) {
        let KeptProgress { waiting_from, done, in_flight } = self.outbound.progress(MessageNumber(next));
        let in_flight = in_flight.into_iter();
        let in_flight = in_flight.map(|sent| (sent.packet_id, sent.message.map(|number| number.0), sent.is_received));
        (waiting_from, done, in_flight.collect())
    }
}

#[test]
fn under_which_id_a_message_of_qos_2_is_sent_is_stored_first() {
    let nothing = Vec::new();
    let first = |id: u8, number: u8| [0x34, 6, 0, 1, b't', 0, id, number];
    let mut session = StoredSession::new();
    session.push(1, 2);
    session.push(2, 2);
    assert_eq!(session.fill_and_store(), [nothing.clone(), [first(1, 1), first(2, 2)].concat()]);
    let mut out = Vec::new();
    session.outbound.received(1, 0, &mut out).expect("sent");
    assert_eq!((out, session.shelf.take_let_go()), (vec![], vec![MessageNumber(1)]));
    assert_eq!(session.progress(3), (3, vec![], vec![(1, None, true), (2, Some(2), false)]));
    let [before, after] = session.fill_and_store();
    assert_eq!((before, after), (nothing, vec![0x62, 2, 0, 1]), "the id is to be released once that is stored");
    let mut again = Vec::new();
    session.outbound.received(1, 0, &mut again).expect("sent");
    assert_eq!(again, [0x62, 2, 0, 1], "again, at once");
    session.outbound.completed(1).expect("released");
    assert_eq!(session.progress(3), (3, vec![], vec![(2, Some(2), false)]));
}

#[test]
fn a_session_that_is_not_stored_waits_for_nothing() {
    let mut session = StoredSession::new();
    session.outbound.set_stored(false);
    session.push(1, 2);
    assert_eq!(session.fill_and_store()[0].len(), 8);
    let mut out = Vec::new();
    session.outbound.received(1, 0, &mut out).expect("sent");
    assert_eq!(out, [0x62, 2, 0, 1]);
}

#[test]
fn what_is_not_done_with_is_known_and_sent_again_as_it_was() {
    let mut session = StoredSession::new();
    (1..=100).for_each(|number| session.push(number, 1));
    let sent = filled(&mut session.outbound, 0);
    assert_eq!(sent.len(), 64 * 8);
    session.outbound.acknowledged(2).expect("sent");
    session.outbound.expect(MessageNumber(101));
    assert!(session.outbound.is_changed());
    let (waiting_from, done, in_flight) = session.progress(102);
    assert_eq!((waiting_from, done, in_flight.len(), session.outbound.is_changed()), (65, vec![], 63, false));
    assert_eq!((in_flight[0], in_flight[1]), ((1, Some(1), false), (3, Some(3), false)));
    let mut after = StoredSession::new();
    for (packet_id, number, is_received) in [(7, Some(1), false), (9, None, true)] {
        let message = number.map(|number| Message { ..message("t", &[number], 2) });
        assert_eq!(message.is_none(), is_received);
        after.outbound.restore(Restored { packet_id, message });
    }
    // The third was perhaps sent before; the id of the ninth is taken.
    [3, 9].into_iter().for_each(|number| after.push(number, 1));
    after.outbound.may_have_sent(MessageNumber(9));
    after.outbound.connect(Limits::default());
    let again = [vec![0x3c, 6, 0, 1, b't', 0, 7, 1], vec![0x62, 2, 0, 9]];
    let queued = [vec![0x3a, 6, 0, 1, b't', 0, 3, 3], vec![0x32, 6, 0, 1, b't', 0, 10, 9]];
    assert_eq!(filled(&mut after.outbound, 0), [again.concat(), queued.concat()].concat());
}
