//! Frames on their way out.

use alloc::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{EncodedFrame, sign};
use crate::seal::{Seal, SessionKey};

/// What a queued frame costs beyond its bytes: its entry in the queue and its allocation.
const OVERHEAD: usize = 64;
/// At most this many answers wait behind what has its place: the bound for a peer that
/// asks and does not read (PROTOCOL.md §5.2).
const MAX_ANSWERS: usize = 16;

/// Frames get their places, and with the key of a session their numbers, while no more bytes than these
/// have one: enough for a write, little enough not to hold up what goes first.
pub(super) const PLACED: usize = 72 * 1024;

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
    /// What shows that a server holds the key, before frames that are not signed.
    Proof,
    Other,
}

/// A frame that has no place yet.
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

/// A frame that has its place: its headers, and its content if that is small, are in `Outbox::heads`.
struct Placed {
    /// How many bytes of them are left.
    head: usize,
    /// The content of a large frame.
    content: Bytes,
    /// It has a number.
    numbered: bool,
    sort: Sort,
}

impl Placed {
    fn len(&self) -> usize {
        self.head + self.content.len()
    }
}

impl Sort {
    /// A heartbeat or an answer: it goes before messages.
    fn is_control(self) -> bool {
        let is_control = matches!(self, Self::Ping | Self::Answer | Self::Control);
        is_control && !planted!("a ping waits behind bulk")
    }

    fn is_piece(self) -> bool {
        matches!(self, Self::Piece | Self::End { .. })
    }
}

