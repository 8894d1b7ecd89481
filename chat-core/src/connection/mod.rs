//! One connection: handshake, heartbeat, messages, end (PROTOCOL.md §4 to §7).

mod commands;
mod goodbye;
mod handshake;
mod inbound;
mod incoming;
mod limits;
mod outbox;
mod outgoing;
mod timers;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

use uuid::Uuid;

use self::handshake::Step;
use self::incoming::Incoming;
use self::outbox::{Outbox, Sort};
use self::outgoing::Outgoing;
use crate::frame::{
    Decoder, EncodeError, EncodedFrame, Encoder, Extensions, Extra, Frame, FrameKind,
    LEGACY_MIN_FRAME, Limits,
};
use crate::message::OVERHEAD;
use crate::rate::Bucket;
use crate::sign::{Digest, Piece};
use crate::{
    CloseReason, Config, ContentType, Entropy, Event, Identity, Instant, Message, ProtocolError,
};

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that connected.
    Client,
    /// The end that accepted.
    Server,
}

/// Where a connection is in its life. The transitions are the table of PROTOCOL.md §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Client: waits for `session_init`.
    AwaitInit,
    /// Server: waits for `session_ack`.
    AwaitAck,
    /// Client: has accepted the session, and waits for the server to show that it holds the key. Only
    /// with `sec`.
    AwaitProof,
    /// Messages flow.
    Established,
    /// This end is done: what is queued goes out, what comes in is discarded.
    Closing,
    /// Over.
    Closed,
}

/// What has gone over a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Verified frames from the peer; in a handshake of `sec`, also one that is verified later.
    pub frames_received: u64,
    /// Frames taken whole by the transport.
    pub frames_sent: u64,
    /// Messages from the peer.
    pub messages_received: u64,
    /// Messages taken whole by the transport.
    pub messages_sent: u64,
    /// Messages given up before the transport had taken them whole: see [`Event::Undelivered`].
    pub messages_aborted: u64,
    /// Bytes from the peer, those of an unfinished frame included.
    pub bytes_received: u64,
    /// Bytes taken by the transport.
    pub bytes_sent: u64,
    /// Bytes of contents that were hashed to be sent. With `sec`, those of up to 32 bytes are not, nor
    /// what was hashed before, because it was received or is [sent to many](Message::hashed); where the
    /// [channel is trusted](Config::trust_channel), nothing is after the handshake.
    pub bytes_hashed: u64,
    /// How often the peer had sent more than [`Config::message_rate`] or [`Config::byte_rate`] allows.
    pub throttled: u64,
    /// Errors that the peer reported, and its transfers with which something was wrong.
    pub errors_received: u64,
}

/// The whole protocol for one peer, in either role.
///
/// It has no clock and no I/O: the caller brings the bytes and the time. Its methods come in four
/// families. `handle_*` takes input and cannot fail; [`send`](Self::send), [`close`](Self::close)
/// and the like are commands; `poll_*` gives what there is to do; the rest are getters. The loop
/// around a transport is in the [crate documentation](crate).
///
/// After any input or command, [`poll_transmit`](Self::poll_transmit),
/// [`poll_event`](Self::poll_event) and [`poll_timeout`](Self::poll_timeout) may answer
/// differently; without one, only after being drained.
pub struct Connection {
    config: Arc<Config>,
    role: Role,
    phase: Phase,
    session: Option<Uuid>,
    /// Who the peer has shown to be.
    identity: Option<Identity>,
    /// The SHA-256 of what identifies the channel, if something does.
    binding: Option<Box<Digest>>,
    /// What was agreed on, with the peer's numbers.
    peer: Extensions,
    decoder: Decoder,
    encoder: Encoder,
    outbox: Outbox,
    outgoing: Outgoing,
    incoming: Incoming,
    /// This end is done, but for messages that go out in pieces.
    leaving: Option<Box<Leaving>>,
    /// The ends of transfers of this end: they wait for no room, and the sender may wait for them.
    notices: VecDeque<Event>,
    inbox: VecDeque<Event>,
    /// What the events in `inbox` cost.
    inbox_bytes: usize,
    /// The latest time that was given.
    clock: Instant,
    /// Input was refused because the inbox was full: silence is this end's doing.
    deaf: bool,
    /// Silence before this was not the peer's: this end was deaf, or had not asked.
    excused_until: Instant,
    /// When the last verified frame came.
    heard: Instant,
    /// When the transport last took bytes, or bytes began to wait for it.
    progress: Instant,
    next_ping: Instant,
    /// Since when our `ping` waits to leave.
    ping_since: Option<Instant>,
    /// When a `ping` left that nothing was heard after.
    asked: Option<Instant>,
    /// When the peer is told that this end is busy, should it be.
    next_busy: Instant,
    frame_bucket: Bucket,
    byte_bucket: Bucket,
    error_bucket: Bucket,
    /// The peer has sent too much: nothing is taken until then.
    throttled: Option<Instant>,
    /// It was told so.
    told_rate: bool,
    stats: Stats,
}

