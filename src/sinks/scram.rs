//! The client's side of SCRAM (RFC 5802 and 7677), without channel binding.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::{digest, hmac, pbkdf2};

use super::secret::Secret;

/// Fewer would make the proof of the password cheap to attack, more would hold up the sink for seconds. 4,096 is the least that servers use
/// by default.
const ITERATIONS: RangeInclusive<u32> = 4_096..=1_000_000;
const NONCE_BYTES: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha512,
}

/// What the client does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// An answer follows that has to be looked at.
    Say(Vec<u8>),
    /// The server has proved that it knows the password.
    Done,
}

/// One login under way.
pub struct Scram {
    hash: Hash,
    username: String,
    password: Secret,
    nonce: String,
    /// What the server has to prove at the end that it knows the password, too.
    proof_of_server: Option<Vec<u8>>,
}

impl Scram {
    pub fn begin(hash: Hash, username: &str, password: &Secret) -> Result<Scram, getrandom::Error> {
        let mut random = [0; NONCE_BYTES];
        getrandom::fill(&mut random)?;
        Ok(Scram::new(hash, username, password, BASE64_STANDARD.encode(random)))
    }

    fn new(hash: Hash, username: &str, password: &Secret, nonce: String) -> Scram {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Scram { hash, username, password: password.clone(), nonce, proof_of_server: None }
    }

    fn first_bare(&self) -> String {
        format!("n={},r={}", self.username, self.nonce)
    }

    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first_bare()).into_bytes()
    }

    /// # Errors
    ///
    /// What is wrong with the server's side.
    pub fn next(&mut self, answer: &[u8]) -> Result<Step, &'static str> {
        let answer = std::str::from_utf8(answer).map_err(|_| "the answer is no text")?;
        let field = |name: &str| answer.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        if let Some(expected) = &self.proof_of_server {
            let proof = field("v").and_then(|proof| BASE64_STANDARD.decode(proof).ok());
            return match proof.is_some_and(|proof| proof == *expected) {
                true => Ok(Step::Done),
                false => Err("the server does not prove that it knows the password"),
            };
        }
        let nonce = field("r").filter(|nonce| nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len());
        let nonce = nonce.ok_or("the answer is to another login")?;
        let salt = field("s").and_then(|salt| BASE64_STANDARD.decode(salt).ok()).ok_or("there is no salt")?;
        let iterations = field("i").and_then(|count| count.parse().ok()).filter(|count| ITERATIONS.contains(count));
        let iterations = iterations.and_then(NonZeroU32::new).ok_or("the number of iterations is out of range")?;
        let unproved = format!("c=biws,r={nonce}");
        let signed = format!("{},{answer},{unproved}", self.first_bare());
        let (proof, of_server) = self.proofs(&salt, iterations, signed.as_bytes());
        self.proof_of_server = Some(of_server);
        Ok(Step::Say(format!("{unproved},p={}", BASE64_STANDARD.encode(proof)).into_bytes()))
    }

    /// The proof of the client, and that of the server.
    fn proofs(&self, salt: &[u8], iterations: NonZeroU32, signed: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (derivation, signature, hash) = match self.hash {
            Hash::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, hmac::HMAC_SHA256, &digest::SHA256),
            Hash::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, hmac::HMAC_SHA512, &digest::SHA512),
        };
        let mut salted = vec![0; hash.output_len()];
        pbkdf2::derive(derivation, iterations, salt, self.password.0.as_bytes(), &mut salted);
        let sign = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(signature, key), data);
        let client_key = sign(&salted, b"Client Key");
        let stored_key = digest::digest(hash, client_key.as_ref());
        let client_signature = sign(stored_key.as_ref(), signed);
        let proof = client_key.as_ref().iter().zip(client_signature.as_ref()).map(|(key, mask)| key ^ mask).collect();
        let server_key = sign(&salted, b"Server Key");
        (proof, sign(server_key.as_ref(), signed).as_ref().to_vec())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn said(step: Step) -> String {
        match step {
            Step::Say(message) => String::from_utf8(message).unwrap(),
            Step::Done => "done".to_owned(),
        }
    }

    /// The example of RFC 7677, section 3.
    #[test]
    fn scram_is_spoken_as_its_standard_shows() {
        let nonce = "rOprNGfwEbeRWgbNEkqO".to_owned();
        let mut scram = Scram::new(Hash::Sha256, "user", &Secret("pencil".to_owned()), nonce);
        assert_eq!(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let answer = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(said(scram.next(answer).unwrap()), last);
        assert!(scram.next(b"v=AAAA").is_err(), "whoever asks does not know the password");
        let proof = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(said(scram.next(proof).unwrap()), "done");
    }

    #[test]
    fn a_server_that_answers_oddly_is_not_told_anything() {
        let new = || Scram::new(Hash::Sha512, "a=b,c", &Secret("x".to_owned()), "nonce".to_owned());
        assert_eq!(new().first(), b"n,,n=a=3Db=2Cc,r=nonce");
        for answer in [
            "",
            "r=other1,s=AAAA,i=4096",
            "r=nonce,s=AAAA,i=4096",
            "r=nonce1,s=?,i=4096",
            "r=nonce1,s=AAAA,i=1",
            "r=nonce1,s=AAAA,i=99999999",
        ] {
            assert!(new().next(answer.as_bytes()).is_err(), "{answer}");
        }
        assert!(new().next(b"r=nonce1,s=AAAA,i=4096").is_ok());
    }
}
