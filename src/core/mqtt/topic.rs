//! Topic names and filters: what is valid, and what matches what.

/// Longest topic or filter taken, in bytes.
pub const TOPIC_BYTES_MAX: usize = 1024;
/// Most levels of a filter. It bounds how deep the search for the receivers of a message goes.
pub const FILTER_LEVELS_MAX: usize = 64;

/// Longest name of a group of a shared subscription, in bytes.
const GROUP_BYTES_MAX: usize = 256;

/// Why a topic name or filter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// It has no characters.
    Empty,
    /// It has more than [`TOPIC_BYTES_MAX`] bytes.
    TooLong,
    /// It contains a control character, such as U+0000.
    Control,
    /// A topic name contains `+` or `#`.
    Wildcard,
    /// It begins with `$`: such topics belong to brokers, and clients do not publish to them.
    Dollar,
    /// A wildcard in a filter is not a whole level, or `#` is not the last one.
    MisplacedWildcard,
    /// A filter has more than [`FILTER_LEVELS_MAX`] levels.
    TooManyLevels,
    /// A shared subscription is not `$share/{group}/{filter}`.
    Shared,
}

impl TopicError {
    /// What follows "the topic" or "the filter" in a sentence.
    pub fn reason(self) -> &'static str {
        match self {
            TopicError::Empty => "is empty",
            TopicError::TooLong => "is too long",
            TopicError::Control => "holds a control character",
            TopicError::Wildcard => "holds a wildcard",
            TopicError::Dollar => "starts with $",
            TopicError::TooManyLevels => "has too many levels",
            TopicError::MisplacedWildcard => "has a wildcard that is not a whole level, or # before the end",
            TopicError::Shared => "is no shared subscription: $share, a group without wildcards, and a filter",
        }
    }
}

/// Checks the name of a topic that a client publishes to.
///
/// # Errors
///
/// The first rule that it breaks.
pub fn check_topic(topic: &str) -> Result<(), TopicError> {
    check_common(topic)?;
    if topic.bytes().any(|byte| byte == b'+' || byte == b'#') {
        return Err(TopicError::Wildcard);
    }
    if topic.starts_with('$') { Err(TopicError::Dollar) } else { Ok(()) }
}

/// Checks a filter that a client subscribes to.
///
/// # Errors
///
/// The first rule that it breaks.
pub fn check_filter(filter: &str) -> Result<(), TopicError> {
    let (_, filter) = split_shared(filter)?;
    check_common(filter)?;
    if filter.split('/').count() > FILTER_LEVELS_MAX {
        return Err(TopicError::TooManyLevels);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let has_wildcard = level.contains(['+', '#']);
        if has_wildcard && (level.len() != 1 || (level == "#" && levels.peek().is_some())) {
            return Err(TopicError::MisplacedWildcard);
        }
    }
    Ok(())
}

/// The group of a shared subscription, and the filter.
///
/// # Errors
///
/// If there is no group, or no filter.
pub fn split_shared(filter: &str) -> Result<(Option<&str>, &str), TopicError> {
    let Some(shared) = filter.strip_prefix("$share/") else { return Ok((None, filter)) };
    match shared.split_once('/') {
        Some((group, _)) if group.len() > GROUP_BYTES_MAX => Err(TopicError::TooLong),
        Some((group, filter)) if !group.is_empty() && !group.contains(['+', '#']) => Ok((Some(group), filter)),
        _ => Err(TopicError::Shared),
    }
}

fn check_common(text: &str) -> Result<(), TopicError> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(TopicError::Empty);
    }
    if bytes.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong);
    }
    // Those beyond ASCII are two bytes, the first of which is rare.
    let is_control = |byte: &u8| *byte < b' ' || *byte == 0x7f;
    if bytes.iter().any(is_control) || bytes.contains(&0xc2) && text.chars().any(char::is_control) {
        return Err(TopicError::Control);
    }
    Ok(())
}

/// Whether a wildcard at the front of a filter does not match this topic: those that begin with `$`, and what the gateway says of itself. A
/// client that asks for everything means what its kind has to say.
pub fn is_asked_for_by_name(topic: &str) -> bool {
    topic.starts_with('$') || split_level(topic).0 == "outrider"
}

/// Whether a valid filter matches a valid topic.
pub fn matches(filter: &str, topic: &str) -> bool {
    if filter.starts_with(['+', '#']) && is_asked_for_by_name(topic) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// The first level of a topic or filter, and what comes after its slash; `None` if there is none. Levels are short: to look at each byte
/// costs less than a search that is made for long texts.
pub fn split_level(text: &str) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == b'/') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// The levels of a topic or filter.
pub fn levels(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let level;
        (level, rest) = split_level(rest?);
        Some(level)
    })
}

