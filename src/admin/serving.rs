//! The interface over TCP: connections, handshakes of TLS, and who may ask for what.
//!
//! Handshakes are on this interface's own thread, because nothing else waits for it. A connection has the time that a request has, and there are
//! as many of them as there are places.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::access::{self, Access, Refusal};
use super::body::Body;
use super::live::Live;
use super::live::stream::{Client, Wants};
use super::places::{Places, Taken};
use super::role::Role;
use super::routes::{self, Route};
use super::status::Sources;
use super::tokens::Holder;
use super::web::Page;
use super::{CONNECTION_TIME_MAX, CONNECTIONS_MAX, FOREIGN, QUESTION_TIME_MAX, TEXT};
use super::{answer, control, html, login, refuse_method, reply};
use crate::pipeline::Message;

/// What one connection may have encrypted and not sent.
const TLS_BUFFER_BYTES_MAX: usize = 16 * 1024;

/// What requests are answered from.
#[derive(Clone)]
struct Answering {
    sources: Rc<Sources>,
    live: Rc<Live>,
    pipeline: Sender<Message>,
    access: Arc<Access>,
    place: Rc<Taken>,
    /// What the client has shown in the handshake, its own first.
    certificates: Rc<[CertificateDer<'static>]>,
}

/// Serves until dropped. Must run in a `LocalSet`.
pub(super) async fn serve(listener: TcpListener, sources: &Rc<Sources>, live: &Rc<Live>, pipeline: &Sender<Message>) {
    let places = Places::new(CONNECTIONS_MAX);
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Most likely out of file descriptors: accepting again at once would only spin.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let place = Rc::new(places.take(peer.ip(), Instant::now()));
        // What holds when it connects: it asks once, and soon.
        let access = sources.access.get();
        let answering = Answering {
            sources: Rc::clone(sources),
            live: Rc::clone(live),
            pipeline: pipeline.clone(),
            access,
            place: Rc::clone(&place),
            certificates: Rc::default(),
        };
        tokio::task::spawn_local(async move {
            // A client may disconnect at any time; nothing needs to be done about that.
            tokio::select! {
                () = within_its_time(CONNECTION_TIME_MAX, connect(stream, answering), &place) => {}
                () = place.given_away() => {}
            }
        });
        // Connections that lost their place end before the next one is accepted, so there are never more sockets than places.
        tokio::task::yield_now().await;
    }
}

/// A connection has a time limit, unless its client is told of events.
async fn within_its_time(time_max: Duration, connection: impl Future<Output = ()>, place: &Taken) {
    let mut connection = pin!(connection);
    if tokio::time::timeout(time_max, &mut connection).await.is_err() && place.is_stream() {
        connection.await;
    }
}

