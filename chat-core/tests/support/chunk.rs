//! Extensions and `chunk` frames by hand.

use core::time::Duration;

use bytes::Bytes;
use chat_core::frame::{Chunk, ChunkLimits, ChunkOp, Extensions, Extra, Frame, FrameKind};
use chat_core::{
    Config, ContentType, Event, Message, Read, Receive, Role, State, Transfer, TransferId,
};

use super::wire::{encode, frame};
use super::{Pair, SESSION, Solo, no_timers};

/// The content type of the messages that tests send in pieces.
pub(crate) const IMAGE: ContentType = ContentType::from_static("image/png");

/// Every extension, with the limits of the defaults.
pub(crate) fn every_extension() -> Extensions {
    let mut all = Extensions::default();
    all.max_content = Some(10_485_760);
    all.coalesce = true;
    all.ping = Some(15_000);
    all.chunk = Some(ChunkLimits {
        size: 65_536,
        window: 262_144,
        transfers: 32,
        message: Some(64 * 1024 * 1024),
    });
    all
}

/// As [`every_extension`], for a peer that takes pieces as they come.
pub(crate) fn with_streams() -> Extensions {
    let mut all = every_extension();
    all.chunk = all.chunk.map(|limits| ChunkLimits {
        message: None,
        ..limits
    });
    all
}

/// The frame with which a peer of `role` offers or chooses extensions.
pub(crate) fn greeting(to: Role, extensions: Extensions) -> Frame {
    let greeting = match to {
        Role::Client => frame(FrameKind::SessionInit, "Session established"),
        Role::Server => frame(FrameKind::SessionAck, "Session acknowledged"),
    };
    Frame {
        extra: Extra::Extensions(extensions),
        ..greeting
    }
}

/// The kind of greeting that an end expects, as JSON, with an `ext` of any text.
pub(crate) fn greeting_json(to: Role, ext: &str) -> String {
    let kind = match to {
        Role::Client => FrameKind::SessionInit,
        Role::Server => FrameKind::SessionAck,
    };
    format!(
        "{{\"type\": \"{kind}\", \"content_type\": \"application/octet-stream\", \
         \"session_id\": \"{SESSION}\", \"ext\": {ext}}}"
    )
}

/// An established connection whose peer, which is the test, can do these.
pub(crate) fn negotiated(role: Role, config: Config, peer: Extensions) -> Solo {
    let mut solo = Solo::new(role, config);
    solo.feed(&greeting(role, peer));
    solo.sent();
    assert_eq!(solo.events(), [Event::Established { session: SESSION }]);
    assert_eq!(solo.connection.state(), State::Established);
    solo
}

/// A `chunk` frame, with the content type that its kind has.
pub(crate) fn chunk(id: u64, op: ChunkOp, content: impl Into<Bytes>) -> Frame {
    let content_type = match op {
        ChunkOp::Begin { .. } | ChunkOp::Data { .. } => IMAGE,
        ChunkOp::Abort => ContentType::TEXT,
        _ => ContentType::BINARY,
    };
    Frame {
        content_type,
        extra: Extra::Chunk(Chunk { id, op }),
        ..frame(FrameKind::Chunk, content)
    }
}

pub(crate) fn begin(id: u64, total: Option<u64>) -> Frame {
    chunk(id, ChunkOp::Begin { total, name: None }, "begin")
}

pub(crate) fn data(id: u64, offset: u64, content: impl Into<Bytes>) -> Frame {
    chunk(id, ChunkOp::Data { offset }, content)
}

pub(crate) fn end(id: u64, offset: u64) -> Frame {
    chunk(id, ChunkOp::End { offset }, "end")
}

pub(crate) fn window(id: u64, bytes: u64) -> Frame {
    chunk(id, ChunkOp::Window { bytes }, "window")
}

pub(crate) fn done(id: u64) -> Frame {
    chunk(id, ChunkOp::Done, "done")
}

pub(crate) fn abort(id: u64, reason: &'static str) -> Frame {
    chunk(id, ChunkOp::Abort, reason)
}

