//! The messages of PostgreSQL's protocol 3.0 that are needed here: those that a client sends are appended to a buffer, those of the server are
//! read from one.
//!
//! Deliberately absent: COPY, cursors, cancelling, and values in the binary form of their types. A value is a text, which the server reads as it
//! reads a literal.

/// What a client that wants TLS says first. The answer is one byte.
pub const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// The answer of a server that begins TLS.
pub const TLS_ACCEPTED: u8 = b'S';
/// The answer of a server that has no TLS.
pub const TLS_REFUSED: u8 = b'N';

/// What precedes the body of a message: a tag, and a length.
pub const HEAD_BYTES: usize = 5;

const PROTOCOL_VERSION: i32 = 3 << 16;
/// The type `text` and that of its arrays, in the catalog of every server.
const TEXT_TYPE: i32 = 25;
const TEXT_ARRAY_TYPE: i32 = 1009;
const BINARY: i16 = 1;

/// The first byte of a message of the server.
pub mod tag {
    pub const AUTHENTICATION: u8 = b'R';
    pub const DATA_ROW: u8 = b'D';
    pub const ERROR: u8 = b'E';
    pub const NOTICE: u8 = b'N';
    pub const PARAMETER: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const READY: u8 = b'Z';
}

/// Appends a message whose body is what `fill` appends.
fn message(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    with_length(out, fill);
}

/// Appends a length, which counts itself, and what it is the length of.
fn with_length(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = length_of(out.len() - at);
    out[at..at + 4].copy_from_slice(&length);
}

fn length_of(bytes: usize) -> [u8; 4] {
    // A request is at most some 16 MiB of lines, and its values are parts of them.
    i32::try_from(bytes).expect("no message is of 2 GiB").to_be_bytes()
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// What begins a session.
pub fn startup(out: &mut Vec<u8>, parameters: &[(&str, &str)]) {
    with_length(out, |out| {
        out.extend_from_slice(&PROTOCOL_VERSION.to_be_bytes());
        for (name, value) in parameters {
            text(out, name);
            text(out, value);
        }
        out.push(0);
    });
}

/// A password as it is, or as a digest.
pub fn password(out: &mut Vec<u8>, password: &str) {
    message(out, b'p', |out| text(out, password));
}

/// Begins a login by this mechanism.
pub fn sasl_first(out: &mut Vec<u8>, mechanism: &str, said: &[u8]) {
    message(out, b'p', |out| {
        text(out, mechanism);
        out.extend_from_slice(&length_of(said.len()));
        out.extend_from_slice(said);
    });
}

/// Goes on with it.
pub fn sasl_next(out: &mut Vec<u8>, said: &[u8]) {
    message(out, b'p', |out| out.extend_from_slice(said));
}

/// Statements without parameters, of which several may be in one text.
pub fn query(out: &mut Vec<u8>, sql: &str) {
    message(out, b'Q', |out| text(out, sql));
}

/// Prepares a statement, each of whose parameters is an array of texts.
pub fn parse(out: &mut Vec<u8>, name: &str, sql: &str, parameters: usize) {
    message(out, b'P', |out| {
        text(out, name);
        text(out, sql);
        out.extend_from_slice(&count_of(parameters));
        (0..parameters).for_each(|_| out.extend_from_slice(&TEXT_ARRAY_TYPE.to_be_bytes()));
    });
}

/// Executes a prepared statement, in a transaction of its own. A parameter is gone as soon as it is in the message, for they are large.
pub fn execute(out: &mut Vec<u8>, name: &str, parameters: Vec<TextArray>) {
    message(out, b'B', |out| {
        text(out, "");
        text(out, name);
        out.extend_from_slice(&1_i16.to_be_bytes());
        out.extend_from_slice(&BINARY.to_be_bytes());
        out.extend_from_slice(&count_of(parameters.len()));
        parameters.into_iter().for_each(|parameter| parameter.append_to(out));
        out.extend_from_slice(&0_i16.to_be_bytes());
    });
    message(out, b'E', |out| {
        text(out, "");
        out.extend_from_slice(&0_i32.to_be_bytes());
    });
    message(out, b'S', |_| {});
}

fn count_of(parameters: usize) -> [u8; 2] {
    i16::try_from(parameters).expect("a stream has fewer columns").to_be_bytes()
}

/// A parameter: an array of texts, some of which may be null.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TextArray {
    elements: Vec<u8>,
    count: usize,
    has_null: bool,
}

impl TextArray {
    pub fn push(&mut self, element: Option<&str>) {
        self.count += 1;
        match element {
            Some(element) => {
                self.elements.extend_from_slice(&length_of(element.len()));
                self.elements.extend_from_slice(element.as_bytes());
            }
            None => {
                self.has_null = true;
                self.elements.extend_from_slice(&(-1_i32).to_be_bytes());
            }
        }
    }

    fn append_to(self, out: &mut Vec<u8>) {
        let dimensions = i32::from(self.count > 0);
        let head = [dimensions, i32::from(self.has_null), TEXT_TYPE];
        let bounds_bytes = if self.count > 0 { 8 } else { 0 };
        out.extend_from_slice(&length_of(4 * head.len() + bounds_bytes + self.elements.len()));
        head.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
        if self.count > 0 {
            out.extend_from_slice(&length_of(self.count));
            // The number of its first element.
            out.extend_from_slice(&1_i32.to_be_bytes());
        }
        out.extend_from_slice(&self.elements);
    }
}

