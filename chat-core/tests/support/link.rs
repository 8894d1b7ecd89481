//! One direction of a stream.

use core::time::Duration;
use std::collections::VecDeque;

use chat_core::frame::{Decoder, Frame, Limits};
use chat_core::{Instant, Key};

use super::wire::{raw_len, sign_again};

/// A frame that went over a link.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// When the link took its last byte.
    pub(crate) at: Instant,
    /// Its length in bytes.
    pub(crate) len: usize,
    pub(crate) frame: Frame,
}

/// One direction of a stream: takes bytes at one end and gives them out at the other, in order.
pub(crate) struct Link {
    /// The longest piece that arrives at once.
    pub(crate) split: usize,
    /// Bytes per second; `None`: no time passes on the way.
    pub(crate) rate: Option<u64>,
    /// How many bytes are on the way before it takes no more.
    pub(crate) capacity: usize,
    /// Nothing goes in and nothing comes out.
    pub(crate) stalled: bool,
    /// Every frame that it took whole.
    pub(crate) sent: Vec<Sent>,
    held: VecDeque<u8>,
    /// Since when the first of what is held has been on its way.
    since: Instant,
    /// The sender sends no more.
    ended: bool,
    /// Whatever goes in is lost.
    lost: bool,
    /// Of a frame that has not gone over whole.
    tapped: Vec<u8>,
}

impl Link {
    /// A link that carries anything at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            split: usize::MAX,
            rate: None,
            capacity: usize::MAX,
            stalled: false,
            sent: Vec::new(),
            held: VecDeque::new(),
            since: now,
            ended: false,
            lost: false,
            tapped: Vec::new(),
        }
    }

    /// Takes bytes from the sender; returns how many.
    pub(crate) fn write(&mut self, now: Instant, bytes: &[u8]) -> usize {
        if self.stalled {
            return 0;
        }
        assert!(!self.ended, "bytes after the end of the stream");
        let bytes = &bytes[..bytes.len().min(self.capacity - self.held.len())];
        self.watch(now, bytes);
        if self.held.is_empty() {
            self.since = self.since.max(now);
        }
        if !self.lost {
            self.held.extend(bytes);
        }
        bytes.len()
    }

    /// How many bytes are on the way.
    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// The sender sends no more.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// What is on the way is lost, and the receiver sees the end.
    pub(crate) fn cut(&mut self) {
        self.held.clear();
        self.lost = true;
    }

    /// Whether the receiver has everything that it will get.
    pub(crate) fn is_over(&self) -> bool {
        (self.ended || self.lost) && self.held.is_empty() && !self.stalled
    }

    /// The next piece to arrive.
    pub(crate) fn piece(&self) -> &[u8] {
        let (first, _) = self.held.as_slices();
        let longest = match self.rate {
            // So little that time is finely divided.
            Some(_) => self.split.min(4096),
            None => self.split,
        };
        &first[..first.len().min(longest)]
    }

    /// When the next piece arrives.
    pub(crate) fn arrival(&self) -> Option<Instant> {
        let piece = self.piece().len() as u64;
        let on_the_way = match self.rate {
            Some(rate) => Duration::from_nanos(piece * 1_000_000_000 / rate),
            None => Duration::ZERO,
        };
        (piece > 0 && !self.stalled).then(|| self.since + on_the_way)
    }

    /// The receiver takes `len` bytes of the piece that has arrived.
    pub(crate) fn consume(&mut self, now: Instant, len: usize) {
        self.held.drain(..len);
        self.since = now;
    }

    /// Reads along, whatever key the frames are signed with.
    fn watch(&mut self, now: Instant, bytes: &[u8]) {
        self.tapped.extend_from_slice(bytes);
        while let Some(len) = raw_len(&self.tapped) {
            let mut raw: Vec<u8> = self.tapped.drain(..len).collect();
            sign_again(&mut raw);
            let mut tap = Decoder::new(Key::default(), Limits::default());
            let frame = tap.decode(&mut &raw[..]).expect("only frames are sent");
            let frame = frame.expect("it is whole");
            self.sent.push(Sent {
                at: now,
                len,
                frame,
            });
        }
    }
}
