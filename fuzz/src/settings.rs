//! Arbitrary settings of a connection.

use std::time::Duration;

use arbitrary::Arbitrary;
use chat_core::{Config, Key, Rate, Receive, Security};

use crate::wire::KEY;

/// What of a [`Config`] makes a difference, in numbers that reach their limits.
#[derive(Arbitrary, Clone, Debug)]
pub struct Settings {
    pub coalesce: bool,
    pub chunks: bool,
    pub ping: Option<u8>,
    pub sec: Sec,
    pub demands: Rarely,
    pub pieces: bool,
    pub content: Option<u16>,
    pub chunk_size: Option<u16>,
    pub threshold: Option<u16>,
    pub window: u8,
    pub transfers: u8,
    pub message: Option<u32>,
    pub inbox: u16,
    pub outbox: u16,
    pub message_rate: Option<u8>,
    pub byte_rate: Option<u16>,
    pub error_rate: Option<u8>,
    pub heartbeat: Option<u8>,
    pub timeouts: [Option<u8>; 3],
}

/// Whether an end takes part in `sec`, and whether it trusts its channel too: in one byte, where others
/// have a `bool`.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Sec(u8);

impl Sec {
    pub fn is_on(self) -> bool {
        self.0 & 1 == 1
    }

    /// Also without `sec`, where that is nothing.
    pub fn trusts(self) -> bool {
        self.0 & 2 == 2
    }
}

/// Mostly not.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Rarely(u8);

impl Rarely {
    pub fn is_so(self) -> bool {
        self.0 >= 240
    }
}

impl Settings {
    /// As the connection takes them.
    pub fn config(&self) -> Config {
        let seconds = |number: Option<u8>| number.map(|number| Duration::from_secs(number.into()));
        let rate = |number: u64| Rate::per_second(number).burst(number * 2);
        let [idle, stall, transfer] = self.timeouts.map(seconds);
        let mut config = Config::new(Key::new(KEY))
            .coalesce(self.coalesce)
            .chunks(self.chunks)
            .ping_timeout(seconds(self.ping))
            .sec(self.sec.is_on())
            .trust_channel(self.sec.trusts())
            .window(65_536 + u32::from(self.window) * 1024)
            .max_transfers(u32::from(self.transfers) % 6)
            .max_inbox(self.inbox.into())
            .max_outbox(self.outbox.into())
            .message_rate(self.message_rate.map(|number| rate(number.into())))
            .byte_rate(
                self.byte_rate
                    .map(|number| rate(u64::from(number) * 8 + 1024)),
            )
            .error_rate(self.error_rate.map(|number| rate(number.into())))
            .heartbeat(seconds(self.heartbeat))
            .idle_timeout(idle)
            .stall_timeout(stall)
            .transfer_timeout(transfer)
            .receive(if self.pieces {
                Receive::Pieces
            } else {
                Receive::Whole
            });
        if self.demands.is_so() {
            config = config.min_security(Security::Sec);
        }
        if let Some(bytes) = self.content {
            config = config.max_content(bytes.into());
        }
        if let Some(bytes) = self.chunk_size {
            config = config.chunk_size(bytes.into());
        }
        if let Some(bytes) = self.threshold {
            config = config.chunk_threshold(bytes.into());
        }
        if let Some(bytes) = self.message {
            config = config.max_message(most_message(bytes));
        }
        config
    }

    /// The largest message that it puts together.
    pub fn max_message(&self) -> u64 {
        self.message.map_or(64 << 20, most_message)
    }

    /// Whether it says how much it takes, to a peer that does so too.
    pub fn has_limits(&self) -> bool {
        self.coalesce || self.ping.is_some() || self.chunks
    }
}

fn most_message(bytes: u32) -> u64 {
    u64::from(bytes) % 400_000 + 1
}
