//! A message in pieces, from one session to all.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use event_listener::{Event, EventListener};
use uuid::Uuid;

use super::{Incoming, SendStream, Server, Session};
use crate::sign::Piece;
use crate::{Config, Message, OpenError, Transfer, TransferError};

/// The source goes on while one receiver is no further behind than this, in bytes.
const PACE: u64 = 256 * 1024;
/// A receiver that is further behind than this, in all transfers together, loses its copy, in
/// bytes. Contents are in memory once, however many are behind.
const LAG: u64 = 48 * 1024 * 1024;
/// How much is put together at a time for sessions that take nothing in pieces, in bytes.
const COLLECTED: usize = 96 * 1024 * 1024;

/// What a receiver that is too slow is told.
const TOO_SLOW: &str = "it arrives faster than you read it";
/// What the sender is told when there is nobody to send it to.
const NOBODY: &str = "nobody is there to take it";
const BAD_TYPE: &str = "its content type is empty or too long";

impl<D> Server<D> {
    /// Forwards a message to every established session, and to `origin` only if it has no name,
    /// while it arrives: without collecting it first. Returns when it has been taken in whole; its
    /// copies may still be under way.
    ///
    /// The source is slowed to the pace of the fastest receiver. One that falls more than 48 MiB
    /// behind, in all messages together, loses its copy and is told, or is closed if it has no room even for
    /// that; the others do not notice. To a
    /// session that takes no messages in pieces it goes as one frame if it fits; otherwise that
    /// session gets a text message that says what it missed. No more than 96 MiB are put together
    /// for such sessions at a time.
    ///
    /// Cancel safety: dropping the future gives up the message and every copy of it.
    pub async fn forward(&self, origin: Uuid, incoming: Incoming) -> Result<(), TransferError> {
        let mut incoming = incoming;
        let transfer = incoming.transfer().clone();
        if !Config::is_content_type(transfer.content_type()) {
            incoming.refuse(BAD_TYPE);
            return Err(TransferError::Closed);
        }
        let others = |session: &Session<D>| session.id() != origin;
        if transfer.file_name().is_some() && !self.sessions().iter().any(others) {
            incoming.refuse(NOBODY);
            return Err(TransferError::Closed);
        }
        let origin = self.session(origin);
        let _turn = match &origin {
            Some(origin) => Some(origin.forward_turn().await),
            None => None,
        };
        // Nobody is bothered before there is something.
        let first = incoming.next_piece().await.transpose()?;
        let mut copies = Copies {
            streams: Vec::new(),
            plain: Vec::new(),
            content: BytesMut::new(),
            server: self.clone(),
            changed: Arc::new(Event::new()),
        };
        for session in self.sessions() {
            let own = origin
                .as_ref()
                .is_some_and(|origin| origin.id() == session.id());
            if !own || transfer.file_name().is_none() {
                copies.add(session, &transfer);
            }
        }
        let forwarded = copies.run(first, incoming, &transfer).await;
        match &forwarded {
            Ok(()) => copies.finish(&transfer),
            Err(TransferError::Peer { reason }) => copies.give_up(reason),
            Err(error) => copies.give_up(&error.to_string()),
        }
        forwarded
    }
}

/// Everything that is made of one incoming message.
struct Copies<D> {
    streams: Vec<Copy<D>>,
    /// Sessions that take it in one piece.
    plain: Vec<Session<D>>,
    /// For these, what has arrived.
    content: BytesMut,
    server: Server<D>,
    /// Notified when one of the streams has moved.
    changed: Arc<Event>,
}

/// One of them, for a session that takes it as it comes.
struct Copy<D> {
    session: Session<D>,
    stream: SendStream,
}

impl<D> Copies<D> {
    fn add(&mut self, session: Session<D>, transfer: &Transfer) {
        if session.mailbox().streaming() > LAG {
            return tell_too_slow(&session, transfer);
        }
        let changed = Arc::clone(&self.changed);
        match session.mailbox().open(transfer.clone(), changed) {
            Ok(stream) => self.streams.push(Copy { session, stream }),
            Err(OpenError::Unsupported) => {
                let max = session.max_message();
                if transfer.size().is_some_and(|size| size > max) {
                    tell_too_large(&session, transfer);
                } else {
                    self.plain.push(session);
                }
            }
            Err(OpenError::TooLarge { .. }) => tell_too_large(&session, transfer),
            // It is closing.
            Err(_) => {}
        }
    }

