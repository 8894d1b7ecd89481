//! Messages that are sent in pieces: the handle of the application.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use event_listener::Event;
use futures_io::AsyncRead;
use thiserror::Error;

use super::mailbox::Mailbox;
use super::streams::{BUFFER, lock};
use crate::frame::MAX_CHUNK;
use crate::sign::Piece;
use crate::{Transfer, TransferError};

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
    queue: VecDeque<Piece>,
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
        self.push(bytes.into())
    }

    /// Adds bytes, whether there is room or not.
    pub(super) fn push(&mut self, piece: Piece) -> Result<(), TransferError> {
        let len = piece.bytes.len();
        let mut out = self.outlet.lock();
        if let Some(end) = &out.end {
            return Err(end.clone().err().unwrap_or(TransferError::Closed));
        }
        let size = out.written + len as u64;
        if self
            .outlet
            .transfer
            .size()
            .is_some_and(|total| size > total)
        {
            return Err(TransferError::Size);
        }
        if len > 0 {
            out.written = size;
            self.outlet.mailbox.add_streaming(len);
            out.queued += len;
            out.queue.push_back(piece);
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
    /// Cancel safety: once it was polled, the message is complete also if the future is dropped; only its
    /// fate is not known then. Dropped before, the message is given up.
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

    pub(super) fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// Why it is to be given up, if it is.
    pub(super) fn cancelled(&self) -> Option<Arc<str>> {
        self.lock().cancelled.clone()
    }

    /// Nothing will be added.
    pub(super) fn is_finished(&self) -> bool {
        self.lock().finished
    }

    /// Nothing will be added, and the connection has everything.
    pub(super) fn is_drained(&self) -> bool {
        let out = self.lock();
        out.finished && out.queue.is_empty()
    }

    /// Takes the next bytes for the connection.
    pub(super) fn pop(&self) -> Option<Piece> {
        let mut out = self.lock();
        let piece = out.queue.pop_front()?;
        out.queued -= piece.bytes.len();
        self.mailbox.sub_streaming(piece.bytes.len());
        Some(piece)
    }

    /// Wakes whoever waits for room.
    pub(super) fn notify(&self) {
        self.changed.notify(usize::MAX);
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
