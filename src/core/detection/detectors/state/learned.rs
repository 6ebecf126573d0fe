//! What was learned of a series over days, as bytes: habits, stays, how long it was heard, and what people said.

use super::{put_score, take_level, take_score, take_u32};
use crate::batch::varint::{self, Cursor};
use crate::detection::detectors::habit::{BINS, Excursions, FRESH_MAX, HALF_OCTAVES, Habit, Score};
use crate::detection::detectors::lesson::Said;
use crate::detection::detectors::maturity::HeardTime;
#[cfg(test)]
use crate::detection::detectors::profile::Profile;
use crate::detection::detectors::series::{Habits, Series};
use crate::detection::detectors::stay::{Mark, Stay};
use crate::detection::detectors::stuck::Run;

/// What was different in earlier versions.
#[derive(Clone, Copy)]
struct Version {
    /// Bins of a habit; before there were octaves, all were half octaves.
    bins: usize,
    /// Marks before this one were not known.
    first_mark: usize,
}

const NOW: Version = Version { bins: BINS, first_mark: 0 };
const VERSION_5: Version = Version { bins: 17, first_mark: 1 };

pub(super) fn encode(series: &Series, out: &mut Vec<u8>) {
    series.habits.each().into_iter().for_each(|habit| encode_habit(habit, out));
    out.push(u8::from(series.habits.single.is_some()));
    if let Some(habit) = &series.habits.single {
        encode_habit(habit, out);
    }
    encode_stay(&series.stay, out);
    encode_mark(&series.rough, out);
    encode_heard(&series.heard, out);
    encode_lesson(&series.run, out);
}

pub(super) fn decode(cursor: &mut Cursor<'_>, series: &mut Series) -> Option<()> {
    decode_habits(cursor, &mut series.habits, NOW)?;
    series.habits.single = match cursor.byte()? {
        0 => None,
        1 => Some(Box::new(decode_habit(cursor, NOW)?)),
        _ => return None,
    };
    series.stay = decode_stay(cursor, NOW)?;
    series.rough = decode_mark(cursor, NOW)?;
    series.heard = decode_heard(cursor)?;
    decode_lesson(&mut series.run, cursor)
}

pub(super) fn decode_version_5(cursor: &mut Cursor<'_>, series: &mut Series) -> Option<()> {
    decode_habits(cursor, &mut series.habits, VERSION_5)?;
    series.stay = decode_stay(cursor, VERSION_5)?;
    series.rough = decode_mark(cursor, VERSION_5)?;
    series.heard = decode_heard(cursor)?;
    // It kept the lowest and the highest level of two weeks, and when something was found last.
    for _ in 0..4 {
        take_level(cursor)?;
    }
    cursor.signed()?;
    decode_lesson(&mut series.run, cursor)
}

fn decode_habits(cursor: &mut Cursor<'_>, habits: &mut Habits, version: Version) -> Option<()> {
    for habit in [&mut habits.spike, &mut habits.shift, &mut habits.burst] {
        *habit = decode_habit(cursor, version)?;
    }
    Some(())
}

fn encode_heard(heard: &HeardTime, out: &mut Vec<u8>) {
    let &HeardTime { since_ms, minute, minutes, readings } = heard;
    [since_ms, minute].into_iter().for_each(|time| varint::put_signed(out, time));
    [minutes, readings].into_iter().for_each(|count| varint::put(out, u64::from(count)));
}

fn encode_habit(habit: &Habit, out: &mut Vec<u8>) {
    let Habit { bins, minute, highest, age, line, is_told, excursions } = habit;
    let known = excursions.as_deref().unwrap_or(&Excursions::NONE);
    let Excursions { now, ended, crossed_ms, peaks, told, since_told, fresh, said } = known;
    bins.iter().for_each(|&count| varint::put(out, u64::from(count)));
    varint::put_signed(out, i64::from(*minute));
    varint::put_signed(out, i64::from(*crossed_ms));
    varint::put(out, u64::from(*age));
    out.push(u8::from(*is_told));
    [highest, now, ended, line].into_iter().flatten().for_each(|&score| put_score(out, score.get()));
    for peaks in peaks {
        let known = peaks.iter().take_while(|peak| **peak > Score::ZERO).count();
        varint::put(out, known as u64);
        peaks[..known].iter().for_each(|&peak| put_score(out, peak.get()));
    }
    told.iter().for_each(|&score| put_score(out, score.get()));
    out.extend_from_slice(&[*since_told, fresh[0], fresh[1], said_code(*said)]);
}