/// A wish to close that waits.
struct Leaving {
    reason: Box<str>,
    /// How long it waits.
    deadline: Instant,
}

/// The data of each state.
enum Phase {
    /// `AwaitInit`, `AwaitAck` or `AwaitProof`.
    Handshake {
        deadline: Instant,
        step: Step,
    },
    Established,
    Closing {
        reason: Box<CloseReason>,
        deadline: Instant,
        /// The peer's side has ended.
        eof: bool,
    },
    Closed,
}

impl Connection {
    /// The client's end of a new connection: waits for the server to name a session.
    pub fn client(config: Arc<Config>, entropy: Entropy, now: Instant) -> Self {
        let nonce = entropy.into_nonce();
        let nonce = Box::new(nonce);
        Self::new(config, Role::Client, None, Step::Init { nonce }, now)
    }

    /// The server's end of a new connection, for a session with the given id.
    ///
    /// The id must be a fresh random one ([`Uuid`] version 4).
    pub fn server(config: Arc<Config>, session: Uuid, entropy: Entropy, now: Instant) -> Self {
        let mut connection = Self::new(config, Role::Server, Some(session), Step::Proof, now);
        connection.push_init(now, entropy.into_nonce());
        connection
    }

    /// The server's end of a connection that it turns away: the client is told why, and no session
    /// begins.
    pub fn refuse(config: Arc<Config>, reason: &str, now: Instant) -> Self {
        let mut connection = Self::new(config, Role::Server, None, Step::Proof, now);
        connection.push_refusal(now, reason);
        connection.begin_closing(
            now,
            CloseReason::Local {
                reason: reason.into(),
            },
        );
        connection
    }

    fn new(
        config: Arc<Config>,
        role: Role,
        session: Option<Uuid>,
        step: Step,
        now: Instant,
    ) -> Self {
        let key = config.key.clone();
        let decoder = if config.sec {
            Decoder::for_hello(key.clone(), Limits::HANDSHAKE)
        } else {
            Decoder::new(key.clone(), Limits::HANDSHAKE)
        };
        Self {
            role,
            phase: Phase::Handshake {
                deadline: now + config.handshake_timeout,
                step,
            },
            session,
            identity: None,
            binding: None,
            peer: Extensions::default(),
            decoder,
            encoder: Encoder::new(key),
            outbox: Outbox::default(),
            outgoing: Outgoing::new(role),
            incoming: Incoming::new(),
            leaving: None,
            notices: VecDeque::new(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            clock: now,
            deaf: false,
            excused_until: now,
            heard: now,
            progress: now,
            next_ping: now,
            ping_since: None,
            asked: None,
            next_busy: now,
            frame_bucket: Bucket::new(now),
            byte_bucket: Bucket::new(now),
            error_bucket: Bucket::new(now),
            throttled: None,
            told_rate: false,
            stats: Stats::default(),
            config,
        }
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where the connection is in its life.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Handshake { step, .. } => match step {
                Step::Init { .. } => State::AwaitInit,
                Step::Ack(_) => State::AwaitAck,
                Step::Proof => State::AwaitProof,
            },
            Phase::Established if self.leaving.is_some() => State::Closing,
            Phase::Established => State::Established,
            Phase::Closing { .. } => State::Closing,
            Phase::Closed => State::Closed,
        }
    }

    /// The session's id: the server's from the start, the client's once it has accepted it.
    pub fn session(&self) -> Option<Uuid> {
        self.session
    }

    /// The extensions that both ends use, with the limits of the peer (PROTOCOL.md §4.6). Nothing
    /// before the connection is established.
    pub fn peer_extensions(&self) -> Extensions {
        match self.phase {
            Phase::Handshake { .. } => Extensions::default(),
            _ => self.peer,
        }
    }

    /// The largest message that [`send`](Self::send) takes, in bytes.
    pub fn max_message(&self) -> u64 {
        self.config.largest_for(&self.peer)
    }

    /// Whether a message goes out in pieces, as long as this end takes input: then it lets others go
    /// first, and others do not wait for it.
    pub fn is_chunked(&self, message: &Message) -> bool {
        message.content().len() > self.largest_in_one()
    }

