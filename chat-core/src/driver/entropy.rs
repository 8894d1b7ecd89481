//! Randomness from the operating system: the one place that asks for it.
#![expect(
    clippy::disallowed_methods,
    reason = "the driver is what brings randomness to the core"
)]

use uuid::{Builder, Uuid};

use crate::Entropy;

/// A fresh session id: a random UUID, version 4.
///
/// # Panics
///
/// If the operating system has no randomness to give: no session could be told from another.
pub(super) fn session_id() -> Uuid {
    Builder::from_random_bytes(random()).into_uuid()
}

/// What makes a connection unlike every other.
///
/// # Panics
///
/// If the operating system has no randomness to give: what was recorded once could be replayed.
pub(super) fn fresh() -> Entropy {
    Entropy::new(random())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A random number, for jitter: where there is no randomness, the longest delay.
pub(super) fn jitter() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX)
}
