use super::*;

/// Of section 1.3 of RFC 6455.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

const HEADERS: [(&str, &str); 6] = [
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Protocol", "mqtt"),
    ("Sec-WebSocket-Version", "13"),
];

/// Headers with other values than those of [`HEADERS`], or besides them. One without a value is left out.
type Changes<'a> = &'a [(&'a str, &'a str)];

/// A request that would be granted, but for `changes`.
fn request(changes: Changes) -> String {
    let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    let kept = HEADERS.iter().filter(|(name, _)| !is_changed(name));
    let headers = kept.chain(changes.iter().filter(|(_, value)| !value.is_empty()));
    let lines: String = headers.map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("GET /mqtt HTTP/1.1\r\n{lines}\r\n")
}

fn judge_text(request: &str, origins: &[&str]) -> Result<Option<Upgrade>, Refusal> {
    let origins: Vec<String> = origins.iter().map(|origin| origin.to_string()).collect();
    judge(request.as_bytes(), &origins)
}

#[track_caller]
fn granted(request: &[u8]) -> Upgrade {
    judge(request, &[]).expect("a request without a fault").expect("a whole request")
}

fn text(response: Vec<u8>) -> String {
    String::from_utf8(response).expect("a text")
}

#[track_caller]
fn response(request: &str) -> String {
    text(granted(request.as_bytes()).response)
}

#[track_caller]
fn assert_refused(request: &str, origins: &[&str], status: &str, words: &str) {
    let refusal = judge_text(request, origins).expect_err(request);
    let response = text(refusal.response);
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{request}{head}");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
    assert_eq!(body, format!("{}\n", refusal.text));
    assert!(refusal.text.contains(words), "{request}{}", refusal.text);
}

#[test]
fn the_key_of_the_rfc_is_answered_as_there() {
    let expected = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    assert_eq!(response(&request(&[])), expected);
}

#[test]
fn bytes_after_the_head_are_left_to_the_frames() {
    let request = request(&[]);
    let mut bytes = request.clone().into_bytes();
    bytes.extend([0x82, 0x80]);
    assert_eq!(granted(&bytes).used, request.len());
}

#[test]
fn an_incomplete_head_is_waited_for() {
    let request = request(&[("Origin", "https://server.example.com")]);
    for len in 0..request.len() {
        assert_eq!(judge_text(&request[..len], &[]), Ok(None), "{len}");
    }
}

#[test]
fn requests_of_all_sorts_of_clients_are_granted() {
    let cases: &[Changes] = &[
        &[("Connection", "keep-alive, Upgrade")],
        &[("Connection", "keep-alive"), ("connection", "UPGRADE")],
        &[("Upgrade", "WebSocket")],
        &[("Upgrade", "h2c , websocket")],
        &[("Sec-WebSocket-Key", ""), ("SEC-WEBSOCKET-KEY", KEY)],
        &[("Sec-WebSocket-Key", "abcdefghijklmnopqrstuv==")],
        &[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")],
        &[("Sec-WebSocket-Version", " 13 ")],
    ];
    for changes in cases {
        assert!(response(&request(changes)).starts_with("HTTP/1.1 101 "), "{changes:?}");
    }
    for path in ["/", "/mqtt?token=1", "*", "http://server.example.com/ws"] {
        response(&request(&[]).replace("/mqtt", path));
    }
}

#[test]
fn the_answer_names_a_subprotocol_that_was_offered_and_mqtt_before_others() {
    let cases: [(&[&str], &str); 5] = [
        (&["mqtt"], "mqtt"),
        (&["mqttv3.1"], "mqttv3.1"),
        (&["mqttv3.1, mqtt"], "mqtt"),
        (&["mqttv3.1", "wamp,mqtt"], "mqtt"),
        (&["mqttv5,mqttv3.1"], "mqttv3.1"),
    ];
    for (offers, expected) in cases {
        let changes: Vec<_> = offers.iter().map(|offer| ("Sec-WebSocket-Protocol", *offer)).collect();
        let expected = format!("\r\nSec-WebSocket-Protocol: {expected}\r\n\r\n");
        assert!(response(&request(&changes)).ends_with(&expected), "{offers:?}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let cases: &[(Changes, &str, &str)] = &[
        (&[("Upgrade", "")], "426", "Upgrade: websocket"),
        (&[("Upgrade", "h2c")], "426", "Upgrade: websocket"),
        (&[("Connection", "")], "426", "proxy"),
        (&[("Connection", "keep-alive, upgraded")], "426", "proxy"),
        (&[("Sec-WebSocket-Version", "")], "426", "13"),
        (&[("Sec-WebSocket-Version", "8")], "426", "13"),
        (&[("Sec-WebSocket-Version", "13, 8")], "426", "13"),
        (&[("Sec-WebSocket-Version", "13"), ("sec-websocket-version", "13")], "400", "more than once"),
        (&[("Sec-WebSocket-Key", "")], "400", "16 bytes"),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j")], "400", "16 bytes"),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZTE=")], "400", "16 bytes"),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ")], "400", "16 bytes"),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==dGhlIHNhbXBsZSBub25jZQ==")], "400", "16 bytes"),
        (&[("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j-_==")], "400", "16 bytes"),
        (&[("Sec-WebSocket-Key", KEY), ("sec-websocket-key", KEY)], "400", "more than once"),
        (&[("Sec-WebSocket-Protocol", "")], "400", "subprotocol mqtt"),
        (&[("Sec-WebSocket-Protocol", "MQTT, mqttv5")], "400", "subprotocol mqtt"),
        (&[("Host", "")], "400", "Host is missing"),
        (&[("Host", "a"), ("host", "b")], "400", "more than once"),
        (&[("Origin", "http://server.example.com"), ("origin", "http://b")], "400", "more than once"),
    ];
    for (changes, status, words) in cases {
        assert_refused(&request(changes), &["*"], status, words);
    }
    let faultless = request(&[]);
    assert_refused(&faultless.replace("GET", "POST"), &[], "405 Method Not Allowed\r\nAllow: GET\r\n", "method GET");
    for version in ["HTTP/1.0", "HTTP/2.0"] {
        assert_refused(&faultless.replace("HTTP/1.1", version), &[], "505", "HTTP/1.1");
    }
    assert_refused(&faultless.replace("Host: ", "Host "), &[], "400", "no request");
}

