//! How machines are connected, and what goes wrong on the way.

use std::ops::Range;
use std::time::Duration;

/// How a machine is connected.
#[derive(Clone, Debug)]
pub struct Weather {
    /// How long bytes travel.
    pub latency: Range<Duration>,
    /// Bytes per second in each direction.
    pub bandwidth: u64,
    /// How many bytes may be on the way, or wait to be read.
    pub window: usize,
    /// How often, in percent, a write takes less than it could, a read gives less, or a task is woken
    /// for nothing.
    pub whims: u32,
    /// Whether it is no network at all but Unix sockets: the kernel says who is at the other end.
    pub unix: bool,
    /// What goes wrong, by connection: the first has the first list.
    pub faults: Vec<Vec<Fault>>,
}

impl Default for Weather {
    /// A fast, calm line.
    fn default() -> Self {
        Self {
            latency: Duration::from_micros(50)..Duration::from_micros(60),
            bandwidth: 1_000_000_000,
            window: 256 * 1024,
            whims: 0,
            unix: false,
            faults: Vec::new(),
        }
    }
}

/// Something that goes wrong on one connection, when the byte with this number is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whether it is the accepted end that sends this byte.
    pub down: bool,
    /// The number of the byte in its direction.
    pub at: u64,
    /// What goes wrong.
    pub kind: FaultKind,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// These bits of the byte change.
    Flip(u8),
    /// The byte is lost.
    Lose,
    /// The byte arrives twice.
    Double,
    /// Nothing arrives for so long.
    Stall(Duration),
    /// Nothing arrives any more, and nobody hears of it.
    Silence,
    /// The direction ends for the receiver; the sender does not hear of it.
    End,
    /// Both ends hear that the connection is gone. What had arrived is lost if `true`.
    Reset(bool),
}
