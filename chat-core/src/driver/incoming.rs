//! Messages that arrive in pieces: the handle of the application.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use event_listener::{Event, EventListener};
use futures_core::Stream;

use super::mailbox::Mailbox;
use super::streams::{BUFFER, lock};
use crate::sign::Piece;
use crate::{Connection, Instant, Message, Read, Transfer, TransferError, TransferId};

/// A message that arrives in pieces, of any size: a stream of them.
///
/// Not asking for the next piece makes the sender wait, and nobody else. Dropping it before its end
/// gives it up: the sender is told.
///
/// The stream ends with `None` when the message is complete, and after an error.
pub struct Incoming {
    inlet: Arc<Inlet>,
    arrived: Option<EventListener>,
    over: bool,
}

/// What the handle and the task of the connection share.
pub(super) struct Inlet {
    inner: Mutex<In>,
    arrived: Event,
    mailbox: Arc<Mailbox>,
    transfer: Transfer,
}

#[derive(Default)]
struct In {
    queue: VecDeque<Piece>,
    queued: usize,
    received: u64,
    /// Everything is here; the sender hears of it when the application has asked for more.
    complete: bool,
    asked: bool,
    /// Nobody is interested any more.
    refused: Option<Arc<str>>,
    end: Option<Result<(), TransferError>>,
}

impl Incoming {
    pub(super) fn new(transfer: Transfer, mailbox: Arc<Mailbox>) -> Self {
        let inlet = Inlet {
            inner: Mutex::default(),
            arrived: Event::new(),
            mailbox,
            transfer,
        };
        Self {
            inlet: Arc::new(inlet),
            arrived: None,
            over: false,
        }
    }

    pub(super) fn inlet(&self) -> &Arc<Inlet> {
        &self.inlet
    }

    /// What is known of the message.
    pub fn transfer(&self) -> &Transfer {
        &self.inlet.transfer
    }

    /// How many bytes of it were taken.
    pub fn received(&self) -> u64 {
        lock(&self.inlet.inner).received
    }

    /// The next piece; `None` after the last.
    ///
    /// Cancel safety: nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Bytes, TransferError>> {
        let piece = self.next_piece().await?;
        Some(piece.map(|piece| piece.bytes))
    }

    /// Takes the rest as one message, of up to `max` bytes.
    ///
    /// Cancel safety: dropping the future gives the message up.
    pub async fn collect(mut self, max: u64) -> Result<Message, TransferError> {
        let too_large = TransferError::TooLarge { max };
        let mut content = BytesMut::new();
        while let Some(piece) = self.next().await {
            let piece = piece?;
            if (content.len() + piece.len()) as u64 > max {
                self.refuse(&too_large.to_string());
                return Err(too_large);
            }
            content.extend_from_slice(&piece);
        }
        let content_type = self.transfer().content_type().clone();
        Ok(Message::new(content_type, content.freeze()))
    }

    /// Whether it was given up; otherwise the task is woken when something comes, or nothing more.
    pub(super) fn poll_failed(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if let Some(Err(_)) = lock(&self.inlet.inner).end {
                return true;
            }
            let arrived = self
                .arrived
                .get_or_insert_with(|| self.inlet.arrived.listen());
            if Pin::new(arrived).poll(cx).is_pending() {
                // Again: it may have come before this was heard.
                return matches!(lock(&self.inlet.inner).end, Some(Err(_)));
            }
            self.arrived = None;
        }
    }

    /// Gives it up; the sender is told why.
    pub fn refuse(self, reason: &str) {
        self.inlet.refuse(reason);
    }

    /// The next piece, and its digest if that is known.
    pub(super) async fn next_piece(&mut self) -> Option<Result<Piece, TransferError>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, TransferError>>> {
        loop {
            let mut inner = lock(&self.inlet.inner);
            if let Some(piece) = inner.queue.pop_front() {
                let was_full = inner.queued >= BUFFER;
                inner.queued -= piece.bytes.len();
                inner.received += piece.bytes.len() as u64;
                let has_room = was_full && inner.queued < BUFFER;
                drop(inner);
                if has_room {
                    self.inlet.mailbox.wake();
                }
                return Poll::Ready(Some(Ok(piece)));
            }
            if let Some(end) = &inner.end {
                let error = end.clone().err().filter(|_| !self.over);
                self.over = true;
                return Poll::Ready(error.map(Err));
            }
            let first = !std::mem::replace(&mut inner.asked, true);
            let tell = first && inner.complete;
            drop(inner);
            if tell {
                self.inlet.mailbox.wake();
            }
            match &mut self.arrived {
                // Listen first, then look again: what comes in between is not missed.
                None => self.arrived = Some(self.inlet.arrived.listen()),
                Some(arrived) => {
                    ready!(Pin::new(arrived).poll(cx));
                    self.arrived = None;
                }
            }
        }
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, TransferError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = ready!(self.poll_piece(cx));
        Poll::Ready(piece.map(|piece| piece.map(|piece| piece.bytes)))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.inlet.refuse("not wanted");
    }
}

impl PartialEq for Incoming {
    /// Whether it is the same one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inlet, &other.inlet)
    }
}

impl Eq for Incoming {}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("transfer", &self.inlet.transfer)
            .field("received", &self.received())
            .finish_non_exhaustive()
    }
}

impl Inlet {
    fn refuse(&self, reason: &str) {
        let mut inner = lock(&self.inner);
        if inner.end.is_some() && inner.queue.is_empty() {
            return;
        }
        inner.refused.get_or_insert_with(|| reason.into());
        inner.queue = VecDeque::new();
        inner.queued = 0;
        drop(inner);
        self.mailbox.wake();
    }

    /// Takes what has arrived, until `limit` bytes wait, or everything; true at the end.
    pub(super) fn take(
        &self,
        connection: &mut Connection,
        id: TransferId,
        now: Instant,
        limit: Option<usize>,
    ) -> bool {
        let mut moved = false;
        let end = loop {
            let mut inner = lock(&self.inner);
            if let Some(reason) = inner.refused.clone() {
                inner.end = Some(Err(TransferError::Closed));
                drop(inner);
                connection.cancel(now, id, &reason);
                return true;
            }
            if limit.is_some_and(|limit| inner.queued >= limit) && !connection.is_failed(id) {
                break None;
            }
            inner.complete = connection.is_complete(id);
            if inner.complete && !inner.asked && limit.is_some() {
                // It is done when the application says so, by asking for more.
                break None;
            }
            match connection.read_digested(now, id) {
                Some((Read::Piece(bytes), digest)) => {
                    inner.queued += bytes.len();
                    inner.queue.push_back(Piece { bytes, digest });
                    inner.asked = false;
                    moved = true;
                }
                Some((Read::End, _)) => break Some(Ok(())),
                Some((Read::Failed(error), _)) => break Some(Err(error)),
                None => break None,
            }
        };
        let over = end.is_some();
        match end {
            Some(end) => self.end(end),
            None if moved => _ = self.arrived.notify(usize::MAX),
            None => {}
        }
        over
    }

    pub(super) fn end(&self, end: Result<(), TransferError>) {
        let mut inner = lock(&self.inner);
        if inner.end.is_none() {
            if end.is_err() {
                // It will never be whole.
                inner.queue = VecDeque::new();
                inner.queued = 0;
            }
            inner.end = Some(end);
        }
        drop(inner);
        self.arrived.notify(usize::MAX);
    }
}
