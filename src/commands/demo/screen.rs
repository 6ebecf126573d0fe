//! Prints lines with the time in front; on a terminal also a last line of live figures that is rewritten.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Wide enough for the longest label.
const LABEL_WIDTH: usize = 10;
const CLEAR_LINE: &str = "\r\x1b[K";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

pub struct Screen<W: Write> {
    out: W,
    started: Instant,
    /// Columns of the terminal; `None` if there is no terminal.
    columns: Option<usize>,
    has_status: bool,
    closed: bool,
}

impl Screen<io::Stdout> {
    pub fn on_standard_output(started: Instant) -> Self {
        let plain = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let columns = (io::stdout().is_terminal() && !plain).then(terminal_columns);
        Screen::new(io::stdout(), started, columns)
    }
}

impl<W: Write> Screen<W> {
    fn new(out: W, started: Instant, columns: Option<usize>) -> Self {
        Screen { out, started, columns, has_status: false, closed: false }
    }

    pub fn is_terminal(&self) -> bool {
        self.columns.is_some()
    }

    /// Whether the reader of the output is gone.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Prints a line without a time.
    pub fn text(&mut self, text: &str) {
        let clear = self.clear_status();
        self.write(&format!("{clear}{text}\n"));
    }

    /// Prints a line for something that has happened.
    pub fn event(&mut self, label: &str, text: &str) {
        let clear = self.clear_status();
        let time = clock(self.elapsed());
        // The label is in capitals if it is important; on a terminal it is bold as well.
        let (bold, plain) =
            if self.is_terminal() && label.starts_with(char::is_uppercase) { (BOLD, PLAIN) } else { ("", "") };
        let line = format!("{time}  {bold}{label:<LABEL_WIDTH$}{plain}{text}");
        self.write(&format!("{clear}{}\n", line.trim_end()));
    }

    /// Rewrites the last line of a terminal.
    pub fn status(&mut self, label: &str, text: &str) {
        let Some(columns) = self.columns else { return };
        let line = format!("{}  {label:<LABEL_WIDTH$}{text}", clock(self.elapsed()));
        // A line that wraps could not be cleared.
        let line: String = line.chars().take(columns.saturating_sub(1)).collect();
        self.has_status = true;
        self.write(&format!("{CLEAR_LINE}{line}"));
    }

    fn clear_status(&mut self) -> &'static str {
        if std::mem::take(&mut self.has_status) { CLEAR_LINE } else { "" }
    }

    fn write(&mut self, text: &str) {
        if self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).is_err() {
            self.closed = true;
        }
    }
}

fn terminal_columns() -> usize {
    const USUAL: usize = 80;
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize`, which `size` is and which outlives the call.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) };
    if result == 0 && size.ws_col > 0 { usize::from(size.ws_col) } else { USUAL }
}

/// ` 0:08`, and from an hour on `1:02:03`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds / 3600 {
        0 => format!("{:2}:{:02}", seconds / 60, seconds % 60),
        hours => format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60),
    }
}

/// `21 ms`, `9.2 s`.
pub fn short_time(time: Duration) -> String {
    match time.as_millis() {
        ms if ms < 1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// `60,000`
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(columns: Option<usize>, act: impl FnOnce(&mut Screen<&mut Vec<u8>>)) -> String {
        let mut out = Vec::new();
        act(&mut Screen::new(&mut out, Instant::now(), columns));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_pipe_gets_plain_lines_and_no_status() {
        let text = written(None, |screen| {
            screen.text("head");
            screen.status("live", "100 readings/s");
            screen.event("ALERT", "truck-07");
            screen.event("summary", "");
        });
        assert_eq!(text, "head\n 0:00  ALERT     truck-07\n 0:00  summary\n");
    }

    #[test]
    fn a_terminal_has_its_status_line_rewritten_and_never_wrapped() {
        let text = written(Some(24), |screen| {
            screen.status("live", "100 readings/s and more");
            screen.event("live", "x");
            screen.event("y", "z");
        });
        let expected =
            format!("{CLEAR_LINE} 0:00  live      100 re{CLEAR_LINE} 0:00  live      x\n 0:00  y         z\n");
        assert_eq!(text, expected);
    }

    #[test]
    fn who_stops_reading_is_noticed() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut screen = Screen::new(Gone, Instant::now(), None);
        assert!(!screen.is_closed());
        screen.text("x");
        assert!(screen.is_closed());
    }

    #[test]
    fn numbers_and_times_are_for_people() {
        assert_eq!([0, 999, 1_000, 63_000, 1_234_567].map(count), ["0", "999", "1,000", "63,000", "1,234,567"]);
        assert_eq!([8, 75, 3_723].map(|s| clock(Duration::from_secs(s))), [" 0:08", " 1:15", "1:02:03"]);
        assert_eq!([21, 999, 9_210].map(|ms| short_time(Duration::from_millis(ms))), ["21 ms", "999 ms", "9.2 s"]);
    }
}
