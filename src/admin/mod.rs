//! The administration interface: health, metrics, status, what changes as it changes, and pages for people. HTTP on a thread of its own, so that
//! clients with many requests slow down only this interface.

pub mod access;
mod acknowledge;
pub mod alerts;
mod body;
pub mod control;
mod failing_sinks;
pub mod flow;
pub mod history;
pub mod ledger;
mod live;
mod login;
mod metrics;
pub mod origin;
mod places;
pub mod role;
pub mod routes;
pub mod rules;
mod series;
mod serving;
pub mod status;
pub mod tokens;
pub mod undecodable;
mod values;
mod web;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;

use crate::core::detection::alert::{Report, ReportPacer, Trouble};
use crate::handoff::{Input, PipelineGone};
use crate::pipeline::Message;
use crate::sinks::status::SinkSource;
use control::ControlSocket;
use failing_sinks::{FailingSinks, SinkError};
use live::Live;
use routes::Route;
use status::{Sources, Status};
use web::Page;

const TEXT: &str = "text/plain; charset=utf-8";
/// What may be asked here, and what comes back; in the form of OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("../../config/schema/openapi.json");
const FOREIGN: &str = "pages of other sites change nothing here\n";
/// Pages load what belongs to them from here, and nothing else; no script stands in a page.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Most connections served at once; together with [`alerts::PAGE_BYTES`], the size of the status and what waits for
/// each client of events, this bounds the memory of responses.
const CONNECTIONS_MAX: usize = 64;
/// Time limit for a request to arrive.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(5);
/// Time limit for a whole connection, which is one request and its response; who is told of events stays.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(45);
/// How often the gateway records its own state when nothing changes.
const RECORD_EVERY: Duration = Duration::from_secs(60);
/// How often changes of state are looked for.
const STATE_CHECK_EVERY: Duration = Duration::from_millis(500);