/// A queue, control frames before messages, and behind it the frames that have their places: nothing
/// goes before those.
#[derive(Default)]
pub(super) struct Outbox {
    /// The headers and small contents of those that have their places, one after the other: so they are
    /// written at once, and none is an allocation.
    heads: BytesMut,
    placed: VecDeque<Placed>,
    /// What is left of them, contents included.
    placed_bytes: usize,
    /// How many of them have contents of their own.
    large: usize,
    /// Whether some of the first has left.
    begun: bool,
    /// Several frames at a time have places.
    ahead: bool,
    /// What signs, with `sec`.
    key: Option<SessionKey>,
    /// Frames that have no place yet.
    queue: VecDeque<Queued>,
    /// How many of these are control frames: they come first.
    controls: usize,
    /// The cost of all of them.
    bytes: usize,
    /// Of these, the cost of pieces.
    pieces: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.placed.is_empty()
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
        self.waiting_control().count()
    }

    /// What they are: those that have no place yet, or that others cannot keep from theirs.
    fn waiting_control(&self) -> impl Iterator<Item = Sort> {
        let placed = self.placed.iter().skip(1).map(|it| it.sort);
        let placed = placed.take_while(|sort| self.key.is_none() && sort.is_control());
        let queued = self.queue.iter().take(self.controls);
        placed.chain(queued.map(|it| it.sort))
    }

    /// Whether a frame of so many bytes fits under `cap`; where there are only pieces, any does.
    pub(super) fn has_room(&self, len: usize, cap: usize) -> bool {
        let others = self.bytes - self.pieces;
        others == 0 || others + len + OVERHEAD <= cap
    }

    /// Queues a frame: behind all others, or, if it is a heartbeat or an answer, before all messages.
    pub(super) fn push(&mut self, frame: EncodedFrame, sort: Sort) {
        let queued = Queued { frame, sort };
        self.add_cost(queued.cost(), sort);
        let is_control = sort.is_control();
        // Others may have no place yet because they found no room beside a long frame: those go first.
        let may_insert = self.key.is_none() && self.controls == 0;
        if is_control && may_insert && self.ahead && self.placed.len() > 1 {
            self.insert(queued);
        } else if self.queue.is_empty() && self.may_place(queued.frame.len()) {
            // Most are: an idle connection, which only asks and answers, has no queue.
            self.put(queued);
        } else {
            let place = if is_control {
                self.controls
            } else {
                self.queue.len()
            };
            self.controls += usize::from(is_control);
            self.queue.insert(place, queued);
            self.advance();
        }
    }

    /// Gives a control frame a place before the messages, which have no numbers, but for the first.
    fn insert(&mut self, queued: Queued) {
        let index = 1 + self.control_len();
        let at = self.placed.range(..index).map(|it| it.head).sum();
        let rest = self.heads.split_off(at);
        let start = self.heads.len();
        self.heads.extend_from_slice(&queued.frame.head);
        self.place(start, queued.frame.content, None, queued.sort);
        if let Some(placed) = self.placed.pop_back() {
            self.placed.insert(index, placed);
        }
        self.heads.unsplit(rest);
    }

    fn add_cost(&mut self, cost: usize, sort: Sort) {
        self.bytes += cost;
        if sort.is_piece() {
            self.pieces += cost;
        }
    }

    /// Where to write the headers of a frame of at most so many bytes that has its place at once; `None`:
    /// others go before it. [`place`](Self::place) makes it one.
    pub(super) fn heads(&mut self, len: usize) -> Option<&mut BytesMut> {
        (self.queue.is_empty() && self.may_place(len)).then_some(&mut self.heads)
    }

    /// What was written to [`heads`](Self::heads) is no frame after all.
    pub(super) fn take_back(&mut self, start: usize) {
        self.heads.truncate(start);
    }

    /// The bytes of `heads` from `start` on are a frame, with the content if that is not there.
    pub(super) fn place(&mut self, start: usize, content: Bytes, seal: Option<Seal>, sort: Sort) {
        let numbered = match (&mut self.key, &seal) {
            (Some(key), Some(seal)) => {
                sign(&mut self.heads[start..], key, seal);
                true
            }
            _ => false,
        };
        let placed = Placed {
            head: self.heads.len() - start,
            content,
            numbered,
            sort,
        };
        self.placed_bytes += placed.len();
        self.large += usize::from(!placed.content.is_empty());
        self.placed.push_back(placed);
    }

    /// The same of a frame that was not queued.
    pub(super) fn push_placed(
        &mut self,
        start: usize,
        content: Bytes,
        seal: Option<Seal>,
        sort: Sort,
    ) {
        let len = self.heads.len() - start + content.len();
        self.add_cost(len + OVERHEAD, sort);
        self.place(start, content, seal, sort);
    }

    fn may_place(&self, len: usize) -> bool {
        self.placed.is_empty() || self.ahead && self.placed_bytes + len <= PLACED
    }

    /// Whether another answer may be queued. A `ping` of our own takes no answer's place.
    pub(super) fn has_room_for_answer(&self) -> bool {
        let answers = self.waiting_control().filter(|sort| *sort == Sort::Answer);
        answers.count() < MAX_ANSWERS
    }

    /// The bytes to write next, of at most so many frames. Returns how many slices were set.
    pub(super) fn peek<'a>(&'a self, out: &mut [&'a [u8]], frames: usize) -> usize {
        let mut count = 0;
        let mut set = |slice: &'a [u8]| {
            let place = out.get_mut(count).filter(|_| !slice.is_empty());
            if let Some(place) = place {
                *place = slice;
                count += 1;
            }
        };
        if self.large == 0 && frames >= self.placed.len() {
            set(&self.heads);
            return count;
        }
        let (mut start, mut end) = (0, 0);
        for placed in self.placed.iter().take(frames) {
            end += placed.head;
            if !placed.content.is_empty() {
                set(&self.heads[start..end]);
                set(&placed.content);
                start = end;
            }
        }
        set(&self.heads[start..end]);
        count
    }

    /// From now on several frames have places.
    pub(super) fn place_ahead(&mut self) {
        self.ahead = true;
    }

    /// Signs with the key of a session what gets a place from now on.
    pub(super) fn set_session_key(&mut self, key: SessionKey) {
        self.key = Some(key);
        self.ahead = true;
    }

    /// What gets a place from now on is not signed.
    pub(super) fn trust(&mut self) {
        self.key = None;
    }

    /// Takes bytes off the front of what [`peek`](Self::peek) showed, up to the end of one frame.
    /// Returns what kind of frame that completed.
    pub(super) fn consume(&mut self, bytes: &mut usize) -> Option<Sort> {
        let Some(front) = self.placed.front_mut() else {
            assert_eq!(*bytes, 0, "more bytes consumed than were shown");
            return None;
        };
        let taken = front.len().min(*bytes);
        *bytes -= taken;
        self.begun |= taken > 0;
        self.placed_bytes -= taken;
        let is_large = !front.content.is_empty();
        let of_head = taken.min(front.head);
        front.head -= of_head;
        self.heads.advance(of_head);
        front.content.advance(taken - of_head);
        let done = front.len() == 0;
        let sort = front.sort;
        let cost = if done { taken + OVERHEAD } else { taken };
        self.bytes -= cost;
        if sort.is_piece() {
            self.pieces -= cost;
        }
        if !done {
            return None;
        }
        self.large -= usize::from(is_large);
        self.placed.pop_front();
        self.begun = false;
        self.advance();
        Some(sort)
    }

    /// Drops every frame that has not been begun, but for a proof: what follows would prove nothing.
    pub(super) fn clear_unbegun(&mut self) {
        let proof = self.placed.iter().position(|it| it.sort == Sort::Proof);
        let kept = proof.map_or(usize::from(self.begun), |at| at + 1);
        let dropped = self.placed.drain(kept..);
        let numbers = dropped.filter(|it| it.numbered).count();
        if let Some(key) = &mut self.key {
            key.take_back(numbers);
        }
        self.queue = VecDeque::new();
        self.controls = 0;
        let kept = &self.placed;
        self.heads.truncate(kept.iter().map(|it| it.head).sum());
        self.placed_bytes = kept.iter().map(Placed::len).sum();
        self.large = kept.iter().filter(|it| !it.content.is_empty()).count();
        self.bytes = self.placed_bytes + kept.len() * OVERHEAD;
        let pieces = kept.iter().filter(|it| it.sort.is_piece());
        self.pieces = pieces.map(|it| it.len() + OVERHEAD).sum();
    }

    /// Gives places to the frames whose turn it is.
    fn advance(&mut self) {
        while let Some(next) = self.queue.front()
            && self.may_place(next.frame.len())
            && let Some(next) = self.queue.pop_front()
        {
            self.controls = self.controls.saturating_sub(1);
            self.put(next);
        }
    }

    /// Gives a frame the next place.
    fn put(&mut self, queued: Queued) {
        let EncodedFrame {
            head,
            content,
            seal,
        } = queued.frame;
        let start = self.heads.len();
        if start == 0 && self.heads.capacity() < head.len() {
            self.heads = head;
        } else {
            self.heads.extend_from_slice(&head);
        }
        self.place(start, content, seal, queued.sort);
    }

    /// Lets go of the buffers, if nothing waits in them.
    pub(super) fn release(&mut self) {
        if self.placed.is_empty() {
            self.heads = BytesMut::new();
            self.placed = VecDeque::new();
            self.queue = VecDeque::new();
        }
    }
}
