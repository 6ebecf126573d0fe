//! Mosquitto's own client that is subscribed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::gateway::{DEADLINE, Gateway};

/// A `mosquitto_sub`: lines of `topic retain payload`.
pub struct Listening {
    child: Child,
    lines: Receiver<String>,
}

impl Listening {
    pub fn start(subscribe: Command) -> Listening {
        let mut command = Command::new("stdbuf");
        command.arg("-oL").arg(subscribe.get_program()).args(subscribe.get_args()).args(["-F", "%t %r %p", "-d"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let listening = Listening { child, lines };
        let began = Instant::now();
        while !listening.lines.recv_timeout(DEADLINE).unwrap().starts_with("Subscribed") {
            assert!(began.elapsed() < DEADLINE);
        }
        listening
    }

    pub fn of_gateway(gateway: &Gateway, filter: &str) -> Listening {
        let mut command = Command::new("mosquitto_sub");
        let port = gateway.mqtt.port().to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1", "-t", filter]);
        Listening::start(command)
    }

    pub fn within(&self, time: Duration) -> Option<String> {
        let until = Instant::now() + time;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with("Client ") || line.starts_with("Subscribed") => {}
                Ok(line) => return Some(line),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => panic!("mosquitto_sub has ended"),
            }
        }
    }

    pub fn next(&self) -> String {
        self.within(DEADLINE).expect("a message")
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
