//! A message in pieces, from one session to all.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use event_listener::{Event, EventListener};
use uuid::Uuid;

use super::streams::{Incoming, SendStream};
use super::{Server, Session};
use crate::{Message, OpenError, Transfer, TransferError};

/// The source goes on while one receiver is no further behind than this, in bytes.
const PACE: u64 = 256 * 1024;
/// A receiver that is further behind than this loses its copy, in bytes. Contents are in memory
/// once, however many are behind.
const LAG: u64 = 32 * 1024 * 1024;

/// What a receiver that is too slow is told.
const TOO_SLOW: &str = "it arrives faster than you read it";
/// What the sender is told when there is nobody to send it to.
const NOBODY: &str = "nobody is there to take it";

impl<D> Server<D> {
    /// Forwards a message to every established session, and to `origin` only if it has no name,
    /// while it arrives: without collecting it first. Returns when it has been taken in whole; its
    /// copies may still be under way.
    ///
    /// The source is slowed to the pace of the fastest receiver. One that falls more than 32 MiB
    /// behind loses its copy and is told; the others do not notice. To a session that takes no
    /// messages in pieces it goes as one frame if it fits; otherwise that session gets a text message
    /// that says what it missed.
    ///
    /// Cancel safety: dropping the future gives up the message and every copy of it.
    pub async fn forward(&self, origin: Uuid, incoming: Incoming) -> Result<(), TransferError> {
        let transfer = incoming.transfer().clone();
        let mut copies = Copies {
            streams: Vec::new(),
            plain: Vec::new(),
            content: BytesMut::new(),
            changed: Arc::new(Event::new()),
        };
        for session in self.sessions() {
            if session.id() != origin || transfer.file_name().is_none() {
                copies.add(session, &transfer);
            }
        }
        let forwarded = copies.run(incoming, &transfer).await;
        match &forwarded {
            Ok(()) => copies.finish(&transfer),
            Err(error) => copies.give_up(&error.to_string()),
        }
        forwarded
    }
}

/// Everything that is made of one incoming message.
struct Copies<D> {
    streams: Vec<SendStream>,
    /// Sessions that take it in one piece.
    plain: Vec<Session<D>>,
    /// For these, what has arrived.
    content: BytesMut,
    /// Notified when one of the streams has moved.
    changed: Arc<Event>,
}

impl<D> Copies<D> {
    fn add(&mut self, session: Session<D>, transfer: &Transfer) {
        let changed = Arc::clone(&self.changed);
        match session.mailbox().open(transfer.clone(), changed) {
            Ok(stream) => self.streams.push(stream),
            Err(OpenError::Unsupported) => {
                let max = session.max_message();
                if transfer.size().is_some_and(|size| size > max) {
                    tell_missed(&session, transfer);
                } else {
                    self.plain.push(session);
                }
            }
            Err(OpenError::TooLarge { .. }) => tell_missed(&session, transfer),
            // It is closing.
            Err(_) => {}
        }
    }

    async fn run(
        &mut self,
        mut incoming: Incoming,
        transfer: &Transfer,
    ) -> Result<(), TransferError> {
        loop {
            if self.streams.is_empty() && self.plain.is_empty() {
                incoming.refuse(NOBODY);
                return Err(TransferError::Closed);
            }
            let Some(piece) = incoming.next().await else {
                return Ok(());
            };
            let piece = piece?;
            let len = self.content.len() + piece.len();
            self.plain.retain(|session| {
                let fits = len as u64 <= session.max_message();
                if !fits {
                    tell_missed(session, transfer);
                }
                fits
            });
            if self.plain.is_empty() {
                self.content = BytesMut::new();
            } else {
                self.content.extend_from_slice(&piece);
            }
            let mut index = 0;
            while let Some(stream) = self.streams.get_mut(index) {
                if lag(stream) > LAG {
                    self.streams.swap_remove(index).cancel(TOO_SLOW);
                } else if stream.push(piece.clone()).is_err() {
                    self.streams.swap_remove(index);
                } else {
                    index += 1;
                }
            }
            self.keep_pace().await;
        }
    }

    /// Waits until the fastest receiver has taken enough.
    async fn keep_pace(&mut self) {
        let mut listener: Option<EventListener> = None;
        poll_fn(|cx| {
            loop {
                self.streams.retain(|stream| stream.failed().is_none());
                let ready = self.streams.iter().any(|stream| lag(stream) <= PACE);
                if ready || self.streams.is_empty() {
                    return Poll::Ready(());
                }
                // Listen first, then look again: what happens in between is not missed.
                match &mut listener {
                    None => listener = Some(self.changed.listen()),
                    Some(waiting) => match Pin::new(waiting).poll(cx) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(()) => listener = None,
                    },
                }
            }
        })
        .await;
    }

    /// It has arrived whole.
    fn finish(&mut self, transfer: &Transfer) {
        for stream in self.streams.drain(..) {
            stream.complete();
        }
        if self.content.is_empty() {
            return;
        }
        let content = std::mem::take(&mut self.content).freeze();
        let message = Message::new(transfer.content_type().clone(), content);
        for session in self.plain.drain(..) {
            session.send_or_close(message.clone());
        }
    }

    fn give_up(&mut self, reason: &str) {
        for stream in self.streams.drain(..) {
            stream.cancel(reason);
        }
    }
}

/// How many bytes wait for the connection.
fn lag(stream: &SendStream) -> u64 {
    stream.written() - stream.sent()
}

/// Tells a session what it does not get.
fn tell_missed<D>(session: &Session<D>, transfer: &Transfer) {
    let size = match transfer.size() {
        Some(size) => format!("{size} bytes"),
        None => format!("more than {} bytes", session.max_message()),
    };
    let name = match transfer.file_name() {
        Some(name) => format!(" ({name})"),
        None => String::new(),
    };
    let content_type = transfer.content_type();
    session.tell_missed(&format!("{size} of {content_type}{name}"));
}
