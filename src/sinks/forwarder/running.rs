//! The task around a forwarder: sends its requests, and waits until the next turn.

use super::*;

/// Runs until the process ends, and then until everything committed is delivered or the time for it is over. Must run in a `LocalSet`.
pub async fn run<S: Sink + 'static>(parts: ForwarderParts, sink: Rc<S>) {
    let mut forwarder = Forwarder::new(parts);
    let mut flights = JoinSet::new();
    let mut event = Event::Tick { behind: false };
    let mut waiting: Vec<Request> = Vec::new();
    loop {
        let turn = forwarder.turn(event);
        waiting.extend(turn.send);
        if forwarder.has_letters() && flights.is_empty() {
            forwarder.send_letter(&*sink).await;
        } else if forwarder.has_letters() && !matches!(turn.next, Next::Ended) {
            // What is under way comes first; nothing is added to it.
            event = tokio::select! {
                event = landed_next(&mut flights) => event,
                Ok(()) = forwarder.link.changed() => forwarder.link_event(),
            };
            continue;
        }
        for request in waiting.drain(..) {
            let refusal = forwarder.refusal(&request);
            let (sink, Request { id, records, is_late }) = (Rc::clone(&sink), request);
            flights.spawn_local(async move {
                match refusal {
                    Some(reply) => (id, reply),
                    None if is_late => (id, sink.send_late(records).await),
                    None => (id, sink.send(records).await),
                }
            });
        }
        event = match turn.next {
            Next::Ended => return,
            Next::Waits { .. } if forwarder.has_letters() && flights.is_empty() => {
                tokio::task::yield_now().await;
                forwarder.tick()
            }
            Next::Soon { is_behind } => {
                // Lets replies and requests be handled in between.
                tokio::task::yield_now().await;
                landed(&mut flights).unwrap_or_else(|| Event::Tick { behind: is_behind || forwarder.has_backlog() })
            }
            Next::Waits { until_us } => wait(&mut forwarder, &mut flights, until_us).await,
        };
    }
}

/// The event of a reply that has already arrived.
fn landed(flights: &mut JoinSet<(RequestId, Reply)>) -> Option<Event> {
    let (id, reply) = flights.try_join_next()?.expect("a sink does not panic");
    Some(Event::Replied { id, reply })
}

/// The event of the next reply; there are requests under way.
async fn landed_next(flights: &mut JoinSet<(RequestId, Reply)>) -> Event {
    let (id, reply) = flights.join_next().await.expect("there is one").expect("a sink does not panic");
    Event::Replied { id, reply }
}

async fn wait(forwarder: &mut Forwarder, flights: &mut JoinSet<(RequestId, Reply)>, until_us: Option<u64>) -> Event {
    loop {
        let (deadline, notices_commits) = match forwarder.wait(until_us) {
            Wait::Not(event) => return event,
            Wait::Until { deadline, notices_commits } => (deadline, notices_commits),
        };
        let has_flights = !flights.is_empty();
        let status = Arc::clone(&forwarder.status);
        return tokio::select! {
            () = status.wishes.asked() => forwarder.tick(),
            Some(landed) = flights.join_next(), if has_flights => {
                let (id, reply) = landed.expect("a sink does not panic");
                Event::Replied { id, reply }
            }
            // The gateway keeps both senders until this task has ended, so neither channel closes here.
            Ok(()) = forwarder.committed.changed(), if notices_commits => continue,
            Ok(()) = forwarder.link.changed() => forwarder.link_event(),
            () = sleep_until(deadline) => forwarder.tick(),
        };
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
