#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

/// Whether a bug is planted at this place, by its name: the suites have to find each (`.ci/planted`).
#[cfg(planted)]
macro_rules! planted {
    ($bug:literal) => {
        crate::planted::is($bug)
    };
}

#[cfg(not(planted))]
macro_rules! planted {
    ($bug:literal) => {
        false
    };
}

mod backoff;
mod config;
mod connection;
#[cfg(feature = "driver")]
pub mod driver;
mod error;
mod event;
pub mod frame;
mod key;
mod message;
#[cfg(planted)]
mod planted;
mod rate;
mod seal;
mod sec;
mod sign;
mod time;
mod transfer;

pub use backoff::Backoff;
pub use config::{Config, Receive};
pub use connection::{Connection, Role, State, Stats};
pub use error::{ProtocolError, SendError};
pub use event::{CloseReason, Event, Timeout};
pub use key::{Key, KeyId};
pub use message::{ContentType, Message};
pub use rate::Rate;
pub use sec::{Entropy, Identity, Security};
pub use time::Instant;
pub use transfer::{
    OpenError, Read, Transfer, TransferError, TransferFault, TransferId, WriteError,
};
pub use uuid::Uuid;
