//! Messages in pieces, on their way in (PROTOCOL.md §5.5).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::{Bytes, BytesMut};

use super::goodbye::error_text;
use super::outgoing::{Answer, MIN_COST};
use super::{Connection, Sort};
use crate::frame::{
    ChunkOp, EncodedFrame, Extra, Frame, FrameError, FrameKind, HeaderFault, MAX_CHUNK, append,
};
use crate::message::PieceDigests;
use crate::sign::{Digest, Piece};
use crate::{
    ContentType, Event, Instant, Message, ProtocolError, Read, Receive, Transfer, TransferError,
    TransferFault, TransferId,
};

/// How many answers about transfers wait to be transmitted: more are put together later, so that a
/// peer that does not read makes no queue of them.
const MAX_ANSWERS: usize = 16;
/// A peer whose bytes come in hears of it at least this often, however slowly they come: that is
/// its sign of life.
const ANSWER_EVERY: Duration = Duration::from_secs(1);

/// All that are not over.
pub(super) struct Incoming {
    transfers: Vec<Receiving>,
    /// The last id that the peer used.
    last: u64,
    /// An answer may be due.
    due: bool,
}

struct Receiving {
    id: u64,
    content_type: ContentType,
    total: Option<u64>,
    body: Body,
    /// Bytes that have arrived.
    received: u64,
    /// How much of the window the peer has been given, since the beginning.
    allowed: u64,
    /// How much of that it has used.
    used: u64,
    /// How much was taken and has not been given back.
    taken: u64,
    /// There is room for all of it.
    reserved: bool,
    /// The peer has said `end`.
    ended: bool,
    /// Its last word, `done` or `abort`, which waits to be sent.
    answer: Option<Answer>,
    /// That has been sent.
    answered: bool,
    /// When it last went on.
    moved: Instant,
    /// When the window was last given back.
    given: Instant,
}

/// What has arrived and has not been read.
enum Body {
    Whole(Assembly),
    Pieces(VecDeque<Piece>),
    Failed(TransferError),
    /// Nobody is interested any more.
    None,
}

/// A message that is put together.
#[derive(Default)]
struct Assembly {
    bytes: BytesMut,
    digests: PieceDigests,
}

impl Receiving {
    /// Whether it is over between the peers.
    fn is_settled(&self) -> bool {
        self.ended && self.answered
    }

    /// Whether the next step is the peer's.
    fn waits_for_peer(&self) -> bool {
        matches!(self.body, Body::Whole(_) | Body::Pieces(_))
            && !self.ended
            && self.used + MIN_COST <= self.allowed
    }

    /// Whether some of the window is to be given back.
    fn owes(&self, now: Instant, window: u64) -> bool {
        let open = matches!(self.body, Body::Whole(_) | Body::Pieces(_)) && !self.ended;
        open && self.reserved
            && self.taken > 0
            && (self.taken >= window / 2 || now - self.given >= ANSWER_EVERY)
    }
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self {
            transfers: Vec::new(),
            last: 0,
            due: false,
        }
    }

    fn position(&self, id: u64) -> Option<usize> {
        self.transfers.iter().position(|it| it.id == id)
    }

    /// One whose sender has not said its last word.
    fn going_on(&self, id: u64) -> Option<usize> {
        self.position(id)
            .filter(|index| !self.transfers[*index].ended)
    }

    /// Forgets those that are over for the peer and for the application.
    fn sweep(&mut self) {
        let over = |it: &Receiving| it.is_settled() && matches!(it.body, Body::None);
        self.transfers.retain(|it| !over(it));
        if self.transfers.is_empty() {
            // An idle connection holds no buffers.
            self.transfers = Vec::new();
        }
    }

    /// The connection is over: what is complete can still be read.
    pub(super) fn end(&mut self) {
        for it in &mut self.transfers {
            match &it.body {
                Body::Pieces(_) if !it.ended => it.body = Body::Failed(TransferError::Closed),
                Body::Whole(_) => it.body = Body::None,
                _ => {}
            }
            it.ended = true;
            it.answered = true;
            it.answer = None;
        }
        self.sweep();
    }

    /// The time that this end was deaf is nobody's silence.
    pub(super) fn excuse(&mut self, now: Instant) {
        for it in &mut self.transfers {
            it.moved = now;
        }
    }

    /// Gives those room that fit, oldest first: what is reserved can be completed.
    fn reserve(&mut self, window: u64, pool: u64) {
        let mut left = pool;
        for it in &mut self.transfers {
            let Body::Whole(_) = it.body else { continue };
            let needed = it.total.unwrap_or(pool);
            // Its window has room for it anyway.
            if needed > window {
                match left.checked_sub(needed) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
            if !it.reserved {
                it.reserved = true;
                self.due = true;
            }
        }
    }
}

