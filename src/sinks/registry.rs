//! The kinds of sinks.
//!
//! To add one:
//!
//! 1. Make a folder `src/sinks/NAME` with a `KIND`, a [`SinkKind`]: its name, its keys, and how it reads its section. What it reads
//!    becomes a [`ConfiguredSink`](super::kind::ConfiguredSink), which says what it takes, how `check` describes it, and how it starts.
//! 2. A *record sink* answers for each record of a request: implement [`Sink`](super::Sink), and start it with
//!    [`Starting::forward`](super::start::Starting::forward), which leaves order, repeats and pauses to `core::delivery`. An *object sink*,
//!    which writes files, reads the store by itself: take [`Starting::stream`](super::start::Starting::stream) and run a task on it with
//!    [`Starting::spawn`](super::start::Starting::spawn), as the archive does.
//! 3. Let [`probe`](super::kind::ConfiguredSink::probe) try, for `outrider doctor`, whether it would be let in.
//! 4. Add it to [`KINDS`], and its module to `sinks/mod.rs`.
//! 5. Run `OUTRIDER_WRITE_CONFIG=1 cargo test --lib the_file_says`, which writes its keys to `config/outrider.toml`.
//!
//! `sinks/nothing.rs` is the smallest example; it exists for tests only.

use super::kind::SinkKind;

pub const KINDS: &[&SinkKind] = &[
    &super::archive::sink::KIND,
    &super::kinesis::sink::KIND,
    &super::firehose::sink::KIND,
    &super::kafka::sink::KIND,
    &super::http::sink::KIND,
    &super::s3::sink::KIND,
    &super::influxdb::sink::KIND,
    &super::opensearch::sink::KIND,
    #[cfg(feature = "postgres")]
    &super::postgres::sink::KIND,
    &super::mqtt::sink::KIND,
    #[cfg(test)]
    &super::nothing::KIND,
];

/// Kinds that this program was built without, by the features that have their names.
pub const LEFT_OUT: &[&str] = &[
    #[cfg(not(feature = "postgres"))]
    "postgres",
];

/// The values of the key `type`.
pub const NAMES: &[&str] = &{
    let mut names = [""; KINDS.len() + LEFT_OUT.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = if at < KINDS.len() { KINDS[at].name } else { LEFT_OUT[at - KINDS.len()] };
        at += 1;
    }
    names
};
