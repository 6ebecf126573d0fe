//! Links whose budget is spent.

use super::*;

fn spent_link() -> Arc<crate::sinks::links::SharedLink> {
    use crate::core::link::LinkSettings;
    use crate::sinks::links::metering::MeteredBy;
    use crate::sinks::links::{LinkConfiguration, SharedLink};

    let settings = LinkSettings { bytes_per_day: Some(1_000), ..LinkSettings::default() };
    let configuration = LinkConfiguration { name: "lte".to_owned(), settings, metered: MeteredBy::Yes };
    let link = Arc::new(SharedLink::new(&configuration, None));
    link.spend(Class::Live, 1_000);
    link
}

/// Without it, the end would wait for the grace period, which is a minute, and the test for less.
#[test]
fn the_end_of_a_process_waits_for_no_budget() {
    let mut bench = Bench::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (sender, _words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    parts.stream.counted_link = Some(spent_link());
    bench.commit(3);
    bench.link.send_replace(Link::Ending);
    let local = tokio::task::LocalSet::new();
    let ended = async { tokio::time::timeout(Duration::from_secs(30), run(parts, Rc::new(Willing::default()))).await };
    local.block_on(&runtime, ended).expect("it ends by itself");
}

/// More anomalies wait than are held, and alerts could be read: there are no turns but for what happens.
#[test]
fn a_forwarder_does_not_spin_while_a_full_part_waits_for_a_budget() {
    let mut bench = Bench::new();
    let (sender, _words) = mpsc::channel();
    let delivery = DeliverySettings { linger_us: 0, held_bytes_max: 60_000, ..DeliverySettings::default() };
    let stream = bench.anomaly_parts("cloud", sender);
    let stream = StreamParts { counted_link: Some(spent_link()), ..stream };
    let line = format!("{{\"v\":1,\"type\":\"anomaly\",\"text\":\"{}\"}}\n", "x".repeat(1_000));
    bench.commit_anomalies(&vec![line; 200]);
    let mut forwarder = Forwarder::new(ForwarderParts { stream, delivery, seed: 1, flush_within: Duration::ZERO });
    let (mut turns, mut event) = (0, Event::Tick { behind: false });
    let deadline = loop {
        turns += 1;
        assert!(turns < 100, "it spins");
        let turn = forwarder.turn(event);
        assert!(turn.send.is_empty());
        event = match turn.next {
            Next::Soon { is_behind } => Event::Tick { behind: is_behind },
            Next::Ended => panic!("nobody ends it"),
            Next::Waits { until_us } => match forwarder.wait(until_us) {
                Wait::Not(event) => event,
                Wait::Until { deadline: Some(deadline), .. } if deadline <= Instant::now() => forwarder.tick(),
                Wait::Until { deadline, .. } => break deadline,
            },
        };
    };
    assert!(forwarder.is_behind(), "they are not all held");
    assert!(deadline.is_none_or(|deadline| deadline > Instant::now() + Duration::from_secs(1)), "{deadline:?}");
}

#[test]
fn what_is_urgent_goes_first_once_no_key_is_set_aside() {
    let mut bench = Bench::new();
    bench.commit(5);
    let (sender, words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    parts.stream.plan = Plan::LiveFirst;
    (parts.stream.cursor, parts.stream.held_keys) = (CursorState::at(5), vec![("tank".to_owned(), CursorState::at(0))]);
    let mut forwarder = Forwarder::new(parts);
    assert_eq!(forwarder.delivery.count(), 1);
    let began = Instant::now();
    let (mut requests, mut sent) = (std::collections::VecDeque::new(), 0);
    let mut records_sent = 0;
    for step in 0..10_000 {
        if forwarder.delivery.count() == 2 && sent >= 8 {
            break;
        }
        if forwarder.delivery.count() == 2 && *bench.committed.borrow() == 5 {
            bench.commit(3);
        }
        clock::simulated::set(began + Duration::from_millis(100 * step), 0);
        let event = match requests.pop_front() {
            Some(Request { id, records, .. }) => {
                let lines = |record: &OutgoingRecord| record.data.iter().filter(|byte| **byte == b'\n').count();
                sent += records.iter().map(lines).sum::<usize>();
                records_sent += records.len() as u64;
                Event::Replied { id, reply: Reply::whole(Outcome::Accepted { shard: None }, records.len()) }
            }
            None => forwarder.tick(),
        };
        requests.extend(forwarder.turn(event).send);
    }
    clock::simulated::clear();
    assert_eq!((forwarder.delivery.count(), sent, bench.status.records_sent.get()), (2, 8, records_sent));
    let changes = words.try_iter().filter_map(|message| match message {
        Message::Cursor(change) => Some(change.held_keys),
        _ => None,
    });
    let last = changes.flatten().last().expect("the key was told of");
    assert_eq!((last.key.as_str(), last.state), ("tank", None), "it is set aside no more");
}

#[test]
fn a_dead_letter_is_not_sent_without_a_budget() {
    let mut bench = Bench::new();
    bench.commit(1);
    let mut change = CursorChange::to("cloud", Stream::RAW, CursorState::at(1));
    change.dead_letters =
        vec![DeadLetter { sequence: 1, reason: "too odd".to_owned(), line: b"{\"device\":\"tank\"}\n".to_vec() }];
    let (sender, _words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    bench.writer.commit(&CommitInput { cursors: vec![change], ..CommitInput::default() }).expect("a working disk");
    parts.stream.counted_link = Some(spent_link());
    let (answer, answered) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sink = Rc::new(Willing::default());
    let local = tokio::task::LocalSet::new();
    let mut forwarder = Forwarder::new(parts);
    bench.status.wishes.ask(Wish { id: None, through: i64::MAX, answer }).expect("nobody else asks");
    assert!(forwarder.has_letters());
    local.block_on(&runtime, forwarder.send_letter(&*sink));
    let resent = local.block_on(&runtime, answered).expect("an answer");
    assert_eq!((resent.delivered, resent.stopped.as_deref()), (0, Some("waiting for the budget of the next day")));
    assert_eq!(sink.0.borrow().len(), 0);
}

/// Refuses everything, at this price on the socket.
struct Costly(Arc<crate::sinks::links::SocketBytes>);

impl Sink for Costly {
    async fn send(&self, records: Vec<OutgoingRecord>) -> Reply {
        self.0.add(700);
        Reply::whole(Outcome::Reject("still odd".to_owned()), records.len())
    }
}

/// Not of whoever asks next, which may be an alert.
#[test]
fn what_a_dead_letter_takes_is_of_the_backlog_at_once() {
    use crate::core::link::LinkSettings;
    use crate::sinks::links::metering::MeteredBy;
    use crate::sinks::links::{LinkConfiguration, SharedLink};

    let mut bench = Bench::new();
    bench.commit(1);
    let mut change = CursorChange::to("cloud", Stream::RAW, CursorState::at(1));
    change.dead_letters =
        vec![DeadLetter { sequence: 1, reason: "too odd".to_owned(), line: b"{\"device\":\"tank\"}\n".to_vec() }];
    let (sender, _words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    bench.writer.commit(&CommitInput { cursors: vec![change], ..CommitInput::default() }).expect("a working disk");
    // A rate is a limit that needs nothing stored ahead.
    let settings = LinkSettings { rate: Some(1 << 20), ..LinkSettings::default() };
    let configuration = LinkConfiguration { name: "lte".to_owned(), settings, metered: MeteredBy::Yes };
    let link = Arc::new(SharedLink::new(&configuration, None));
    parts.stream.counted_link = Some(Arc::clone(&link));
    let sink = Costly(Arc::clone(&parts.stream.socket));
    let (answer, _answered) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut forwarder = Forwarder::new(parts);
    bench.status.wishes.ask(Wish { id: None, through: i64::MAX, answer }).expect("nobody else asks");
    assert!(forwarder.has_letters());
    runtime.block_on(forwarder.send_letter(&sink));
    let spent = |class| link.status().by_class[Class::ALL.iter().position(|one| *one == class).expect("a class")];
    assert_eq!(spent(Class::Backlog), 700);
    assert!(matches!(forwarder.gate.ask(Class::Alerts, 1, 0), Permit::Go { .. }));
    forwarder.gate.unused(Class::Alerts);
    assert_eq!(spent(Class::Alerts), 0);
}

#[test]
fn a_link_without_a_budget_is_waited_for_and_is_no_failure() {
    use crate::core::link::{LinkSettings, Metered};
    use crate::sinks::links::metering::MeteredBy;
    use crate::sinks::links::{LinkConfiguration, SharedLink};

    let mut bench = Bench::new();
    let settings = LinkSettings { bytes_per_day: Some(1_000), ..LinkSettings::default() };
    let configuration = LinkConfiguration { name: "lte".to_owned(), settings, metered: MeteredBy::Yes };
    let link = Arc::new(SharedLink::new(&configuration, None));
    link.spend(Class::Live, 1_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (sender, words) = mpsc::channel();
    let mut parts = parts(&mut bench, sender, Duration::ZERO);
    parts.stream.counted_link = Some(Arc::clone(&link));
    let socket = Arc::clone(&parts.stream.socket);
    let sink = Rc::new(Willing::default());
    let local = tokio::task::LocalSet::new();
    let task = local.spawn_local(run(parts, Rc::clone(&sink)));
    local.block_on(&runtime, async {
        bench.commit(3);
        wait_until("a budget to be waited for", || bench.status.waiting().is_some()).await;
        assert_eq!((bench.status.last_error(), sink.0.borrow().len()), (None, 0));
        link.set_metered(Metered::No);
        socket.add(700);
        Cursors(words).reach(3).await;
        wait_until("nothing to be waited for", || bench.status.waiting().is_none()).await;
        bench.link.send_replace(Link::Ending);
        task.await.expect("it ends by itself");
    });
    assert_eq!((link.status().bytes_today, link.status().free_bytes), (1_000, 700));
}
