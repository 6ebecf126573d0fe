use super::*;

const HORSE: &[u8] = b"correct horse";
const BYTES: &[u8] = b"\x00\xff\x00";
const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz234567";

/// Secrets that other programs computed: `argon2id` by its reference implementation, the others by Python's hashlib
/// and by another broker's tool.
const KNOWN: [(&str, &[u8], &str); 11] = [
    (
        "argon2id",
        HORSE,
        "$argon2id$v=19$m=7168,t=5,p=1$AAECAwQFBgcICQoLDA0ODw$I9aBicNnH49yuiIjQJC85giAQWszITIjdobXf3FdYMg",
    ),
    (
        "argon2id",
        HORSE,
        "$argon2id$v=19$m=47104,t=1,p=1$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo\
         7PD0+Pw$aVo1St5PsxylF7NjjIPOOE5jxNbeUNweT/LEl8ONyxYqiqflWO7BotCdzcmTPqR4fg0oMZSzDQFY9PDfbH+biw",
    ),
    ("argon2id", BYTES, "$argon2id$v=19$m=67,t=3,p=2$c2FsdHNhbHQ$/hWoyy02DXQQdR/hR0yROg"),
    ("argon2id", b"", "$argon2id$v=19$m=32,t=1,p=4$AAECAwQFBgc$BI/4rSVaYdu6nUFoQnh/3Tw8rOOB7fUB"),
    (
        "pbkdf2",
        HORSE,
        "$7$101$AAECAwQFBgcICQoL$lp0Cm29zl+CI/RXyXDKvLye7OxM3OuE6RMzgXTX/f3imS/pFh2Ur7yarLDpKRUKpB0tOj6l0UrRv41zqxmD4tg==",
    ),
    (
        "pbkdf2",
        BYTES,
        "$7$1000$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==$6CVcPYS8J1lk4t\
         Hkc8FwVdIkQk9lgW4ylmpHP2K+6uUmJal0ATlc9g6Fwh2PTKW5XESm5ph7dXAeyLXF0L6neg==",
    ),
    (
        "pbkdf2",
        HORSE,
        "$7$101$NboRYL1MYzF99NaY$LxxjGVuMhhMAphF8/vf2VddrpLnhDfdyOaJ4+7exFaJa0Bd2fMHqyqEjRCD7MnqQcqLR5z2UD+FfDrKECu36NQ==",
    ),
    (
        "sha512",
        HORSE,
        "$6$AAECAwQFBgcICQoL$5W8GCQ9GLgmhmQvoa8jmRaPnsh82mRigdSv6mQsK0sMIII/WznlQb1g+RWddfoAKTMzBJP1deJU+Rp/1QZ0zZg==",
    ),
    (
        "sha512",
        BYTES,
        "$6$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==$TdZFEDcVFcYMdnfCV2X\
         LnObwh4vdrpD1vdJSlzZ7N2q452irPBK5DJHMp1TeA0ExAMpyKXS41FjGfcMO3BHePw==",
    ),
    (
        "sha512",
        HORSE,
        "$6$YIngbDjiALUxMrjV$gdPIGi3ZTEKH7tNI6wRLHiRMfJtlVOl1x6f8VOsmhIcvr9zYfLhCy1Aa9xdVvms97IU62T2SKj1omSq9xUOkBw==",
    ),
    ("token", TOKEN.as_bytes(), "$token$84cb29b2c78b393c0d30a90d5a9f670267d02d9ec3743fc1800acff8b03bac15"),
];

fn problem(text: &str) -> String {
    Secret::parse(text).expect_err(text).to_string()
}

#[test]
fn secrets_that_others_computed_are_verified() {
    // One memory for all, from small to large and back: what earlier passwords left in it does not matter.
    let mut memory = Memory::new();
    for (kind, password, text) in KNOWN.iter().chain(KNOWN.iter().rev()) {
        let secret = Secret::parse(text).expect(text);
        assert!(secret.verify(password, &mut memory), "{text}");
        assert_eq!(format!("{secret:?}"), format!("Secret({kind})"), "no hash is shown");
        assert_eq!(secret.is_cheap(), ["sha512", "token"].contains(kind), "{text}");
    }
}

