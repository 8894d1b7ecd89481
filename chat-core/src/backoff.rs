//! How long to wait before the next attempt to connect.

use core::time::Duration;

/// Exponential backoff with full jitter: before attempt *n* the wait is uniform between zero and
/// the smaller of `cap` and `base` · 2ⁿ.
///
/// The whole range is random, not a tail of it, so clients that lost one server at one moment
/// come back spread over it. Pure: randomness comes in as an argument.
///
/// ```
/// use chat_core::Backoff;
/// use core::time::Duration;
///
/// let mut backoff = Backoff::default();
/// assert_eq!(backoff.next_delay(u64::MAX), Duration::from_secs(4));
/// assert_eq!(backoff.next_delay(u64::MAX / 2), Duration::from_secs(4));
/// backoff.reset();
/// assert_eq!(backoff.next_delay(0), Duration::ZERO);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits of up to `base` at first, of up to `cap` in the end.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self {
            base,
            cap,
            failures: 0,
        }
    }

    /// The next wait, for a uniformly random `random`.
    pub fn next_delay(&mut self, random: u64) -> Duration {
        let ceiling = self
            .base
            .saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX))
            .min(self.cap);
        self.failures = (self.failures + 1).min(31);
        // A fraction of 2⁶⁴ of the ceiling; the product of two u64s fits a u128.
        let ceiling = u128::from(u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX));
        let random = if planted!("there is no jitter") {
            u64::MAX
        } else {
            random
        };
        let nanos = (ceiling * (u128::from(random) + 1)) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Starts over: a connection was established.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

impl Default for Backoff {
    /// Up to 4 s at first, which keeps a thousand clients of one server below 5 % in any tenth of
    /// a second; up to 60 s in the end.
    fn default() -> Self {
        Self::new(Duration::from_secs(4), Duration::from_mins(1))
    }
}
