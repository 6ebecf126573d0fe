//! The APIs of Kinesis and Firehose by hand, so that the code that reads the streams shares nothing with the code that fills them.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::gateway::DEADLINE;

/// Calls an operation of Kinesis. Returns the response's status code and body.
pub fn call(address: SocketAddr, operation: &str, input: &Value) -> io::Result<(u16, Value)> {
    call_of("kinesis", "Kinesis_20131202", address, operation, input)
}

/// The same of Firehose.
pub fn call_firehose(address: SocketAddr, operation: &str, input: &Value) -> io::Result<(u16, Value)> {
    call_of("firehose", "Firehose_20150804", address, operation, input)
}

fn call_of(
    service: &str,
    interface: &str,
    address: SocketAddr,
    operation: &str,
    input: &Value,
) -> io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let body = input.to_string();
    write!(
        stream,
        "POST / HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.1\r\n\
         x-amz-target: {interface}.{operation}\r\nauthorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/\
         aws4_request, SignedHeaders=host, Signature=0\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let malformed = || io::Error::other(format!("{operation}: {}", String::from_utf8_lossy(&answer)));
    let head_len = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(malformed)?;
    let head = String::from_utf8_lossy(&answer[..head_len]).to_ascii_lowercase();
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
    let rest = &answer[head_len + 4..];
    let body =
        if head.contains("transfer-encoding: chunked") { unchunk(rest).ok_or_else(malformed)? } else { rest.to_vec() };
    let value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).map_err(|_| malformed())? };
    Ok((code, value))
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|window| window == b"\r\n")?;
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line_end]).ok()?.trim(), 16).ok()?;
        if len == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line_end + 2..line_end + 2 + len)?);
        rest = rest.get(line_end + 4 + len..)?;
    }
}

/// Puts lines of one device, one per record. Returns the indexes of those that failed.
pub fn put(address: SocketAddr, stream: &str, lines: &[String]) -> Vec<usize> {
    let records: Vec<Value> =
        lines.iter().map(|line| json!({"Data": encode_base64(line.as_bytes()), "PartitionKey": "g/d00"})).collect();
    let (code, body) = call(address, "PutRecords", &json!({"StreamName": stream, "Records": records})).unwrap();
    assert_eq!(code, 200, "{body}");
    failed(&body["Records"])
}

/// The same by PutRecordBatch.
pub fn put_batch(address: SocketAddr, stream: &str, lines: &[String]) -> Vec<usize> {
    let records: Vec<Value> = lines.iter().map(|line| json!({"Data": encode_base64(line.as_bytes())})).collect();
    let input = json!({"DeliveryStreamName": stream, "Records": records});
    let (code, body) = call_firehose(address, "PutRecordBatch", &input).unwrap();
    assert_eq!(code, 200, "{body}");
    failed(&body["RequestResponses"])
}

fn failed(results: &Value) -> Vec<usize> {
    let results = results.as_array().unwrap();
    results.iter().enumerate().filter(|(_, result)| result["ErrorCode"].is_string()).map(|(at, _)| at).collect()
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode_base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let symbol = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
            out.push(if at <= group.len() { char::from(symbol) } else { '=' });
        }
    }
    out
}

pub fn decode_base64(text: &str) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|symbol| *symbol == byte).unwrap_or_else(|| panic!("not base64: {text}"));
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}
