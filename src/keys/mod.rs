//! The language of the configuration: what a key is, which values it allows, how a section is read, and how problems are reported.
//!
//! The keys themselves are declared in [`crate::config::reference`], and those of a sink in its folder. This is a separate module because
//! the configuration depends on the sinks, and both depend on this.

pub mod actions;
pub mod broker;
pub mod key;
pub mod kind;
mod places;
pub mod problem;
pub mod raw;
mod route_test;
mod rule_test;
pub mod section;
pub mod tls_files;
pub mod units;
pub mod value;
