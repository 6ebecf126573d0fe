//! Text for a terminal.

use std::fmt::{self, Write};

/// Names come from devices: whatever they hold, they must not control a terminal.
pub struct Plain<'a>(pub &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter.is_control() {
            true => write!(f, "{}", letter.escape_debug()),
            false => f.write_char(letter),
        })
    }
}

/// A list with its length; nothing for an empty one.
pub fn section(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    lines: impl Iterator<Item = String>,
    total: usize,
) -> fmt::Result {
    if total == 0 {
        return Ok(());
    }
    writeln!(f, "\n{what}: {total}")?;
    listed(f, lines, total)
}

/// The lines of a list below its heading, and how many are not among them.
pub fn listed(f: &mut fmt::Formatter<'_>, lines: impl Iterator<Item = String>, total: usize) -> fmt::Result {
    let mut shown = 0;
    for line in lines {
        writeln!(f, "  {line}")?;
        shown += 1;
    }
    match shown > 0 && shown < total {
        true => writeln!(f, "  and {} more", total - shown),
        false => Ok(()),
    }
}
