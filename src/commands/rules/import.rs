//! `outrider rules import`: rules of AWS IoT Core as configuration of the gateway.
//!
//! Everything that a rule does is translated, or the import is refused and names what is in the way: a rule that silently does less than in
//! the cloud would be found out too late.

mod action;
mod intrinsic;
mod print;
mod source;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use action::{ActionFault, Actions, StreamNames};
use source::{Source, SourceError};

use super::with_hint;
use crate::commands::Exit;
use crate::core::rules::{ParseError, Statement};

/// Longest file that is read, in bytes. A template of CloudFormation has a MiB at most.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The only version of the language that is spoken here.
const SQL_VERSION: &str = "2016-03-23";
/// Longest name of a rule, in bytes.
const NAME_BYTES_MAX: usize = 128;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct ImportArguments {
    /// The file; - reads standard input
    file: PathBuf,
}

const HELP: &str = "\
FILE is what `aws iot get-topic-rule --rule-name NAME` prints, or a template of
CloudFormation, in JSON or YAML, with resources of type AWS::IoT::TopicRule. The
rules are printed as TOML, with a comment for each action that needs something
more to be configured:
  aws iot get-topic-rule --rule-name hot | outrider rules import - > hot.toml

Exit codes:
   0  the rules are on standard output
   1  the file cannot be read, or something in it cannot be translated: each
      problem is a line on standard error, and nothing is printed
   2  usage";

/// A rule in our form.
#[derive(Debug)]
struct Rule {
    name: String,
    sql: String,
    is_enabled: bool,
    /// For people: what the rule is for, and what is to be looked at.
    comments: Vec<String>,
    actions: Actions,
    error_actions: Option<Actions>,
}

/// Why nothing is imported.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("cannot read {}: {error}", file.display())]
    Read { file: PathBuf, error: io::Error },
    #[error("the file has more than {FILE_BYTES_MAX} bytes")]
    TooLong,
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("rule {rule}: {fault}")]
    Rule { rule: String, fault: RuleFault },
}

/// What is in the way of a rule.
#[derive(Debug, thiserror::Error)]
enum RuleFault {
    #[error("a name is 1 to {NAME_BYTES_MAX} letters, digits, _ or -")]
    Name,
    #[error("another rule has this name")]
    SameName,
    #[error("it has no sql")]
    NoSql,
    #[error("{member} depends on the template's parameters or on other resources: write it out")]
    Unresolved { member: &'static str },
    #[error("{member} is true or false")]
    NotBoolean { member: &'static str },
    #[error(
        "it has no awsIotSqlVersion, which stands for 2015-10-08 there: set it to {SQL_VERSION} where the rule is defined, see that the \
         statement still means the same, and import it again"
    )]
    NoVersion,
    #[error(
        "its awsIotSqlVersion is {version}: set it to {SQL_VERSION} where the rule is defined, see that the statement still means the same, \
         and import it again"
    )]
    OtherVersion { version: String },
    #[error("sql, line {}, column {}: {}", .0.line, .0.column, with_hint(.0))]
    Statement(ParseError),
    #[error("{member} is a list")]
    NotAList { member: &'static str },
    #[error("{place}: {fault}")]
    Action { place: String, fault: ActionFault },
}

pub fn command(arguments: &ImportArguments) -> ExitCode {
    let imported = read(&arguments.file).map_err(|problem| vec![problem]).and_then(|text| import(&text));
    match imported {
        Ok(toml) => match io::stdout().write_all(toml.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                Exit::RunTime.into()
            }
        },
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            Exit::RunTime.into()
        }
    }
}

fn read(file: &Path) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let mut input: Box<dyn Read> = match file.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => Box::new(File::open(file).map_err(|error| Problem::Read { file: file.to_owned(), error })?),
    };
    let len = input.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let text = len.and_then(|len| match len as u64 > FILE_BYTES_MAX {
        true => Ok(None),
        false => String::from_utf8(bytes).map(Some).map_err(io::Error::other),
    });
    text.map_err(|error| Problem::Read { file: file.to_owned(), error })?.ok_or(Problem::TooLong)
}