/// What a person has said of runs of equal values.
fn encode_lesson(run: &Run, out: &mut Vec<u8>) {
    [run.told_ms, run.before_ms, run.taught_ms].into_iter().for_each(|length| put_score(out, length));
    out.push(said_code(run.said));
}

fn said_code(said: Said) -> u8 {
    match said {
        Said::Nothing => 0,
        Said::Normal => 1,
        Said::Fault => 2,
    }
}

fn encode_stay(stay: &Stay, out: &mut Vec<u8>) {
    let Stay { low, high, looked_at_ms, heard_s, marks, told, fault } = stay;
    put_score(out, *low);
    put_score(out, *high);
    varint::put_signed(out, *looked_at_ms);
    varint::put(out, u64::from(*heard_s));
    out.extend_from_slice(&[*told, *fault]);
    marks.as_flattened().iter().for_each(|mark| encode_mark(mark, out));
}

fn encode_mark(mark: &Mark, out: &mut Vec<u8>) {
    let Mark { since, longest, stays } = mark;
    varint::put(out, u64::from(*since));
    longest.iter().for_each(|&units| varint::put(out, u64::from(units)));
    out.push(*stays);
}

/// What is learned of a series, as it is encoded: of one that is new but for these times, and of one of which nothing is known.
#[cfg(test)]
pub fn new_habits(since_ms: i64, minute: i64, readings: u32) -> [Vec<u8>; 2] {
    let heard = HeardTime { since_ms, minute, readings, ..HeardTime::NONE };
    [heard, HeardTime::NONE].map(|heard| {
        let mut out = Vec::new();
        encode(&Series { heard, ..Series::new(&Profile::TEMPERATURE) }, &mut out);
        out
    })
}

fn decode_habit(cursor: &mut Cursor<'_>, version: Version) -> Option<Habit> {
    let (mut habit, mut known) = (Habit::NEW, Excursions::NONE);
    for bin in 0..version.bins {
        let beyond = if version.bins > BINS { bin.saturating_sub(HALF_OCTAVES + 1).div_ceil(2) } else { 0 };
        let count = &mut habit.bins[bin - beyond];
        *count = count.saturating_add(u16::try_from(cursor.number()?).ok()?);
    }
    habit.minute = i32::try_from(cursor.signed()?).ok()?;
    known.crossed_ms = cursor.signed()? as u32;
    habit.age = u16::try_from(take_u32(cursor)?).unwrap_or(u16::MAX);
    habit.is_told = cursor.byte()? != 0;
    for score in [&mut habit.highest, &mut known.now, &mut known.ended, &mut habit.line].into_iter().flatten() {
        *score = Score::of(take_score(cursor)?);
    }
    for peaks in &mut known.peaks {
        let count = usize::try_from(cursor.number()?).ok()?;
        for peak in peaks.get_mut(..count)? {
            *peak = Score::of(take_score(cursor)?);
        }
        if !peaks.is_sorted_by(|before, after| before >= after) {
            return None;
        }
    }
    for score in &mut known.told {
        *score = Score::of(take_score(cursor)?);
    }
    known.since_told = cursor.byte()?;
    for fresh in &mut known.fresh {
        *fresh = cursor.byte().filter(|fresh| *fresh <= FRESH_MAX)?;
    }
    known.said = take_said(cursor)?;
    habit.excursions = (known != Excursions::NONE).then(|| Box::new(known));
    habit.line.iter().all(|line| *line >= Score::ONE).then_some(habit)
}

fn decode_stay(cursor: &mut Cursor<'_>, version: Version) -> Option<Stay> {
    let mut stay = Stay { low: take_level(cursor)?, high: take_level(cursor)?, ..Stay::NEW };
    stay.looked_at_ms = cursor.signed()?;
    stay.heard_s = take_u32(cursor)?;
    (stay.told, stay.fault) = (cursor.byte()?, cursor.byte()?);
    for marks in &mut stay.marks {
        for mark in &mut marks[version.first_mark..] {
            *mark = decode_mark(cursor, version)?;
        }
    }
    let is_known = usize::from(stay.told) <= stay.marks.as_flattened().len() && stay.fault <= 2;
    if version.first_mark > 0 {
        // Its number was another one; it is told again by the next look.
        stay.told = 0;
    }
    (is_known && stay.low <= stay.high).then_some(stay)
}

