//! File descriptors: raises the limit as far as the system allows, and reserves enough of them for the gateway itself.

use std::io;

/// For the store, its readers, the listeners, the runtimes, and all connections of the administration interface.
const OWN: u64 = 96;
/// For a sink's readers, files and connections of the two streams that every store has.
const A_SINK: u64 = 32;
/// For those of one more stream.
const A_STREAM_OF_A_SINK: u64 = 16;

/// How many connections fit besides what the gateway needs for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub limit: u64,
    pub own: u64,
}

impl Room {
    /// Raises this process's limit as far as the system allows.
    ///
    /// `streams`: those that the configuration names.
    pub fn make(sinks: usize, streams: usize) -> io::Result<Room> {
        let mut limit = read()?;
        if limit.rlim_cur < limit.rlim_max {
            let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
            // SAFETY: reads a whole struct.
            if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
                limit = raised;
            }
        }
        Ok(Room::new(limit.rlim_cur, sinks, streams))
    }

    /// What [`Room::make`] would find, without raising the limit.
    pub fn look(sinks: usize, streams: usize) -> io::Result<Room> {
        read().map(|limit| Room::new(limit.rlim_max, sinks, streams))
    }

    // Its width differs between platforms.
    #[allow(clippy::unnecessary_cast)]
    fn new(limit: libc::rlim_t, sinks: usize, streams: usize) -> Room {
        Room::with_limit(limit as u64, sinks, streams)
    }

    /// Of a process that has this limit.
    pub fn with_limit(limit: u64, sinks: usize, streams: usize) -> Room {
        let a_sink = A_SINK + A_STREAM_OF_A_SINK * streams as u64;
        Room { limit, own: OWN + a_sink * sinks as u64 }
    }

    /// The same with these needed besides.
    pub fn besides(self, further: u64) -> Room {
        Room { own: self.own + further, ..self }
    }

    /// How many of the wanted connections fit. At least one, or there would be no gateway.
    pub fn connections(&self, wanted: usize) -> usize {
        let fitting = usize::try_from(self.limit.saturating_sub(self.own)).unwrap_or(usize::MAX);
        wanted.min(fitting.max(1))
    }

    /// A message for people, if not all of the wanted connections fit.
    pub fn shortage(&self, wanted: usize) -> Option<String> {
        let fitting = self.connections(wanted);
        let Room { limit, own } = self;
        (fitting < wanted).then(|| {
            format!(
                "mqtt.connections_max is {wanted}, but only {fitting} connections fit into the limit of {limit} open files, \
                 {own} of which the gateway needs for itself; raise that limit to {} (LimitNOFILE= of a systemd unit, or \
                 ulimit -n), or lower mqtt.connections_max",
                wanted as u64 + own
            )
        })
    }
}

fn read() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: there is room for what is written.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_ourselves() {
        assert_eq!(Room::new(1024, 2, 3).own, 96 + 2 * (32 + 48));
        let room = Room::new(1024, 1, 0);
        assert_eq!((room.own, room.connections(4096), room.connections(100)), (128, 896, 100));
        let said = room.shortage(4096).expect("too few");
        assert!(["4096,", "896", "1024", "4224"].iter().all(|number| said.contains(number)), "{said}");
        assert_eq!(room.shortage(896), None);
        assert_eq!(Room::new(64, 3, 0).connections(10), 1);
        assert_eq!(Room::new(libc::RLIM_INFINITY, 3, 0).connections(100_000), 100_000);
    }
}
