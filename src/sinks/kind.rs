//! What a kind of sink declares, and what a `[[sink]]` of that kind becomes.

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::aws::role_alias::RoleAlias;
use super::links::Travel;
use super::probe::{Probe, Probing};
use super::start::{SinkThread, StartError, Starting};
use crate::core::identity::{NamedStream, Stream};
use crate::keys::key::Key;
use crate::keys::problem::near_miss;
use crate::keys::section::Section;

/// One kind of sink, as its folder declares it.
pub struct SinkKind {
    /// The `type` of its `[[sink]]`.
    pub name: &'static str,
    /// The `name` of the example in the reference.
    pub example: &'static str,
    /// Whether it sends requests of records, so that it has the keys of [`Group::Travel`](crate::keys::key::Group::Travel).
    pub sends_records: bool,
    /// The keys of its group, `Group::SinkOf(name)`.
    pub keys: &'static [Key],
    /// Reads a section of this type. Problems are reported to the section; if there are any, the returned sink is not started.
    pub read: fn(&mut Section<'_>, &Surroundings<'_>) -> Arc<dyn ConfiguredSink>,
}

/// What a sink may need to know besides its own section.
pub struct Surroundings<'a> {
    pub state_folder: &'a Path,
    /// The folder of the configuration, where relative paths of certificates begin.
    pub beside: &'a Path,
    /// Streams of the configuration, besides the built-in ones.
    pub streams: &'a [NamedStream],
    /// Where credentials for services of AWS come from, if not from where the tools of AWS find them.
    pub role_alias: Option<Arc<RoleAlias>>,
}

impl Surroundings<'_> {
    /// Reports a stream that a section names in this key, if the configuration has none of that name.
    pub fn expect_stream(&self, section: &mut Section<'_>, key: &str, name: &str) {
        let built_in = Stream::BUILT_IN.map(|(_, name)| name);
        let known: Vec<&str> = built_in.into_iter().chain(self.streams.iter().map(|stream| &*stream.name)).collect();
        if known.contains(&name) {
            return;
        }
        section.blame(
            key,
            match near_miss(name, known.iter().copied()) {
                Some(meant) => format!("there is no stream {name}; did you mean `{meant}`?"),
                None => format!(
                    "there is no stream {name}; add a [[stream]] with name = \"{name}\", or name one of {}",
                    known.join(", ")
                ),
            },
        );
    }
}

/// A sink as it is configured.
pub trait ConfiguredSink: Any + fmt::Debug + Send + Sync {
    /// Whether it reads the stream of this name.
    fn takes(&self, stream: &str) -> bool;

    /// What `check` prints about it, after its name.
    fn describe(&self) -> String;

    /// Notes printed by `check` about settings that are allowed but may surprise.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Why this sink and another one cannot both be: each would destroy what the other has stored, or keep it from its work. Asked of each sink that has a
    /// section before this one's.
    fn conflict(&self, _: &Neighbour<'_>, _: &Surroundings<'_>) -> Option<Conflict> {
        None
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError>;

    /// Tries whether it can be reached and would be let in, without sending it anything that it keeps. Takes as long as the time limits of its
    /// section say, at most.
    fn probe<'a>(&'a self, probing: &'a Probing) -> Probe<'a>;
}

/// Another sink of the configuration.
#[derive(Clone, Copy)]
pub struct Neighbour<'a> {
    pub name: &'a str,
    pub sink: &'a (dyn ConfiguredSink + 'static),
}

impl<'a> Neighbour<'a> {
    /// As one of this kind.
    pub fn of<Kind: ConfiguredSink>(&self) -> Option<&'a Kind> {
        let sink: &dyn Any = self.sink;
        sink.downcast_ref()
    }
}

/// Why a sink cannot be beside another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Of these keys the first that the section has is to blame.
    pub keys: &'static [&'static str],
    /// Goes on behind the name of the sink, names the other one, and says what would be right.
    pub text: String,
}

/// One `[[sink]]`.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    pub name: String,
    pub kind: &'static str,
    pub sink: Arc<dyn ConfiguredSink>,
    pub travel: Travel,
}

impl SinkSettings {
    /// The first `[[sink]]` disables the built-in archive, which somebody who adds one may not expect.
    pub const NO_ARCHIVE: &str = "no files are written: the built-in archive is there only while the configuration names no [[sink]]; to \
                                  keep it, add a [[sink]] with name = \"archive\" and type = \"archive\"";

    /// Whether it reads the stream of this name.
    pub fn takes(&self, stream: &str) -> bool {
        self.sink.takes(stream)
    }
}
