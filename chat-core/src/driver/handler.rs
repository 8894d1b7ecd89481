//! What a server does with messages.

use std::error::Error;

use super::{Incoming, Session};
use crate::{CloseReason, ContentType, Message, SendError};

/// What a handler fails with. The session ends; the peer is told `Internal error`, the log why.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// What a server does: one value serves all its sessions.
///
/// The calls of one session come one after the other, in the order of its messages; those of
/// different sessions at the same time. While a call is pending, the session's heartbeats go on
/// and its next messages wait, in the end in the peer's socket. A handler that panics ends its
/// session, not the server.
///
/// ```
/// use chat_core::Message;
/// use chat_core::driver::{Handler, HandlerError, Session};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// /// Numbers the messages of each session.
/// struct Count;
///
/// impl Handler for Count {
///     type Data = AtomicU64;
///
///     async fn message(
///         &self,
///         session: &Session<AtomicU64>,
///         message: Message,
///     ) -> Result<(), HandlerError> {
///         let number = session.data().fetch_add(1, Ordering::Relaxed) + 1;
///         let text = message.as_text().ok_or("text only, please")?;
///         session.send(Message::text(format!("{number}: {text}")))?;
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// What the application keeps for each session.
    type Data: Default + Send + Sync + 'static;

    /// A session was established; its first message comes later.
    fn connected(&self, session: &Session<Self::Data>) {
        let _ = session;
    }

    /// A message came. An error ends the session.
    ///
    /// It may go on when its session has ended meanwhile. Cancel safety: it is dropped, wherever it
    /// waits, when the server stops and the grace is over.
    fn message(
        &self,
        session: &Session<Self::Data>,
        message: Message,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Whether messages that come in chunks are given as streams, to
    /// [`incoming`](Self::incoming). By default they come whole, to [`message`](Self::message), up to
    /// [`Config::max_message`](crate::Config::max_message).
    fn streams(&self) -> bool {
        false
    }

    /// A message begins to come in pieces, if that is how [`streams`](Self::streams) wants it. An
    /// error ends the session.
    ///
    /// It runs beside the other calls of its session. Dropping `incoming` gives the message up, as
    /// the default does. Cancel safety: it is dropped, wherever it waits, when the server has
    /// stopped.
    fn incoming(
        &self,
        session: Session<Self::Data>,
        incoming: Incoming,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        let _ = (session, incoming);
        async { Ok(()) }
    }

    /// The peer reports an error. By default it is only logged.
    fn error(&self, session: &Session<Self::Data>, text: &str) {
        let _ = (session, text);
    }

    /// An established session is over.
    fn disconnected(&self, session: &Session<Self::Data>, reason: &CloseReason) {
        let _ = (session, reason);
    }
}

/// Sends each message back to its sender; text as `text/plain`, for that is what version 1 servers
/// answer and what some clients look for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Echo;

impl Handler for Echo {
    type Data = ();

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        let message = if message.content_type().is_text() {
            Message::new(
                ContentType::from_static("text/plain"),
                message.into_content(),
            )
        } else {
            message
        };
        // Never full: a session that does not take its answers is not read from.
        match session.send(message) {
            Err(error @ SendError::TooLarge(_)) => session.send_error(&error.to_string()),
            done => done?,
        }
        Ok(())
    }
}

/// Sends each message to every session, its sender included. Messages in chunks are forwarded while
/// they arrive ([`Server::forward`](super::Server::forward)); those with a name, as files have one,
/// do not go back to their sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relay;

impl Handler for Relay {
    type Data = ();

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        if let Err(error) = session.server().broadcast(&message) {
            session.send_error(&error.to_string());
        }
        Ok(())
    }

    fn streams(&self) -> bool {
        true
    }

    async fn incoming(&self, session: Session, incoming: Incoming) -> Result<(), HandlerError> {
        // Its sender was told what went wrong with it.
        let _ = session.server().forward(session.id(), incoming).await;
        Ok(())
    }
}
