//! What the users of a connection tell the task that drives it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use event_listener::Event;

use crate::{CloseReason, Config, Instant, Message, SendError, Stats};

/// What a queued message costs beyond its content.
const OVERHEAD: usize = 128;

/// The queue between the handles of a connection and its task. Nobody waits for the other: a full
/// queue says so.
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    /// Notified when there may be room, when messages have been sent, and at the end.
    changed: Event,
    /// The most that `Inner::bytes` may be, unless the queue holds a single message.
    limit: usize,
    config: Config,
}

pub(super) struct Inner {
    pub(super) queue: VecDeque<Outgoing>,
    bytes: usize,
    /// Messages ever queued.
    queued: u64,
    /// Of these, taken whole by a transport.
    sent: u64,
    /// Of these, lost with a connection that ended.
    pub(super) lost: u64,
    pub(super) close: Option<Close>,
    /// The connection is to end at once, whatever waits.
    pub(super) kill: bool,
    end: Option<CloseReason>,
    pub(super) stats: Stats,
    pub(super) heard: Instant,
    task: Option<Waker>,
}

pub(super) enum Outgoing {
    Message(Message),
    Error(String),
}

/// A wish to close.
#[derive(Clone)]
pub(super) struct Close {
    pub(super) reason: Box<str>,
    /// Without sending what is queued.
    pub(super) abort: bool,
}

impl Mailbox {
    pub(super) fn new(config: Config, limit: usize, now: Instant) -> Self {
        Self {
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                bytes: 0,
                queued: 0,
                sent: 0,
                lost: 0,
                close: None,
                kill: false,
                end: None,
                stats: Stats::default(),
                heard: now,
                task: None,
            }),
            changed: Event::new(),
            limit,
            config,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code panics while it holds the lock halfway through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message, or hands it back.
    pub(super) fn send(&self, message: Message) -> Result<(), SendError> {
        let message = self.config.check(message)?;
        let cost = message.content().len() + OVERHEAD;
        let mut inner = self.lock();
        if inner.end.is_some() || inner.close.is_some() {
            return Err(SendError::Closed(message));
        }
        if !inner.queue.is_empty() && inner.bytes + cost > self.limit {
            return Err(SendError::Full(message));
        }
        inner.bytes += cost;
        inner.queued += 1;
        inner.queue.push_back(Outgoing::Message(message));
        inner.wake();
        Ok(())
    }

    /// Queues a message as soon as there is room.
    pub(super) async fn send_wait(&self, message: Message) -> Result<(), SendError> {
        let mut message = message;
        loop {
            message = match self.send(message) {
                Err(SendError::Full(message)) => message,
                done => return done,
            };
            // Listen first, then look again: room made in between is not missed.
            let changed = self.changed.listen();
            message = match self.send(message) {
                Err(SendError::Full(message)) => message,
                done => return done,
            };
            changed.await;
        }
    }

    /// Queues an error text; drops it where there is no room.
    pub(super) fn send_error(&self, text: &str) {
        let mut inner = self.lock();
        if inner.end.is_none() && inner.close.is_none() && inner.bytes < self.limit {
            inner.bytes += text.len() + OVERHEAD;
            inner.queue.push_back(Outgoing::Error(text.into()));
            inner.wake();
        }
    }

    /// Asks for the end of the connection. The first wish counts; an abort overrides a close.
    pub(super) fn close(&self, reason: &str, abort: bool) {
        let mut inner = self.lock();
        match &mut inner.close {
            None => {
                inner.close = Some(Close {
                    reason: reason.into(),
                    abort,
                });
            }
            Some(close) => close.abort |= abort,
        }
        inner.wake();
    }

    /// Asks for the end of the connection now.
    pub(super) fn kill(&self) {
        let mut inner = self.lock();
        inner.kill = true;
        inner.wake();
    }

    /// Bytes in the queue, overhead included.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn end(&self) -> Option<CloseReason> {
        self.lock().end.clone()
    }

    /// The end of everything: what is queued is lost.
    pub(super) fn finish(&self, reason: CloseReason) {
        let mut inner = self.lock();
        inner.lost += inner.queue.drain(..).filter(Outgoing::is_message).count() as u64;
        inner.bytes = 0;
        inner.end = Some(reason);
        drop(inner);
        self.notify();
    }

    /// Wakes whoever waits for room, for a flush or for the end.
    pub(super) fn notify(&self) {
        self.changed.notify(usize::MAX);
    }

    /// Waits until every message queued so far has been taken by the transport. Returns how many
    /// messages were lost while waiting.
    pub(super) async fn flush(&self) -> u64 {
        let (target, lost) = {
            let inner = self.lock();
            (inner.queued, inner.lost)
        };
        self.wait(|inner| {
            (inner.sent + inner.lost >= target || inner.end.is_some()).then(|| inner.lost - lost)
        })
        .await
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> CloseReason {
        self.wait(|inner| inner.end.clone()).await
    }

    /// Waits until `check` has an answer.
    async fn wait<T>(&self, check: impl Fn(&Inner) -> Option<T>) -> T {
        loop {
            let changed = self.changed.listen();
            if let Some(answer) = check(&self.lock()) {
                return answer;
            }
            changed.await;
        }
    }
}

impl Inner {
    /// Takes the next message from the queue.
    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        let outgoing = self.queue.pop_front()?;
        self.bytes -= OVERHEAD
            + match &outgoing {
                Outgoing::Message(message) => message.content().len(),
                Outgoing::Error(text) => text.len(),
            };
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            // An idle connection holds no buffers.
            self.queue = VecDeque::new();
        }
        Some(outgoing)
    }

    /// Drops what is queued.
    pub(super) fn clear(&mut self) {
        while let Some(outgoing) = self.pop() {
            self.lost += u64::from(outgoing.is_message());
        }
    }

    /// Notes how many messages transports have taken; true if that is more than before.
    pub(super) fn set_sent(&mut self, sent: u64) -> bool {
        let more = sent > self.sent;
        self.sent = sent;
        more
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The task of the connection is to be woken by the next change.
    pub(super) fn register(&mut self, cx: &Context<'_>) {
        match &mut self.task {
            Some(task) => task.clone_from(cx.waker()),
            task => *task = Some(cx.waker().clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

impl Outgoing {
    pub(super) fn is_message(&self) -> bool {
        matches!(self, Self::Message(_))
    }
}
