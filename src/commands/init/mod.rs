//! `outrider init`: a first configuration, by options or by questions.
//!
//! What is written is read as `run` would read it before it is written, so it is never one that does not start. What it needs and is not there
//! yet, such as certificates, stands in it as a comment with the commands that make it.

mod answers;
mod questions;
mod text;

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{Exit, secrets};
use crate::config::host::Host;
use crate::config::{Configuration, Sources};
use crate::keys::problem::{Problem, Problems};
use answers::{Answers, Sink, Who};

const DEFAULT_FILE: &str = "outrider.toml";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct InitArguments {
    /// The file to write; - prints it instead
    #[arg(default_value = DEFAULT_FILE)]
    file: PathBuf,
    /// The name of this gateway in records and alerts [default: the name of the machine and the beginning of its id]
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// Who may connect
    #[arg(long, value_enum)]
    who: Option<Who>,
    /// Where clients connect [default: 127.0.0.1:1883, 0.0.0.0:8883 with TLS, 0.0.0.0:1883 for anybody]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where records go; several may be given [default: archive]
    #[arg(long = "sink", value_name = "KIND[=TARGET]")]
    sinks: Vec<Sink>,
    /// The region of sinks to AWS [default: AWS_REGION]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// How large the store may become, such as 2GiB [default: half of the free disk, at most 4GiB]
    #[arg(long, value_name = "SIZE")]
    store_size: Option<String>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

const HELP: &str = "\
Without any of these options, on a terminal, it asks. Sinks:
  archive                     compressed files on this machine
  kinesis=NAME, firehose=NAME streams NAME-raw and NAME-anomalies
  kafka=HOST:PORT/NAME        topics NAME-raw and NAME-anomalies
  s3=BUCKET                   a file every 15 minutes
  http=URL                    posts
  mqtt=URL                    messages to another broker
  outrider init --who certificates --sink archive --sink kinesis=fleet --region eu-central-1

Every key with its default is in config/outrider.toml of the program's source.

Exit codes:
   0  written
   1  the file is there, or cannot be written
   2  usage
  78  a name, an address or a size is wrong";

pub fn command(arguments: &InitArguments) -> ExitCode {
    let answers = match arguments.asks() {
        true => questions::ask(&mut io::stdin().lock(), &mut io::stderr(), &try_answers),
        false => Ok(arguments.answers()),
    };
    let answers = match answers {
        Ok(answers) => answers,
        Err(error) => {
            eprintln!("outrider: no answer: {error}");
            return Exit::RunTime.into();
        }
    };
    let beside = arguments.file.parent().unwrap_or(Path::new("")).to_owned();
    let text = text::of(&answers, &beside);
    if let Err(problems) = try_text(&answers, &arguments.file, &text) {
        eprintln!("{problems}\nnothing is written");
        return Exit::Configuration.into();
    }
    match write(arguments, &text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            eprintln!("outrider: {} is there; --force replaces it", arguments.file.display());
            Exit::RunTime.into()
        }
        Err(error) => {
            eprintln!("outrider: {} cannot be written: {error}", arguments.file.display());
            Exit::RunTime.into()
        }
    }
}

/// As `run` would read it, without variables.
fn parse(file: &Path, text: &str) -> Result<Configuration, Problems> {
    Configuration::parse(file, text, &Sources::default(), &Host::read())
}

/// What is wrong with answers, if something is: a question is asked again then.
fn try_answers(answers: &Answers) -> Result<(), String> {
    try_text(answers, Path::new(DEFAULT_FILE), &text::of(answers, Path::new("")))
}

/// The same of the text that was made of them. Their address may be in a comment of it.
fn try_text(answers: &Answers, file: &Path, text: &str) -> Result<(), String> {
    if answers.listen.parse::<SocketAddr>().is_err() {
        return Err(format!("{}: not an address and a port, such as {}", answers.listen, answers.who.listen()));
    }
    let Err(problems) = parse(file, text) else { return Ok(()) };
    let told = problems.iter().map(|Problem { key, value, message, .. }| match value {
        Some(value) => format!("{key} = {value}: {message}"),
        None => format!("{key}: {message}"),
    });
    Err(told.collect::<Vec<_>>().join("\n"))
}

/// It may name passwords and tokens.
const MODE: u32 = 0o640;

