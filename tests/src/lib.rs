//! Tools for the suites that cross crates.

use std::pin::pin;
use std::task::Poll;

pub mod conformance;
pub mod dribble;
pub mod pairs;
pub mod program;
pub mod throttle;

/// Runs two futures in turns, until both are done.
pub async fn join(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let mut done = [false; 2];
    std::future::poll_fn(|cx| {
        done[0] = done[0] || one.as_mut().poll(cx).is_ready();
        done[1] = done[1] || other.as_mut().poll(cx).is_ready();
        if done == [true; 2] {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// The examples of the README run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
