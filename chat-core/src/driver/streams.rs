//! Messages in pieces: the handles of the application, and what the task of a connection does for
//! them.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use event_listener::{Event, EventListener};
use futures_core::Stream;
use futures_io::AsyncRead;
use thiserror::Error;

use super::mailbox::Mailbox;
use crate::frame::MAX_CHUNK;
use crate::{Connection, Instant, Message, Read, Transfer, TransferError, TransferId, WriteError};

/// How many bytes wait between a handle and its connection, beyond what that holds.
const BUFFER: usize = 2 * MAX_CHUNK as usize;
/// What a stream counts, beside its bytes, as long as it is not over.
const STREAM_COST: usize = MAX_CHUNK as usize;

/// A message that is sent in pieces, of any size.
///
/// Its pieces are added with [`write`](Self::write) or [`copy_from`](Self::copy_from); it is
/// complete with [`finish`](Self::finish). Dropping it before gives it up: the other end is told,
/// and never delivers it as a whole.
pub struct SendStream {
    outlet: Arc<Outlet>,
}

/// What the handle and the task of the connection share.
pub(super) struct Outlet {
    inner: Mutex<Out>,
    /// Notified when there may be room, and at the end.
    changed: Arc<Event>,
    mailbox: Arc<Mailbox>,
    transfer: Transfer,
}

#[derive(Default)]
struct Out {
    queue: VecDeque<Bytes>,
    queued: usize,
    written: u64,
    /// Nothing will be added to the queue.
    finished: bool,
    cancelled: Option<Arc<str>>,
    end: Option<Result<(), TransferError>>,
}

impl SendStream {
    pub(super) fn new(transfer: Transfer, mailbox: Arc<Mailbox>, changed: Arc<Event>) -> Self {
        mailbox.add_streaming(STREAM_COST);
        let outlet = Outlet {
            inner: Mutex::default(),
            changed,
            mailbox,
            transfer,
        };
        Self {
            outlet: Arc::new(outlet),
        }
    }

    pub(super) fn outlet(&self) -> &Arc<Outlet> {
        &self.outlet
    }

    /// What was said of it at its beginning.
    pub fn transfer(&self) -> &Transfer {
        &self.outlet.transfer
    }

    /// Adds bytes, waiting until there is room: the other end takes a window ahead, and some wait
    /// here. Pieces of 64 KiB are best; empty ones are none.
    ///
    /// Cancel safety: if the future is dropped before it is ready, nothing was added.
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<(), TransferError> {
        let bytes = bytes.into();
        self.outlet
            .wait(|out| (out.queued < BUFFER).then_some(()))
            .await?;
        self.push(bytes)
    }

    /// Adds bytes, whether there is room or not.
    pub(super) fn push(&mut self, bytes: Bytes) -> Result<(), TransferError> {
        let mut out = self.outlet.lock();
        if let Some(end) = &out.end {
            return Err(end.clone().err().unwrap_or(TransferError::Closed));
        }
        let size = out.written + bytes.len() as u64;
        if self
            .outlet
            .transfer
            .size()
            .is_some_and(|total| size > total)
        {
            return Err(TransferError::Size);
        }
        if !bytes.is_empty() {
            out.written = size;
            self.outlet.mailbox.add_streaming(bytes.len());
            out.queued += bytes.len();
            out.queue.push_back(bytes);
            drop(out);
            self.outlet.mailbox.wake();
        }
        Ok(())
    }

    /// Adds everything that a reader has, and returns how many bytes that were.
    ///
    /// Cancel safety: bytes that were read are lost with the future.
    pub async fn copy_from<R: AsyncRead + Unpin>(
        &mut self,
        mut reader: R,
    ) -> Result<u64, CopyError> {
        let mut copied = 0;
        loop {
            let mut piece = BytesMut::zeroed(MAX_CHUNK as usize);
            let mut filled = 0;
            // Pieces that are full cost the least.
            while filled < piece.len() {
                let rest = &mut piece[filled..];
                let read = poll_fn(|cx| Pin::new(&mut reader).poll_read(cx, rest)).await;
                match read.map_err(CopyError::Read)? {
                    0 => break,
                    read => filled += read,
                }
            }
            piece.truncate(filled);
            if filled == 0 {
                return Ok(copied);
            }
            self.write(piece.freeze()).await?;
            copied += filled as u64;
        }
    }

