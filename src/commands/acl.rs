//! `outrider acl test`: who may do what, and what decides.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::Exit;
use super::configuration::ConfigArguments;
use crate::config::Configuration;
use crate::core::mqtt::access::{Action, Identity};
use crate::core::mqtt::topic;

#[derive(Debug, Subcommand)]
pub enum AclCommand {
    /// Say whether a client may publish, subscribe or acknowledge, and which right or line decides
    Test(TestArguments),
}

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct TestArguments {
    /// The configuration file [default: as for `outrider run`]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The listener that the client comes by [default: the first]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The user that the client logs in as
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// What the client's certificate says
    #[arg(long, value_name = "NAME")]
    cn: Option<String>,
    /// What the client calls itself
    #[arg(long, value_name = "ID", default_value = "")]
    client_id: String,
    action: AskedAction,
    /// A topic, or a filter to subscribe to
    topic: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AskedAction {
    Publish,
    Subscribe,
    /// To be sent a message
    Receive,
    /// An alert, on its topic alerts/DEVICE/METRIC/KIND/ack
    Acknowledge,
}

const HELP: &str = "\
Without --user and --cn the client is anonymous.
  outrider acl test --config outrider.toml --user truck-7 publish devices/truck-7/speed

Exit codes:
   0  it may
   1  it may not
   2  usage
  78  the configuration is wrong";

pub fn command(command: &AclCommand) -> ExitCode {
    let AclCommand::Test(arguments) = command;
    let configuration = match ConfigArguments::of(arguments.config.clone(), None).load() {
        Ok(configuration) => configuration,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::Configuration.into();
        }
    };
    match decide(&configuration, arguments) {
        Ok((is_allowed, text)) => {
            println!("{text}");
            if is_allowed { ExitCode::SUCCESS } else { Exit::RunTime.into() }
        }
        Err(problem) => {
            eprintln!("outrider: {problem}");
            Exit::RunTime.into()
        }
    }
}

fn decide(configuration: &Configuration, arguments: &TestArguments) -> Result<(bool, String), String> {
    let TestArguments { listener, user, cn, client_id, topic, .. } = arguments;
    let listeners = &configuration.listeners;
    let names: Vec<&str> = listeners.listeners.iter().map(|listener| listener.name.as_str()).collect();
    let at = match listener {
        None => 0,
        Some(name) => names
            .iter()
            .position(|known| known == name)
            .ok_or_else(|| format!("no listener is called {name}; there are {}", names.join(", ")))?,
    };
    let action = match arguments.action {
        AskedAction::Publish => Action::Publish,
        AskedAction::Subscribe => Action::Subscribe,
        AskedAction::Receive => Action::Receive,
        AskedAction::Acknowledge => Action::Acknowledge,
    };
    let checked = match action {
        Action::Subscribe => topic::check_filter(topic),
        _ => topic::check_topic(topic),
    };
    checked.map_err(|error| format!("\"{}\" {}", topic.escape_debug(), error.reason()))?;
    let identity = Identity {
        name: user.clone().or(cn.clone()),
        user: user.clone(),
        cn: cn.clone(),
        client_id: client_id.clone(),
    };
    let permissions = listeners.policies[at].access.permissions(&identity);
    let decision = permissions.decide(action, topic);
    let word = if decision.is_allowed() { "allowed" } else { "refused" };
    Ok((decision.is_allowed(), format!("{word}: {}", decision.by)))
}
