//! Messages in pieces, on their way out (PROTOCOL.md §5.5).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;

use bytes::{Bytes, BytesMut};

use super::{Connection, Phase, Role, Sort};
use crate::frame::{Chunk, ChunkLimits, ChunkOp, EncodedFrame, Extra, FrameKind, MAX_CHUNK};
use crate::sign::Piece;
use crate::{
    Config, ContentType, Event, Instant, Message, OpenError, ProtocolError, SendError, Transfer,
    TransferError, TransferId, WriteError,
};

/// A piece takes at least this much of the window: what it costs beyond its bytes.
pub(super) const MIN_COST: u64 = 1024;
/// Pieces are made while fewer bytes of them than this wait to be transmitted: enough to keep the
/// transport busy, little enough not to hold up what is sent after them.
const AHEAD: usize = 128 * 1024;
/// How many bytes of a stream wait to be made into pieces.
const STREAM_BUFFER: usize = 128 * 1024;

/// All that are not over.
pub(super) struct Outgoing {
    transfers: VecDeque<Sending>,
    /// The last id that was given.
    last: u64,
    /// The last one that was begun; 0 before the first.
    begun: u64,
    /// Whose turn it is.
    turn: usize,
    /// Bytes that are in no frame yet.
    held: usize,
}

struct Sending {
    id: u64,
    head: Transfer,
    source: VecDeque<Piece>,
    /// Bytes in `source`.
    held: usize,
    /// Bytes that have become pieces.
    offset: u64,
    /// How much more the peer takes.
    credit: u64,
    /// How much it takes at all when it has read everything.
    window: u64,
    stage: Stage,
    /// A message that was sent as a whole, not a stream.
    whole: bool,
    /// Nothing will be added to `source`.
    finished: bool,
    /// When it last went on.
    moved: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The peer takes no more transfers at the moment.
    Waiting,
    Begun,
    /// Its `end` waits to be transmitted.
    Ending,
    /// The peer may still be reading.
    Ended,
    /// The same, and nobody waits for that: it takes a place until the peer has answered.
    Abandoned,
}

impl Sending {
    /// Whether it waits for the peer. `stuck`: no place will become free by itself.
    fn is_blocked(&self, stuck: bool) -> bool {
        match self.stage {
            Stage::Waiting => stuck,
            Stage::Ending | Stage::Abandoned => false,
            Stage::Begun => self.held > 0 && self.credit < MIN_COST,
            Stage::Ended => true,
        }
    }

    fn is_ready(&self, may_begin: bool) -> bool {
        match self.stage {
            Stage::Waiting => may_begin,
            Stage::Begun if self.held > 0 => self.credit >= MIN_COST,
            Stage::Begun => self.finished,
            Stage::Ending | Stage::Ended | Stage::Abandoned => false,
        }
    }

    /// The next piece, of at most `size` bytes.
    fn cut(&mut self, size: usize) -> Option<Piece> {
        let size = if planted!("pieces are small") {
            size.min(1024)
        } else {
            size
        };
        let most = size.min(usize::try_from(self.credit).unwrap_or(usize::MAX));
        let len = self.source.front()?.bytes.len();
        let piece = if len > most {
            let front = self.source.front_mut()?;
            front.digest = None;
            front.bytes.split_to(most).into()
        } else if len < most / 2 && self.source.len() > 1 {
            // What was written bit by bit goes out together.
            let mut piece = BytesMut::with_capacity(most.min(self.held));
            while let Some(next) = self.source.front_mut()
                && piece.len() < most
            {
                next.digest = None;
                let part = next
                    .bytes
                    .split_to(next.bytes.len().min(most - piece.len()));
                piece.extend_from_slice(&part);
                if next.bytes.is_empty() {
                    self.source.pop_front();
                }
            }
            piece.freeze().into()
        } else {
            self.source.pop_front()?
        };
        let len = piece.bytes.len();
        self.held -= len;
        self.offset += len as u64;
        self.credit -= (len as u64).max(MIN_COST);
        Some(piece)
    }
}

