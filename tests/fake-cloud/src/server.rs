//! HTTP/1.1 around the engine: listener, connections, admin paths. One thread, one `current_thread` runtime.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::clock::{http_date, parse_amz_date};
use crate::engine::{Answer, Call, Engine, Now, PUT_RECORD_BATCH};
use crate::faults::Faults;
use crate::settings::Settings;
use crate::stats::Stats;

/// More than any gateway opens; further ones are closed at once.
const CONNECTIONS_MAX: usize = 1_024;
const BACKLOG: u32 = 1_024;
/// How long an admin reply has to leave before its connection is cut.
const OFFLINE_DELAY: Duration = Duration::from_millis(50);
const OFFLINE_SECONDS_MAX: f64 = 86_400.0;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const PLAIN_JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What the handle and the admin paths ask of the listener. The answer comes when it is done.
pub(crate) enum Control {
    Offline(std::sync::mpsc::Sender<io::Result<()>>),
    ComeBack(std::sync::mpsc::Sender<io::Result<()>>),
}

pub(crate) struct Shared {
    engine: Mutex<Engine>,
    started: Instant,
    connections_open: AtomicUsize,
    /// Where the system reports the time of the cloud's thread.
    schedule_path: Mutex<Option<String>>,
    request_bytes_max: usize,
}

impl Shared {
    pub(crate) fn new(settings: &Settings) -> Self {
        let limits = settings.limits;
        Shared {
            engine: Mutex::new(Engine::new(settings)),
            started: Instant::now(),
            connections_open: AtomicUsize::new(0),
            schedule_path: Mutex::new(None),
            // Base64 adds a third; keys, punctuation and a request that is slightly too large must fit as well.
            request_bytes_max: limits.request_bytes * 2 + limits.records_a_request * 2_048 + limits.record_bytes,
        }
    }

    /// If a test thread panicked while it held the lock, the counts are still worth showing.
    pub(crate) fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { since_start_ns: self.started.elapsed().as_nanos() as u64, wall_ms: wall.as_millis() as i64 }
    }

    pub(crate) fn stats(&self) -> Stats {
        let cpu_seconds = self.cpu_seconds();
        let engine = self.engine();
        Stats {
            requests: engine.requests,
            connections: engine.connections,
            streams: engine.streams.iter().map(|(name, stream)| (name.clone(), stream.stats())).collect(),
            faults: engine.fault_counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            cpu_seconds,
        }
    }

    fn cpu_seconds(&self) -> Option<f64> {
        let path = self.schedule_path.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let text = std::fs::read_to_string(path).ok()?;
        let nanoseconds: u64 = text.split_whitespace().next()?.parse().ok()?;
        Some(nanoseconds as f64 / 1e9)
    }
}

/// Runs until every sender of `controls` is gone.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    mut controls: mpsc::Receiver<Control>,
    weak_controls: mpsc::WeakSender<Control>,
) -> io::Result<()> {
    let thread = std::fs::read_link("/proc/thread-self").ok();
    let path = thread.map(|thread| format!("/proc/{}/schedstat", thread.display()));
    *shared.schedule_path.lock().unwrap_or_else(PoisonError::into_inner) = path;
    let mut listening = Listening::Open(TcpListener::from_std(listener)?);
    let address = listening.address()?;
    let (cut, uncut) = watch::channel(());
    loop {
        tokio::select! {
            accepted = listening.accept() => match accepted {
                Ok(stream) => connect(stream, &shared, uncut.clone(), weak_controls.clone()),
                // Most likely out of file descriptors: give connections time to end.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            control = controls.recv() => match control {
                None => return Ok(()),
                Some(Control::Offline(done)) => {
                    let result = listening.close(address);
                    cut.send_replace(());
                    let _ = done.send(result);
                }
                Some(Control::ComeBack(done)) => {
                    let _ = done.send(listening.open());
                }
            },
        }
    }
}

/// The port stays ours while offline: the socket is bound but does not listen, so connections are refused.
enum Listening {
    Open(TcpListener),
    Closed(TcpSocket),
    /// The port is lost, or is being changed.
    Gone,
}

impl Listening {
    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Listening::Open(listener) => listener.local_addr(),
            Listening::Closed(socket) => socket.local_addr(),
            Listening::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Listening::Open(listener) => listener.accept().await.map(|(stream, _)| stream),
            Listening::Closed(_) | Listening::Gone => std::future::pending().await,
        }
    }

    fn close(&mut self, address: SocketAddr) -> io::Result<()> {
        if matches!(self, Listening::Closed(_)) {
            return Ok(());
        }
        *self = Listening::Gone;
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        *self = Listening::Closed(socket);
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        match std::mem::replace(self, Listening::Gone) {
            Listening::Closed(socket) => *self = Listening::Open(socket.listen(BACKLOG)?),
            Listening::Open(listener) => *self = Listening::Open(listener),
            Listening::Gone => return Err(io::Error::other("the port was lost while offline")),
        }
        Ok(())
    }
}

struct OpenConnection(Arc<Shared>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn connect(stream: TcpStream, shared: &Arc<Shared>, mut cut: watch::Receiver<()>, controls: mpsc::WeakSender<Control>) {
    {
        let mut engine = shared.engine();
        engine.connections += 1;
        if engine.faults.reset_connections {
            engine.count_fault("reset_connections");
            // With this, closing sends a reset. If it cannot be set, the client sees an orderly end, which is still a failure.
            let _ = stream.set_zero_linger();
            return;
        }
    }
    if shared.connections_open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
        shared.connections_open.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let open = OpenConnection(Arc::clone(shared));
    let _ = stream.set_nodelay(true);
    cut.mark_unchanged();
    tokio::spawn(async move {
        let shared = &open.0;
        let service = service_fn(|request| respond(request, shared, &controls));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // An error is a lost reply or a client that disconnected; both are expected.
            _ = connection => {}
            _ = cut.changed() => {}
        }
    });
}

