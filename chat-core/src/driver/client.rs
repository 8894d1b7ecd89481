//! A client: a connection that a background task keeps.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use thiserror::Error;
use uuid::Uuid;

use super::Endpoint;
use super::dial::{dial, pause};
use super::entropy;
use super::link::Link;
use super::mailbox::Mailbox;
use super::rt::Runtime;
use crate::{Backoff, CloseReason, Config, Connection, Event, Message, SendError, Stats};

/// The reason of a client that gives none.
const DISCONNECTING: &str = "Client disconnecting";
/// What an event in the inbox costs beyond its content.
const OVERHEAD: usize = 128;

/// The settings of a client, each with its default.
#[derive(Clone, Debug)]
pub struct ClientBuilder<R> {
    runtime: R,
    config: Config,
    connect_timeout: Duration,
    max_outbox: usize,
    max_inbox: usize,
    reconnect: Option<Backoff>,
}

impl<R: Runtime + Default> ClientBuilder<R> {
    /// A client with default settings.
    pub fn new() -> Self {
        Self::with_runtime(R::default())
    }
}

impl<R: Runtime + Default> Default for ClientBuilder<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Runtime> ClientBuilder<R> {
    /// The same on a runtime of one's own.
    pub fn with_runtime(runtime: R) -> Self {
        Self {
            runtime,
            config: Config::default(),
            connect_timeout: Duration::from_secs(10),
            max_outbox: 1024 * 1024,
            max_inbox: 1024 * 1024,
            reconnect: None,
        }
    }

    /// The settings of the connection, the key among them.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// How long resolving the name and connecting may take: 10 s. The handshake has a deadline of
    /// its own, [`Config::handshake_timeout`].
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The most bytes of messages that wait to be sent, overhead included, beyond what the
    /// connection holds ready: 1 MiB. A single message is always taken.
    #[must_use]
    pub fn max_outbox(mut self, bytes: usize) -> Self {
        self.max_outbox = bytes;
        self
    }

    /// The most bytes of events that wait to be received, overhead included, beyond what the
    /// connection holds: 1 MiB. A single event is always taken. When they are more, nothing is read
    /// from the server until some have been received.
    #[must_use]
    pub fn max_inbox(mut self, bytes: usize) -> Self {
        self.max_inbox = bytes;
        self
    }

    /// Connects again when the connection is lost, or when the server ends it: off by default. The
    /// first connection is never tried twice.
    ///
    /// What is queued goes out over the next connection. What was already on its way is not
    /// repeated: [`ClientEvent::Disconnected`] says how many messages that concerns.
    #[must_use]
    pub fn reconnect(mut self, backoff: Backoff) -> Self {
        self.reconnect = Some(backoff);
        self
    }

    /// Connects, and returns when the session is established.
    ///
    /// Cancel safety: dropping the future gives up; the connection, if there is one already, is
    /// closed.
    pub async fn connect(self, endpoint: Endpoint) -> Result<Client, ConnectError> {
        let socket = dial(&self.runtime, &endpoint, self.connect_timeout).await?;
        let now = self.runtime.now();
        let mailbox = Arc::new(Mailbox::new(self.config.clone(), self.max_outbox, now));
        let inbox = Arc::new(Inbox::new(self.max_inbox));
        let client = Client(Arc::new(Handle {
            mailbox: Arc::clone(&mailbox),
            inbox: Arc::clone(&inbox),
            endpoint: endpoint.clone(),
        }));
        let connection = Connection::client(Arc::new(self.config.clone()), now);
        let runtime = self.runtime.clone();
        let link = Link::new(connection, socket, runtime.clone(), Arc::clone(&mailbox));
        runtime.spawn(
            Keeper {
                settings: self,
                endpoint,
                mailbox,
                inbox,
            }
            .run(link),
        );
        match client.recv().await {
            Some(ClientEvent::Connected { .. }) => Ok(client),
            Some(ClientEvent::Disconnected { reason, .. }) => Err(ConnectError::Handshake(reason)),
            other => unreachable!("a client begins by connecting or not, not with {other:?}"),
        }
    }
}

/// Why a client could not connect.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no connection to be had.
    #[error("cannot connect to {endpoint}: {source}")]
    Io {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// There was one, but it ended before the session was established.
    #[error("{0}")]
    Handshake(CloseReason),
}