/// What the server wants to know before it lets a client in.
#[derive(Debug, PartialEq, Eq)]
pub enum Authentication {
    Ok,
    Cleartext,
    Md5 {
        salt: [u8; 4],
    },
    /// The mechanisms that the server offers.
    Sasl(Vec<String>),
    SaslContinue(Vec<u8>),
    SaslFinal(Vec<u8>),
    /// Kerberos and others, by their number.
    Other(i32),
}

/// Reads the body of a message of the server; `None` if it is not complete.
pub fn authentication(body: &[u8]) -> Option<Authentication> {
    let (number, rest) = body.split_first_chunk::<4>()?;
    Some(match i32::from_be_bytes(*number) {
        0 => Authentication::Ok,
        3 => Authentication::Cleartext,
        5 => Authentication::Md5 { salt: *rest.first_chunk()? },
        10 => Authentication::Sasl(texts(rest)),
        11 => Authentication::SaslContinue(rest.to_vec()),
        12 => Authentication::SaslFinal(rest.to_vec()),
        number => Authentication::Other(number),
    })
}

/// Texts up to an empty one.
fn texts(body: &[u8]) -> Vec<String> {
    let texts = body.split(|byte| *byte == 0).take_while(|text| !text.is_empty());
    texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
}

/// The values of a row, as texts.
pub type Row = Vec<Option<String>>;

pub fn row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Row::new();
    for _ in 0..i16::from_be_bytes(*count) {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            rest = behind;
            continue;
        };
        let (value, behind) = behind.split_at_checked(length)?;
        row.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = behind;
    }
    Some(row)
}

/// What went wrong, as the server says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// The SQLSTATE.
    pub code: String,
    pub message: String,
    pub constraint: Option<String>,
}

pub fn error(body: &[u8]) -> ServerError {
    let mut error = ServerError::default();
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, value)) = field.split_first() else { continue };
        let value = String::from_utf8_lossy(value).into_owned();
        match kind {
            b'C' => error.code = value,
            b'M' => error.message = value,
            b'n' => error.constraint = Some(value),
            _ => {}
        }
    }
    error
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_as_the_protocol_has_them() {
        let mut out = Vec::new();
        startup(&mut out, &[("user", "u")]);
        assert_eq!(out, b"\0\0\0\x10\0\x03\0\0user\0u\0\0");
        out.clear();
        query(&mut out, "SELECT 1");
        assert_eq!(out, b"Q\0\0\0\x0dSELECT 1\0");
        out.clear();
        password(&mut out, "p");
        assert_eq!(out, b"p\0\0\0\x06p\0");
        out.clear();
        sasl_first(&mut out, "SCRAM-SHA-256", b"n,,");
        assert_eq!(out, b"p\0\0\0\x19SCRAM-SHA-256\0\0\0\0\x03n,,");
        out.clear();
        parse(&mut out, "s", "INSERT", 2);
        assert_eq!(out, b"P\0\0\0\x17s\0INSERT\0\0\x02\0\0\x03\xf1\0\0\x03\xf1");
    }

    #[test]
    fn an_array_has_its_nulls() {
        let mut array = TextArray::default();
        array.push(Some("a"));
        array.push(None);
        let mut out = Vec::new();
        execute(&mut out, "s", vec![array]);
        let expected = [
            b"B\0\0\0\x30\0s\0\0\x01\0\x01\0\x01".as_slice(),
            b"\0\0\0\x1d\0\0\0\x01\0\0\0\x01\0\0\0\x19\0\0\0\x02\0\0\0\x01\0\0\0\x01a\xff\xff\xff\xff",
            b"\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04",
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn what_the_server_says_is_read() {
        assert_eq!(authentication(&[0, 0, 0, 0]), Some(Authentication::Ok));
        assert_eq!(authentication(b"\0\0\0\x05salt"), Some(Authentication::Md5 { salt: *b"salt" }));
        let mechanisms = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"].map(str::to_owned).to_vec();
        let offered = authentication(b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        assert_eq!(offered, Some(Authentication::Sasl(mechanisms)));
        assert_eq!(authentication(b"\0\0\0\x0cv=x"), Some(Authentication::SaslFinal(b"v=x".to_vec())));
        assert_eq!(authentication(b"\0\0\0\x07"), Some(Authentication::Other(7)));
        assert_eq!(row(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff").unwrap(), [Some("a".to_owned()), None]);
        let said = error(b"SERROR\0C23514\0Mnew row\0nr_check\0\0");
        assert_eq!((&*said.code, &*said.message, said.constraint.as_deref()), ("23514", "new row", Some("r_check")));
    }

    proptest! {
        #[test]
        fn noise_does_not_panic(noise in prop::collection::vec(any::<u8>(), 0..60), number in 0..14_u8, values in 0..5_u8) {
            let numbered = [&[0, 0, 0, number], noise.as_slice()].concat();
            let counted = [&[0, values, 0, 0, 0, number], noise.as_slice()].concat();
            let (_, _, _) = (authentication(&numbered), row(&counted), error(&noise));
            let (_, _) = (authentication(&noise), row(&noise));
        }
    }
}
