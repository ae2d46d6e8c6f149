//! Reads the kernel's figures for this process. A figure that cannot be read is 0.

use std::fs;

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::metrics::Process;

/// The figures of this process, which started at `start_unix_micros`.
pub fn read_process(start_unix_micros: i64) -> Process {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Process {
        cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        resident_bytes: resident_pages().unwrap_or(0) * page_size() as u64,
        open_files: open_files(),
        files_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        start_seconds: start_unix_micros as f64 / 1e6,
    }
}

/// The second figure of `statm` (proc_pid_statm(5)).
fn resident_pages() -> Option<u64> {
    fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()
}

/// The number of open files: the size of their directory (Linux 6.2), or on older kernels a count of its entries.
fn open_files() -> u64 {
    const DIRECTORY: &str = "/proc/self/fd";
    match fs::metadata(DIRECTORY).map_or(0, |metadata| metadata.len()) {
        // One of the entries is the open directory itself.
        0 => fs::read_dir(DIRECTORY).map_or(0, |files| files.count().saturating_sub(1) as u64),
        count => count,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::read_process;

    #[test]
    fn the_figures_of_the_process_are_plausible() {
        let before = read_process(1_500_000);
        let files: Vec<File> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
        let after = read_process(1_500_000);
        assert!(after.open_files >= before.open_files.min(after.open_files) && after.open_files >= 50);
        assert!(after.files_max >= after.open_files);
        assert!(
            after.resident_bytes > 100 << 10 && after.resident_bytes < 1 << 40,
            "{}",
            after.resident_bytes
        );
        assert!(after.cpu_seconds > 0.0 && after.cpu_seconds >= before.cpu_seconds);
        assert_eq!(after.start_seconds, 1.5);
        drop(files);
    }
}
