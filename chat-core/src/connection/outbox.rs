//! Frames on their way out.

use alloc::collections::VecDeque;

use bytes::Buf;

use crate::frame::EncodedFrame;
use crate::sign::SessionKey;

/// What a queued frame costs beyond its bytes: its entry in the queue and its allocation.
const OVERHEAD: usize = 64;
/// At most this many answers wait behind what is being sent, or is signed: the bound for a peer that
/// asks and does not read (PROTOCOL.md §5.2).
const MAX_ANSWERS: usize = 16;

/// With the key of a session, frames get their numbers, and so their order, while no more bytes than
/// these wait: enough for a write, little enough not to hold up what goes first.
const SIGNED: usize = 72 * 1024;

/// What a frame is, to the bookkeeping when it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Message,
    Ping,
    /// A `pong`.
    Answer,
    /// What is said about a transfer of the peer's.
    Control,
    /// Of a transfer of this end's.
    Piece,
    /// The end of a transfer of this end's.
    End {
        id: u64,
        /// It was a message, not a stream.
        message: bool,
    },
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

    fn is_piece(&self) -> bool {
        matches!(self.sort, Sort::Piece | Sort::End { .. })
    }

    /// Its bytes: the headers, and the content unless that is with them.
    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let slices = [&self.frame.head[..], &self.frame.content[..]];
        slices.into_iter().filter(|slice| !slice.is_empty())
    }
}

/// Two queues: control frames go before messages, at the border of a frame. What has been begun is
/// finished first.
#[derive(Default)]
pub(super) struct Outbox {
    current: Option<Queued>,
    /// Whether some of `current` has left.
    begun: bool,
    /// What signs, with `sec`.
    key: Option<SessionKey>,
    /// Signed for their place: nothing goes before them. Empty without `key`.
    signed: VecDeque<Queued>,
    /// Their lengths.
    signed_bytes: usize,
    control: VecDeque<Queued>,
    data: VecDeque<Queued>,
    /// The cost of all four.
    bytes: usize,
    /// Of these, the cost of pieces.
    pieces: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none()
    }

    /// Bytes that wait, overhead included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of these, those of pieces.
    pub(super) fn piece_bytes(&self) -> usize {
        self.pieces
    }

    /// How many control frames wait.
    pub(super) fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Whether a frame of so many bytes fits under `cap`; where there are only pieces, any does.
    pub(super) fn has_room(&self, len: usize, cap: usize) -> bool {
        let others = self.bytes - self.pieces;
        others == 0 || others + len + OVERHEAD <= cap
    }

    /// Queues a frame: behind all others, or, if it is a heartbeat or an answer, before all messages.
    pub(super) fn push(&mut self, frame: EncodedFrame, sort: Sort) {
        let queued = Queued { frame, sort };
        self.bytes += queued.cost();
        if queued.is_piece() {
            self.pieces += queued.cost();
        }
        match sort {
            Sort::Ping | Sort::Answer | Sort::Control if !planted!("a ping waits behind bulk") => {
                self.control.push_back(queued);
            }
            _ => self.data.push_back(queued),
        }
        self.advance();
    }

    /// Whether another answer may be queued. A `ping` of our own takes no answer's place.
    pub(super) fn has_room_for_answer(&self) -> bool {
        let is_answer = |queued: &&Queued| queued.sort == Sort::Answer;
        self.control.iter().filter(is_answer).count() < MAX_ANSWERS
    }

    /// The bytes to write next, of at most so many frames. Returns how many slices were set.
    pub(super) fn peek<'a>(&'a self, out: &mut [&'a [u8]], frames: usize) -> usize {
        let slices = self.in_order().take(frames).flat_map(Queued::slices);
        let mut count = 0;
        for (place, slice) in out.iter_mut().zip(slices) {
            *place = slice;
            count += 1;
        }
        count
    }

    /// The frames that can leave, in the order in which they do, as it stands.
    fn in_order(&self) -> impl Iterator<Item = &Queued> {
        let first = self.current.iter().chain(&self.signed);
        let signed_before = self.key.is_none();
        first.chain((self.control.iter().chain(&self.data)).filter(move |_| signed_before))
    }

    /// Signs with the key of a session what is queued from now on.
    pub(super) fn set_session_key(&mut self, key: SessionKey) {
        self.key = Some(key);
    }

    /// Takes bytes off the front of what [`peek`](Self::peek) showed, up to the end of one frame.
    /// Returns what kind of frame that completed.
    pub(super) fn consume(&mut self, bytes: &mut usize) -> Option<Sort> {
        let Some(queued) = self.current.as_mut() else {
            assert_eq!(*bytes, 0, "more bytes consumed than were shown");
            return None;
        };
        let frame = &mut queued.frame;
        let taken = frame.len().min(*bytes);
        *bytes -= taken;
        self.begun |= taken > 0;
        self.bytes -= taken;
        let of_head = taken.min(frame.head.len());
        frame.head.advance(of_head);
        frame.content.advance(taken - of_head);
        let done = frame.len() == 0;
        if queued.is_piece() {
            self.pieces -= if done { taken + OVERHEAD } else { taken };
        }
        if !done {
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
        if let Some(key) = &mut self.key {
            let unbegun = self.current.iter().filter(|_| !self.begun);
            let dropped = unbegun.chain(&self.signed);
            key.take_back(dropped.filter(|it| it.frame.seal.is_some()).count());
        }
        self.signed = VecDeque::new();
        self.signed_bytes = 0;
        self.control = VecDeque::new();
        self.data = VecDeque::new();
        if !self.begun {
            self.current = None;
        }
        self.bytes = self.current.as_ref().map_or(0, Queued::cost);
        let piece = self.current.as_ref().filter(|queued| queued.is_piece());
        self.pieces = piece.map_or(0, Queued::cost);
    }

    fn advance(&mut self) {
        if self.current.is_none() {
            self.current = self.next_signed();
        }
        while self.key.is_some()
            && let Some(next) = self.control.front().or_else(|| self.data.front())
            && self.signed_bytes + next.frame.len() <= SIGNED
            && let Some(next) = self.next_unsigned()
        {
            self.signed_bytes += next.frame.len();
            self.signed.push_back(next);
        }
        if self.data.is_empty() && self.data.capacity() > 64 {
            // An idle connection holds no buffers.
            self.data = VecDeque::new();
        }
        if self.signed.is_empty() && self.signed.capacity() > 64 {
            self.signed = VecDeque::new();
        }
    }

    fn next_signed(&mut self) -> Option<Queued> {
        let Some(next) = self.signed.pop_front() else {
            return self.next_unsigned();
        };
        self.signed_bytes -= next.frame.len();
        Some(next)
    }

    /// The next frame that has no place yet. Now it has, and is signed for it.
    fn next_unsigned(&mut self) -> Option<Queued> {
        let mut next = self.control.pop_front().or_else(|| self.data.pop_front())?;
        if let Some(key) = &mut self.key {
            next.frame.sign(key);
        }
        Some(next)
    }
}
