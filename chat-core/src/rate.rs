//! How much of something in how much time.

use core::time::Duration;

use crate::Instant;

/// A rate, and how much may come at once: a token bucket.
///
/// ```
/// use chat_core::Rate;
///
/// // 100 a second in the long run; after a pause, 500 at once.
/// let rate = Rate::per_second(100).burst(500);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u64,
    burst: u64,
}

impl Rate {
    /// So many each second, and as many at once. 0 counts as 1.
    pub const fn per_second(number: u64) -> Self {
        let per_second = if number == 0 { 1 } else { number };
        Self {
            per_second,
            burst: per_second,
        }
    }

    /// How many may come at once after a pause. 0 counts as 1.
    #[must_use]
    pub const fn burst(mut self, number: u64) -> Self {
        self.burst = if number == 0 { 1 } else { number };
        self
    }

    /// How many each second.
    pub const fn number(&self) -> u64 {
        self.per_second
    }

    /// How long so many take.
    fn time_for(&self, number: u64) -> Duration {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// What has been taken from a [`Rate`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// When it is full again.
    full: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(now: Instant) -> Self {
        Self { full: now }
    }

    /// Takes one if there is one.
    #[cfg(feature = "driver")]
    pub(crate) fn try_take(&mut self, rate: Rate, now: Instant) -> bool {
        let before = *self;
        let taken = self.take(rate, now, 1).is_none();
        if !taken {
            *self = before;
        }
        taken
    }

    /// Takes so many, also more than there are. If they are more, when there is something again.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant, number: u64) -> Option<Instant> {
        self.full = self.full.max(now) + rate.time_for(number);
        let missing = self.full - now;
        let burst = rate.time_for(rate.burst);
        let late = missing.checked_sub(burst)?;
        (!late.is_zero()).then(|| now + late)
    }
}
