//! Who may use the administration interface: tokens with roles, the cookie of the page, TLS, certificates, and what is open to the network.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::Client;
use crate::gateway::{Gateway, run_command, wait_until};

fn outrider(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outrider")).args(arguments).output().unwrap()
}

fn expect_success(arguments: &[&str]) -> String {
    let output = outrider(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Makes a token in the file `tokens` of the folder, and returns it.
fn make_token(folder: &Path, name: &str, role: &str) -> String {
    expect_success(&["token", "add", folder.join("tokens").to_str().unwrap(), name, "--role", role])
}

fn reload(folder: &Path) -> Output {
    outrider(&["reload", "--state", folder.join("state").to_str().unwrap()])
}

/// A folder with the certificates of a gateway, of a device, and of a CA that is none of ours.
fn with_certificates(folder: &Path) -> PathBuf {
    let made = folder.join("certificates");
    for (name, device) in [("certificates", "laptop"), ("foreign", "stranger")] {
        expect_success(&["cert", "init", folder.join(name).to_str().unwrap(), "--device", device]);
    }
    made
}

const TLS: &str = "admin.tls_certificate = 'certificates/server.pem'\nadmin.tls_key = 'certificates/server.key'\n";

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub fn cookie(&self) -> Option<&str> {
        self.header("set-cookie")?.split(';').next()
    }
}

/// A request with these headers and a body; `None` if there is no response.
fn exchange(stream: impl Read + Write, what: &str, headers: &str, body: &str) -> Option<Answer> {
    exchange_as("localhost", stream, what, headers, body)
}

/// The same, to a host of this name.
fn exchange_as(host: &str, mut stream: impl Read + Write, what: &str, headers: &str, body: &str) -> Option<Answer> {
    let length = body.len();
    let request = format!("{what} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // The end of TLS may be missing.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

fn ask(gateway: &Gateway, what: &str, headers: &str, body: &str) -> Answer {
    exchange(TcpStream::connect(gateway.admin.unwrap()).unwrap(), what, headers, body).expect("a response")
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// With the CA of a folder, and the certificate of a client, if one is named by its path without ending.
fn exchange_encrypted(
    address: SocketAddr,
    ca: &Path,
    client: Option<&Path>,
    (what, headers, body): (&str, &str, &str),
) -> Option<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match client {
        Some(path) => {
            let chain = CertificateDer::pem_file_iter(path.with_extension("pem")).unwrap();
            let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
            let key = PrivateKeyDer::from_pem_file(path.with_extension("key")).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    exchange(StreamOwned::new(connection, TcpStream::connect(address).unwrap()), what, headers, body)
}

const ACKNOWLEDGE: &str = "POST /api/alerts/tank/level/limit/ack";
const JSON: &str = "content-type: application/json\r\n";
const BY: &str = r#"{"by":"anna"}"#;

#[test]
fn each_token_may_do_what_its_role_says() {
    let folder = tempfile::tempdir().unwrap();
    let [viewer, acknowledger, operator] =
        [("anna", "view"), ("bob", "acknowledge"), ("carl", "operate")].map(|(n, r)| make_token(folder.path(), n, r));
    let config = "admin.tokens = 'tokens'\nadmin.hosts = ['gateway.example.com']\n";
    let gateway = Gateway::start_configured(folder.path(), config, &[], &[]);
    let mut device = Client::connect(gateway.mqtt, "device");
    device.publish("devices/tank/level", "nan");
    device.publish("devices/tank/temperature", "1.0");
    let read = |what: &str, token: &str| ask(&gateway, what, &bearer(token), "");
    wait_until("an alert", || read("GET /api/alerts", &viewer).body.contains("tank"));

    // Nobody, and a wrong token.
    for what in
        ["GET /api/status", "GET /metrics", "GET /api/alerts", "GET /nothing", "DELETE /api/series/tank", ACKNOWLEDGE]
    {
        for headers in [String::new(), bearer(&"0".repeat(64)), "cookie: outrider_token=x\r\n".to_owned()] {
            let answer = ask(&gateway, what, &format!("{JSON}{headers}"), BY);
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{what} {headers}");
            assert!(answer.body.lines().count() == 1 && !answer.body.contains("tank"), "{}", answer.body);
        }
    }
    // Probes have no token, and learn a word.
    for (path, word) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = ask(&gateway, &format!("GET {path}"), "", "");
        assert_eq!((answer.status, answer.body.as_str()), (200, word), "{path}");
    }
    // The lower roles are told which one it takes; what they asked for was not done.
    let acknowledge = |token: &str| ask(&gateway, ACKNOWLEDGE, &format!("{JSON}{}", bearer(token)), BY);
    let refused = acknowledge(&viewer);
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("needs the role acknowledge"), "{}", refused.body);
    let clear = "DELETE /api/alerts/tank/level/limit";
    for (what, token) in [
        ("POST /api/reload", &viewer),
        ("POST /api/reload", &acknowledger),
        ("DELETE /api/series/tank", &acknowledger),
        (clear, &acknowledger),
        ("DELETE /api/sinks/archive", &acknowledger),
    ] {
        let refused = read(what, token);
        assert_eq!(refused.status, 403, "{what}");
        assert!(refused.body.contains("needs the role operate"), "{}", refused.body);
    }
    assert!(read("GET /api/alerts", &viewer).body.contains("\"state\":\"raised\""));
    assert!(!read("GET /api/alerts", &viewer).body.contains("acknowledged_by"));
    // The control: the right roles do it.
    assert_eq!(acknowledge(&acknowledger).status, 202);
    wait_until("the acknowledgement", || read("GET /api/alerts", &viewer).body.contains("acknowledged_by"));
    assert_eq!(read("POST /api/reload", &operator).status, 200);
    let cleared = read(clear, &operator);
    assert_eq!((cleared.status, cleared.body.as_str()), (200, "cleared\n"));
    assert_eq!(read("DELETE /api/series/tank", &operator).body, "forgot 1 series\n");
    // In an operator's name another site can do nothing, whatever its browser sends along.
    let foreign = "origin: http://rebound.example\r\n";
    for what in ["POST /api/reload", "DELETE /api/series/tank"] {
        let cookie = format!("cookie: outrider_token={operator}\r\n");
        assert_eq!(ask(&gateway, what, &format!("{cookie}{foreign}"), "").status, 403, "{what}");
    }
    // A site that has its name point here (DNS rebinding) gets nothing, not even the form.
    for (host, what, status) in [
        ("gateway.example.com", "GET /api/status", 200),
        ("rebound.example", "GET /api/status", 421),
        ("rebound.example", "GET /", 421),
        ("rebound.example", "POST /login", 421),
    ] {
        let stream = TcpStream::connect(gateway.admin.unwrap()).unwrap();
        let answer = exchange_as(host, stream, what, &bearer(&operator), "").unwrap();
        assert_eq!(answer.status, status, "{host} {what}");
    }
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("DELETE /api/series/tank by carl, as operate"), "{log}");
    assert!([&viewer, &acknowledger, &operator].iter().all(|token| !log.contains(token.as_str())), "{log}");
    let metrics = read("GET /metrics", &viewer).body;
    assert!(
        metrics.contains("outrider_admin_logins_refused_total 12\n"),
        "of three each, two had a wrong token: {metrics}"
    );
    // The program's own commands need no token: they come by the control socket.
    let state = folder.path().join("state");
    expect_success(&["status", "--state", state.to_str().unwrap()]);
}

#[test]
fn the_page_asks_for_a_token_and_keeps_it_in_a_cookie() {
    let folder = tempfile::tempdir().unwrap();
    let token = make_token(folder.path(), "anna", "view");
    let gateway = Gateway::start_configured(folder.path(), "admin.tokens = 'tokens'\n", &[], &[]);
    let form = ask(&gateway, "GET /", "", "");
    assert_eq!((form.status, form.header("www-authenticate")), (401, Some("Bearer")));
    assert!(form.body.contains("<form method=\"post\" action=\"/login\">") && !form.body.contains("Fleet"));
    let driver = ask(&gateway, "GET /driver", "", "");
    assert!(driver.status == 401 && driver.body.contains("name=\"page\" value=\"/driver\""));
    assert_eq!(ask(&gateway, "GET /web/base.css", "", "").status, 200, "the form needs it");
    assert_eq!(form.cookie(), None);
    let log_in = |token: &str, headers: &str| {
        let headers = format!("content-type: application/x-www-form-urlencoded\r\n{headers}");
        ask(&gateway, "POST /login", &headers, &format!("token={token}"))
    };
    let wrong = log_in("wrong", "");
    assert_eq!((wrong.status, wrong.cookie()), (401, Some("outrider_token=")), "nothing is kept");
    assert!(wrong.body.contains("This token is not known here."));
    assert_eq!(log_in(&token, "origin: http://rebound.example\r\n").status, 403);
    let right = log_in(&token, "origin: http://localhost\r\n");
    assert_eq!((right.status, right.header("location")), (303, Some("/")));
    let set = right.header("set-cookie").unwrap();
    assert!(["; HttpOnly", "; SameSite=Strict", "; Path=/"].iter().all(|part| set.contains(part)), "{set}");
    assert!(!set.contains("Secure") && !set.contains("Domain"), "{set}");
    let cookie = format!("cookie: other=1; {}\r\n", right.cookie().unwrap());
    let page = ask(&gateway, "GET /", &cookie, "");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Fleet") && page.body.contains("action=\"/logout\""));
    let to_driver = ask(&gateway, "POST /login", "", &format!("page=%2Fdriver&token={token}"));
    assert_eq!(to_driver.header("location"), Some("/driver"));
    let elsewhere = ask(&gateway, "POST /login", "", &format!("page=http://x.example/&token={token}"));
    assert_eq!(elsewhere.header("location"), Some("/"));
    assert_eq!(ask(&gateway, "GET /api/status", &cookie, "").status, 200);
    assert_eq!(ask(&gateway, "POST /logout", "origin: http://rebound.example\r\n", "").status, 403);
    let out = ask(&gateway, "POST /logout", &cookie, "");
    assert_eq!((out.status, out.cookie()), (303, Some("outrider_token=")));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(ask(&gateway, "GET /api/status", "cookie: outrider_token=\r\n", "").status, 401);
    let large = ask(&gateway, "POST /login", "", &"x".repeat(10_000));
    assert_eq!(large.status, 413);
}

