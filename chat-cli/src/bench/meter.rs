//! Latencies, of any number of connections, in bounded memory.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longer ones count as this long.
const LONGEST: Duration = Duration::from_hours(1);
/// How exact they are, in decimal digits.
const DIGITS: u8 = 3;

/// What is measured, twice: of a message its latency and how late it was sent, of a visit until the
/// session stood and until its end.
pub(super) struct Meter(Vec<Mutex<Shard>>);

/// A histogram has its size, whoever fills it: connections share a few.
struct Shard {
    times: [Histogram<u64>; 2],
    last: Option<Instant>,
}

/// Which of the two.
#[derive(Clone, Copy)]
pub(super) enum Time {
    /// The latency.
    Main = 0,
    /// The other one.
    Other = 1,
}

impl Meter {
    pub(super) fn new() -> Self {
        let shards = available_parallelism().map_or(1, usize::from);
        let histogram = || {
            let longest = u64::try_from(LONGEST.as_nanos()).unwrap_or(u64::MAX);
            Histogram::new_with_max(longest, DIGITS).expect("these bounds are good ones")
        };
        let shard = || Shard {
            times: [histogram(), histogram()],
            last: None,
        };
        Self((0..shards).map(|_| Mutex::new(shard())).collect())
    }

    fn shard(&self, connection: usize) -> MutexGuard<'_, Shard> {
        let shard = &self.0[connection % self.0.len()];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of a connection took from `from` to `to`.
    pub(super) fn record(&self, connection: usize, which: Time, from: Instant, to: Instant) {
        let nanos = to.saturating_duration_since(from).as_nanos();
        let mut shard = self.shard(connection);
        shard.times[which as usize].saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX));
        shard.last = shard.last.max(Some(to));
    }

    /// All of them.
    pub(super) fn sum(&self, which: Time) -> Times {
        let mut sum = self.shard(0).times[which as usize].clone();
        for connection in 1..self.0.len() {
            let shard = self.shard(connection);
            let added = sum.add(&shard.times[which as usize]);
            added.expect("all have the same bounds");
        }
        Times(sum)
    }

    /// When something was recorded last.
    pub(super) fn last(&self) -> Option<Instant> {
        let last = |connection| self.shard(connection).last;
        (0..self.0.len()).filter_map(last).max()
    }
}

/// How long things took.
#[derive(Clone)]
pub(super) struct Times(Histogram<u64>);

/// The columns of a table of them.
pub(super) const COLUMNS: [&str; 6] = ["mean", "p50", "p90", "p99", "p99.9", "max"];

impl Times {
    /// How many were recorded.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// With those that would have been measured, had messages been sent as often as usual while one
    /// took long.
    pub(super) fn corrected(&self) -> Self {
        // In a closed loop the next goes out when one is done: as often as one takes, on average.
        let [mean, ..] = self.micros();
        let interval = Duration::from_secs_f64(mean / 1e6).max(Duration::from_micros(1));
        let interval = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.clone_correct(interval))
    }

    /// In microseconds, as in the columns; zeros if there are none.
    #[expect(clippy::cast_precision_loss, reason = "an hour is exact enough")]
    pub(super) fn micros(&self) -> [f64; 6] {
        if self.0.is_empty() {
            return [0.0; 6];
        }
        let quantile = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        [
            self.0.mean() / 1e3,
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            quantile(0.999),
            self.0.max() as f64 / 1e3,
        ]
    }

    pub(super) fn json(&self) -> Value {
        let values = COLUMNS.into_iter().zip(self.micros());
        let values = values.map(|(name, value)| (name.to_owned(), json!(value)));
        Value::Object(values.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(millis: &[(u64, usize)]) -> Meter {
        let (meter, origin) = (Meter::new(), Instant::now());
        for &(time, count) in millis {
            for connection in 0..count {
                let end = origin + Duration::from_millis(time);
                meter.record(connection, Time::Main, origin, end);
            }
        }
        meter
    }

    #[track_caller]
    fn near(found: [f64; 6], millis: [f64; 6]) {
        for (found, expected) in found.into_iter().zip(millis) {
            let difference = (found / 1e3 - expected).abs();
            assert!(difference <= expected / 500.0, "{found} is not {expected}");
        }
    }

    #[test]
    fn percentiles_are_of_all_connections() {
        let meter = meter(&[(1, 900), (10, 90), (100, 9), (1000, 1)]);
        let times = meter.sum(Time::Main);
        assert_eq!(times.count(), 1000);
        near(times.micros(), [3.7, 1.0, 1.0, 10.0, 100.0, 1000.0]);
        let none = meter.sum(Time::Other).micros();
        assert!(none.iter().all(|time| time.abs() < f64::EPSILON));
    }

    #[test]
    fn a_pause_counts_for_all_that_would_have_been_sent() {
        // One that took a second among a thousand of a millisecond: mean 2 ms, so 500 were due meanwhile.
        let times = meter(&[(1, 999), (1001, 1)]).sum(Time::Main);
        let corrected = times.corrected();
        assert!(
            corrected.count().abs_diff(1499) <= 2,
            "{}",
            corrected.count()
        );
        let [_, _, _, p99, _, max] = corrected.micros();
        assert!(p99 > 900_000.0, "{p99}");
        near([max; 6], [1001.0; 6]);
        let [_, _, _, p99, _, _] = times.micros();
        near([p99; 6], [1.0; 6]);
    }
}
