//! A running server: its sessions, and its end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use event_listener::Event;
use uuid::Uuid;

use super::admission::{Addresses, Refusal};
use super::security::{Configs, Place};
use super::{Endpoint, Peer, Session};
use crate::rate::Bucket;
use crate::{CloseReason, Config, Instant, Message, ProtocolError, Rate, SendError};

/// The reason that clients are told when a server stops.
const SHUTTING_DOWN: &str = "Server shutting down";

/// A handle to a running server. A clone is another handle to the same one.
///
/// The server runs until [`stop`](Self::stop) is called, also when no handle is left.
pub struct Server<D = ()>(Arc<Inner<D>>);

struct Inner<D> {
    configs: Configs,
    limits: Limits,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    endpoints: Vec<Endpoint>,
    /// Every connection, those in the handshake included.
    sessions: RwLock<BTreeMap<Uuid, Session<D>>>,
    listeners: AtomicUsize,
    refusing: AtomicUsize,
    handshakes: Mutex<Handshakes<D>>,
    addresses: Addresses,
    /// Bytes of messages that are being put together.
    collecting: AtomicUsize,
    counters: Counters,
    /// For warnings that strangers can cause.
    warnings: Mutex<Bucket>,
    stopping: AtomicBool,
    aborting: AtomicBool,
    stopped: AtomicBool,
    /// Notified when a connection ends, when stopping begins and when it is done.
    changed: Event,
}

/// What bounds a server.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) handshakes: usize,
    pub(super) per_address: usize,
    /// Who may connect to Unix sockets; `None`: whoever can.
    pub(super) uids: Option<BTreeSet<u32>>,
    pub(super) outbox: usize,
    pub(super) grace: Duration,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    refused_handshakes: AtomicU64,
    refused_addresses: AtomicU64,
    refused_users: AtomicU64,
    failed_handshakes: AtomicU64,
    slow: AtomicU64,
    throttled: AtomicU64,
    faulty: AtomicU64,
}

/// What a server has seen since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections turned away because there were too many.
    pub refused: u64,
    /// Connections turned away, or given up, because too many were in their handshakes.
    pub refused_handshakes: u64,
    /// Connections turned away because there were too many from their address.
    pub refused_addresses: u64,
    /// Connections turned away because their user may not connect.
    pub refused_users: u64,
    /// Connections that ended in the handshake, by whatever: a wrong key, a deadline.
    pub failed_handshakes: u64,
    /// Sessions that were read from more slowly because they had sent more than they may. Each counts
    /// once, when it ends.
    pub throttled: u64,
    /// Sessions cut off because of too many errors.
    pub too_many_errors: u64,
    /// Sessions closed because they took less than was sent to them.
    pub slow_consumers: u64,
}

