//! When messages are due.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::run::Run;

/// The pacer looks at least this often whether it is over.
const GLANCE: Duration = Duration::from_millis(50);

/// What is due at the very end is not sent, and that is nobody's fault.
const JUST_BEFORE: Duration = Duration::from_millis(10);

/// Says of each of some connections when the next message is due.
pub(super) struct Pace {
    begin: Instant,
    /// In an open loop: so many a second, over all.
    rate: Option<u64>,
    wakers: Vec<Notify>,
}

impl Pace {
    pub(super) fn new(run: &Arc<Run>, rate: Option<u64>, connections: usize) -> Arc<Self> {
        let wakers = (0..connections).map(|_| Notify::new()).collect();
        let pace = Arc::new(Self {
            begin: run.begin,
            rate,
            wakers,
        });
        if rate.is_some() {
            let (pace, run) = (Arc::clone(&pace), Arc::clone(run));
            // The timers of the runtime are as coarse as a millisecond.
            thread::spawn(move || pace.wake_in_time(&run));
        }
        pace
    }

    /// Whether messages go out at their time, and not when others have come.
    pub(super) fn is_open(&self) -> bool {
        self.rate.is_some()
    }

    /// When a connection's message with this number is due; in a closed loop it is now.
    pub(super) fn due(&self, connection: usize, number: u64, now: Instant) -> Instant {
        let Some(rate) = self.rate else { return now };
        let count = self.wakers.len() as u64;
        self.time(
            rate,
            number
                .saturating_mul(count)
                .saturating_add(connection as u64),
        )
    }

    /// How many messages of a connection were due before the end, and not just before.
    pub(super) fn due_until(&self, connection: usize, end: Instant) -> u64 {
        let Some(rate) = self.rate else { return 0 };
        let time = end.saturating_duration_since(self.begin);
        let time = time.saturating_sub(JUST_BEFORE).as_nanos();
        let all = u64::try_from(time * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX);
        let count = self.wakers.len() as u64;
        all.saturating_add(count - 1)
            .saturating_sub(connection as u64)
            / count
    }

    /// When the message with this number is due, among those of all connections.
    fn time(&self, rate: u64, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
        self.begin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Waits until something may be due for a connection.
    pub(super) async fn wait(&self, connection: usize) {
        self.wakers[connection].notified().await;
    }

    fn wake_in_time(&self, run: &Run) {
        let rate = self.rate.unwrap_or(1);
        let mut number = 0;
        while !run.is_over() {
            let now = Instant::now();
            let mut due = self.time(rate, number);
            // A round is enough for all, however late it is.
            for _ in 0..self.wakers.len() {
                if due > now {
                    break;
                }
                let count = self.wakers.len() as u64;
                self.wakers[usize::try_from(number % count).unwrap_or(0)].notify_one();
                number += 1;
                due = self.time(rate, number);
            }
            thread::sleep(due.saturating_duration_since(now).min(GLANCE));
        }
    }
}
