//! A server's view of one client.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use uuid::Uuid;

use super::mailbox::Mailbox;
use super::{Peer, Server};
use crate::{Instant, Message, SendError, Stats};

/// One client of a server. A clone is another handle to the same session; it may outlive the
/// session, and is then good for its data and counters.
pub struct Session<D = ()>(Arc<Inner<D>>);

struct Inner<D> {
    id: Uuid,
    peer: Peer,
    server: Server<D>,
    mailbox: Arc<Mailbox>,
    established: OnceLock<Instant>,
    data: D,
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
            data,
        }))
    }

    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.0.mailbox
    }

    pub(super) fn set_established(&self, now: Instant) {
        let _ = self.0.established.set(now);
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
        let since = self.0.established.get();
        since.map_or(Duration::ZERO, |since| self.0.server.now() - *since)
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
