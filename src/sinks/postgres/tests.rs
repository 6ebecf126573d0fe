mod configuration;
mod server;

use std::ops::Range;
use std::time::Duration;

use super::connection::Security;
use super::*;
use crate::core::delivery::Scope;
use server::{Fault, Server};

fn sink(server: &Server) -> PostgresSink {
    let access = Access {
        place: server.place.clone(),
        application: "test".to_owned(),
        password: None,
        security: Security::Disabled,
        connect_timeout: Duration::from_secs(10),
        request_timeout: Duration::from_secs(1),
        counts: None,
    };
    let table = TableName::parse("readings").unwrap();
    let target = PostgresTarget { sink: "s".to_owned(), stream: "raw".into(), table, status: Arc::default() };
    PostgresSink::new(access, target)
}

fn record(device: &str, positions: Range<u64>) -> OutgoingRecord {
    let line = |position| {
        format!(
            r#"{{"v":1,"type":"reading","gateway":"g","run":"r","position":{position},"device":"{device}","metric":"m","value":1.5,"measured_at_ms":{position}}}"#
        ) + "\n"
    };
    OutgoingRecord { device: device.into(), data: positions.map(line).collect::<String>().into() }
}

async fn send(sink: &PostgresSink, records: &[OutgoingRecord]) -> Reply {
    tokio::time::timeout(Duration::from_secs(20), sink.send(records.to_vec())).await.expect("an answer")
}

fn three() -> [OutgoingRecord; 3] {
    [record("a", 1..4), record("b", 4..6), record("c", 6..7)]
}

const ACCEPTED: Outcome = Outcome::Accepted { shard: None };

#[tokio::test]
async fn a_request_is_one_statement_and_a_repeat_adds_nothing() {
    let server = Server::start().await;
    let sink = sink(&server);
    for times in 1..=2 {
        assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
        assert_eq!(server.positions(), (1..7).map(|position| (position, times)).collect());
        assert_eq!(server.state.lock().unwrap().statements, times);
    }
    assert_eq!(server.state.lock().unwrap().connections, 1);
}

#[tokio::test]
async fn whatever_becomes_of_a_reply_rows_are_brought_until_they_are_there() {
    let server = Server::start().await;
    let sink = sink(&server);
    for fault in [Fault::Cut, Fault::CutWhenStored, Fault::Fatal("57P01"), Fault::Hang] {
        server.fail(fault);
        let reply = send(&sink, &three()).await;
        let is_later = matches!(reply.outcomes[0], Outcome::Unreachable(_) | Outcome::Retry(RetryReason::TimedOut));
        assert!(is_later && reply.scope == Scope::Request, "{fault:?}: {reply:?}");
    }
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    assert_eq!(server.positions().into_keys().collect::<Vec<_>>(), (1..7).collect::<Vec<_>>());
    assert_eq!(server.state.lock().unwrap().connections, 5);
}

#[tokio::test]
async fn a_row_that_is_refused_costs_its_record_alone() {
    let server = Server::start().await;
    server.state.lock().unwrap().refused.insert("b", "22P05");
    let sink = sink(&server);
    let reply = send(&sink, &three()).await;
    assert_eq!(reply.scope, Scope::Records);
    let [ACCEPTED, Outcome::Reject(text), ACCEPTED] = &reply.outcomes[..] else { panic!("{reply:?}") };
    assert!(text.contains("the table readings") && text.contains("22P05"), "{text}");
    assert_eq!(server.positions().into_keys().collect::<Vec<_>>(), [1, 2, 3, 6]);
    assert_eq!(server.state.lock().unwrap().connections, 1, "the connection is as good as before");
}

#[tokio::test]
async fn a_row_without_a_partition_waits_and_others_go_on() {
    let server = Server::start().await;
    server.state.lock().unwrap().refused.insert("c", "23514");
    let sink = sink(&server);
    let reply = send(&sink, &three()).await;
    assert_eq!(reply.scope, Scope::Records);
    assert_eq!(reply.outcomes, [ACCEPTED, ACCEPTED, Outcome::Retry(RetryReason::Internal)]);
    let alone = send(&sink, &[record("c", 6..7)]).await;
    // The sink does not wait for it.
    assert_eq!((alone.scope, &alone.outcomes[..]), (Scope::Records, &[Outcome::Retry(RetryReason::Internal)][..]));
    server.state.lock().unwrap().refused.clear();
    assert_eq!(send(&sink, &[record("c", 6..7)]).await, Reply::whole(ACCEPTED, 1));
}

#[tokio::test]
async fn what_is_refused_everywhere_is_refused_as_a_whole_and_soon() {
    let server = Server::start().await;
    let sink = sink(&server);
    let names: Vec<String> = (0..100).map(|number| format!("d{number}")).collect();
    let records: Vec<OutgoingRecord> = names.iter().map(|name| record(name, 1..2)).collect();
    let refused = names.iter().map(|name| (&*name.clone().leak(), "23502"));
    server.state.lock().unwrap().refused.extend(refused);
    let reply = send(&sink, &records).await;
    assert!(reply.scope == Scope::Request && matches!(reply.outcomes[0], Outcome::Reject(_)), "{reply:?}");
    assert!(server.state.lock().unwrap().statements < 30);
}

