//! The machine against what a server says, packet by packet.

mod waiting;

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::mqtt::packet::{self, Connack, Outgoing, Packet, Publish, ack, connack, publish, suback, unsuback};

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;

/// A client, and the side of its server.
struct Talk {
    client: Client,
    version: Version,
    now_ms: u64,
}

fn settings(version: Version) -> Settings {
    Settings { version, client_id: "c".to_owned(), ..Settings::default() }
}

fn message(topic: &str, qos: u8) -> Message {
    Message { topic: topic.to_owned(), payload: Bytes::from_static(b"hi"), qos, ..Message::default() }
}

impl Talk {
    fn new(settings: &Settings) -> Talk {
        Talk { client: Client::new(settings, 0), version: settings.version, now_ms: 0 }
    }

    /// One that is open.
    fn open(settings: &Settings, answer: &Connack<'_>) -> Talk {
        let mut talk = Talk::new(settings);
        talk.client.take_output();
        talk.say(|version, out| connack(version, answer, out));
        assert!(matches!(talk.client.next_event(), Some(Event::Welcomed(_))));
        talk
    }

    /// The server says something.
    fn say(&mut self, encode: impl FnOnce(Version, &mut Vec<u8>)) {
        let mut frame = Vec::new();
        encode(self.version, &mut frame);
        self.client.frame(&frame, self.now_ms);
    }

    /// What the server hears, as bytes.
    fn heard(&mut self) -> Vec<u8> {
        let output = self.client.take_output();
        self.client.written(output.len(), self.now_ms);
        output
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.next_event()).collect()
    }

    fn publish(&mut self, qos: u8) -> Wish {
        assert_eq!(self.client.may_publish(qos, self.now_ms), Ok(()));
        self.client.publish(&message("a", qos), self.now_ms).unwrap()
    }

    fn at(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.client.tick(now_ms);
    }

    fn deliver(&mut self, qos: u8, packet_id: u16) {
        let topic = b"t";
        self.say(|version, out| {
            publish(version, &Outgoing { topic, payload: b"x", qos, packet_id, ..Outgoing::default() }, out)
        });
    }
}

#[test]
fn the_answer_to_connect_decides() {
    let mut talk = Talk::new(&settings(Version::V5));
    let heard = talk.heard();
    let connect = packet::decode_connect(&heard).unwrap().unwrap();
    assert_eq!((connect.client_id, connect.clean_start, connect.receive_maximum), ("c", true, Some(100)));
    assert_eq!(talk.client.may_publish(1, 0), Err(NotNow::NotOpen));
    let answer = Connack {
        receive_maximum: Some(7),
        keep_alive_s: Some(20),
        assigned_client_id: Some("other"),
        packet_bytes_max: Some(99),
        ..Connack::default()
    };
    talk.say(|version, out| connack(version, &answer, out));
    let Some(Event::Welcomed(welcome)) = talk.client.next_event() else { panic!("not let in") };
    assert_eq!((welcome.window, welcome.keep_alive_s, &*welcome.client_id), (7, 20, "other"));
    assert_eq!(welcome.takes.packet_bytes_max, Some(99));
    for (version, reason) in [(Version::V4, 0x87), (Version::V5, 0x86)] {
        let mut talk = Talk::new(&settings(version));
        talk.say(|version, out| connack(version, &Connack { reason, text: Some("no"), ..Connack::default() }, out));
        let words = (version == Version::V5).then_some("no");
        assert_eq!(talk.events(), [Event::Ended(End::Refused(Refusal::of(reason, words)))]);
        assert_eq!(End::Refused(Refusal::of(reason, None)).remedy(), Remedy::Mend);
    }
    let mut late = Talk::new(&settings(Version::V5));
    assert_eq!(late.client.due_at_ms(), Some(10_000));
    late.at(10_000);
    assert_eq!(late.events(), [Event::Ended(End::NoWelcome)]);
    let mut hasty = Talk::new(&settings(Version::V4));
    hasty.deliver(0, 0);
    assert!(matches!(hasty.events()[..], [Event::Ended(End::Protocol(_))]));
}

