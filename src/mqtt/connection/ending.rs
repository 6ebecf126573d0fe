//! The end of a connection: what was read before it is still stored, answered and passed on.

use std::cell::RefCell;
use std::future::poll_fn;
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::timeout;

use super::Connection;
use crate::core::mqtt::outbound::Limits;
use crate::core::mqtt::packet::{self, Version};
use crate::handoff;
use crate::mqtt::end::End;
use crate::mqtt::lane::Turn;
use crate::mqtt::output::Output;
use crate::mqtt::transport::{Transport, write, write_all};

/// How long a client may take to read why its connection ends.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

impl<T: From<handoff::Input> + 'static> Connection<T> {
    /// Waits for the commits of what was read, and writes the acknowledgements as long as the client reads them.
    pub(super) async fn flush(&mut self, transport: &RefCell<Transport>) {
        let limit = self.client_limits().write_timeout;
        let _ = timeout(limit, async {
            let mut turn = Turn::new(self.edge.read_buffer.lane());
            while self.is_answerable() && self.settle(&mut turn).is_ok() {
                if self.is_answerable() {
                    tokio::select! {
                        () = self.progress.changed() => {}
                        () = self.attached.subscriber.changed.rung() => {}
                    }
                }
            }
            while self.has_to_write(transport) {
                match write(transport, self.output.unwritten()).await {
                    Ok(count) => self.wrote(count),
                    Err(_) => break,
                }
            }
        })
        .await;
    }

    /// Tells a client that understands it why its connection ends.
    pub(super) async fn say_goodbye(&mut self, transport: &RefCell<Transport>, end: &End) {
        let reason = end.code().filter(|_| self.limits.version == Version::V5);
        if let Some(reason) = reason {
            let Limits { version, packet_bytes_max, .. } = self.limits;
            packet::disconnect(version, reason, &end.reason(), packet_bytes_max, &mut self.output.bytes);
            let _ = timeout(GOODBYE_TIMEOUT, write_all(transport, self.output.unwritten())).await;
        }
        self.output = Output::default();
        // Whoever takes over the client id of a connection that is dead must not wait for it.
        match reason.is_some() && matches!(end, End::Broken(_) | End::Undecodable(_) | End::NoLongerAdmitted) {
            true => linger(transport).await,
            // The end of TLS and of WebSocket is said as far as the socket takes it.
            false => transport.borrow_mut().try_shutdown(),
        }
    }

    /// The connection is gone, but its publishes are still stored and then fanned out. A session that is kept has to know which of those at
    /// QoS 2 are stored.
    pub(super) async fn finish(&mut self) {
        let mut turn = Turn::new(self.edge.read_buffer.lane());
        loop {
            if let Some(passing_on) = self.passing_on.take()
                && passing_on.await.is_err()
            {
                return;
            }
            let is_storing =
                || self.attached.subscriber.unreleased.borrow().is_storing() && self.inbound.uncommitted() > 0;
            let is_over = self.held.is_empty() && !is_storing();
            if is_over || self.settle(&mut turn).is_err() {
                self.pass_on_rest().await;
                return self.attached.subscriber.unreleased.borrow_mut().forget_unstored();
            }
            turn.pass_on(self.may_pass_on()).await;
            match (self.has_to_pass_on(), &self.passing_on) {
                (true, None) => poll_fn(|context| turn.poll_wait(context)).await,
                // What is excused from waiting is still held, and comes back from the disk at some time.
                (false, None) if self.inbound.uncommitted() > 0 || !self.held.is_empty() => {
                    self.progress.changed().await
                }
                _ => {}
            }
        }
    }

    /// The client is turned away: what is committed reaches its receivers all the same.
    async fn pass_on_rest(&mut self) {
        let committed = self.progress.committed();
        loop {
            if let Some(passing_on) = self.passing_on.take()
                && passing_on.await.is_err()
            {
                return;
            }
            let Some(held) = self.held.pop_front_if(|held| held.ordinal <= committed) else { break };
            match self.edge.fanout.pass_on(held.prepared) {
                Ok(passing_on) => self.passing_on = passing_on,
                Err(_) => return,
            }
        }
        // The disk may still take what it has not answered yet.
        let excused = self.progress.excused();
        self.held.iter().filter(|held| held.ordinal <= excused).for_each(|held| held.prepared.mark_perhaps_stored());
    }
}

/// Waits until the client has closed its side, for a while. If a socket is closed with unread input in it, the system tells the client at once,
/// which then cannot read any more what it was sent last.
async fn linger(transport: &RefCell<Transport>) {
    let _ = timeout(GOODBYE_TIMEOUT, async {
        poll_fn(|context| transport.borrow_mut().poll_shutdown(context)).await?;
        let mut unread = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut unread);
            poll_fn(|context| transport.borrow_mut().poll_read(context, &mut buffer)).await?;
            if buffer.filled().is_empty() {
                return std::io::Result::Ok(());
            }
        }
    })
    .await;
}
