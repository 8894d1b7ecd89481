//! Randomness: session ids, nonces, jitter.

use uuid::{Builder, Uuid};

use super::rt::Runtime;
use crate::Entropy;

/// Random bytes of the operating system: the one place that asks for them.
#[expect(
    clippy::disallowed_methods,
    reason = "the driver is what brings randomness to the core"
)]
pub(super) fn fill(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("the operating system gives random bytes");
}

/// A fresh session id: a random UUID, version 4.
pub(super) fn session_id<R: Runtime>(runtime: &R) -> Uuid {
    Builder::from_random_bytes(random(runtime)).into_uuid()
}

/// What makes a connection unlike every other.
pub(super) fn fresh<R: Runtime>(runtime: &R) -> Entropy {
    Entropy::new(random(runtime))
}

/// A random number, for jitter.
pub(super) fn jitter<R: Runtime>(runtime: &R) -> u64 {
    u64::from_le_bytes(random(runtime))
}

fn random<R: Runtime, const N: usize>(runtime: &R) -> [u8; N] {
    let mut bytes = [0; N];
    runtime.fill_random(&mut bytes);
    bytes
}
