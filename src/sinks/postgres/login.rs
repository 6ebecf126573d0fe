//! How a server is shown who comes: by a password, by a certificate, or not at all, as the server wants it. Pure, but for a random number.

use md5::{Digest, Md5};

use super::message::{self, Authentication};
use super::url::Place;
use crate::core::delivery::{Outcome, RetryReason};
use crate::sinks::scram::{Hash, Scram, Step};
use crate::sinks::secret::Secret;

const SCRAM: &str = "SCRAM-SHA-256";

/// One login under way.
pub struct Login<'a> {
    place: &'a Place,
    password: Option<&'a Secret>,
    /// Nobody else can read what is said, and the server is known to be the right one.
    is_private: bool,
    state: State,
    is_let_in: bool,
}

enum State {
    Begun,
    Scram(Box<Scram>),
    /// Nothing more is to be proved by the server.
    Proved,
}

impl<'a> Login<'a> {
    pub fn new(place: &'a Place, password: Option<&'a Secret>, is_private: bool) -> Login<'a> {
        Login { place, password, is_private, state: State::Begun, is_let_in: false }
    }

    /// What is said to what the server asks; `None` if nothing is.
    pub fn answer(&mut self, asked: Authentication) -> Result<Option<Vec<u8>>, Outcome> {
        let mut out = Vec::new();
        match (asked, &mut self.state) {
            // A server that asks for a proof has to give one.
            (Authentication::Ok, State::Scram(_)) => {
                return Err(self.fails("the server does not prove that it knows the password"));
            }
            (Authentication::Ok, _) => {
                self.is_let_in = true;
                return Ok(None);
            }
            // Who guesses finds the password behind a digest by MD5 soon, and who asks may choose its salt.
            (Authentication::Cleartext | Authentication::Md5 { .. }, State::Begun) if !self.is_private => {
                return Err(self.fails(
                    "the server asks for the password as it is, or by md5, where others may learn it; \
                     set sslmode = \"verify-full\" in the [[sink]], or let the server use scram-sha-256",
                ));
            }
            (Authentication::Cleartext, State::Begun) => message::password(&mut out, &self.password()?.0),
            (Authentication::Md5 { salt }, State::Begun) => {
                message::password(&mut out, &md5_answer(&self.place.user, self.password()?, salt));
            }
            (Authentication::Sasl(offered), State::Begun) => {
                if !offered.iter().any(|mechanism| mechanism == SCRAM) {
                    return Err(self.fails(&format!("the server offers no login by {SCRAM}")));
                }
                let begun = Scram::begin(Hash::Sha256, &self.place.user, self.password()?);
                let scram = begun.map_err(|_| Outcome::Retry(RetryReason::Internal))?;
                message::sasl_first(&mut out, SCRAM, &scram.first());
                self.state = State::Scram(Box::new(scram));
            }
            (Authentication::SaslContinue(said), State::Scram(scram)) => match scram.next(&said) {
                Ok(Step::Say(answer)) => message::sasl_next(&mut out, &answer),
                Ok(Step::Done) => return Err(self.fails("the server goes on when all is said")),
                Err(problem) => return Err(self.fails(problem)),
            },
            (Authentication::SaslFinal(said), State::Scram(scram)) => match scram.next(&said) {
                Ok(Step::Done) => {
                    self.state = State::Proved;
                    return Ok(None);
                }
                Ok(Step::Say(_)) => return Err(self.fails("the server ends before all is said")),
                Err(problem) => return Err(self.fails(problem)),
            },
            (Authentication::Other(number), _) => {
                return Err(self.fails(&format!(
                    "the server wants a login that is not supported (number {number}); scram-sha-256 and certificates are"
                )));
            }
            _ => {
                return Err(self.fails("what the server asks is out of turn"));
            }
        }
        Ok(Some(out))
    }

    /// The server says that it is ready.
    pub fn end(&self) -> Result<(), Outcome> {
        match self.is_let_in {
            true => Ok(()),
            false => Err(self.fails("the server leaves out whether it lets in")),
        }
    }

    fn password(&self) -> Result<&Secret, Outcome> {
        self.password.ok_or_else(|| self.fails("the server asks for a password; set password in the [[sink]]"))
    }

    fn fails(&self, why: &str) -> Outcome {
        Outcome::Halt(format!("the login at {} as {} fails: {why}", self.place, self.place.user))
    }
}