/// The rules of a file as TOML, or everything that is in the way.
fn import(text: &str) -> Result<String, Vec<Problem>> {
    let sources = source::rules(text).map_err(|error| vec![error.into()])?;
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    let (mut names, mut streams) = (BTreeSet::new(), StreamNames::default());
    for source in sources {
        let (name, is_new) = (source.name.clone(), names.insert(source.name.clone()));
        match rule(source, &mut streams) {
            Ok(_) if !is_new => problems.push(Problem::Rule { rule: name, fault: RuleFault::SameName }),
            Ok(rule) => rules.push(rule),
            Err(faults) => {
                problems.extend(faults.into_iter().map(|fault| Problem::Rule { rule: name.clone(), fault }));
            }
        }
    }
    if problems.is_empty() { Ok(print::toml(&rules)) } else { Err(problems) }
}

/// The rule, or all that is in its way.
fn rule(source: Source, streams: &mut StreamNames) -> Result<Rule, Vec<RuleFault>> {
    let Source { name, payload, comments } = source;
    let mut faults = Vec::new();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(is_name) {
        faults.push(RuleFault::Name);
    }
    let is_enabled = is_disabled(&payload).map(|is_disabled| !is_disabled);
    let statement = statement(&payload);
    let variable_names = statement.as_ref().map_or(&[][..], |(_, statement)| statement.variable_names());
    let mut translator = action::Translator { streams, variable_names, faults: Vec::new() };
    let actions = translator.actions(source::field(&payload, "actions"));
    let error_actions = source::field(&payload, "errorAction").map(|action| translator.error_action(action));
    let action_faults = std::mem::take(&mut translator.faults);
    let comments = comments.into_iter().chain(description(&payload));
    match (is_enabled, statement) {
        (Ok(is_enabled), Ok((sql, statement))) if faults.is_empty() && action_faults.is_empty() => {
            let warnings = statement.warnings().iter();
            let warnings = warnings
                .map(|warning| format!("sql, line {}, column {}: {}", warning.line, warning.column, warning.text));
            let comments = comments.chain(warnings).collect();
            Ok(Rule { name, sql, is_enabled, comments, actions, error_actions })
        }
        (is_enabled, statement) => {
            faults.extend(is_enabled.err());
            faults.extend(statement.err());
            faults.extend(action_faults);
            Err(faults)
        }
    }
}

fn description(payload: &Value) -> Option<String> {
    source::field(payload, "description").and_then(intrinsic::plain).filter(|text| !text.trim().is_empty())
}

fn is_disabled(payload: &Value) -> Result<bool, RuleFault> {
    let member = "ruleDisabled";
    match source::field(payload, member) {
        None => Ok(false),
        Some(Value::Bool(is_disabled)) => Ok(*is_disabled),
        Some(other) => match intrinsic::plain(other).as_deref() {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(RuleFault::NotBoolean { member }),
            None => Err(RuleFault::Unresolved { member }),
        },
    }
}

/// The statement as it is written, and as it is read.
fn statement(payload: &Value) -> Result<(String, Statement), RuleFault> {
    let sql = source::field(payload, "sql").ok_or(RuleFault::NoSql)?;
    let sql = intrinsic::plain(sql).ok_or(RuleFault::Unresolved { member: "sql" })?;
    let version = source::field(payload, "awsIotSqlVersion").ok_or(RuleFault::NoVersion)?;
    let version = intrinsic::plain(version).ok_or(RuleFault::Unresolved { member: "awsIotSqlVersion" })?;
    if version != SQL_VERSION {
        return Err(RuleFault::OtherVersion { version: version.chars().take(64).collect() });
    }
    let statement = Statement::parse(&sql).map_err(RuleFault::Statement)?;
    Ok((sql, statement))
}
