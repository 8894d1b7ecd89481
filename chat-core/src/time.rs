//! Time without a clock.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point in time: nanoseconds since an epoch that the caller picks.
///
/// The core never reads a clock: whoever drives a [`Connection`](crate::Connection) passes the
/// time in. Only differences matter, so any epoch will do: the start of the program, the boot of
/// the machine, zero in a simulation. The range is 584 years; sums saturate at its end.
///
/// Time given to one connection should not run backwards; where it does, deadlines wait until it
/// has caught up, and nothing else happens.
///
/// ```
/// use chat_core::Instant;
/// use core::time::Duration;
///
/// let start = Instant::EPOCH;
/// let later = start + Duration::from_millis(1_500);
/// assert_eq!(later - start, Duration::from_millis(1_500));
/// assert_eq!(start - later, Duration::ZERO);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The zero of the caller's clock.
    pub const EPOCH: Self = Self(0);

    /// The point that is `nanos` nanoseconds after the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This point moved later by `duration`, or `None` past the end of the range.
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let nanos = u64::try_from(duration.as_nanos()).ok()?;
        self.0.checked_add(nanos).map(Self)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self(u64::MAX))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to `self`; zero where `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instant({:?})", Duration::from_nanos(self.0))
    }
}
