//! The fields of a record that is stored as a line. The gateway has written it itself, so it is one object in one line, whose names need no
//! escapes; values are found without being parsed, and stay as they are to the last digit.

pub struct Fields<'a> {
    rest: &'a [u8],
}

pub fn of(line: &[u8]) -> Fields<'_> {
    Fields { rest: line.strip_prefix(b"{").unwrap_or_default() }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a str);

    /// The next name, and the text of its value. Ends where the line is not such an object.
    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let named = self.rest.strip_prefix(b",").unwrap_or(self.rest).strip_prefix(b"\"")?;
        let name = &named[..named.iter().position(|byte| *byte == b'"')?];
        let value = named[name.len() + 1..].strip_prefix(b":")?;
        let length = length_of_value(value)?;
        self.rest = &value[length..];
        Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(&value[..length]).ok()?.trim()))
    }
}

/// Up to the comma or brace that ends the value.
fn length_of_value(value: &[u8]) -> Option<usize> {
    let (mut depth, mut is_text, mut is_escaped) = (0_u32, false, false);
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b',' | b'}' if depth == 0 => return Some(at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn values_stay_as_they_are() {
        let line = br#"{"v":1,"a":"x,}\"\\","b":[1,{"c":"]"}],"d":12345678901234567890.10,"e": {"f":null} ,"g":null}"#;
        let found: Vec<_> = of(line).collect();
        assert_eq!(
            found,
            [
                ("v", "1"),
                ("a", r#""x,}\"\\""#),
                ("b", r#"[1,{"c":"]"}]"#),
                ("d", "12345678901234567890.10"),
                ("e", r#"{"f":null}"#),
                ("g", "null")
            ]
        );
    }

    proptest! {
        #[test]
        fn every_object_is_taken_apart_as_a_parser_does(texts in prop::collection::vec(any::<String>(), 0..5), number in any::<f64>()) {
            let object = serde_json::json!({"a": texts, "b": {"c": texts, "d": number}, "e": texts.first(), "f": number});
            let line = object.to_string() + "\n";
            let mut found = serde_json::Map::new();
            for (name, value) in of(line.as_bytes()) {
                found.insert(name.to_owned(), serde_json::from_str(value).expect("a value"));
            }
            prop_assert_eq!(Value::Object(found), object);
        }

        #[test]
        fn noise_ends_and_does_not_panic(noise in prop::collection::vec(any::<u8>(), 0..60)) {
            of(&noise).for_each(drop);
            of(&[b"{\"a\":".as_slice(), &noise].concat()).for_each(drop);
        }
    }
}
