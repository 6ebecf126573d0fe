//! `outrider rules`: tries and tests rules, replays recorded data through them, takes over those of AWS IoT, and lists those of the running
//! gateway.

mod backtest;
mod eval;
mod import;
mod list;
mod recorded;
mod replay;
pub mod test;

use std::process::ExitCode;

use clap::Subcommand;

use super::operate::Place;
use crate::core::rules::ParseError;

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List the rules of the running gateway, with what each has done since its start
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Evaluate statements: reads lines of JSON with `sql`, `topic`, `payload` or `payload_base64`, and if wanted `client_id`,
    /// `timestamp_ms` and `properties`, and answers each with a line
    Eval,
    /// Print rules of AWS IoT Core as configuration
    Import(import::ImportArguments),
    /// Run the tests that files give with their rules
    Test(test::TestArguments),
    /// Replay recorded data through the rules of a file: how often would each have held, and which alerts would it have raised?
    Backtest(backtest::BacktestArguments),
}

pub fn command(command: &RulesCommand) -> ExitCode {
    match command {
        RulesCommand::List { json, place } => list::command(place, *json),
        RulesCommand::Eval => eval::command(),
        RulesCommand::Import(arguments) => import::command(arguments),
        RulesCommand::Test(arguments) => test::command(arguments),
        RulesCommand::Backtest(arguments) => backtest::command(arguments),
    }
}

/// What is wrong with a statement, without its place.
fn with_hint(error: &ParseError) -> String {
    match error.hint() {
        Some(hint) => format!("{}: {hint}", error.fault),
        None => error.fault.to_string(),
    }
}
