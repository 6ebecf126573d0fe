//! Logins: PLAIN, SCRAM and IAM of Amazon MSK.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::core::delivery::{Outcome, RetryReason};
use crate::sinks::aws::service::{Service, Session};
use crate::sinks::scram::{self, Hash, Scram};
use crate::sinks::secret::Secret;

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
                let begun = Scram::begin(*hash, username, password);
                Conversation::Scram(begun.map_err(|_| Outcome::Retry(RetryReason::Internal))?)
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
            Conversation::Scram(scram) => Ok(match scram.next(answer)? {
                scram::Step::Say(message) => Step::Say(message),
                scram::Step::Done => Step::Done,
            }),
        }
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