#[test]
fn the_window_is_the_smallest_of_all_and_any_order_of_acknowledgements_will_do() {
    for (own, said, limits, window) in
        [(3, Some(9), Limits::NONE, 3), (9, Some(4), Limits::NONE, 4), (1_000, None, Limits::AWS_IOT, 100)]
    {
        let settings = Settings { window: own, limits, ..settings(Version::V5) };
        let mut talk = Talk::open(&settings, &Connack { receive_maximum: said, ..Connack::default() });
        let mut wishes = Vec::new();
        for number in 0..window {
            talk.now_ms = number * 1_000;
            wishes.push(talk.publish(1));
        }
        assert_eq!(talk.client.may_publish(1, u64::MAX), Err(NotNow::WindowIsFull));
        assert_eq!(talk.client.may_publish(0, u64::MAX), Ok(()));
        // Of the last one first.
        talk.say(|version, out| ack(version, PUBACK, u16::try_from(window).unwrap(), 0, out));
        assert_eq!(talk.events(), [Event::Answered(*wishes.last().unwrap(), Answer::Accepted)]);
        assert_eq!(talk.client.may_publish(1, u64::MAX), Ok(()));
    }
    let mut old = Talk::open(&settings(Version::V4), &Connack::default());
    for _ in 0..20 {
        old.publish(2);
    }
    assert_eq!((old.client.may_publish(2, 0), old.client.may_publish(1, 0)), (Err(NotNow::WindowIsFull), Ok(())));
}

#[test]
fn each_quality_of_service_has_its_answer() {
    let mut talk = Talk::open(&settings(Version::V5), &Connack::default());
    let wish = talk.publish(0);
    assert_eq!(talk.events(), [Event::Answered(wish, Answer::Accepted)]);
    talk.heard();
    for (reason, answer) in
        [(0, Answer::Accepted), (0x10, Answer::NobodySubscribed), (0x97, Answer::Refused(Refusal::of(0x97, None)))]
    {
        let (once, twice) = (talk.publish(1), talk.publish(2));
        let heard = talk.heard();
        let first = packet::frame_len(&heard, 1 << 20).unwrap().unwrap();
        let ids = [&heard[..first], &heard[first..]].map(|frame| match packet::decode(Version::V5, frame) {
            Ok(Packet::Publish(Publish { packet_id, dup: false, .. })) => packet_id,
            other => panic!("{other:?}"),
        });
        talk.say(|version, out| ack(version, PUBACK, ids[0], reason, out));
        assert_eq!(talk.events(), [Event::Answered(once, answer.clone())]);
        talk.say(|version, out| ack(version, PUBREC, ids[1], reason, out));
        if reason >= 0x80 {
            assert_eq!(talk.events(), [Event::Answered(twice, answer)]);
            assert_eq!(talk.heard(), b"", "no PUBREL after a refusal");
            continue;
        }
        assert_eq!(talk.events(), [], "the server may still forget it");
        let released = talk.heard();
        assert_eq!(released[0], PUBREL);
        talk.say(|version, out| ack(version, PUBREC, ids[1], 0, out));
        assert_eq!(talk.heard(), released, "it asks again");
        talk.say(|version, out| ack(version, PUBCOMP, ids[1], 0, out));
        assert_eq!(talk.events(), [Event::Answered(twice, Answer::Accepted)]);
    }
    assert_eq!(talk.client.in_flight(), 0);
    // What was not asked costs nothing.
    talk.say(|version, out| ack(version, PUBACK, 77, 0, out));
    talk.say(|version, out| ack(version, PUBREC, 77, 0, out));
    assert_eq!((talk.events(), talk.heard()), (vec![], vec![PUBREL, 3, 0, 77, 0x92]));
    // An answer to something else does.
    talk.publish(1);
    let id = talk.heard()[5..7].try_into().map(u16::from_be_bytes).unwrap();
    talk.say(|version, out| ack(version, PUBCOMP, id, 0, out));
    assert!(matches!(talk.events()[..], [Event::Answered(..), Event::Ended(End::Protocol(_))]));
}

