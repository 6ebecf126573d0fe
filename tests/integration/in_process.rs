//! A gateway on a thread of this process, for settings that only the library offers, such as another disk.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use outrider::gateway::{self, GatewayError, GatewaySettings, Ready};
use outrider::sinks::status::Link;
use tokio::sync::{oneshot, watch};

pub struct InProcess {
    pub mqtt: SocketAddr,
    pub admin: SocketAddr,
    pub link: watch::Sender<Link>,
    /// The MQTT thread's id in the system.
    edge_thread: i32,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), GatewayError>>,
}

impl InProcess {
    /// Starts with the state in `folder`, and waits until it is ready.
    pub fn start(folder: &Path, change: impl FnOnce(&mut GatewaySettings)) -> InProcess {
        InProcess::start_with_link(folder, Link::Up, change)
    }

    pub fn start_with_link(folder: &Path, link: Link, change: impl FnOnce(&mut GatewaySettings)) -> InProcess {
        let mut settings = crate::gateway::default_settings(&folder.join("state"));
        change(&mut settings);
        let (stop, stopped) = oneshot::channel();
        let (ready_sender, ready) = mpsc::channel::<(Ready, i32)>();
        let link = watch::Sender::new(link);
        let gateway_link = link.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // SAFETY: takes nothing and cannot fail.
            let edge_thread = unsafe { libc::gettid() };
            let on_ready = move |ready| ready_sender.send((ready, edge_thread)).unwrap();
            runtime.block_on(gateway::run(settings, gateway_link, on_ready, async { drop(stopped.await) }))
        });
        let Ok((ready, edge_thread)) = ready.recv() else {
            panic!("the gateway did not start: {:?}", thread.join().unwrap())
        };
        InProcess { mqtt: ready.mqtt, admin: ready.admin.unwrap(), link, edge_thread, stop, thread }
    }

    pub fn status(&self) -> serde_json::Value {
        crate::gateway::status(self.admin)
    }

    /// Processor time of the MQTT thread so far.
    pub fn edge_cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", self.edge_thread)).unwrap();
        // After the name, which may contain anything: utime and stime are fields 14 and 15, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// Ends as after SIGTERM.
    pub fn stop(self) {
        self.end().unwrap();
    }

    /// The same, even if it cannot end in order.
    pub fn end(self) -> Result<(), GatewayError> {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}
