//! A server's view of one client.

use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use uuid::Uuid;

use super::mailbox::Mailbox;
use super::turns::{Turn, Turns};
use super::{Peer, SendStream, Server};
use crate::{
    Connection, Identity, Instant, Message, OpenError, Security, SendError, Stats, Transfer,
};

/// How many streams of one client are forwarded at a time: nobody takes all the places of others.
const FORWARDS: usize = 8;
/// The reason that a client is told whose outbox is full.
const SLOW_CONSUMER: &str = "Slow consumer: messages arrive faster than you read them";

/// One client of a server. A clone is another handle to the same session; it may outlive the
/// session, and is then good for its data and counters.
pub struct Session<D = ()>(Arc<Inner<D>>);

struct Inner<D> {
    id: Uuid,
    peer: Peer,
    server: Server<D>,
    mailbox: Arc<Mailbox>,
    established: OnceLock<Established>,
    /// Streams of this client that are handled.
    handled: AtomicUsize,
    /// Of its streams, those that may be forwarded at the same time.
    forwards: Turns,
    data: D,
}

/// What is known of a session from its beginning on.
struct Established {
    since: Instant,
    security: Security,
    identity: Option<Identity>,
    trusted: bool,
}

impl<D> Session<D> {
    pub(super) fn new(
        id: Uuid,
        peer: Peer,
        server: Server<D>,
        mailbox: Arc<Mailbox>,
        data: D,
    ) -> Self {
        Self(Arc::new(Inner {
            id,
            peer,
            server,
            mailbox,
            established: OnceLock::new(),
            handled: AtomicUsize::new(0),
            forwards: Turns::new(FORWARDS),
            data,
        }))
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.0.mailbox
    }

    pub(super) fn set_established(&self, now: Instant, connection: &Connection) {
        let _ = self.0.established.set(Established {
            since: now,
            security: connection.security(),
            identity: connection.identity().cloned(),
            trusted: connection.peer_extensions().trust,
        });
    }

    /// How many streams of the client are being handled.
    pub(super) fn handled(&self) -> &AtomicUsize {
        &self.0.handled
    }

    /// Waits until one more stream of the client may be forwarded.
    pub(super) async fn forward_turn(&self) -> Turn<'_> {
        self.0.forwards.wait().await
    }

    pub(super) fn is_established(&self) -> bool {
        self.0.established.get().is_some()
    }

    /// The session's id.
    pub fn id(&self) -> Uuid {
        self.0.id
    }

    /// The client's address.
    pub fn peer(&self) -> Peer {
        self.0.peer
    }

    /// The application's data.
    pub fn data(&self) -> &D {
        &self.0.data
    }

    /// The server that it belongs to.
    pub fn server(&self) -> &Server<D> {
        &self.0.server
    }

    /// How long ago it was established.
    pub fn age(&self) -> Duration {
        let established = self.0.established.get();
        established.map_or(Duration::ZERO, |it| self.0.server.now() - it.since)
    }

    /// What the authentication of the session is worth.
    pub fn security(&self) -> Security {
        let established = self.0.established.get();
        established.map_or(Security::Legacy, |it| it.security)
    }

    /// Whether the channel is trusted: no message is signed (PROTOCOL.md §4.8).
    pub(super) fn is_trusted(&self) -> bool {
        self.0.established.get().is_some_and(|it| it.trusted)
    }

    /// Whether messages are signed in such a way that their digests are of use.
    pub(super) fn is_signed_later(&self) -> bool {
        self.security() == Security::Sec && !self.is_trusted()
    }

    /// Who the client is: which key it has shown to hold. `None` with [`Security::Legacy`], which shows
    /// nothing of the kind.
    pub fn identity(&self) -> Option<&Identity> {
        self.0.established.get()?.identity.as_ref()
    }

    /// How long ago the client was last heard of.
    pub fn idle(&self) -> Duration {
        self.0.server.now() - self.0.mailbox.lock().heard
    }

    /// What has gone over it, as of its last activity.
    pub fn stats(&self) -> Stats {
        self.0.mailbox.lock().stats
    }

    /// Queues a message for the client, without waiting.
    ///
    /// [`SendError::Full`] means that the client takes less than is sent to it; what to do about
    /// that is the caller's choice. [`Server::broadcast`] closes such a session.
    pub fn send(&self, message: Message) -> Result<(), SendError> {
        self.0.mailbox.send(message)
    }

    /// Begins to send a message in pieces, of any size, without waiting.
    ///
    /// [`OpenError::Unsupported`] means that the client takes none: then [`send`](Self::send) is the
    /// way, up to [`max_message`](Self::max_message).
    pub fn send_stream(&self, transfer: Transfer) -> Result<SendStream, OpenError> {
        self.0.mailbox.open(transfer, Arc::default())
    }

    /// The largest message that [`send`](Self::send) takes, in bytes.
    pub fn max_message(&self) -> u64 {
        self.0.mailbox.max_message()
    }

    /// Queues a message; a client whose outbox is full is told and closed. True if it was queued.
    pub(super) fn send_or_close(&self, message: Message) -> bool {
        match self.send(message) {
            Ok(()) => return true,
            Err(SendError::Full(_)) => self.close_slow(),
            Err(SendError::TooLarge(message)) => {
                let (size, of) = (message.content().len(), message.content_type());
                self.tell_too_large(&format!("{size} bytes of {of}"));
            }
            // It is closing.
            Err(_) => {}
        }
        false
    }

    fn close_slow(&self) {
        self.0.server.count_slow();
        tracing::warn!(session = %self.id(), peer = %self.peer(), "slow consumer closed");
        self.abort(SLOW_CONSUMER);
    }

    /// Tells the client about a message that is too large for it.
    pub(super) fn tell_too_large(&self, what: &str) {
        let max = self.max_message();
        self.tell_missed(what, &format!("this client takes up to {max} bytes"));
    }

    /// Tells the client about a message that it does not get. An error would make some clients leave.
    pub(super) fn tell_missed(&self, what: &str, why: &str) {
        let text = format!("[a message was left out: {what}; {why}]");
        // A client may take so little that not even that fits.
        if let Err(SendError::Full(_)) = self.send(Message::text(text)) {
            self.close_slow();
        }
    }

    /// Tells the client that something went wrong. The session goes on, though a version 1 client
    /// leaves. Dropped if the outbox is full.
    pub fn send_error(&self, text: &str) {
        self.0.mailbox.send_error(text);
    }

    /// Ends the session once everything queued has been sent; the client is told why.
    pub fn close(&self, reason: &str) {
        self.0.mailbox.close(reason, false);
    }

    /// Ends the session without sending what is queued; the client is told why, as far as it still
    /// reads.
    pub fn abort(&self, reason: &str) {
        self.0.mailbox.close(reason, true);
    }
}

impl<D> Clone for Session<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D> fmt::Debug for Session<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.0.id)
            .field("peer", &self.0.peer)
            .finish_non_exhaustive()
    }
}