#[test]
fn the_page_knows_who_may_say_what_an_alert_was() {
    let folder = tempfile::tempdir().unwrap();
    let [viewer, acknowledger] =
        [("anna", "view"), ("bob", "acknowledge")].map(|(n, r)| make_token(folder.path(), n, r));
    let gateway = Gateway::start_configured(folder.path(), "admin.tokens = 'tokens'\n", &[], &[]);
    Client::connect(gateway.mqtt, "device").publish("devices/tank/level", "nan");
    let cookie = |token: &str| format!("cookie: outrider_token={token}\r\n");
    wait_until("an alert", || ask(&gateway, "GET /api/alerts", &cookie(&viewer), "").body.contains("tank"));
    let body_of = |token: &str| ask(&gateway, "GET /", &cookie(token), "").body;
    assert!(body_of(&viewer).contains("<body data-role=\"view\" data-name=\"anna\""));
    assert!(body_of(&acknowledger).contains("<body data-role=\"acknowledge\" data-name=\"bob\""));
    let say = |token: &str, origin: &str| {
        let headers = format!("{JSON}{}origin: {origin}\r\n", cookie(token));
        ask(&gateway, ACKNOWLEDGE, &headers, r#"{"by":"bob","normal":false}"#).status
    };
    assert_eq!(say(&viewer, "http://localhost"), 403);
    assert_eq!(say(&acknowledger, "http://rebound.example"), 403);
    let alerts = || ask(&gateway, "GET /api/alerts", &cookie(&viewer), "").body;
    assert!(!alerts().contains("acknowledged_by"));
    assert_eq!(say(&acknowledger, "http://localhost"), 202);
    wait_until("the word", || alerts().contains("\"normal\":false"));
}

#[test]
fn without_tokens_this_machine_is_served_as_ever() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), &[], &[]);
    let page = ask(&gateway, "GET /", "", "");
    assert!(page.status == 200 && page.body.contains("Fleet") && !page.body.contains("/logout"));
    for (what, status) in [
        ("GET /api/status", 200),
        ("GET /login", 404),
        ("POST /login", 405),
        ("POST /api/reload", 405),
        ("DELETE /api/series/a", 405),
    ] {
        assert_eq!(
            ask(&gateway, what, "authorization: Bearer x\r\ncookie: outrider_token=x\r\n", "").status,
            status,
            "{what}"
        );
    }
}

