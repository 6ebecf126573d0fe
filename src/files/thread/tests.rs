//! The thread under the eyes of the watchdog.

use std::sync::Mutex;
use std::sync::mpsc;

use super::*;
use crate::core::files::{Framing, Settings};
use crate::files::TopicText;
use crate::heartbeat::{Heartbeat, Watcher};
use crate::ingest::ClockState;

/// Whoever asks for the time waits as long as this is locked.
static TIME: Mutex<()> = Mutex::new(());
const DEADLINE: Duration = Duration::from_secs(60);

fn held_time() -> i64 {
    let _time = TIME.lock();
    0
}

#[test]
fn a_thread_that_stands_still_is_named_and_one_that_waits_for_the_store_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("a.log"), "{\"value\":1}\n").expect("written");
    let (sender, submitted) = mpsc::channel::<Input>();
    let (heartbeat, stop) = (Heartbeat::default(), watch::Sender::new(false));
    let held = TIME.lock().expect("nobody panics");
    let thread = start(FilesParts {
        settings: FileSettings {
            path: "in".to_owned(),
            folder: folder.path().to_owned(),
            names: "*".to_owned(),
            topic: TopicText("devices/{file}/t".to_owned()),
            content: Content::Payloads,
            follow: Settings::new(Framing::Lines),
        },
        ingest: Ingest::new(Ingest::default_routes(), ClockState::new(true)),
        pipeline: PipelineHandle::new(sender, 1 << 20),
        undecodable: Arc::default(),
        entries: &[],
        now_ms: held_time,
        beat: heartbeat.beat("file-in"),
        stop: stop.subscribe(),
    })
    .expect("a thread");
    let (began, mut watcher) = (Instant::now(), Watcher::new(&heartbeat));
    let mut stalled = None;
    while stalled.is_none() {
        assert!(began.elapsed() < DEADLINE, "it stands still, and nobody notices");
        std::thread::sleep(Duration::from_millis(200));
        stalled = watcher.look(began.elapsed());
    }
    assert_eq!(stalled.as_deref(), Some("file-in"));
    drop(held);
    // Nobody answers this, and the thread goes on to move.
    submitted.recv_timeout(DEADLINE).expect("what was read");
    while watcher.look(began.elapsed()).is_some() {
        assert!(began.elapsed() < 2 * DEADLINE, "it waits for an answer, and does not move");
        std::thread::sleep(Duration::from_millis(200));
    }
    stop.send_replace(true);
    thread.thread.join().expect("it ends");
}
