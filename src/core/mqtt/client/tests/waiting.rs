//! How long is waited for the server, and for the network.

use super::*;

#[test]
fn a_keep_alive_that_the_server_names_holds() {
    let mut talk = Talk::open(&settings(Version::V5), &Connack { keep_alive_s: Some(10), ..Connack::default() });
    assert_eq!(talk.client.due_at_ms(), Some(10_000));
    talk.at(10_000);
    assert_eq!(talk.heard(), [0xc0, 0]);
    talk.now_ms = 14_000;
    talk.say(|_, out| out.extend_from_slice(&packet::PINGRESP));
    talk.at(20_000);
    assert_eq!(talk.heard(), [0xc0, 0]);
    talk.at(24_999);
    assert_eq!(talk.events(), []);
    talk.at(25_000);
    assert_eq!(talk.events(), [Event::Ended(End::Silent)]);
}

#[test]
fn who_has_not_listened_waits_for_answers_anew() {
    let settings = Settings { keep_alive_s: 10, answer_within_ms: 12_000, ..settings(Version::V5) };
    let mut talk = Talk::open(&settings, &Connack::default());
    talk.publish(1);
    for now_ms in [10_000, 15_000, 20_000] {
        talk.now_ms = now_ms;
        talk.client.excuse_silence(now_ms);
        talk.at(now_ms);
        assert_eq!(talk.events(), []);
    }
    talk.at(25_000);
    assert!(matches!(talk.events()[..], [Event::Answered(..), Event::Ended(End::Silent)]));
}

/// What still waits on our side cannot have an answer.
#[test]
fn on_a_slow_link_the_time_for_an_answer_begins_when_the_message_has_left() {
    let settings = Settings { keep_alive_s: 0, answer_within_ms: 10_000, ..settings(Version::V5) };
    let large = Message { payload: vec![b'x'; 100_000].into(), ..message("a", 1) };
    let mut talk = Talk::open(&settings, &Connack::default());
    let first = talk.client.publish(&large, 0).unwrap();
    let second = talk.client.publish(&large, 0).unwrap();
    let part = talk.client.take_output().len() / 20;
    for step in 1..=10 {
        talk.at(step * 5_000);
        talk.client.written(part, talk.now_ms);
    }
    assert_eq!((talk.events(), talk.client.due_at_ms()), (vec![], Some(60_000)), "the first one has left at 50 s");
    // The control: one that has left is not waited for longer.
    let mut other = Talk::open(&settings, &Connack::default());
    other.publish(1);
    other.heard();
    other.at(10_000);
    assert!(matches!(other.events()[..], [Event::Answered(..), Event::Ended(End::NotAcknowledged)]));
    talk.now_ms = 55_000;
    talk.say(|version, out| ack(version, PUBACK, 1, 0, out));
    assert_eq!(talk.events(), [Event::Answered(first, Answer::Accepted)]);
    assert_eq!(talk.client.due_at_ms(), Some(65_000), "the second one stood behind it");
    for step in 12..=21 {
        talk.at(step * 5_000);
        talk.client.written(part, talk.now_ms);
    }
    assert_eq!((talk.events(), talk.client.due_at_ms()), (vec![], Some(115_000)));
    // Answers to what was asked later prove nothing for it.
    talk.publish(1);
    talk.heard();
    talk.say(|version, out| ack(version, PUBACK, 3, 0, out));
    assert_eq!(talk.events().len(), 1);
    talk.at(115_000);
    let end = End::NotAcknowledged;
    assert_eq!(talk.events(), [Event::Answered(second, Answer::Unanswered(end.clone())), Event::Ended(end)]);
}

#[test]
fn a_question_that_waits_on_our_side_is_not_held_against_the_broker() {
    let settings = Settings { keep_alive_s: 10, ..settings(Version::V5) };
    let mut talk = Talk::open(&settings, &Connack::default());
    talk.at(10_000);
    assert_eq!(talk.client.take_output(), [0xc0, 0]);
    talk.client.written(1, 14_000);
    talk.at(15_000);
    assert_eq!((talk.events(), talk.client.due_at_ms()), (vec![], Some(19_000)));
    talk.client.written(1, 18_000);
    talk.at(23_000);
    assert_eq!(talk.events(), [Event::Ended(End::Silent)]);
}

#[test]
fn what_the_network_does_not_take_is_not_piled_up() {
    let mut talk = Talk::open(&settings(Version::V5), &Connack::default());
    let large = Message { payload: vec![b'x'; 300 << 10].into(), ..message("a", 0) };
    talk.client.publish(&large, 0).unwrap();
    assert_eq!(talk.client.may_publish(0, 0), Err(NotNow::NotWritten));
    let output = talk.client.take_output();
    assert_eq!(talk.client.may_publish(0, 0), Err(NotNow::NotWritten));
    talk.client.written(output.len(), 0);
    assert_eq!(talk.client.may_publish(0, 0), Ok(()));
}
