//! One frame: its bytes, in and out (PROTOCOL.md §2 and §3).
//!
//! [`Decoder`] turns a stream of bytes, however it is split, into [`Frame`]s; [`Encoder`] turns
//! frames into bytes. Both are pure and hold no more than the frame at hand.
//! [`Connection`](crate::Connection) uses them; so can a program that wants the frames and
//! nothing else.
//!
//! ```
//! use chat_core::frame::{Decoder, Encoder, Extra, Frame, FrameKind, Limits};
//! use chat_core::{ContentType, Key};
//!
//! let frame = Frame {
//!     kind: FrameKind::Message,
//!     content_type: ContentType::TEXT,
//!     session: None,
//!     content: "Hello, World!".into(),
//!     extra: Extra::None,
//! };
//! let bytes = Encoder::new(Key::default()).encode(&frame, 0)?.to_vec();
//!
//! let mut decoder = Decoder::new(Key::default(), Limits::default());
//! let (start, mut rest) = bytes.split_at(100);
//! assert_eq!(decoder.decode(&mut &start[..])?, None);
//! assert_eq!(decoder.decode(&mut rest)?, Some(frame));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decode;
mod encode;
mod error;
mod extra;
mod fixed;
mod header;
mod json;

use bytes::Bytes;
use uuid::Uuid;

pub use decode::Decoder;
pub(crate) use decode::{Hello, append};
pub use encode::{EncodedFrame, Encoder};
pub(crate) use encode::{apart, sign};
pub use error::{EncodeError, FrameError, HeaderFault};
pub use extra::{
    Chunk, ChunkLimits, ChunkOp, Extensions, Extra, MAX_CHUNK, MAX_INTEGER, MAX_NAME, MIN_CHUNK,
    MIN_PING_TIMEOUT, MIN_WINDOW, NONCE_LEN, SecHello,
};
pub(crate) use json::push_string as push_json_string;

use crate::ContentType;

/// The first eight bytes of every frame.
pub const MAGIC: [u8; 8] = [0x89, 0x50, 0x4e, 0x47, 0x0e, 0x0b, 0x1b, 0x0b];
/// The length of the fixed header.
pub const FIXED_HEADER_LEN: usize = 64;
/// The longest JSON header of any frame, in bytes.
pub const MAX_HEADER: u32 = 65_536;
/// The longest content of any frame, in bytes.
pub const MAX_CONTENT: u32 = 10_485_760;
/// A frame for a peer that negotiated nothing is padded to at least this many bytes
/// (PROTOCOL.md §6).
pub const LEGACY_MIN_FRAME: usize = 1024;

/// What a frame is for: the `type` of its JSON header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FrameKind {
    /// The server names the session.
    SessionInit,
    /// The client accepts it.
    SessionAck,
    /// `ping` or `pong`.
    Heartbeat,
    /// A message of the application.
    Message,
    /// A piece of a message. Never sent to a peer that did not negotiate it.
    Chunk,
    /// Something went wrong; the content is text.
    Error,
    /// The session ends; the content says why.
    Disconnect,
}

impl FrameKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::SessionInit,
        Self::SessionAck,
        Self::Heartbeat,
        Self::Message,
        Self::Chunk,
        Self::Error,
        Self::Disconnect,
    ];

    /// The kind's name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionInit => "session_init",
            Self::SessionAck => "session_ack",
            Self::Heartbeat => "heartbeat",
            Self::Message => "message",
            Self::Chunk => "chunk",
            Self::Error => "error",
            Self::Disconnect => "disconnect",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl core::fmt::Display for FrameKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A frame, decoded and verified, or about to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub kind: FrameKind,
    /// What the content is; not empty.
    pub content_type: ContentType,
    /// The session that it belongs to.
    pub session: Option<Uuid>,
    /// The content; not empty.
    pub content: Bytes,
    /// What the header says beyond these.
    pub extra: Extra,
}

/// The longest JSON header and content that a [`Decoder`] takes, in bytes.
///
/// Values above [`MAX_HEADER`] and [`MAX_CONTENT`], the limits of the protocol, mean those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest JSON header.
    pub header: u32,
    /// The longest content.
    pub content: u32,
}

impl Limits {
    /// What a connection takes before its handshake is done: until then the peer may be anyone.
    pub const HANDSHAKE: Self = Self {
        header: 4 * 1024,
        content: 1024,
    };
}

impl Default for Limits {
    /// The limits of the protocol.
    fn default() -> Self {
        Self {
            header: MAX_HEADER,
            content: MAX_CONTENT,
        }
    }
}