impl Outgoing {
    pub(super) fn new(role: Role) -> Self {
        Self {
            transfers: VecDeque::new(),
            // The first ids are 1 and 2.
            last: match role {
                Role::Client => u64::MAX,
                Role::Server => 0,
            },
            begun: 0,
            turn: 0,
            held: 0,
        }
    }

    /// Bytes that are in no frame yet.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn clear(&mut self) {
        self.transfers = VecDeque::new();
        self.held = 0;
    }

    /// Whether something is still to be sent.
    pub(super) fn is_unsent(&self) -> bool {
        let unsent = |it: &Sending| matches!(it.stage, Stage::Waiting | Stage::Begun);
        self.transfers.iter().any(unsent)
    }

    /// An `end` has been transmitted.
    pub(super) fn ended(&mut self, id: u64, now: Instant) {
        if let Some(it) = self.transfers.iter_mut().find(|it| it.id == id) {
            it.moved = now;
            if it.stage == Stage::Ending {
                it.stage = Stage::Ended;
            }
        }
    }

    /// The time that this end was deaf is nobody's silence.
    pub(super) fn excuse(&mut self, now: Instant) {
        for it in &mut self.transfers {
            it.moved = now;
        }
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.transfers.iter().position(|it| it.id == id)
    }

    fn remove(&mut self, index: usize) -> Option<Sending> {
        let gone = self.transfers.remove(index)?;
        self.held -= gone.held;
        if self.turn > index {
            self.turn -= 1;
        }
        if self.transfers.is_empty() {
            // An idle connection holds no buffers.
            self.transfers = VecDeque::new();
        }
        Some(gone)
    }

    /// Whether the peer takes one more.
    fn may_begin(&self, limit: u32) -> bool {
        let open = self.transfers.iter();
        open.filter(|it| it.stage != Stage::Waiting).count() < limit as usize
    }

    /// Whose turn it is of those that can go on. They begin in the order in which they were opened.
    fn next(&mut self, limit: u32) -> Option<&mut Sending> {
        let mut transfers = self.transfers.iter();
        let begins = if self.may_begin(limit) {
            transfers.position(|it| it.stage == Stage::Waiting)
        } else {
            None
        };
        let count = self.transfers.len();
        let index = (0..count)
            .map(|i| (self.turn + i) % count)
            .find(|index| self.transfers[*index].is_ready(begins == Some(*index)))?;
        self.turn = index + 1;
        self.transfers.get_mut(index)
    }
}

impl Connection {
    /// Begins to send a message in pieces, of a size that need not be known. Its pieces are added
    /// with [`write`](Self::write), its end with [`finish`](Self::finish).
    ///
    /// An [`Event::Sent`] says that the peer has taken all of it, an [`Event::Aborted`] that it was
    /// given up. A connection that is closed gives up every transfer that is not finished.
    pub fn open(&mut self, now: Instant, transfer: Transfer) -> Result<TransferId, OpenError> {
        let now = self.latest(now);
        match self.phase {
            Phase::Handshake { .. } => return Err(OpenError::NotEstablished),
            Phase::Established if self.leaving.is_none() => {}
            _ => return Err(OpenError::Closed),
        }
        if !Config::is_content_type(transfer.content_type()) {
            return Err(OpenError::ContentType);
        }
        let limits = self.peer.chunk.ok_or(OpenError::Unsupported)?;
        if let (Some(max), Some(size)) = (limits.message, transfer.size())
            && size > max
        {
            return Err(OpenError::TooLarge { max });
        }
        let id = self.push_transfer(now, transfer, None);
        self.fill(now);
        Ok(TransferId(id))
    }

    /// How many bytes [`write`](Self::write) takes at least; 0 also for a transfer that is over, and
    /// for one that waits because the peer takes no more at a time.
    pub fn writable(&self, id: TransferId) -> usize {
        let transfers = self.outgoing.transfers.iter();
        transfers
            .filter(|it| it.id == id.0 && !it.finished && it.stage == Stage::Begun)
            .map(|it| STREAM_BUFFER.saturating_sub(it.held))
            .sum()
    }

