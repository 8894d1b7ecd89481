//! Work in other threads.

use std::panic::resume_unwind;

use tokio::task::JoinError;

/// The outcome of a task that nobody cancels; a panic in it goes on here.
pub(crate) fn joined<T>(outcome: Result<T, JoinError>) -> T {
    outcome.unwrap_or_else(|panic| resume_unwind(panic.into_panic()))
}
