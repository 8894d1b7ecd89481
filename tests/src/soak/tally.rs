//! What a worker has done and seen, told to whoever started it, line by line.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

/// How many failures are told in words; the others are only counted.
const TOLD: u64 = 20;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Healthy connections that are open now.
    Open,
    /// Messages sent.
    Sent,
    /// Messages that came back as they should.
    Back,
    /// Attempts to connect that had to be made again.
    Retried,
    /// Connections that came, talked and said goodbye.
    Talked,
    /// Connections that were cut off by their client.
    Vanished,
    /// Connections that never said a word.
    Silent,
    /// Connections that sent what is no frame.
    Garbage,
    /// Clients that stopped reading.
    Starved,
    /// Clients that read slowly, and everything.
    Sipped,
    /// What went wrong.
    Failed,
}

const COUNTS: usize = Count::Failed as usize + 1;

/// The counters of a process.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; COUNTS]);

impl Tally {
    /// Counts one more.
    pub fn add(&self, count: Count) {
        self.0[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts so many more.
    pub fn add_many(&self, count: Count, more: u64) {
        self.0[count as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// Counts one less.
    pub fn remove(&self, count: Count) {
        self.0[count as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a failure, and says so.
    pub fn fail(&self, what: &str) {
        let before = self.0[Count::Failed as usize].fetch_add(1, Ordering::Relaxed);
        if before < TOLD {
            // That nobody listens is found out elsewhere.
            let _ = writeln!(io::stdout().lock(), "failed {}", what.escape_debug());
        }
    }

    /// Tells how far it is.
    pub fn tell(&self) {
        let mut line = "counts".to_owned();
        for count in &self.0 {
            let _ = write!(line, " {}", count.load(Ordering::Relaxed));
        }
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}

/// What one worker has told, or several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    counts: [u64; COUNTS],
    /// Failures in words.
    pub failures: Vec<String>,
}

impl Told {
    /// What these lines of a worker say; those that are none of its lines say nothing.
    pub fn of(lines: &[String]) -> Self {
        let lines = || lines.iter().map(|line| line.trim_end());
        let last = lines()
            .filter_map(|line| line.strip_prefix("counts "))
            .next_back();
        let mut counts = [0; COUNTS];
        for (count, word) in counts.iter_mut().zip(last.unwrap_or_default().split(' ')) {
            *count = word.parse().unwrap_or(0);
        }
        let failures = lines().filter_map(|line| line.strip_prefix("failed "));
        Self {
            counts,
            failures: failures.map(str::to_owned).collect(),
        }
    }

    /// One of the counts.
    pub fn get(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// Adds what another has told.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(other.counts) {
            *sum += count;
        }
        self.failures.extend_from_slice(&other.failures);
    }

    /// The connections of a worker that is gone are not open.
    pub fn none_open(&mut self) {
        self.counts[Count::Open as usize] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_counts_count_and_every_failure() {
        let lines = [
            "counts 1 2 3\n",
            "failed one\n",
            "noise\n",
            "counts 4 5\n",
            "failed two\n",
        ];
        let told = Told::of(&lines.map(str::to_owned));
        assert_eq!(told.get(Count::Open), 4);
        assert_eq!(told.get(Count::Sent), 5);
        assert_eq!(told.get(Count::Back), 0);
        assert_eq!(told.failures, ["one", "two"]);
        let mut sum = told.clone();
        sum.add(&told);
        assert_eq!((sum.get(Count::Open), sum.failures.len()), (8, 4));
    }
}
