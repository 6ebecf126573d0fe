//! Detects whether everything that readings pass through makes progress.
//!
//! A [`Beat`] stands for a thread, or for a section of the way that a ping takes through the gateway like a publish. While something is
//! expected of it, it has to move every few seconds. A disk call that hangs is not a stall: that is reported as trouble of the disk.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often a thread moves that has nothing else to do.
pub const PULSE_EVERY: Duration = Duration::from_secs(1);
/// A beat that has not moved for this long is stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(5);
/// At most this much of the time between two looks counts: if the watcher itself did not run, others need not have moved either.
const LOOK_GAP_MAX: Duration = Duration::from_secs(1);

/// All beats. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat(Arc<Mutex<Vec<Beat>>>);

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Beat(Arc<State>);

#[derive(Debug, Default)]
struct State {
    thread: String,
    moves: AtomicU64,
    is_expected: AtomicBool,
    disk_calls: AtomicU32,
    /// While this one waits for the disk, ours is excused.
    waits_for: Option<Beat>,
}

impl Heartbeat {
    /// Beats added first are blamed first, because a stalled one may hold up those that come later.
    pub fn beat(&self, thread: impl Into<String>) -> Beat {
        self.add(State { thread: thread.into(), ..State::default() })
    }

    /// The same for a beat that has to wait whenever another one waits for the disk.
    pub fn beat_behind(&self, thread: impl Into<String>, waits_for: &Beat) -> Beat {
        self.add(State { thread: thread.into(), waits_for: Some(waits_for.clone()), ..State::default() })
    }

    fn add(&self, state: State) -> Beat {
        let beat = Beat(Arc::new(state));
        self.0.lock().expect("nothing panics while it is held").push(beat.clone());
        beat
    }
}

impl Beat {
    /// It has moved, and has to move again soon.
    pub fn moved(&self) {
        self.0.moves.fetch_add(1, Ordering::Relaxed);
        self.0.is_expected.store(true, Ordering::Relaxed);
    }

    /// Nothing is expected of it for now.
    pub fn rest(&self) {
        self.0.is_expected.store(false, Ordering::Relaxed);
    }

    /// It waits for the disk until the guard is dropped.
    pub fn at_disk(&self) -> DiskCall {
        self.0.disk_calls.fetch_add(1, Ordering::Relaxed);
        DiskCall(self.clone())
    }

    /// Moves as long as the thread that this runs on.
    pub async fn pulse(&self) {
        loop {
            self.moved();
            tokio::time::sleep(PULSE_EVERY).await;
        }
    }

    fn is_at_disk(&self) -> bool {
        self.0.disk_calls.load(Ordering::Relaxed) > 0
    }

    /// Whether it is excused from moving.
    fn is_excused(&self) -> bool {
        let is_expected = self.0.is_expected.load(Ordering::Relaxed);
        !is_expected || self.is_at_disk() || self.0.waits_for.as_ref().is_some_and(Beat::is_at_disk)
    }
}

#[derive(Debug)]
pub struct DiskCall(Beat);

impl Drop for DiskCall {
    fn drop(&mut self) {
        self.0.0.moves.fetch_add(1, Ordering::Relaxed);
        self.0.0.disk_calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Finds stalled beats: it has to look about every second. Everybody who wants to know has a watcher of their own.
#[derive(Debug)]
pub struct Watcher {
    heartbeat: Heartbeat,
    seen: Vec<Seen>,
    looked: Option<Duration>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    moves: u64,
    still: Duration,
}

impl Watcher {
    pub fn new(heartbeat: &Heartbeat) -> Watcher {
        Watcher { heartbeat: heartbeat.clone(), seen: Vec::new(), looked: None }
    }

    /// The name of a thread that is stalled. `now` is any steady clock.
    pub fn look(&mut self, now: Duration) -> Option<String> {
        let since = self.looked.map_or(Duration::ZERO, |looked| now.saturating_sub(looked).min(LOOK_GAP_MAX));
        self.looked = Some(now);
        let beats = self.heartbeat.0.lock().expect("nothing panics while it is held");
        self.seen.resize(beats.len(), Seen::default());
        for (beat, seen) in beats.iter().zip(&mut self.seen) {
            let moves = beat.0.moves.load(Ordering::Relaxed);
            let has_moved = moves != seen.moves || beat.is_excused();
            *seen = Seen { moves, still: if has_moved { Duration::ZERO } else { seen.still + since } };
        }
        let stalled = beats.iter().zip(&self.seen).find(|(_, seen)| seen.still >= STALLED_AFTER);
        stalled.map(|(beat, _)| beat.0.thread.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second, this many times.
    fn look_for(watcher: &mut Watcher, now: &mut Duration, seconds: u64) -> Option<String> {
        let mut found = None;
        for _ in 0..seconds {
            *now += Duration::from_secs(1);
            found = watcher.look(*now);
        }
        found
    }

    #[test]
    fn what_does_not_move_is_named_and_what_is_ahead_of_it_first() {
        let heartbeat = Heartbeat::default();
        let (pipeline, edge) = (heartbeat.beat("pipeline"), heartbeat.beat("edge"));
        let (mut watcher, mut now) = (Watcher::new(&heartbeat), Duration::ZERO);
        assert_eq!(look_for(&mut watcher, &mut now, 60), None, "nothing is expected yet");
        pipeline.moved();
        edge.moved();
        assert_eq!(look_for(&mut watcher, &mut now, 5), None);
        pipeline.moved();
        assert_eq!(look_for(&mut watcher, &mut now, 1).as_deref(), Some("edge"));
        assert_eq!(look_for(&mut watcher, &mut now, 5).as_deref(), Some("pipeline"));
        pipeline.moved();
        edge.rest();
        assert_eq!(look_for(&mut watcher, &mut now, 5), None, "it moves again, and nothing is expected of the other");
    }

    #[test]
    fn a_disk_that_hangs_stalls_nobody_and_hides_nobody() {
        let heartbeat = Heartbeat::default();
        let (committer, sink) = (heartbeat.beat("committer"), heartbeat.beat("sink"));
        let line = heartbeat.beat_behind("edge", &committer);
        let (mut watcher, mut now) = (Watcher::new(&heartbeat), Duration::ZERO);
        let beats = [&committer, &sink, &line];
        beats.iter().for_each(|beat| beat.moved());
        let call = committer.at_disk();
        assert_eq!(
            look_for(&mut watcher, &mut now, 60).as_deref(),
            Some("sink"),
            "it does not wait for that disk call"
        );
        sink.rest();
        assert_eq!(look_for(&mut watcher, &mut now, 60), None);
        drop(call);
        committer.rest();
        assert_eq!(look_for(&mut watcher, &mut now, 6).as_deref(), Some("edge"), "the disk is no excuse any more");
    }

    #[test]
    fn whoever_was_not_running_blames_nobody() {
        let heartbeat = Heartbeat::default();
        heartbeat.beat("edge").moved();
        let mut watcher = Watcher::new(&heartbeat);
        watcher.look(Duration::from_secs(1));
        assert_eq!(watcher.look(Duration::from_secs(1000)), None);
    }
}
