//! Accepts connections, as many as there are seats, and gives each to a task of its own.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::listener::Listener;
use super::seats::Seats;
use super::{Edge, Phase, connection};
use crate::core::detection::alert::Trouble;
use crate::handoff::Input;

/// Accepts until the phase is [`Phase::Draining`].
pub(super) async fn run<T: From<Input> + 'static>(
    edge: Rc<Edge<T>>,
    listener: Rc<Listener>,
    socket: TcpListener,
    seats: Rc<Seats>,
) {
    let mut phase = edge.phase.clone();
    loop {
        tokio::select! {
            accepted = socket.accept() => accept(&edge, &listener, &seats, accepted).await,
            // A sender that is gone also means that the process is ending.
            _ = phase.wait_for(|phase| *phase == Phase::Draining) => return,
        }
    }
}

async fn accept<T: From<Input> + 'static>(
    edge: &Rc<Edge<T>>,
    listener: &Rc<Listener>,
    seats: &Seats,
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
        Ok(seat) => {
            let is_over = edge.crowded_host.get().is_none_or(|host| host == seat.host());
            if is_over && edge.crowded.borrow_mut().turn_off() {
                tracing::info!("clients that were turned away can connect again");
            }
            let (edge, listener) = (Rc::clone(edge), Rc::clone(listener));
            tokio::task::spawn_local(async move {
                connection::serve(edge, listener, stream, peer).await;
                drop(seat);
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
