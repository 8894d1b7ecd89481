//! What a client has received, until the application takes it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use event_listener::{Event, IntoNotification};
use uuid::Uuid;

use super::Incoming;
use crate::message::OVERHEAD;
use crate::{CloseReason, ContentType, Message, Security, TransferError};

/// What a client receives.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// A session was established; after the first one, by reconnecting.
    Connected {
        /// Its id, new with each connection.
        session: Uuid,
        /// What its authentication is worth.
        security: Security,
    },
    /// A message came.
    Message(Message),
    /// A message begins to come in pieces, with [`Receive::Pieces`](crate::Receive::Pieces).
    ///
    /// Take it in a task of its own, or go on receiving meanwhile: while so many events wait that
    /// nothing is read from the server, the rest of it does not come either.
    Incoming(Incoming),
    /// The server reports an error.
    Error(String),
    /// A message that was sent did not arrive: the server gave it up, or does not take as large
    /// ones.
    Undelivered {
        /// What its content was.
        content_type: ContentType,
        /// Its size in bytes.
        size: u64,
        /// Why.
        error: TransferError,
    },
    /// The connection is over.
    Disconnected {
        /// Why.
        reason: CloseReason,
        /// How many messages the socket had not taken whole; without a retry, those still queued
        /// too, and those of which it was heard while the client closed that they are
        /// [undelivered](Self::Undelivered). What the socket had taken may not have arrived either: only
        /// an answer of the peer tells.
        lost: u64,
        /// When it is tried again. `None`: never, this is the last event.
        retry_in: Option<Duration>,
    },
}

/// The events that wait for the application.
pub(super) struct Inbox {
    inner: Mutex<Inner>,
    arrived: Event,
    limit: usize,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<ClientEvent>,
    bytes: usize,
    /// No event will follow.
    done: bool,
    /// Nobody will receive any more.
    abandoned: bool,
    /// Messages that did not arrive, of which nobody was told since.
    untold: u64,
    task: Option<Waker>,
}

impl Inbox {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            inner: Mutex::default(),
            arrived: Event::new(),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more event may be pushed; otherwise the task is woken when it may.
    pub(super) fn poll_room(&self, cx: &Context<'_>) -> bool {
        let mut inner = self.lock();
        if inner.queue.is_empty() || inner.bytes < self.limit || inner.abandoned {
            return true;
        }
        inner.task = Some(cx.waker().clone());
        false
    }

    pub(super) fn push(&self, mut event: ClientEvent) {
        let mut inner = self.lock();
        if inner.abandoned || inner.done {
            // The end tells of it.
            inner.untold += u64::from(matches!(event, ClientEvent::Undelivered { .. }));
            return;
        }
        if let ClientEvent::Disconnected { lost, .. } = &mut event
            && let Some(ClientEvent::Disconnected { lost: before, .. }) = inner.queue.back()
        {
            // Attempts that fail while nobody looks: the last one counts.
            *lost += before;
            inner.queue.pop_back();
            inner.bytes -= OVERHEAD;
        }
        inner.bytes += cost(&event);
        inner.queue.push_back(event);
        drop(inner);
        self.arrived.notify(1.additional());
    }

    pub(super) fn finish(&self, mut event: ClientEvent) {
        let mut inner = self.lock();
        if let ClientEvent::Disconnected { lost, .. } = &mut event {
            *lost += inner.untold;
        }
        inner.bytes += cost(&event);
        inner.queue.push_back(event);
        inner.done = true;
        inner.task = None;
        drop(inner);
        self.arrived.notify(usize::MAX);
    }

    /// What comes from now on is dropped: the connection must not wait for room.
    pub(super) fn abandon(&self) {
        let mut inner = self.lock();
        inner.abandoned = true;
        if let Some(task) = inner.task.take() {
            task.wake();
        }
    }

    pub(super) async fn recv(&self) -> Option<ClientEvent> {
        loop {
            let arrived = self.arrived.listen();
            {
                let mut inner = self.lock();
                if let Some(event) = inner.queue.pop_front() {
                    inner.bytes -= cost(&event);
                    if let Some(task) = inner.task.take() {
                        task.wake();
                    }
                    return Some(event);
                }
                if inner.done {
                    return None;
                }
            }
            arrived.await;
        }
    }
}

fn cost(event: &ClientEvent) -> usize {
    match event {
        ClientEvent::Message(message) => message.cost(),
        ClientEvent::Error(text) => text.len() + OVERHEAD,
        ClientEvent::Incoming(incoming) => {
            let transfer = incoming.transfer();
            let name = transfer.file_name().map_or(0, str::len);
            transfer.content_type().len() + name + OVERHEAD
        }
        ClientEvent::Undelivered { content_type, .. } => content_type.len() + OVERHEAD,
        ClientEvent::Connected { .. } | ClientEvent::Disconnected { .. } => OVERHEAD,
    }
}
