//! What a kind of sink declares, and what a `[[sink]]` of that kind becomes.

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::start::{SinkThread, StartError, Starting};
use crate::core::identity::Stream;
use crate::keys::key::Key;
use crate::keys::section::Section;

/// One kind of sink, as its folder declares it.
pub struct SinkKind {
    /// The `type` of its `[[sink]]`.
    pub name: &'static str,
    /// The `name` of the example in the reference.
    pub example: &'static str,
    /// The keys of its group, `Group::SinkOf(name)`.
    pub keys: &'static [Key],
    /// Reads a section of this type. Problems are reported to the section; if there are any, the returned sink is not started.
    pub read: fn(&mut Section<'_>, &Surroundings<'_>) -> Arc<dyn ConfiguredSink>,
}

/// What a sink may need to know besides its own section.
pub struct Surroundings<'a> {
    pub state_folder: &'a Path,
}

/// A sink as it is configured.
pub trait ConfiguredSink: Any + fmt::Debug + Send + Sync {
    /// Whether it reads this stream of the store.
    fn takes(&self, stream: Stream) -> bool;

    /// What `check` prints about it, after its name.
    fn describe(&self) -> String;

    /// Notes printed by `check` about settings that are allowed but may surprise.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// A folder that no other sink may write to.
    fn folder(&self) -> Option<&Path> {
        None
    }

    fn start(&self, starting: &mut Starting<'_>) -> Result<SinkThread, StartError>;
}

/// One `[[sink]]`.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    pub name: String,
    pub kind: &'static str,
    pub sink: Arc<dyn ConfiguredSink>,
}

impl SinkSettings {
    /// The first `[[sink]]` disables the built-in archive, which somebody who adds one may not expect.
    pub const NO_ARCHIVE: &str = "no files are written: the built-in archive is there only while the configuration names no [[sink]]; to \
                                  keep it, add a [[sink]] with name = \"archive\" and type = \"archive\"";

    /// Whether it reads this stream of the store.
    pub fn takes(&self, stream: Stream) -> bool {
        self.sink.takes(stream)
    }
}
