//! A strict Kinesis, and Firehose's PutRecordBatch, for tests and benchmarks: real HTTP/1.1 on a loopback port, the limits of the service enforced,
//! faults on demand, and a tally of what arrived.
//!
//! It speaks the protocol of `aws-sdk-kinesis` (awsJson1_1), so `curl` can be used as well. Other emulators enforce no shard limits, inject
//! no faults and are too slow to run beside a benchmark; this one implements only what a producer can notice. Signatures are not verified,
//! but their date is; the consumer API is only enough to look at the records.
//!
//! It runs on a thread of its own, so that blocking tests and any runtime can use it:
//!
//! ```
//! use fake_cloud::{FakeCloud, Faults, Settings};
//!
//! let cloud = FakeCloud::start_blocking(Settings::default().stream("fleet-raw", 4))?;
//! println!("endpoint http://{}", cloud.address());
//! cloud.set_faults(Faults { record_throttled: 0.1, ..Faults::default() });
//! assert_eq!(cloud.stats().streams["fleet-raw"].records, 0);
//! # Ok::<(), std::io::Error>(())
//! ```

mod bucket;
mod clock;
mod engine;
mod faults;
mod handle;
mod histogram;
mod line;
mod operations;
mod plain;
mod put;
mod put_batch;
mod random;
mod server;
mod settings;
mod stats;
mod stream;
mod tally;

pub use faults::{Faults, InvalidFaults, SkewCode};
pub use handle::FakeCloud;
pub use plain::plain;
pub use settings::{Limits, Mode, Settings, ShardLimits, StreamSettings};
pub use stats::{LatencyStats, ShardStats, Stats, StreamStats};
pub use stream::Record;
