//! A ping that goes the same way as a publish, from behind the listener: the line for the budget, the hand-over, the pipeline, the router.
//! It gets stuck where publishes get stuck. Nothing of it is stored.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::fanout::Fanout;
use super::router::RouterDead;
use crate::handoff::{Input, PipelineGone, PipelineHandle, Place};
use crate::heartbeat::{Beat, Heartbeat, PULSE_EVERY};

/// Heartbeats of the MQTT thread and of the sections of that way.
#[derive(Clone, Debug)]
pub struct EdgeBeats {
    pub(super) thread: Beat,
    line: Beat,
    pipeline: Beat,
    router: Beat,
}

impl EdgeBeats {
    /// While the committer waits for the disk, the line may stand still too.
    pub fn new(heartbeat: &Heartbeat, committer: &Beat) -> EdgeBeats {
        EdgeBeats {
            thread: heartbeat.beat("edge"),
            line: heartbeat.beat_behind("edge", committer),
            pipeline: heartbeat.beat("pipeline"),
            router: heartbeat.beat("router"),
        }
    }
}

/// Pings as long as the pipeline and the router live; the watcher notices if they do not.
pub(super) async fn run<T: From<Input>>(pipeline: PipelineHandle<T>, fanout: Fanout, beats: EdgeBeats) {
    loop {
        if through_the_pipeline(&pipeline, &beats).await.is_err() {
            return;
        }
        if through_the_router(&fanout, &beats.router).await.is_err() {
            return;
        }
        sleep(PULSE_EVERY).await;
    }
}

/// Waits behind everything that is to be dealt out, which may take long. It is a stall only if nothing is dealt out meanwhile.
async fn through_the_router(fanout: &Fanout, beat: &Beat) -> Result<(), RouterDead> {
    beat.moved();
    let mut ping = std::pin::pin!(fanout.ping());
    let mut dealt = fanout.dealt();
    loop {
        if let Ok(result) = timeout(PULSE_EVERY, &mut ping).await {
            beat.rest();
            return result;
        }
        let dealt_before = std::mem::replace(&mut dealt, fanout.dealt());
        if dealt != dealt_before {
            beat.moved();
        }
    }
}

async fn through_the_pipeline<T: From<Input>>(
    pipeline: &PipelineHandle<T>,
    beats: &EdgeBeats,
) -> Result<(), PipelineGone> {
    let place = turn(pipeline, &beats.line, PULSE_EVERY).await;
    beats.pipeline.moved();
    let answer = pipeline.ping()?;
    drop(place);
    answer.await.map_err(|_| PipelineGone)?;
    beats.pipeline.rest();
    Ok(())
}

/// Waits in line. A long line that moves is load; only one that stands still is a stall.
async fn turn<T: From<Input>>(pipeline: &PipelineHandle<T>, beat: &Beat, look_every: Duration) -> Place {
    beat.moved();
    let mut place = pipeline.place();
    let mut used = pipeline.turns_used();
    while timeout(look_every, place.turn()).await.is_err() {
        let used_before = std::mem::replace(&mut used, pipeline.turns_used());
        if used != used_before {
            beat.moved();
        }
    }
    beat.rest();
    place
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::{Arc, mpsc};

    use super::*;
    use crate::handoff::Budget;
    use crate::heartbeat::Watcher;
    use crate::mqtt::keeper::Keeper;

    /// What the watcher reports once the ping is stuck and nothing has moved for long.
    async fn stalled(heartbeat: &Heartbeat) -> Option<String> {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        stalled_now(heartbeat)
    }

    fn stalled_now(heartbeat: &Heartbeat) -> Option<String> {
        let mut watcher = Watcher::new(heartbeat);
        (0..20).fold(None, |_, second| watcher.look(Duration::from_secs(second)))
    }

    async fn wait_for(mut condition: impl FnMut() -> bool) {
        let waiting = async {
            while !condition() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), waiting).await.expect("comes about");
    }

    #[tokio::test]
    async fn a_long_line_that_moves_is_no_stall() {
        let heartbeat = Heartbeat::default();
        let beats = EdgeBeats::new(&heartbeat, &Beat::default());
        let (sender, _receiver) = mpsc::channel::<Input>();
        let budget = Budget::new(1);
        let pipeline = PipelineHandle::with_budget(sender, budget.clone());
        let mut held = vec![budget.charge(1)];
        let watching = async {
            let mut watcher = Watcher::new(&heartbeat);
            let mut now = Duration::ZERO;
            let mut look_for = async |seconds: usize, is_moving: bool| {
                let mut found = None;
                for _ in 0..seconds {
                    // Others have their turns first.
                    held.extend(is_moving.then(|| budget.charge(1)));
                    sleep(Duration::from_millis(10)).await;
                    now += Duration::from_secs(1);
                    found = watcher.look(now);
                }
                found
            };
            assert_eq!(look_for(20, true).await, None);
            assert_eq!(look_for(20, false).await.as_deref(), Some("edge"));
        };
        let every = Duration::from_millis(1);
        tokio::select! {
            _ = turn(&pipeline, &beats.line, every) => unreachable!("nothing comes free"),
            () = watching => {}
        }
    }

    #[tokio::test]
    async fn a_ping_comes_through_the_router_and_names_it_where_it_does_not() {
        let heartbeat = Heartbeat::default();
        let beats = EdgeBeats::new(&heartbeat, &Beat::default());
        let (sender, receiver) = mpsc::channel::<Input>();
        let pipeline = PipelineHandle::new(sender, 1);
        let tasks = tokio::task::LocalSet::new();
        let fanout = tasks
            .run_until(async { Fanout::start(Rc::default(), Arc::default(), Keeper::default()).expect("a router") })
            .await;
        let pinging = run(pipeline, fanout, beats);
        let watching = async {
            for is_dealt_out in [false, true] {
                wait_for(|| stalled_now(&heartbeat).as_deref() == Some("pipeline")).await;
                let Ok(Input::Ping(ping)) = receiver.try_recv() else { panic!("no ping") };
                ping.answer();
                wait_for(|| stalled_now(&heartbeat).as_deref() == Some("router")).await;
                if is_dealt_out {
                    return;
                }
                // Only now do the tasks that deal out messages run.
                tasks.run_until(wait_for(|| stalled_now(&heartbeat).is_none())).await;
            }
        };
        tokio::select! {
            () = pinging => unreachable!("it goes on"),
            () = watching => {}
        }
    }

    #[tokio::test]
    async fn a_ping_names_where_publishes_stick() {
        let heartbeat = Heartbeat::default();
        let committer = Beat::default();
        let beats = EdgeBeats::new(&heartbeat, &committer);
        let (sender, receiver) = mpsc::channel::<Input>();
        let budget = Budget::new(1);
        let pipeline = PipelineHandle::with_budget(sender, budget.clone());
        let all = budget.charge(1);
        let run = async {
            through_the_pipeline(&pipeline, &beats).await.expect("a pipeline");
            assert_eq!(stalled(&heartbeat).await, None, "it has answered");
        };
        let blocked = async {
            assert_eq!(stalled(&heartbeat).await.as_deref(), Some("edge"), "no share of the budget comes free");
            let call = committer.at_disk();
            assert_eq!(stalled(&heartbeat).await, None, "the disk is waited for");
            drop(call);
            drop(all);
            assert_eq!(stalled(&heartbeat).await.as_deref(), Some("pipeline"), "nobody takes it");
            let Ok(Input::Ping(ping)) = receiver.try_recv() else { panic!("no ping") };
            ping.answer();
        };
        tokio::join!(run, blocked);
    }
}
