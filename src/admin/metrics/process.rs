//! Of this process, under the names that such metrics have for every program: what the operating system says of it.

use std::fs;

use super::text::Text;
use crate::admin::status::Status;

pub fn write(text: &mut Text, status: &Status) {
    let start = status.started_at_ms as f64 / 1e3;
    text.of_the_process("start_time_seconds", "gauge", "start of the process since 1970", start);
    let Some(process) = Process::look() else { return };
    text.of_the_process("cpu_seconds_total", "counter", "processor time of all threads", process.cpu_s);
    text.of_the_process("resident_memory_bytes", "gauge", "memory in use", process.resident_bytes as f64);
    text.of_the_process("open_fds", "gauge", "file descriptors in use", process.descriptors as f64);
    text.of_the_process("max_fds", "gauge", "most file descriptors", process.descriptors_max as f64);
}

/// What the usual metrics of a process are made of.
#[derive(Clone, Copy, Debug)]
struct Process {
    cpu_s: f64,
    resident_bytes: u64,
    descriptors: u64,
    descriptors_max: u64,
}

impl Process {
    /// `None` where there is no such file system as Linux has.
    fn look() -> Option<Process> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let times = fs::read_to_string("/proc/self/stat").ok()?;
        // SAFETY: has no requirements.
        let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
        Some(Process {
            cpu_s: ticks(&times)? as f64 / ticks_a_second,
            resident_bytes: number_after(&status, "VmRSS:")? * 1024,
            // The folder itself is open while it is read.
            descriptors: (fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1),
            // A word where there is no limit.
            descriptors_max: number_after(&limits, "Max open files").unwrap_or(u64::MAX),
        })
    }
}

/// The first number of the line that begins so.
fn number_after(text: &str, begin: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(begin))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Time in the program and in the system for it. The name of the program may have spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let mut numbers = behind_name.split(' ').skip(11).map_while(|number| number.parse::<u64>().ok());
    Some(numbers.next()? + numbers.next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let process = Process::look().expect("a proc file system");
        assert!(process.resident_bytes > 1 << 20 && process.descriptors > 2, "{process:?}");
        assert!(process.descriptors < process.descriptors_max, "{process:?}");
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 40 2 0 0 20";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(number_after("Max open files            1024       4096   files", "Max open files"), Some(1024));
        assert_eq!(number_after("Max open files            unlimited  unlimited", "Max open files"), None);
    }
}