#[test]
fn tokens_and_certificates_change_while_the_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    with_certificates(folder.path());
    let old = make_token(folder.path(), "anna", "view");
    let config = format!("admin.tokens = 'tokens'\nadmin.client_ca = 'certificates/ca.pem'\n{TLS}");
    let gateway = Gateway::start_configured(folder.path(), &config, &[], &[]);
    let made = folder.path().join("certificates");
    let status = |ca: &Path, token: &str| {
        let question = ("GET /api/alerts", bearer(token));
        exchange_encrypted(gateway.admin.unwrap(), ca, None, (question.0, &question.1, ""))
    };
    let code = |token: &str| status(&made, token).unwrap().status;
    assert_eq!(code(&old), 200);
    let new = make_token(folder.path(), "anna", "view");
    assert!(reload(folder.path()).status.success());
    assert_eq!((code(&old), code(&new)), (401, 200));
    // A file that is wrong leaves what was in force, and an alert says so.
    let file = folder.path().join("tokens");
    let right = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{right}operate mallory secret\n")).unwrap();
    let output = reload(folder.path());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("tokens: line 2: ") && told.contains("admin.tokens"), "{told}");
    assert!(!told.contains("secret"), "{told}");
    assert_eq!(code(&new), 200);
    wait_until("an alert", || status(&made, &new).unwrap().body.contains("\"metric\":\"admin\""));
    // Nor does a configuration that would open it, with or without the gateway being told.
    std::fs::write(folder.path().join("outrider.toml"), "admin.listen = '0.0.0.0:0'\n").unwrap();
    assert!(reload(folder.path()).status.success(), "a variable says where it listens");
    assert_eq!((code(&old), code(&new)), (401, 200), "it has TLS until a restart, and so its tokens");
    // Another CA, for the same names.
    std::fs::write(&file, &right).unwrap();
    std::fs::write(folder.path().join("outrider.toml"), &config).unwrap();
    for name in ["server.pem", "server.key"] {
        std::fs::copy(folder.path().join("foreign").join(name), made.join(name)).unwrap();
    }
    assert!(reload(folder.path()).status.success());
    assert_eq!(status(&folder.path().join("foreign"), &new).unwrap().status, 200);
    assert!(status(&made, &new).is_none(), "the old certificate is gone");
}