#[test]
fn wrong_passwords_are_refused_by_each_kind_of_secret() {
    let mut memory = Memory::new();
    for (kind, password, text) in KNOWN {
        let secret = Secret::parse(text).expect(text);
        let mut wrong = vec![[password, b"x"].concat(), text.as_bytes().to_vec(), vec![b'x'; PASSWORD_MAX + 1]];
        wrong.push([password, b"\0"].concat());
        if let Some((last, prefix)) = password.split_last() {
            wrong.extend([vec![], prefix.to_vec(), [prefix, &[last ^ 1]].concat(), password[1..].to_vec()]);
            wrong.push([&[password[0] ^ 0x80], &password[1..]].concat());
        }
        // HMAC pads a password with zeros: with more or fewer at the end it is the same to pbkdf2.
        let unpadded = |password: &[u8]| {
            let zeros = password.iter().rev().take_while(|byte| **byte == 0).count();
            password[..password.len() - zeros].to_vec()
        };
        wrong.retain(|wrong| kind != "pbkdf2" || unpadded(wrong) != unpadded(password));
        for wrong in wrong.iter().filter(|wrong| *wrong != password) {
            assert!(!secret.verify(wrong, &mut memory), "{text} {wrong:?}");
        }
    }
}

#[test]
fn the_longest_password_is_verified_and_a_longer_one_is_refused() {
    let texts = [
        "$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgcICQoLDA0ODw$zbaxZ76u0TPyEZd8lYpdWhlYTg0QQc5eEooF8pkR9EI",
        "$7$1$AAECAwQFBgc=$aT3yr49U08bZhAiMg6ZmURpFOFcYMPHtd9h5f7sIqsg+NwrD3iFs3SBmFGH4Ryd5PjwBMeVDzRo173sD6Jweuw==",
        &token(&"x".repeat(PASSWORD_MAX)),
    ];
    let longer = vec![b'x'; PASSWORD_MAX + 1];
    let mut memory = Memory::new();
    for text in texts {
        let secret = Secret::parse(text).expect(text);
        assert!(secret.verify(&longer[1..], &mut memory), "{text}");
        assert!(!secret.verify(&longer, &mut memory), "{text}");
    }
    let secret = Secret::parse(&token(&"x".repeat(PASSWORD_MAX + 1))).unwrap();
    assert!(!secret.verify(&longer, &mut memory), "although its hash is right");
}

#[test]
fn nothing_fits_the_dummy_and_it_costs_what_our_own_secrets_cost() {
    let (dummy, mut memory) = (Secret::dummy(), Memory::new());
    assert!(!dummy.verify(b"", &mut memory) && !dummy.verify(HORSE, &mut memory));
    assert_eq!(memory.blocks.len(), 7168);
    let own = Secret::parse(&argon2id(b"", [0; 16], &mut memory)).unwrap();
    let costs = [dummy, own].map(|secret| match secret.0 {
        Kind::Argon2id(Cost { memory, passes, lanes }, salted) => {
            (memory, passes, lanes, salted.salt.len(), salted.hash.len())
        }
        _ => panic!("not argon2id"),
    });
    assert_eq!(costs, [(7168, 5, 1, 16, 32); 2]);
}

#[test]
fn memory_grows_only_to_what_is_needed() {
    let mut memory = Memory::new();
    for (needed, held) in [(67, 64), (32, 64), (7168, 7168), (47_104, 47_104), (67, 47_104)] {
        let text = format!("$argon2id$v=19$m={needed},t=1,p=2$AAECAwQFBgc$AAECAwQFBgcICQoLDA0ODw");
        assert!(!Secret::parse(&text).unwrap().verify(HORSE, &mut memory));
        assert_eq!((memory.blocks.len(), memory.blocks.capacity()), (held, held), "{needed}");
    }
    assert!(memory.blocks(usize::MAX / Block::SIZE).is_none(), "a refusal, no panic");
}

