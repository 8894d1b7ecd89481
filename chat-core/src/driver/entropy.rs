//! Randomness from the operating system: the one place that asks for it.
#![expect(
    clippy::disallowed_methods,
    reason = "the driver is what brings randomness to the core"
)]

use uuid::{Builder, Uuid};

/// A fresh session id: a random UUID, version 4.
///
/// # Panics
///
/// If the operating system has no randomness to give: no session could be told from another.
pub(super) fn session_id() -> Uuid {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    Builder::from_random_bytes(bytes).into_uuid()
}

/// A random number, for jitter: where there is no randomness, the longest delay.
pub(super) fn jitter() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}
