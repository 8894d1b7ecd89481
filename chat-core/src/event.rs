//! What a connection reports.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use uuid::Uuid;

use crate::{ContentType, Message, ProtocolError, Transfer, TransferError, TransferId};

/// Something that happened on a [`Connection`](crate::Connection).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The handshake is done; messages can be sent.
    Established {
        /// The session's id, chosen by the server.
        session: Uuid,
    },
    /// A message arrived.
    Message(Message),
    /// The peer reports that something went wrong. The connection lives on unless a
    /// [`Closed`](Self::Closed) follows. The text is the peer's: sanitise it before a terminal
    /// sees it.
    Error(String),
    /// A message begins to arrive in pieces, with [`Receive::Pieces`](crate::Receive::Pieces).
    Transfer {
        /// Its number, for [`Connection::read`](crate::Connection::read).
        id: TransferId,
        /// What is known of it.
        transfer: Transfer,
    },
    /// The peer has taken all of a transfer of [`Connection::open`](crate::Connection::open).
    Sent {
        /// Its number.
        id: TransferId,
    },
    /// A transfer of [`Connection::open`](crate::Connection::open) was given up.
    Aborted {
        /// Its number.
        id: TransferId,
        /// Why.
        error: TransferError,
    },
    /// A message of [`Connection::send`](crate::Connection::send), which went out in pieces, was
    /// given up.
    Undelivered {
        /// What its content was.
        content_type: ContentType,
        /// Its size in bytes.
        size: u64,
        /// Why.
        error: TransferError,
    },
    /// The connection is over. The last event, and there is exactly one.
    Closed(CloseReason),
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// This end closed it.
    Local {
        /// The reason that was given to the peer.
        reason: Box<str>,
    },
    /// The peer said goodbye.
    Peer {
        /// Its reason: its text, so sanitise it before a terminal sees it.
        reason: Box<str>,
    },
    /// The server answered the connection with an error instead of a session.
    Refused {
        /// Its reason: its text, so sanitise it before a terminal sees it.
        reason: Box<str>,
    },
    /// The stream was truncated: it ended without a goodbye. The peer crashed, or the network cut it, or
    /// somebody on the way did. With [`Security::Sec`](crate::Security::Sec) a goodbye cannot be forged.
    Eof {
        /// The stream ended inside a frame.
        mid_frame: bool,
    },
    /// The server ended the connection, or it was cut, before the server had shown that it holds the
    /// client's key: most likely one of them does not know the other's.
    Unproven,
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// A deadline passed.
    Timeout(Timeout),
    /// The transport failed.
    Transport {
        /// What the transport said.
        error: Box<str>,
    },
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// The handshake was not done in time.
    Handshake,
    /// Nothing was heard from the peer.
    Idle,
    /// The transport took none of the bytes that waited for it.
    Stall,
    /// The peer did not answer, as it had promised (PROTOCOL.md §5.2).
    Answer,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { reason } => write!(f, "closed by this end: {reason}"),
            Self::Peer { reason } => write!(f, "closed by the peer: {reason}"),
            Self::Refused { reason } => write!(f, "refused by the server: {reason}"),
            Self::Eof { mid_frame: false } => {
                f.write_str("truncated: the peer ended without a goodbye")
            }
            Self::Eof { mid_frame: true } => {
                f.write_str("truncated: the peer ended in the middle of a frame")
            }
            Self::Unproven => f.write_str(
                "the server ended the connection before it showed that it holds the key",
            ),
            Self::Protocol(error) => write!(f, "protocol error: {error}"),
            Self::Timeout(which) => which.fmt(f),
            Self::Transport { error } => write!(f, "transport error: {error}"),
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "timed out: the handshake was not done in time",
            Self::Idle => "timed out: nothing was heard from the peer",
            Self::Stall => "timed out: the peer took none of the bytes sent to it",
            Self::Answer => "timed out: the peer did not answer",
        })
    }
}
