//! What the users of a connection tell the task that drives it.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use event_listener::Event;

use super::send_stream::{Outlet, SendStream};
use crate::message::OVERHEAD;
use crate::{
    CloseReason, Config, Instant, Message, OpenError, Security, SendError, Stats, Transfer,
    TransferError,
};

/// So many bytes of messages are taken with one lock.
const BATCH: usize = 16 * 1024;

/// The queue between the handles of a connection and its task. Nobody waits for the other: a full
/// queue says so.
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    /// Bytes of streams that wait for the connection.
    streaming: AtomicUsize,
    /// Bytes of messages, overhead included: what `Inner` says, to be read without its lock.
    bytes: AtomicUsize,
    /// Notified when there may be room, when messages have been sent, and at the end.
    changed: Event,
    /// The most that `Inner::bytes` may be, unless the queue holds a single message.
    limit: usize,
    config: Arc<Config>,
}

/// The mailbox, locked.
pub(super) struct Locked<'m> {
    inner: MutexGuard<'m, Inner>,
    shown: &'m AtomicUsize,
}

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.shown
            .store(self.inner.queued_bytes(), Ordering::Relaxed);
    }
}

pub(super) struct Inner {
    /// Messages that go out in one piece, and errors.
    queue: VecDeque<Outgoing>,
    /// What `queue` costs.
    bytes: usize,
    /// What most connections have none of.
    chunked: Option<Box<Chunked>>,
    /// What the peer takes, while there is one.
    peer: Option<PeerLimits>,
    /// Messages ever queued.
    queued: u64,
    /// Of these, taken whole by a transport.
    sent: u64,
    /// Of these, lost with a connection that ended.
    lost: u64,
    /// Of these, those that this end has dropped, and that the end will tell of.
    dropped: u64,
    /// Of these, those that the connection at hand has given up.
    aborted: u64,
    /// Of these, those that a `flush` has reported.
    reported: u64,
    pub(super) close: Option<Box<Close>>,
    /// The connection is to end at once, whatever waits.
    pub(super) kill: bool,
    end: Option<Box<CloseReason>>,
    pub(super) stats: Stats,
    pub(super) heard: Instant,
    task: Option<Waker>,
}

/// What goes out in chunks.
#[derive(Default)]
struct Chunked {
    /// Messages: nobody waits for them.
    queue: VecDeque<Message>,
    /// What `queue` costs.
    bytes: usize,
    /// Streams that the task does not know of yet.
    opening: Vec<Arc<Outlet>>,
}