    /// Adds bytes to a transfer: not empty, and best as many as a piece may have, 64 KiB. One call
    /// is taken whole, of whatever size, if there is any room.
    pub fn write(&mut self, now: Instant, id: TransferId, bytes: Bytes) -> Result<(), WriteError> {
        self.write_piece(now, id, bytes.into())
    }

    /// The same of bytes whose digest may be known.
    pub(crate) fn write_piece(
        &mut self,
        now: Instant,
        id: TransferId,
        piece: Piece,
    ) -> Result<(), WriteError> {
        let len = piece.bytes.len();
        let now = self.latest(now);
        let it = self.outgoing.position(id.0).ok_or(WriteError::Closed)?;
        let it = &mut self.outgoing.transfers[it];
        if it.finished {
            return Err(WriteError::Closed);
        }
        if it.held >= STREAM_BUFFER || it.stage != Stage::Begun {
            return Err(WriteError::Full);
        }
        let size = it.offset + (it.held + len) as u64;
        if it.head.size().is_some_and(|total| size > total) {
            return Err(WriteError::Size);
        }
        if len == 0 {
            return Ok(());
        }
        if it.held == 0 {
            it.moved = now;
        }
        it.held += len;
        self.outgoing.held += len;
        it.source.push_back(piece);
        self.fill(now);
        Ok(())
    }

    /// Nothing more will be added to a transfer.
    pub fn finish(&mut self, now: Instant, id: TransferId) -> Result<(), WriteError> {
        let now = self.latest(now);
        let it = self.outgoing.position(id.0).ok_or(WriteError::Closed)?;
        let it = &mut self.outgoing.transfers[it];
        if it.finished {
            return Err(WriteError::Closed);
        }
        let size = it.offset + it.held as u64;
        if it.head.size().is_some_and(|total| size != total) {
            return Err(WriteError::Size);
        }
        it.finished = true;
        it.moved = now;
        self.fill(now);
        Ok(())
    }

    /// Gives up a transfer, of either direction: the peer is told `reason`, of which it gets the
    /// first 1,024 bytes. Does nothing to one that is over.
    pub fn cancel(&mut self, now: Instant, id: TransferId, reason: &str) {
        let now = self.latest(now);
        if self.is_mine(id.0) {
            self.give_up_sending(now, id.0, reason);
        } else {
            self.drop_incoming(id.0, reason);
        }
        self.fill(now);
    }

    /// Queues a message that goes out in pieces.
    pub(super) fn send_in_chunks(
        &mut self,
        now: Instant,
        message: Message,
    ) -> Result<(), SendError> {
        let messages = self.outgoing.transfers.iter().filter(|it| it.whole);
        let held: usize = messages.map(|it| it.held).sum();
        if held > 0 && held + message.content().len() > self.config.max_outbox {
            return Err(SendError::Full(message));
        }
        let size = message.content().len() as u64;
        let transfer = Transfer::new(message.content_type().clone()).total(size);
        self.push_transfer(now, transfer, Some(message));
        self.fill(now);
        Ok(())
    }

    /// A stream, or the message that is all of it.
    fn push_transfer(&mut self, now: Instant, transfer: Transfer, whole: Option<Message>) -> u64 {
        let window = self.peer.chunk.map_or(0, |limits| limits.window.into());
        let size = self.piece_size();
        let outgoing = &mut self.outgoing;
        outgoing.last = outgoing.last.wrapping_add(2);
        let held = whole.as_ref().map_or(0, |whole| whole.content().len());
        outgoing.held += held;
        outgoing.transfers.push_back(Sending {
            id: outgoing.last,
            head: transfer,
            held,
            offset: 0,
            credit: window,
            window,
            stage: Stage::Waiting,
            whole: whole.is_some(),
            finished: whole.is_some(),
            source: whole.map_or_else(VecDeque::new, |whole| whole.into_pieces(size)),
            moved: now,
        });
        outgoing.last
    }

