//! A gateway on a thread of this process: with settings that only the library offers, such as another disk.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use outrider::forward::status::Link;
use outrider::gateway::{self, GatewayError, GatewaySettings, Ready};
use tokio::sync::{oneshot, watch};

pub struct InProcess {
    pub mqtt: SocketAddr,
    pub admin: SocketAddr,
    pub link: watch::Sender<Link>,
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
        let (ready_sender, ready) = mpsc::channel::<Ready>();
        let link = watch::Sender::new(link);
        let gateway_link = link.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let on_ready = move |ready| ready_sender.send(ready).unwrap();
            runtime.block_on(gateway::run(settings, gateway_link, on_ready, async { drop(stopped.await) }))
        });
        let Ok(ready) = ready.recv() else { panic!("the gateway did not start: {:?}", thread.join().unwrap()) };
        InProcess { mqtt: ready.mqtt, admin: ready.admin.unwrap(), link, stop, thread }
    }

    pub fn status(&self) -> serde_json::Value {
        crate::gateway::status(self.admin)
    }

    /// Ends as after SIGTERM.
    pub fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap().unwrap();
    }
}
