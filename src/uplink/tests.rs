//! Connections over real sockets, to servers that do one thing each.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use super::counted::Counts;
use super::*;
use crate::core::mqtt::client::{End, Filter, Message, Remedy, Settings};
use crate::core::mqtt::packet::{self, Connack, Outgoing, Packet, RetainHandling, Version};
use crate::tls::ClientFiles;

#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counts for Counter {
    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

fn broker(port: u16) -> Broker {
    Broker {
        endpoint: Endpoint { host: "127.0.0.1".to_owned(), port, is_tls: false },
        files: ClientFiles::default(),
        alpn: Vec::new(),
        connect_timeout: Duration::from_secs(5),
        counts: None,
    }
}

fn settings() -> Settings {
    Settings { version: Version::V5, client_id: "c".to_owned(), keep_alive_s: 1, ..Settings::default() }
}

fn message(payload: &str, qos: u8) -> Message {
    Message { topic: "a".to_owned(), payload: payload.as_bytes().to_vec().into(), qos, ..Message::default() }
}

/// A server whose one connection is served on a thread, and the port of it.
fn serve(work: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || work(listener.accept().unwrap().0));
    port
}

/// Frames, until the connection ends.
fn frames(stream: &mut TcpStream, mut each: impl FnMut(&[u8], &mut TcpStream) -> bool) {
    let (mut input, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        while let Ok(Some(len)) = packet::frame_len(&input, 1 << 20)
            && input.len() >= len
        {
            let frame: Vec<u8> = input.drain(..len).collect();
            if !each(&frame, stream) {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(bytes) => input.extend_from_slice(&buffer[..bytes]),
        }
    }
}

fn say(stream: &mut TcpStream, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::new();
    encode(&mut out);
    // The client may be gone.
    let _ = stream.write_all(&out);
}

fn welcome(stream: &mut TcpStream) {
    say(stream, |out| packet::connack(Version::V5, &Connack::default(), out));
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = LocalSet::new();
    runtime.block_on(async {
        let done = tasks.run_until(future).await;
        // Connections leave in order.
        tasks.await;
        done
    })
}

#[test]
fn a_link_that_leads_nowhere_is_noticed_by_the_keep_alive() {
    let port = serve(|mut stream| {
        welcome(&mut stream);
        // Reads on, and says nothing more.
        frames(&mut stream, |_, _| true);
    });
    run(async {
        let Opened { handle, .. } = open(&broker(port), settings()).await.unwrap();
        let began = Instant::now();
        let published = handle.publish(&message("x", 1)).await;
        assert_eq!(published, Published::Unanswered(End::Silent));
        assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
        assert_eq!((handle.closed().await, handle.in_flight()), (End::Silent, 0));
        assert_eq!(handle.publish(&message("x", 0)).await, Published::Unanswered(End::Silent));
    });
}

#[test]
fn messages_keep_their_order_while_they_wait_for_room_and_bytes_are_counted() {
    let (sender, receiver) = mpsc::channel();
    let port = serve(move |mut stream| {
        frames(&mut stream, |frame, stream| {
            match packet::decode(Version::V5, frame).unwrap() {
                Packet::Connect(_) => welcome(stream),
                Packet::Publish(publish) => {
                    sender.send(String::from_utf8(publish.payload.to_vec()).unwrap()).unwrap();
                    say(stream, |out| packet::ack(Version::V5, 0x40, publish.packet_id, 0, out));
                }
                Packet::Disconnect { .. } => sender.send("left".to_owned()).unwrap(),
                _ => {}
            }
            true
        });
    });
    let counter = Arc::new(Counter::default());
    let counted = Broker { counts: Some(Arc::clone(&counter) as Arc<dyn Counts>), ..broker(port) };
    run(async {
        let Opened { handle, incoming, .. } = open(&counted, Settings { window: 3, ..settings() }).await.unwrap();
        drop(incoming);
        let publishing: Vec<_> = (0..100)
            .map(|number| {
                let handle = handle.clone();
                tokio::task::spawn_local(async move { handle.publish(&message(&number.to_string(), 1)).await })
            })
            .collect();
        for published in publishing {
            assert_eq!(published.await.unwrap(), Published::Accepted);
        }
    });
    // With the last handle the client leaves.
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).chain(["left".to_owned()]).collect();
    assert_eq!(receiver.iter().collect::<Vec<String>>(), expected);
    assert!(counter.0.load(Ordering::Relaxed) > 100 * 12, "both ways");
}

/// Before version 5 a server cannot be told to wait.
#[test]
fn a_flood_waits_in_the_network_until_its_owner_takes_it() {
    const COUNT: u16 = 5_000;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&acknowledged);
    let port = serve(move |mut stream| {
        say(&mut stream, |out| packet::connack(Version::V4, &Connack::default(), out));
        let writer = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        let flooding = Arc::clone(&writer);
        std::thread::spawn(move || {
            let payload = [b'x'; 1_000];
            for packet_id in 1..=COUNT {
                let message = Outgoing { topic: b"t", payload: &payload, qos: 1, packet_id, ..Outgoing::default() };
                say(&mut flooding.lock().unwrap(), |out| packet::publish(Version::V4, &message, out));
            }
        });
        frames(&mut stream, |frame, _| {
            match packet::decode(Version::V4, frame) {
                Ok(Packet::PubAck(ack)) => heard.lock().unwrap().push(ack.packet_id),
                Ok(Packet::PingReq) => say(&mut writer.lock().unwrap(), |out| out.extend_from_slice(&packet::PINGRESP)),
                _ => {}
            }
            true
        });
    });
    run(async {
        let slow = Settings { version: Version::V4, ..settings() };
        let Opened { handle, mut incoming, .. } = open(&broker(port), slow).await.unwrap();
        // Longer than the keep-alive allows: nobody listens, so silence proves nothing.
        tokio::time::sleep(Duration::from_secs(3)).await;
        for number in 0..COUNT {
            let arrived = incoming.next().await.unwrap();
            handle.acknowledge(arrived.token.unwrap());
            if number == 0 {
                assert!(incoming.waiting() < 1_100, "{}", incoming.waiting());
            }
        }
        let until = Instant::now() + Duration::from_secs(30);
        while acknowledged.lock().unwrap().len() < usize::from(COUNT) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(*acknowledged.lock().unwrap(), (1..=COUNT).collect::<Vec<u16>>(), "in their order");
    });
}