impl Connection {
    /// Takes what has arrived of a message that comes in pieces; `None`: nothing at the moment.
    ///
    /// Reading is what lets the peer go on: it sends a [window](crate::Config::window) ahead. After
    /// [`Read::End`] or [`Read::Failed`] the transfer is over. Also of a connection that is over,
    /// what had arrived whole can be read.
    pub fn read(&mut self, now: Instant, id: TransferId) -> Option<Read> {
        self.read_digested(now, id).map(|(read, _)| read)
    }

    /// The same with the digest of the piece, if that is known.
    pub(crate) fn read_digested(
        &mut self,
        now: Instant,
        id: TransferId,
    ) -> Option<(Read, Option<Digest>)> {
        let now = self.latest(now);
        let closed = Some((Read::Failed(TransferError::Closed), None));
        let mut digest = None;
        let Some(index) = self.incoming.position(id.0) else {
            return closed;
        };
        let it = &mut self.incoming.transfers[index];
        let read = match &mut it.body {
            Body::Pieces(pieces) => match pieces.pop_front() {
                Some(piece) => {
                    it.taken += (piece.bytes.len() as u64).max(MIN_COST);
                    it.moved = now;
                    digest = piece.digest;
                    Read::Piece(piece.bytes)
                }
                None if it.ended => {
                    it.body = Body::None;
                    if !it.answered {
                        it.answer = Some(Answer::Done);
                    }
                    Read::End
                }
                None => return None,
            },
            Body::Failed(error) => {
                let error = error.clone();
                it.body = Body::None;
                Read::Failed(error)
            }
            Body::Whole(_) | Body::None => return closed,
        };
        self.incoming.due = true;
        self.incoming.sweep();
        self.fill(now);
        Some((read, digest))
    }

    /// Whether the next read is the end, and no error.
    #[cfg(feature = "driver")]
    pub(crate) fn is_complete(&self, id: TransferId) -> bool {
        let index = self.incoming.position(id.0);
        index.is_some_and(|index| {
            let it = &self.incoming.transfers[index];
            it.ended && matches!(&it.body, Body::Pieces(pieces) if pieces.is_empty())
        })
    }

    /// Whether the next read is an error.
    #[cfg(feature = "driver")]
    pub(crate) fn is_failed(&self, id: TransferId) -> bool {
        let index = self.incoming.position(id.0);
        index.is_none_or(|index| {
            let it = &self.incoming.transfers[index];
            matches!(it.body, Body::Failed(_))
        })
    }

    /// A `chunk` frame of an established session.
    pub(super) fn handle_chunk(&mut self, now: Instant, frame: Frame) {
        if !self.config.chunks || self.peer.chunk.is_none() {
            return self.fail(now, ProtocolError::Unexpected(FrameKind::Chunk));
        }
        let Extra::Chunk(chunk) = frame.extra else {
            let error = FrameError::HeaderJson(HeaderFault::BadChunk);
            return self.fail(now, error.into());
        };
        let (id, mine) = (chunk.id, self.is_mine(chunk.id));
        match chunk.op {
            ChunkOp::Begin { total, name } if !mine => {
                self.begin_receiving(now, id, frame.content_type, total, name);
            }
            ChunkOp::Data { offset } if !mine => {
                let piece = Piece {
                    bytes: frame.content,
                    digest: self.decoder.digest(),
                };
                self.receive(now, id, offset, &frame.content_type, piece);
            }
            ChunkOp::End { offset } if !mine => self.end_receiving(now, id, offset),
            ChunkOp::Abort if !mine => {
                let reason = error_text(&frame.content).into();
                self.abort_receiving(now, id, reason);
            }
            ChunkOp::Window { bytes } if mine => {
                self.handle_answer(now, id, Answer::Window(bytes));
            }
            ChunkOp::Done if mine => self.handle_answer(now, id, Answer::Done),
            ChunkOp::Abort => {
                let reason = error_text(&frame.content).into();
                self.handle_answer(now, id, Answer::Abort(reason));
            }
            _ => self.fail(now, ProtocolError::WrongTransfer),
        }
    }