    async fn run(
        &mut self,
        first: Option<Piece>,
        mut incoming: Incoming,
        transfer: &Transfer,
    ) -> Result<(), TransferError> {
        let mut next = first;
        loop {
            if self.streams.is_empty() && self.plain.is_empty() {
                incoming.refuse(NOBODY);
                return Err(TransferError::Closed);
            }
            let Some(piece) = next else {
                return Ok(());
            };
            if !self.plain.is_empty() {
                self.collect(&piece.bytes, transfer);
            }
            let mut index = 0;
            while let Some(copy) = self.streams.get_mut(index) {
                if copy.stream.outlet().session_lag() > LAG {
                    let Copy { session, stream } = self.streams.swap_remove(index);
                    // Of what has not begun an abort tells it nothing. Rather twice than never.
                    if stream.sent() == 0 {
                        tell_too_slow(&session, transfer);
                    }
                    stream.cancel(TOO_SLOW);
                } else if copy.stream.push(piece.clone()).is_err() {
                    self.streams.swap_remove(index);
                } else {
                    index += 1;
                }
            }
            self.keep_pace(&mut incoming).await;
            next = incoming.next_piece().await.transpose()?;
        }
    }

    /// Adds a piece for those who get it all at once, and tells those who do not any more.
    fn collect(&mut self, piece: &[u8], transfer: &Transfer) {
        let len = self.content.len() + piece.len();
        let room = self.server.collect(piece.len(), COLLECTED);
        self.plain.retain(|session| {
            let fits = room && len as u64 <= session.max_message();
            if !fits {
                tell_too_large(session, transfer);
            }
            fits
        });
        if room {
            self.content.extend_from_slice(piece);
        }
        if self.plain.is_empty() {
            self.server.collected(self.content.len());
            self.content = BytesMut::new();
        }
    }

    /// Waits until the fastest receiver has taken enough, or there is nothing more to take.
    async fn keep_pace(&mut self, incoming: &mut Incoming) {
        let mut listener: Option<EventListener> = None;
        poll_fn(|cx| {
            loop {
                self.streams.retain(|copy| copy.stream.failed().is_none());
                let ready = self.streams.iter().any(|copy| lag(&copy.stream) <= PACE);
                if ready || self.streams.is_empty() || incoming.poll_failed(cx) {
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
        for copy in self.streams.drain(..) {
            copy.stream.complete();
        }
        if self.content.is_empty() {
            return;
        }
        self.server.collected(self.content.len());
        let content = std::mem::take(&mut self.content).freeze();
        let message = Message::new(transfer.content_type().clone(), content);
        for session in self.plain.drain(..) {
            session.send_or_close(message.clone());
        }
    }

    fn give_up(&mut self, reason: &str) {
        for copy in self.streams.drain(..) {
            copy.stream.cancel(reason);
        }
    }
}

impl<D> Drop for Copies<D> {
    fn drop(&mut self) {
        self.server.collected(self.content.len());
    }
}

/// How many bytes wait for the connection.
fn lag(stream: &SendStream) -> u64 {
    stream.written() - stream.sent()
}

/// Tells a session what is too large for it.
fn tell_too_large<D>(session: &Session<D>, transfer: &Transfer) {
    let size = match transfer.size() {
        Some(size) => format!("{size} bytes"),
        None => format!("more than {} bytes", session.max_message()),
    };
    session.tell_too_large(&format!("{size} of {}", describe(transfer)));
}

/// Tells a session what it does not get because it is too far behind.
fn tell_too_slow<D>(session: &Session<D>, transfer: &Transfer) {
    let size = transfer.size().map(|size| format!("{size} bytes of "));
    let what = size.unwrap_or_default() + &describe(transfer);
    session.tell_missed(&what, TOO_SLOW);
}

fn describe(transfer: &Transfer) -> String {
    let content_type = transfer.content_type();
    match transfer.file_name() {
        Some(name) => format!("{content_type} ({name})"),
        None => content_type.to_string(),
    }
}