    /// Completes it, and waits until the other end has taken all of it.
    ///
    /// An error says why it was given up. [`TransferError::Size`]: fewer bytes were added than were
    /// declared.
    ///
    /// Cancel safety: the message is complete also if the future is dropped; only its fate is not
    /// known then.
    pub async fn finish(self) -> Result<(), TransferError> {
        self.complete();
        self.outlet
            .wait(|out| out.end.clone())
            .await
            .and_then(|end| end)
    }

    /// Completes it. Its fate is not known then.
    pub(super) fn complete(&self) {
        self.outlet.lock().finished = true;
        self.outlet.mailbox.wake();
    }

    /// Gives it up; the other end is told why.
    pub fn cancel(self, reason: &str) {
        self.outlet.cancel(reason);
    }

    /// How many bytes were added.
    pub fn written(&self) -> u64 {
        self.outlet.lock().written
    }

    /// How many of them the connection has taken: all but those that wait here. It has a window and
    /// a few pieces under way.
    pub fn sent(&self) -> u64 {
        let out = self.outlet.lock();
        out.written - out.queued as u64
    }

    /// Why it is over, if it is.
    pub(super) fn failed(&self) -> Option<TransferError> {
        self.outlet.lock().end.clone()?.err()
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.outlet.cancel("cancelled by its sender");
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream")
            .field("transfer", &self.outlet.transfer)
            .field("written", &self.written())
            .finish_non_exhaustive()
    }
}

/// Why [`SendStream::copy_from`] failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The reader failed.
    #[error("cannot read: {0}")]
    Read(io::Error),
    /// The transfer was given up.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl Outlet {
    fn lock(&self) -> MutexGuard<'_, Out> {
        lock(&self.inner)
    }

    /// Waits until `check` has an answer, or the transfer has failed.
    async fn wait<T>(&self, check: impl Fn(&Out) -> Option<T>) -> Result<T, TransferError> {
        loop {
            let changed = self.changed.listen();
            {
                let out = self.lock();
                if let Some(Err(error)) = &out.end {
                    return Err(error.clone());
                }
                if let Some(answer) = check(&out) {
                    return Ok(answer);
                }
            }
            changed.await;
        }
    }

    /// Does nothing to one that is complete.
    fn cancel(&self, reason: &str) {
        let mut out = self.lock();
        if out.finished || out.end.is_some() {
            return;
        }
        out.cancelled.get_or_insert_with(|| reason.into());
        drop(out);
        self.mailbox.wake();
    }

    pub(super) fn end(&self, end: Result<(), TransferError>) {
        let mut out = self.lock();
        if out.end.is_none() {
            out.end = Some(end);
            self.mailbox.sub_streaming(STREAM_COST + out.queued);
            out.queue = VecDeque::new();
            out.queued = 0;
        }
        drop(out);
        self.changed.notify(usize::MAX);
    }

    /// What waits for the connection, in all its streams, in bytes.
    pub(super) fn session_lag(&self) -> u64 {
        self.mailbox.streaming()
    }
}

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
struct Inlet {
    inner: Mutex<In>,
    arrived: Event,
    mailbox: Arc<Mailbox>,
    transfer: Transfer,
}