impl<D> Server<D> {
    pub(super) fn new(
        configs: Configs,
        limits: Limits,
        endpoints: Vec<Endpoint>,
        clock: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            configs,
            limits,
            endpoints,
            sessions: RwLock::default(),
            listeners: AtomicUsize::new(0),
            refusing: AtomicUsize::new(0),
            handshakes: Mutex::default(),
            addresses: Addresses::default(),
            collecting: AtomicUsize::new(0),
            counters: Counters::default(),
            warnings: Mutex::new(Bucket::new(clock())),
            clock: Box::new(clock),
            stopping: AtomicBool::new(false),
            aborting: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            changed: Event::new(),
        }))
    }

    /// Where it listens: the addresses as they were bound, so with the port that was chosen for
    /// port 0.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
    }

    /// The established sessions.
    pub fn sessions(&self) -> Vec<Session<D>> {
        let sessions = self.read();
        let established = sessions.values().filter(|session| session.is_established());
        established.cloned().collect()
    }

    /// The established session with this id.
    pub fn session(&self, id: Uuid) -> Option<Session<D>> {
        let sessions = self.read();
        let session = sessions.get(&id)?;
        session.is_established().then(|| session.clone())
    }

    /// Sends a message to every established session, without waiting for any. Returns how many it
    /// was queued for; the error is a message that cannot be sent to anybody.
    ///
    /// A session whose outbox is full is told `Slow consumer` and closed; the others do not notice.
    /// One whose client does not take messages as large gets a text that says what it missed.
    pub fn broadcast(&self, message: &Message) -> Result<usize, SendError> {
        let mut message = self.config().check(message.clone())?;
        let is_signed = self.read().values().any(Session::is_signed_later);
        if is_signed {
            // Once for all of them, and while nobody waits.
            message = message.hashed(self.config());
        }
        let sessions = self.read();
        let established = sessions.values().filter(|session| session.is_established());
        let mut queued = 0;
        for session in established {
            let taken = session.send_or_close(message.clone());
            queued += usize::from(taken);
            if planted!("a slow one stalls all") && !taken {
                break;
            }
        }
        Ok(queued)
    }

    /// What it has seen since it started.
    pub fn stats(&self) -> ServerStats {
        let counters = &self.0.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ServerStats {
            accepted: count(&counters.accepted),
            refused: count(&counters.refused),
            refused_handshakes: count(&counters.refused_handshakes),
            refused_addresses: count(&counters.refused_addresses),
            refused_users: count(&counters.refused_users),
            failed_handshakes: count(&counters.failed_handshakes),
            throttled: count(&counters.throttled),
            too_many_errors: count(&counters.faulty),
            slow_consumers: count(&counters.slow),
        }
    }

    /// Stops gracefully, and returns when that is done: no new connections; every client gets what
    /// is queued for it and is told `Server shutting down`; each connection ends when its client
    /// has ended its side. Whoever takes longer than the grace is cut off. Sockets in the file
    /// system are removed.
    ///
    /// Cancel safety: dropping the future does not undo the stop; calling again waits for it.
    pub async fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.0.changed.notify(usize::MAX);
        self.stopped().await;
    }

    /// Stops without waiting for anybody: connections are cut off, whatever waits for them. Sockets in the
    /// file system are removed all the same. Also ends a stop that is going on.
    ///
    /// Cancel safety: as for [`stop`](Self::stop).
    pub async fn abort(&self) {
        self.0.aborting.store(true, Ordering::SeqCst);
        self.stop().await;
    }

    /// Waits until the server has stopped, whoever asked for it.
    ///
    /// Cancel safety: waiting changes nothing.
    pub async fn stopped(&self) {
        self.wait(|server| server.0.stopped.load(Ordering::SeqCst))
            .await;
    }

    pub(super) fn now(&self) -> Instant {
        (self.0.clock)()
    }

    /// What all connections have in common.
    pub(super) fn config(&self) -> &Arc<Config> {
        self.0.configs.common()
    }

    /// The settings of a connection with this peer.
    pub(super) fn config_for(&self, peer: &Peer) -> &Arc<Config> {
        self.0.configs.pick(Place::of(peer))
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::SeqCst)
    }

    pub(super) async fn wait_for_stop(&self) {
        self.wait(Self::is_stopping).await;
    }

    /// Takes a connection in, unless a limit is against it. What is returned counts it among the
    /// handshakes until it is dropped.
    pub(super) fn admit(&self, session: &Session<D>) -> Result<HandshakeTurn<D>, Refusal> {
        let admitted = self.try_admit(session);
        let counters = &self.0.counters;
        let counter = match admitted {
            Ok(_) => &counters.accepted,
            Err(Refusal::Full { .. }) => &counters.refused,
            Err(Refusal::Handshakes { .. }) => &counters.refused_handshakes,
            Err(Refusal::Address { .. }) => &counters.refused_addresses,
            Err(Refusal::User { .. }) => &counters.refused_users,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        admitted
    }

    /// Counts one more handshake. If there are too many, the oldest gives way to it, unless that has
    /// just begun as well: whoever only holds the line keeps nobody else out.
    fn begin_handshake(&self, session: &Session<D>) -> Option<HandshakeTurn<D>> {
        let now = self.now();
        let patience = self.config().handshake_timeout / 10;
        let mut handshakes = self.handshakes();
        if handshakes.going_on.len() >= self.0.limits.handshakes {
            let oldest = handshakes.going_on.first_entry()?;
            if now - oldest.get().0 < patience {
                return None;
            }
            let (_, oldest) = oldest.remove();
            oldest.mailbox().kill();
            let refused = &self.0.counters.refused_handshakes;
            refused.fetch_add(1, Ordering::Relaxed);
        }
        handshakes.last += 1;
        let number = handshakes.last;
        handshakes.going_on.insert(number, (now, session.clone()));
        let server = self.clone();
        Some(HandshakeTurn { server, number })
    }

    fn handshakes(&self) -> MutexGuard<'_, Handshakes<D>> {
        let handshakes = self.0.handshakes.lock();
        handshakes.unwrap_or_else(PoisonError::into_inner)
    }

    fn try_admit(&self, session: &Session<D>) -> Result<HandshakeTurn<D>, Refusal> {
        let (limits, peer) = (&self.0.limits, session.peer());
        if let (Peer::Unix(credentials), Some(uids)) = (peer, &limits.uids) {
            let uid = credentials.map(|it| it.uid);
            if !uid.is_some_and(|uid| uids.contains(&uid)) {
                return Err(Refusal::User { uid });
            }
        }
        let mut sessions = self.write();
        let limit = limits.connections;
        if sessions.len() >= limit {
            return Err(Refusal::Full { limit });
        }
        let limit = limits.per_address;
        if !self.0.addresses.enter(&peer, limit) {
            return Err(Refusal::Address { limit });
        }
        let Some(handshake) = self.begin_handshake(session) else {
            self.0.addresses.leave(&peer);
            let limit = limits.handshakes;
            return Err(Refusal::Handshakes { limit });
        };
        sessions.insert(session.id(), session.clone());
        // Under the lock that `close_all` takes: whoever comes too late for that sees the flag.
        if self.is_stopping() {
            session.close(SHUTTING_DOWN);
        }
        Ok(handshake)
    }

    /// Whether so many bytes more of messages may be put together, below `max`.
    pub(super) fn collect(&self, bytes: usize, max: usize) -> bool {
        let before = self.0.collecting.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= max;
        if !fits {
            self.collected(bytes);
        }
        fits
    }

    /// They are put together, or dropped.
    pub(super) fn collected(&self, bytes: usize) {
        self.0.collecting.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_slow(&self) {
        self.0.counters.slow.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts how a connection ended.
    pub(super) fn count_end(&self, session: &Session<D>, reason: &CloseReason) {
        let counters = &self.0.counters;
        if !session.is_established() {
            counters.failed_handshakes.fetch_add(1, Ordering::Relaxed);
        }
        if session.stats().throttled > 0 {
            counters.throttled.fetch_add(1, Ordering::Relaxed);
        }
        if *reason == CloseReason::Protocol(ProtocolError::TooManyErrors) {
            counters.faulty.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether one more warning about somebody who has shown nothing may be logged: a few each second.
    pub(super) fn may_warn(&self) -> bool {
        const WARNINGS: Rate = Rate::per_second(1).burst(100);
        let now = self.now();
        let mut warnings = self
            .0
            .warnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        warnings.try_take(WARNINGS, now)
    }

    /// A connection is over.
    pub(super) fn release(&self, session: &Session<D>) {
        self.write().remove(&session.id());
        self.0.addresses.leave(&session.peer());
        self.0.changed.notify(usize::MAX);
    }

    /// One more connection that is turned away may be told so, unless there are many already.
    pub(super) fn begin_refusal(&self) -> Option<Tally<D>> {
        const AT_ONCE: usize = 64;
        let tally = self.tally(|inner| &inner.refusing);
        (self.0.refusing.load(Ordering::SeqCst) <= AT_ONCE).then_some(tally)
    }

    /// One more listener.
    pub(super) fn begin_listening(&self) -> Tally<D> {
        self.tally(|inner| &inner.listeners)
    }

    fn tally(&self, of: fn(&Inner<D>) -> &AtomicUsize) -> Tally<D> {
        of(&self.0).fetch_add(1, Ordering::SeqCst);
        Tally {
            server: self.clone(),
            of,
        }
    }

    /// Waits until no listener is left, and nobody is being turned away.
    pub(super) async fn listeners_gone(&self) {
        self.wait(|server| {
            let left = [&server.0.listeners, &server.0.refusing];
            left.iter().all(|count| count.load(Ordering::SeqCst) == 0)
        })
        .await;
    }

    pub(super) fn close_all(&self) {
        for session in self.read().values() {
            session.close(SHUTTING_DOWN);
        }
    }

    pub(super) fn kill_all(&self) {
        for session in self.read().values() {
            session.mailbox().kill();
        }
    }

    pub(super) async fn aborted(&self) {
        self.wait(|server| server.0.aborting.load(Ordering::SeqCst))
            .await;
    }

    pub(super) async fn emptied(&self) {
        self.wait(|server| server.read().is_empty()).await;
    }

    pub(super) fn set_stopped(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.changed.notify(usize::MAX);
    }

    async fn wait(&self, check: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.0.changed.listen();
            if check(self) {
                return;
            }
            changed.await;
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Uuid, Session<D>>> {
        let sessions = self.0.sessions.read();
        sessions.unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Uuid, Session<D>>> {
        let sessions = self.0.sessions.write();
        sessions.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that are not established yet, oldest first.
struct Handshakes<D> {
    going_on: BTreeMap<u64, (Instant, Session<D>)>,
    last: u64,
}

impl<D> Default for Handshakes<D> {
    fn default() -> Self {
        Self {
            going_on: BTreeMap::new(),
            last: 0,
        }
    }
}

/// Counts among the handshakes until it is dropped.
pub(super) struct HandshakeTurn<D> {
    server: Server<D>,
    number: u64,
}

impl<D> Drop for HandshakeTurn<D> {
    fn drop(&mut self) {
        let gone = self.server.handshakes().going_on.remove(&self.number);
        // Not under the lock: it may be the last of its session.
        drop(gone);
    }
}

/// Counts one until it is dropped.
pub(super) struct Tally<D> {
    server: Server<D>,
    of: fn(&Inner<D>) -> &AtomicUsize,
}

impl<D> Drop for Tally<D> {
    fn drop(&mut self) {
        let inner = &self.server.0;
        (self.of)(inner).fetch_sub(1, Ordering::SeqCst);
        inner.changed.notify(usize::MAX);
    }
}

impl<D> Clone for Server<D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<D> fmt::Debug for Server<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("endpoints", &self.0.endpoints)
            .finish_non_exhaustive()
    }
}
