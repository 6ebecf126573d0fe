//! What was heard of alerts, for the next start: without it, a sensor that reports every hour would need another hour to clear its alert.
//! The alerts themselves have a table of their own.

use super::{AlertBook, AlertKey, Hearing, Moment, as_i64};
use crate::batch::varint::{self, Cursor};

/// First byte of such a part. It differs from that of the chunks of series, among which it is stored.
pub const VERSION: u8 = 0xb2;

impl AlertBook {
    /// Appends what was heard of the raised alerts, for [`AlertBook::remember`] after a restart.
    pub fn snapshot(&self, now: Moment, out: &mut Vec<u8>) {
        let raised = || self.entries.iter().filter(|(_, entry)| entry.is_raised());
        varint::put_signed(out, now.wall_ms);
        varint::put(out, raised().count() as u64);
        for (AlertKey { device, metric, kind }, entry) in raised() {
            for text in [device, metric, kind] {
                varint::put_bytes(out, text.as_bytes());
            }
            entry.hearing.encode(now.signed_steady_ms(), out);
        }
    }

    /// Keeps what a snapshot says until the alerts are restored. `are_limits_known`: the limits are configured as they were. `None` if it
    /// cannot have been written by [`AlertBook::snapshot`]; then nothing is kept.
    pub fn remember(&mut self, cursor: &mut Cursor<'_>, are_limits_known: bool, now: Moment) -> Option<()> {
        let written_ms = cursor.signed()?;
        // Bounded, because the wall clock may have been wrong: it must not make the alerts older than it takes to be forgotten.
        let away_ms = now.wall_ms.saturating_sub(written_ms).clamp(0, as_i64(self.times.silent_max_ms));
        let then_ms = now.signed_steady_ms().saturating_sub(away_ms);
        let count = cursor.number().filter(|&count| count <= cursor.rest.len() as u64)?;
        let mut remembered = Vec::new();
        for _ in 0..count {
            let mut text = || Some(std::str::from_utf8(cursor.bytes()?).ok()?.to_owned());
            let key = AlertKey { device: text()?, metric: text()?, kind: text()? };
            let hearing = Hearing::decode(cursor, then_ms)?;
            let limits = if are_limits_known { hearing.limits } else { u64::MAX };
            remembered.push((key, Hearing { limits, ..hearing }));
        }
        self.remembered_at_ms = written_ms;
        self.remembered.extend(remembered);
        Some(())
    }
}
