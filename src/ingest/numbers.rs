//! Numbers that devices write as texts.

/// Which texts are numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// None. A firmware version and a serial number look like numbers, and stay texts.
    #[default]
    Strict,
    /// Those that are a number, perhaps with its unit: `317.3988`, `74.50%`, `82C`.
    Lenient { has_comma: bool },
}

/// Longest unit that is taken off, in characters.
const UNIT_CHARS_MAX: usize = 8;

impl Numbers {
    /// The number that a text stands for.
    pub fn read(self, text: &str) -> Option<f64> {
        let Numbers::Lenient { has_comma } = self else { return None };
        let text = text.trim();
        if let Some(number) = super::mend::non_finite(text) {
            return Some(number);
        }
        let len = number_len(text.as_bytes(), if has_comma { b',' } else { b'.' })?;
        let (number, unit) = text.split_at(len);
        if !is_unit(unit.trim_start()) {
            return None;
        }
        let number = if has_comma { number.replace(',', ".").parse() } else { number.parse() };
        number.ok().filter(|number: &f64| number.is_finite())
    }
}

/// Length of the number at the beginning: sign, digits, at most one separator with digits on both sides, exponent.
fn number_len(bytes: &[u8], separator: u8) -> Option<usize> {
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let start = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let whole = digits(start);
    let mut end = start + whole;
    if whole == 0 {
        return None;
    }
    if bytes.get(end) == Some(&separator) && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits((end + 1 + sign).min(bytes.len()));
        end += if exponent > 0 { 1 + sign + exponent } else { 0 };
    }
    Some(end)
}

/// A unit begins with a letter or a sign such as %, °, µ, and holds nothing that could belong to a number, a date or a version.
fn is_unit(text: &str) -> bool {
    let is_allowed =
        |c: char| c.is_alphabetic() || matches!(c, '%' | '‰' | '°' | '²' | '³' | '/' | '*' | '·' | '^' | 'Ω');
    text.chars().count() <= UNIT_CHARS_MAX
        && text.chars().all(is_allowed)
        && !text.starts_with(['/', '*', '·', '^', '²', '³'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_a_number_and_a_unit() {
        let lenient = |text: &str| Numbers::Lenient { has_comma: false }.read(text);
        for (text, number) in [
            ("317.3988", 317.3988),
            ("74.50%", 74.5),
            ("82C", 82.0),
            ("-3 °C", -3.0),
            ("+21.5", 21.5),
            ("1e3 W", 1000.0),
            (" 5 m/s ", 5.0),
            ("7.2E-3", 0.0072),
            ("3 e", 3.0),
        ] {
            assert_eq!(lenient(text), Some(number), "{text}");
        }
        for text in [
            "",
            "on",
            "22,5",
            "1.2.3",
            "2026-11-24",
            "10:30",
            "0x1F",
            "1.",
            ".5",
            "12 34",
            "v1.2",
            "1e999",
            "192.168.0.1",
            "5 /",
        ] {
            assert_eq!(lenient(text), None, "{text}");
        }
        let comma = |text: &str| Numbers::Lenient { has_comma: true }.read(text);
        assert_eq!(
            (comma("22,5"), comma("74,50%"), comma("22.5"), comma("1.234,5")),
            (Some(22.5), Some(74.5), None, None)
        );
        assert_eq!(Numbers::Strict.read("1"), None);
        assert!(lenient("NaN").is_some_and(f64::is_nan));
    }

    proptest::proptest! {
        #[test]
        fn a_number_as_it_is_printed_is_read_back(number in proptest::num::f64::NORMAL) {
            proptest::prop_assert_eq!(Numbers::Lenient { has_comma: false }.read(&format!("{number:e} kW")), Some(number));
        }

        #[test]
        fn no_text_is_too_odd(text in "[-+0-9.,eE %°C/]{0,12}") {
            let _ = (Numbers::Lenient { has_comma: false }.read(&text), Numbers::Lenient { has_comma: true }.read(&text));
        }
    }
}