/// Topics of the gateway's own: clients do not publish there.
pub fn is_reserved(topic: &str) -> bool {
    let (root, _) = split_level(topic);
    root == "alerts" || root == "outrider"
}

/// Below this, `outrider doctor` publishes to itself: nothing there is a reading, whatever routes and rules say.
pub const ECHO_ROOT: &str = "outrider-doctor";

/// Whether a topic is for trying the broker only.
pub fn is_echo(topic: &str) -> bool {
    split_level(topic).0 == ECHO_ROOT
}

/// Device, metric and kind of `alerts/{device}/{metric}/{kind}/ack`, the only topic below `alerts/` that clients may publish to. They are
/// still percent-encoded. `None` for any other topic.
pub fn alert_acknowledgement(topic: &str) -> Option<(&str, &str, &str)> {
    let mut levels = topic.split('/');
    let (root, device, metric, kind, last) =
        (levels.next()?, levels.next()?, levels.next()?, levels.next()?, levels.next()?);
    (root == "alerts" && last == "ack" && levels.next().is_none()).then_some((device, metric, kind))
}

/// Makes one level of a topic or path from any text: `%`, `/`, `+`, `#` and control characters are escaped.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '%' | '/' | '+' | '#') || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Reverses [`percent_encode`]; what is no valid escape stays as it is.
pub fn percent_decode(level: &str) -> String {
    let bytes = level.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| level.get(at + 1..at + 3)).flatten();
        let escaped = escaped.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("#", "a/b", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("+/b", "a/b", true),
            ("+", "/a", false),
            ("/+", "/a", true),
            ("a/b", "a/b", true),
            ("a/b", "a/b/", false),
            ("a/+/c", "a//c", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("#", "outrider/status", false),
            ("outrider/#", "outrider/status", true),
            ("+/status", "outriders/status", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn bad_names_are_refused_with_a_reason() {
        for (topic, expected) in [
            ("", Err(TopicError::Empty)),
            ("a/+", Err(TopicError::Wildcard)),
            ("$SYS/x", Err(TopicError::Dollar)),
            ("é/x", Ok(())),
            ("a/\0", Err(TopicError::Control)),
            ("a/\u{85}", Err(TopicError::Control)),
            ("a/\u{a9}", Ok(())),
            ("a/é", Ok(())),
        ] {
            assert_eq!(check_topic(topic), expected, "{topic:?}");
        }
        for (filter, expected) in [
            ("a/#/b", Err(TopicError::MisplacedWildcard)),
            ("a+/b", Err(TopicError::MisplacedWildcard)),
            ("$share/g/a/+", Ok(())),
            ("$share/g/a#", Err(TopicError::MisplacedWildcard)),
            ("$share/g/", Err(TopicError::Empty)),
            ("$share//a", Err(TopicError::Shared)),
            ("$share/g+/a", Err(TopicError::Shared)),
            ("$share/g", Err(TopicError::Shared)),
            ("$SYS/#", Ok(())),
            (&"a/".repeat(FILTER_LEVELS_MAX), Err(TopicError::TooManyLevels)),
            ("a/+/#", Ok(())),
            ("#", Ok(())),
        ] {
            assert_eq!(check_filter(filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn the_gateways_own_topics_are_known() {
        assert!(is_reserved("alerts/a") && is_reserved("outrider/status") && is_reserved("alerts"));
        assert!(is_echo("outrider-doctor/1") && !is_echo("outrider-doctors/1") && !is_reserved("outrider-doctor/1"));
        assert!(!is_reserved("alertsx/a") && !is_reserved("devices/alerts"));
        assert_eq!(alert_acknowledgement("alerts/d/m/gap/ack"), Some(("d", "m", "gap")));
        assert_eq!(alert_acknowledgement("alerts/d/m/gap"), None);
        assert_eq!(alert_acknowledgement("alerts/d/m/gap/ack/x"), None);
    }

    #[test]
    fn any_text_can_be_a_level() {
        for text in ["tank-1", "a/b+c#d%2F", "ä\n", "100%"] {
            let level = percent_encode(text);
            assert_eq!(check_topic(&format!("alerts/{level}")), Ok(()), "{level}");
            assert!(!level.contains('/'));
            assert_eq!(percent_decode(&level), text);
        }
        assert_eq!(percent_decode("%zz%+1%"), "%zz%+1%");
    }
}