fn write(arguments: &InitArguments, text: &str) -> io::Result<()> {
    let InitArguments { file, force, .. } = arguments;
    if *file == Path::new("-") {
        // The reader may have closed the pipe early.
        let _ = io::stdout().write_all(text.as_bytes());
        return Ok(());
    }
    match force {
        true => secrets::write_with(file, text, MODE)?,
        false => {
            let mut open = OpenOptions::new();
            open.write(true).create_new(true).mode(MODE).open(file)?.write_all(text.as_bytes())?;
        }
    }
    let shown = file.display();
    eprintln!("{shown} is written; look through it, then:");
    if text.contains("\n# [[listener]]") {
        eprintln!("  make what the comments before [[listener]] name: without it only this machine connects");
    }
    eprintln!("  outrider check --config {shown}     what it would run");
    eprintln!("  outrider run --config {shown}");
    eprintln!("  outrider doctor --config {shown}    whether all is well");
    Ok(())
}

impl InitArguments {
    /// On a terminal, and if nothing is answered yet.
    fn asks(&self) -> bool {
        let InitArguments { id, who, listen, sinks, region, store_size, .. } = self;
        let is_answered = id.is_some()
            || who.is_some()
            || listen.is_some()
            || !sinks.is_empty()
            || region.is_some()
            || store_size.is_some();
        !is_answered && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    fn answers(&self) -> Answers {
        let who = self.who.unwrap_or_default();
        Answers {
            id: self.id.clone(),
            who,
            listen: self.listen.clone().unwrap_or_else(|| who.listen().to_owned()),
            sinks: if self.sinks.is_empty() { vec![Sink::Archive] } else { self.sinks.clone() },
            region: self.region.clone(),
            store_size: self.store_size.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(answers: &Answers, beside: &Path) -> String {
        let text = text::of(answers, beside);
        if let Err(problems) = parse(&beside.join(DEFAULT_FILE), &text) {
            panic!("{problems}\n{text}");
        }
        text
    }

    #[test]
    fn whatever_is_answered_becomes_a_configuration() {
        let sinks = [
            "archive",
            "kinesis=fleet",
            "firehose=fleet",
            "kafka=b:9092/fleet",
            "s3=lake",
            "http=https://x/in",
            "mqtt=mqtts://b",
        ];
        let sinks: Vec<Sink> = sinks.iter().map(|text| text.parse().expect("a sink")).collect();
        for who in [Who::Local, Who::Certificates, Who::Passwords, Who::Anybody] {
            for count in 1..=sinks.len() {
                let answers = Answers {
                    id: Some("truck \"7\"".to_owned()),
                    who,
                    listen: who.listen().to_owned(),
                    sinks: sinks[..count].to_vec(),
                    region: Some("eu-central-1".to_owned()),
                    store_size: Some("1GiB".to_owned()),
                };
                let text = text_of(&answers, Path::new("/nowhere"));
                assert_eq!(text.matches("\n[[sink]]").count(), count);
                text_of(&Answers { id: None, region: None, store_size: None, ..answers }, Path::new("/nowhere"));
            }
        }
    }

    #[test]
    fn a_listener_is_in_force_once_what_it_needs_is_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let answers = Answers { who: Who::Anybody, ..Answers::default() };
        assert!(text_of(&answers, folder.path()).contains("\ninsecure = true"));
        let answers = Answers { who: Who::Certificates, listen: "0.0.0.0:8883".to_owned(), ..Answers::default() };
        let before = text_of(&answers, folder.path());
        assert!(before.contains("\n# [[listener]]") && before.contains("outrider cert init"), "{before}");
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (answers, words) in [
            (Answers { listen: "here".to_owned(), ..Answers::default() }, "here: not an address"),
            (Answers { listen: "here".to_owned(), who: Who::Certificates, ..Answers::default() }, "not an address"),
            (Answers { store_size: Some("many".to_owned()), ..Answers::default() }, "store.size_max"),
            (Answers { sinks: vec![Sink::Http("ftp://x".to_owned())], ..Answers::default() }, "url"),
        ] {
            let said = try_answers(&answers).expect_err(words);
            assert!(said.contains(words), "{said}");
        }
        for text in ["kinesis", "kafka=x", "tape=1", "archive=x"] {
            assert!(text.parse::<Sink>().is_err(), "{text}");
        }
    }
}
