//! The state of all series in chunks of bounded size, so that a restart needs no new warm-up and no commit is large.

use super::{FORGET_MS, Moment, Monitor};
use crate::batch::varint::{self, Cursor};
use crate::detection::detectors::profile::Profiles;
use crate::detection::detectors::series::Series;
use crate::detection::detectors::state::{self, Learned};
use crate::detection::rewind_guard::RewindGuard;
use crate::detection::silence::Rhythm;
use crate::device_clock::DeviceClock;

/// Most series in one chunk.
pub const CHUNK_SERIES: usize = 256;
pub(super) const VERSION: u8 = 6;
/// The version before 6: it has less of what was learned.
const VERSION_5: u8 = 5;
/// This one has no clocks of devices, and it and the one behind it have no habits.
const VERSION_WITHOUT_CLOCKS: u8 = 3;

/// A chunk that cannot have come from a snapshot, or came from another version. Nothing of it was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The chunk was written by a version that is not known here; its number.
    #[error("detector snapshot of unknown version {0}")]
    UnknownVersion(u8),
    /// The bytes are no chunk of their version.
    #[error("detector snapshot is damaged")]
    Damaged,
}

impl Monitor {
    /// Number of chunks of a snapshot taken now. A series keeps its place, so it stays in the same chunk.
    pub fn snapshot_chunks(&self) -> usize {
        self.table.places().div_ceil(CHUNK_SERIES)
    }

    /// The state of up to [`CHUNK_SERIES`] series; beyond the last chunk there are none. `wall_ms` says when it is taken.
    pub fn snapshot_chunk(&self, index: usize, wall_ms: i64) -> Vec<u8> {
        let start = index.saturating_mul(CHUNK_SERIES).min(self.table.places());
        let end = self.table.places().min(start + CHUNK_SERIES);
        let mut out = vec![VERSION];
        varint::put_signed(&mut out, wall_ms);
        varint::put(&mut out, self.table.range(start..end).count() as u64);
        for (place, entry) in self.table.range(start..end) {
            let (device, metric) = self.table.name_of(place);
            varint::put_bytes(&mut out, device.as_bytes());
            varint::put_bytes(&mut out, metric.as_bytes());
            state::encode(&entry.series, &mut out);
            state::encode_rhythm(&self.rhythms[place], self.now_ms, &mut out);
            // Repeated for each series, because devices are stored only with their series.
            let device = self.table.devices.get(entry.device);
            state::encode_rhythm(&device.rhythm, self.now_ms, &mut out);
            out.push(u8::from(device.is_asleep));
            state::encode_rewind_guard(&device.rewind_guard, &mut out);
            state::encode_clock(device.clock.as_deref(), &mut out);
        }
        out
    }

    /// Takes over the series of a chunk: all of them or, on an error, none. Known series are replaced. Their silences go on, including the
    /// time in which the gateway was off. Returns how many were left out because there are too many, or because their metric is no longer
    /// watched.
    ///
    /// # Errors
    ///
    /// If the chunk is of an unknown version or damaged.
    pub fn restore(&mut self, chunk: &[u8], now: Moment) -> Result<usize, RestoreError> {
        let mut cursor = Cursor { rest: chunk };
        let version = match cursor.byte() {
            Some(version @ VERSION_WITHOUT_CLOCKS..=VERSION) => version,
            Some(version) => return Err(RestoreError::UnknownVersion(version)),
            None => return Err(RestoreError::Damaged),
        };
        let now_ms = now.signed_steady_ms();
        let restored = decode(&mut cursor, &self.settings.profiles, now, version)
            .filter(|_| cursor.rest.is_empty())
            .ok_or(RestoreError::Damaged)?;
        self.now_ms = self.now_ms.max(now_ms);
        let mut left_out = 0;
        for Restored { device, metric, rule, series, rhythm, device_rhythm, is_asleep, rewind_guard, clock } in restored
        {
            let is_watched = self.settings.profiles.get(rule).is_watched;
            let index = match self.table.find(device, metric) {
                None if is_watched => self.add(device, metric, rule, 0),
                known => known,
            };
            match index {
                Some(index) => {
                    let entry = self.table.get_mut(index);
                    entry.series = series;
                    let place = entry.device;
                    self.rhythms[index] = rhythm;
                    let device = self.table.devices.get_mut(place);
                    (device.rhythm, device.is_asleep, device.rewind_guard) = (device_rhythm, is_asleep, rewind_guard);
                    device.clock = clock.map(Box::new);
                }
                None => left_out += 1,
            }
        }
        Ok(left_out)
    }
}

struct Restored<'a> {
    device: &'a str,
    metric: &'a str,
    rule: u8,
    series: Series,
    rhythm: Rhythm,
    device_rhythm: Rhythm,
    is_asleep: bool,
    rewind_guard: RewindGuard,
    clock: Option<DeviceClock>,
}

fn decode<'a>(cursor: &mut Cursor<'a>, profiles: &Profiles, now: Moment, version: u8) -> Option<Vec<Restored<'a>>> {
    // Bounded, because the wall clock may have been wrong: it must not make the series older than it takes to be forgotten, nor younger
    // than they were.
    let away_ms = now.wall_ms.saturating_sub(cursor.signed()?).clamp(0, FORGET_MS);
    let snapshot_ms = now.signed_steady_ms().saturating_sub(away_ms);
    let count = cursor.number().filter(|&count| count <= CHUNK_SERIES as u64)?;
    let learned = match version {
        VERSION => Learned::All,
        VERSION_5 => Learned::Version5,
        _ => Learned::Nothing,
    };
    let mut entries = Vec::new();
    for _ in 0..count {
        let device = std::str::from_utf8(cursor.bytes()?).ok()?;
        let metric = std::str::from_utf8(cursor.bytes()?).ok()?;
        let rule = profiles.of_metric(metric);
        let series = state::decode(cursor, profiles.get(rule), learned)?;
        let rhythm = state::decode_rhythm(cursor, snapshot_ms)?;
        let device_rhythm = state::decode_rhythm(cursor, snapshot_ms)?;
        let is_asleep = cursor.byte()? != 0;
        let rewind_guard = state::decode_rewind_guard(cursor)?;
        let clock = if version > VERSION_WITHOUT_CLOCKS { state::decode_clock(cursor)? } else { None };
        entries.push(Restored { device, metric, rule, series, rhythm, device_rhythm, is_asleep, rewind_guard, clock });
    }
    Some(entries)
}
