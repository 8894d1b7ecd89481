//! Messages in pieces: what both directions have in common.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::ContentType;
use crate::frame::{MAX_INTEGER, MAX_NAME};

/// The number of a transfer on its connection. A client's are odd, a server's even.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub(crate) u64);

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransferId({})", self.0)
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is known of a message before its first byte.
///
/// ```
/// let image = chat_core::Transfer::new("image/png").total(123_456).name("cat.png");
/// assert_eq!(image.size(), Some(123_456));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    content_type: ContentType,
    total: Option<u64>,
    name: Option<Arc<str>>,
}

impl Transfer {
    /// A message of any content type, of unknown size.
    pub fn new(content_type: impl Into<ContentType>) -> Self {
        Self {
            content_type: content_type.into(),
            total: None,
            name: None,
        }
    }

    /// Its size in bytes. Sending another number of bytes is an error.
    #[must_use]
    pub fn total(mut self, bytes: u64) -> Self {
        self.total = Some(bytes.min(MAX_INTEGER));
        self
    }

    /// Its name, as a file has one: the first 1,024 bytes of it. An empty one is none.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        let name = &name[..name.floor_char_boundary(MAX_NAME)];
        self.name = (!name.is_empty()).then(|| name.into());
        self
    }

    pub(crate) fn of(
        content_type: ContentType,
        total: Option<u64>,
        name: Option<Arc<str>>,
    ) -> Self {
        Self {
            content_type,
            total,
            name,
        }
    }

    /// What the content is.
    pub fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    /// Its size in bytes, if it is known.
    pub fn size(&self) -> Option<u64> {
        self.total
    }

    /// Its name, if it has one. The sender's text: never a path to write to, and to be sanitised
    /// before a terminal sees it.
    pub fn file_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn shared_name(&self) -> Option<Arc<str>> {
        self.name.clone()
    }
}

/// What [`Connection::read`](crate::Connection::read) finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The next piece; not empty.
    Piece(Bytes),
    /// That was all of it.
    End,
    /// There will be no more, and it is not complete.
    Failed(TransferError),
}

/// Why a transfer was given up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The peer gave it up.
    #[error("given up by the other end: {reason}")]
    Peer {
        /// Its reason: its text, so sanitise it before a terminal sees it.
        reason: Box<str>,
    },
    /// The peer sent it wrong.
    #[error("the other end sent it wrong: {0}")]
    Faulty(TransferFault),
    /// The peer did not go on with it in time.
    #[error("timed out: the other end did not go on with it")]
    Stalled,
    /// It is larger than this end takes, or the peer does.
    #[error("too large: at most {max} bytes are taken")]
    TooLarge {
        /// The most that is taken.
        max: u64,
    },
    /// Not the size that this end has declared.
    #[error("its size is not what it was said to be")]
    Size,
    /// The connection is over, or there is no such transfer any more.
    #[error("the connection ended")]
    Closed,
}

/// How a transfer can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransferFault {
    /// A piece is missing, or came twice.
    #[error("a piece is missing, or came twice")]
    Gap,
    /// More bytes than it was to have, or fewer.
    #[error("its size is not what it was said to be")]
    Size,
    /// Its content type changed on the way.
    #[error("its content type changed")]
    ContentType,
    /// It is empty, which a whole message cannot be.
    #[error("it is empty")]
    Empty,
}

/// Why a transfer was not begun, or why nothing more can be written to it. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer takes no messages in pieces: send it in one.
    #[error("the other end takes no messages in pieces")]
    Unsupported,
    /// Larger than the peer takes.
    #[error("too large: the other end takes at most {max} bytes")]
    TooLarge {
        /// The most that it takes.
        max: u64,
    },
    /// The content type is empty, or longer than 8 KiB.
    #[error("the content type is empty or too long")]
    ContentType,
    /// The handshake is not done yet.
    #[error("the connection is not established yet")]
    NotEstablished,
    /// The connection is closing or closed.
    #[error("the connection is closed")]
    Closed,
}

/// Why bytes were not added to a transfer. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// There is no room now: see [`Connection::writable`](crate::Connection::writable).
    #[error("there is no room at the moment")]
    Full,
    /// More bytes than the transfer was said to have, or, at its end, fewer.
    #[error("its size is not what it was said to be")]
    Size,
    /// It is finished or was given up, or the connection is over.
    #[error("the transfer is over")]
    Closed,
}

#[cfg(feature = "driver")]
impl From<OpenError> for TransferError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::TooLarge { max } => Self::TooLarge { max },
            _ => Self::Closed,
        }
    }
}
