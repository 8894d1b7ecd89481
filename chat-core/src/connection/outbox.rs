//! Frames on their way out.

use alloc::collections::VecDeque;

use bytes::Buf;

use crate::frame::EncodedFrame;

/// What a queued frame costs beyond its bytes: its entry in the queue and its allocation.
const OVERHEAD: usize = 64;
/// At most this many answers wait behind the frame being sent: the bound for a peer that asks and
/// does not read (PROTOCOL.md §5.2).
const MAX_ANSWERS: usize = 16;

/// What a frame is, to the bookkeeping when it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Message,
    Ping,
    /// A `pong`.
    Answer,
    Other,
}

#[derive(Debug)]
struct Queued {
    frame: EncodedFrame,
    sort: Sort,
}

impl Queued {
    fn cost(&self) -> usize {
        self.frame.len() + OVERHEAD
    }
}

/// Two queues: control frames go before messages, at the border of a frame. What has been begun is
/// finished first.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    current: Option<Queued>,
    /// Whether some of `current` has left.
    begun: bool,
    control: VecDeque<Queued>,
    data: VecDeque<Queued>,
    /// The cost of all three.
    bytes: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none()
    }

    /// Bytes that wait, overhead included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a frame fits under `cap`; into an empty outbox any does.
    pub(super) fn has_room(&self, frame: &EncodedFrame, cap: usize) -> bool {
        self.is_empty() || self.bytes + frame.len() + OVERHEAD <= cap
    }

    /// Queues a frame: behind all others, or, if it is a heartbeat, before all messages.
    pub(super) fn push(&mut self, frame: EncodedFrame, sort: Sort) {
        let queued = Queued { frame, sort };
        self.bytes += queued.cost();
        match sort {
            Sort::Ping | Sort::Answer => self.control.push_back(queued),
            Sort::Message | Sort::Other => self.data.push_back(queued),
        }
        self.advance();
    }

    /// Whether another answer may be queued. A `ping` of our own takes no answer's place.
    pub(super) fn has_room_for_answer(&self) -> bool {
        let is_answer = |queued: &&Queued| queued.sort == Sort::Answer;
        self.control.iter().filter(is_answer).count() < MAX_ANSWERS
    }

    /// The bytes to write next: one frame, or what is left of it. Returns how many slices were
    /// set.
    pub(super) fn peek<'a>(&'a self, out: &mut [&'a [u8]]) -> usize {
        let Some(Queued { frame, .. }) = &self.current else {
            return 0;
        };
        let slices = [&frame.head[..], &frame.content[..]];
        let slices = slices.into_iter().filter(|slice| !slice.is_empty());
        let mut count = 0;
        for (place, slice) in out.iter_mut().zip(slices) {
            *place = slice;
            count += 1;
        }
        count
    }

    /// Takes `bytes` off the front of what [`peek`](Self::peek) showed. Returns what kind of frame
    /// that completed.
    pub(super) fn consume(&mut self, bytes: usize) -> Option<Sort> {
        let shown = self.current.as_ref().map_or(0, |it| it.frame.len());
        assert!(
            bytes <= shown,
            "more bytes consumed than were shown: {bytes} of {shown}"
        );
        let Queued { frame, .. } = self.current.as_mut()?;
        self.begun |= bytes > 0;
        self.bytes -= bytes;
        let of_head = bytes.min(frame.head.len());
        frame.head.advance(of_head);
        frame.content.advance(bytes - of_head);
        if frame.len() > 0 {
            return None;
        }
        let done = self.current.take()?;
        self.bytes -= OVERHEAD;
        self.begun = false;
        self.advance();
        Some(done.sort)
    }

    /// Drops every frame that has not been begun.
    pub(super) fn clear_unbegun(&mut self) {
        self.control = VecDeque::new();
        self.data = VecDeque::new();
        if !self.begun {
            self.current = None;
        }
        self.bytes = self.current.as_ref().map_or(0, Queued::cost);
    }

    fn advance(&mut self) {
        if self.current.is_none() {
            self.current = self.control.pop_front().or_else(|| self.data.pop_front());
        }
        if self.data.is_empty() && self.data.capacity() > 64 {
            // An idle connection holds no buffers.
            self.data = VecDeque::new();
        }
    }
}