    /// Makes pieces, as many as are to wait for the transport.
    pub(super) fn make_pieces(&mut self, now: Instant) {
        while self.outbox.piece_bytes() < AHEAD
            && let Some((frame, sort)) = self.next_piece(now)
        {
            self.push(now, frame, sort);
        }
    }

    /// How long a piece may be, in bytes.
    fn piece_size(&self) -> usize {
        let size = self.peer.chunk.map_or(MAX_CHUNK, |limits| limits.size);
        size.min(self.config.chunk_size) as usize
    }

    fn next_piece(&mut self, now: Instant) -> Option<(EncodedFrame, Sort)> {
        let ChunkLimits { transfers, .. } = self.peer.chunk?;
        if self.outgoing.transfers.is_empty() {
            return None;
        }
        let size = self.piece_size();
        let it = self
            .outgoing
            .next(transfers.min(self.config.max_transfers))?;
        it.moved = now;
        let id = it.id;
        let (op, content_type, content, sort) = match it.stage {
            Stage::Waiting => {
                it.stage = Stage::Begun;
                let op = ChunkOp::Begin {
                    total: it.head.size(),
                    name: it.head.shared_name(),
                };
                let content = Bytes::from_static(b"begin").into();
                (op, it.head.content_type().clone(), content, Sort::Piece)
            }
            _ if it.held == 0 => {
                it.stage = Stage::Ending;
                let sort = Sort::End {
                    id,
                    message: it.whole,
                };
                let op = ChunkOp::End { offset: it.offset };
                let content = Bytes::from_static(b"end").into();
                (op, ContentType::BINARY, content, sort)
            }
            _ => {
                let offset = it.offset;
                let piece = it.cut(size)?;
                let content_type = it.head.content_type().clone();
                self.outgoing.held -= piece.bytes.len();
                (ChunkOp::Data { offset }, content_type, piece, Sort::Piece)
            }
        };
        if let ChunkOp::Begin { .. } = op {
            self.outgoing.begun = id;
        }
        Some((self.encode_chunk(id, op, content_type, content), sort))
    }

    pub(super) fn encode_chunk(
        &mut self,
        id: u64,
        op: ChunkOp,
        content_type: ContentType,
        content: impl Into<Piece>,
    ) -> EncodedFrame {
        let extra = Extra::Chunk(Chunk { id, op });
        let min_len = self.min_len();
        self.encode(FrameKind::Chunk, content_type, content, extra, min_len)
            // Contents are not empty and at most 64 KiB, content types at most 8 KiB.
            .expect("a chunk fits")
    }

    /// Whether this end gives such ids.
    pub(super) fn is_mine(&self, id: u64) -> bool {
        (id % 2 == 1) == (self.role == Role::Client)
    }

    /// The peer takes more of a transfer, has taken all of it, or gives it up.
    pub(super) fn handle_answer(&mut self, now: Instant, id: u64, answer: Answer) {
        let outgoing = &mut self.outgoing;
        if outgoing.begun == 0 || id > outgoing.begun {
            return self.fail(now, ProtocolError::WrongTransfer);
        }
        // It may have been given up here meanwhile.
        let Some(index) = outgoing.position(id) else {
            return;
        };
        let it = &mut outgoing.transfers[index];
        match answer {
            Answer::Window(bytes) => {
                it.credit = it.credit.saturating_add(bytes);
                if it.credit > it.window {
                    return self.fail(now, ProtocolError::Window);
                }
                it.moved = now;
            }
            Answer::Done | Answer::Abort(_) if it.stage == Stage::Abandoned => {
                outgoing.remove(index);
            }
            Answer::Done if it.stage == Stage::Ended => {
                let it = outgoing.remove(index);
                if it.is_some_and(|it| !it.whole) {
                    self.notices.push_back(Event::Sent { id: TransferId(id) });
                }
            }
            Answer::Done => self.fail(now, ProtocolError::WrongTransfer),
            Answer::Abort(reason) => {
                self.handle_abort(now, index, TransferError::Peer { reason });
            }
        }
    }

