//! The tokens file: a line `role name sha256:DIGEST` for each token. Empty lines and lines that begin with `#` are skipped.
//!
//! A file with any problem is refused as a whole, with what is wrong in which line. It holds digests only, so whoever reads it cannot log in.
//! They are plain SHA-256: tokens are random, so there is nothing that a slow hash would protect.

use std::collections::HashMap;

use super::role::Role;
use crate::core::digest::TokenDigest;
use crate::core::mqtt::access::LineProblem;

/// Longest token, and longest name.
pub const TOKEN_BYTES_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 128;
/// A request may be compared with all of them.
const TOKENS_MAX: usize = 256;
const PROBLEMS_MAX: usize = 20;
const FORM: &str = "a line is `role name sha256:DIGEST`, as `outrider token add FILE NAME --role ROLE` makes it";

/// Whoever a token is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub name: String,
    pub role: Role,
}

/// All tokens that let somebody in.
#[derive(Debug, Default)]
pub struct Tokens(Vec<(TokenDigest, Holder)>);

/// A name that cannot stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of a token is 1 to {NAME_BYTES_MAX} bytes without white space and control characters, not beginning with #"
)]
pub struct NameProblem;

impl Tokens {
    /// Reads a file. Tells all problems, but no more than 20.
    pub fn parse(text: &str) -> Result<Tokens, Vec<LineProblem>> {
        let mut tokens = Tokens::default();
        let (mut lines, mut problems) = (HashMap::new(), Vec::new());
        for (line, content) in (1..).zip(text.lines().map(str::trim)) {
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            match tokens.read(content, line, &mut lines) {
                Ok(entry) => tokens.0.push(entry),
                Err(text) => problems.push(LineProblem { line, text }),
            }
            if problems.len() == PROBLEMS_MAX {
                break;
            }
        }
        if problems.is_empty() { Ok(tokens) } else { Err(problems) }
    }