/// Serves until the phase's sender is gone. Must run in a `LocalSet`.
pub async fn run(
    (listener, control): (Option<TcpListener>, Option<ControlSocket>),
    sources: Sources,
    pipeline: Sender<Message>,
) {
    let mut phase = sources.phase.clone();
    let (sources, live) = (Rc::new(sources), Rc::new(Live::default()));
    let for_requests = pipeline.clone();
    let records = tokio::task::spawn_local(send_records(Rc::clone(&sources), pipeline));
    let serving = async {
        match listener {
            Some(listener) => serving::serve(listener, &sources, &live, &for_requests).await,
            None => std::future::pending().await,
        }
    };
    let operating = async {
        match &control {
            Some(control) => control::serve(control, &sources, &for_requests).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = live::run(&live, &sources, &for_requests) => {}
        () = serving => {}
        () = operating => {}
        // An error means that the sender, and with it the gateway, is gone.
        () = async { while phase.changed().await.is_ok() {} } => {}
    }
    records.abort();
}

/// The gateway's own record: every minute, and whenever its state changes.
async fn send_records(sources: Rc<Sources>, pipeline: Sender<Message>) {
    let mut phase = sources.phase.clone();
    let mut last: Option<((Cow<'static, str>, u64), tokio::time::Instant)> = None;
    let mut reports = ReportPacer::default();
    let mut failing_sinks = FailingSinks::default();
    loop {
        let reported = report_stalls(&sources, &pipeline, &mut reports)
            .and_then(|()| report_sinks(&sources, &mut failing_sinks, &pipeline, &mut reports));
        if reported.is_err() {
            return;
        }
        // A damaged store may be salvaged between two looks: then only its number shows that.
        let state = (sources.state_name(), sources.store.salvaging.get());
        let is_due = last.as_ref().is_none_or(|(known, at)| *known != state || at.elapsed() >= RECORD_EVERY);
        if is_due && let Ok(status) = sources.status() {
            last = Some((state, tokio::time::Instant::now()));
            if pipeline.send(Message::Gateway(status.record_tail())).is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(STATE_CHECK_EVERY) => {}
            // An end may take less, and is told.
            changed = phase.changed() => if changed.is_err() { return },
        }
    }
}

/// Reports which thread is stalled: in the log once, and as an alert while it lasts. A stalled pipeline cannot raise one.
fn report_stalls(sources: &Sources, pipeline: &Sender<Message>, reports: &mut ReportPacer) -> Result<(), PipelineGone> {
    let before = sources.unhealthy();
    if let Some(thread) = sources.look_for_stalls() {
        tracing::error!(
            "the {thread} thread is stalled, and everything that depends on it waits; restart the gateway if this lasts"
        );
    }
    let Some(thread) = sources.stalled.borrow().clone() else {
        if before.is_some() {
            tracing::info!("no thread is stalled any more");
        }
        return Ok(());
    };
    let now_ms = u64::try_from(sources.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if thread != "pipeline" && reports.is_due(&Trouble::Stalled, now_ms) {
        let text = format!("the {thread} thread of the gateway is stalled, and everything that depends on it waits");
        let report = Message::Input(Input::Report(Report::new(Trouble::Stalled, text)));
        pipeline.send(report).map_err(|_| PipelineGone)?;
    }
    Ok(())
}

/// A sink that has not delivered for a while raises an alert for as long as that lasts.
fn report_sinks(
    sources: &Sources,
    failing: &mut FailingSinks,
    pipeline: &Sender<Message>,
    reports: &mut ReportPacer,
) -> Result<(), PipelineGone> {
    let error_of = |source: &SinkSource| {
        let (sink, error) = (source.sink.clone(), source.status.last_error()?);
        Some(SinkError { sink, error, has_keys_aside: source.status.keys_set_aside().count > 0 })
    };
    let errors: Vec<SinkError> = sources.sinks.iter().filter_map(error_of).collect();
    let now_ms = u64::try_from(sources.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    for report in failing.lasting(&errors, Instant::now()) {
        if reports.is_due(&report.trouble, now_ms) {
            pipeline.send(Message::Input(Input::Report(report))).map_err(|_| PipelineGone)?;
        }
    }
    Ok(())
}

/// Answers whoever may ask.
async fn answer(request: Request<Incoming>, sources: &Sources, pipeline: &Sender<Message>) -> Response<Full<Bytes>> {
    let Some(key) = acknowledge::target(request.uri().path()) else {
        return answer_question(&request, sources, pipeline).await;
    };
    if *request.method() != Method::POST {
        return refuse_method("POST");
    }
    if !sources.hosts.is_from_us(request.headers()) {
        return reply(StatusCode::FORBIDDEN, TEXT, FOREIGN);
    }
    let is_known = match &mut *sources.reader.borrow_mut() {
        Some(reader) => alerts::is_known(reader.connection(), &key),
        None => Ok(false),
    };
    let (status, text) = match is_known {
        // Only the pipeline knows alerts that could not be stored.
        Ok(known) if known || sources.store.unstorable().is_some() => {
            acknowledge::acknowledge(request, key, pipeline).await
        }
        Ok(_) => (StatusCode::NOT_FOUND, "no such alert\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, unreadable(&error)),
    };
    reply(status, TEXT, text)
}

async fn answer_question(
    request: &Request<Incoming>,
    sources: &Sources,
    pipeline: &Sender<Message>,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refuse_method("GET, HEAD");
    }
    let with_status = |kind, write: &dyn Fn(Status) -> String| match sources.status() {
        Ok(status) => reply(StatusCode::OK, kind, write(status)),
        Err(error) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, unreadable(&error)),
    };
    let (path, query) = (request.uri().path(), request.uri().query());
    let Some(route) = routes::find(path) else { return not_found() };
    match route {
        Route::Dashboard => html(StatusCode::OK, Page::Dashboard.html(None, false)),
        Route::Driver => html(StatusCode::OK, Page::Driver.html(None, false)),
        Route::File => web::file(path, request.headers()),
        Route::Health => health("ok", sources.unhealthy().map(Cow::Owned)),
        Route::Ready => health("ready", sources.unready()),
        Route::Metrics => with_status("text/plain; version=0.0.4; charset=utf-8", &|status| {
            metrics::write(&status, &sources.certificates())
        }),
        Route::OpenApi => reply(StatusCode::OK, "application/json", OPENAPI),
        Route::Status => {
            let overview = series::overview(pipeline).await;
            with_status("application/json", &|status| pretty(&Status { series: overview.clone(), ..status }))
        }
        Route::ListSeries => series::answer(query, pipeline).await,
        Route::ExplainSeries => series::explain(path, pipeline).await,
        Route::History => {
            let series = history::target(path).expect("the route's path names a series");
            history::answer(series, query, (sources.now_ms)(), &sources.history).await
        }
        Route::Devices => values::devices(query, sources, pipeline).await,
        Route::Values => values::values(query, sources, pipeline).await,
        Route::Rules => {
            reply(StatusCode::OK, "application/json", pretty(&rules::status(&sources.rules, &sources.store)))
        }
        Route::Alerts => list_alerts(query, sources),
        // Events are for connections over TCP, which are served apart.
        Route::Events | Route::Other => not_found(),
    }
}

fn not_found() -> Response<Full<Bytes>> {
    let served: Vec<&str> =
        routes::served().filter(|(method, _)| *method == "GET").map(|(_, template)| template).collect();
    reply(StatusCode::NOT_FOUND, TEXT, format!("served here: {}\n", served.join(" ")))
}

fn health(well: &str, trouble: Option<Cow<'static, str>>) -> Response<Full<Bytes>> {
    let status = if trouble.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    reply(status, TEXT, format!("{}\n", trouble.as_deref().unwrap_or(well)))
}

fn list_alerts(query: Option<&str>, sources: &Sources) -> Response<Full<Bytes>> {
    let mut reader = sources.reader.borrow_mut();
    let Some(reader) = &mut *reader else {
        return reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the store cannot be opened at present\n");
    };
    match alerts::page(reader.connection(), query) {
        Ok(Some(page)) => {
            let mut reply = reply(StatusCode::OK, "application/json", page.json);
            if let Some(link) = page.link {
                let link = link.try_into().expect("encoded for a header");
                reply.headers_mut().insert("link", link);
            }
            reply
        }
        Ok(None) => reply(StatusCode::BAD_REQUEST, TEXT, "ask for ?after={device}/{metric}/{kind}\n"),
        Err(error) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, unreadable(&error)),
    }
}

fn refuse_method(allowed: &'static str) -> Response<Full<Bytes>> {
    let text = format!("{allowed} is what is served here\n");
    let mut reply = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
    reply.headers_mut().insert("allow", HeaderValue::from_static(allowed));
    reply
}

fn unreadable(error: &rusqlite::Error) -> String {
    format!("cannot read the store: {error}\n")
}

fn pretty(value: &impl serde::Serialize) -> String {
    let mut json = serde_json::to_string_pretty(value).expect("plain data");
    json.push('\n');
    json
}

fn html(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    reply(status, "text/html; charset=utf-8", body)
}

fn reply(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", kind)
        .header("cache-control", "no-store")
        .header("x-content-type-options", "nosniff")
        .header("content-security-policy", CONTENT_POLICY)
        .body(Full::new(body.into()))
        .expect("fixed headers")
}

/// Runs the interface on a thread of its own.
pub fn spawn(
    (listener, control): (Option<std::net::TcpListener>, Option<ControlSocket>),
    sources: Sources,
    pipeline: Sender<Message>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let listener = listener.and_then(|listener| TcpListener::from_std(listener).ok());
            run((listener, control), sources, pipeline).await;
        });
    })
}

/// Binds where the interface listens.
pub fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