#[test]
fn what_is_not_acknowledged_at_the_end_comes_back_in_order() {
    for (end, how) in [
        (End::Closed, None),
        (End::NotAcknowledged, Some(30_000)),
        (End::Told(Farewell { why: Refusal::of(0x8e, Some("other")), server: None }), None),
    ] {
        let mut talk = Talk::open(&Settings { keep_alive_s: 0, ..settings(Version::V5) }, &Connack::default());
        let wishes = [talk.publish(1), talk.publish(2), talk.publish(1)];
        match (&end, how) {
            (_, Some(at_ms)) => {
                assert_eq!(talk.client.due_at_ms(), Some(at_ms));
                talk.at(at_ms);
            }
            (End::Closed, _) => talk.client.broken(End::Closed),
            _ => talk.say(|version, out| packet::disconnect(version, 0x8e, "other", 1 << 20, out)),
        }
        let mut expected: Vec<Event> =
            wishes.iter().map(|wish| Event::Answered(*wish, Answer::Unanswered(end.clone()))).collect();
        expected.push(Event::Ended(end));
        assert_eq!(talk.events(), expected);
        talk.client.broken(End::Left);
        talk.deliver(0, 0);
        assert_eq!((talk.events(), talk.client.due_at_ms()), (vec![], None), "the end is the last event");
    }
    let mut talk = Talk::open(&settings(Version::V5), &Connack::default());
    talk.client.leave(0);
    assert_eq!((talk.heard(), talk.events()), (vec![0xe0, 0], vec![Event::Ended(End::Left)]));
}

