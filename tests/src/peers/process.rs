//! Processes of servers: started, measured, ended.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::SockAddr;
use tempfile::TempDir;

use super::serve::Kind;

/// How long a server may take to listen.
const STARTING: Duration = Duration::from_secs(10);

/// Keeps this thread, and those that it starts, on one core, if there is such a core.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    let _ = sched_setaffinity(None, &set);
}

/// Whether a program of this name can be started.
pub fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// A server that runs; it is killed when this is dropped.
pub struct Server {
    child: Child,
    address: SockAddr,
    _folder: TempDir,
}

impl Server {
    /// Starts a server with these flags, and waits until it listens.
    pub fn start(program: &Path, kind: Kind, flags: &[&str]) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let value = clap::ValueEnum::to_possible_value(&kind);
        let value = value.expect("no kind is skipped");
        let mut child = Command::new(program)
            .args([OsStr::new("serve"), OsStr::new(value.get_name())])
            .arg("--folder")
            .arg(folder.path())
            .args(flags)
            // Of async-std; smol and tokio are given one otherwise.
            .env("ASYNC_STD_THREAD_COUNT", "1")
            .env("SMOL_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let found = match kind {
            Kind::Nats => ports_file(folder.path()),
            _ => first_line(&mut child),
        };
        // From here on it is killed whatever happens.
        let mut server = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            _folder: folder,
        };
        let found = found?;
        let failed = |_| io::Error::other(format!("{kind:?} does not start: {found}"));
        let found = found.trim();
        server.address = if found.starts_with('/') {
            SockAddr::unix(found)?
        } else {
            found.parse::<SocketAddr>().map_err(failed)?.into()
        };
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> &SockAddr {
        &self.address
    }

    /// The processor time that it has had.
    pub fn cpu(&self) -> Duration {
        cpu(&format!("/proc/{}", self.child.id()))
    }

    /// Its resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|line| line.split_whitespace().next());
        line.and_then(|kib| kib.parse().ok()).unwrap_or(0_u64) * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processor time of this process.
pub fn own_cpu() -> Duration {
    cpu("/proc/self")
}

/// The time that all threads of a process have run, in nanoseconds as the scheduler counts them:
/// `stat` has ticks of 10 ms only.
fn cpu(process: &str) -> Duration {
    let tasks = fs::read_dir(format!("{process}/task"));
    let nanos = tasks.into_iter().flatten().flatten().map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let word = text.split_whitespace().next().map(str::parse);
        word.and_then(Result::ok).unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}

/// How long this process could have run, and others had the core.
pub fn own_wait() -> Duration {
    let text = fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let word = text.split_whitespace().nth(1).map(str::parse);
    Duration::from_nanos(word.and_then(Result::ok).unwrap_or(0))
}

fn first_line(child: &mut Child) -> io::Result<String> {
    let stdout = child.stdout.take();
    let mut line = String::new();
    // The end of its output, should it fail.
    BufReader::new(stdout.expect("it is piped")).read_line(&mut line)?;
    Ok(line)
}

fn ports_file(folder: &Path) -> io::Result<String> {
    let begun = Instant::now();
    while begun.elapsed() < STARTING {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension() == Some(OsStr::new("ports"))
                && let Ok(text) = fs::read_to_string(&path)
                && let Some((_, rest)) = text.split_once("nats://")
                && let Some((address, _)) = rest.split_once('"')
            {
                return Ok(address.into());
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(io::Error::other(
        "nats-server does not say where it listens",
    ))
}
