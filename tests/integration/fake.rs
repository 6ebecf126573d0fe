//! A fake of a service, in Python: it obeys orders, and tells what it has seen.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

pub struct Fake {
    child: Child,
    pub address: SocketAddr,
    /// Where it speaks TLS, if it does.
    tls: Option<SocketAddr>,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Fake {
    /// A script of the folder of these tests; it prints its ports when it is ready.
    pub fn start(script: &str) -> Fake {
        Fake::start_with(script, &[], &[])
    }

    pub fn start_with(script: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Fake {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration");
        let mut command = Command::new("python3");
        command.arg("-B").arg(format!("{folder}/{script}")).args(arguments).envs(environment.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut ports = String::new();
        answers.read_line(&mut ports).unwrap();
        let mut addresses =
            ports.split_whitespace().map(|port| SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())));
        let (address, tls) = (addresses.next().unwrap(), addresses.next());
        Fake { child, address, tls, orders, answers }
    }

    pub fn tls(&self) -> SocketAddr {
        self.tls.unwrap()
    }

    /// Orders how the next requests are answered, so many of them, or sets a limit or a switch.
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
