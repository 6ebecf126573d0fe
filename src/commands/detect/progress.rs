//! Shows the progress on a terminal, once a second.

use std::io::{self, Write};
use std::time::{Duration, Instant};

const TOLD_EVERY: Duration = Duration::from_secs(1);
/// Lines or readings between two looks at the clock.
const LOOK_EVERY: u64 = 1 << 16;

#[derive(Debug)]
pub struct Progress {
    /// What is counted.
    what: &'static str,
    /// The total amount of work, in any unit; 0 if it is unknown.
    all: u64,
    done: u64,
    count: u64,
    looked: u64,
    started: Instant,
    told: Instant,
}

impl Progress {
    pub fn new(what: &'static str, all: u64) -> Progress {
        let now = Instant::now();
        Progress { what, all, done: 0, count: 0, looked: 0, started: now, told: now }
    }

    /// Records that this much more work, and this many more lines or readings, are done.
    pub fn note(&mut self, done: u64, count: u64, errors: &mut impl Write) -> io::Result<()> {
        self.done += done;
        self.count += count;
        if self.count - self.looked >= LOOK_EVERY {
            self.looked = self.count;
            if self.told.elapsed() >= TOLD_EVERY {
                self.told = Instant::now();
                write!(errors, "\r{}\x1b[K", self.text(self.started.elapsed()))?;
                errors.flush()?;
            }
        }
        Ok(())
    }

    fn text(&self, elapsed: Duration) -> String {
        let rate = self.count as f64 / elapsed.as_secs_f64().max(0.001) / 1e6;
        let count = format!("{:.1} million {}, {rate:.1} million a second", self.count as f64 / 1e6, self.what);
        match (self.done * 100).checked_div(self.all) {
            Some(percent) => format!("{percent} %, {count}"),
            None => count,
        }
    }

    /// Clears the line.
    pub fn end(&self, errors: &mut impl Write) -> io::Result<()> {
        if self.told > self.started { write!(errors, "\r\x1b[K") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_much_and_how_fast() {
        let mut progress = Progress::new("readings", 10_000_000);
        progress.note(2_500_000, 2_000_000, &mut Vec::new()).expect("memory");
        assert_eq!(progress.text(Duration::from_secs(4)), "25 %, 2.0 million readings, 0.5 million a second");
        let unknown = Progress { all: 0, ..progress };
        assert_eq!(unknown.text(Duration::from_secs(1)), "2.0 million readings, 2.0 million a second");
    }
}
