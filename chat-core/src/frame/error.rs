//! What can be wrong with a frame.

use thiserror::Error;

/// Why bytes are not a frame. The stream that they came from has no next frame (PROTOCOL.md §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The first eight bytes are not the magic number: the peer speaks something else.
    #[error("not a chat frame: byte {offset} of the magic number is {found:#04x}")]
    BadMagic {
        /// Which of the eight bytes is wrong.
        offset: usize,
        /// What it is instead.
        found: u8,
    },
    /// The version is not 1.
    #[error("unsupported protocol version: this end speaks version 1")]
    UnsupportedVersion,
    /// The frame type is not 0.
    #[error("unsupported frame type: only type 0 is defined")]
    UnsupportedFrameType,
    /// The JSON header is longer than the limit.
    #[error("JSON header of {len} bytes, {max} allowed")]
    HeaderTooLarge {
        /// The declared length.
        len: u32,
        /// The limit.
        max: u32,
    },
    /// The content is longer than the limit.
    #[error("content of {len} bytes, {max} allowed")]
    ContentTooLarge {
        /// The declared length.
        len: u64,
        /// The limit.
        max: u32,
    },
    /// The content is empty.
    #[error("empty content")]
    EmptyContent,
    /// The JSON header does not match its CRC-32.
    #[error("JSON header damaged: CRC-32 mismatch")]
    HeaderCrc,
    /// The content does not match its CRC-32.
    #[error("content damaged: CRC-32 mismatch")]
    ContentCrc,
    /// The authentication code is wrong: another key, or a frame that was tampered with.
    #[error("authentication failed: the other end uses another key, or the frame was altered")]
    Mac,
    /// The JSON header is not what it has to be.
    #[error("bad JSON header: {0}")]
    HeaderJson(HeaderFault),
    /// The `type` is none of the protocol's.
    #[error("unknown message type")]
    UnknownType,
}

/// What is wrong with a JSON header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderFault {
    /// It does not begin with `{` and end with `}`.
    #[error("not an object from its first byte to its last")]
    Border,
    /// It is not JSON (RFC 8259), or a value is not of the right type.
    #[error("not valid JSON, or a value of the wrong type")]
    Syntax,
    /// A key appears twice in one object.
    #[error("a key appears twice")]
    DuplicateKey,
    /// Nested deeper than 8 levels.
    #[error("nested deeper than 8 levels")]
    TooDeep,
    /// More than 32 keys.
    #[error("more than 32 keys")]
    TooManyKeys,
    /// No `type`.
    #[error("no type")]
    NoType,
    /// No `content_type`, or an empty one.
    #[error("no content type")]
    NoContentType,
    /// `session_id` is neither null nor a UUID.
    #[error("session_id is not a UUID")]
    BadSession,
    /// `ext` is not as specified (PROTOCOL.md §4.6).
    #[error("ext makes no sense")]
    BadExtension,
    /// `chunk` is not as specified (PROTOCOL.md §5.5).
    #[error("chunk makes no sense")]
    BadChunk,
}

/// Why a frame cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The content is empty.
    #[error("empty content")]
    EmptyContent,
    /// The content type is empty.
    #[error("empty content type")]
    EmptyContentType,
    /// The content is longer than [`MAX_CONTENT`](super::MAX_CONTENT).
    #[error("content of {len} bytes, {} allowed", super::MAX_CONTENT)]
    ContentTooLarge {
        /// Its length.
        len: usize,
    },
    /// The JSON header is longer than [`MAX_HEADER`](super::MAX_HEADER).
    #[error(
        "JSON header of {len} bytes, {} allowed: shorten the content type",
        super::MAX_HEADER
    )]
    HeaderTooLarge {
        /// Its length.
        len: usize,
    },
}
