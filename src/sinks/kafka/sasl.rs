//! Logins: PLAIN, SCRAM (RFC 5802 and 7677) and IAM of Amazon MSK.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::{digest, hmac, pbkdf2};
use serde_json::{Map, Value};

use crate::core::delivery::{Outcome, RetryReason};
use crate::sinks::aws::service::{Service, Session};
use crate::sinks::secret::Secret;

/// Fewer would make the proof of the password cheap to attack, more would hold up the sink for seconds. Kafka's default is the least.
const ITERATIONS: RangeInclusive<u32> = 4_096..=1_000_000;
const NONCE_BYTES: usize = 24;
/// How long a login's signature is valid. The session that it begins is not bound to that.
const TOKEN_LASTS: Duration = Duration::from_secs(900);

/// How to log in.
pub enum Login {
    None,
    Plain {
        username: String,
        password: Secret,
    },
    Scram {
        hash: Hash,
        username: String,
        password: Secret,
    },
    /// The credentials of AWS, signed for the broker.
    MskIam(Box<Service>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha512,
}

/// What the client does next.
pub enum Step {
    /// An answer follows that has to be looked at.
    Say(Vec<u8>),
    /// That the broker takes it is enough.
    SayLast(Vec<u8>),
    Done,
}

/// One login under way.
pub enum Conversation {
    Once(Vec<u8>),
    Scram(Scram),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.mechanism().unwrap_or("none"))
    }
}

impl Login {
    pub fn mechanism(&self) -> Option<&'static str> {
        match self {
            Login::None => None,
            Login::Plain { .. } => Some("PLAIN"),
            Login::Scram { hash: Hash::Sha256, .. } => Some("SCRAM-SHA-256"),
            Login::Scram { hash: Hash::Sha512, .. } => Some("SCRAM-SHA-512"),
            Login::MskIam(_) => Some("AWS_MSK_IAM"),
        }
    }

    pub async fn begin(&self, host: &str) -> Result<Conversation, Outcome> {
        Ok(match self {
            Login::None => Conversation::Once(Vec::new()),
            Login::Plain { username, password } => {
                Conversation::Once(format!("\0{username}\0{}", password.0).into_bytes())
            }
            Login::Scram { hash, username, password } => {
                let mut random = [0; NONCE_BYTES];
                getrandom::fill(&mut random).map_err(|_| Outcome::Retry(RetryReason::Internal))?;
                let nonce = BASE64_STANDARD.encode(random);
                Conversation::Scram(Scram::new(*hash, username, password, nonce))
            }
            Login::MskIam(service) => Conversation::Once(token(service, host).await?),
        })
    }

    /// The broker does not let this client in.
    pub async fn refused(&self, broker: &str, words: &str) -> Outcome {
        let what = match self {
            Login::MskIam(_) => "look at the credentials' permission kafka-cluster:Connect, and at the clock here",
            _ => "look at username and password of the [[sink]]",
        };
        let outcome = Outcome::Halt(format!("{broker} refuses the login ({words}); {what}"));
        if let Login::MskIam(service) = self {
            service.heed(&outcome, None).await;
        }
        outcome
    }
}

impl Conversation {
    pub fn first(&mut self) -> Step {
        match self {
            Conversation::Once(message) => Step::SayLast(std::mem::take(message)),
            Conversation::Scram(scram) => Step::Say(scram.first()),
        }
    }

    /// # Errors
    ///
    /// What is wrong with the broker's side.
    pub fn next(&mut self, answer: &[u8]) -> Result<Step, &'static str> {
        match self {
            Conversation::Once(_) => Ok(Step::Done),
            Conversation::Scram(scram) => scram.next(answer),
        }
    }
}

/// The client's side of SCRAM.
pub struct Scram {
    hash: Hash,
    username: String,
    password: Secret,
    nonce: String,
    /// What the broker has to prove at the end that it knows the password, too.
    proof_of_server: Option<Vec<u8>>,
}

