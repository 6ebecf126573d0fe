//! Records that rules write to streams of their own.

use super::Pipeline;
use crate::batch::{RECORD_BYTES_MAX, Tag};
use crate::identity::Stream;
use crate::record::{self, RuleRecord};

/// Why a record of a rule was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordRefusal {
    /// Nothing can be stored at present; its publish is not acknowledged either.
    #[error("nothing can be stored at present")]
    NothingStored,
    /// No batch takes a line of this length.
    #[error("the record has {bytes} bytes, more than {RECORD_BYTES_MAX}")]
    TooLong {
        /// Of its whole line.
        bytes: usize,
    },
}

impl Pipeline {
    /// Numbers a record within its stream and puts it into the open batch; returns its position. It keeps the order of its device; without
    /// one, that of its rule.
    ///
    /// # Errors
    ///
    /// If it cannot be stored. Then it has no position.
    pub fn push_record(&mut self, stream: Stream, record: &RuleRecord<'_>) -> Result<u64, RecordRefusal> {
        assert!(!stream.is_built_in(), "rules write to streams that the configuration names");
        if self.unstored.stores_nothing() {
            return Err(RecordRefusal::NothingStored);
        }
        // Written before it is numbered: a position that no record has would look like a loss.
        let open = self.open.of_mut(stream);
        self.line.clear();
        record::write_rule_record(&mut self.line, &self.gateway, self.run, open.position + 1, record);
        if self.line.len() > RECORD_BYTES_MAX {
            return Err(RecordRefusal::TooLong { bytes: self.line.len() });
        }
        let position = open.number(record.received_at_ms);
        open.encoder.push_line(Tag::Record, record.device.unwrap_or(record.rule), &self.line);
        Ok(position)
    }
}

#[cfg(test)]
mod tests;
