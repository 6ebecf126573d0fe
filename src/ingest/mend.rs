//! JSON as drivers of sensors print it: with a byte order mark, an end-of-text NUL, or numbers that JSON does not know.
//!
//! Only what can be meant in one way is mended, and only in a payload that is no JSON as it is: a plain one is never copied.

/// Begins a text that stands for a number which JSON does not know. A payload that writes it itself is not mended.
pub const NON_FINITE_MARK: char = '\u{1}';
const MARK_ESCAPE: &str = "\\u0001";
const WORDS: [&str; 4] = ["nan", "inf", "infinity", "nan(ind)"];

/// Without the marks at both ends that belong to the text's transport and not to the text. Bytes that begin like CBOR are left alone.
pub fn trimmed(payload: &[u8]) -> &[u8] {
    let text = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    let is_text = text.first().is_some_and(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    match text.last() {
        Some(0) if is_text => &text[..text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)],
        _ => text,
    }
}

/// The number that a word such as `NaN` or `-inf` stands for.
pub fn non_finite(word: &str) -> Option<f64> {
    let digits = word.trim_start_matches(['+', '-']);
    if word.len() - digits.len() > 1 || !WORDS.iter().any(|known| digits.eq_ignore_ascii_case(known)) {
        return None;
    }
    Some(match (digits.as_bytes()[0].eq_ignore_ascii_case(&b'n'), word.starts_with('-')) {
        (true, _) => f64::NAN,
        (false, true) => f64::NEG_INFINITY,
        (false, false) => f64::INFINITY,
    })
}

/// A copy in which each such word outside of a text is a marked text; `None` if there is none, or one would not be told from the payload's
/// own texts.
pub fn with_marked_words(payload: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(payload).ok()?;
    if text.contains(MARK_ESCAPE) {
        return None;
    }
    let mut mended = String::with_capacity(text.len() + 64);
    let mut rest = text;
    let mut is_mended = false;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' => text_len(rest),
            _ if is_word_start(rest) => word_len(rest),
            _ => first.len_utf8(),
        };
        let (token, tail) = rest.split_at(len);
        if first != '"' && non_finite(token).is_some() {
            mended.extend(["\"", MARK_ESCAPE, token, "\""]);
            is_mended = true;
        } else {
            mended.push_str(token);
        }
        rest = tail;
    }
    is_mended.then_some(mended)
}

/// Whether an integer is written that 64 bits do not hold, so that digits of it would be lost.
pub fn has_long_integer(payload: &[u8]) -> bool {
    let mut rest = payload;
    while let Some(first) = rest.first() {
        let len = match first {
            b'"' => std::str::from_utf8(rest).map_or(rest.len(), text_len),
            b'0'..=b'9' => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let is_integer = !matches!(rest.get(digits), Some(b'.' | b'e' | b'E'));
                if is_integer && std::str::from_utf8(&rest[..digits]).is_ok_and(|text| text.parse::<u64>().is_err()) {
                    return true;
                }
                let number = |byte: &&u8| byte.is_ascii_digit() || b".eE+-".contains(byte);
                rest.iter().take_while(number).count()
            }
            _ => 1,
        };
        rest = &rest[len..];
    }
    false
}

/// Length of the JSON text at the beginning, quotes included; all that remains if it does not end.
fn text_len(rest: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn is_word_start(rest: &str) -> bool {
    let unsigned = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    unsigned.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn word_len(rest: &str) -> usize {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let sign = rest.len() - rest.trim_start_matches(['+', '-']).len().min(rest.len());
    let sign = sign.min(1);
    let end = rest[sign..].find(|c| !is_word(c)).map_or(rest.len(), |len| sign + len);
    if rest[end..].starts_with("(ind)") { end + "(ind)".len() } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_outside_of_texts_are_marked() {
        let mended = |text: &str| with_marked_words(text.as_bytes());
        assert_eq!(mended(r#"{"a":nan,"b":[-inf,1]}"#).as_deref(), Some(r#"{"a":"\u0001nan","b":["\u0001-inf",1]}"#));
        assert_eq!(mended(r#"{"a":-NaN(ind)}"#).as_deref(), Some(r#"{"a":"\u0001-NaN(ind)"}"#));
        for unchanged in
            [r#"{"nan":"nan \" inf"}"#, "{\"a\":nano}", "{\"a\":null}", "\"nan", r#"{"a":"\u0001nan","b":nan}"#]
        {
            assert_eq!(mended(unchanged), None, "{unchanged}");
        }
    }

    #[test]
    fn marks_of_the_transport_are_taken_off_texts_only() {
        assert_eq!(trimmed(b"\xef\xbb\xbf22.4\0\0"), b"22.4");
        assert_eq!(trimmed(b"\xa1\x61a\0"), b"\xa1\x61a\0");
        assert_eq!(trimmed(b"\0"), b"\0");
        assert_eq!(trimmed(b""), b"");
    }

    #[test]
    fn long_integers_are_found_outside_of_texts() {
        for long in ["18446744073709551616", "{\"a\":[1,-99999999999999999999]}"] {
            assert!(has_long_integer(long.as_bytes()), "{long}");
        }
        for short in ["18446744073709551615", "1e300", "99999999999999999999.5", "{\"99999999999999999999\":1}", "\"9"]
        {
            assert!(!has_long_integer(short.as_bytes()), "{short}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_payload_is_too_odd(text in "[\"\\\\naif()+-,0-9ä]{0,40}") {
            let _ = (with_marked_words(text.as_bytes()), has_long_integer(text.as_bytes()), trimmed(text.as_bytes()));
        }
    }
}