/// What a client receives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// A session was established; after the first one, by reconnecting.
    Connected {
        /// Its id, new with each connection.
        session: Uuid,
    },
    /// A message came.
    Message(Message),
    /// The server reports an error.
    Error(String),
    /// The connection is over.
    Disconnected {
        /// Why.
        reason: CloseReason,
        /// Messages that were on their way and may not have arrived; without a retry, those still
        /// queued too.
        lost: u64,
        /// When it is tried again. `None`: never, this is the last event.
        retry_in: Option<Duration>,
    },
}

/// A connection to a server. A clone is another handle to the same connection, for another task.
///
/// A background task keeps it: heartbeats are answered and what is queued goes out, whatever the
/// application does. When the last handle is dropped it closes the connection, after what is
/// queued.
#[derive(Clone)]
pub struct Client(Arc<Handle>);

struct Handle {
    mailbox: Arc<Mailbox>,
    inbox: Arc<Inbox>,
    endpoint: Endpoint,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inbox.abandon();
        self.mailbox.close(DISCONNECTING, false);
    }
}

impl Client {
    /// Queues a message, waiting for room.
    ///
    /// `Ok` means that it is queued: see [`flush`](Self::flush). Receive as well, from another task
    /// or in turns: a server that nobody reads from may in the end not read either.
    ///
    /// Cancel safety: if the future is dropped before it is ready, the message was not queued.
    pub async fn send(&self, message: Message) -> Result<(), SendError> {
        self.0.mailbox.send_wait(message).await
    }

    /// Queues a message, or hands it back if there is no room.
    pub fn try_send(&self, message: Message) -> Result<(), SendError> {
        self.0.mailbox.send(message)
    }

    /// Waits until everything queued so far has been taken by the socket. The error says how many
    /// messages were lost with a connection meanwhile.
    ///
    /// Cancel safety: nothing happens if the future is dropped.
    pub async fn flush(&self) -> Result<(), FlushError> {
        match self.0.mailbox.flush().await {
            0 => Ok(()),
            lost => Err(FlushError { lost }),
        }
    }

    /// The next event, oldest first; `None` after the last.
    ///
    /// Cancel safety: no event is lost if the future is dropped.
    pub async fn recv(&self) -> Option<ClientEvent> {
        self.0.inbox.recv().await
    }

    /// Says goodbye, after what is queued, and waits for the end of the connection. Returns its
    /// reason, which is another one if it ended before.
    ///
    /// Cancel safety: the connection is closed also if the future is dropped.
    pub async fn close(&self, reason: &str) -> CloseReason {
        self.0.inbox.abandon();
        self.0.mailbox.close(reason, false);
        self.0.mailbox.ended().await
    }

    /// Why the connection is over, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        self.0.mailbox.end()
    }

    /// Where it is connected to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// What has gone over the connection at hand, as of its last activity.
    pub fn stats(&self) -> Stats {
        self.0.mailbox.lock().stats
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.0.endpoint)
            .finish_non_exhaustive()
    }
}

/// Messages were lost before they had been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the connection ended; {lost} messages were not sent, or not whole")]
pub struct FlushError {
    /// How many.
    pub lost: u64,
}

/// The background task of a client.
struct Keeper<R: Runtime> {
    settings: ClientBuilder<R>,
    endpoint: Endpoint,
    mailbox: Arc<Mailbox>,
    inbox: Arc<Inbox>,
}

impl<R: Runtime> Keeper<R> {
    async fn run(mut self, mut link: Link<R>) {
        loop {
            let reason = poll_fn(|cx| self.poll_connection(&mut link, cx)).await;
            let lost = link.lost();
            drop(link);
            link = match self.next_connection(reason, lost).await {
                Some(next) => next,
                None => return,
            };
        }
    }