/// Makes hyper close the connection without a reply.
#[derive(Debug, thiserror::Error)]
#[error("reply lost on purpose")]
struct ReplyLost;

type Reply = Response<Full<Bytes>>;

async fn respond(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
    controls: &mpsc::WeakSender<Control>,
) -> Result<Reply, ReplyLost> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, shared.request_bytes_max).collect().await else {
        let message = json!({"__type": "RequestEntityTooLargeException", "message": "the request is too large"});
        let mut reply = build(413, message.to_string().into_bytes(), PLAIN_JSON, shared);
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return Ok(reply);
    };
    let body = body.to_bytes();
    if let Some(path) = parts.uri.path().strip_prefix("/fake/") {
        let (status, body) = administer(&parts.method, path, &body, shared, controls);
        return Ok(build(status, body, PLAIN_JSON, shared));
    }
    if parts.method != Method::POST {
        let body = json!({"__type": "UnknownOperationException", "message": "POST with x-amz-target"});
        return Ok(build(404, body.to_string().into_bytes(), JSON, shared));
    }
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let target = header("x-amz-target").unwrap_or_default();
    let call = Call {
        operation: operation(target),
        body: &body,
        signed_at: header("x-amz-date").and_then(parse_amz_date),
        access_key: header("authorization").and_then(access_key),
    };
    if shared.engine().is_too_large(body.len()) {
        let page = b"<html><h1>413 Request Entity Too Large</h1></html>".to_vec();
        return Ok(build(413, page, HeaderValue::from_static("text/html"), shared));
    }
    let (hang, latency_ms) = {
        let mut engine = shared.engine();
        (engine.hang(), engine.faults.latency_ms)
    };
    if let Some(hang) = hang {
        tokio::time::sleep(hang).await;
    }
    let answer = shared.engine().answer(call, shared.now());
    if latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(latency_ms)).await;
    }
    match answer {
        Answer::Reply { status, body } => Ok(build(status, body, JSON, shared)),
        Answer::Lost => Err(ReplyLost),
    }
}

/// Empty if the service that is named has no such operation.
fn operation(target: &str) -> &str {
    match target.split_once('.') {
        Some(("Kinesis_20131202", operation)) if operation != PUT_RECORD_BATCH => operation,
        Some(("Firehose_20150804", PUT_RECORD_BATCH)) => PUT_RECORD_BATCH,
        _ => "",
    }
}

/// `AWS4-HMAC-SHA256 Credential=AKID/20261124/...`
fn access_key(authorization: &str) -> Option<&str> {
    authorization.split_once("Credential=")?.1.split('/').next()
}

fn build(status: u16, body: Vec<u8>, content_type: HeaderValue, shared: &Shared) -> Reply {
    let (date, number) = {
        let engine = shared.engine();
        (http_date(engine.server_time_ms(shared.now()).div_euclid(1_000)), engine.requests)
    };
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = hyper::StatusCode::from_u16(status).expect("every status here is a constant");
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(DATE, HeaderValue::from_str(&date).expect("a date is plain ASCII"));
    headers.insert(REQUEST_ID, HeaderValue::from(number));
    reply
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfflineInput {
    seconds: f64,
}

/// The admin paths, for those without a handle. Only connection faults affect them.
fn administer(
    method: &Method,
    path: &str,
    body: &[u8],
    shared: &Arc<Shared>,
    controls: &mpsc::WeakSender<Control>,
) -> (u16, Vec<u8>) {
    let ok = || (200, b"{}".to_vec());
    let wrong = |message: String| (400, json!({"message": message}).to_string().into_bytes());
    match (method, path) {
        (&Method::GET, "stats") => (200, serde_json::to_vec(&shared.stats()).expect("plain data has a JSON form")),
        (&Method::GET, "faults") => {
            (200, serde_json::to_vec(&shared.engine().faults).expect("plain data has a JSON form"))
        }
        (&Method::POST, "faults") => match serde_json::from_slice::<Faults>(body) {
            Err(error) => wrong(error.to_string()),
            Ok(faults) => match faults.check() {
                Err(error) => wrong(error.to_string()),
                Ok(()) => {
                    shared.engine().faults = faults;
                    ok()
                }
            },
        },
        (&Method::POST, "reset") => {
            shared.engine().forget();
            ok()
        }
        (&Method::POST, "offline") => match serde_json::from_slice::<OfflineInput>(body) {
            Ok(OfflineInput { seconds }) if (0.0..=OFFLINE_SECONDS_MAX).contains(&seconds) => {
                tokio::spawn(go_offline_for(Duration::from_secs_f64(seconds), controls.clone()));
                ok()
            }
            Ok(_) => wrong(format!("seconds must be from 0 to {OFFLINE_SECONDS_MAX}")),
            Err(error) => wrong(error.to_string()),
        },
        _ => (404, json!({"message": "no such admin path"}).to_string().into_bytes()),
    }
}

async fn go_offline_for(duration: Duration, controls: mpsc::WeakSender<Control>) {
    tokio::time::sleep(OFFLINE_DELAY).await;
    // The answers are not needed here: the channels carry them for the handle.
    let send = async |control| match controls.upgrade() {
        Some(controls) => controls.send(control).await.is_ok(),
        None => false,
    };
    if send(Control::Offline(std::sync::mpsc::channel().0)).await {
        tokio::time::sleep(duration).await;
        send(Control::ComeBack(std::sync::mpsc::channel().0)).await;
    }
}
