//! Logs on standard error: text, coloured on a terminal, without times if the journal adds its own; or JSON.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use clap::{Args, ValueEnum};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::log_limit::Limited;
use crate::keys::problem::Problems;

/// Directives such as `outrider::mqtt=debug`, to investigate something in particular.
const VARIABLE: &str = "OUTRIDER_LOG";

#[derive(Debug, Args)]
pub struct LogArguments {
    /// How logs are written, on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    log_format: LogFormat,
    /// What is logged: this level and above; OUTRIDER_LOG takes finer directives
    #[arg(long, value_name = "LEVEL", value_enum)]
    log_level: Option<LogLevel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

impl LogArguments {
    /// Starts logging for the whole process.
    pub fn start(&self) {
        let (filter, error) = self.filter(std::env::var(VARIABLE).ok());
        let logs = tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter(filter).with_target(false);
        match self.log_format {
            LogFormat::Json => {
                let logs = logs.json().flatten_event(true).with_target(true);
                logs.map_event_format(|format| Limited::new(format, note_json)).init();
            }
            LogFormat::Text if is_journal() => {
                let lines = Format::default().without_time().with_target(false).with_level(false).with_ansi(false);
                logs.with_ansi(false).event_format(Limited::new(JournalLines(lines), note_journal)).init();
            }
            LogFormat::Text => {
                let logs = logs.with_ansi(io::stderr().is_terminal() && !is_colour_unwanted());
                logs.map_event_format(|format| Limited::new(format, note_text)).init();
            }
        }
        if let Some(error) = error {
            tracing::warn!("{VARIABLE} is not understood and is ignored: {error}");
        }
    }

    /// Reports the problems of the configuration to where logs go. In text, each problem is just its line.
    pub fn report(&self, problems: &Problems) {
        match self.log_format {
            LogFormat::Text => eprintln!("{problems}"),
            LogFormat::Json => problems.iter().for_each(|problem| tracing::error!("{problem}")),
        }
    }

    fn filter(&self, variable: Option<String>) -> (EnvFilter, Option<impl fmt::Display>) {
        let level = self.log_level.map_or("info", LogLevel::name);
        // Log lines of libraries would only distract; the one that looks for credentials would warn at each attempt about what the sink
        // reports once.
        let usual = EnvFilter::new(format!("warn,aws_config=error,outrider={level}"));
        match variable.filter(|_| self.log_level.is_none()) {
            Some(directives) => match EnvFilter::try_new(directives) {
                Ok(filter) => (filter, None),
                Err(error) => (usual, Some(error)),
            },
            None => (usual, None),
        }
    }
}

/// <https://no-color.org>
fn is_colour_unwanted() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Whether standard error is the journal's own socket. The variable alone does not show that: programs started from a desktop inherit it.
fn is_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let errors = io::stderr().as_fd().try_clone_to_owned().and_then(|errors| File::from(errors).metadata());
    errors.is_ok_and(|errors| stream == format!("{}:{}", errors.dev(), errors.ino()))
}

const LEFT_OUT: &str = "lines like the next one were left out";

fn note_text(writer: &mut Writer<'_>, level: Level, count: u64) -> fmt::Result {
    SystemTime.format_time(writer)?;
    writeln!(writer, " {level:>5} {count} {LEFT_OUT}")
}

fn note_journal(writer: &mut Writer<'_>, level: Level, count: u64) -> fmt::Result {
    writeln!(writer, "<{}>{count} {LEFT_OUT}", priority(level))
}

fn note_json(writer: &mut Writer<'_>, level: Level, count: u64) -> fmt::Result {
    writer.write_str("{\"timestamp\":\"")?;
    SystemTime.format_time(writer)?;
    writeln!(writer, "\",\"level\":\"{level}\",\"message\":\"{LEFT_OUT}\",\"left_out\":{count}}}")
}

/// Each line begins with the level in the journal's format, `<6>`.
struct JournalLines(Format<Full, ()>);

impl<S, N> FormatEvent<S, N> for JournalLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(log_level: Option<LogLevel>, variable: Option<&str>) -> (String, bool) {
        let arguments = LogArguments { log_format: LogFormat::Text, log_level };
        let (filter, error) = arguments.filter(variable.map(str::to_owned));
        (filter.to_string(), error.is_some())
    }

    #[test]
    fn the_argument_wins_over_the_variable_and_nonsense_over_nothing() {
        assert_eq!(filter(None, None), ("aws_config=error,outrider=info,warn".to_owned(), false));
        assert_eq!(
            filter(Some(LogLevel::Debug), Some("trace")),
            ("aws_config=error,outrider=debug,warn".to_owned(), false)
        );
        assert_eq!(filter(None, Some("outrider::mqtt=trace")), ("outrider::mqtt=trace".to_owned(), false));
        assert_eq!(filter(None, Some("=&%")), ("aws_config=error,outrider=info,warn".to_owned(), true));
    }

    /// Where a subscriber of the test writes to.
    #[derive(Clone, Default)]
    struct Written(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one writer").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().expect("one writer").clone()).expect("text");
            text.lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn what_repeats_itself_hides_nothing_else() {
        let written = Written::default();
        let to = written.clone();
        let logs = tracing_subscriber::fmt().with_writer(move || to.clone()).json().flatten_event(true);
        let logs = logs.map_event_format(|format| Limited::new(format, note_json)).finish();
        tracing::subscriber::with_default(logs, || {
            for number in 0..1_000 {
                tracing::warn!(number, "again");
                tracing::debug!("only on demand");
            }
            for sink in ["one", "two"] {
                for _ in 0..100 {
                    tracing::error!(sink, "halted");
                }
            }
            for _ in 0..100 {
                tracing::info!(target: "outrider::audit", "somebody did something");
            }
        });
        let lines = written.lines();
        let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        assert_eq!([count("again"), count("\"sink\":\"one\""), count("\"sink\":\"two\"")], [50, 50, 50]);
        assert_eq!(count("somebody"), 100, "who did what is there, always");
        let mut note = String::new();
        note_json(&mut Writer::new(&mut note), Level::WARN, 7).expect("a string takes it");
        let note: serde_json::Value = serde_json::from_str(&note).expect("JSON");
        assert_eq!((&note["left_out"], &note["level"]), (&7.into(), &"WARN".into()));
    }
}
