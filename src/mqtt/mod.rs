//! MQTT 3.1.1 and 5 for devices and local subscribers. The listener is our own, so that a PUBACK is held back until the publish is durable and
//! nothing that a client sends can end the process.
//!
//! Everything here runs on one thread. Each connection is a task, with its decisions made by [`crate::core::mqtt`].

mod accepting;
pub mod alert_feed;
mod answers;
pub mod bridging;
mod client;
mod client_ids;
mod connection;
mod counters;
mod end;
pub mod fanout;
mod handshake;
mod identify;
mod input;
mod keeper;
mod lane;
pub mod listener;
mod login;
mod moderation;
pub mod outbox;
mod output;
mod ping;
mod pool;
mod publish;
pub mod quota;
mod restoring;
mod retained;
mod router;
mod ruling;
mod seats;
mod sessions;
mod settings;
mod shared;
mod subscriber;
mod transport;
mod unrouted;
mod upgrade;
mod wills;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::core::detection::alert::{Report, ReportPacer, Trouble};
use crate::core::mqtt::rate::TokenBucket;
use crate::core::rulebook::RuleMessage;
use crate::handoff::rules::CurrentRules;
use crate::handoff::{Entry, Input, PipelineHandle};
use crate::ingest::{ClockState, Ingest};
use bridging::{BridgeEnd, StoredOfBridges};
use client_ids::ClientIds;
pub use counters::EdgeCounters;
use fanout::Fanout;
use handshake::Handshakes;
use input::ReadBuffer;
use keeper::Keeper;
use lane::Lane;
use listener::{CurrentPolicies, Listener, ListenerSettings, RenewedPolicies};
use login::Logins;
pub use moderation::runtime;
use outbox::{Outbox, Outgoing};
pub use ping::EdgeBeats;
pub use router::RouterDead;
use router::{Draft, Envelope};
use ruling::EdgeRules;
use seats::{Seats, Told};
use sessions::Sessions;
pub use settings::{EdgeSettings, Unrouted};
use unrouted::UnroutedPublishes;

/// Reported when something of the subscribers was refused or dropped for lack of room.
const SESSIONS_SHORT: &str = "MQTT subscribers take more than there is room for: filters are refused, or messages and sessions of clients \
     that are away are dropped";
/// So many retained messages that are no readings are stored at once, and one a second.
const STATES_IN_A_ROW: u32 = 8;
/// How long a bridge may take to end, when the gateway does.
const BRIDGE_END_WITHIN: Duration = Duration::from_secs(2);

/// How far the shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Running,
    /// No new connections; existing ones wait for the commits of what they sent.
    Draining,
}

struct Edge<T: From<Input>> {
    settings: Rc<EdgeSettings>,
    pipeline: PipelineHandle<T>,
    ingest: RefCell<Ingest>,
    rules: RefCell<EdgeRules>,
    fanout: Fanout,
    sessions: Sessions,
    keeper: Keeper,
    counters: Arc<EdgeCounters>,
    now_ms: fn() -> i64,
    phase: watch::Receiver<Phase>,
    draining: Cell<bool>,
    read_buffer: Rc<ReadBuffer>,
    refusals: RefCell<Throttle>,
    /// Whether it was logged that clients are turned away because all connections, or all file descriptors, are in use.
    crowded: RefCell<Told>,
    /// The host whose clients are turned away; `None` if it concerns everybody.
    crowded_host: Cell<Option<IpAddr>>,
    out_of_descriptors: RefCell<Told>,
    reports: RefCell<ReportPacer>,
    started: Instant,
    unrouted: RefCell<UnroutedPublishes>,
    /// Hosts for which the log said that logins are not checked.
    told_of_logins: RefCell<HashSet<IpAddr>>,
    client_ids: ClientIds,
    helpers: Helpers,
    /// What is retained and no reading is stored soon, as far as that is seldom.
    states: Cell<TokenBucket>,
}

