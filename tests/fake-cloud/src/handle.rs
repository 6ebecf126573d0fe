//! The handle of a running cloud.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::faults::Faults;
use crate::operations::is_stream_name;
use crate::server::{Control, Shared, serve};
use crate::settings::{Settings, ShardLimits, StreamSettings};
use crate::stats::Stats;
use crate::stream::Record;

const CONTROLS_MAX: usize = 64;

/// A running cloud; dropping it stops it. Every method may be called from any thread, also within a runtime.
#[derive(Debug)]
pub struct FakeCloud {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    controls: Option<mpsc::Sender<Control>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl FakeCloud {
    /// Like [`FakeCloud::start_blocking`], which takes well under a millisecond.
    pub async fn start(settings: Settings) -> io::Result<FakeCloud> {
        FakeCloud::start_blocking(settings)
    }

    /// When this returns, the cloud is listening.
    pub fn start_blocking(settings: Settings) -> io::Result<FakeCloud> {
        check(&settings).map_err(|message| io::Error::new(io::ErrorKind::InvalidInput, message))?;
        let listener = TcpListener::bind(settings.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(&settings));
        let (controls, received) = mpsc::channel(CONTROLS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (weak, for_thread) = (controls.downgrade(), Arc::clone(&shared));
        let run = move || runtime.block_on(serve(listener, for_thread, received, weak));
        let thread = thread::Builder::new().name("fake-cloud".to_owned()).spawn(run)?;
        Ok(FakeCloud { address, shared, controls: Some(controls), thread: Some(thread) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint URL for an SDK.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Replaces all faults from the next request on.
    ///
    /// # Panics
    /// If a fraction is not from 0 to 1: the test is wrong.
    pub fn set_faults(&self, faults: Faults) {
        assert_eq!(faults.check(), Ok(()), "faults must be valid");
        self.shared.engine().faults = faults;
    }

    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// All accepted records of a stream in order of acceptance, which within a shard is the shard's order. Empty when only counting.
    pub fn records(&self, stream: &str) -> Vec<Record> {
        self.records_from(stream, 0)
    }

    /// The same without the first `index` ones, for tests that follow a stream.
    pub fn records_from(&self, stream: &str, index: usize) -> Vec<Record> {
        self.shared.engine().records(stream).get(index..).unwrap_or_default().to_vec()
    }

    /// Creates a stream with the shard limits of the settings; `false` if it exists already or its name or number of shards is not allowed.
    pub fn create_stream(&self, name: &str, shards: u32) -> bool {
        let mut engine = self.shared.engine();
        let (owned, shard_limits) = (name.to_owned(), engine.shard_limits);
        let settings = StreamSettings { name: owned, shards, shard_limits, appears_after: Duration::ZERO };
        is_stream_name(name) && engine.create_stream(&settings, self.shared.now())
    }

    /// Deletes a stream with all it held; `false` if there was none.
    pub fn delete_stream(&self, name: &str) -> bool {
        self.shared.engine().streams.remove(name).is_some()
    }

    /// Gives one shard, or all, new limits and a fresh allowance; `false` if there is no such stream.
    pub fn set_shard_limits(&self, stream: &str, shard: Option<u32>, limits: ShardLimits) -> bool {
        let now = self.shared.now();
        let mut engine = self.shared.engine();
        let found = engine.streams.get_mut(stream);
        found.map(|stream| stream.set_limits(shard, limits, now.since_start_ns)).is_some()
    }

    /// Forgets all records and counts; streams and faults stay.
    pub fn forget(&self) {
        self.shared.engine().forget();
    }

    /// Cuts every connection and refuses new ones, before it returns.
    pub fn go_offline(&self) -> io::Result<()> {
        self.control(Control::Offline)
    }

    /// Listens again on the same port.
    pub fn come_back(&self) -> io::Result<()> {
        self.control(Control::ComeBack)
    }

    fn control(&self, control: impl FnOnce(std::sync::mpsc::Sender<io::Result<()>>) -> Control) -> io::Result<()> {
        let (done, result) = std::sync::mpsc::channel();
        let controls = self.controls.as_ref().expect("only the drop takes it");
        controls.try_send(control(done)).map_err(|_| io::Error::other("the cloud's thread does not answer"))?;
        result.recv().map_err(|_| io::Error::other("the cloud's thread has ended"))?
    }
}

impl Drop for FakeCloud {
    fn drop(&mut self) {
        self.controls = None;
        if let Some(thread) = self.thread.take() {
            // It ended with an error, or with a panic that has printed itself; there is nobody to report it to.
            let _ = thread.join();
        }
    }
}

fn check(settings: &Settings) -> Result<(), String> {
    settings.faults.check().map_err(|error| error.to_string())?;
    for stream in &settings.streams {
        if !is_stream_name(&stream.name) {
            return Err(format!("stream name {:?} must be 1 to 128 of a-z, A-Z, 0-9, '_', '.', '-'", stream.name));
        }
        if !(1..=StreamSettings::SHARDS_MAX).contains(&stream.shards) {
            return Err(format!("stream {} must have 1 to {} shards", stream.name, StreamSettings::SHARDS_MAX));
        }
    }
    Ok(())
}
