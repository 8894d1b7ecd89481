//! What a process costs, as /proc has it.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use chat_tokio::UnixCredentials;

/// What a process has had at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    at: Instant,
    cpu: Duration,
    /// Its resident memory, in bytes.
    pub(super) memory: u64,
}

impl Sample {
    /// Of a process: its number, or "self".
    pub(super) fn of(process: &str) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let parsed = memory(&status).zip(cpu(&stat));
        let (memory, cpu) = parsed.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            at: Instant::now(),
            cpu,
            memory,
        })
    }

    /// Its share of a processor since then, in per cent.
    pub(super) fn share_since(&self, before: &Self) -> f64 {
        let time = (self.at - before.at).as_secs_f64();
        let cpu = self.cpu.saturating_sub(before.cpu).as_secs_f64();
        if time > 0.0 { 100.0 * cpu / time } else { 0.0 }
    }
}

/// `VmRSS` is in KiB.
fn memory(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The 14th and the 15th field, in ticks; the 2nd, the name, may have anything in it.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()?.checked_add(ticks()?)?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_secs(ticks) / u32::try_from(per_second).ok()?)
}

/// The process that listens on a Unix socket.
pub(super) fn listener(path: &Path) -> io::Result<u32> {
    let credentials = UnixCredentials::of(&UnixStream::connect(path)?)?;
    let process = credentials.pid.and_then(|pid| u32::try_from(pid).ok());
    process.ok_or_else(|| io::Error::other("its process cannot be seen from here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let status = "Name:\tx\nVmHWM:\t    4096 kB\nVmRSS:\t    2048 kB\n";
        assert_eq!(memory(status), Some(2048 * 1024));
        assert_eq!(memory("VmRSS:\tmany kB\n"), None);
        assert_eq!(memory("Name:\tx\n"), None);
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!("12 (a) b) S 1 2 3 4 5 6 7 8 9 10 {ticks} {ticks} 1000 1000 20 0");
        assert_eq!(cpu(&stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu("12 (a) S 1 2 3 4 5 6 7 8 9 10 1"), None);
        assert_eq!(cpu(""), None);
    }

    #[test]
    fn a_socket_tells_whose_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        assert!(listener(&path).is_err());
        let _socket = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        if cfg!(target_os = "linux") {
            assert_eq!(listener(&path).expect("known"), std::process::id());
        }
    }
}
