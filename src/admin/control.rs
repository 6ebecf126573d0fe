//! The control socket, `{store.path}/control.sock`: what an operator may ask of the running gateway, beyond the administration interface.
//! The file's mode admits only the user that the gateway runs as, so no login is needed. Over TCP it takes the role `operate`: without any
//! login nothing can be deleted there.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, oneshot};

use super::status::Sources;
use super::{CONNECTION_TIME_MAX, TEXT, alerts, reply};
use crate::core::mqtt::topic;
use crate::counter::many;
use crate::pipeline::Message;
use crate::pipeline::operation::{Operation, Outcome};
use crate::sinks::resend::{NoWish, Resent, Wish};
use crate::store::letters::{self, Selection};

/// Most connections served at once; further ones wait.
const CONNECTIONS_MAX: usize = 8;
/// An answer comes with the next commit; if it takes longer than this, the disk hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What a request to load the rules again asks for.
pub const RELOAD_PATH: &str = "/api/reload";

/// What a request to send dead letters again begins with, before the sink's name and perhaps the letter's number.
pub const LETTERS_PATH: &str = "/api/dead-letters/";

/// The socket's file in a state folder.
pub fn socket_path(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

/// The socket; its file exists as long as this value.
#[derive(Debug)]
pub struct ControlSocket {
    listener: StdListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Must be called with the state folder locked: an existing file was left behind by a killed process.
    pub fn bind(folder: &Path) -> io::Result<ControlSocket> {
        let path = socket_path(folder);
        match std::fs::symlink_metadata(&path) {
            Ok(known) if known.file_type().is_socket() => std::fs::remove_file(&path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file of that name")),
            Err(_) => {}
        }
        // Bind under another name, and rename it once only its owner may use it.
        let hidden = folder.join(".control");
        match std::fs::remove_file(&hidden) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = StdListener::bind(&hidden)?;
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&hidden, &path)?;
        listener.set_nonblocking(true)?;
        Ok(ControlSocket { listener, path })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // If the file is left behind, clients are refused a connection and report that.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves until dropped. Must run in a `LocalSet`.
pub(super) async fn serve(socket: &ControlSocket, sources: &Rc<Sources>, pipeline: &Sender<Message>) {
    let Ok(listener) = socket.listener.try_clone().and_then(UnixListener::from_std) else { return };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (sources, pipeline) = (Rc::clone(sources), pipeline.clone());
        tokio::task::spawn_local(async move {
            let service = service_fn(move |request| {
                let (sources, pipeline) = (Rc::clone(&sources), pipeline.clone());
                async move { Ok::<_, Infallible>(answer(request, &sources, &pipeline).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A client may disconnect at any time; nothing needs to be done about that.
            let _ = tokio::time::timeout(CONNECTION_TIME_MAX, connection).await;
            drop(place);
        });
    }
}

/// Answers an operator.
pub(super) async fn answer(
    request: Request<Incoming>,
    sources: &Sources,
    pipeline: &Sender<Message>,
) -> Response<Full<Bytes>> {
    if request.uri().path() == RELOAD_PATH && *request.method() == Method::POST {
        let (status, text) = reload(sources).await;
        return reply(status, TEXT, format!("{text}\n"));
    }
    if let Some(what) = request.uri().path().strip_prefix(LETTERS_PATH)
        && *request.method() == Method::POST
    {
        let (status, text) = resend(what, sources).await;
        return reply(status, TEXT, format!("{text}\n"));
    }
    match operation(request.uri().path()) {
        Some(operation) if *request.method() == Method::DELETE => {
            let (status, text) = operate(operation, pipeline).await;
            reply(status, TEXT, format!("{text}\n"))
        }
        _ => super::answer(request, sources, pipeline).await,
    }
}

/// `/api/series/{device}`, `/api/series/{device}/{metric}`, `/api/alerts/{device}/{metric}/{kind}`, `/api/sinks/{name}`.
fn operation(path: &str) -> Option<Operation> {
    let path = path.strip_prefix("/api/")?;
    if let Some(alert) = path.strip_prefix("alerts/") {
        return alerts::key(alert).map(Operation::ClearAlert);
    }
    let levels: Vec<String> = path.split('/').map(topic::percent_decode).collect();
    match levels.as_slice() {
        [what, device] if what == "series" => Some(Operation::ForgetSeries { device: device.clone(), metric: None }),
        [what, device, metric] if what == "series" => {
            Some(Operation::ForgetSeries { device: device.clone(), metric: Some(metric.clone()) })
        }
        [what, name] if what == "sinks" => Some(Operation::DropSink(name.clone())),
        _ => None,
    }
}

/// Loads the rules again.
async fn reload(sources: &Sources) -> (StatusCode, String) {
    match tokio::time::timeout(ANSWER_WITHIN, sources.rules.ask()).await {
        Ok(Ok(Ok(text))) => (StatusCode::OK, text),
        Ok(Ok(Err(text))) => (StatusCode::CONFLICT, format!("the rules before stay in force: {text}")),
        Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping".to_owned()),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, "the rules are not loaded yet".to_owned()),
    }
}

/// Has dead letters sent again: `{sink}` or `{sink}/{id}`.
async fn resend(what: &str, sources: &Sources) -> (StatusCode, String) {
    let (sink, id) = what.split_once('/').map_or((what, None), |(sink, id)| (sink, Some(id)));
    let sink = topic::percent_decode(sink);
    let id = match id.map(str::parse::<i64>).transpose() {
        Ok(id) => id,
        Err(_) => return (StatusCode::BAD_REQUEST, "the number of a dead letter is not a number".to_owned()),
    };
    let of_sink: Vec<_> = sources.sinks.iter().filter(|source| source.sink == sink).collect();
    if of_sink.is_empty() {
        return (StatusCode::NOT_FOUND, format!("the gateway runs no sink {sink}"));
    }
    let mut answers = Vec::new();
    for source in of_sink {
        let selection = Selection { sink: Some(sink.clone()), stream: Some(source.stream_name.to_string()), id };
        let counted = match &mut *sources.reader.borrow_mut() {
            Some(reader) => letters::count(reader.connection(), &selection),
            None => Ok((0, 0)),
        };
        let through = match counted {
            Ok((0, _)) => continue,
            Ok((_, last)) => last,
            Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, format!("cannot read the store: {error}")),
        };
        let (answer, answered) = oneshot::channel();
        if let Err(why) = source.status.wishes.ask(Wish { id, through, answer }) {
            let why = match why {
                NoWish::Busy => format!("dead letters of {sink} are being sent already"),
                NoWish::Unserved => {
                    format!("{sink} is {} now, to which dead letters cannot be sent: export them", source.kind)
                }
            };
            return (StatusCode::CONFLICT, why);
        }
        answers.push(answered);
    }
    if answers.is_empty() {
        return (StatusCode::NOT_FOUND, format!("no such dead letters of {sink} are kept"));
    }
    tracing::info!("request of the operator: send dead letters of {sink:?} again");
    let all = async {
        let mut all = Resent::default();
        for answer in answers {
            let Resent { delivered, refused, stopped } = answer.await.ok()?;
            (all.delivered, all.refused) = (all.delivered + delivered, all.refused + refused);
            all.stopped = all.stopped.or(stopped);
        }
        Some(all)
    };
    match tokio::time::timeout(ANSWER_WITHIN, all).await {
        Ok(Some(resent)) => of_resent(&resent),
        Ok(None) => (StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping".to_owned()),
        Err(_) => (
            StatusCode::OK,
            "they are still being sent; outrider buffer dead-letters list shows what is left".to_owned(),
        ),
    }
}

fn of_resent(Resent { delivered, refused, stopped }: &Resent) -> (StatusCode, String) {
    let text = format!("{} delivered, {refused} refused again", many(*delivered, "dead letter"));
    match stopped {
        Some(why) => (StatusCode::CONFLICT, format!("{text}; the others were not tried: {why}")),
        None => (StatusCode::OK, text),
    }
}

async fn operate(operation: Operation, pipeline: &Sender<Message>) -> (StatusCode, String) {
    let (answer, answered) = oneshot::channel();
    if pipeline.send(Message::Operate { operation, answer }).is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping".to_owned());
    }
    match tokio::time::timeout(ANSWER_WITHIN, answered).await {
        Ok(Ok(Outcome::Done(text))) => (StatusCode::OK, text),
        Ok(Ok(Outcome::Unknown(text))) => (StatusCode::NOT_FOUND, text),
        Ok(Ok(Outcome::Refused(text))) => (StatusCode::CONFLICT, text),
        Ok(Err(_)) => (StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping".to_owned()),
        Err(_) => (
            StatusCode::GATEWAY_TIMEOUT,
            "the store does not answer yet; the request is carried out when it does".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::detection::alert::AlertKey;

    #[test]
    fn what_is_asked_for_is_told_by_the_path() {
        let series = |device: &str, metric: Option<&str>| Operation::ForgetSeries {
            device: device.to_owned(),
            metric: metric.map(str::to_owned),
        };
        assert_eq!(operation("/api/series/a%2Fb"), Some(series("a/b", None)));
        assert_eq!(operation("/api/series/a/t%20x"), Some(series("a", Some("t x"))));
        assert_eq!(operation("/api/sinks/archive"), Some(Operation::DropSink("archive".to_owned())));
        let key = AlertKey { device: "a".to_owned(), metric: "t".to_owned(), kind: "gap".to_owned() };
        assert_eq!(operation("/api/alerts/a/t/gap"), Some(Operation::ClearAlert(key)));
        for path in ["/api/series", "/api/series/a/b/c", "/api/alerts/a/t", "/api/sinks/a/b", "/series/a", "/"] {
            assert_eq!(operation(path), None, "{path}");
        }
    }

    #[test]
    fn only_its_owner_may_use_the_socket_and_what_was_left_behind_is_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = socket_path(folder.path());
        let first = ControlSocket::bind(folder.path()).expect("a socket");
        let mode = || std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        // Leaves the file behind, as a killed process does.
        std::mem::forget(first);
        let second = ControlSocket::bind(folder.path()).expect("a socket");
        assert_eq!(mode(), 0o600);
        drop(second);
        assert!(!path.exists());
        std::fs::write(&path, "x").expect("a file");
        assert!(ControlSocket::bind(folder.path()).is_err(), "a file that is no socket is not ours to remove");
    }
}