/// What is known of the peer of an established connection.
#[derive(Clone, Copy)]
pub(super) struct PeerLimits {
    /// The largest message that goes out in one piece.
    pub(super) threshold: usize,
    /// The largest message.
    pub(super) message: u64,
    /// The largest stream, if streams are taken at all.
    pub(super) stream: Option<u64>,
    pub(super) security: Security,
    /// The channel is: messages are not signed.
    pub(super) trusted: bool,
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
                chunked: None,
                peer: None,
                queued: 0,
                sent: 0,
                lost: 0,
                dropped: 0,
                aborted: 0,
                reported: 0,
                close: None,
                kill: false,
                end: None,
                stats: Stats::default(),
                heard: now,
                task: None,
            }),
            streaming: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            changed: Event::new(),
            limit,
            config,
        }
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        Locked {
            // No code panics while it holds the lock halfway through a change.
            inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner),
            shown: &self.bytes,
        }
    }

    /// Queues a message, or hands it back.
    pub(super) fn send(&self, message: Message) -> Result<(), SendError> {
        let message = self.config.check(message)?;
        let cost = message.cost();
        let mut inner = self.lock();
        if inner.end.is_some() || inner.close.is_some() {
            return Err(SendError::Closed(message));
        }
        if let Some(peer) = inner.peer
            && message.content().len() as u64 > peer.message
        {
            return Err(SendError::TooLarge(message));
        }
        let large = inner.is_large(&message);
        let (len, bytes) = if large {
            let chunked = inner.chunked.as_deref();
            chunked.map_or((0, 0), |it| (it.queue.len(), it.bytes))
        } else {
            (inner.queue.len(), inner.bytes)
        };
        if len > 0 && bytes + cost > self.limit && !planted!("the outbox has no limit") {
            return Err(SendError::Full(message));
        }
        inner.queued += 1;
        inner.push(message, large);
        inner.wake();
        Ok(())
    }

    /// Begins a stream.
    pub(super) fn open(
        self: &Arc<Self>,
        transfer: Transfer,
        changed: Arc<Event>,
    ) -> Result<SendStream, OpenError> {
        if !Config::is_content_type(transfer.content_type()) {
            return Err(OpenError::ContentType);
        }
        let mut inner = self.lock();
        if inner.end.is_some() || inner.close.is_some() {
            return Err(OpenError::Closed);
        }
        let peer = inner.peer.ok_or(OpenError::NotEstablished)?;
        let max = peer.stream.ok_or(OpenError::Unsupported)?;
        if transfer.size().is_some_and(|size| size > max) {
            return Err(OpenError::TooLarge { max });
        }
        let stream = SendStream::new(transfer, Arc::clone(self), changed);
        let chunked = inner.chunked.get_or_insert_default();
        chunked.opening.push(Arc::clone(stream.outlet()));
        inner.wake();
        Ok(stream)
    }

    /// The largest message that is taken, in bytes.
    pub(super) fn max_message(&self) -> u64 {
        let peer = self.lock().peer;
        peer.map_or_else(|| self.config.largest_sent(), |peer| peer.message)
    }

    /// The largest stream that is taken, in bytes, if any is.
    pub(super) fn max_stream(&self) -> Option<u64> {
        self.lock().peer?.stream
    }

    /// What the authentication of the connection is worth, if there is one.
    pub(super) fn security(&self) -> Option<Security> {
        Some(self.lock().peer?.security)
    }

    /// Whether the channel of the connection is trusted, if there is one.
    pub(super) fn is_trusted(&self) -> bool {
        self.lock().peer.is_some_and(|peer| peer.trusted)
    }

    /// Bytes of streams that wait for the connection.
    pub(super) fn streaming(&self) -> u64 {
        self.streaming.load(Ordering::Relaxed) as u64
    }

    pub(super) fn add_streaming(&self, bytes: usize) {
        self.streaming.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn sub_streaming(&self, bytes: usize) {
        self.streaming.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Has the task look at what has changed.
    pub(super) fn wake(&self) {
        self.lock().wake();
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
                inner.close = Some(Box::new(Close {
                    reason: reason.into(),
                    abort,
                }));
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

    /// Bytes of messages, overhead included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes the next messages from the queue, as many as are worth one lock.
    pub(super) fn pop_some(&self, into: &mut VecDeque<Outgoing>) {
        let mut inner = self.lock();
        let mut bytes = 0;
        while bytes < BATCH
            && let Some(outgoing) = inner.pop()
        {
            bytes += outgoing.cost();
            into.push_back(outgoing);
        }
    }

    /// Lets go of the queues, if they are empty.
    pub(super) fn release_buffers(&self) {
        let mut inner = self.lock();
        if inner.queue.is_empty() {
            inner.queue = VecDeque::new();
        }
        let is_idle = |it: &mut Box<Chunked>| it.queue.is_empty() && it.opening.is_empty();
        inner.chunked.take_if(is_idle);
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn end(&self) -> Option<CloseReason> {
        self.lock().end.as_deref().cloned()
    }

    /// A connection is over: so many of its messages were lost, and some may have to wait for the
    /// next. Returns the reason to close for, if there is to be no next one.
    pub(super) fn settle(&self, unsent: Unsent) -> Option<Arc<str>> {
        let mut inner = self.lock();
        inner.lost += unsent.lost;
        // Which of them are large the next connection says.
        let chunked = inner.chunked.take().unwrap_or_default();
        inner.peer = None;
        inner.aborted = 0;
        for message in chunked.queue.into_iter().rev() {
            inner.push_front(Outgoing::Message(message));
        }
        for outgoing in unsent.waiting.into_iter().rev() {
            inner.push_front(outgoing);
        }
        let closing = inner.close.as_ref().map(|close| Arc::clone(&close.reason));
        drop(inner);
        for outlet in chunked.opening {
            outlet.end(Err(TransferError::Closed));
        }
        self.notify();
        closing
    }

    /// The end of everything: what is queued is lost. Returns how many messages those were, with what was
    /// dropped before.
    pub(super) fn finish(&self, reason: CloseReason) -> u64 {
        let mut inner = self.lock();
        inner.clear();
        inner.end.get_or_insert_with(|| Box::new(reason));
        inner.task = None;
        let lost = std::mem::take(&mut inner.dropped);
        let opening = inner.pop_opening();
        drop(inner);
        for outlet in opening {
            outlet.end(Err(TransferError::Closed));
        }
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
        self.wait(|inner| inner.end.as_deref().cloned()).await
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

/// What a connection that is over did not send.
pub(super) struct Unsent {
    /// Messages that were handed to it.
    pub(super) lost: u64,
    /// What it had no room for.
    pub(super) waiting: VecDeque<Outgoing>,
}

impl Inner {
    fn is_large(&self, message: &Message) -> bool {
        let threshold = self.peer.map_or(usize::MAX, |peer| peer.threshold);
        message.content().len() > threshold
    }

    fn push(&mut self, message: Message, large: bool) {
        if large {
            let chunked = self.chunked.get_or_insert_default();
            chunked.bytes += message.cost();
            chunked.queue.push_back(message);
        } else {
            self.bytes += message.cost();
            self.queue.push_back(Outgoing::Message(message));
        }
    }

    fn push_front(&mut self, outgoing: Outgoing) {
        self.bytes += outgoing.cost();
        self.queue.push_front(outgoing);
    }

    /// Bytes of messages, overhead included.
    pub(super) fn queued_bytes(&self) -> usize {
        self.bytes + self.chunked.as_ref().map_or(0, |it| it.bytes)
    }

    /// There is a peer: what is queued is sorted by how it goes out.
    pub(super) fn set_peer(&mut self, peer: PeerLimits) {
        self.peer = Some(peer);
        for outgoing in std::mem::take(&mut self.queue) {
            self.bytes -= outgoing.cost();
            match outgoing {
                Outgoing::Message(message) => {
                    let large = self.is_large(&message);
                    self.push(message, large);
                }
                error @ Outgoing::Error(_) => {
                    self.bytes += error.cost();
                    self.queue.push_back(error);
                }
            }
        }
    }

    /// Takes the next message that goes out in chunks.
    pub(super) fn pop_large(&mut self) -> Option<Message> {
        let chunked = self.chunked.as_mut()?;
        let message = chunked.queue.pop_front()?;
        chunked.bytes -= message.cost();
        if chunked.queue.is_empty() {
            // An idle connection holds no buffers.
            chunked.queue = VecDeque::new();
        }
        Some(message)
    }

    /// Takes the streams that were begun.
    pub(super) fn pop_opening(&mut self) -> Vec<Arc<Outlet>> {
        let chunked = self.chunked.as_mut();
        chunked.map_or_else(Vec::new, |it| std::mem::take(&mut it.opening))
    }

    /// So many messages more, which were waiting, are dropped.
    pub(super) fn add_dropped(&mut self, messages: u64) {
        self.lost += messages;
        self.dropped += messages;
    }

    /// So many messages more were lost.
    pub(super) fn add_lost(&mut self, messages: u64) {
        self.lost += messages;
    }

    /// Takes the next message from the queue.
    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        let outgoing = self.queue.pop_front()?;
        self.bytes -= outgoing.cost();
        Some(outgoing)
    }

    /// The reason to close for, once everything queued has been taken.
    pub(super) fn reason_to_close(&self) -> Option<Arc<str>> {
        let is_large = |it: &Chunked| !it.queue.is_empty();
        let is_drained = self.queue.is_empty() && !self.chunked.as_deref().is_some_and(is_large);
        let may_close = is_drained || planted!("closing loses the tail");
        let close = self.close.as_ref().filter(|_| may_close)?;
        Some(Arc::clone(&close.reason))
    }

    /// Drops what is queued.
    pub(super) fn clear(&mut self) {
        while let Some(outgoing) = self.pop() {
            self.add_dropped(u64::from(outgoing.is_message()));
        }
        while self.pop_large().is_some() {
            self.add_dropped(1);
        }
    }

    /// Notes how many messages transports have taken, and how many the connection at hand has given
    /// up; true if that is more than before.
    pub(super) fn set_sent(&mut self, sent: u64, aborted: u64) -> bool {
        let more = sent > self.sent || aborted > self.aborted;
        self.sent = sent;
        self.lost += aborted.saturating_sub(self.aborted);
        self.aborted = aborted;
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