/// What needs no acknowledgement wakes nobody: the connection itself has to go on reading when there is room again.
#[test]
fn many_small_messages_that_need_no_acknowledgement_do_not_wait_for_the_keep_alive() {
    const COUNT: usize = 5_000;
    let port = serve(|mut stream| {
        welcome(&mut stream);
        let message = Outgoing { topic: b"t", payload: b"x", ..Outgoing::default() };
        let mut flood = Vec::new();
        (0..COUNT).for_each(|_| packet::publish(Version::V5, &message, &mut flood));
        stream.write_all(&flood).unwrap();
        frames(&mut stream, |_, _| true);
    });
    run(async {
        let patient = Settings { keep_alive_s: 600, ..settings() };
        let Opened { handle: _handle, mut incoming, .. } = open(&broker(port), patient).await.unwrap();
        let taking = async {
            for _ in 0..COUNT {
                incoming.next().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), taking).await.expect("it goes on");
    });
}

#[test]
fn a_message_that_is_larger_than_what_may_wait_arrives() {
    let payload = vec![b'x'; 9 << 20];
    let large = payload.clone();
    let port = serve(move |mut stream| {
        welcome(&mut stream);
        for packet_id in 1..=3 {
            let message = Outgoing { topic: b"t", payload: &large, qos: 1, packet_id, ..Outgoing::default() };
            say(&mut stream, |out| packet::publish(Version::V5, &message, out));
        }
        frames(&mut stream, |_, _| true);
    });
    run(async {
        let large = Settings { packet_bytes_max: 16 << 20, keep_alive_s: 600, ..settings() };
        let Opened { handle, mut incoming, .. } = open(&broker(port), large).await.unwrap();
        for _ in 0..3 {
            let arrived = incoming.next().await.unwrap();
            assert!(arrived.payload == payload);
            handle.acknowledge(arrived.token.unwrap());
        }
    });
}

#[test]
fn subscriptions_go_in_as_many_requests_as_are_needed() {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests);
    let port = serve(move |mut stream| {
        frames(&mut stream, |frame, stream| {
            match packet::decode(Version::V5, frame).unwrap() {
                Packet::Connect(_) => welcome(stream),
                Packet::Subscribe(subscribe) => {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let codes = vec![1; subscribe.filters.len()];
                    say(stream, |out| packet::suback(Version::V5, subscribe.packet_id, &codes, out));
                }
                _ => {}
            }
            true
        });
    });
    run(async {
        let limits = crate::core::mqtt::client::Limits::AWS_IOT;
        let Opened { handle, .. } = open(&broker(port), Settings { limits, ..settings() }).await.unwrap();
        let filter = |number: usize| Filter {
            filter: format!("a/{number}"),
            qos: 1,
            no_local: false,
            retain_as_published: false,
            retained: RetainHandling::Always,
        };
        let filters: Vec<Filter> = (0..20).map(filter).collect();
        assert_eq!(handle.subscribe(&filters).await, Ok(vec![Ok(1); 20]));
        assert_eq!(requests.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn why_there_is_no_connection_is_said_in_words() {
    let closes = serve(drop);
    let tls = serve(|mut stream| {
        let _ = stream.write_all(&[21, 3, 1, 0, 2, 2, 70]);
        frames(&mut stream, |_, _| true);
    });
    let refuses = serve(|mut stream| {
        let answer = Connack { reason: 0x86, text: Some("who?"), ..Connack::default() };
        say(&mut stream, |out| packet::connack(Version::V5, &answer, out));
        frames(&mut stream, |_, _| true);
    });
    let garbage = serve(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        frames(&mut stream, |_, _| true);
    });
    let silent = serve(|mut stream| frames(&mut stream, |_, _| true));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let fast = Settings { welcome_within_ms: 300, ..settings() };
    for (port, remedy, words) in [
        (closes, Remedy::Wait, "closes the connection at CONNECT; does this port need mqtts://"),
        (tls, Remedy::Mend, "speaks TLS; begin url with mqtts://"),
        (refuses, Remedy::Mend, "the user name or the password is wrong (reason code 0x86): who?"),
        (garbage, Remedy::Wait, "the broker has sent what MQTT does not allow"),
        (silent, Remedy::Wait, "the broker does not answer CONNECT in time"),
        (nobody, Remedy::Wait, "cannot connect to mqtt://127.0.0.1:"),
    ] {
        let error = run(try_login(&broker(port), fast.clone())).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.remedy(), remedy, "{error}");
    }
    let long = Settings { client_id: "x".repeat(65_536), ..settings() };
    assert!(run(try_login(&broker(nobody), long)).is_err());
}
