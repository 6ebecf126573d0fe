//! Patterns of names, in which `*` stands for any text.

/// Whether a name matches a pattern. Goes back to the last `*` only, so the cost is at most the product of their lengths.
pub fn is_like(name: &str, pattern: &str) -> bool {
    let (name, pattern) = (name.as_bytes(), pattern.as_bytes());
    let (mut at, mut pattern_at) = (0, 0);
    let mut last_star = None;
    while at < name.len() {
        match pattern.get(pattern_at) {
            Some(b'*') => {
                last_star = Some((pattern_at, at));
                pattern_at += 1;
            }
            Some(byte) if *byte == name[at] => (at, pattern_at) = (at + 1, pattern_at + 1),
            _ => {
                let Some((star, taken)) = last_star else { return false };
                last_star = Some((star, taken + 1));
                (at, pattern_at) = (taken + 1, star + 1);
            }
        }
    }
    pattern[pattern_at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn a_star_stands_for_anything() {
        for (name, pattern) in [("a", "*"), ("", "*"), ("freezer-1", "freezer-*"), ("a-b-c", "a*-c"), ("aab", "*ab")] {
            assert!(is_like(name, pattern), "{name} {pattern}");
        }
        for (name, pattern) in [("freezer", "freezer-*"), ("x-freezer-1", "freezer-*"), ("ab", "a"), ("a", "")] {
            assert!(!is_like(name, pattern), "{name} {pattern}");
        }
        assert!(!is_like(&"a".repeat(128), &format!("{}b", "*a".repeat(60))));
    }
}
