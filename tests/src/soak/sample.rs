//! What a process costs, as /proc has it.

use std::fs;
use std::io;
use std::time::Duration;

/// What a process has at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Its resident memory, in KiB.
    pub memory: u64,
    /// Its open descriptors.
    pub descriptors: u64,
    /// Its threads.
    pub threads: u64,
    /// The processor time it has had.
    pub cpu: Duration,
}

impl Sample {
    /// Of a process that runs.
    pub fn of(process: u32) -> io::Result<Self> {
        let folder = format!("/proc/{process}");
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        Ok(Self {
            memory: field(&status, "VmRSS:"),
            threads: field(&status, "Threads:"),
            descriptors: fs::read_dir(format!("{folder}/fd"))?.count() as u64,
            cpu: cpu(&stat),
        })
    }
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// The 14th and the 15th field, in ticks of 10 ms; the 2nd, the name, may have anything in it.
fn cpu(stat: &str) -> Duration {
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let status = "Name:\tThreads: 9\nVmRSS:\t    2048 kB\nThreads:\t3\n";
        assert_eq!(
            (field(status, "VmRSS:"), field(status, "Threads:")),
            (2048, 3)
        );
        assert_eq!(field(status, "VmSwap:"), 0);
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 1000 1000 20 0";
        assert_eq!(cpu(stat), Duration::from_secs(2));
        assert_eq!(cpu(""), Duration::ZERO);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_that_is_opened_counts() {
        let sample = || Sample::of(std::process::id()).expect("this process runs");
        let file = fs::File::open("/proc/self/stat").expect("it is there");
        // Other tests open and close files too, but never all of these.
        let files: Vec<_> = (0..64).map(|_| file.try_clone()).collect();
        let with = sample();
        drop(files);
        assert!(with.descriptors >= sample().descriptors + 32);
        assert!(with.memory > 0 && with.threads > 0);
    }
}