#[derive(Default)]
struct In {
    queue: VecDeque<Bytes>,
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
        poll_fn(|cx| self.poll_piece(cx)).await
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

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransferError>>> {
        loop {
            let mut inner = lock(&self.inlet.inner);
            if let Some(piece) = inner.queue.pop_front() {
                let was_full = inner.queued >= BUFFER;
                inner.queued -= piece.len();
                inner.received += piece.len() as u64;
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
        self.poll_piece(cx)
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

    fn end(&self, end: Result<(), TransferError>) {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code panics while it holds the lock halfway through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The transfers of one connection that have handles.
#[derive(Default)]
pub(super) struct Streams {
    sending: Vec<Sending>,
    receiving: Vec<(TransferId, Arc<Inlet>)>,
}

struct Sending {
    /// `None` until the connection knows of it.
    id: Option<TransferId>,
    outlet: Arc<Outlet>,
    /// The connection was told that this is all.
    finished: bool,
}

impl Streams {
    pub(super) fn is_empty(&self) -> bool {
        self.sending.is_empty() && self.receiving.is_empty()
    }

    /// Whether a message that is complete waits for the connection.
    pub(super) fn has_queued(&self) -> bool {
        let waits = |it: &Sending| !it.finished && it.outlet.lock().finished;
        self.sending.iter().any(waits)
    }

    /// Takes a message in that begins to arrive.
    pub(super) fn accept(
        &mut self,
        id: TransferId,
        transfer: Transfer,
        mailbox: &Arc<Mailbox>,
    ) -> Incoming {
        let inlet = Arc::new(Inlet {
            inner: Mutex::default(),
            arrived: Event::new(),
            mailbox: Arc::clone(mailbox),
            transfer,
        });
        self.receiving.push((id, Arc::clone(&inlet)));
        Incoming {
            inlet,
            arrived: None,
            over: false,
        }
    }

    /// Takes over what the application begins to send.
    pub(super) fn begin(&mut self, outlet: Arc<Outlet>) {
        self.sending.push(Sending {
            id: None,
            outlet,
            finished: false,
        });
    }

    /// Moves bytes between the handles and the connection, as far as there is room.
    pub(super) fn pump(&mut self, connection: &mut Connection, now: Instant) {
        self.sending.retain_mut(|it| !it.pump(connection, now));
        let receiving = &mut self.receiving;
        receiving.retain(|(id, inlet)| !take(inlet, connection, *id, now, Some(BUFFER)));
        if self.is_empty() {
            // An idle connection holds no buffers.
            *self = Self::default();
        }
    }

    /// A transfer of this end is over.
    pub(super) fn end(&mut self, id: TransferId, end: Result<(), TransferError>) {
        if let Some(index) = self.sending.iter().position(|it| it.id == Some(id)) {
            self.sending.swap_remove(index).outlet.end(end);
        }
    }

    /// The connection is over: what it still holds can be read.
    pub(super) fn close(&mut self, connection: &mut Connection, now: Instant) {
        for it in self.sending.drain(..) {
            it.outlet.end(Err(TransferError::Closed));
        }
        for (id, inlet) in self.receiving.drain(..) {
            take(&inlet, connection, id, now, None);
            inlet.end(Err(TransferError::Closed));
        }
    }
}

impl Sending {
    /// True when there is nothing more to do for it.
    fn pump(&mut self, connection: &mut Connection, now: Instant) -> bool {
        let outlet = &*self.outlet;
        let cancelled = outlet.lock().cancelled.clone();
        if let Some(reason) = cancelled {
            if let Some(id) = self.id {
                connection.cancel(now, id, &reason);
            }
            outlet.end(Err(TransferError::Closed));
            return true;
        }
        let id = match self.id {
            Some(id) => id,
            None => match connection.open(now, outlet.transfer.clone()) {
                Ok(id) => *self.id.insert(id),
                Err(error) => {
                    outlet.end(Err(error.into()));
                    return true;
                }
            },
        };
        let mut moved = false;
        while connection.writable(id) > 0 {
            let mut out = outlet.lock();
            let Some(piece) = out.queue.pop_front() else {
                break;
            };
            out.queued -= piece.len();
            outlet.mailbox.sub_streaming(piece.len());
            drop(out);
            // Signing takes its time: not under the lock. What fails is told at the end.
            let _ = connection.write(now, id, piece);
            moved = true;
        }
        if moved {
            outlet.changed.notify(usize::MAX);
        }
        let complete = {
            let out = outlet.lock();
            out.finished && out.queue.is_empty() && !self.finished
        };
        if complete {
            self.finished = true;
            if connection.finish(now, id) == Err(WriteError::Size) {
                connection.cancel(now, id, "its sender has less of it than it said");
                outlet.end(Err(TransferError::Size));
                return true;
            }
        }
        false
    }
}

/// Takes what has arrived, until `limit` bytes wait, or everything; true at the end.
fn take(
    inlet: &Inlet,
    connection: &mut Connection,
    id: TransferId,
    now: Instant,
    limit: Option<usize>,
) -> bool {
    let mut moved = false;
    let end = loop {
        let mut inner = lock(&inlet.inner);
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
        match connection.read(now, id) {
            Some(Read::Piece(piece)) => {
                inner.queued += piece.len();
                inner.queue.push_back(piece);
                inner.asked = false;
                moved = true;
            }
            Some(Read::End) => break Some(Ok(())),
            Some(Read::Failed(error)) => break Some(Err(error)),
            None => break None,
        }
    };
    let over = end.is_some();
    match end {
        Some(end) => inlet.end(end),
        None if moved => _ = inlet.arrived.notify(usize::MAX),
        None => {}
    }
    over
}