    /// Gives a transfer of this end up, without an event.
    fn give_up_sending(&mut self, now: Instant, id: u64, reason: &str) {
        let Some(index) = self.outgoing.position(id) else {
            return;
        };
        let it = &mut self.outgoing.transfers[index];
        match it.stage {
            Stage::Waiting | Stage::Begun => {
                let begun = it.stage == Stage::Begun;
                self.outgoing.remove(index);
                if begun {
                    self.say_abort(now, id, reason);
                }
            }
            // Everything has been said; what the peer makes of it no longer matters.
            Stage::Ending | Stage::Ended | Stage::Abandoned => it.stage = Stage::Abandoned,
        }
    }

    /// The peer has given a transfer up.
    fn handle_abort(&mut self, now: Instant, index: usize, error: TransferError) {
        self.report_failure(index, error);
        if let Some(it) = self.outgoing.remove(index)
            && it.stage == Stage::Begun
        {
            self.say_abort(now, it.id, "given up by you");
        }
    }

    /// The application is told that a transfer has failed.
    fn report_failure(&mut self, index: usize, error: TransferError) {
        let it = &self.outgoing.transfers[index];
        if !it.whole {
            let id = TransferId(it.id);
            return self.notices.push_back(Event::Aborted { id, error });
        }
        // The others are counted when their end has left.
        self.stats.messages_aborted += u64::from(it.stage == Stage::Begun);
        self.push_event(Event::Undelivered {
            content_type: it.head.content_type().clone(),
            size: it.head.size().unwrap_or(it.offset),
            error,
        });
    }

    /// After `begin`, a sender says `end` or `abort`: one of the two.
    fn say_abort(&mut self, now: Instant, id: u64, reason: &str) {
        let frame = self.abort_frame(id, reason);
        self.push(now, frame, Sort::Piece);
    }

    /// Gives up the streams whose end is not known.
    pub(super) fn give_up_unfinished(&mut self, now: Instant, reason: &str) {
        let transfers = self.outgoing.transfers.iter();
        let unfinished = transfers.filter(|it| !it.finished).map(|it| it.id);
        for id in unfinished.collect::<alloc::vec::Vec<_>>() {
            self.give_up_sending(now, id, reason);
        }
    }

    /// When the first transfer that waits for the peer has waited for too long.
    pub(super) fn sending_due(&self) -> Option<Instant> {
        self.first_blocked().map(|(_, due)| due)
    }

    /// Which transfer that is.
    fn first_blocked(&self) -> Option<(usize, Instant)> {
        let timeout = self.config.transfer_timeout?;
        // What is on its way to the peer takes its time.
        let transfers = self.outgoing.transfers.iter();
        let away: u64 = transfers
            .map(|it| it.window.saturating_sub(it.credit))
            .sum();
        let away = self
            .config
            .at_min_rate(usize::try_from(away).unwrap_or(usize::MAX));
        let timeout = timeout.saturating_add(away);
        let mut places = self.outgoing.transfers.iter();
        let stuck = places.all(|it| matches!(it.stage, Stage::Waiting | Stage::Abandoned));
        // A peer may have to wait for the end of an older one before it has room for the next.
        let mut older = Instant::EPOCH;
        let transfers = self.outgoing.transfers.iter().enumerate();
        let blocked = transfers.filter_map(|(index, it)| {
            older = older.max(it.moved);
            let due = older.checked_add(timeout)?;
            it.is_blocked(stuck).then_some((index, due))
        });
        blocked.min_by_key(|(_, due)| *due)
    }

    /// Ends the transfers that have waited for the peer for too long.
    pub(super) fn end_stalled_sending(&mut self, now: Instant) {
        while let Some((index, due)) = self.first_blocked()
            && due <= now
        {
            let error = TransferError::Stalled;
            let (id, reason) = (self.outgoing.transfers[index].id, error.to_string());
            self.report_failure(index, error);
            self.give_up_sending(now, id, &reason);
        }
    }
}

/// What the receiver of a transfer says.
pub(super) enum Answer {
    Window(u64),
    Done,
    Abort(Box<str>),
}
