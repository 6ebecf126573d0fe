//! Bridges: which topics pass between our broker and another one, under which names, and which messages are commands.
//!
//! Pure: lines of the configuration become a [`Plan`], which maps topics both ways and knows no loop; [`command`] says what a message on a
//! command topic is; [`ids`] remembers which commands there were; [`kept`] is how that is stored; [`refused`] says what becomes of a
//! message that the other broker refuses, and [`trouble`] what the alert of a bridge says.

pub mod command;
pub mod ids;
pub mod kept;
pub mod line;
pub mod overlap;
pub mod plan;
pub mod refused;
pub mod retry;
pub mod trouble;

pub use command::{CommandSettings, Refusal};
pub use line::{Direction, Line, LineError};
pub use plan::{NoWay, Plan, Problem};
