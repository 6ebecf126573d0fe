//! AWS IoT SQL, version 2016-03-23: the language of rules. `docs/RULES.md` says what it means, and where the reference was unclear.
//!
//! A [`Statement`] is parsed once: its constants are folded, its constant regular expressions compiled. Evaluated for a message it borrows
//! from the payload, which is parsed once for all rules. Everything is bounded: length, nesting, steps, texts and results. Nothing that a
//! statement or a payload says panics.
//!
//! ```text
//! number <- document <- value <- context <- functions <- syntax <- evaluate <- parser <- statement, template
//! ```
//!
//! Deliberately absent: a clock, randomness and the network. Time and seed come with the message.

mod context;
mod document;
mod evaluate;
mod functions;
mod geofence;
mod lexer;
mod lookup;
mod number;
mod parser;
mod problem;
mod properties;
mod statement;
mod syntax;
mod template;
mod value;
mod window;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;

pub use context::{Allowance, Context, Names, Payload, STEPS_MAX, STEPS_TOGETHER_MAX, is_basic_ingest, trace_id};
pub use document::{Content, DEPTH_MAX, NODES_MAX, NodeRef};
pub use geofence::{Crossing, POINTS_MAX, Place, Side, ZONES_BYTES_MAX, ZONES_MAX, ZoneFault, Zones, ZonesError};
pub use lookup::{ROW_BYTES_MAX, ROWS_MAX, TABLE_BYTES_MAX, Table, TableError};
pub use number::{Number, Rounding};
pub use parser::{EXPRESSION_DEPTH_MAX, ExtraFunction, NESTING_MAX, STATEMENT_BYTES_MAX, Vocabulary};
pub use problem::{EvaluationError, ParseError, ParseFault, Warning};
pub use properties::GivenProperties;
pub use statement::{Expression, Match, Statement};
pub use syntax::ExtraCall;
pub use template::{Rendered, Template};
pub use value::{RESULT_BYTES_MAX, TEXT_BYTES_MAX, Value};
pub use window::{SAMPLES_MAX, SampleWindow, Statistic};
