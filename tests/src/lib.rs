//! Tools for the suites that cross crates.

use std::pin::pin;
use std::task::Poll;

pub mod conformance;
mod descriptors;
pub mod dribble;
pub mod faulty;
pub mod middle;
pub mod pairs;
pub mod peers;
pub mod program;
pub mod sim;
pub mod soak;
pub mod throttle;

/// Bytes that show where they belong.
pub fn pattern(len: usize) -> Vec<u8> {
    let byte = |i: usize| (i * 31 + (i >> 8) * 7).to_le_bytes()[0];
    (0..len).map(byte).collect()
}

/// Awaits two futures at the same time.
pub async fn join<T, U>(one: impl Future<Output = T>, other: impl Future<Output = U>) -> (T, U) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(done) = one.as_mut().poll(cx)
        {
            first = Some(done);
        }
        if second.is_none()
            && let Poll::Ready(done) = other.as_mut().poll(cx)
        {
            second = Some(done);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            part => {
                (first, second) = part;
                Poll::Pending
            }
        }
    })
    .await
}

/// The examples of the README run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
