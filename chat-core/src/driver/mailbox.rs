//! What the users of a connection tell the task that drives it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use event_listener::Event;

use crate::message::OVERHEAD;
use crate::{CloseReason, Config, Instant, Message, SendError, Stats};

/// The queue between the handles of a connection and its task. Nobody waits for the other: a full
/// queue says so.
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    /// Notified when there may be room, when messages have been sent, and at the end.
    changed: Event,
    /// The most that `Inner::bytes` may be, unless the queue holds a single message.
    limit: usize,
    config: Arc<Config>,
}

pub(super) struct Inner {
    queue: VecDeque<Outgoing>,
    bytes: usize,
    /// Messages ever queued.
    queued: u64,
    /// Of these, taken whole by a transport.
    sent: u64,
    /// Of these, lost with a connection that ended.
    lost: u64,
    /// Of these, those that a `flush` has reported.
    reported: u64,
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
pub(super) struct Close {
    pub(super) reason: Arc<str>,
    /// Without sending what is queued.
    pub(super) abort: bool,
}

impl Mailbox {
    pub(super) fn new(config: Arc<Config>, limit: usize, now: Instant) -> Self {
        Self {
            inner: Mutex::new(Inner {
                queue: VecDeque::new(),
                bytes: 0,
                queued: 0,
                sent: 0,
                lost: 0,
                reported: 0,
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
        let cost = message.cost();
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
        drop(inner);
        // Whoever waits for room waits in vain.
        self.notify();
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

    /// A connection is over: so many of its messages were lost, and one may have to wait for the
    /// next. Returns the reason to close for, if there is to be no next one.
    pub(super) fn settle(&self, lost: u64, waiting: Option<Outgoing>) -> Option<Arc<str>> {
        let mut inner = self.lock();
        inner.lost += lost;
        if let Some(outgoing) = waiting {
            inner.bytes += outgoing.cost();
            inner.queue.push_front(outgoing);
        }
        let closing = inner.close.as_ref().map(|close| Arc::clone(&close.reason));
        drop(inner);
        self.notify();
        closing
    }

    /// The end of everything: what is queued is lost. Returns how many messages those were.
    pub(super) fn finish(&self, reason: CloseReason) -> u64 {
        let mut inner = self.lock();
        let lost = inner.lost;
        inner.clear();
        inner.end.get_or_insert(reason);
        inner.task = None;
        let lost = inner.lost - lost;
        drop(inner);
        self.notify();
        lost
    }

    /// Wakes whoever waits for room, for a flush or for the end.
    pub(super) fn notify(&self) {
        self.changed.notify(usize::MAX);
    }

    /// Waits until every message queued so far has been taken by the transport. Returns how many
    /// messages were lost that no earlier call has reported.
    pub(super) async fn flush(&self) -> u64 {
        let target = self.lock().queued;
        self.wait(|inner| {
            let done = inner.sent + inner.lost >= target || inner.end.is_some();
            done.then(|| inner.lost - std::mem::replace(&mut inner.reported, inner.lost))
        })
        .await
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) -> CloseReason {
        self.wait(|inner| inner.end.clone()).await
    }

    /// Waits until `check` has an answer.
    async fn wait<T>(&self, check: impl Fn(&mut Inner) -> Option<T>) -> T {
        loop {
            let changed = self.changed.listen();
            if let Some(answer) = check(&mut self.lock()) {
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
        self.bytes -= outgoing.cost();
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            // An idle connection holds no buffers.
            self.queue = VecDeque::new();
        }
        Some(outgoing)
    }

    /// The reason to close for, once everything queued has been taken.
    pub(super) fn reason_to_close(&self) -> Option<Arc<str>> {
        let close = self.close.as_ref().filter(|_| self.queue.is_empty())?;
        Some(Arc::clone(&close.reason))
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
    fn cost(&self) -> usize {
        match self {
            Self::Message(message) => message.cost(),
            Self::Error(text) => text.len() + OVERHEAD,
        }
    }

    pub(super) fn is_message(&self) -> bool {
        matches!(self, Self::Message(_))
    }
}
