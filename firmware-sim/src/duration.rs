//! Durations as people write them: `200ms`, `8s`, `10m`, `1h`.

use std::time::Duration;

/// Reads a number with a unit. A plain number is refused: a reader should never have to guess the unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.find(|character: char| !(character.is_ascii_digit() || character == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` is not a duration, write for example 200ms, 8s, 10m or 1h"))?;
    let seconds = match unit {
        "ms" => number / 1_000.0,
        "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3_600.0,
        "" => return Err(format!("`{text}` has no unit, write for example {text}s")),
        _ => return Err(format!("unknown unit `{unit}` in `{text}`, use ms, s, m or h")),
    };
    // A year is longer than any run, and keeps all sums of times far from overflow.
    if seconds > 366.0 * 86_400.0 {
        return Err(format!("`{text}` is longer than a year"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_required() {
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3_600)));
        for bad in ["", "8", "s", "1.2.3s", "8 days", "-3s", "99999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