#[test]
fn over_tls_a_token_or_a_certificate_lets_in() {
    let folder = tempfile::tempdir().unwrap();
    let made = with_certificates(folder.path());
    let (laptop, stranger) = (made.join("devices/laptop"), folder.path().join("foreign/devices/stranger"));
    let operator = make_token(folder.path(), "carl", "operate");
    let both = format!(
        "admin.tokens = 'tokens'\nadmin.client_ca = 'certificates/ca.pem'\nadmin.client_role = 'acknowledge'\n{TLS}"
    );
    // Open to the network: this is what may be.
    let network = [("OUTRIDER__ADMIN__LISTEN", "0.0.0.0:0")];
    let gateway = Gateway::start_configured(folder.path(), &both, &[], &network);
    let address = SocketAddr::from(([127, 0, 0, 1], gateway.admin.unwrap().port()));
    let asked = |client: Option<&Path>, what: &str, headers: &str, body: &str| {
        exchange_encrypted(address, &made, client, (what, headers, body))
    };
    let code = |client: Option<&Path>, what: &str, headers: &str| {
        asked(client, what, &format!("{JSON}{headers}"), BY).map(|answer| answer.status)
    };
    let token = bearer(&operator);
    for (client, what, headers, expected) in [
        (None, "GET /healthz", "", Some(200)),
        (None, "GET /api/status", "", Some(401)),
        (None, "GET /api/status", token.as_str(), Some(200)),
        (None, "DELETE /api/series/a", &token, Some(404)),
        (Some(laptop.as_path()), "GET /api/status", "", Some(200)),
        (Some(&laptop), ACKNOWLEDGE, "", Some(404)),
        (Some(&laptop), "DELETE /api/series/a", "", Some(403)),
        (Some(&laptop), "DELETE /api/series/a", &token, Some(404)),
        (Some(&laptop), "GET /api/status", "authorization: Bearer x\r\n", Some(401)),
        (Some(&stranger), "GET /healthz", "", None),
        (Some(&stranger), "GET /api/status", &token, None),
    ] {
        assert_eq!(code(client, what, headers), expected, "{client:?} {what} {headers}");
    }
    let login = asked(None, "POST /login", "", &format!("token={operator}")).unwrap();
    assert!(login.header("set-cookie").unwrap().contains("; Secure"), "{}", login.head);
    // Without TLS there is no answer at all.
    assert!(exchange(TcpStream::connect(address).unwrap(), "GET /healthz", "", "").is_none());
    // Handshakes that are never finished keep nobody out.
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert_eq!(code(None, "GET /healthz", ""), Some(200));
    let mut last = silent.last().unwrap();
    last.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(last.read(&mut [0]).unwrap(), 0, "a handshake has the time that a request has, and no more");
    let log = std::fs::read_to_string(&gateway.log).unwrap();
    assert!(log.contains("with tokens or certificates, open to the network"), "{log}");
    drop(gateway);

    // Without tokens, there is no connection without a certificate.
    let certificates =
        format!("admin.client_ca = ['certificates/ca.pem']\nadmin.client_crl = ['certificates/crl.pem']\n{TLS}");
    expect_success(&["cert", "revoke", made.to_str().unwrap()]);
    let gateway = Gateway::start_configured(folder.path(), &certificates, &[], &network);
    let address = SocketAddr::from(([127, 0, 0, 1], gateway.admin.unwrap().port()));
    let code = |client: Option<&Path>, what: &str| {
        exchange_encrypted(address, &made, client, (what, JSON, BY)).map(|answer| answer.status)
    };
    assert_eq!((code(None, "GET /healthz"), code(Some(&stranger), "GET /healthz")), (None, None));
    assert_eq!(
        (code(Some(&laptop), "GET /"), code(Some(&laptop), ACKNOWLEDGE)),
        (Some(200), Some(403)),
        "view is the least"
    );
    expect_success(&["cert", "revoke", made.to_str().unwrap(), "laptop"]);
    assert!(reload(folder.path()).status.success());
    assert_eq!(code(Some(&laptop), "GET /"), None, "it is revoked");
}

