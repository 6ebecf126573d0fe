//! The language of the configuration: what a key is, what values it takes, how a section is read, and what is wrong with one.
//!
//! The keys themselves are declared in [`crate::config::reference`], and those of a sink in its folder, for which this is a module of its own:
//! the configuration knows the sinks, and sinks know this.

pub mod key;
pub mod kind;
pub mod problem;
pub mod raw;
pub mod section;
pub mod units;
mod value;
