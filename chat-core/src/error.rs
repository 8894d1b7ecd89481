//! Whose fault it is: the peer's is a [`ProtocolError`], the caller's a [`SendError`].

use thiserror::Error;

use crate::frame::{FrameError, FrameKind};
use crate::{KeyId, Message};

/// What the peer did wrong. The connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// Its bytes are not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that has no place here.
    #[error("unexpected {0} frame")]
    Unexpected(FrameKind),
    /// A frame of another session, or of none.
    #[error("{0} frame of another session")]
    WrongSession(FrameKind),
    /// A `session_init` that names no session.
    #[error("session_init without a session id")]
    NoSession,
    /// A `session_ack` that chooses what was not offered.
    #[error("session_ack chooses an extension that was not offered")]
    NotOffered,
    /// The other end does not use `sec`, and this end's
    /// [`min_security`](crate::Config::min_security) demands it.
    #[error("the other end does not authenticate with sec, which is required here")]
    Insecure,
    /// A `session_ack` under a key that this server does not know.
    #[error("the client holds a key that is not known here: {0}")]
    UnknownKey(KeyId),
    /// A server that holds another key has refused the connection: what it says is not to be trusted.
    #[error("the server refused the connection, and holds another key")]
    UnverifiedRefusal,
    /// A `chunk` of a transfer that there is not, or that is over.
    #[error("chunk of a transfer that does not exist")]
    WrongTransfer,
    /// More transfers than this end takes.
    #[error("too many transfers at a time")]
    TooManyTransfers,
    /// Too many errors in too short a time, of those that do not end a connection by themselves.
    #[error("too many errors")]
    TooManyErrors,
    /// More bytes of a transfer than this end takes, or than it was sent.
    #[error("more than the window of a transfer")]
    Window,
}

/// Why a message was not queued. It is handed back; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The outbox is full: the peer takes less than is sent to it. Wait and try again.
    #[error("the outbox is full")]
    Full(Message),
    /// The handshake is not done yet.
    #[error("the connection is not established yet")]
    NotEstablished(Message),
    /// The connection is closing or closed.
    #[error("the connection is closed")]
    Closed(Message),
    /// The content or its content type is empty.
    #[error("an empty message cannot be sent")]
    Empty(Message),
    /// The content or its content type is larger than a frame allows.
    #[error(
        "a message of {} bytes, with a content type of {}, does not fit into a frame",
        .0.content().len(), .0.content_type().len()
    )]
    TooLarge(Message),
}

impl SendError {
    /// The message that was not sent.
    pub fn into_message(self) -> Message {
        match self {
            Self::Full(message)
            | Self::NotEstablished(message)
            | Self::Closed(message)
            | Self::Empty(message)
            | Self::TooLarge(message) => message,
        }
    }
}