    /// The largest message that goes out in one piece.
    pub(crate) fn largest_in_one(&self) -> usize {
        if self.peer.chunk.is_none() {
            return usize::MAX;
        }
        self.largest_frame()
            .min(self.config.chunk_threshold as usize)
    }

    /// The largest message that fits into a frame.
    pub(crate) fn largest_frame(&self) -> usize {
        let peer = self.peer.max_content.unwrap_or(u32::MAX);
        peer.min(self.config.limits.content) as usize
    }

    /// How long closing may take with so many bytes more than are queued here.
    #[cfg(feature = "driver")]
    pub(crate) fn time_to_close(&self, more: usize) -> core::time::Duration {
        let queued = self.outbox_bytes().saturating_add(more);
        let time = self.config.at_min_rate(queued);
        time.saturating_add(self.config.close_timeout)
    }

    /// The largest stream that the peer takes, if it takes any.
    #[cfg(feature = "driver")]
    pub(crate) fn max_stream(&self) -> Option<u64> {
        Some(self.peer.chunk?.message.unwrap_or(u64::MAX))
    }

    /// What has gone over the connection.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// When the last verified frame came; before the first, when the connection was made.
    pub fn last_heard(&self) -> Instant {
        self.heard
    }

    /// Bytes that wait to be transmitted, overhead included.
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.bytes() + self.outgoing.held()
    }

    /// Whether as much waits to be transmitted as is worth a write: what is queued now only waits.
    #[cfg(feature = "driver")]
    pub(crate) fn has_a_write(&self) -> bool {
        self.outbox.bytes() - self.outbox.piece_bytes() >= outbox::PLACED
    }

    /// Whether to read from the transport. False while too many events wait to be polled, while the
    /// peer has sent more than it may, and when the connection is closed.
    pub fn wants_input(&self) -> bool {
        match self.phase {
            Phase::Handshake { .. } | Phase::Established => {
                let has_room = self.inbox.is_empty() || self.inbox_bytes < self.config.max_inbox;
                has_room && self.throttled.is_none() || self.leaving.is_some()
            }
            Phase::Closing { .. } => true,
            Phase::Closed => false,
        }
    }

    /// Nothing will be transmitted any more: end this direction of the transport (`shutdown` for
    /// writing), and go on reading until its end.
    pub fn is_write_finished(&self) -> bool {
        self.outbox.is_empty() && matches!(self.phase, Phase::Closing { .. } | Phase::Closed)
    }

    /// The connection is over: close the transport. Events may still wait, the last of them
    /// [`Event::Closed`].
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// The bytes to write next, as up to `out.len()` slices; returns how many were set. Two are
    /// enough. Zero slices: nothing to write.
    ///
    /// More slices are more frames at a time, for a peer that takes them so. To others this is at
    /// most one frame: write it with one call, and without delay (`TCP_NODELAY`), for such a peer
    /// may read no more than that at once.
    pub fn poll_transmit<'a>(&'a self, out: &mut [&'a [u8]]) -> usize {
        let frames = if self.peer.coalesce { usize::MAX } else { 1 };
        self.outbox.peek(out, frames)
    }

    /// The transport took this many of the bytes that [`poll_transmit`](Self::poll_transmit)
    /// showed.
    ///
    /// # Panics
    ///
    /// If it took more than were shown.
    pub fn consume_transmit(&mut self, now: Instant, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let now = self.latest(now);
        self.progress = now;
        self.stats.bytes_sent += bytes as u64;
        let mut left = bytes;
        while let Some(sort) = self.outbox.consume(&mut left) {
            self.stats.frames_sent += 1;
            match sort {
                Sort::Message => self.stats.messages_sent += 1,
                Sort::End { id, message } => {
                    self.stats.messages_sent += u64::from(message);
                    self.outgoing.ended(id, now);
                }
                Sort::Ping => self.ping_left(now),
                Sort::Answer | Sort::Control | Sort::Piece | Sort::Proof | Sort::Other => {}
            }
        }
        self.fill(now);
        self.finish_if_done();
        if self.outbox.is_empty() && !self.keeps_buffers() {
            self.outbox.release();
        }
    }

    /// The next event, oldest first, but ends of transfers before all others. [`Event::Closed`] is
    /// the last.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(notice) = self.poll_notice() {
            return Some(notice);
        }
        let event = self.inbox.pop_front()?;
        self.inbox_bytes -= cost(&event);
        if self.inbox.is_empty() && !self.keeps_buffers() {
            self.inbox = VecDeque::new();
        }
        Some(event)
    }

    /// The next [`Event::Sent`] or [`Event::Aborted`].
    pub(crate) fn poll_notice(&mut self) -> Option<Event> {
        let notice = self.notices.pop_front()?;
        if self.notices.is_empty() {
            // An idle connection holds no buffers.
            self.notices = VecDeque::new();
        }
        Some(notice)
    }

    /// Whether buffers are kept while they are empty, for the next batch: until the next timeout. An idle
    /// connection holds none.
    fn keeps_buffers(&self) -> bool {
        let has_timers = self.config.heartbeat.is_some() || self.config.idle_timeout.is_some();
        has_timers && matches!(self.phase, Phase::Established)
    }

    /// Lets go of the buffers that are empty, and of what was kept for the next frame.
    fn release_buffers(&mut self) {
        self.outbox.release();
        self.encoder.forget();
        self.decoder.forget();
        if self.inbox.is_empty() {
            self.inbox = VecDeque::new();
        }
    }

    /// Time as this connection sees it, which does not run backwards (see [`Instant`]).
    fn latest(&mut self, now: Instant) -> Instant {
        self.clock = self.clock.max(now);
        self.clock
    }

    pub(crate) fn push_event(&mut self, event: Event) {
        self.inbox_bytes += cost(&event);
        self.inbox.push_back(event);
        self.deaf |= !self.wants_input();
    }

    fn push(&mut self, now: Instant, frame: EncodedFrame, sort: Sort) {
        if self.outbox.is_empty() {
            self.progress = now;
        }
        self.outbox.push(frame, sort);
    }

    fn encode(
        &mut self,
        kind: FrameKind,
        content_type: ContentType,
        content: impl Into<Piece>,
        extra: Extra,
        min_len: usize,
    ) -> Result<EncodedFrame, EncodeError> {
        let Piece { bytes, digest } = content.into();
        if self.encoder.hashes(&bytes, digest.is_some()) {
            self.stats.bytes_hashed += bytes.len() as u64;
        }
        let frame = Frame {
            kind,
            content_type,
            session: self.session,
            content: bytes,
            extra,
        };
        self.encoder.encode_digested(&frame, digest, min_len)
    }

    /// How short a frame to this peer may be (PROTOCOL.md §6).
    fn min_len(&self) -> usize {
        if self.peer.coalesce {
            0
        } else {
            LEGACY_MIN_FRAME
        }
    }

    /// The time to close in runs from `start`.
    fn begin_closing(&mut self, start: Instant, reason: CloseReason) {
        self.decoder.clear();
        self.outgoing.clear();
        self.incoming.end();
        self.leaving = None;
        self.phase = Phase::Closing {
            reason: Box::new(reason),
            deadline: start + self.config.close_timeout,
            eof: false,
        };
    }

    /// Ends the connection for the peer's fault. An established peer is told why; in a handshake
    /// nothing is said to someone who has not shown that it holds the key (PROTOCOL.md §8).
    fn fail(&mut self, now: Instant, error: ProtocolError) {
        let reason = CloseReason::Protocol(error);
        if matches!(self.phase, Phase::Established) {
            self.drop_unsent();
            self.push_error(now, &alloc::format!("{error}"), self.min_len());
            self.push_disconnect(now, "Protocol error");
            self.begin_closing(now, reason);
        } else {
            self.end(reason);
        }
    }

    /// The end of a closing connection whose both directions are done.
    fn finish_if_done(&mut self) {
        if self.outbox.is_empty()
            && let Phase::Closing {
                reason, eof: true, ..
            } = &self.phase
        {
            let reason = CloseReason::clone(reason);
            self.end(reason);
        }
    }

    /// The one end of every connection.
    fn end(&mut self, reason: CloseReason) {
        if matches!(self.phase, Phase::Handshake { .. }) {
            // Nothing came of what was offered.
            self.peer = Extensions::default();
        }
        self.decoder.clear();
        self.phase = Phase::Closed;
        self.outbox = Outbox::default();
        self.outgoing.clear();
        self.incoming.end();
        self.push_event(Event::Closed(reason));
    }
}

fn cost(event: &Event) -> usize {
    match event {
        Event::Message(message) => message.cost(),
        Event::Error(text) => text.len() + OVERHEAD,
        Event::Transfer { transfer, .. } => {
            let name = transfer.file_name().map_or(0, str::len);
            transfer.content_type().len() + name + OVERHEAD
        }
        Event::Undelivered { content_type, .. } => content_type.len() + OVERHEAD,
        Event::Established { .. }
        | Event::Sent { .. }
        | Event::Aborted { .. }
        | Event::Closed(_) => OVERHEAD,
    }
}