#[test]
fn secrets_are_made_as_others_make_them() {
    let mut memory = Memory::new();
    let salt = std::array::from_fn(|place| place as u8);
    assert_eq!(argon2id(HORSE, salt, &mut memory), KNOWN[0].2);
    assert_ne!(argon2id(HORSE, [7; 16], &mut memory), argon2id(HORSE, [8; 16], &mut memory));
    assert_eq!(token(TOKEN), KNOWN[10].2);
    let upper = KNOWN[10].2.to_uppercase().replace("TOKEN", "token");
    assert!(Secret::parse(&upper).unwrap().verify(TOKEN.as_bytes(), &mut memory));
    assert!(!Secret::parse(&upper).unwrap().verify(TOKEN.to_uppercase().as_bytes(), &mut memory));
}

#[test]
fn a_token_is_written_in_base32() {
    let counting = std::array::from_fn(|place| place as u8);
    let mixed = std::array::from_fn(|place| (place * 37 + 11) as u8);
    let known = [
        ([0; 20], "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ([255; 20], "77777777777777777777777777777777"),
        (counting, "aaaqeayeaudaocajbifqydiob4ibceqt"),
        (mixed, "bmyfk6u7ytuq4m2ypwrmp3argznybjok"),
    ];
    for (random, text) in known {
        assert_eq!(token_text(random), text);
    }
}

#[test]
fn texts_of_another_form_are_refused_with_what_would_be_right() {
    let made = "`outrider passwd FILE NAME` makes";
    let (missing, plain) = ("there is no secret", "the password is plain text, which is refused");
    let kind = "the kind of secret is none of $argon2id$, $7$, $6$ and $token$";
    for (text, words) in [("", missing), ("secret", plain), ("pa$$word", plain), (" $6$a$b", plain)] {
        assert!(problem(text).starts_with(words) && problem(text).contains(made), "{text}");
    }
    for text in ["$", "$$", "$word", "$5$a$b", "$2b$12$abc", "$argon2i$v=19$m=64,t=1,p=1$a$b", "$ARGON2ID$", "$Token$0"]
    {
        assert!(problem(text).starts_with(kind) && problem(text).contains(made), "{text}");
    }
    let forms = [
        ("$argon2id", "$argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH"),
        ("$7$", "$7$ITERATIONS$SALT$HASH"),
        ("$6$", "$6$SALT$HASH"),
        ("$token$", "$token$ and 64 hex digits"),
    ];
    let digits = "0".repeat(63);
    let texts = [
        "$argon2id",
        "$argon2id$m=64,t=1,p=1$AAECAwQFBgc$AAECAwQFBgcICQoLDA0ODw",
        "$argon2id$v=16$m=64,t=1,p=1$AAECAwQFBgc$AAECAwQFBgcICQoLDA0ODw",
        "$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgc",
        "$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgc$AAECAwQFBgcICQoLDA0ODw$",
        "$argon2id$v=19$t=1,m=64,p=1$AAECAwQFBgc$AAECAwQFBgcICQoLDA0ODw",
        "$argon2id$v=19$m=64,t=1$AAECAwQFBgc$AAECAwQFBgcICQoLDA0ODw",
        "$argon2id$v=19$m=64,t=1,p=1,keyid=AA$AAECAwQFBgc$AAECAwQFBgcICQoLDA0ODw",
        "$argon2id$v=19$m=+64,t=1,p=1$AAECAwQFBgc$AAECAwQFBgcICQoLDA0ODw",
        "$argon2id$v=19$m=64,t=,p=1$AAECAwQFBgc$AAECAwQFBgcICQoLDA0ODw",
        "$7$",
        "$7$101$AAECAwQFBgcICQoL",
        "$7$-1$AAECAwQFBgcICQoL$AA==",
        "$7$1e3$AAECAwQFBgcICQoL$AA==",
        "$6$",
        "$6$AAECAwQFBgcICQoL",
        "$6$AAECAwQFBgcICQoL$AA==$",
        "$token$",
        &format!("$token${digits}"),
        &format!("$token${digits}g"),
        &format!("$token${digits}00"),
        &format!("$token${}ä", &digits[1..]),
        &format!("$token$+{digits}"),
    ];
    for text in texts {
        let (_, form) = forms.iter().find(|(start, _)| text.starts_with(start)).unwrap();
        assert_eq!(problem(text), format!("the secret is not of the form {form}"), "{text}");
    }
}

#[test]
fn costs_and_lengths_are_capped_with_words_that_say_what_is_allowed() {
    let argon2id = |cost: &str, salt: usize, hash: usize| {
        let [salt, hash] = [salt, hash].map(|length| BASE64_STANDARD_NO_PAD.encode(vec![7; length]));
        format!("$argon2id$v=19${cost}${salt}${hash}")
    };
    let padded = |start: &str, salt: usize, hash: usize| {
        let [salt, hash] = [salt, hash].map(|length| base64::prelude::BASE64_STANDARD.encode(vec![7; length]));
        format!("{start}{salt}${hash}")
    };
    let allowed = [
        argon2id("m=65536,t=4,p=4", 8, 16),
        argon2id("m=16384,t=16,p=1", 64, 64),
        argon2id("m=8,t=1,p=1", 8, 64),
        argon2id("m=32,t=1,p=4", 8, 17),
        padded("$7$1$", 8, 64),
        padded("$7$1000000$", 64, 64),
        padded("$6$", 8, 64),
        padded("$6$", 64, 64),
    ];
    for text in allowed {
        assert!(Secret::parse(&text).is_ok(), "{text}");
    }
    let memory = "memory m in KiB must be 8 to 65536";
    let (salt, hash) = ("length of the salt in bytes must be 8 to 64", "length of the hash in bytes must be");
    let refused = [
        (argon2id("m=65537,t=1,p=1", 16, 32), memory.to_owned()),
        (argon2id("m=7,t=1,p=1", 16, 32), memory.to_owned()),
        (argon2id("m=99999999999999999999,t=1,p=1", 16, 32), memory.to_owned()),
        (argon2id("m=31,t=1,p=4", 16, 32), "memory m in KiB must be 32 to 65536".to_owned()),
        (argon2id("m=64,t=0,p=1", 16, 32), "passes t must be 1 to 16".to_owned()),
        (argon2id("m=64,t=17,p=1", 16, 32), "passes t must be 1 to 16".to_owned()),
        (argon2id("m=64,t=1,p=0", 16, 32), "lanes p must be 1 to 4".to_owned()),
        (argon2id("m=64,t=1,p=5", 16, 32), "lanes p must be 1 to 4".to_owned()),
        (argon2id("m=64,t=1,p=4294967295", 16, 32), "lanes p must be 1 to 4".to_owned()),
        (argon2id("m=52429,t=5,p=1", 16, 32), "memory m in KiB times the passes t must be 1 to 262144".to_owned()),
        (argon2id("m=64,t=1,p=1", 7, 32), salt.to_owned()),
        (argon2id("m=64,t=1,p=1", 65, 32), salt.to_owned()),
        (argon2id("m=64,t=1,p=1", 100_000, 32), salt.to_owned()),
        (argon2id("m=64,t=1,p=1", 16, 15), format!("{hash} 16 to 64")),
        (argon2id("m=64,t=1,p=1", 16, 65), format!("{hash} 16 to 64")),
        (argon2id("m=64,t=1,p=1", 16, 0), format!("{hash} 16 to 64")),
        (padded("$7$0$", 12, 64), "iterations must be 1 to 1000000".to_owned()),
        (padded("$7$1000001$", 12, 64), "iterations must be 1 to 1000000".to_owned()),
        (padded("$7$101$", 7, 64), salt.to_owned()),
        (padded("$7$101$", 12, 63), format!("{hash} 64")),
        (padded("$6$", 65, 64), salt.to_owned()),
        (padded("$6$", 12, 65), format!("{hash} 64")),
    ];
    for (text, words) in refused {
        assert_eq!(problem(&text), format!("the {words}"), "{text}");
    }
    let not_base64 = [
        ("$6$AAECAwQF*gcICQoL$AA==", "salt"),
        ("$7$1$AAECAwQFBgc$A-A=", "hash"),
        ("$7$1$AAECAwQFBgcIC===$AA==", "salt"),
        ("$6$AAECAwQFBgcICQoL$A\u{e4}==", "hash"),
        ("$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgc$AAECAwQFBgcICQoLDA0OD-", "hash"),
        ("$argon2id$v=19$m=64,t=1,p=1$AAECAwQFBgc$AAECAwQFBgcICQoLDA0OD\n", "hash"),
    ];
    for (text, name) in not_base64 {
        assert_eq!(problem(text), format!("the {name} is not base64"), "{text}");
    }
}
