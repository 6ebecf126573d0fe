//! A ping that takes the way of a publish, behind the listener: the line for the budget, the hand-off, the pipeline, the router. It sticks
//! where publishes stick. Nothing of it is stored.

use super::fanout::Fanout;
use super::router::RouterDead;
use crate::handoff::{Input, PipelineGone, PipelineHandle};
use crate::heartbeat::{Beat, Heartbeat, PULSE_EVERY};

/// The edge's thread, and the stretches of the way.
#[derive(Clone, Debug)]
pub struct EdgeBeats {
    pub(super) thread: Beat,
    line: Beat,
    pipeline: Beat,
    router: Beat,
}

impl EdgeBeats {
    /// While the committer stands at the disk, the line may stand too.
    pub fn new(heartbeat: &Heartbeat, committer: &Beat) -> EdgeBeats {
        EdgeBeats {
            thread: heartbeat.beat("edge"),
            line: heartbeat.beat_behind("edge", committer),
            pipeline: heartbeat.beat("pipeline"),
            router: heartbeat.beat("router"),
        }
    }
}

/// Pings for as long as there is something to be pinged; whoever watches the threads notices when there is not.
pub(super) async fn run<T: From<Input>>(pipeline: PipelineHandle<T>, fanout: Fanout, beats: EdgeBeats) {
    loop {
        if through_the_pipeline(&pipeline, &beats).await.is_err() {
            return;
        }
        beats.router.moved();
        if let Err(RouterDead) = fanout.ping().await {
            return;
        }
        beats.router.rest();
        tokio::time::sleep(PULSE_EVERY).await;
    }
}

async fn through_the_pipeline<T: From<Input>>(
    pipeline: &PipelineHandle<T>,
    beats: &EdgeBeats,
) -> Result<(), PipelineGone> {
    beats.line.moved();
    let mut place = pipeline.place();
    place.turn().await;
    beats.line.rest();
    beats.pipeline.moved();
    let answer = pipeline.ping()?;
    drop(place);
    answer.await.map_err(|_| PipelineGone)?;
    beats.pipeline.rest();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::handoff::Budget;
    use crate::heartbeat::Watcher;

    /// What the watcher says once the ping has gone as far as it can, and nothing has moved for long.
    async fn stalled(heartbeat: &Heartbeat) -> Option<String> {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let mut watcher = Watcher::new(heartbeat);
        (0..20).fold(None, |_, second| watcher.look(Duration::from_secs(second)))
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
