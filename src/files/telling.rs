//! What of files is logged.

use crate::core::files::Note;

pub fn tell(note: &Note) {
    match note {
        Note::Cut { path, unread_bytes } => tracing::warn!(
            unread_bytes,
            "{path} was cut: what was written after the last look is lost; rename files to rotate them, and nothing is"
        ),
        Note::Vanished { path, unread_bytes } => {
            tracing::warn!(unread_bytes, "{path} went away while it was not open: what was written last may be lost");
        }
        Note::LetGo { path, unread_bytes } => {
            tracing::error!(
                unread_bytes,
                "{path} was deleted, and is let go before it is read: its bytes fill the disk"
            );
        }
        Note::Known { path, original } => {
            tracing::info!("{path} is a copy of {original}: what was read of that one is not read again");
        }
        Note::Copy { path, original } => tracing::info!(
            "{path} is what {original} was before it was cut; what was written between copy and cut, if anything, is lost"
        ),
        Note::TooLong { path, offset } => tracing::warn!(offset, "a line of {path} is too long, and is left out"),
        Note::Fault { path, why } => tracing::warn!("{path} cannot be read: {why}"),
    }
}
