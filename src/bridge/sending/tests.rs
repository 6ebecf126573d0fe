//! Over a real socket, to a broker that refuses some messages.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::task::LocalSet;

use super::super::tests::bridge;
use super::*;
use crate::core::bridge::refused::Pacing;
use crate::core::bridge::{Line, Plan};
use crate::core::mqtt::packet::{Connack, Outgoing};
use crate::uplink::Opened;

const DEADLINE: Duration = Duration::from_secs(30);
const SOON: Pacing = Pacing { try_after_ms: [20; 3], pause_ms_min: 5 };
const LATE: Pacing = Pacing { try_after_ms: [3_600_000; 3], pause_ms_min: 5 };

/// A broker whose one connection is served on a thread.
struct Server {
    port: u16,
    /// Payloads, in the order in which they came.
    came: Arc<Mutex<Vec<String>>>,
}

/// With the reason code of the answer to each message.
fn serve(code: impl Fn(&str) -> u8 + Send + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, came) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<String>>>::default());
    let coming = Arc::clone(&came);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut input, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            let bytes = stream.read(&mut buffer).unwrap_or(0);
            if bytes == 0 {
                return;
            }
            input.extend_from_slice(&buffer[..bytes]);
            let mut out = Vec::new();
            while let Ok(Some(len)) = packet::frame_len(&input, 1 << 20)
                && input.len() >= len
            {
                let frame: Vec<u8> = input.drain(..len).collect();
                match packet::decode(Version::V5, &frame).unwrap() {
                    Packet::Connect(_) => packet::connack(Version::V5, &Connack::default(), &mut out),
                    Packet::Publish(publish) => {
                        let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                        packet::ack(Version::V5, 0x40, publish.packet_id, code(&payload), &mut out);
                        coming.lock().unwrap().push(payload);
                    }
                    _ => {}
                }
            }
            // The client may be gone.
            let _ = stream.write_all(&out);
        }
    });
    Server { port, came }
}

impl Server {
    fn count(&self, payload: &str) -> usize {
        self.came.lock().unwrap().iter().filter(|came| *came == payload).count()
    }
}

fn packet(packet_id: u16, payload: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let message = Outgoing { topic: b"a", payload: payload.as_bytes(), qos: 1, packet_id, ..Outgoing::default() };
    packet::publish(Version::V5, &message, &mut out);
    out
}

/// Our broker's end of a link.
struct Ours {
    leaving: mpsc::Sender<Vec<u8>>,
    acknowledged: mpsc::Receiver<u16>,
}

impl Ours {
    async fn send(&self, packet_id: u16, payload: &str) {
        self.leaving.send(packet(packet_id, payload)).await.unwrap();
    }

    async fn done(&mut self) -> u16 {
        self.acknowledged.recv().await.unwrap()
    }
}

/// Does what our broker does over one link, which must not end by itself.
fn over_a_link(server: &Server, source: &BridgeSource, judgement: &Judgement, work: impl AsyncFnOnce(Ours)) {
    let settings = bridge(&format!("mqtt://127.0.0.1:{}", server.port));
    let settings = BridgeSettings { plan: Plan { lines: vec![Line::parse("a out 1").unwrap()] }, ..settings };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let Opened { handle, incoming: _incoming, welcome } =
            crate::uplink::open(&settings.broker, settings.session(Vec::new())).await.unwrap();
        let (acknowledged_in, acknowledged) = mpsc::channel(128);
        let (leaving, mut leaving_out) = mpsc::channel(1);
        let sending = Sending {
            settings: &settings,
            source,
            handle,
            takes: welcome.takes,
            judgement,
            acknowledged: acknowledged_in,
            on_its_way: OnItsWay::default(),
        };
        tokio::select! {
            over = sending.run(&mut leaving_out) => panic!("the link is over: {over}"),
            () = work(Ours { leaving, acknowledged }) => {}
            () = sleep(DEADLINE) => panic!("it takes too long: {:?}", server.came.lock().unwrap().len()),
        }
    });
}

fn judgement(pacing: Pacing) -> Judgement {
    Judgement { refused: RefCell::new(RefusedMessages::new(pacing)), ..Judgement::default() }
}

fn source() -> BridgeSource {
    BridgeSource::new("b".to_owned(), "mqtt://b".to_owned())
}

#[test]
fn a_message_that_is_always_refused_is_left_out_and_holds_up_nothing() {
    for code in [0x80, 0x83] {
        let server = serve(move |payload| if payload == "poison" { code } else { 0 });
        let (source, judgement) = (source(), judgement(SOON));
        over_a_link(&server, &source, &judgement, async |mut ours| {
            ours.send(1, "poison").await;
            let mut good = 1;
            loop {
                // Each is taken while the other one waits.
                good = if good == u16::MAX { 2 } else { good + 1 };
                ours.send(good, "good").await;
                let done = ours.done().await;
                if done == 1 {
                    break;
                }
                assert_eq!(done, good);
            }
        });
        assert_eq!((server.count("poison"), source.counters.sent_refused.get()), (3, 1), "{code:x}");
        assert!(source.counters.sent.get() >= 2 && !source.state().is_held);
    }
}

#[test]
fn what_is_refused_with_all_others_is_kept_until_it_is_taken() {
    let takes = Arc::new(AtomicBool::new(false));
    let taking = Arc::clone(&takes);
    let server = serve(move |_| if taking.load(Ordering::Relaxed) { 0 } else { 0x97 });
    let (source, judgement) = (source(), judgement(SOON));
    over_a_link(&server, &source, &judgement, async |mut ours| {
        for packet_id in 1..=3 {
            ours.send(packet_id, &packet_id.to_string()).await;
        }
        while !source.state().is_held || server.came.lock().unwrap().len() < 6 {
            tokio::task::yield_now().await;
        }
        assert!(ours.acknowledged.try_recv().is_err());
        assert!(source.state().last_error.is_some_and(|error| error.contains("0x97")));
        takes.store(true, Ordering::Relaxed);
        let mut done = [ours.done().await, ours.done().await, ours.done().await];
        done.sort_unstable();
        assert_eq!(done, [1, 2, 3]);
    });
    assert_eq!((source.counters.sent.get(), source.counters.sent_refused.get()), (3, 0));
    assert!(!source.state().is_held);
}

#[test]
fn over_the_next_connection_others_go_before_what_was_refused() {
    let (source, judgement) = (source(), judgement(LATE));
    for is_first in [true, false] {
        let server = serve(|payload| if payload == "poison" { 0x80 } else { 0 });
        over_a_link(&server, &source, &judgement, async |mut ours| {
            // Nobody has acknowledged it, so our broker sends it again.
            ours.send(1, "poison").await;
            ours.send(2, "good").await;
            assert_eq!(ours.done().await, 2);
        });
        assert_eq!(server.count("poison"), usize::from(is_first));
    }
    assert_eq!(source.counters.sent_refused.get(), 0);
}

#[test]
fn what_a_person_can_mend_is_not_left_out() {
    for (code, expected) in [(0x90, true), (0x95, true), (0x99, true), (0x87, false), (0x80, false), (0x97, false)] {
        assert_eq!(is_for_good(&Refusal::of(code, None)), expected, "{code:x}");
    }
}
