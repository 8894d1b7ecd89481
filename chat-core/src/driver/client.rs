//! A client: a connection that a background task keeps.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;

use super::dial::{dial, pause};
use super::entropy;
use super::inbox::Inbox;
use super::link::Link;
use super::mailbox::Mailbox;
use super::rt::Runtime;
use super::security::Configs;
use super::{ClientEvent, Endpoint, SendStream};
use crate::{
    Backoff, CloseReason, Config, Connection, Event, Message, OpenError, Security, SendError,
    Stats, Transfer,
};

/// The reason of a client that gives none.
const DISCONNECTING: &str = "Client disconnecting";

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
    /// What is queued goes out over the next connection. What the connection that was lost held
    /// ready is not repeated: [`ClientEvent::Disconnected`] says how many messages that concerns.
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
        let (socket, place) = dial(&self.runtime, &endpoint, self.connect_timeout).await?;
        let now = self.runtime.now();
        let configs = Configs::new(self.config.clone());
        let common = Arc::clone(configs.common());
        let mailbox = Arc::new(Mailbox::new(common, self.max_outbox, now));
        let inbox = Arc::new(Inbox::new(self.max_inbox));
        let client = Client(Arc::new(Handle {
            mailbox: Arc::clone(&mailbox),
            inbox: Arc::clone(&inbox),
            endpoint: endpoint.clone(),
        }));
        let config = Arc::clone(configs.pick(place));
        let entropy = entropy::fresh(&self.runtime);
        let connection = Connection::client(config, entropy, now);
        let runtime = self.runtime.clone();
        let link = Link::boxed(connection, socket, runtime.clone(), Arc::clone(&mailbox));
        runtime.spawn(
            Keeper {
                settings: self,
                configs,
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

    /// Begins to send a message in pieces, of any size, without waiting. It is lost with the
    /// connection, whether or not that is made again.
    ///
    /// [`OpenError::Unsupported`] means that the server takes none: then [`send`](Self::send) is the
    /// way, up to [`max_message`](Self::max_message).
    pub fn send_stream(&self, transfer: Transfer) -> Result<SendStream, OpenError> {
        self.0.mailbox.open(transfer, Arc::default())
    }

    /// The largest message that [`send`](Self::send) takes, in bytes.
    pub fn max_message(&self) -> u64 {
        self.0.mailbox.max_message()
    }

    /// The largest message that [`send_stream`](Self::send_stream) takes, in bytes; `None` if it
    /// takes none.
    pub fn max_stream(&self) -> Option<u64> {
        self.0.mailbox.max_stream()
    }

    /// Waits until everything queued so far has been taken by the socket, or is lost. The error says
    /// how many messages were lost with a connection since this was last reported.
    ///
    /// Cancel safety: nothing is reported if the future is dropped.
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
    /// reason, which is another one if it ended before. What arrives from now on is dropped. A server
    /// that refuses a message in chunks only when all of it has left is not waited for: a
    /// [stream](Self::send_stream) tells.
    ///
    /// Cancel safety: once it was polled, the connection is closed also if the future is dropped.
    pub async fn close(&self, reason: &str) -> CloseReason {
        self.0.inbox.abandon();
        self.0.mailbox.close(reason, false);
        self.0.mailbox.ended().await
    }

    /// Why the connection is over, if it is.
    pub fn closed(&self) -> Option<CloseReason> {
        self.0.mailbox.end()
    }

    /// What the authentication of the connection at hand is worth; `None` while there is none.
    pub fn security(&self) -> Option<Security> {
        self.0.mailbox.security()
    }

    /// Whether both ends of the connection at hand [trust its channel](crate::Config::trust_channel):
    /// then [`Security::Sec`] is what its handshake was worth, and messages are not authenticated.
    pub fn is_channel_trusted(&self) -> bool {
        self.0.mailbox.is_trusted()
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
    configs: Configs,
    endpoint: Endpoint,
    mailbox: Arc<Mailbox>,
    inbox: Arc<Inbox>,
}

impl<R: Runtime> Drop for Keeper<R> {
    /// Nobody is to wait for a task that is gone, whatever ended it.
    fn drop(&mut self) {
        if self.mailbox.end().is_none() {
            self.finish(
                CloseReason::Transport {
                    error: "the task of the connection was dropped".into(),
                },
                0,
            );
        }
    }
}

impl<R: Runtime> Keeper<R> {
    async fn run(mut self, mut link: Box<Link<R>>) {
        loop {
            let reason = poll_fn(|cx| self.poll_connection(&mut link, cx)).await;
            let unsent = link.take_unsent();
            let lost = unsent.lost;
            let closing = self.mailbox.settle(unsent);
            link = match self.next_connection(reason, lost, closing).await {
                Some(next) => next,
                None => return,
            };
        }
    }

    /// The last word.
    fn finish(&self, reason: CloseReason, lost: u64) {
        let queued = self.mailbox.finish(reason.clone());
        self.inbox.finish(ClientEvent::Disconnected {
            reason,
            lost: lost + queued,
            retry_in: None,
        });
    }

    /// Hands on the events of a connection until its last.
    fn poll_connection(&mut self, link: &mut Link<R>, cx: &mut Context<'_>) -> Poll<CloseReason> {
        loop {
            // What a connection that is over still holds is bounded, and its end is news.
            if !link.is_over() && !self.inbox.poll_room(cx) {
                link.poll_io(cx);
                // Nothing wakes the task of a connection that has just ended.
                if !link.is_over() {
                    return Poll::Pending;
                }
            }
            let Poll::Ready(event) = link.poll_event(cx, usize::MAX) else {
                return Poll::Pending;
            };
            match event {
                Event::Established { session } => {
                    if let Some(backoff) = &mut self.settings.reconnect {
                        backoff.reset();
                    }
                    let security = link.connection().security();
                    self.inbox
                        .push(ClientEvent::Connected { session, security });
                }
                Event::Message(message) => self.inbox.push(ClientEvent::Message(message)),
                Event::Error(text) => self.inbox.push(ClientEvent::Error(text)),
                Event::Transfer { id, transfer } => {
                    let incoming = link.accept(id, transfer);
                    self.inbox.push(ClientEvent::Incoming(incoming));
                }
                Event::Undelivered {
                    content_type,
                    size,
                    error,
                } => self.inbox.push(ClientEvent::Undelivered {
                    content_type,
                    size,
                    error,
                }),
                // Of streams, which have handles.
                Event::Sent { .. } | Event::Aborted { .. } => {}
                Event::Closed(reason) => return Poll::Ready(reason),
            }
        }
    }

    /// Connects again as often as it takes, or ends it.
    async fn next_connection(
        &mut self,
        mut reason: CloseReason,
        mut lost: u64,
        mut closing: Option<Arc<str>>,
    ) -> Option<Box<Link<R>>> {
        loop {
            let backoff = match &mut self.settings.reconnect {
                Some(backoff) if closing.is_none() && is_worth_retrying(&reason) => backoff,
                _ => {
                    self.finish(reason, lost);
                    return None;
                }
            };
            let delay = backoff.next_delay(entropy::jitter(&self.settings.runtime));
            self.inbox.push(ClientEvent::Disconnected {
                reason,
                lost: std::mem::take(&mut lost),
                retry_in: Some(delay),
            });
            let runtime = &self.settings.runtime;
            let attempt = async {
                pause(runtime, delay).await;
                dial(runtime, &self.endpoint, self.settings.connect_timeout).await
            };
            reason = match self.unless_closed(attempt).await {
                Err(wish) => {
                    let reason = CloseReason::Local {
                        reason: (*wish).into(),
                    };
                    closing = Some(wish);
                    reason
                }
                Ok(Err(error)) => CloseReason::Transport {
                    error: error.to_string().into(),
                },
                Ok(Ok((socket, place))) => {
                    let config = Arc::clone(self.configs.pick(place));
                    let entropy = entropy::fresh(runtime);
                    let connection = Connection::client(config, entropy, runtime.now());
                    let mailbox = Arc::clone(&self.mailbox);
                    return Some(Link::boxed(connection, socket, runtime.clone(), mailbox));
                }
            };
        }
    }

    /// Awaits something, unless the application closes the client meanwhile: then it gives the
    /// reason for that.
    async fn unless_closed<T>(&self, future: impl Future<Output = T>) -> Result<T, Arc<str>> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            {
                let mut inner = self.mailbox.lock();
                if let Some(close) = &inner.close {
                    return Poll::Ready(Err(Arc::clone(&close.reason)));
                }
                inner.register(cx);
            }
            future.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}

/// Whether another attempt may end better. There was a session before: what is wrong now may be the work
/// of somebody on the way, or a server that is full.
fn is_worth_retrying(reason: &CloseReason) -> bool {
    !matches!(reason, CloseReason::Local { .. })
}