#[test]
fn messages_are_acknowledged_in_their_order_when_their_owner_says_so() {
    let mut talk = Talk::open(&settings(Version::V5), &Connack::default());
    talk.deliver(0, 0);
    (1..=3).for_each(|id| talk.deliver(if id == 2 { 2 } else { 1 }, id));
    let tokens: Vec<Option<Token>> = talk
        .events()
        .into_iter()
        .map(|event| match event {
            Event::Arrived(arrived) => arrived.token,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((tokens[0], talk.client.unacknowledged()), (None, 3));
    let tokens: Vec<Token> = tokens.into_iter().flatten().collect();
    talk.client.acknowledge(tokens[2]);
    talk.client.acknowledge(tokens[1]);
    assert_eq!(talk.heard(), b"", "the first one is not done");
    talk.client.acknowledge(tokens[0]);
    assert_eq!(talk.heard(), [PUBACK, 2, 0, 1, PUBREC, 2, 0, 2, PUBACK, 2, 0, 3]);
    talk.client.acknowledge(tokens[0]);
    // QoS 2: until it is released it is the same message.
    talk.deliver(2, 2);
    assert_eq!((talk.events(), talk.heard()), (vec![], vec![PUBREC, 2, 0, 2]));
    assert_eq!(talk.client.unreleased(), [2]);
    talk.say(|version, out| ack(version, PUBREL, 2, 0, out));
    talk.say(|version, out| ack(version, PUBREL, 2, 0, out));
    assert_eq!(talk.heard(), [PUBCOMP, 2, 0, 2, PUBCOMP, 3, 0, 2, 0x92]);
    talk.deliver(2, 2);
    assert_eq!(talk.events().len(), 1, "a new one");
    talk.deliver(2, 2);
    assert!(matches!(talk.events()[..], [Event::Ended(End::Protocol(_))]), "its owner has it already");
}

#[test]
fn ids_of_qos_2_go_on_with_a_session_that_was_kept() {
    for (session_present, is_new) in [(true, 0), (false, 1)] {
        let settings = Settings { clean_start: false, unreleased: vec![5], ..settings(Version::V5) };
        let mut talk = Talk::open(&settings, &Connack { session_present, ..Connack::default() });
        talk.deliver(2, 5);
        assert_eq!(talk.events().len(), is_new);
        let of_ours = talk.client.check(&message("a", 2));
        assert_eq!(of_ours, if session_present { Err(Unfit::Qos { qos_max: 1 }) } else { Ok(()) });
    }
}

#[test]
fn a_server_that_sends_too_much_or_by_aliases_is_left() {
    let settings = Settings { receive_maximum: 2, ..settings(Version::V5) };
    let mut talk = Talk::open(&settings, &Connack::default());
    // Mosquitto sends more than it was told to; one that sends without end is no broker.
    (1..=2 + 4_096).for_each(|id| talk.deliver(if id % 2 == 0 { 2 } else { 1 }, id));
    assert!(talk.events().iter().all(|event| matches!(event, Event::Arrived(_))));
    talk.deliver(1, 5_000);
    assert!(matches!(talk.events()[..], [Event::Ended(End::Protocol(_))]));
    assert_eq!(talk.heard(), [0xe0, 1, 0x93]);
    let mut talk = Talk::open(&settings, &Connack::default());
    let by_alias = Outgoing { topic: b"t", alias: Some(1), ..Outgoing::default() };
    talk.say(|version, out| publish(version, &by_alias, out));
    assert_eq!(talk.heard(), [0xe0, 1, 0x94]);
    let mut talk = Talk::open(&settings, &Connack::default());
    assert_eq!(talk.client.frame_len(&[0x30, 0x80, 0x80, 0x80, 0x01]), None);
    assert_eq!(talk.heard(), [0xe0, 1, 0x95]);
}

/// Before version 5 a server may send again on the same connection what is not acknowledged for a while.
#[test]
fn what_comes_again_while_its_owner_has_it_is_the_same_message() {
    for version in [Version::V4, Version::V5] {
        for (qos, again_qos, dup, is_repeat) in
            [(1, 1, true, true), (2, 2, true, true), (1, 1, false, false), (1, 2, true, false)]
        {
            let mut talk = Talk::open(&settings(version), &Connack::default());
            talk.deliver(qos, 7);
            let Some(Event::Arrived(Arrived { token: Some(token), .. })) = talk.client.next_event() else { panic!() };
            let again =
                Outgoing { topic: b"t", payload: b"x", qos: again_qos, packet_id: 7, dup, ..Outgoing::default() };
            talk.say(|version, out| publish(version, &again, out));
            let events = talk.events();
            match is_repeat {
                true => assert_eq!(events, [], "{version:?} {qos}"),
                false => assert!(matches!(events[..], [Event::Ended(End::Protocol(_))]), "{events:?}"),
            }
            talk.heard();
            talk.client.acknowledge(token);
            let answer = if qos == 2 { PUBREC } else { PUBACK };
            assert_eq!(talk.heard(), if is_repeat { vec![answer, 2, 0, 7] } else { vec![] }, "once");
        }
    }
}

#[test]
fn subscriptions_are_granted_filter_by_filter() {
    let filter = |filter: &str| Filter {
        filter: filter.to_owned(),
        qos: 2,
        no_local: true,
        retain_as_published: true,
        retained: RetainHandling::Never,
    };
    for version in [Version::V4, Version::V5] {
        let settings = Settings { limits: Limits::AWS_IOT, ..settings(version) };
        let mut talk = Talk::open(&settings, &Connack::default());
        let wish = talk.client.subscribe(&[filter("a/+"), filter("b")], 0).unwrap();
        let heard = talk.heard();
        let Ok(Packet::Subscribe(subscribe)) = packet::decode(version, &heard) else { panic!("{heard:x?}") };
        assert!(subscribe.filters.iter().all(|filter| filter.qos == 1), "QoS 2 is not answered there");
        talk.say(|version, out| suback(version, 1, &[1, 0x87], out));
        let refused = if version == Version::V5 { 0x87 } else { 0x80 };
        assert_eq!(talk.events(), [Event::Answered(wish, Answer::Filters(vec![Ok(1), Err(refused)]))]);
        let wish = talk.client.unsubscribe(&["b"], 0).unwrap();
        talk.say(|version, out| unsuback(version, 2, &[0x11], out));
        let codes = if version == Version::V5 { vec![Ok(0x11)] } else { vec![] };
        assert_eq!(talk.events(), [Event::Answered(wish, Answer::Filters(codes))]);
        for (filters, unfit) in [
            (vec![filter("a/#/b")], "has a wildcard that is not a whole level, or # before the end"),
            (vec![filter("1/2/3/4/5/6/7/8/9")], "the topic has 8 slashes; the broker takes 7"),
            (vec![filter("a"); 9], "the broker takes 8 filters at most"),
            (vec![], "is not there"),
        ] {
            let refused = talk.client.subscribe(&filters, 0).unwrap_err().to_string();
            assert!(refused.contains(unfit), "{refused}");
        }
        let wish = talk.client.subscribe(&[filter("c")], 0).unwrap();
        talk.say(|version, out| suback(version, 3, &[1, 1], out));
        assert!(
            matches!(&talk.events()[..], [Event::Answered(other, _), Event::Ended(End::Protocol(_))] if *other == wish)
        );
    }
}

#[test]
fn what_can_never_be_sent_is_not_sent() {
    let large = |topic: &str, bytes: usize| Message { payload: vec![b'x'; bytes].into(), ..message(topic, 1) };
    let deep = "1/2/3/4/5/6/7/8/9";
    for (limits, message, words) in [
        (Limits::AWS_IOT, large("a", 128 << 10), "the broker takes 131072"),
        (Limits::AWS_IOT, message(&"t".repeat(257), 1), "the topic has 257 bytes; the broker takes 256"),
        (Limits::AWS_IOT, message(deep, 1), "the topic has 8 slashes; the broker takes 7"),
        (Limits::AWS_IOT, message("a", 2), "up to QoS 1 only"),
        (Limits::NONE, large("a", 1_000), "the broker takes 500"),
        (Limits::NONE, message("", 1), "the topic is empty"),
        (Limits::NONE, message("a/#", 1), "the topic holds a wildcard"),
        (Limits::NONE, message("a\u{0}", 1), "the topic holds a control character"),
        (Limits::NONE, message(&"t".repeat(65_536), 1), "the topic has 65536 bytes"),
    ] {
        let settings = Settings { limits, ..settings(Version::V5) };
        let said = (limits == Limits::NONE).then_some(500);
        let mut talk = Talk::open(&settings, &Connack { packet_bytes_max: said, ..Connack::default() });
        let unfit = talk.client.publish(&message, 0).unwrap_err().to_string();
        assert!(unfit.contains(words), "{unfit}");
        assert_eq!((talk.heard(), talk.client.in_flight()), (vec![], 0));
    }
    let fits = |topic: &str, limits| limits::check_topic(topic, &limits);
    assert_eq!(fits("$aws/rules/fleet/1/2/3/4/5/6/7/8", Limits::AWS_IOT), Ok(()), "its first levels are not counted");
    assert_eq!(fits(deep, Limits::NONE), Ok(()));
    // What just fits.
    let most = (128 << 10) - limits::packet_bytes(&large("a", 0), Version::V5) as usize - 2;
    assert_eq!(limits::packet_bytes(&large("a", most), Version::V5), 128 << 10);
    assert_eq!(limits::check_message(&large("a", most), Version::V5, &Limits::AWS_IOT, None), Ok(()));
}

proptest! {
    /// Whatever a server answers, and when: each message has one answer, and no more are under way than it takes.
    #[test]
    fn each_message_is_answered_once(
        steps in prop::collection::vec((0u8..6, any::<u8>()), 1..200),
        receive_maximum in 1u16..9,
        version in prop::sample::select(&[Version::V4, Version::V5][..]),
    ) {
        let settings = Settings { window: 8, ..settings(version) };
        let mut talk = Talk::open(&settings, &Connack { receive_maximum: Some(receive_maximum), ..Connack::default() });
        let window = if version == Version::V5 { usize::from(receive_maximum.min(8)) } else { 8 };
        let (mut asked, mut answered, mut at_server) = (HashSet::new(), HashSet::new(), HashMap::new());
        for (what, which) in steps {
            match what {
                0..=2 => {
                    if talk.client.may_publish(what, talk.now_ms).is_ok() {
                        asked.insert(talk.publish(what));
                    }
                }
                3 | 4 => {
                    let mut ids: Vec<u16> = at_server.keys().copied().collect();
                    ids.sort_unstable();
                    if let Some(id) = ids.get(usize::from(which) % ids.len().max(1)) {
                        let answer = at_server.remove(id).unwrap();
                        let reason = if which % 5 == 0 && answer != PUBCOMP { 0x97 } else { 0 };
                        talk.say(|version, out| ack(version, answer, *id, reason, out));
                    }
                }
                _ => talk.at(talk.now_ms + u64::from(which)),
            }
            let heard = talk.heard();
            let mut rest = &heard[..];
            while let Ok(Some(len)) = packet::frame_len(rest, 1 << 20) {
                match packet::decode(version, &rest[..len]) {
                    Ok(Packet::Publish(Publish { qos: 1, packet_id, .. })) => drop(at_server.insert(packet_id, PUBACK)),
                    Ok(Packet::Publish(Publish { qos: 2, packet_id, .. })) => drop(at_server.insert(packet_id, PUBREC)),
                    Ok(Packet::PubRel(release)) => drop(at_server.insert(release.packet_id, PUBCOMP)),
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
                rest = &rest[len..];
            }
            prop_assert!(at_server.len() <= window && talk.client.in_flight() <= window);
            for event in talk.events() {
                match event {
                    Event::Answered(wish, _) => prop_assert!(answered.insert(wish), "twice"),
                    other => panic!("{other:?}"),
                }
            }
        }
        talk.client.broken(End::Closed);
        for event in talk.events() {
            if let Event::Answered(wish, _) = event {
                prop_assert!(answered.insert(wish), "twice");
            }
        }
        prop_assert_eq!(asked, answered);
    }
}