    /// `lines`: the line of each name so far.
    fn read<'a>(
        &self,
        content: &'a str,
        line: usize,
        lines: &mut HashMap<&'a str, usize>,
    ) -> Result<(TokenDigest, Holder), String> {
        // What is not of the form is not shown: it may be a token.
        let Ok([role, name, digest]) = <[&str; 3]>::try_from(content.split_whitespace().collect::<Vec<_>>()) else {
            return Err(format!("it does not consist of a role, a name and a digest; {FORM}"));
        };
        let role = Role::named(role)
            .ok_or_else(|| format!("it does not begin with a role: view, acknowledge or operate; {FORM}"))?;
        check_name(name).map_err(|problem| problem.to_string())?;
        let digest = digest.strip_prefix("sha256:").and_then(TokenDigest::parse);
        let digest = digest.ok_or_else(|| format!("the digest is not `sha256:` and 64 hex digits; {FORM}"))?;
        if let Some(first) = lines.insert(name, line) {
            return Err(format!("the name is in line {first} already; each name has one line"));
        }
        if let Some((_, other)) = self.0.iter().find(|(known, _)| *known == digest) {
            return Err(format!("it is the same token as that of {}; each line has its own", other.name));
        }
        match self.0.len() < TOKENS_MAX {
            true => Ok((digest, Holder { name: name.to_owned(), role })),
            false => Err(format!("more than {TOKENS_MAX} tokens")),
        }
    }

    /// Whose token it is. Looks at all of them, so that the time does not tell which is alike.
    pub fn holder(&self, token: &str) -> Option<&Holder> {
        if !is_possible(token) {
            return None;
        }
        let digest = TokenDigest::of(token.as_bytes());
        self.0.iter().fold(None, |found, (known, holder)| if known.is_equal(&digest) { Some(holder) } else { found })
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether it could be a token: it has to fit into a header and into a cookie (RFC 6265, 4.1.1).
fn is_possible(token: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
    (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(fits)
}

/// A token as people copy it: 64 hex digits, which a double click selects as a whole.
pub fn token_text(random: [u8; 32]) -> String {
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of the file with the line of this name replaced, or appended if there is none.
pub fn with_token(file: &str, holder: &Holder, token: &str) -> Result<String, NameProblem> {
    let Holder { name, role } = holder;
    check_name(name)?;
    let entry = format!("{role} {name} sha256:{}\n", TokenDigest::of(token.as_bytes()));
    let mut edited = String::with_capacity(file.len() + entry.len() + 1);
    let mut is_written = false;
    for line in file.split_inclusive('\n') {
        if !is_of(line, name) {
            edited.push_str(line);
        } else if !is_written {
            edited.push_str(&entry);
            is_written = true;
        }
    }
    if !is_written {
        let is_unended = !edited.is_empty() && !edited.ends_with('\n');
        edited.extend([if is_unended { "\n" } else { "" }, &entry]);
    }
    Ok(edited)
}

/// The text of the file without the line of this name, if there is one.
pub fn without_token(file: &str, name: &str) -> Option<String> {
    let kept: String = file.split_inclusive('\n').filter(|line| !is_of(line, name)).collect();
    (kept.len() < file.len()).then_some(kept)
}

fn check_name(name: &str) -> Result<(), NameProblem> {
    let is_fit = (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('#')
        && !name.contains(|character: char| character.is_whitespace() || character.is_control());
    is_fit.then_some(()).ok_or(NameProblem)
}

fn is_of(line: &str, name: &str) -> bool {
    !line.trim_start().starts_with('#') && line.split_whitespace().nth(1) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(role: &str, name: &str, token: &str) -> String {
        format!("{role} {name} sha256:{}\n", TokenDigest::of(token.as_bytes()))
    }

    #[test]
    fn a_token_is_of_whoever_its_line_names() {
        let text = format!("# people\n\n{}  {}", line("view", "anna", "a"), line("operate", "björn", "b"));
        let tokens = Tokens::parse(&text).expect("right");
        let holder = |token: &str| tokens.holder(token).map(|holder| (holder.name.as_str(), holder.role));
        assert_eq!(holder("a"), Some(("anna", Role::View)));
        assert_eq!(holder("b"), Some(("björn", Role::Operate)));
        for wrong in ["", "c", "a ", "A", &TokenDigest::of(b"a").to_string(), &"a".repeat(1000)] {
            assert_eq!(holder(wrong), None, "{wrong}");
        }
        assert!(Tokens::parse("# nobody\n").expect("right").is_empty());
    }

    #[test]
    fn what_does_not_fit_into_a_cookie_is_no_token() {
        for token in ["a;b", "a b", "ä", "a\n", "a\"b", "a,b", "a\\b"] {
            let tokens = Tokens::parse(&line("view", "anna", token)).expect("right");
            assert_eq!(tokens.holder(token), None, "{token}");
        }
    }

    #[test]
    fn a_wrong_line_is_named_with_what_would_be_right() {
        let right = line("view", "anna", "a");
        let digest = TokenDigest::of(b"b");
        for (wrong, expected) in [
            ("view bob".to_owned(), "consist of a role"),
            (format!("view bob x sha256:{digest}"), "consist of a role"),
            (format!("admin bob sha256:{digest}"), "begin with a role"),
            (format!("View bob sha256:{digest}"), "begin with a role"),
            (format!("view #bob sha256:{digest}"), "the name of a token is 1 to 128 bytes"),
            (format!("view {} sha256:{digest}", "b".repeat(129)), "the name of a token is 1 to 128 bytes"),
            (format!("view bob {digest}"), "64 hex digits"),
            (format!("view bob sha256:{digest}0"), "64 hex digits"),
            (line("view", "anna", "b").trim_end().to_owned(), "in line 1 already"),
            (line("view", "bob", "a").trim_end().to_owned(), "the same token as that of anna"),
        ] {
            let problems = Tokens::parse(&format!("{right}\n{wrong}\n")).expect_err(&wrong);
            let [LineProblem { line: 3, text }] = problems.as_slice() else { panic!("{wrong}: {problems:?}") };
            assert!(text.contains(expected) && !text.contains(&digest.to_string()), "{text}");
        }
        let many: String = (0..=TOKENS_MAX).map(|n| line("view", &format!("n{n}"), &n.to_string())).collect();
        assert_eq!(Tokens::parse(&many).expect_err("too many")[0].line, TOKENS_MAX + 1);
        assert_eq!(Tokens::parse(&"x\n".repeat(99)).expect_err("wrong").len(), PROBLEMS_MAX);
    }

    #[test]
    fn a_line_is_replaced_appended_and_removed_and_the_others_stay() {
        let holder = |name: &str, role| Holder { name: name.to_owned(), role };
        let first = with_token("# people", &holder("anna", Role::View), "a").expect("right");
        assert_eq!(first, format!("# people\n{}", line("view", "anna", "a")));
        let second = with_token(&first, &holder("bob", Role::Operate), "b").expect("right");
        let third = with_token(&second, &holder("anna", Role::Acknowledge), "c").expect("right");
        assert_eq!(third, format!("# people\n{}{}", line("acknowledge", "anna", "c"), line("operate", "bob", "b")));
        assert_eq!(without_token(&third, "anna"), Some(format!("# people\n{}", line("operate", "bob", "b"))));
        assert_eq!(without_token(&third, "people"), None);
        for name in ["", "a b", "#a", "a\u{7}", "a\nview b"] {
            assert_eq!(with_token("", &holder(name, Role::View), "a"), Err(NameProblem), "{name:?}");
        }
    }

    #[test]
    fn a_token_is_as_long_as_it_is_random() {
        assert_eq!(token_text([0xa5; 32]), "a5".repeat(32));
    }
}
