//! Durations and sizes as people write them: a number and its unit.

use std::time::Duration;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// The largest unit first, so that a value is printed with the fewest digits.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", GIB),
    ("GB", 1_000_000_000),
    ("MiB", MIB),
    ("MB", 1_000_000),
    ("KiB", KIB),
    ("KB", 1_000),
    ("B", 1),
];

const DURATION_UNITS_MS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// `"512MiB"`, `"1.5 GiB"`; the case of letters does not matter.
pub fn parse_size(text: &str) -> Option<u64> {
    parse(text, &SIZE_UNITS)
}

/// `"10s"`, `"500ms"`, `"2m"`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse(text, &DURATION_UNITS_MS).map(Duration::from_millis)
}

pub fn format_size(bytes: u64) -> String {
    // Binary units only: 100MB is printed exactly, in bytes, rather than rounded.
    let binary = SIZE_UNITS.iter().filter(|(unit, _)| unit.len() != 2);
    format(bytes, binary)
}

/// For people: `3.7 GiB`.
pub fn approximate_size(bytes: u64) -> String {
    let binary = SIZE_UNITS.iter().filter(|(unit, _)| unit.len() != 2);
    let (unit, factor) = binary.into_iter().find(|(_, factor)| bytes >= *factor).unwrap_or(&("B", 1));
    let amount = bytes as f64 / *factor as f64;
    let digits = if amount >= 100.0 { 0 } else { 1 };
    let amount = format!("{amount:.digits$}");
    format!("{} {unit}", amount.strip_suffix(".0").unwrap_or(&amount))
}

/// For people: `3.7 h`.
pub fn approximate_duration(duration: Duration) -> String {
    let amount_ms = duration.as_millis() as f64;
    let (unit, factor) = DURATION_UNITS_MS.iter().find(|(_, factor)| amount_ms >= *factor as f64).unwrap_or(&("ms", 1));
    let amount = format!("{:.1}", amount_ms / *factor as f64);
    format!("{} {unit}", amount.strip_suffix(".0").unwrap_or(&amount))
}

pub fn format_duration(duration: Duration) -> String {
    format(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS_MS.iter())
}

fn format<'a>(amount: u64, units: impl Iterator<Item = &'a (&'static str, u64)>) -> String {
    let mut last = "";
    for (unit, factor) in units {
        if amount > 0 && amount.is_multiple_of(*factor) {
            return format!("{}{unit}", amount / factor);
        }
        last = unit;
    }
    format!("{amount}{last}")
}

/// Exact: a fraction is accepted only if it gives whole bytes or milliseconds.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = whole.parse::<u64>().ok()?.checked_mul(*factor)?;
    if fraction.len() > 9 {
        return None;
    }
    let scaled = u128::from(fraction.parse::<u64>().ok()?) * u128::from(*factor);
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    if !scaled.is_multiple_of(divisor) {
        return None;
    }
    whole.checked_add(u64::try_from(scaled / divisor).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_and_durations_are_read_exactly() {
        for (text, expected) in [
            ("512MiB", Some(512 * MIB)),
            ("4GiB", Some(4 * GIB)),
            ("100MB", Some(100_000_000)),
            ("1.5 GiB", Some(GIB + GIB / 2)),
            ("10 kib", Some(10 * KIB)),
            ("7B", Some(7)),
            ("0B", Some(0)),
            ("0.3B", None),
            ("5XB", None),
            ("5", None),
            ("MiB", None),
            ("-1MiB", None),
            ("1..5MiB", None),
            ("1.MiB", None),
            ("99999999999999TiB", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
        for (text, expected_ms) in [
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            ("1.5s", Some(1_500)),
            ("1d", Some(86_400_000)),
            ("0.1ms", None),
            ("10", None),
            ("s", None),
            ("10 seconds", None),
        ] {
            assert_eq!(parse_duration(text), expected_ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn what_is_for_people_is_short() {
        let texts = [0, 1023, 4 * GIB, 3 * GIB + 700 * MIB, 12_345_678_901].map(approximate_size);
        assert_eq!(texts, ["0 B", "1023 B", "4 GiB", "3.7 GiB", "11.5 GiB"]);
        let texts =
            [0, 900, 90_000, 7_199_000, 400 * 86_400_000].map(|ms| approximate_duration(Duration::from_millis(ms)));
        assert_eq!(texts, ["0 ms", "900 ms", "1.5 m", "2 h", "400 d"]);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(amount in any::<u64>(), shift in 0_u32..60) {
            let amount = amount >> shift;
            prop_assert_eq!(parse_size(&format_size(amount)), Some(amount));
            let duration = Duration::from_millis(amount);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }

        #[test]
        fn no_text_is_too_odd(text in any::<String>()) {
            let _ = (parse_size(&text), parse_duration(&text));
        }
    }
}
