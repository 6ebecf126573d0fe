use super::super::password::{Memory, token};
use super::*;

fn problems(text: &str) -> Vec<(usize, String)> {
    Users::parse(text).expect_err(text).into_iter().map(|problem| (problem.line, problem.text)).collect()
}

#[test]
fn users_are_found_by_exactly_their_name() {
    let names =
        ["bob", "Bob", "BOB", "b\u{43e}b", "bobb", "bo", "Anonymous", "bob smith", "bob#1", "bob@site/1", "b\u{f6}b"];
    let lines = names.map(|name| format!("{name}:{}\n", token(name)));
    let users = Users::parse(&lines.concat()).unwrap();
    assert_eq!((users.len(), users.is_empty()), (names.len(), false));
    for name in names {
        let secret = users.secret(name).expect(name);
        for other in names {
            assert_eq!(secret.verify(other.as_bytes(), &mut Memory::new()), name == other, "{name} {other}");
        }
    }
    for unknown in ["", "b", "bob ", " bob", "bob:", "bob\0", "bobbb", "bo\u{308}b", "anonymous", "#"] {
        assert!(users.secret(unknown).is_none(), "{unknown}");
    }
}

#[test]
fn empty_lines_comments_line_endings_and_a_byte_order_mark_are_skipped() {
    let [ann, bob] = ["ann", "bob"].map(|name| format!("{name}:{}", token(name)));
    let texts = [
        format!("{ann}\n{bob}"),
        format!("{ann}\r\n\r\n{bob}\r\n"),
        format!("\u{feff}{ann}\n{bob}  \t\n"),
        format!("\u{feff}# users\n\n   \n#ann:plain\n{ann}\n#\n{bob}\n\n"),
    ];
    for text in texts {
        let users = Users::parse(&text).expect(&text);
        let is_right = ["ann", "bob"]
            .map(|name| users.secret(name).map(|secret| secret.verify(name.as_bytes(), &mut Memory::new())));
        assert_eq!((users.len(), is_right), (2, [Some(true); 2]), "{text}");
    }
    for text in ["", "\n", "# nobody", "\u{feff}", "\r\n# nobody\r\n"] {
        assert!(Users::parse(text).unwrap().is_empty(), "{text:?}");
    }
}

#[test]
fn each_refused_line_is_told_with_its_number_and_what_would_be_right() {
    let secret = token("secret");
    let long = "n".repeat(129);
    let lines = [
        ("secret-without-a-name".to_owned(), "there is no `:`; a line is `name:secret`"),
        (format!(":{secret}"), "the name is empty; it has 1 to 128 bytes"),
        (format!("{long}:{secret}"), "the name is too long; it has 1 to 128 bytes"),
        (format!("\u{e4}{}:{secret}", &long[3..]), ""),
        (
            format!("a\tb:{secret}"),
            "the name has a control character; it has letters, digits and other visible characters",
        ),
        (
            format!("a\u{85}b:{secret}"),
            "the name has a control character; it has letters, digits and other visible characters",
        ),
        (format!(" ann:{secret}"), "the name begins or ends with white space; it has white space only within"),
        (format!("ann\u{a0}:{secret}"), "the name begins or ends with white space; it has white space only within"),
        (format!("anonymous:{secret}"), "the name `anonymous` stands for clients without a login; choose another"),
        (format!("bob:{secret}"), ""),
        (format!("bob:{secret}"), "the name is in line 10 already; each user has one line"),
        (
            "cat:letmein".to_owned(),
            "the password is plain text, which is refused; `outrider passwd FILE NAME` makes lines with its hash",
        ),
        (format!("cat:{secret}"), "the name is in line 12 already; each user has one line"),
        ("dan:".to_owned(), "there is no secret behind the `:`; `outrider passwd FILE NAME` makes such lines"),
        (
            "eve:$5$letmein".to_owned(),
            "the kind of secret is none of $argon2id$, $7$, $6$ and $token$; `outrider passwd FILE NAME` makes such lines",
        ),
        ("fay:$token$12".to_owned(), "the secret is not of the form $token$ and 64 hex digits"),
        (
            format!("gus::{secret}"),
            "the password is plain text, which is refused; `outrider passwd FILE NAME` makes lines with its hash",
        ),
    ];
    let text: Vec<_> = lines.iter().map(|(line, _)| line.as_str()).collect();
    let expected = (1..).zip(lines.iter().map(|(_, words)| (*words).to_owned())).filter(|(_, words)| !words.is_empty());
    let found = problems(&text.join("\n"));
    assert_eq!(found, expected.collect::<Vec<_>>());
    for (_, words) in found {
        assert!(!words.contains("letmein") && !words.contains("without-a-name"), "secrets are not shown: {words}");
    }
    let problem = LineProblem { line: 7, text: "of old".into() };
    assert_eq!(problem.to_string(), "line 7: of old");
}

