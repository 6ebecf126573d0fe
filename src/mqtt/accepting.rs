//! Accepts connections, as many as there are seats, and gives each to a task of its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

use super::listener::Listener;
use super::seats::{NoSeat, Seat, Seats};
use super::{Edge, EdgeCounters, Phase, connection};
use crate::core::detection::alert::Trouble;
use crate::core::mqtt::rate::TokenBucket;
use crate::handoff::Input;

/// Accepts until the phase is [`Phase::Draining`].
pub(super) async fn run<T: From<Input> + 'static>(
    edge: Rc<Edge<T>>,
    listener: Rc<Listener>,
    socket: TcpListener,
    seats: Rc<Seats>,
) {
    let mut phase = edge.phase.clone();
    let own = listener.settings.connections_max;
    let own = own.map(Seats::of_listener);
    let seats = Both { all: seats, own };
    let mut pace = listener.settings.connections_a_second_max.map(AcceptPace::new);
    loop {
        tokio::select! {
            accepted = next(&socket, pace.as_mut(), &edge.counters) => accept(&edge, &listener, &seats, accepted).await,
            // A sender that is gone also means that the process is ending.
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => return,
        }
    }
}

/// Seats among those of all listeners, and among those of one that has a limit of its own.
struct Both {
    all: Rc<Seats>,
    own: Option<Seats>,
}

impl Both {
    fn take(&self, peer: IpAddr) -> Result<(Seat, Option<Seat>), NoSeat> {
        let own = self.own.as_ref().map(|own| own.take(peer)).transpose()?;
        Ok((self.all.take(peer)?, own))
    }
}

/// How fast a listener accepts.
struct AcceptPace {
    bucket: TokenBucket,
    started: Instant,
}

impl AcceptPace {
    fn new(per_second: u64) -> AcceptPace {
        AcceptPace { bucket: TokenBucket::new(per_second), started: Instant::now() }
    }
}

/// The next connection; those that come too fast wait in the system's queue.
async fn next(
    socket: &TcpListener,
    pace: Option<&mut AcceptPace>,
    counters: &EdgeCounters,
) -> io::Result<(TcpStream, SocketAddr)> {
    let Some(AcceptPace { bucket, started }) = pace else { return socket.accept().await };
    if !bucket.is_ready(started.elapsed()) {
        tokio::time::sleep_until((*started + bucket.ready_at()).into()).await;
        counters.connections_delayed.add(1);
    }
    let accepted = socket.accept().await;
    bucket.take(1, started.elapsed());
    accepted
}

async fn accept<T: From<Input> + 'static>(
    edge: &Rc<Edge<T>>,
    listener: &Rc<Listener>,
    seats: &Both,
    accepted: io::Result<(TcpStream, SocketAddr)>,
) {
    let now_ms = (edge.now_ms)();
    let (stream, peer) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            let text = format!("no connection can be accepted: {error}");
            if edge.out_of_descriptors.borrow_mut().turn_on(now_ms) {
                tracing::error!("{text}");
            }
            edge.report(Trouble::Denied, text);
            // Most likely out of file descriptors: accepting again at once would only spin.
            return tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if edge.out_of_descriptors.borrow_mut().turn_off() {
        tracing::info!("connections can be accepted again");
    }
    match seats.take(peer.ip()) {
        Ok((seat, own)) => {
            let is_over = edge.crowded_host.get().is_none_or(|host| host == seat.host());
            if is_over && edge.crowded.borrow_mut().turn_off() {
                tracing::info!("clients that were turned away can connect again");
            }
            let (edge, listener) = (Rc::clone(edge), Rc::clone(listener));
            tokio::task::spawn_local(async move {
                connection::serve(edge, listener, stream, peer).await;
                drop((seat, own));
            });
        }
        Err(no_seat) => {
            edge.counters.connections_refused.add(1);
            if edge.crowded.borrow_mut().turn_on(now_ms) {
                edge.crowded_host.set(no_seat.host());
                tracing::warn!("{no_seat}");
            }
            edge.report(Trouble::Denied, no_seat.to_string());
        }
    }
}