fn decode_mark(cursor: &mut Cursor<'_>, version: Version) -> Option<Mark> {
    let since = cursor.number()?;
    let mut mark = Mark::NEW;
    for units in &mut mark.longest {
        *units = u16::try_from(cursor.number()?).ok()?;
    }
    mark.stays = cursor.byte()?;
    match version.first_mark {
        0 => mark.since = u16::try_from(since).ok()?,
        _ if since > 0 => mark.begin(u32::try_from(since).ok()?),
        _ => {}
    }
    (mark.longest[0] >= mark.longest[1]).then_some(mark)
}

fn decode_heard(cursor: &mut Cursor<'_>) -> Option<HeardTime> {
    let (since_ms, minute) = (cursor.signed()?, cursor.signed()?);
    Some(HeardTime { since_ms, minute, minutes: take_u32(cursor)?, readings: take_u32(cursor)? })
}

fn decode_lesson(run: &mut Run, cursor: &mut Cursor<'_>) -> Option<()> {
    for length in [&mut run.told_ms, &mut run.before_ms, &mut run.taught_ms] {
        *length = take_score(cursor)?;
    }
    run.said = take_said(cursor)?;
    Some(())
}

fn take_said(cursor: &mut Cursor<'_>) -> Option<Said> {
    match cursor.byte()? {
        0 => Some(Said::Nothing),
        1 => Some(Said::Normal),
        2 => Some(Said::Fault),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As version 5 wrote a habit without excursions, a stay and a mark.
    fn version_5(bins: [u16; 17], looked_at_ms: i64, heard_s: u32, marks: [(u32, u16); 6]) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..3 {
            encode_habit(&Habit { age: 500, ..Habit::NEW }, &mut out);
            // The bins come first, one byte each while they are small.
            let habit = out.split_off(out.len() - encoded_length());
            bins.iter().for_each(|&count| varint::put(&mut out, u64::from(count)));
            out.extend_from_slice(&habit[BINS..]);
        }
        [20.0, 30.0].into_iter().for_each(|level| put_score(&mut out, level));
        varint::put_signed(&mut out, looked_at_ms);
        varint::put(&mut out, u64::from(heard_s));
        out.extend_from_slice(&[3, 0]);
        for (since_s, longest) in marks.into_iter().chain([(0, 7)]) {
            varint::put(&mut out, u64::from(since_s));
            [longest, 1].into_iter().for_each(|units| varint::put(&mut out, u64::from(units)));
            out.push(9);
        }
        encode_heard(&HeardTime { minutes: 77, ..HeardTime::NONE }, &mut out);
        (0..4).for_each(|_| put_score(&mut out, 5.0));
        varint::put_signed(&mut out, i64::MIN);
        encode_lesson(&Run::NEW, &mut out);
        out
    }

    fn encoded_length() -> usize {
        let mut out = Vec::new();
        encode_habit(&Habit { age: 500, ..Habit::NEW }, &mut out);
        out.len()
    }

    #[test]
    fn version_5_is_taken_over() {
        let bins = std::array::from_fn(|bin| bin as u16 + 1);
        let chunk = version_5(bins, 9_000, 3_600, [(0, 2), (3_000, 4), (0, 6), (0, 8), (0, 10), (3_500, 12)]);
        let mut series = Series::new(&Profile::TEMPERATURE);
        let mut cursor = Cursor { rest: &chunk };
        decode_version_5(&mut cursor, &mut series).expect("version 5");
        assert_eq!(cursor.rest, [0_u8; 0]);
        let habit = &series.habits.spike;
        assert_eq!((habit.bins, habit.age), ([1, 2, 3, 4, 5, 6, 7, 8 + 9, 10 + 11, 12 + 13, 14 + 15, 16 + 17], 500));
        assert_eq!((series.heard.minutes, series.rough.longest, series.stay.told), (77, [7, 1], 0));
        let longest = series.stay.marks.map(|marks| marks.map(|mark| mark.longest[0]));
        assert_eq!(longest, [[0, 2, 4, 6], [0, 8, 10, 12]]);
        let lasted = series.stay.marks.map(|marks| marks.map(|mark| mark.lasted_s(3_600)));
        assert_eq!(lasted, [[0, 0, 600, 0], [0, 0, 0, 100]]);
    }
}