#[tokio::test]
async fn a_table_that_is_made_later_gets_everything() {
    let server = Server::start().await;
    server.state.lock().unwrap().has_no_table = true;
    let sink = sink(&server);
    let reply = send(&sink, &three()).await;
    assert!(matches!(&reply.outcomes[0], Outcome::Halt(text) if text.contains("no table readings")), "{reply:?}");
    server.state.lock().unwrap().has_no_table = false;
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    // It is gone, and another one of that name is made: what it has is asked again.
    server.fail(Fault::Error("42P01"));
    server.state.lock().unwrap().has_no_table = true;
    let reply = send(&sink, &three()).await;
    assert!(matches!(&reply.outcomes[0], Outcome::Halt(text) if text.contains("no table readings")), "{reply:?}");
    server.state.lock().unwrap().has_no_table = false;
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    assert_eq!(server.state.lock().unwrap().connections, 3);
}

#[tokio::test]
async fn what_a_table_refuses_that_was_changed_is_no_dead_letter() {
    let server = Server::start().await;
    let sink = sink(&server);
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    for device in ["a", "b", "c"] {
        server.state.lock().unwrap().refused.insert(device, "23502");
    }
    // A column that nobody fills: it is named.
    server.state.lock().unwrap().added.push((("zone", "25", "S"), true));
    let reply = send(&sink, &three()).await;
    let Outcome::Halt(text) = &reply.outcomes[0] else { panic!("{reply:?}") };
    assert!(text.contains("its column zone is NOT NULL") && reply.scope == Scope::Request, "{text}");
    server.state.lock().unwrap().added.clear();
    server.state.lock().unwrap().refused.clear();
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    // One that is of records: a row that lacks it is sent once more, with it.
    server.state.lock().unwrap().added.push((("seq", "20", "N"), false));
    server.state.lock().unwrap().refused.insert("b", "23502");
    let reply = send(&sink, &three()).await;
    assert!(matches!(&reply.outcomes[0], Outcome::Later { reason, .. } if reason.contains("changed")), "{reply:?}");
    server.state.lock().unwrap().refused.clear();
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    // Of a table that is as it was, a refusal is to be believed.
    server.state.lock().unwrap().refused.insert("b", "23502");
    assert!(matches!(send(&sink, &three()).await.outcomes[..], [ACCEPTED, Outcome::Reject(_), ACCEPTED]));
    assert_eq!(server.state.lock().unwrap().connections, 3);
}

#[tokio::test]
async fn a_column_that_is_added_is_filled_without_a_reconnect_for_another_reason() {
    let server = Server::start().await;
    let sink = sink(&server);
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    server.state.lock().unwrap().added.push((("time_quality", "25", "S"), false));
    // The table is not looked at before its time.
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    assert!(server.state.lock().unwrap().rows.keys().all(|row| row.len() == 7));
    sink.session.lock().await.look_period = Duration::ZERO;
    for _ in 0..2 {
        assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    }
    assert_eq!(server.state.lock().unwrap().rows.keys().filter(|row| row.len() == 8).count(), 6);
    assert_eq!(server.state.lock().unwrap().connections, 2);
}

