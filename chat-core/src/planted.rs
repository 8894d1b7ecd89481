//! Bugs that are there on purpose, one at a time, in a build with `--cfg planted`.

use std::env;
use std::string::String;
use std::sync::OnceLock;

/// Whether this one is, for the environment variable `PLANTED` names it.
pub(crate) fn is(bug: &str) -> bool {
    static BUG: OnceLock<String> = OnceLock::new();
    BUG.get_or_init(|| env::var("PLANTED").unwrap_or_default()) == bug
}
