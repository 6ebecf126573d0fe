//! From our broker to the other one: what waits in the session of the bridge leaves in its order, and stays there until it is acknowledged.

use tokio::sync::mpsc;

use super::{LOOK_EVERY, Local, ON_THEIR_WAY_MAX};
use crate::core::mqtt::outbound::Limits;
use crate::core::mqtt::packet::Version;
use crate::handoff::Input;
use crate::mqtt::Phase;

/// Bytes of packets that leave together.
const OUTPUT_BYTES: usize = 16 * 1024;

impl<T: From<Input> + 'static> Local<T> {
    /// Sends as long as the link lasts. What is not acknowledged then is sent again over the next one.
    pub(super) async fn send_all(&self, mut acknowledged: mpsc::Receiver<u16>, leaving: mpsc::Sender<Vec<u8>>) {
        let subscriber = self.attach().await;
        // The size of packets is up to the thread of the bridge, which says what it leaves out.
        let receive_maximum = ON_THEIR_WAY_MAX;
        subscriber.connect(Limits { version: Version::V5, receive_maximum, ..Limits::default() });
        let mut phase = self.edge.phase.clone();
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut output = Vec::new();
        loop {
            if output.is_empty() {
                let is_paused = self.edge.fanout.fill(&subscriber, &mut output, OUTPUT_BYTES);
                subscriber.note_output(output.len());
                if is_paused {
                    subscriber.changed.ring();
                    tokio::task::yield_now().await;
                }
            }
            tokio::select! {
                permit = leaving.reserve(), if !output.is_empty() => match permit {
                    Ok(permit) => {
                        permit.send(std::mem::take(&mut output));
                        subscriber.note_output(0);
                    }
                    Err(_) => break,
                },
                packet_id = acknowledged.recv() => match packet_id {
                    // One that belongs to nothing means nothing.
                    Some(packet_id) => _ = subscriber.acknowledged(packet_id),
                    None => break,
                },
                () = subscriber.changed.rung() => {}
                _ = look.tick() => self.count_waiting(),
                _ = phase.wait_for(|phase| *phase == Phase::Draining) => break,
            }
        }
        while let Ok(packet_id) = acknowledged.try_recv() {
            let _ = subscriber.acknowledged(packet_id);
        }
        self.detach();
        self.count_waiting();
    }
}
