//! From the store to the sinks. Each (sink, stream) reads the log with a cursor of its own; there is no queue in between.
//!
//! A sink that answers for each record implements [`Sink`] and is driven by [`forwarder`], which asks `core::delivery` what to do.
//! [`registry`] lists the kinds and says how to add one.
//!
//! The archive writes files in the order of the store, needs no such machine, and reads the store by itself.

pub mod address;
mod ages;
pub mod archive;
pub mod aws;
#[cfg(test)]
mod bench;
pub mod cloud_streams;
pub mod compression;
pub mod files;
pub mod firehose;
pub mod forwarder;
pub mod http;
pub mod influxdb;
pub mod kafka;
pub mod kind;
pub mod kinesis;
pub mod links;
pub mod mqtt;
pub mod network;
#[cfg(test)]
mod nothing;
pub mod opensearch;
#[cfg(feature = "postgres")]
pub mod postgres;
mod posting;
pub mod probe;
pub mod registry;
pub mod resend;
mod response;
pub mod s3;
pub mod scram;
pub mod secret;
mod source;
pub mod start;
pub mod status;
pub mod stream;

use crate::core::delivery::{OutgoingRecord, Reply};

/// Where records go. The sink decides, by the outcome's type, whether an error is retryable, but does not retry: every call is one attempt,
/// with a time limit.
pub trait Sink {
    /// Sends the records at once. The reply has an outcome for each of them, in their order.
    fn send(&self, records: Vec<OutgoingRecord>) -> impl Future<Output = Reply>;

    /// The same for records that come behind later ones of their key.
    fn send_late(&self, records: Vec<OutgoingRecord>) -> impl Future<Output = Reply> {
        self.send(records)
    }
}