#[test]
fn a_client_of_another_version_is_told_ours() {
    let refusal = judge_text(&request(&[("Sec-WebSocket-Version", "7")]), &[]).expect_err("another version");
    let response = text(refusal.response);
    assert!(response.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{response}");
    assert!(response.contains("\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"), "{response}");
}

#[test]
fn pages_of_this_host_may_connect_and_others_only_if_they_are_named() {
    let named = ["https://fleet.example.com", "null"];
    let cases = [
        ("gateway:8083", "http://gateway:8083", true),
        ("gateway:8083", "HTTP://Gateway:8083", true),
        ("gateway", "http://gateway:80", true),
        ("gateway:80", "http://gateway", true),
        ("gateway:443", "https://gateway", true),
        ("gateway", "https://gateway", true),
        ("[::1]:8083", "http://[::1]:8083", true),
        ("gateway:8083", "https://fleet.example.com", true),
        ("gateway:8083", "HTTPS://Fleet.Example.com", true),
        ("gateway:8083", "null", true),
        ("gateway:8083", "http://gateway", false),
        ("gateway:8083", "http://gateway:80833", false),
        ("gateway:443", "http://gateway", false),
        ("gateway:80", "https://gateway", false),
        ("gateway:8083", "https://fleet.example.com:8443", false),
        ("gateway:8083", "https://fleet.example.com.evil.example", false),
        ("gateway:8083", "http://fleet.example.com", false),
        ("gateway:8083", "http://evil.example?gateway:8083", false),
        ("gateway:8083", "http://evil@gateway:8083", false),
        ("gateway", "extension://gateway", false),
        ("gateway", "gateway", false),
        (":80", "http://", false),
    ];
    for (host, origin, is_allowed) in cases {
        let request = request(&[("Host", host), ("Origin", origin)]);
        if is_allowed {
            assert!(matches!(judge_text(&request, &named), Ok(Some(_))), "{host} {origin}");
        } else {
            assert_refused(&request, &named, "403", &format!("{origin:?} may not connect"));
        }
        assert!(matches!(judge_text(&request, &["*"]), Ok(Some(_))), "{host} {origin}");
    }
}

#[test]
fn an_origin_is_shown_without_what_could_deceive_a_reader() {
    let origin = format!("http://\u{202e}{}", "x".repeat(200));
    let refusal = judge_text(&request(&[("Origin", &origin)]), &[]).expect_err("a foreign page");
    assert!(refusal.text.contains(r#""http://\u{202e}xxx"#), "{refusal}");
    assert!(refusal.text.len() < 200, "{refusal}");
    let mut bytes = request(&[("Origin", "http://#")]).into_bytes();
    bytes.iter_mut().filter(|byte| **byte == b'#').for_each(|byte| *byte = 0xFF);
    assert_eq!(judge(&bytes, &["*".to_owned()]).expect_err("not UTF-8").text, "the header Origin is not UTF-8");
}

#[test]
fn what_is_not_http_is_refused_at_once() {
    for (bytes, words) in
        [(&[0x10][..], "bare MQTT"), (&[0x16], "TLS"), (&[0], "no request"), (b"GET / MQTT", "HTTP/1.1")]
    {
        let refusal = judge(bytes, &[]).expect_err(words);
        assert!(refusal.text.contains(words), "{refusal}");
    }
}

#[test]
fn heads_are_bounded() {
    let with_path = |len: usize| request(&[]).replace("/mqtt", &format!("/{}", "x".repeat(len)));
    let fitting = with_path(HEAD_BYTES_MAX - with_path(0).len());
    assert_eq!(granted(fitting.as_bytes()).used, HEAD_BYTES_MAX);
    let longer = fitting.replace("/x", "/xx");
    assert_eq!(judge_text(&longer[..HEAD_BYTES_MAX - 1], &[]), Ok(None));
    for len in [HEAD_BYTES_MAX, longer.len()] {
        assert_refused(&longer[..len], &[], "431", "8192 bytes");
    }
    let with_headers = |count: usize| request(&vec![("X", "y"); count - HEADERS.len()]);
    assert!(matches!(judge_text(&with_headers(HEADERS_MAX), &[]), Ok(Some(_))));
    assert_refused(&with_headers(HEADERS_MAX + 1), &[], "431", "64 headers");
}
