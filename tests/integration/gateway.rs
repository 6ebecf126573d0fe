//! The gateway as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use outrider::config::host::Host;
use outrider::config::{Configuration, Sources};
use outrider::gateway::GatewaySettings;
use outrider::sinks::archive::sink::ArchiveSink;

/// The longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct Gateway {
    child: Child,
    pub mqtt: SocketAddr,
    pub admin: Option<SocketAddr>,
    pub log: PathBuf,
    /// The line on standard output with which it reported that it is ready.
    pub ready: serde_json::Value,
}

impl Gateway {
    /// Starts with the state in `folder`, and waits until it is ready.
    pub fn start(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Gateway {
        Gateway::start_configured(folder, "", arguments, environment)
    }

    /// The same with the text of a configuration, whose ports and state folder are overridden.
    pub fn start_configured(folder: &Path, config: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Gateway {
        Gateway::spawn(folder, run_command(folder, config, arguments, environment))
    }

    /// Starts a gateway that an ignored test of this binary runs, with settings that the program does not offer.
    pub fn start_test(folder: &Path, test: &str) -> Gateway {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored", "--nocapture"]).env(STATE_VARIABLE, folder.join("state"));
        Gateway::spawn(folder, command)
    }

    /// A gateway that logs into `folder`; waits until it is ready.
    pub fn spawn(folder: &Path, mut command: Command) -> Gateway {
        let log = folder.join("log");
        let errors = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        // The test's own output comes before the line.
        while output.read_line(&mut line).unwrap() > 0 && !line.contains("\"event\"") {
            line.clear();
        }
        if line.is_empty() {
            child.wait().unwrap();
            panic!("the gateway did not start: {}", std::fs::read_to_string(&log).unwrap());
        }
        let ready: serde_json::Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        assert_eq!(ready["event"], "ready");
        let address = |key: &str| ready[key].as_str().map(|text| text.parse().unwrap());
        Gateway { child, mqtt: address("mqtt").unwrap(), admin: address("admin"), log, ready }
    }

    /// Sends SIGKILL, the most sudden end of a process.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM. Returns how the process ended.
    pub fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < DEADLINE, "the gateway does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        get(self.admin.expect("an administration interface"), path)
    }

    /// Posts a JSON body.
    pub fn post(&self, path: &str, body: &str) -> Answer {
        let admin = self.admin.expect("an administration interface");
        request(admin, &format!("POST {path}"), "application/json", body)
    }

    /// The alerts as `/api/alerts` lists them.
    pub fn alerts(&self) -> Vec<serde_json::Value> {
        let (code, body) = self.get("/api/alerts");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    pub fn status(&self) -> serde_json::Value {
        status(self.admin.expect("an administration interface"))
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// `outrider run` on free ports, with its state and configuration in `folder`. This machine's own configuration and proxies are not used.
pub fn run_command(folder: &Path, config: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let file = folder.join("outrider.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    command.arg("run").arg("--config").arg(file);
    command.arg("--state").arg(folder.join("state")).args(arguments);
    let free_ports = [("OUTRIDER__MQTT__LISTEN", "127.0.0.1:0"), ("OUTRIDER__ADMIN__LISTEN", "127.0.0.1:0")];
    for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(variable).env_remove(variable.to_lowercase());
    }
    command.envs(free_ports).envs(environment.iter().copied());
    command
}

/// The response's status code and body.
pub fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    try_get(admin, path).unwrap()
}

/// The same, from a server that may end meanwhile.
pub fn try_get(admin: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    try_request(admin, &format!("GET {path}"), "", "").map(|Answer { status, body, .. }| (status, body))
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// A request with this first line (`POST /path`) and a body of this content type.
pub fn request(admin: SocketAddr, what: &str, content_type: &str, body: &str) -> Answer {
    try_request(admin, what, content_type, body).unwrap()
}

fn try_request(admin: SocketAddr, what: &str, content_type: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(admin)?;
    let content_type = if content_type.is_empty() { "".into() } else { format!("content-type: {content_type}\r\n") };
    let length = body.len();
    write!(
        stream,
        "{what} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n{content_type}content-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok(Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

pub fn status(admin: SocketAddr) -> serde_json::Value {
    let (code, body) = get(admin, "/api/status");
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// One line of the ledger.
pub fn ledger_line<'a>(status: &'a serde_json::Value, sink: &str, stream: &str) -> &'a serde_json::Value {
    let lines = status["ledger"].as_array().unwrap();
    let line = lines.iter().find(|line| line["sink"] == sink && line["stream"] == stream);
    line.unwrap_or_else(|| panic!("no {sink} {stream} in {lines:?}"))
}

/// Lets archives close their files soon: what is in a closed file counts as delivered.
pub fn close_archives_soon(settings: &mut GatewaySettings) {
    for sink in &mut settings.sinks {
        ArchiveSink::change(sink, |archive| archive.rotate_after = Duration::from_millis(300));
    }
}

/// The defaults, with the state in a folder, on free ports.
pub fn default_settings(state: &Path) -> GatewaySettings {
    configured_settings(state, "")
}

/// The same with the text of a configuration.
pub fn configured_settings(state: &Path, text: &str) -> GatewaySettings {
    let text = format!("store.path = {state:?}\nmqtt.listen = '127.0.0.1:0'\nadmin.listen = '127.0.0.1:0'\n{text}");
    let configuration = Configuration::parse(Path::new("test"), &text, &Sources::default(), &Host::read()).unwrap();
    configuration.settings().unwrap()
}

const STATE_VARIABLE: &str = "OUTRIDER_TEST_STATE";

/// Runs a gateway until it is killed, with settings that only the library offers.
pub fn run_in_this_process(change: impl FnOnce(&mut GatewaySettings)) {
    if let Some(settings) = settings_of_this_process(change) {
        outrider::commands::run::run(settings).unwrap();
    }
}

/// The same with a configuration that is a file of this name beside the state.
pub fn run_configured_in_this_process(file: &str, change: impl FnOnce(&mut GatewaySettings)) {
    let Some(state) = std::env::var_os(STATE_VARIABLE) else { return };
    let text = std::fs::read_to_string(Path::new(&state).with_file_name(file)).unwrap();
    let mut settings = configured_settings(Path::new(&state), &text);
    change(&mut settings);
    outrider::commands::run::run(settings).unwrap();
}

/// The same until it is told to stop; then this process exits like the program.
pub fn run_to_its_end_in_this_process(change: impl FnOnce(&mut GatewaySettings)) {
    if let Some(settings) = settings_of_this_process(change)
        && let Err(error) = outrider::commands::run::run(settings)
    {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// Settings for a gateway that [`Gateway::start_test`] starts.
pub fn settings_of_this_process(change: impl FnOnce(&mut GatewaySettings)) -> Option<GatewaySettings> {
    let state = std::env::var_os(STATE_VARIABLE)?;
    let mut settings = default_settings(Path::new(&state));
    change(&mut settings);
    Some(settings)
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition; panics with `what` if it is not met in time.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