/// As at the end of the process, and when a link is cut: nobody waits for the letter any more, and records go on over the same sink.
#[tokio::test]
async fn an_answer_that_nobody_waits_for_is_not_taken_for_the_next_one() {
    let server = Server::start().await;
    let sink = sink(&server);
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    server.fail(Fault::Late);
    let release = Arc::clone(&server.state.lock().unwrap().release);
    let arrives = async {
        while !server.state.lock().unwrap().faults.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let letter = [record("a", 7..8)];
    tokio::select! {
        reply = send(&sink, &letter) => panic!("{reply:?}"),
        () = arrives => {}
    }
    server.state.lock().unwrap().refused.insert("b", "22P05");
    release.notify_one();
    let reply = send(&sink, &[record("b", 8..9)]).await;
    assert!(matches!(reply.outcomes[..], [Outcome::Reject(_)]), "the letter was taken, this one is not: {reply:?}");
    assert_eq!(server.state.lock().unwrap().connections, 2);
}

#[tokio::test]
async fn devices_without_a_partition_at_the_head_do_not_hold_up_those_behind_them() {
    let server = Server::start().await;
    let sink = sink(&server);
    let names: Vec<String> = (0..20).map(|number| format!("d{number}")).collect();
    let records: Vec<OutgoingRecord> = names.iter().zip(1..).map(|(name, at)| record(name, at..at + 1)).collect();
    let refused = names[..8].iter().map(|name| (&*name.clone().leak(), "23514"));
    server.state.lock().unwrap().refused.extend(refused);
    let reply = send(&sink, &records).await;
    assert!(reply.outcomes[..8].iter().all(|outcome| *outcome == Outcome::Retry(RetryReason::Internal)), "{reply:?}");
    assert!(reply.scope == Scope::Records && reply.outcomes[8..].iter().all(|outcome| *outcome == ACCEPTED));
    assert_eq!(server.positions().into_keys().collect::<Vec<_>>(), (9..21).collect::<Vec<_>>());
}

/// 42501 is what a policy of row level security says to one row, and what a table says to everybody.
#[tokio::test]
async fn a_row_that_may_not_be_written_does_not_stop_the_others() {
    let server = Server::start().await;
    let sink = sink(&server);
    server.state.lock().unwrap().refused.insert("b", "42501");
    let reply = send(&sink, &three()).await;
    assert_eq!(reply.outcomes, [ACCEPTED, Outcome::Retry(RetryReason::Internal), ACCEPTED]);
    server.state.lock().unwrap().refused.extend([("a", "42501"), ("c", "42501")]);
    let reply = send(&sink, &three()).await;
    assert!(reply.scope == Scope::Request && matches!(reply.outcomes[0], Outcome::Halt(_)), "{reply:?}");
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_kept() {
    let server = Server::start().await;
    server.state.lock().unwrap().is_endless = true;
    let reply = send(&sink(&server), &three()).await;
    assert!(matches!(&reply.outcomes[0], Outcome::Unreachable(text) if text.contains("longer than")), "{reply:?}");
}

#[tokio::test]
async fn a_server_that_can_only_be_read_is_left_and_asked_again() {
    let server = Server::start().await;
    let sink = sink(&server);
    server.fail(Fault::Error("25006"));
    assert!(matches!(send(&sink, &three()).await.outcomes[0], Outcome::Later { .. }));
    server.state.lock().unwrap().is_standby = true;
    assert!(matches!(send(&sink, &three()).await.outcomes[0], Outcome::Later { .. }));
    server.state.lock().unwrap().is_standby = false;
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
}

#[tokio::test]
async fn what_fails_half_way_fails_for_what_is_left_alone() {
    let server = Server::start().await;
    let sink = sink(&server);
    // All at once, then the first of two halves.
    [Fault::Error("22021"), Fault::Cut].into_iter().for_each(|fault| server.fail(fault));
    let reply = send(&sink, &three()).await;
    assert!(matches!(reply.outcomes[0], Outcome::Unreachable(_)) && reply.scope == Scope::Request, "{reply:?}");
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
}

#[tokio::test]
async fn what_fails_half_way_leaves_what_was_taken_before() {
    let server = Server::start().await;
    let sink = sink(&server);
    server.state.lock().unwrap().refused.insert("c", "22021");
    // All at once; the first half, which is taken; then the second one.
    [Fault::Error("22021"), Fault::CutWhenStored].into_iter().for_each(|fault| server.fail(fault));
    assert!(matches!(send(&sink, &three()).await.outcomes[0], Outcome::Unreachable(_)));
    for (fault, is_it) in [
        ("57P01", (|outcome| matches!(outcome, Outcome::Unreachable(_))) as fn(&Outcome) -> bool),
        ("28000", |outcome| matches!(outcome, Outcome::Halt(_))),
    ] {
        let four = [record("a", 1..4), record("c", 6..7), record("b", 4..6), record("d", 9..10)];
        // All; the first half, a and c; a, which is taken; c.
        server.state.lock().unwrap().refused.insert("b", fault);
        let reply = send(&sink, &four).await;
        assert!(
            matches!(&reply.outcomes[..], [ACCEPTED, Outcome::Reject(_), b, d] if is_it(b) && is_it(d)),
            "{reply:?}"
        );
        assert_eq!(reply.scope, Scope::Records);
    }
}

/// So is a server that was there and is no more: whoever waits for it is told where it was.
#[tokio::test]
async fn a_port_where_nobody_listens_is_named() {
    let mut server = Server::start().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.place.port = closed.local_addr().unwrap().port();
    drop(closed);
    let reply = send(&sink(&server), &three()).await;
    assert!(matches!(&reply.outcomes[0], Outcome::Unreachable(text) if text.contains("127.0.0.1:")), "{reply:?}");
}

/// Somebody who never asks `doctor` reads it in the log: once, and when there is another one.
#[tokio::test]
async fn a_trigger_that_may_move_rows_is_told_when_the_gateway_connects() {
    let server = Server::start().await;
    let sink = sink(&server);
    let warned = async || sink.session.lock().await.warned.iter().map(|(text, _)| text.clone()).collect::<Vec<_>>();
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    assert_eq!(warned().await, Vec::<String>::new());
    server.state.lock().unwrap().triggers.push("redirects");
    server.fail(Fault::CutWhenStored);
    assert!(matches!(send(&sink, &three()).await.outcomes[0], Outcome::Unreachable(_)));
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    let said = warned().await;
    assert!(said.len() == 1 && said[0].contains("its trigger redirects may change, move"), "{said:?}");
}