impl<T: From<Input>> Edge<T> {
    /// Whether a retained message that is no reading is stored, and so seen, at once. A client that says that it is there expects that; one that
    /// retains many costs no commit for each.
    fn is_state_urgent(&self) -> bool {
        // The bucket's second is eight of ours: eight in a row, and one a second.
        let (mut states, now) = (self.states.get(), self.started.elapsed() / STATES_IN_A_ROW);
        let is_urgent = states.is_ready(now);
        if is_urgent {
            states.take(1, now);
            self.states.set(states);
        }
        is_urgent
    }

    /// Something is wrong; to be reported again for as long as it is.
    fn report(&self, trouble: Trouble, text: String) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if self.reports.borrow_mut().is_due(&trouble, now_ms) {
            // Without a pipeline the process is ending.
            let _ = self.pipeline.report(Report::new(trouble, text));
        }
    }
}

/// Limits log lines that a client or another broker could cause endlessly to one per second.
#[derive(Debug, Default)]
pub struct Throttle {
    last_ms: i64,
    suppressed: u64,
}

impl Throttle {
    /// `Some(how many were suppressed since the last one)` if a line may be written.
    pub fn permit(&mut self, now_ms: i64) -> Option<u64> {
        if (now_ms - self.last_ms).abs() < 1000 {
            self.suppressed += 1;
            return None;
        }
        self.last_ms = now_ms;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Threads that spare the MQTT thread what takes long.
pub struct Helpers {
    handshakes: Handshakes,
    logins: Logins,
}

impl Helpers {
    pub fn start() -> std::io::Result<Helpers> {
        Ok(Helpers { handshakes: Handshakes::start()?, logins: Logins::start()? })
    }
}

/// What the MQTT side needs from the rest of the gateway.
pub struct EdgeParts<T: From<Input>> {
    pub settings: EdgeSettings,
    /// In the order of their sockets.
    pub listeners: Vec<ListenerSettings>,
    pub policies: CurrentPolicies,
    pub helpers: Helpers,
    pub pipeline: PipelineHandle<T>,
    pub ingest: Ingest,
    pub rules: CurrentRules,
    pub counters: Arc<EdgeCounters>,
    pub now_ms: fn() -> i64,
    pub phase: watch::Receiver<Phase>,
    /// The gateway's own messages: alerts and status.
    pub outbox: Outbox,
    pub beats: EdgeBeats,
    /// What the store has of sessions, retained messages, wills and bridges.
    pub entries: Vec<Entry>,
    /// Bridges to other brokers.
    pub bridges: Vec<BridgeEnd>,
    /// Whether the system's clock is set.
    pub clock: ClockState,
}

impl<T: From<Input> + 'static> Edge<T> {
    /// What is due every second, whatever clients do.
    fn look_after(&self, policies: &mut RenewedPolicies) -> Result<(), RouterDead> {
        if self.fanout.is_dead() {
            return Err(RouterDead);
        }
        self.sessions.expire();
        self.sessions.store_progress();
        self.keeper.flush();
        if policies.renew() {
            self.helpers.logins.forget();
            self.sessions.renew_permissions();
            self.sessions.wake_all();
        }
        // Rules see readings also when nothing is published any more. Without a pipeline the process is ending.
        let _ = self.renew_rules();
        if self.fanout.was_short() {
            self.report(Trouble::Sessions, SESSIONS_SHORT.to_owned());
        }
        Ok(())
    }
}

/// Serves until the phase is [`Phase::Draining`] and every connection has ended, or until the router dies. Must run in a `LocalSet`.
pub async fn run<T: From<Input> + 'static>(sockets: Vec<TcpListener>, parts: EdgeParts<T>) -> Result<(), RouterDead> {
    let EdgeParts {
        settings,
        listeners,
        policies,
        helpers,
        pipeline,
        ingest,
        rules,
        counters,
        now_ms,
        phase,
        outbox,
        beats,
        entries,
        bridges,
        clock,
    } = parts;
    let settings = Rc::new(settings);
    let keeper = Keeper::default();
    let fanout = Fanout::start(Rc::clone(&settings), Arc::clone(&counters), keeper.clone())?;
    tokio::task::spawn_local(keeper.clone().run(pipeline.clone()));
    tokio::task::spawn_local(publish_own(outbox, fanout.clone()));
    tokio::task::spawn_local(ping::run(pipeline.clone(), fanout.clone(), beats.clone()));
    let sessions =
        Sessions::new(fanout.clone(), keeper.clone(), Arc::clone(&counters), settings.persistent_sessions_max);
    let kept_max = settings.packets_under_way_bytes_max.max(4 * settings.packet_bytes_max);
    let read_buffer = Rc::new(ReadBuffer::new(kept_max, Lane::new(settings.takes_turns)));
    let edge = Rc::new(Edge {
        settings,
        pipeline,
        ingest: RefCell::new(ingest),
        rules: RefCell::new(EdgeRules::new(rules)),
        fanout,
        sessions,
        keeper,
        counters,
        now_ms,
        phase: phase.clone(),
        draining: Cell::new(false),
        read_buffer,
        refusals: RefCell::default(),
        crowded: RefCell::default(),
        crowded_host: Cell::default(),
        out_of_descriptors: RefCell::default(),
        reports: RefCell::default(),
        started: Instant::now(),
        unrouted: RefCell::default(),
        told_of_logins: RefCell::default(),
        client_ids: ClientIds::default(),
        helpers,
        states: Cell::new(TokenBucket::new(STATES_IN_A_ROW.into())),
    });
    let seats = Rc::new(Seats::new(edge.settings.connections_max, edge.settings.connections_a_host_percent));
    let mut policies = RenewedPolicies::new(policies, listeners);
    let of_bridges: Vec<Rc<Listener>> = bridges.iter().map(|end| bridging::listener(&end.bridge)).collect();
    let stored_of_bridges = StoredOfBridges::of(&entries);
    edge.restore(entries, &[&policies.listeners[..], &of_bridges].concat());
    let bridges = edge.start_bridges(bridges, of_bridges, stored_of_bridges, &clock).await;
    let accepting: Vec<_> = policies
        .listeners
        .iter()
        .zip(sockets)
        .map(|(listener, socket)| {
            let (edge, listener, seats) = (Rc::clone(&edge), Rc::clone(listener), Rc::clone(&seats));
            tokio::task::spawn_local(accepting::run(edge, listener, socket, seats))
        })
        .collect();
    let mut phase = phase;
    let mut health = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = health.tick() => {
                beats.thread.moved();
                edge.look_after(&mut policies)?;
            }
            draining = phase.wait_for(|phase| *phase == Phase::Draining) => {
                // A sender that is gone also means that the process is ending.
                drop(draining);
                break;
            }
        }
    }
    // Their sockets are closed with them.
    for accepting in accepting {
        let _ = accepting.await;
    }
    edge.draining.set(true);
    edge.sessions.wake_all();
    seats.all_free().await;
    for bridge in bridges {
        // What the disk does not answer is no reason to stay.
        let _ = tokio::time::timeout(BRIDGE_END_WITHIN, bridge).await;
    }
    // Clients get less twice if all that they have acknowledged is stored.
    edge.sessions.store_progress();
    edge.keeper.settled(edge.keeper.ticket()).await;
    Ok(())
}

/// Publishes alerts, the status, and what rules publish, as long as the router lives; the listener notices if it dies.
///
/// What rules publish here is stored soon, and not waited for: it comes from readings that are stored already.
async fn publish_own(outbox: Outbox, fanout: Fanout) {
    loop {
        let published = match outbox.next().await {
            Outgoing::Own(own) => fanout.publish_own(Envelope::new(&own.topic, &own.payload, 1), own.retain).await,
            Outgoing::OfRule(RuleMessage { topic, payload, qos, retain, .. }) => {
                let draft = Draft { topic: &topic, payload: &payload, qos, retain, ..Draft::default() };
                match fanout.pass_on(fanout.prepare_and_store(draft)) {
                    Ok(Some(passing_on)) => passing_on.await,
                    Ok(None) => Ok(()),
                    Err(dead) => Err(dead),
                }
            }
        };
        if published.is_err() {
            return;
        }
    }
}
