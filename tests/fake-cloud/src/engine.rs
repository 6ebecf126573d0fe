//! The cloud without its HTTP: takes a call and the time, returns an answer.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::faults::{EXPIRED_TOKEN, Faults};
use crate::operations;
use crate::put;
use crate::put_batch;
use crate::random::Random;
use crate::settings::{Limits, Mode, Settings, ShardLimits, StreamSettings};
use crate::stream::{Record, Stream};

const CLOCK_SKEW_MAX_SECONDS: i64 = 300;
/// More streams than any test makes; further CreateStream calls are refused.
pub(crate) const STREAMS_MAX: usize = 1_000;

/// Firehose's operation; all others are those of Kinesis.
pub(crate) const PUT_RECORD_BATCH: &str = "PutRecordBatch";

/// The times of one call: since the start of the cloud, and by the machine's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) since_start_ns: u64,
    pub(crate) wall_ms: i64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'a str,
    pub(crate) body: &'a [u8],
    /// Epoch seconds of `x-amz-date`.
    pub(crate) signed_at: Option<i64>,
    pub(crate) access_key: Option<&'a str>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Reply {
        status: u16,
        body: Vec<u8>,
    },
    /// The call was carried out, but its reply is lost.
    Lost,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        ApiError { status: 400, code, message: message.into() }
    }

    pub(crate) fn unknown_stream(name: &str) -> Self {
        ApiError::new("ResourceNotFoundException", format!("Stream {name} under account 000000000000 not found."))
    }

    fn body(&self) -> Vec<u8> {
        serde_json::json!({"__type": self.code, "message": self.message}).to_string().into_bytes()
    }
}

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) mode: Mode,
    pub(crate) limits: Limits,
    /// Limits for streams created from now on.
    pub(crate) shard_limits: ShardLimits,
    pub(crate) streams: HashMap<String, Stream>,
    pub(crate) faults: Faults,
    pub(crate) fault_counts: BTreeMap<&'static str, u64>,
    pub(crate) random: Random,
    pub(crate) requests: u64,
    pub(crate) put_requests: u64,
    pub(crate) sequence: u64,
    pub(crate) connections: u64,
    /// Buffer for the decoded data of a request, reused between requests.
    pub(crate) scratch: Vec<u8>,
}

impl Engine {
    pub(crate) fn new(settings: &Settings) -> Self {
        let streams = settings.streams.iter().map(|stream| (stream.name.clone(), Stream::new(stream, 0)));
        Engine {
            mode: settings.mode,
            limits: settings.limits,
            shard_limits: settings.shard_limits,
            streams: streams.collect(),
            faults: settings.faults.clone(),
            fault_counts: BTreeMap::new(),
            random: Random::new(settings.seed),
            requests: 0,
            put_requests: 0,
            sequence: 0,
            connections: 0,
            scratch: Vec::new(),
        }
    }

    pub(crate) fn count_fault(&mut self, name: &'static str) {
        *self.fault_counts.entry(name).or_default() += 1;
    }

    pub(crate) fn is_too_large(&mut self, body_bytes: usize) -> bool {
        let is_too_large = self.faults.body_bytes_max.is_some_and(|bytes_max| body_bytes > bytes_max);
        if is_too_large {
            self.count_fault("body_bytes_max");
        }
        is_too_large
    }

    /// How long this call hangs before it is processed.
    pub(crate) fn hang(&mut self) -> Option<Duration> {
        if !self.random.happens(self.faults.hang) {
            return None;
        }
        self.count_fault("hang");
        Some(Duration::from_millis(self.faults.hang_ms))
    }

    pub(crate) fn answer(&mut self, call: Call<'_>, now: Now) -> Answer {
        self.requests += 1;
        if let Err(error) = self.refuse(call, now) {
            return Answer::Reply { status: error.status, body: error.body() };
        }
        let result = match call.operation {
            "PutRecords" => put::put_records(self, call.body, now),
            PUT_RECORD_BATCH => put_batch::put_record_batch(self, call.body, now),
            operation => operations::perform(self, operation, call.body, now),
        };
        match result {
            Ok(_) if self.random.happens(self.faults.reply_lost) => {
                self.count_fault("reply_lost");
                Answer::Lost
            }
            Ok(body) => Answer::Reply { status: 200, body },
            Err(error) => Answer::Reply { status: error.status, body: error.body() },
        }
    }

    /// Refuses calls for reasons that do not depend on the operation.
    fn refuse(&mut self, call: Call<'_>, now: Now) -> Result<(), ApiError> {
        self.check_clock(call, now)?;
        if call.access_key.is_some_and(|key| self.faults.expired_access_keys.iter().any(|expired| expired == key)) {
            self.count_fault("expired_access_keys");
            return Err(ApiError::new(EXPIRED_TOKEN.code, EXPIRED_TOKEN.message));
        }
        for (fraction, fault) in self.faults.request_faults() {
            if self.random.happens(fraction) {
                self.count_fault(fault.name);
                let fault = if call.operation == PUT_RECORD_BATCH { fault.of_firehose() } else { fault };
                let message = fault.message.to_owned();
                return Err(ApiError { status: fault.status, code: fault.code, message });
            }
        }
        Ok(())
    }

    /// A call without a date (from `curl`) is not checked.
    fn check_clock(&mut self, call: Call<'_>, now: Now) -> Result<(), ApiError> {
        let server_seconds = self.server_time_ms(now).div_euclid(1_000);
        let Some(signed_at) = call.signed_at else { return Ok(()) };
        if signed_at.abs_diff(server_seconds) <= CLOCK_SKEW_MAX_SECONDS as u64 {
            return Ok(());
        }
        self.count_fault("clock_skew");
        let side = if signed_at < server_seconds { "expired" } else { "not yet current" };
        let message = format!("Signature {side}: signed at {signed_at}, the server's time is {server_seconds}");
        let code = match self.faults.skew_code {
            crate::SkewCode::InvalidSignatureException => "InvalidSignatureException",
            crate::SkewCode::RequestExpired => "RequestExpired",
        };
        Err(ApiError::new(code, message))
    }

    pub(crate) fn server_time_ms(&self, now: Now) -> i64 {
        now.wall_ms.saturating_add(self.faults.clock_offset_ms)
    }

    pub(crate) fn stream(&mut self, name: &str, now: Now) -> Result<&mut Stream, ApiError> {
        self.streams
            .get_mut(name)
            .filter(|stream| stream.appears_at_ns <= now.since_start_ns)
            .ok_or_else(|| ApiError::unknown_stream(name))
    }

    /// Creates a stream, or makes one appear that was to appear later; `false` if it exists already or cannot be created.
    pub(crate) fn create_stream(&mut self, settings: &StreamSettings, now: Now) -> bool {
        let is_there = self.stream(&settings.name, now).is_ok();
        let has_room = self.streams.len() < STREAMS_MAX && (1..=StreamSettings::SHARDS_MAX).contains(&settings.shards);
        if is_there || !has_room {
            return false;
        }
        self.streams.insert(settings.name.clone(), Stream::new(settings, now.since_start_ns));
        true
    }

    pub(crate) fn records(&self, stream: &str) -> &[Record] {
        self.streams.get(stream).map_or(&[], |stream| &stream.records)
    }

    /// Forgets records and counts; keeps streams, faults and the identities given so far.
    pub(crate) fn forget(&mut self) {
        self.streams.values_mut().for_each(Stream::forget);
        self.fault_counts.clear();
        self.requests = 0;
    }
}