#[test]
fn a_status_page_that_is_open_to_the_network_says_so_in_plain_words() {
    let folder = tempfile::tempdir().unwrap();
    with_certificates(folder.path());
    make_token(folder.path(), "anna", "view");
    let [tokens, ca] = ["admin.tokens = 'tokens'\n", "admin.client_ca = 'certificates/ca.pem'\n"];
    let open = "admin.listen = '0.0.0.0:0'\n";
    let ended = |command: &str, config: &str| {
        let mut started = run_command(folder.path(), config, &[], &[]);
        if command == "check" {
            started = Command::new(env!("CARGO_BIN_EXE_outrider"));
            started.args(["check", "--config", folder.path().join("outrider.toml").to_str().unwrap()]);
            started.args(["--state", folder.path().join("state").to_str().unwrap()]);
        }
        let output = started.env_remove("OUTRIDER__ADMIN__LISTEN").output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap(), out, err)
    };
    for (config, missing) in [
        (open.to_owned(), "without TLS and authentication"),
        (format!("{open}{tokens}"), "without TLS:"),
        (format!("{open}{TLS}"), "without authentication"),
    ] {
        for command in ["check", "run"] {
            let (code, _, told) = ended(command, &config);
            let place = format!("outrider.toml:1: admin.listen = '0.0.0.0:0': open to the network {missing}");
            assert!(
                code == 78 && told.contains(&place) && told.contains("insecure = true"),
                "{command} {config}: {code} {told}"
            );
        }
    }
    for (config, told) in [
        (format!("{open}{TLS}{tokens}"), "https://0.0.0.0:0/, with tokens, open to the network"),
        (format!("{open}{TLS}{ca}"), "https://0.0.0.0:0/, with certificates, open to the network"),
        (format!("{open}admin.insecure = true\n"), "http://0.0.0.0:0/, without a password, open to the network"),
        (format!("{tokens}admin.listen = '127.0.0.1:0'\n"), "http://127.0.0.1:0/, with tokens"),
        ("admin.listen = '127.0.0.1:0'\n".to_owned(), "http://127.0.0.1:0/"),
    ] {
        let (code, out, err) = ended("check", &config);
        assert!(code == 0 && out.lines().any(|line| line.ends_with(told)), "{config}: {out}{err}");
    }
    // What is half said is refused, with what would be right.
    for (config, expected) in [
        (ca.to_owned(), "admin.client_ca = 'certificates/ca.pem': certificates of clients need TLS"),
        (format!("{TLS}admin.client_ca = []\n"), "it names no file"),
        ("admin.client_role = 'view'\n".to_owned(), "without `client_ca`"),
        ("admin.tls_key = 'certificates/server.key'\n".to_owned(), "without `tls_certificate`"),
        ("admin.tokens = 'none'\n".to_owned(), "cannot be read"),
        ("admin.tokens = 'certificates/ca.pem'\n".to_owned(), "ca.pem: line 1: it does not consist of a role"),
    ] {
        let (code, _, told) = ended("check", &config);
        assert!(code == 78 && told.contains(expected), "{config}: {code} {told}");
    }
}