    fn begin_receiving(
        &mut self,
        now: Instant,
        id: u64,
        content_type: ContentType,
        total: Option<u64>,
        name: Option<Arc<str>>,
    ) {
        if id <= self.incoming.last {
            return self.fail(now, ProtocolError::WrongTransfer);
        }
        let open = self.incoming.transfers.iter();
        if open.filter(|it| !it.is_settled()).count() >= self.config.max_transfers as usize {
            return self.fail(now, ProtocolError::TooManyTransfers);
        }
        self.incoming.last = id;
        let body = match self.config.receive {
            Receive::Whole => Body::Whole(Assembly::default()),
            Receive::Pieces => Body::Pieces(VecDeque::new()),
        };
        self.incoming.transfers.push(Receiving {
            id,
            content_type: content_type.clone(),
            total,
            reserved: matches!(body, Body::Pieces(_)),
            body,
            received: 0,
            allowed: self.config.window.into(),
            used: 0,
            taken: 0,
            ended: false,
            answer: None,
            answered: false,
            moved: now,
            given: now,
        });
        if self.leaving.is_some() {
            return self.drop_incoming(id, "closing");
        }
        match self.config.receive {
            Receive::Whole => {
                let max = self.config.max_message;
                if total.is_some_and(|total| total > max) {
                    self.refuse_incoming(id, TransferError::TooLarge { max });
                } else if total == Some(0) {
                    self.refuse_incoming(id, TransferError::Faulty(TransferFault::Empty));
                }
                self.incoming.reserve(self.config.window.into(), max);
            }
            Receive::Pieces => self.push_event(Event::Transfer {
                id: TransferId(id),
                transfer: Transfer::of(content_type, total, name),
            }),
        }
    }

    fn receive(
        &mut self,
        now: Instant,
        id: u64,
        offset: u64,
        content_type: &ContentType,
        piece: Piece,
    ) {
        let Some(index) = self.incoming.going_on(id) else {
            return self.fail(now, ProtocolError::WrongTransfer);
        };
        let it = &mut self.incoming.transfers[index];
        let len = piece.bytes.len() as u64;
        it.used += if planted!("tiny pieces are free") {
            len
        } else {
            len.max(MIN_COST)
        };
        if it.used > it.allowed || len > MAX_CHUNK.into() {
            return self.fail(now, ProtocolError::Window);
        }
        it.moved = now;
        let most = match it.body {
            Body::Whole(_) => self.config.max_message,
            _ => u64::MAX,
        };
        let wrong = if offset != it.received {
            Some(TransferError::Faulty(TransferFault::Gap))
        } else if it.total.is_some_and(|total| offset + len > total) {
            Some(TransferError::Faulty(TransferFault::Size))
        } else if *content_type != it.content_type {
            Some(TransferError::Faulty(TransferFault::ContentType))
        } else if offset + len > most {
            Some(TransferError::TooLarge { max: most })
        } else {
            None
        };
        match (&mut it.body, wrong) {
            (Body::None | Body::Failed(_), _) => return,
            (_, Some(error)) => return self.refuse_incoming(id, error),
            (Body::Pieces(pieces), None) => pieces.push_back(piece),
            (Body::Whole(assembly), None) => {
                let rest = it.total.map_or(u64::MAX, |total| total - it.received);
                let rest = usize::try_from(rest).unwrap_or(usize::MAX);
                append(&mut assembly.bytes, &piece.bytes, rest);
                assembly.digests.push(&piece);
                it.taken += len.max(MIN_COST);
                self.incoming.due = true;
            }
        }
        it.received += len;
    }

    fn end_receiving(&mut self, now: Instant, id: u64, offset: u64) {
        let Some(index) = self.incoming.going_on(id) else {
            return self.fail(now, ProtocolError::WrongTransfer);
        };
        let it = &mut self.incoming.transfers[index];
        it.moved = now;
        let fault = if offset != it.received {
            Some(TransferFault::Gap)
        } else if it.total.is_some_and(|total| total != offset) {
            Some(TransferFault::Size)
        } else if offset == 0 && matches!(it.body, Body::Whole(_)) {
            Some(TransferFault::Empty)
        } else {
            None
        };
        it.ended = true;
        match (&mut it.body, fault) {
            (Body::None | Body::Failed(_), _) => self.incoming.sweep(),
            (_, Some(fault)) => self.refuse_incoming(id, TransferError::Faulty(fault)),
            (Body::Pieces(_), None) => {}
            (Body::Whole(assembly), None) => {
                let Assembly { bytes, digests } = core::mem::take(assembly);
                let content = bytes.freeze();
                let content_type = it.content_type.clone();
                it.body = Body::None;
                it.answer = Some(Answer::Done);
                self.incoming.due = true;
                self.release_room();
                self.stats.messages_received += 1;
                let message = Message::in_pieces(content_type, content, digests);
                self.push_event(Event::Message(message));
            }
        }
    }

