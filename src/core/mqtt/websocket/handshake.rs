//! The request with which a WebSocket begins, and its answer.
//!
//! Browsers let any page connect to any address, so a request that a browser sends for a page has to come from this host's own page or from
//! one that the operator has named. Who else connects is not judged here: programs can claim what they like, and log in over MQTT.

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, PAD};
use httparse::{Header, Request, Status};
use sha1::{Digest, Sha1};

/// Longest request head, in bytes.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// Most headers of a request.
pub const HEADERS_MAX: usize = 64;

/// Which subprotocol is taken, the preferred one first. Clients from before MQTT 3.1.1 offer the second.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// What RFC 6455 adds to the client's key.
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Some clients make up the text of a key instead of encoding bytes: the bits that are left over in it need not be zero.
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PAD.with_decode_allow_trailing_bits(true));
/// So much of an origin is repeated in a refusal.
const ORIGIN_SHOWN_MAX: usize = 100;

const CONNECT: u8 = 0x10;
const TLS_HANDSHAKE: u8 = 0x16;

// Status lines, each with the headers that belong to it.
const BAD_REQUEST: &str = "400 Bad Request";
const FORBIDDEN: &str = "403 Forbidden";
const METHOD_NOT_ALLOWED: &str = "405 Method Not Allowed\r\nAllow: GET";
const UPGRADE_REQUIRED: &str =
    "426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13";
const TOO_LARGE: &str = "431 Request Header Fields Too Large";
const VERSION_NOT_SUPPORTED: &str = "505 HTTP Version Not Supported";

/// A request that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Bytes of the request: frames may follow.
    pub used: usize,
    /// The whole answer.
    pub response: Vec<u8>,
}

/// A request that is refused. The connection ends with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The whole answer.
    pub response: Vec<u8>,
    /// What is wrong: one line, with nothing unprintable in it.
    pub text: String,
}

impl Refusal {
    fn new(status: &str, text: impl Into<String>) -> Refusal {
        let text = text.into();
        let response = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{text}\n",
            text.len() + 1
        );
        Refusal { response: response.into_bytes(), text }
    }
}

/// Judges what has come so far: `None` until the head of the request is complete.
///
/// A page may connect if its origin has the host and port that the request is for, or is one of `origins` (`https://fleet.example.com`; `*`
/// stands for all).
pub fn judge(bytes: &[u8], origins: &[String]) -> Result<Option<Upgrade>, Refusal> {
    match bytes.first() {
        Some(&CONNECT) => {
            return Err(Refusal::new(BAD_REQUEST, "this is bare MQTT, where MQTT over WebSocket is spoken"));
        }
        Some(&TLS_HANDSHAKE) => {
            return Err(Refusal::new(
                BAD_REQUEST,
                "this is TLS, where WebSocket is spoken without it: use ws://, not wss://",
            ));
        }
        _ => {}
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(&bytes[..bytes.len().min(HEAD_BYTES_MAX)]) {
        Ok(Status::Complete(used)) => Ok(Some(Upgrade { used, response: answer(&request, origins)? })),
        Ok(Status::Partial) if bytes.len() < HEAD_BYTES_MAX => Ok(None),
        Ok(Status::Partial) => {
            Err(Refusal::new(TOO_LARGE, format!("the head of the request is longer than {HEAD_BYTES_MAX} bytes")))
        }
        Err(httparse::Error::TooManyHeaders) => {
            Err(Refusal::new(TOO_LARGE, format!("the request has more than {HEADERS_MAX} headers")))
        }
        Err(httparse::Error::Version) => Err(wrong_http_version()),
        Err(error) => Err(Refusal::new(BAD_REQUEST, format!("this is no request of HTTP/1.1: {error}"))),
    }
}

fn answer(request: &Request, origins: &[String]) -> Result<Vec<u8>, Refusal> {
    let headers = Headers(request.headers);
    if request.method != Some("GET") {
        return Err(Refusal::new(METHOD_NOT_ALLOWED, "a WebSocket begins with the method GET"));
    }
    if request.version != Some(1) {
        return Err(wrong_http_version());
    }
    let is_upgrade = headers.list("Upgrade").any(|protocol| protocol.eq_ignore_ascii_case("websocket"))
        && headers.list("Connection").any(|option| option.eq_ignore_ascii_case("upgrade"));
    if !is_upgrade {
        let text = "MQTT over WebSocket is spoken here: the request needs the headers Upgrade: websocket and Connection: Upgrade, \
                    and a proxy has to pass them on";
        return Err(Refusal::new(UPGRADE_REQUIRED, text));
    }
    if headers.single("Sec-WebSocket-Version")? != Some("13") {
        return Err(Refusal::new(UPGRADE_REQUIRED, "the header Sec-WebSocket-Version has to be 13"));
    }
    let accept = accept(headers.single("Sec-WebSocket-Key")?)?;
    let subprotocol = subprotocol(&headers)?;
    check_origin(&headers, origins)?;
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    Ok(response.into_bytes())
}

fn wrong_http_version() -> Refusal {
    Refusal::new(VERSION_NOT_SUPPORTED, "a WebSocket begins with a request of HTTP/1.1")
}

/// Proves to the client that its request was understood as one for a WebSocket.
fn accept(key: Option<&str>) -> Result<String, Refusal> {
    // Room for what 24 characters can hold at most.
    let key = key.filter(|key| BASE64.decode_slice(key, &mut [0; 18]) == Ok(16));
    let key =
        key.ok_or_else(|| Refusal::new(BAD_REQUEST, "the header Sec-WebSocket-Key has to be 16 bytes in base64"))?;
    Ok(BASE64.encode(Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize()))
}

fn subprotocol(headers: &Headers) -> Result<&'static str, Refusal> {
    let is_offered = |subprotocol: &&str| headers.list("Sec-WebSocket-Protocol").any(|offer| offer == *subprotocol);
    let subprotocol = SUBPROTOCOLS.into_iter().find(is_offered);
    subprotocol
        .ok_or_else(|| Refusal::new(BAD_REQUEST, "the header Sec-WebSocket-Protocol has to offer the subprotocol mqtt"))
}

fn check_origin(headers: &Headers, origins: &[String]) -> Result<(), Refusal> {
    let host = headers.single("Host")?.ok_or_else(|| Refusal::new(BAD_REQUEST, "the header Host is missing"))?;
    let Some(origin) = headers.single("Origin")? else { return Ok(()) };
    let is_named = origins.iter().any(|named| named == "*" || named.eq_ignore_ascii_case(origin));
    if is_named || is_same_host(origin, host) {
        return Ok(());
    }
    let shown: String = origin.chars().take(ORIGIN_SHOWN_MAX).collect();
    Err(Refusal::new(
        FORBIDDEN,
        format!("pages of the origin {shown:?} may not connect: it is not among those allowed"),
    ))
}

/// Only pages of the web have an origin whose host means anything.
fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let [authority, host] = [authority, host].map(|text| text.strip_suffix(default_port).unwrap_or(text));
    !host.is_empty() && host.eq_ignore_ascii_case(authority)
}

/// The headers of a request.
struct Headers<'a>(&'a [Header<'a>]);

impl<'a> Headers<'a> {
    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }

    /// The elements of a list, which may be spread over several headers.
    fn list(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.values(name)
            .filter_map(|value| str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
    }

    /// A value that may be given only once.
    fn single(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.values(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Refusal::new(BAD_REQUEST, format!("the header {name} is given more than once")));
        }
        let text =
            str::from_utf8(value).map_err(|_| Refusal::new(BAD_REQUEST, format!("the header {name} is not UTF-8")))?;
        Ok(Some(text.trim()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
