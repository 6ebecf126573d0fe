//! A fake of a service that obeys orders: see `fake.py`.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

pub struct Fake {
    child: Child,
    pub address: SocketAddr,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Fake {
    pub fn start(script: &str) -> Fake {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/http");
        let mut command = Command::new("python3");
        command.arg("-B").arg(format!("{folder}/{script}")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut port = String::new();
        answers.read_line(&mut port).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap()));
        Fake { child, address, orders, answers }
    }

    pub fn order(&mut self, what: &str, number: u64) {
        writeln!(self.orders, "{what} {number}").unwrap();
        self.answers.read_line(&mut String::new()).unwrap();
    }

    pub fn get(&self, path: &str) -> Vec<Value> {
        serde_json::from_str(&crate::gateway::get(self.address, path).1).unwrap()
    }

    /// Checks that everything was as the protocol has it.
    pub fn expect_no_problems(&self) {
        assert_eq!(self.get("/problems"), Vec::<Value>::new());
    }

    pub fn has_seen(&self, fault: &str) -> bool {
        self.get("/seen").iter().any(|request| request["fault"] == fault)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