/// What a `chunk` frame says.
#[track_caller]
pub(crate) fn said(frame: &Frame) -> (u64, &ChunkOp) {
    match &frame.extra {
        Extra::Chunk(chunk) => (chunk.id, &chunk.op),
        other => panic!("a {} with {other:?}", frame.kind),
    }
}

/// The bytes of several frames.
pub(crate) fn bytes_of(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(encode).collect()
}

impl Solo {
    /// Frames arrive.
    pub(crate) fn feed_all(&mut self, frames: &[Frame]) {
        self.feed_bytes(&bytes_of(frames));
    }

    /// The application reads the next of a transfer.
    pub(crate) fn read(&mut self, id: TransferId) -> Option<Read> {
        self.connection.read(self.now, id)
    }

    /// The application takes the one transfer that was announced.
    #[track_caller]
    pub(crate) fn announced(&mut self) -> TransferId {
        match &self.events()[..] {
            [Event::Transfer { id, .. }] => *id,
            other => panic!("not one transfer: {other:?}"),
        }
    }

    /// Time passes as for [`wait`](Self::wait), and the peer takes what is sent and does nothing.
    pub(crate) fn wait_and_send(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.sent_bytes();
        while let Some(due) = self.connection.poll_timeout().filter(|due| *due <= end) {
            self.wait(due - self.now);
            self.sent_bytes();
        }
        self.wait(end - self.now);
    }
}

/// Bytes that are different everywhere, so that none can be taken for another.
pub(crate) fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_be_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// Settings of an end that reads transfers as they come, without timers.
pub(crate) fn streams() -> Config {
    no_timers().receive(Receive::Pieces)
}

/// A message of so many bytes.
pub(crate) fn image(len: usize) -> Message {
    Message::new(IMAGE, noise(len, len as u64))
}

/// One end opens a transfer.
pub(crate) fn open(pair: &mut Pair, from: Role, transfer: Transfer) -> TransferId {
    let now = pair.now;
    let opened = pair.end(from).connection.open(now, transfer);
    opened.expect("the peer takes transfers")
}

/// What an end can read of a transfer, without anything else happening meanwhile.
pub(crate) fn read(pair: &mut Pair, to: Role, id: TransferId) -> (Vec<u8>, Option<Read>) {
    let now = pair.now;
    let mut bytes = Vec::new();
    loop {
        match pair.end(to).connection.read(now, id) {
            Some(Read::Piece(piece)) => bytes.extend(&piece[..]),
            end => return (bytes, end),
        }
    }
}

/// Writes all of it, reads all of it, and ends it; returns what arrived.
pub(crate) fn carry(
    pair: &mut Pair,
    from: Role,
    id: TransferId,
    content: &Bytes,
    step: usize,
) -> Vec<u8> {
    let mut left = content.clone();
    let mut arrived = Vec::new();
    while !left.is_empty() {
        let room = pair.end(from).connection.writable(id).min(step);
        let part = left.split_to(room.min(left.len()));
        let now = pair.now;
        let wrote = pair.end(from).connection.write(now, id, part);
        assert_eq!(wrote, Ok(()));
        pair.settle();
        let to = other(from);
        let (bytes, end) = read(pair, to, id);
        assert_eq!(end, None, "it goes on");
        arrived.extend(bytes);
    }
    let now = pair.now;
    assert_eq!(pair.end(from).connection.finish(now, id), Ok(()));
    pair.settle();
    let (bytes, end) = read(pair, other(from), id);
    assert_eq!(end, Some(Read::End));
    arrived.extend(bytes);
    pair.settle();
    arrived
}

/// The other end.
pub(crate) fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// Nothing is held, and nothing has ended.
#[track_caller]
pub(crate) fn is_idle(pair: &mut Pair) {
    for role in [Role::Client, Role::Server] {
        assert_eq!(pair.end(role).connection.outbox_bytes(), 0, "{role:?}");
        assert_eq!(pair.end(role).closed(), None, "{role:?}");
    }
}

/// A server whose client is the test: the client's ids are odd.
pub(crate) fn server(config: Config) -> Solo {
    negotiated(Role::Server, config, with_streams())
}

/// Both ways to receive.
pub(crate) fn both() -> [Config; 2] {
    [no_timers(), streams()]
}
