//! How the program ends: one line on stderr, and a code.

use std::fmt;
use std::process::ExitCode;

use chat_tokio::{CloseReason, ConnectError, FrameError, ProtocolError};

use crate::screen::sanitize_line;

/// Why the program ends without having done what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    text: String,
}

/// The arguments, or the input, cannot be used.
const USAGE: u8 = 2;
/// Cannot connect, or cannot listen.
const UNAVAILABLE: u8 = 69;
/// Reading or writing failed, the connection included.
const IO: u8 = 74;
/// The other end does not keep to the protocol.
const PROTOCOL: u8 = 76;
/// The key was refused, here or there.
const KEY: u8 = 77;
/// Timed out.
const TIMEOUT: u8 = 124;
/// Interrupted by a signal.
pub(crate) const INTERRUPTED: u8 = 130;

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(USAGE, text)
    }

    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Self::new(UNAVAILABLE, text)
    }

    pub(crate) fn io(text: impl Into<String>) -> Self {
        Self::new(IO, text)
    }

    pub(crate) fn protocol(text: impl Into<String>) -> Self {
        Self::new(PROTOCOL, text)
    }

    pub(crate) fn key(text: impl Into<String>) -> Self {
        Self::new(KEY, text)
    }

    pub(crate) fn timeout(text: impl Into<String>) -> Self {
        Self::new(TIMEOUT, text)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(INTERRUPTED, "interrupted")
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.code == INTERRUPTED
    }

    pub(crate) fn connect(error: &ConnectError) -> Self {
        match error {
            ConnectError::Handshake(reason) => Self::handshake(reason),
            error => Self::unavailable(format!("{error}; is the server running there?")),
        }
    }

    fn handshake(reason: &CloseReason) -> Self {
        match reason {
            CloseReason::Eof { .. } => Self::new(
                PROTOCOL,
                "the server closed the connection during the handshake; is it a chat server?",
            ),
            CloseReason::Unproven => Self::key(
                "the server did not accept the key, or holds another one; give --key-file a key that \
                 it knows",
            ),
            CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac)) => {
                Self::key("the server holds another key; give the same --key-file to both sides")
            }
            CloseReason::Timeout(_) => Self::timeout(format!("{reason}; is it a chat server?")),
            reason => Self::closed(reason),
        }
    }

    /// The end of a connection that was still needed.
    pub(crate) fn closed(reason: &CloseReason) -> Self {
        let text = sanitize_line(&reason.to_string());
        match reason {
            CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac)) => Self::new(
                PROTOCOL,
                "what the server sent was altered, repeated or left out on the way",
            ),
            CloseReason::Protocol(ProtocolError::Insecure) => Self::key(
                "the server does not authenticate its messages with sec; --min-security legacy connects \
                 all the same",
            ),
            CloseReason::Protocol(ProtocolError::UnverifiedRefusal) => Self::key(
                "the server turned this client away, and holds another key: is it full, or is the key \
                 wrong? Its reason cannot be trusted",
            ),
            CloseReason::Protocol(_) => {
                Self::new(PROTOCOL, format!("{text}; is it a chat server?"))
            }
            CloseReason::Timeout(_) => Self::timeout(text),
            CloseReason::Peer { .. } | CloseReason::Refused { .. } => Self::unavailable(text),
            _ => Self::io(text),
        }
    }

    /// The same failure, after a sentence that says what it means.
    pub(crate) fn after(self, sentence: &str) -> Self {
        Self {
            text: format!("{sentence}: {}", self.text),
            ..self
        }
    }

    fn new(code: u8, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}
