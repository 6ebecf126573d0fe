//! The interface over TCP: connections, handshakes of TLS, and who may ask for what.
//!
//! Handshakes are on this interface's own thread, because nothing else waits for it. A connection has the time that a request has, and there are
//! as many of them as there are places.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::access::{self, Access, Refusal};
use super::places::{Places, Taken};
use super::status::Sources;
use super::tokens::Holder;
use super::{CONNECTION_TIME_MAX, CONNECTIONS_MAX, FOREIGN, PAGE, PAGE_PATH, QUESTION_TIME_MAX, TEXT};
use super::{answer, control, html, login, reply};
use crate::pipeline::Message;

/// What one connection may have encrypted and not sent.
const TLS_BUFFER_BYTES_MAX: usize = 16 * 1024;
const LOGOUT: &str = "<form method=\"post\" action=\"/logout\"><button>Log out</button></form>";

/// What requests are answered from.
#[derive(Clone)]
struct Answering {
    sources: Rc<Sources>,
    pipeline: Sender<Message>,
    access: Arc<Access>,
    /// What the client has shown in the handshake.
    certificate: Option<CertificateDer<'static>>,
}

/// Serves until dropped. Must run in a `LocalSet`.
pub(super) async fn serve(listener: TcpListener, sources: &Rc<Sources>, pipeline: &Sender<Message>) {
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
        let answering =
            Answering { sources: Rc::clone(sources), pipeline: pipeline.clone(), access, certificate: None };
        tokio::task::spawn_local(async move {
            // A client may disconnect at any time; nothing needs to be done about that.
            tokio::select! {
                _ = tokio::time::timeout(CONNECTION_TIME_MAX, connect(stream, answering, Rc::clone(&place))) => {}
                () = place.given_away() => {}
            }
        });
        // Connections that lost their place end before the next one is accepted, so there are never more sockets than places.
        tokio::task::yield_now().await;
    }
}

async fn connect(stream: TcpStream, mut answering: Answering, place: Rc<Taken>) {
    let Some(config) = answering.access.tls.as_ref().map(|tls| Arc::clone(&tls.config)) else {
        return converse(stream, answering, place).await;
    };
    let accepting = TlsAcceptor::from(config)
        .accept_with(stream, |connection| connection.set_buffer_limit(Some(TLS_BUFFER_BYTES_MAX)));
    let Ok(Ok(stream)) = tokio::time::timeout(QUESTION_TIME_MAX, accepting).await else { return };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    answering.certificate = shown.map(|certificate| certificate.clone().into_owned());
    converse(stream, answering, place).await;
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, answering: Answering, place: Rc<Taken>) {
    let service = service_fn(move |request| {
        place.note_question();
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
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Answering { sources, pipeline, access, certificate } = self;
        if !sources.hosts.is_asked_as_us(request.headers()) {
            let text =
                "this name is not known here: ask for an IP address or localhost, or add the name to admin.hosts\n";
            return reply(StatusCode::MISDIRECTED_REQUEST, TEXT, text);
        }
        if access.is_open() {
            return answer(request, sources, pipeline).await;
        }
        let request = match login::answer(request, access, &sources.access, &sources.hosts).await {
            Ok(reply) => return reply,
            Err(request) => request,
        };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let Some(needed) = access::needed(&method, &path) else {
            return answer(request, sources, pipeline).await;
        };
        let holder = match access.admit(request.headers(), certificate.as_ref(), needed) {
            Ok(holder) => holder,
            Err(refusal) => return self.refuse(refusal, path == PAGE_PATH),
        };
        match method {
            Method::GET | Method::HEAD if path == PAGE_PATH => {
                html(StatusCode::OK, page_of(&holder, access.tokens.is_some()))
            }
            Method::GET | Method::HEAD => answer(request, sources, pipeline).await,
            // A browser sends cookie and certificate along whoever asks it to.
            _ if !sources.hosts.is_from_us(request.headers()) => reply(StatusCode::FORBIDDEN, TEXT, FOREIGN),
            _ => {
                let reply = control::answer(request, sources, pipeline).await;
                if reply.status().is_success() {
                    tracing::info!("{method} {path} by {}, as {}", holder.name, holder.role);
                }
                reply
            }
        }
    }

    fn refuse(&self, refusal: Refusal, is_page: bool) -> Response<Full<Bytes>> {
        let is_wrong = refusal == Refusal::WrongToken;
        if is_wrong {
            self.sources.access.logins_refused().add(1);
        }
        let text = match refusal {
            Refusal::RoleTooLow { holder: Holder { name, role }, needed } => {
                let text = format!("{name} may not do this: it needs the role {needed}, and this is {role}\n");
                return reply(StatusCode::FORBIDDEN, TEXT, text);
            }
            _ if is_page && self.access.tokens.is_some() => return login::form(is_wrong, &self.access),
            Refusal::WrongToken => "this token is not known here\n",
            Refusal::Nobody => "this needs a login: send a token as Authorization: Bearer TOKEN, or log in at /\n",
        };
        let mut reply = reply(StatusCode::UNAUTHORIZED, TEXT, text);
        login::challenge(reply.headers_mut());
        reply
    }
}

/// The page as somebody sees it who has logged in.
fn page_of(Holder { name, role }: &Holder, can_log_out: bool) -> String {
    let name = attribute(name);
    let page = PAGE.replace("<body>", &format!("<body data-role=\"{role}\" data-name=\"{name}\">"));
    if can_log_out { page.replace("<!--logout-->", LOGOUT) } else { page }
}

/// A text as the value of an attribute in quotes: the name in a certificate may be any text.
fn attribute(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::role::Role;

    #[test]
    fn a_name_stays_a_name_on_the_page() {
        let holder = |name: &str, role| Holder { name: name.to_owned(), role };
        let page = page_of(&holder("CN=\"><script>'&<!--logout-->", Role::View), true);
        let name = "CN=&quot;&gt;&lt;script&gt;&#39;&amp;&lt;!--logout--&gt;";
        assert!(page.contains(&format!("<body data-role=\"view\" data-name=\"{name}\">")));
        assert_eq!(page.matches("action=\"/logout\"").count(), 1);
        let page = page_of(&holder("anna", Role::Acknowledge), false);
        assert!(page.contains("<body data-role=\"acknowledge\" data-name=\"anna\">") && !page.contains("/logout"));
    }
}