    /// Hands on the events of a connection until its last.
    fn poll_connection(&mut self, link: &mut Link<R>, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            if !self.inbox.poll_room(cx) {
                link.poll_io(cx);
                return Poll::Pending;
            }
            let Poll::Ready(event) = link.poll_event(cx, usize::MAX) else {
                return Poll::Pending;
            };
            match event {
                Event::Established { session } => {
                    if let Some(backoff) = &mut self.settings.reconnect {
                        backoff.reset();
                    }
                    self.inbox.push(ClientEvent::Connected { session });
                }
                Event::Message(message) => self.inbox.push(ClientEvent::Message(message)),
                Event::Error(text) => self.inbox.push(ClientEvent::Error(text)),
                Event::Closed(reason) => return Poll::Ready(reason),
            }
        }
    }

    /// Connects again as often as it takes, or ends it.
    async fn next_connection(&mut self, reason: CloseReason, lost: u64) -> Option<Link<R>> {
        let (mut reason, mut lost) = (reason, lost);
        loop {
            {
                let mut inner = self.mailbox.lock();
                inner.lost += lost;
            }
            let closing = self.mailbox.lock().close.is_some();
            let Some(backoff) = self
                .settings
                .reconnect
                .as_mut()
                .filter(|_| !closing && is_worth_retrying(&reason))
            else {
                self.mailbox.finish(reason.clone());
                let lost = self.mailbox.lock().lost;
                self.inbox.finish(ClientEvent::Disconnected {
                    reason,
                    lost,
                    retry_in: None,
                });
                return None;
            };
            let delay = backoff.next_delay(entropy::jitter());
            self.mailbox.notify();
            self.inbox.push(ClientEvent::Disconnected {
                reason,
                lost,
                retry_in: Some(delay),
            });
            lost = 0;
            let runtime = &self.settings.runtime;
            let attempt = async {
                pause(runtime, delay).await;
                dial(runtime, &self.endpoint, self.settings.connect_timeout).await
            };
            reason = match self.unless_closed(attempt).await {
                None => CloseReason::Local {
                    reason: DISCONNECTING.into(),
                },
                Some(Err(error)) => CloseReason::Transport {
                    error: error.to_string().into(),
                },
                Some(Ok(socket)) => {
                    let config = Arc::new(self.settings.config.clone());
                    let connection = Connection::client(config, runtime.now());
                    let mailbox = Arc::clone(&self.mailbox);
                    return Some(Link::new(connection, socket, runtime.clone(), mailbox));
                }
            };
        }
    }

    /// Awaits something, unless the application closes the client meanwhile.
    async fn unless_closed<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            {
                let mut inner = self.mailbox.lock();
                if inner.close.is_some() {
                    return Poll::Ready(None);
                }
                inner.register(cx);
            }
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

/// Whether the same attempt may end better another time.
fn is_worth_retrying(reason: &CloseReason) -> bool {
    !matches!(reason, CloseReason::Local { .. } | CloseReason::Protocol(_))
}

/// The events that wait for the application.
struct Inbox {
    inner: Mutex<Events>,
    arrived: event_listener::Event,
    limit: usize,
}

#[derive(Default)]
struct Events {
    queue: VecDeque<ClientEvent>,
    bytes: usize,
    /// No event will follow.
    done: bool,
    /// Nobody will receive any more.
    abandoned: bool,
    task: Option<Waker>,
}

impl Inbox {
    fn new(limit: usize) -> Self {
        Self {
            inner: Mutex::default(),
            arrived: event_listener::Event::new(),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more event may be pushed; otherwise the task is woken when it may.
    fn poll_room(&self, cx: &Context<'_>) -> bool {
        let mut inner = self.lock();
        if inner.queue.is_empty() || inner.bytes < self.limit || inner.abandoned {
            return true;
        }
        inner.task = Some(cx.waker().clone());
        false
    }

    fn push(&self, event: ClientEvent) {
        let mut inner = self.lock();
        if !inner.abandoned {
            inner.bytes += cost(&event);
            inner.queue.push_back(event);
            drop(inner);
            self.arrived.notify(1);
        }
    }

    fn finish(&self, event: ClientEvent) {
        let mut inner = self.lock();
        inner.queue.push_back(event);
        inner.done = true;
        drop(inner);
        self.arrived.notify(usize::MAX);
    }

    /// What comes from now on is dropped: the connection must not wait for room.
    fn abandon(&self) {
        let mut inner = self.lock();
        inner.abandoned = true;
        if let Some(task) = inner.task.take() {
            task.wake();
        }
    }

    async fn recv(&self) -> Option<ClientEvent> {
        loop {
            let arrived = self.arrived.listen();
            {
                let mut inner = self.lock();
                if let Some(event) = inner.queue.pop_front() {
                    inner.bytes = inner.bytes.saturating_sub(cost(&event));
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
    OVERHEAD
        + match event {
            ClientEvent::Message(message) => message.content().len(),
            ClientEvent::Error(text) => text.len(),
            ClientEvent::Connected { .. } | ClientEvent::Disconnected { .. } => 0,
        }
}
