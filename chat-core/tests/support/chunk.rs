//! Extensions and `chunk` frames by hand.

use core::time::Duration;

use bytes::Bytes;
use chat_core::frame::{Chunk, ChunkLimits, ChunkOp, Extensions, Extra, Frame, FrameKind};
use chat_core::{Config, ContentType, Event, Read, Role, State, TransferId};

use super::wire::{encode, frame};
use super::{SESSION, Solo};

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
