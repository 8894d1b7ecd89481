//! What the test files share: frames by hand, a connection whose peer is the test, and two
//! connections with a network between them in virtual time.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod arbitrary;
pub(crate) mod chunk;
pub(crate) mod conversation;
pub(crate) mod corners;
pub(crate) mod json;
mod link;
pub(crate) mod model_frames;
pub(crate) mod model_transfers;
mod pair;
pub(crate) mod sec;
mod solo;
pub(crate) mod tape;
mod wire;

use core::time::Duration;

use chat_core::{Config, Instant, Uuid};

pub(crate) use arbitrary::{any_cuts, any_frame, pieces, property, similar_frame};
pub(crate) use link::{Link, Sent};
pub(crate) use pair::{End, Pair};
pub(crate) use solo::Solo;
pub(crate) use wire::{
    Decoded, byte_by_byte, decode, encode, frame, header_json, kinds, raw_frame, raw_len,
    sign_again, split, whole,
};

/// When every test begins: not at the epoch, so that time can also run backwards.
pub(crate) const START: Instant = Instant::from_nanos(1_000_000_000_000);

/// The session of every test.
pub(crate) const SESSION: Uuid = Uuid::from_u128(0x38b4_e652_e44d_47f2_b70d_9e26_0e27_1365);

/// The id of another session.
pub(crate) const FOREIGN: Uuid = Uuid::from_u128(0x0bad_cafe_0000_4000_8000_0000_0000_0001);

/// A long while: no timer of a test waits so long.
pub(crate) const LONG: Duration = Duration::from_secs(1_000_000);

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Settings in which no timer of an established session runs.
pub(crate) fn no_timers() -> Config {
    Config::default()
        .heartbeat(None)
        .idle_timeout(None)
        .stall_timeout(None)
}
