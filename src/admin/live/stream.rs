//! One client that is told of events: what it wants, and what waits for it.
//!
//! What waits is bounded. Values and the status are left out for a client that reads too slowly, because newer ones follow; of alerts nothing may
//! be missing, so it gets all of them anew as soon as it has read what waits.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::body::Bytes;
use rustls::pki_types::CertificateDer;

use crate::admin::places::Place;
use crate::admin::tokens::Holder;
use crate::core::mqtt::topic;

/// What waits for one client.
const WAITING_BYTES_MAX: usize = 128 * 1024;
/// A client that reads nothing for so long is gone.
const UNREAD_MAX: Duration = Duration::from_secs(30);
/// Without any event a comment is sent, so that proxies and the client know that the connection is there.
const COMMENT_EVERY: Duration = Duration::from_secs(10);
/// More devices than a screen shows.
const DEVICES_MAX: usize = 200;
const COMMENT: &[u8] = b":\n\n";

/// What a client wants to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    pub alerts: bool,
    pub status: bool,
    pub values: bool,
    /// Whose values; `None` for all devices.
    pub devices: Option<BTreeSet<String>>,
}

impl Wants {
    const EVERYTHING: Wants = Wants { alerts: true, status: true, values: true, devices: None };

    /// Reads `events=alerts,status,values` and `device=NAME`, which may come more than once; `None` if that is not understood.
    pub fn parse(query: Option<&str>) -> Option<Wants> {
        let mut wants = Wants::EVERYTHING;
        for field in query.unwrap_or_default().split('&').filter(|field| !field.is_empty()) {
            match field.split_once('=')? {
                ("events", names) => {
                    (wants.alerts, wants.status, wants.values) = (false, false, false);
                    for name in topic::percent_decode(names).split(',') {
                        match name {
                            "alerts" => wants.alerts = true,
                            "status" => wants.status = true,
                            "values" => wants.values = true,
                            _ => return None,
                        }
                    }
                }
                ("device", name) => {
                    let devices = wants.devices.get_or_insert_default();
                    devices.insert(topic::percent_decode(name));
                    if devices.len() > DEVICES_MAX {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        Some(wants)
    }
}

/// Who asked, to be asked again whether it still may.
#[derive(Debug)]
pub struct Client {
    /// Where it is connected.
    pub place: Rc<Place>,
    pub headers: HeaderMap,
    /// What it has shown in the handshake, its own first.
    pub certificates: Rc<[CertificateDer<'static>]>,
    /// `None` where nobody logs in.
    pub holder: Option<Holder>,
}

/// A client that is told of events.
#[derive(Debug)]
pub struct Stream {
    pub wants: Wants,
    pub client: Client,
    waiting: RefCell<Waiting>,
    /// It is to get the status at once, and all alerts.
    pub is_new: Cell<bool>,
    /// All alerts are told anew. So it is from the beginning, until they wait for it to be read.
    has_missed_alerts: Cell<bool>,
}

#[derive(Debug)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
    is_ended: bool,
    waker: Option<Waker>,
    /// When it last read, or had read everything.
    read: Instant,
    /// When anything was last sent.
    told: Instant,
}

impl Stream {
    pub fn new(wants: Wants, client: Client, now: Instant) -> Rc<Stream> {
        let waiting = Waiting { frames: VecDeque::new(), bytes: 0, is_ended: false, waker: None, read: now, told: now };
        let has_missed_alerts = Cell::new(wants.alerts);
        Rc::new(Stream { wants, client, waiting: RefCell::new(waiting), is_new: Cell::new(true), has_missed_alerts })
    }

    /// Tells what may be left out.
    pub fn tell(&self, frame: &Bytes, now: Instant) {
        self.waiting.borrow_mut().add(frame, now);
    }

    /// Tells of an alert, or notes that it has missed one.
    pub fn tell_alert(&self, frame: &Bytes, now: Instant) {
        if self.has_missed_alerts.get() || !self.waiting.borrow_mut().add(frame, now) {
            self.has_missed_alerts.set(true);
        }
    }

    /// Alerts have changed that nobody knows.
    pub fn miss_alerts(&self) {
        self.has_missed_alerts.set(true);
    }

    /// Whether it is to get all alerts anew, and can.
    pub fn needs_alerts(&self) -> bool {
        let has_room = self.waiting.borrow().frames.is_empty();
        self.has_missed_alerts.get() && (self.is_new.get() || has_room)
    }

    /// Whether it waits for all alerts.
    pub fn has_missed_alerts(&self) -> bool {
        self.has_missed_alerts.get()
    }

    /// Tells all alerts, if there is room.
    pub fn tell_alerts(&self, frame: &Bytes, now: Instant) {
        self.has_missed_alerts.set(!self.waiting.borrow_mut().add(frame, now));
    }

    /// A comment if nothing was sent for a while; ends a client that reads nothing.
    pub fn keep_alive(&self, now: Instant) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.frames.is_empty() && now.saturating_duration_since(waiting.read) >= UNREAD_MAX {
            drop(waiting);
            self.end();
        } else if now.saturating_duration_since(waiting.told) >= COMMENT_EVERY {
            waiting.add(&Bytes::from_static(COMMENT), now);
        }
    }

    /// Ends it: what waits is not sent any more. With it ends its connection, which nobody would poll while its client reads nothing.
    pub fn end(&self) {
        self.waiting.borrow_mut().end();
        self.client.place.end_stream();
    }

    pub fn is_ended(&self) -> bool {
        self.waiting.borrow().is_ended
    }
}

impl Waiting {
    /// Returns whether there is room.
    fn add(&mut self, frame: &Bytes, now: Instant) -> bool {
        // An empty queue takes any frame: none is larger than all alerts of a page.
        if !self.frames.is_empty() && self.bytes + frame.len() > WAITING_BYTES_MAX {
            return false;
        }
        if self.frames.is_empty() {
            self.read = now;
        }
        self.told = now;
        self.bytes += frame.len();
        self.frames.push_back(frame.clone());
        self.wake();
        true
    }

    fn end(&mut self) {
        self.is_ended = true;
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The body of the response; when it is dropped, the client is gone.
pub struct EventBody(pub Rc<Stream>);

impl EventBody {
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut waiting = self.0.waiting.borrow_mut();
        if waiting.is_ended {
            return Poll::Ready(None);
        }
        match waiting.frames.pop_front() {
            Some(frame) => {
                waiting.bytes -= frame.len();
                waiting.read = Instant::now();
                Poll::Ready(Some(frame))
            }
            None => {
                waiting.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
pub mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::admin::places::{Places, Taken};

    fn taken(address: u8) -> Taken {
        Places::new(1).take(IpAddr::from([10, 0, 0, address]), Instant::now())
    }

    pub fn client(address: u8) -> Client {
        Client { place: taken(address).place(), headers: HeaderMap::new(), certificates: Rc::default(), holder: None }
    }

    /// What comes next, if anything waits.
    pub fn read(body: &mut EventBody) -> Option<Bytes> {
        match body.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(frame) => frame,
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_query_says_what_is_wanted() {
        assert_eq!(Wants::parse(None), Some(Wants::EVERYTHING));
        let alerts = Wants { status: false, values: false, ..Wants::EVERYTHING };
        assert_eq!(Wants::parse(Some("events=alerts")), Some(alerts));
        let devices = Some(["a&b".to_owned(), "c".to_owned()].into());
        let values = Wants { alerts: false, devices, ..Wants::EVERYTHING };
        assert_eq!(Wants::parse(Some("events=values%2Cstatus&device=a%26b&device=c")), Some(values));
        let many: Vec<String> = (0..=DEVICES_MAX).map(|number| format!("device={number}")).collect();
        for wrong in ["events=alert", "events=", "x=1", "device", &many.join("&")] {
            assert_eq!(Wants::parse(Some(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn a_slow_reader_takes_bounded_memory_and_gets_all_alerts_again() {
        let now = Instant::now();
        let stream = Stream::new(Wants::EVERYTHING, client(1), now);
        let mut body = EventBody(Rc::clone(&stream));
        assert!(stream.needs_alerts());
        let frame = Bytes::from(vec![b'x'; 1_000]);
        stream.tell_alerts(&frame, now);
        stream.is_new.set(false);
        for _ in 0..1_000 {
            stream.tell(&frame, now);
            stream.tell_alert(&frame, now);
            assert!(stream.waiting.borrow().bytes <= WAITING_BYTES_MAX);
        }
        assert!(stream.has_missed_alerts.get() && !stream.needs_alerts());
        let waiting = std::iter::from_fn(|| read(&mut body)).count();
        assert_eq!(waiting, WAITING_BYTES_MAX / 1_000);
        stream.tell_alert(&frame, now);
        assert!(read(&mut body).is_none() && stream.needs_alerts(), "nothing of alerts before all of them");
        stream.tell_alerts(&frame, now);
        assert!(read(&mut body).is_some() && !stream.needs_alerts());
    }

    #[test]
    fn who_reads_nothing_is_ended_and_who_hears_nothing_gets_a_comment() {
        let now = Instant::now();
        let stream = Stream::new(Wants::EVERYTHING, client(1), now);
        let mut body = EventBody(Rc::clone(&stream));
        stream.keep_alive(now + COMMENT_EVERY - Duration::from_millis(1));
        assert!(read(&mut body).is_none());
        stream.keep_alive(now + COMMENT_EVERY);
        assert_eq!(read(&mut body).as_deref(), Some(COMMENT));
        stream.tell(&Bytes::from_static(b"x"), now + COMMENT_EVERY);
        stream.keep_alive(now + COMMENT_EVERY + UNREAD_MAX);
        assert!(stream.is_ended());
        assert!(matches!(body.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(None)));
        let other = Stream::new(Wants::EVERYTHING, client(1), now);
        drop(EventBody(Rc::clone(&other)));
        assert!(other.is_ended(), "the client is gone");
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_stream_though_its_client_reads_nothing() {
        let (now, taken) = (Instant::now(), taken(1));
        taken.note_stream();
        let stream = Stream::new(Wants::EVERYTHING, Client { place: taken.place(), ..client(1) }, now);
        let _body = EventBody(Rc::clone(&stream));
        stream.tell(&Bytes::from_static(b"x"), now);
        stream.keep_alive(now + UNREAD_MAX - Duration::from_millis(1));
        assert!(taken.is_stream());
        stream.keep_alive(now + UNREAD_MAX);
        assert!(!taken.is_stream());
        taken.given_away().await;
    }
}
