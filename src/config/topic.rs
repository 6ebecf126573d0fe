//! Topic templates of routes, `devices/{device}/{metric...}`, as far as a configuration can be wrong about them.

/// Longest template, in bytes; no topic that is taken is longer.
const TEMPLATE_BYTES_MAX: usize = 1024;

pub fn check(template: &str) -> Result<(), String> {
    if template.is_empty() {
        return Err("empty; write for example \"devices/{device}/{metric...}\"".to_owned());
    }
    if template.len() > TEMPLATE_BYTES_MAX {
        return Err(format!("longer than {TEMPLATE_BYTES_MAX} bytes"));
    }
    if template.chars().any(char::is_control) {
        return Err("holds a control character".to_owned());
    }
    if template.contains(['+', '#']) {
        return Err("a template takes no + and no #; a level that varies is written {name}".to_owned());
    }
    if template.starts_with('$') {
        return Err("topics that start with $ are never taken from a client".to_owned());
    }
    let mut seen: Vec<&str> = Vec::new();
    for (at, level) in template.split('/').enumerate() {
        check_level(level)?;
        if at == 0 && (level == "alerts" || level == "outrider") {
            return Err("topics below alerts/ and outrider/ belong to the gateway".to_owned());
        }
        if seen.contains(&"{metric...}") {
            return Err("{metric...} takes all that remains, so it has to be the last level".to_owned());
        }
        if level.starts_with('{') {
            if seen.contains(&level) {
                return Err(format!("{level} stands there twice"));
            }
            seen.push(level);
        }
    }
    if seen.contains(&"{metric}") && seen.contains(&"{metric...}") {
        return Err("{metric} and {metric...} exclude each other".to_owned());
    }
    Ok(())
}

/// Whether the topic itself says which device it is.
pub fn names_device(template: &str) -> bool {
    template.split('/').any(|level| level == "{device}")
}

fn check_level(level: &str) -> Result<(), String> {
    if level.is_empty() {
        return Err("a level of the template is empty".to_owned());
    }
    if !level.contains(['{', '}']) {
        return Ok(());
    }
    let name = level.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let name = name.map(|name| if name == "metric..." { "metric" } else { name });
    match name {
        Some(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => Ok(()),
        _ => Err(format!("the level `{level}` is neither plain text nor one placeholder {{name}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_checked_level_by_level() {
        for right in ["devices/{device}", "devices/{device}/{metric...}", "a/{site}/{device}/{metric}", "/{device}x".trim_end_matches('x').trim_start_matches('/')] {
            assert_eq!(check(right), Ok(()), "{right}");
        }
        for (wrong, part) in [
            ("", "empty"),
            ("a/+/b", "no +"),
            ("a//b", "empty"),
            ("a/{device", "neither"),
            ("a/x{device}", "neither"),
            ("a/{rest...}", "neither"),
            ("a/{metric...}/b", "last level"),
            ("{device}/{device}", "twice"),
            ("{metric}/{metric...}", "exclude"),
            ("alerts/{device}", "belong"),
            ("$SYS/{device}", "$"),
        ] {
            assert!(check(wrong).expect_err(wrong).contains(part), "{wrong}");
        }
    }
}
