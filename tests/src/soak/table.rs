//! How it went over time.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::sample::Sample;
use super::tally::{Count, Told};

/// How many rows the table has, about.
const ROWS: usize = 15;

/// How it was at a moment.
#[derive(Clone, Debug)]
pub(super) struct Row {
    at: Duration,
    /// The first is that of the echoes.
    pub(super) servers: Vec<Sample>,
    /// Healthy connections that were open.
    pub(super) open: u64,
    back: u64,
    /// What the prober has measured since the row before.
    latencies: Vec<Duration>,
}

impl Row {
    pub(super) fn new(
        at: Duration,
        servers: Vec<Sample>,
        told: &Told,
        latencies: Vec<Duration>,
    ) -> Self {
        Self {
            at,
            servers,
            open: told.get(Count::Open),
            back: told.get(Count::Back),
            latencies,
        }
    }

    /// When this was.
    pub(super) fn at(&self) -> Duration {
        self.at
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let latency = Latency::of([self]);
        let server = |server: &Sample| {
            json!({
                "memory_kib": server.memory,
                "descriptors": server.descriptors,
                "threads": server.threads,
                "cpu_ms": millis(server.cpu),
            })
        };
        json!({
            "at_ms": millis(self.at),
            "open": self.open,
            "servers": self.servers.iter().map(server).collect::<Vec<_>>(),
            "back": self.back,
            "p50_us": micros(latency.p50),
            "p99_us": micros(latency.p99),
            "max_us": micros(latency.max),
        })
    }
}

/// The rows of a soak, some of them put together.
pub(super) struct Table<'r>(pub(super) &'r [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>7} {:>7} {:>10} {:>7} {:>7} {:>6} {:>7} {:>8} {:>8} {:>8} {:>10}",
            "time/s",
            "open",
            "memory/MiB",
            "fds",
            "threads",
            "cpu/%",
            "msg/s",
            "p50/ms",
            "p99/ms",
            "max/ms",
            "relay/MiB"
        )?;
        let size = self.0.len().div_ceil(ROWS).max(1);
        let mut before = None;
        for rows in self.0.chunks(size) {
            writeln!(f, "{}", Window { before, rows })?;
            before = rows.last();
        }
        Ok(())
    }
}

/// What was between two moments, and how it was at the second.
struct Window<'r> {
    before: Option<&'r Row>,
    rows: &'r [Row],
}

impl fmt::Display for Window<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.rows.last() else {
            return Ok(());
        };
        let first = self.before.unwrap_or(&self.rows[0]);
        let of = |row: &Row| row.servers.first().copied().unwrap_or_default();
        let (first_of, last_of) = (of(first), of(last));
        let time = last.at.saturating_sub(first.at).as_secs_f64().max(0.001);
        let cpu = last_of.cpu.saturating_sub(first_of.cpu).as_secs_f64();
        let back = Duration::from_secs(last.back.saturating_sub(first.back)).as_secs_f64();
        let latency = Latency::of(self.rows);
        write!(
            f,
            "{:>7} {:>7} {:>10} {:>7} {:>7} {:>6.1} {:>7.0} {:>8} {:>8} {:>8} {:>10}",
            seconds(last.at),
            last.open,
            tenths(last_of.memory),
            last_of.descriptors,
            last_of.threads,
            cpu / time * 100.0,
            back / time,
            ms(latency.p50),
            ms(latency.p99),
            ms(latency.max),
            last.servers
                .get(1)
                .map_or("-".into(), |relay| tenths(relay.memory)),
        )
    }
}

/// How long answers took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Latency {
    p50: Duration,
    pub(super) p99: Duration,
    max: Duration,
}

impl Latency {
    pub(super) fn of<'r>(rows: impl IntoIterator<Item = &'r Row>) -> Self {
        let rows = rows.into_iter();
        let mut all: Vec<_> = rows.flat_map(|row| row.latencies.iter().copied()).collect();
        all.sort_unstable();
        let at = |percent: usize| {
            let index = (all.len() * percent).div_ceil(100).saturating_sub(1);
            all.get(index).copied().unwrap_or_default()
        };
        Self {
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

pub(super) fn mib(kib: u64) -> String {
    format!("{} MiB", tenths(kib))
}

/// KiB as MiB.
fn tenths(kib: u64) -> String {
    format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024)
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}

pub(super) fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
