//! Tools for the suites that cross crates.

pub mod program;