#[test]
fn no_more_than_20_problems_are_told() {
    let found = problems(&"plain:text\n".repeat(1000));
    assert_eq!((found.len(), found[19].0), (20, 20));
    assert_eq!(problems(&format!("{}ann:plain", "# nobody\n".repeat(99))).len(), 1);
}

#[test]
fn no_more_than_100000_users_are_read() {
    let secret = token("");
    let mut text: String = (0..100_000).map(|number| format!("device-{number}:{secret}\n")).collect();
    assert_eq!(Users::parse(&text).unwrap().len(), 100_000);
    text.push_str(&format!("one-more:{secret}\nanother:{secret}\n"));
    assert_eq!(problems(&text), [(100_001, "more than 100000 users".to_owned())]);
}

#[test]
fn a_user_is_replaced_or_appended_and_all_else_stays() {
    let (old, new) = (token("old"), token("new"));
    let cases = [
        ("", "bob:NEW\n"),
        ("\u{feff}", "\u{feff}bob:NEW\n"),
        ("\n", "\nbob:NEW\n"),
        ("# users", "# users\nbob:NEW\n"),
        ("# users\r\n", "# users\r\nbob:NEW\r\n"),
        ("# users\r\nann:OLD", "# users\r\nann:OLD\r\nbob:NEW\r\n"),
        ("bob:OLD", "bob:NEW\n"),
        ("\u{feff}bob:OLD\nann:OLD\n", "\u{feff}bob:NEW\nann:OLD\n"),
        ("ann:OLD\r\nbob:OLD", "ann:OLD\r\nbob:NEW\r\n"),
        ("ann:OLD\r\nbob:OLD\r\n\r\n# end", "ann:OLD\r\nbob:NEW\r\n\r\n# end"),
        ("#bob:OLD\n\nbob:OLD\n  \nann:OLD", "#bob:OLD\n\nbob:NEW\n  \nann:OLD"),
        ("bob:\nnonsense\nbob:plain\nann: x \n", "bob:NEW\nnonsense\nann: x \n"),
        ("bobb:OLD\nbo:OLD\nBob:OLD\n bob:OLD\n", "bobb:OLD\nbo:OLD\nBob:OLD\n bob:OLD\nbob:NEW\n"),
        ("ann:OLD\nbob\n", "ann:OLD\nbob\nbob:NEW\n"),
        ("ann:OLD\nbob:OLD\r\ncat:OLD\n", "ann:OLD\nbob:NEW\r\ncat:OLD\n"),
    ];
    for (before, after) in cases {
        let [before, after] = [before, after].map(|text| text.replace("OLD", &old).replace("NEW", &new));
        assert_eq!(with_user(&before, "bob", &new), Ok(after.clone()), "{before:?}");
        assert_eq!(with_user(&after, "bob", &new), Ok(after.clone()), "twice is as once: {before:?}");
    }
}

#[test]
fn a_name_or_secret_that_would_not_be_read_again_is_not_written() {
    let secret = token("secret");
    let long = "n".repeat(129);
    let names = [
        ("", NameProblem::Empty),
        (long.as_str(), NameProblem::Long),
        ("a\nb", NameProblem::Control),
        ("a\0", NameProblem::Control),
        ("a:b", NameProblem::Colon),
        ("#a", NameProblem::Comment),
        ("a ", NameProblem::WhiteSpace),
        ("\u{feff}bob", NameProblem::WhiteSpace),
        ("anonymous", NameProblem::Anonymous),
    ];
    for (name, problem) in names {
        assert_eq!(with_user("", name, &secret), Err(problem), "{name:?}");
    }
    for name in [&long[1..], "b\u{f6}b", "bob smith", "b#"] {
        let file = with_user("", name, &secret).expect(name);
        assert!(Users::parse(&file).unwrap().secret(name).is_some(), "{name}");
    }
    for broken in ["", "plain", &format!("{secret}\n"), &format!("{secret}\neve:{secret}"), &format!(" {secret}")] {
        assert!(matches!(with_user("", "bob", broken), Err(NameProblem::Secret(_))), "{broken:?}");
    }
}

#[test]
fn a_user_is_removed_and_all_else_stays() {
    let cases = [
        ("bob:x", Some("")),
        ("\u{feff}bob:x\r\nann:y", Some("\u{feff}ann:y")),
        ("# users\r\nbob:x\r\n\r\nann:y\r\n", Some("# users\r\n\r\nann:y\r\n")),
        ("ann:y\nbob:x", Some("ann:y\n")),
        ("bob:x\nann:y\nbob:z\n", Some("ann:y\n")),
        ("", None),
        ("#bob:x\nbob\nbobb:x\nBob:x\nbo:b:x\n bob:x\n", None),
    ];
    for (before, after) in cases {
        assert_eq!(without_user(before, "bob").as_deref(), after, "{before:?}");
    }
    assert_eq!(without_user(" bob:x\nann:y\n", " bob").as_deref(), Some("ann:y\n"), "also a line that is refused");
    assert_eq!(without_user("# a:b\nann:y\n", "# a"), None, "a comment is no user");
}