impl Scram {
    fn new(hash: Hash, username: &str, password: &Secret, nonce: String) -> Scram {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Scram { hash, username, password: password.clone(), nonce, proof_of_server: None }
    }

    fn first_bare(&self) -> String {
        format!("n={},r={}", self.username, self.nonce)
    }

    fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first_bare()).into_bytes()
    }

    fn next(&mut self, answer: &[u8]) -> Result<Step, &'static str> {
        let answer = std::str::from_utf8(answer).map_err(|_| "the answer is no text")?;
        let field = |name: &str| answer.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        if let Some(expected) = &self.proof_of_server {
            let proof = field("v").and_then(|proof| BASE64_STANDARD.decode(proof).ok());
            return match proof.is_some_and(|proof| proof == *expected) {
                true => Ok(Step::Done),
                false => Err("the broker does not prove that it knows the password"),
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

    /// The proof of the client, and that of the broker.
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

/// A signed request to connect, as the fields of an object.
async fn token(service: &Service, host: &str) -> Result<Vec<u8>, Outcome> {
    let session = service.session().await?;
    token_of(service, host, &session, service.now())
        .ok_or_else(|| Outcome::Halt("the login cannot be signed: look at region and brokers".to_owned()))
}

fn token_of(service: &Service, host: &str, session: &Session, at: SystemTime) -> Option<Vec<u8>> {
    let url = format!("https://{host}/?Action=kafka-cluster%3AConnect");
    let signed = service.sign_query(&url, host, session, (at, TOKEN_LASTS))?;
    let mut fields = Map::new();
    let mut put = |name: &str, value: String| drop(fields.insert(name.to_owned(), Value::String(value)));
    put("version", "2020_10_22".to_owned());
    put("host", host.to_owned());
    put("user-agent", concat!("outrider/", env!("CARGO_PKG_VERSION")).to_owned());
    put("action", "kafka-cluster:Connect".to_owned());
    signed.into_iter().for_each(|(name, value)| put(&name.to_ascii_lowercase(), value));
    Some(Value::Object(fields).to_string().into_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_credential_types::Credentials;

    use super::*;
    use crate::sinks::aws::AwsConnection;

    fn said(step: Step) -> String {
        match step {
            Step::Say(message) | Step::SayLast(message) => String::from_utf8(message).unwrap(),
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
    fn a_broker_that_answers_oddly_is_not_told_anything() {
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

    /// The signature is botocore's, of the same request, credentials and time.
    #[test]
    fn the_credentials_of_aws_sign_a_request_to_connect() {
        let connection = AwsConnection {
            region: None,
            endpoint: None,
            connect_timeout: TOKEN_LASTS,
            request_timeout: TOKEN_LASTS,
            role_alias: None,
        };
        let service = Service::new("kafka-cluster", connection.clone(), connection.connector());
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("token/+=".to_owned()), None, "test");
        let session = Session::of(credentials, "eu-central-1");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_953_600);
        let token = token_of(&service, "b-1.fleet.kafka.eu-central-1.amazonaws.com", &session, at).unwrap();
        let expected = serde_json::json!({
            "version": "2020_10_22",
            "host": "b-1.fleet.kafka.eu-central-1.amazonaws.com",
            "user-agent": concat!("outrider/", env!("CARGO_PKG_VERSION")),
            "action": "kafka-cluster:Connect",
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": "AKIDEXAMPLE/20261129/eu-central-1/kafka-cluster/aws4_request",
            "x-amz-date": "20261129T120000Z",
            "x-amz-expires": "900",
            "x-amz-signedheaders": "host",
            "x-amz-security-token": "token/+=",
            "x-amz-signature": "dd3d9d32a413d88431a6b1bb358f80f806e428f466bec4f8f79f444461b39370",
        });
        assert_eq!(serde_json::from_slice::<Value>(&token).unwrap(), expected);
    }

    #[test]
    fn passwords_are_not_shown() {
        let login = Login::Plain { username: "u".to_owned(), password: Secret("secret".to_owned()) };
        assert_eq!(format!("{login:?}"), "PLAIN");
    }
}
