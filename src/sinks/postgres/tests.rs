mod configuration;
mod server;

use std::time::Duration;

use super::connection::Security;
use super::*;
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
    assert!(
        matches!(&alone.outcomes[..], [Outcome::Later { reason, .. }] if reason.contains("partition")),
        "{alone:?}"
    );
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
    assert!(matches!(send(&sink, &three()).await.outcomes[0], Outcome::Halt(_)));
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    assert_eq!(server.state.lock().unwrap().connections, 3);
}

#[tokio::test]
async fn a_row_that_lacks_a_value_is_refused_by_the_table_that_was_looked_at_and_by_no_other() {
    let server = Server::start().await;
    let sink = sink(&server);
    assert_eq!(send(&sink, &three()).await, Reply::whole(ACCEPTED, 3));
    server.state.lock().unwrap().refused.insert("b", "23502");
    assert!(matches!(send(&sink, &three()).await.outcomes[0], Outcome::Later { .. }));
    assert!(matches!(send(&sink, &[record("b", 4..6)]).await.outcomes[0], Outcome::Reject(_)));
    assert_eq!(server.state.lock().unwrap().connections, 2);
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