fn md5_answer(user: &str, password: &Secret, salt: [u8; 4]) -> String {
    let of_password = hex(&[password.0.as_bytes(), user.as_bytes()]);
    format!("md5{}", hex(&[of_password.as_bytes(), &salt]))
}

fn hex(parts: &[&[u8]]) -> String {
    let mut digest = Md5::new();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place::parse("postgres://user@db.example.com/fleet").unwrap()
    }

    fn refusal(is_private: bool, password: Option<&Secret>, asked: Authentication) -> String {
        match Login::new(&place(), password, is_private).answer(asked) {
            Err(Outcome::Halt(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_password_is_said_as_it_is_only_where_nobody_else_reads_it() {
        let (place, secret) = (place(), Secret("secret".to_owned()));
        let mut login = Login::new(&place, Some(&secret), true);
        assert_eq!(login.answer(Authentication::Cleartext).unwrap().unwrap(), b"p\0\0\0\x0bsecret\0");
        assert!(login.end().is_err(), "it is not let in yet");
        assert_eq!(login.answer(Authentication::Ok).unwrap(), None);
        assert_eq!(login.end(), Ok(()));
        for asked in [Authentication::Cleartext, Authentication::Md5 { salt: [0; 4] }] {
            let text = refusal(false, Some(&secret), asked);
            assert!(text.contains("verify-full") && !text.contains("secret"), "{text}");
        }
    }

    /// `select 'md5' || md5(md5('pencil' || 'user') || 'salt')` says the same.
    #[test]
    fn a_digest_of_the_password_is_said_where_that_is_asked_for() {
        assert_eq!(md5_answer("user", &Secret("pencil".to_owned()), *b"salt"), "md5d3d9bcccbaa2fb5234570d4d0f22b055");
    }

    #[test]
    fn a_server_that_asks_for_a_proof_gives_one_too() {
        let (place, secret) = (place(), Secret("pencil".to_owned()));
        let mut login = Login::new(&place, Some(&secret), false);
        let offered = || Authentication::Sasl(vec![SCRAM.to_owned()]);
        let said = login.answer(offered()).unwrap().unwrap();
        assert!(said.windows(14).any(|window| window == b"SCRAM-SHA-256\0"));
        assert!(matches!(login.answer(Authentication::Ok), Err(Outcome::Halt(_))), "it has proved nothing");
        assert!(matches!(login.end(), Err(Outcome::Halt(_))), "nor by being ready without a word about it");
        assert!(matches!(login.answer(offered()), Err(Outcome::Halt(_))));
        let mut private = Login::new(&place, Some(&secret), true);
        assert!(private.answer(offered()).is_ok() && private.end().is_err());
        for weaker in [Authentication::Cleartext, Authentication::Md5 { salt: [0; 4] }] {
            assert!(matches!(private.answer(weaker), Err(Outcome::Halt(_))), "it has asked for a proof before");
        }
        let odd = Authentication::SaslContinue(b"r=x,s=AAAA,i=4096".to_vec());
        assert!(matches!(login.answer(odd), Err(Outcome::Halt(_))), "it answers another login");
    }

    #[test]
    fn what_is_missing_is_said() {
        for (asked, words) in [
            (Authentication::Md5 { salt: [0; 4] }, "set password"),
            (Authentication::Sasl(vec![SCRAM.to_owned()]), "set password"),
            (Authentication::Sasl(vec!["OTHER".to_owned()]), "no login by SCRAM-SHA-256"),
            (Authentication::Other(7), "not supported (number 7)"),
            (Authentication::SaslFinal(Vec::new()), "out of turn"),
        ] {
            let text = refusal(true, None, asked);
            assert!(text.contains(words) && text.contains("db.example.com:5432 as user"), "{text}");
        }
    }
}
