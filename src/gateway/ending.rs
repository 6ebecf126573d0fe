//! The end, along the data flow: first nothing new comes in, then what came is stored, then what was stored is saved.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::GatewayError;
use super::parts::Parts;
use crate::mqtt::{self, Phase};
use crate::pipeline::{Message, StoreCounters, Unstorable};
use crate::sinks::status::Link;

type Edge = tokio::task::JoinHandle<Result<(), mqtt::RouterDead>>;

/// Lets the clients go, then ends everything else.
pub(super) async fn drain_and_end(
    parts: Parts,
    edge: Edge,
    (phase, admin): (watch::Sender<Phase>, JoinHandle<()>),
    grace: Duration,
) -> Result<(), GatewayError> {
    let deadline = Instant::now() + grace;
    phase.send_replace(Phase::Draining);
    // Gone only if it has panicked, which joining it reports.
    let _ = parts.pipeline.send(Message::Draining { until: deadline });
    let mut stragglers = Vec::new();
    match tokio::time::timeout(grace, edge).await {
        Ok(ended) => edge_result(ended)?,
        // They must not keep everything else from ending in order; what they still send is not acknowledged.
        Err(_) => stragglers.push("MQTT connections".to_owned()),
    }
    let counters = Arc::clone(&parts.counters);
    stragglers.extend(end(parts, (phase, admin), grace, deadline).await);
    if let Some(readings) = counters.readings_abandoned() {
        return Err(unstored(readings, &counters));
    }
    if stragglers.is_empty() { Ok(()) } else { Err(GatewayError::Stragglers(stragglers)) }
}

pub(super) fn edge_result(
    ended: Result<Result<(), mqtt::RouterDead>, tokio::task::JoinError>,
) -> Result<(), GatewayError> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(mqtt::RouterDead)) => Err(GatewayError::RouterDead),
        Err(_) => Err(GatewayError::Ended { thread: "edge" }),
    }
}

fn unstored(readings: u64, counters: &StoreCounters) -> GatewayError {
    let trouble = if counters.is_failing() { "answers with errors" } else { "does not answer" };
    GatewayError::Unstored { readings, trouble }
}

/// Sinks flush until the end of the grace period; then they have this long to save their cursors.
const SINK_FAREWELL: Duration = Duration::from_secs(1);

/// A hanging disk is given up this long before the end of the grace period, because the remaining steps take a moment too.
const GIVE_UP_BEFORE: Duration = Duration::from_millis(500);

/// Ends the threads along the data flow: sinks flush, then the pipeline commits the rest and the cursors, then the administration interface
/// ends. Returns the names of those that did not end. If the disk is in trouble, nobody gets more than the grace period, which ends at
/// `deadline`.
async fn end(
    parts: Parts,
    (phase, admin): (watch::Sender<Phase>, JoinHandle<()>),
    grace: Duration,
    deadline: Instant,
) -> Vec<String> {
    let Parts { threads, pipeline, sinks, files, bridges, stop_files, link, counters, .. } = parts;
    let is_in_trouble = || matches!(counters.unstorable(), Some(Unstorable::DiskFailing | Unstorable::DiskHung));
    let by = |usual: Duration| if is_in_trouble() { deadline } else { Instant::now() + usual };
    stop_files.send_replace(true);
    link.send_replace(Link::Ending);
    let sinks = sinks.into_iter().map(|sink| (sink.name, sink.thread)).collect();
    let mut stragglers = finished_by(by(grace + SINK_FAREWELL), sinks).await;
    // What they have submitted is stored with the rest; what they have not is read at the next start.
    let bridges = bridges.map(|bridges| ("bridges".to_owned(), bridges.thread));
    let files = files.into_iter().map(|files| (files.name, files.thread)).chain(bridges).collect();
    stragglers.extend(finished_by(by(grace), files).await);
    // The threads are gone only if they have panicked, which joining them reports.
    let _ = pipeline.send(Message::Shutdown { until: deadline - GIVE_UP_BEFORE.min(grace) });
    drop((pipeline, phase));
    let by = by(grace);
    stragglers.extend(finished_by(by, vec![("pipeline".to_owned(), threads.pipeline)]).await);
    // A thread that hangs in the kernel cannot be joined.
    let committer_by = if counters.readings_abandoned().is_some() { Instant::now() + GIVE_UP_BEFORE } else { by };
    stragglers.extend(finished_by(committer_by, vec![("committer".to_owned(), threads.committer)]).await);
    stragglers.extend(finished_by(by, vec![("administration".to_owned(), admin)]).await);
    stragglers
}

/// Waits for the threads. Returns the names of those that did not end in time, or panicked.
async fn finished_by(deadline: Instant, threads: Vec<(String, JoinHandle<()>)>) -> Vec<String> {
    let mut stragglers = Vec::new();
    for (name, thread) in threads {
        while !thread.is_finished() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if !thread.is_finished() || thread.join().is_err() {
            stragglers.push(name);
        }
    }
    stragglers
}
