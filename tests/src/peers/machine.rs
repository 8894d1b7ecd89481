//! What the machine is, and how fast it hashes.

use std::fs;
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

/// One core with instructions for SHA-256 makes more than a gigabyte a second, any other less than half.
pub const EXPECTED_HASH: f64 = 1e9;
/// How long it is hashed.
const HASHING: Duration = Duration::from_millis(100);

/// What this machine is: processor, cores, kernel.
pub fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("", |line| line.trim_start_matches([' ', '\t', ':']));
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// How many bytes one core hashes in a second: the best of many MiB, for others may want the core too.
pub fn hash_speed() -> f64 {
    let bytes = crate::pattern(1024 * 1024);
    let until = Instant::now() + HASHING;
    let mut best = Duration::MAX;
    while Instant::now() < until {
        let begun = Instant::now();
        std::hint::black_box(Sha256::digest(std::hint::black_box(&bytes)));
        best = best.min(begun.elapsed());
    }
    1024.0 * 1024.0 / best.as_secs_f64()
}