async fn connect(stream: TcpStream, mut answering: Answering) {
    let Some(config) = answering.access.tls.as_ref().map(|tls| Arc::clone(&tls.config)) else {
        return converse(stream, answering).await;
    };
    let accepting = TlsAcceptor::from(config)
        .accept_with(stream, |connection| connection.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX)));
    let Ok(Ok(stream)) = tokio::time::timeout(QUESTION_TIME_MAX, accepting).await else { return };
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    answering.certificates = shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
    converse(stream, answering).await;
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, answering: Answering) {
    let service = service_fn(move |request| {
        answering.place.note_question();
        let answering = answering.clone();
        async move { Ok::<_, Infallible>(answering.answer(request).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(QUESTION_TIME_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Answering {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let route = routes::find(request.uri().path());
        let holder = match self.admit(request).await {
            Ok((request, holder)) if route == Some(Route::Events) => return self.tell_events(&request, holder),
            Ok((request, holder)) => (request, holder),
            Err(reply) => return reply.map(Body::Whole),
        };
        self.respond(holder).await.map(Body::Whole)
    }

    /// Gives the request back with whom it comes from, if it may be answered. Nobody is known where nobody logs in, or nothing needs a login.
    async fn admit(
        &self,
        request: Request<Incoming>,
    ) -> Result<(Request<Incoming>, Option<Holder>), Response<Full<Bytes>>> {
        let Answering { sources, access, certificates, .. } = self;
        if !sources.hosts.is_asked_as_us(request.headers()) {
            let text =
                "this name is not known here: ask for an IP address or localhost, or add the name to admin.hosts\n";
            return Err(reply(StatusCode::MISDIRECTED_REQUEST, TEXT, text));
        }
        if access.is_open() {
            return Ok((request, None));
        }
        if login::is_logout(&request, &sources.hosts)
            && let Ok(holder) = access.admit(request.headers(), certificates.first(), Role::View)
        {
            self.live.log_out(&holder.name);
        }
        let request = match login::answer(request, access, &sources.access, &sources.hosts).await {
            Ok(reply) => return Err(reply),
            Err(request) => request,
        };
        let (method, path) = (request.method(), request.uri().path());
        let Some(needed) = access::needed(method, path) else { return Ok((request, None)) };
        match access.admit(request.headers(), certificates.first(), needed) {
            Ok(holder) => Ok((request, Some(holder))),
            Err(refusal) => Err(self.refuse(refusal, Page::at(path))),
        }
    }

    async fn respond(&self, (request, holder): (Request<Incoming>, Option<Holder>)) -> Response<Full<Bytes>> {
        let Answering { sources, pipeline, access, .. } = self;
        let Some(holder) = holder else { return answer(request, sources, pipeline).await };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match (method, Page::at(&path)) {
            (Method::GET | Method::HEAD, Some(page)) => {
                html(StatusCode::OK, page.html(Some(&holder), access.tokens.is_some()))
            }
            (Method::GET | Method::HEAD, None) => answer(request, sources, pipeline).await,
            // A browser sends cookie and certificate along whoever asks it to.
            _ if !sources.hosts.is_from_us(request.headers()) => reply(StatusCode::FORBIDDEN, TEXT, FOREIGN),
            (method, _) => {
                let reply = control::answer(request, sources, pipeline).await;
                if reply.status().is_success() {
                    tracing::info!(target: "outrider::audit", "{method} {path} by {}, as {}", holder.name, holder.role);
                }
                reply
            }
        }
    }

    fn tell_events(&self, request: &Request<Incoming>, holder: Option<Holder>) -> Response<Body> {
        if *request.method() != Method::GET {
            return refuse_method("GET").map(Body::Whole);
        }
        let Some(wants) = Wants::parse(request.uri().query()) else {
            let text = "ask for ?events=alerts,status,values and device={device}, 200 of them at the most\n";
            return reply(StatusCode::BAD_REQUEST, TEXT, text).map(Body::Whole);
        };
        let client = Client {
            place: self.place.place(),
            headers: request.headers().clone(),
            certificates: Rc::clone(&self.certificates),
            holder,
        };
        let Some(events) = self.live.open(wants, client, Instant::now()) else {
            let text = "too many clients are told of events; close a page, or ask again later\n";
            let mut reply = reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
            reply.headers_mut().insert("retry-after", HeaderValue::from_static("10"));
            return reply.map(Body::Whole);
        };
        self.place.note_stream();
        reply(StatusCode::OK, "text/event-stream", Bytes::new()).map(|_| Body::Events(events))
    }

    fn refuse(&self, refusal: Refusal, page: Option<Page>) -> Response<Full<Bytes>> {
        let is_wrong = refusal == Refusal::WrongToken;
        if is_wrong {
            self.sources.access.logins_refused().add(1);
        }
        if let Some(page) = page.filter(|_| self.access.tokens.is_some()) {
            return login::form(is_wrong, page, &self.access);
        }
        let text = match refusal {
            Refusal::RoleTooLow { holder: Holder { name, role }, needed } => {
                let text = format!("{name} may not do this: it needs the role {needed}, and this is {role}\n");
                return reply(StatusCode::FORBIDDEN, TEXT, text);
            }
            Refusal::WrongToken => "this token is not known here\n",
            Refusal::Nobody => "this needs a login: send a token as Authorization: Bearer TOKEN, or log in at /\n",
        };
        let mut reply = reply(StatusCode::UNAUTHORIZED, TEXT, text);
        login::challenge(reply.headers_mut());
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_who_is_told_of_events_may_stay() {
        let places = Places::new(2);
        let take = || places.take(std::net::IpAddr::from([10, 0, 0, 1]), Instant::now());
        let [ordinary, stream] = [take(), take()];
        stream.note_stream();
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let time_max = Duration::from_millis(1);
        within_its_time(time_max, std::future::pending(), &ordinary).await;
        // It goes on until it ends by itself.
        let staying = within_its_time(time_max, async { drop(end.await) }, &stream);
        let ending = async {
            within_its_time(5 * time_max, std::future::pending(), &ordinary).await;
            drop(ended);
        };
        tokio::join!(staying, ending);
    }
}