    /// The sender gives it up.
    fn abort_receiving(&mut self, now: Instant, id: u64, reason: Box<str>) {
        let Some(index) = self.incoming.going_on(id) else {
            return self.fail(now, ProtocolError::WrongTransfer);
        };
        let it = &mut self.incoming.transfers[index];
        it.ended = true;
        it.answered = true;
        it.answer = None;
        it.body = match it.body {
            Body::Pieces(_) => Body::Failed(TransferError::Peer { reason }),
            Body::Failed(ref error) => Body::Failed(error.clone()),
            Body::Whole(_) | Body::None => Body::None,
        };
        self.incoming.sweep();
        self.release_room();
    }

    /// Gives an incoming transfer up for what is wrong with it.
    fn refuse_incoming(&mut self, id: u64, error: TransferError) {
        if self.count_error(self.clock) {
            return;
        }
        let reason = error.to_string();
        let streams = self.config.receive == Receive::Pieces;
        self.drop_incoming(id, &reason);
        if let Some(index) = self.incoming.position(id).filter(|_| streams) {
            self.incoming.transfers[index].body = Body::Failed(error);
        }
    }

    /// Gives an incoming transfer up: what comes of it is discarded.
    pub(super) fn drop_incoming(&mut self, id: u64, reason: &str) {
        let Some(index) = self.incoming.position(id) else {
            return;
        };
        let it = &mut self.incoming.transfers[index];
        it.body = Body::None;
        if !it.answered && it.answer.is_none() {
            it.answer = Some(Answer::Abort(reason.into()));
        }
        self.incoming.due = true;
        self.incoming.sweep();
        self.release_room();
    }

    /// Gives all of them up.
    pub(super) fn drop_all_incoming(&mut self, reason: &str) {
        let ids: Vec<u64> = self.incoming.transfers.iter().map(|it| it.id).collect();
        for id in ids {
            self.drop_incoming(id, reason);
        }
    }

    /// Others may have what one no longer needs.
    fn release_room(&mut self) {
        let config = &self.config;
        self.incoming
            .reserve(config.window.into(), config.max_message);
    }

    /// Queues the answers that are due.
    pub(super) fn make_answers(&mut self, now: Instant) {
        while self.incoming.due && self.outbox.control_len() < MAX_ANSWERS {
            match self.next_answer(now) {
                Some(frame) => self.push(now, frame, Sort::Control),
                None => self.incoming.due = false,
            }
        }
    }

    fn next_answer(&mut self, now: Instant) -> Option<EncodedFrame> {
        let window = self.config.window.into();
        let mut transfers = self.incoming.transfers.iter_mut();
        let it = transfers.find(|it| it.answer.is_some() || it.owes(now, window))?;
        let id = it.id;
        let answer = it.answer.take();
        if answer.is_none() {
            it.given = now;
            it.moved = now;
            let bytes = core::mem::take(&mut it.taken);
            it.allowed += bytes;
            let (op, text) = (ChunkOp::Window { bytes }, Bytes::from_static(b"window"));
            return Some(self.encode_chunk(id, op, ContentType::BINARY, text));
        }
        it.answered = true;
        let frame = if let Some(Answer::Abort(reason)) = answer {
            self.abort_frame(id, &reason)
        } else {
            let done = Bytes::from_static(b"done");
            self.encode_chunk(id, ChunkOp::Done, ContentType::BINARY, done)
        };
        self.incoming.sweep();
        Some(frame)
    }

    /// When the first transfer that waits for the peer has waited for too long.
    pub(super) fn receiving_due(&self) -> Option<Instant> {
        let timeout = self.config.transfer_timeout?;
        let waiting = self
            .incoming
            .transfers
            .iter()
            .filter(|it| it.waits_for_peer());
        let first = waiting.map(|it| it.moved).min()?;
        // What it may send of the others comes first.
        let transfers = self.incoming.transfers.iter();
        let away: u64 = transfers.map(|it| it.allowed.saturating_sub(it.used)).sum();
        let away = self
            .config
            .at_min_rate(usize::try_from(away).unwrap_or(usize::MAX));
        first.checked_add(timeout.saturating_add(away))
    }

    /// Ends the transfers that the peer did not go on with in time.
    pub(super) fn end_stalled_receiving(&mut self, now: Instant) {
        while self.receiving_due().is_some_and(|due| due <= now) {
            let waiting = self
                .incoming
                .transfers
                .iter()
                .filter(|it| it.waits_for_peer());
            let Some(id) = waiting.min_by_key(|it| it.moved).map(|it| it.id) else {
                return;
            };
            self.refuse_incoming(id, TransferError::Stalled);
        }
    }
}
