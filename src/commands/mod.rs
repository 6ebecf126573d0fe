//! The program's commands and exit codes.

mod acl;
#[cfg(test)]
mod book;
mod bridge;
mod buffer;
mod cert;
mod check;
mod completions;
mod config;
mod configuration;
#[cfg(feature = "demo")]
pub mod demo;
pub mod detect;
mod diag;
mod doctor;
mod environment;
mod file;
mod init;
mod log_limit;
mod logging;
mod manual;
mod operate;
mod passwd;
mod port_holder;
mod rules;
pub mod run;
mod secrets;
mod status;
mod text;
mod token;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// IoT edge-to-cloud telemetry gateway: takes readings over MQTT, keeps them in SQLite until they are delivered, watches each series
/// over ten seconds, alerts over MQTT, and forwards everything to cloud streams.
#[derive(Debug, Parser)]
#[command(name = "outrider", version, after_help = examples())]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn examples() -> String {
    let demo = if cfg!(feature = "demo") { EXAMPLE_OF_DEMO } else { "" };
    format!("Examples:\n{demo}{EXAMPLES}")
}

const EXAMPLE_OF_DEMO: &str = "  What does it do? Half a minute with a simulated fleet:
    outrider demo --for 30s
";

const EXAMPLES: &str = "  The gateway on port 1883 of this machine, with nothing to set up:
    outrider run
  What would this configuration do, or what is wrong with it?
    outrider check --config outrider.toml
  What does the running gateway store, watch and refuse?
    outrider status
  Is everything well, and if not, what is to be done?
    outrider doctor
  Which readings of a file stand out?
    outrider detect readings.csv

`outrider COMMAND --help` says more about each of them.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until a signal stops it
    Run(run::RunArguments),
    /// Write a first configuration, by questions or by options
    Init(init::InitArguments),
    /// Show what is wrong with a configuration, or what it would run
    Check(check::CheckArguments),
    /// Demonstrate the gateway with a simulated fleet, faults, a cut link, and a summary
    #[cfg(feature = "demo")]
    Demo(demo::DemoArguments),
    /// Find anomalies in a file of series,timestamp_ms,value lines, with the gateway's own detectors
    Detect(detect::DetectArguments),
    /// Show what the running gateway stores, watches and refuses, and why
    Status(status::StatusArguments),
    /// Look at everything that a gateway needs, and say what is not well and what to do about it
    Doctor(doctor::DoctorArguments),
    /// Collect what is needed to find out what is wrong
    #[command(subcommand)]
    Diag(diag::DiagCommand),
    /// Forget series of the running gateway
    #[command(subcommand)]
    Series(operate::SeriesCommand),
    /// Clear alerts of the running gateway
    #[command(subcommand)]
    Alerts(operate::AlertsCommand),
    /// Look at the files that the running gateway reads
    #[command(subcommand)]
    File(file::FileCommand),
    /// Look at what the store holds, check it, print it, and send again what sinks have refused
    #[command(subcommand)]
    Buffer(buffer::BufferCommand),
    /// Drop sinks that the running gateway's configuration no longer names
    #[command(subcommand)]
    Sinks(operate::SinksCommand),
    /// Try rules, and list those of the running gateway
    #[command(subcommand)]
    Rules(rules::RulesCommand),
    /// Load rules, certificates, users, rights and tokens of the running gateway again
    Reload(operate::Place),
    /// Show the configuration, each value with where it comes from
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a script with which a shell completes commands and options
    Completions(completions::CompletionsArguments),
    /// Write the pages for man into a folder
    #[command(hide = true)]
    Manual(manual::ManualArguments),
    /// Make and revoke certificates for a gateway and its devices
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Let a user log in, with a password or a token
    Passwd(passwd::PasswdArguments),
    /// Let somebody use the administration interface, with a token
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Try what clients may do
    #[command(subcommand)]
    Acl(acl::AclCommand),
}

/// Exit codes other than 0; clap uses 2 for usage errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    RunTime = 1,
    /// Another process uses the state folder: it may be gone the next time.
    Temporary = 75,
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Parses the arguments, and runs the command.
pub fn run_command() -> ExitCode {
    let matches = Arguments::command().get_matches();
    environment::take(&matches);
    match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => dispatch(arguments),
        Err(error) => error.exit(),
    }
}

fn dispatch(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Run(arguments) => run::command(&arguments),
        Command::Init(arguments) => init::command(&arguments),
        Command::Check(arguments) => check::command(&arguments),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::command(&arguments),
        Command::Detect(arguments) => detect::command(&arguments),
        Command::Status(arguments) => status::command(&arguments),
        Command::Diag(command) => diag::command(&command),
        Command::Doctor(arguments) => doctor::command(&arguments),
        Command::Series(command) => operate::series(&command),
        Command::Alerts(command) => operate::alerts(&command),
        Command::File(command) => file::command(&command),
        Command::Buffer(command) => buffer::command(&command),
        Command::Sinks(command) => operate::sinks(&command),
        Command::Rules(command) => rules::command(&command),
        Command::Reload(place) => operate::reload(&place),
        Command::Completions(arguments) => completions::command(&arguments),
        Command::Manual(arguments) => manual::command(&arguments),
        Command::Config(command) => config::command(&command),
        Command::Cert(command) => cert::command(&command),
        Command::Passwd(arguments) => passwd::command(&arguments),
        Command::Token(command) => token::command(&command),
        Command::Acl(command) => acl::command(&command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_examples_of_the_help_are_understood() {
        let examples = examples();
        let lines: Vec<_> = examples.lines().filter(|line| line.starts_with("    outrider")).collect();
        assert_eq!(lines.len(), if cfg!(feature = "demo") { 6 } else { 5 });
        for line in lines {
            let parsed = Arguments::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }
}
