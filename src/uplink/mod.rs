//! Connections to other MQTT brokers: the sockets around [`core::mqtt::client`](crate::core::mqtt::client).
//!
//! ```text
//! broker, counted <- transport <- connection
//! ```
//!
//! [`open`] connects, logs in, and returns a [`Handle`] to publish and subscribe, and [`Incoming`], where messages arrive. Everything of a
//! connection is on one thread, in a `LocalSet`: a task of its own writes and reads. It leaves the broker when the last handle is gone.
//!
//! A connection that has ended is not made anew here: what was not acknowledged goes back to whoever published it, who knows best what is to
//! be sent again, and when.

pub mod broker;
mod connection;
pub mod counted;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod transport;

pub use broker::{Broker, Endpoint, EndpointProblem};
pub use connection::{Handle, Incoming, Opened, Published, Publishing, SubscribeError, open, try_login};
pub use transport::{ConnectError, connect_any};
