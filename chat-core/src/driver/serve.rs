//! The tasks of a server: one per listener, one per connection, one for the end.

use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use super::dial::pause as wait;
use super::link::Link;
use super::mailbox::Mailbox;
use super::rt::{Listener, Runtime, Socket};
use super::server::{HandshakeTurn, Tally};
use super::unix::SocketFile;
use super::{Handler, HandlerError, Incoming, Peer, Server, Session, entropy};
use crate::{CloseReason, Connection, Event, Key, ProtocolError};

/// How many events a session handles before it lets others run.
const EVENTS_PER_POLL: u32 = 64;
/// How many streams of a session are handled at a time, those that were given up included; with so
/// many its next events wait.
const HANDLED: usize = 64;

/// Warns of what others can cause. Whoever floods the server is not to flood the log: what is too often
/// is only there for whoever looks for it.
macro_rules! warn_seldom {
    ($server:expr, $($what:tt)*) => {
        if $server.may_warn() {
            tracing::warn!($($what)*);
        } else {
            tracing::debug!($($what)*);
        }
    };
}

/// Runs the end of a server: waits for the stop, and sees it through.
pub(super) async fn supervise<R: Runtime, D>(runtime: R, server: Server<D>) {
    server.wait_for_stop().await;
    tracing::info!("stopping");
    server.close_all();
    let grace = wait(&runtime, server.limits().grace);
    let aborted = pin!(server.aborted());
    let patience = unless(aborted, grace);
    unless(pin!(server.emptied()), patience).await;
    if planted!("the grace never ends") {
        server.emptied().await;
    }
    server.kill_all();
    server.listeners_gone().await;
    // Whoever was accepted in the last moment.
    server.kill_all();
    server.emptied().await;
    let stats = server.stats();
    tracing::info!(?stats, "stopped");
    server.set_stopped();
}

/// Accepts connections until the server stops. `file` is the socket's, removed at the end.
pub(super) async fn accept<R, L, H>(
    runtime: R,
    mut listener: L,
    wrap: fn(L::Stream) -> Socket<R>,
    file: Option<SocketFile>,
    tally: Tally<H::Data>,
    server: Server<H::Data>,
    handler: Arc<H>,
) where
    R: Runtime,
    L: Listener,
    H: Handler,
{
    const FIRST_PAUSE: Duration = Duration::from_millis(50);
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    let mut stop = pin!(server.wait_for_stop());
    let mut pause = FIRST_PAUSE;
    loop {
        match unless(stop.as_mut(), listener.accept()).await {
            None => break,
            Some(Ok((stream, peer))) => {
                pause = FIRST_PAUSE;
                let admitted = call(|| admit(&runtime, wrap(stream), peer, &server, &handler));
                if let Err(error) = admitted {
                    tracing::error!(%error, "cannot take a connection in");
                }
            }
            Some(Err(error)) if is_of_connection(&error) => {
                tracing::debug!(%error, "a connection was gone before it was accepted");
            }
            Some(Err(error)) => {
                // Out of descriptors or memory, most likely: trying at once would only spin.
                if pause == FIRST_PAUSE {
                    tracing::error!(%error, "cannot accept connections; trying again until it works");
                }
                let now = if planted!("accepting spins") {
                    Duration::ZERO
                } else {
                    pause
                };
                if unless(stop.as_mut(), wait(&runtime, now)).await.is_none() {
                    break;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    // In this order: a path without a listener is never seen to be alive.
    drop(file);
    drop(listener);
    drop(tally);
}

/// Awaits `future`, unless `stop` is ready before.
async fn unless<T>(
    mut stop: Pin<&mut impl Future<Output = ()>>,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Whether an error of `accept` concerns one connection, and not the listener.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn admit<R: Runtime, H: Handler>(
    runtime: &R,
    socket: Socket<R>,
    peer: Peer,
    server: &Server<H::Data>,
    handler: &Arc<H>,
) {
    let now = runtime.now();
    let config = server.config_for(&peer);
    let limits = server.limits();
    let mailbox = Arc::new(Mailbox::new(Arc::clone(config), limits.outbox, now));
    let id = entropy::session_id(runtime);
    let session = Session::new(
        id,
        peer,
        server.clone(),
        Arc::clone(&mailbox),
        H::Data::default(),
    );
    let refusal = match server.admit(&session) {
        Ok(handshake) => {
            // Whatever happens from here on, it is taken out again.
            let registered = Registered {
                session,
                handshake: Some(handshake),
            };
            let connection =
                Connection::server(Arc::clone(config), id, entropy::fresh(runtime), now);
            let link = Link::boxed(connection, socket, runtime.clone(), mailbox);
            runtime.spawn(run(link, registered, Arc::clone(handler)));
            return;
        }
        Err(refusal) => refusal,
    };
    warn_seldom!(server, %peer, %refusal, "connection turned away");
    if let Some(tally) = server.begin_refusal() {
        let reason = refusal.to_string();
        let connection = Connection::refuse(Arc::clone(config), &reason, now);
        let link = Link::boxed(connection, socket, runtime.clone(), mailbox);
        runtime.spawn(refuse(link, server.clone(), tally));
    }
}

/// Runs a connection that is turned away.
async fn refuse<R: Runtime, D>(mut link: Box<Link<R>>, server: Server<D>, tally: Tally<D>) {
    let turned_away = async {
        while !matches!(
            poll_fn(|cx| link.poll_event(cx, usize::MAX)).await,
            Event::Closed(_)
        ) {}
    };
    unless(pin!(server.wait_for_stop()), turned_away).await;
    drop(tally);
}

/// Takes a session out of its server, also if its task is dropped or panics.
struct Registered<D> {
    session: Session<D>,
    /// Counts it among the handshakes.
    handshake: Option<HandshakeTurn<D>>,
}

impl<D> Drop for Registered<D> {
    fn drop(&mut self) {
        self.handshake = None;
        let reason: Box<str> = "the task of the session was dropped".into();
        let session = &self.session;
        session
            .mailbox()
            .finish(CloseReason::Transport { error: reason });
        session.server().release(session);
    }
}

/// Runs one connection from its first byte to its last.
///
/// What it keeps where it waits is what an idle connection costs: a message that is handled is in a box.
fn run<R: Runtime, H: Handler>(
    mut link: Box<Link<R>>,
    mut registered: Registered<H::Data>,
    handler: Arc<H>,
) -> impl Future<Output = ()> + Send {
    let mark = mark(&registered.session);
    async move {
        let session = &registered.session;
        let mut work = Work(None);
        let mut failed = false;
        let mut count = 0_u32;
        let reason = loop {
            let poll = |cx: &mut Context<'_>| {
                if session.handled().load(Ordering::SeqCst) >= HANDLED && !link.is_over() {
                    link.poll_io(cx);
                    // Nothing wakes the task of a connection that has just ended.
                    if !link.is_over() {
                        return Poll::Pending;
                    }
                }
                let event = link.poll_event(cx, mark);
                if event.is_pending() {
                    work = Work(None);
                }
                event
            };
            let begun = match poll_fn(poll).await {
                Event::Closed(reason) => break reason,
                // The session is ending: what its handler has failed at once is not tried again.
                _ if failed => continue,
                Event::Message(message) => work.begin(|| handler.message(session, message)),
                event => {
                    if let Event::Established { .. } = event {
                        drop(registered.handshake.take());
                    }
                    take(event, &mut link, session, &handler)
                }
            };
            // Each in its turn: what is alive while something is waited for takes room.
            if let Err(error) = begun {
                failed = true;
                close_failed(session, &error);
            }
            if let Err(error) = work.finish(&mut link, session).await {
                failed = true;
                close_failed(session, &error);
            }
            count += 1;
            if count.is_multiple_of(EVENTS_PER_POLL) {
                yield_once().await;
            }
        };
        drop(registered.handshake.take());
        end(session, &*handler, &reason);
    }
}

/// Takes an event that is neither a message nor the end.
fn take<R: Runtime, H: Handler>(
    event: Event,
    link: &mut Link<R>,
    session: &Session<H::Data>,
    handler: &Arc<H>,
) -> Result<(), String> {
    let (id, peer) = (session.id(), session.peer());
    match event {
        Event::Established { .. } => {
            session.set_established(session.server().now(), link.connection());
            let security = session.security();
            let key = session.identity().map(tracing::field::display);
            // Only where it is so: messages are not signed.
            let trusted = session.is_trusted().then_some(true);
            tracing::info!(session = %id, %peer, %security, key, trusted, "session established");
            call(|| handler.connected(session))
        }
        Event::Transfer { id, transfer } => {
            let incoming = link.accept(id, transfer);
            let (session, handler) = (session.clone(), Arc::clone(handler));
            session.handled().fetch_add(1, Ordering::SeqCst);
            link.runtime().spawn(receive(session, handler, incoming));
            Ok(())
        }
        Event::Undelivered { size, error, .. } => {
            tracing::warn!(session = %id, %peer, size, %error, "a message was not delivered");
            Ok(())
        }
        Event::Error(text) => {
            warn_seldom!(session.server(), session = %id, %peer, ?text, "the peer reports an error");
            call(|| handler.error(session, &text))
        }
        // The ends of streams have handles; the others are not for here.
        Event::Sent { .. } | Event::Aborted { .. } | Event::Message(_) | Event::Closed(_) => Ok(()),
    }
}

/// The connection of a session is over.
fn end<H: Handler>(session: &Session<H::Data>, handler: &H, reason: &CloseReason) {
    let (id, peer) = (session.id(), session.peer());
    session.mailbox().finish(reason.clone());
    session.server().count_end(session, reason);
    if session.is_established() {
        // `Debug` of the reason: a peer's text must not bring control characters into the log.
        tracing::info!(session = %id, %peer, ?reason, "session ended");
        if let Err(error) = call(|| handler.disconnected(session, reason)) {
            tracing::error!(session = %id, %peer, %error, "the handler failed");
        }
    } else {
        let hint = match reason {
            CloseReason::Eof { .. } => "; a client that holds another key?",
            CloseReason::Protocol(ProtocolError::UnknownKey(id)) if *id == Key::default().id() => {
                "; a client without a key of its own"
            }
            _ => "",
        };
        let server = session.server();
        warn_seldom!(server, %peer, ?reason, "connection ended in the handshake{hint}");
    }
}

/// The handler has failed: its session ends.
fn close_failed<D>(session: &Session<D>, error: &str) {
    let (id, peer) = (session.id(), session.peer());
    if session.mailbox().lock().close.is_some() {
        // It was closed before, and what is queued goes out.
        tracing::debug!(session = %id, %peer, %error, "the handler failed on a closing session");
    } else {
        tracing::error!(session = %id, %peer, %error, "the handler failed; closing its session");
        session.abort("Internal error");
    }
}

/// Lets the handler have a message that comes in pieces.
async fn receive<H: Handler>(session: Session<H::Data>, handler: Arc<H>, incoming: Incoming) {
    let server = session.server().clone();
    let owner = session.clone();
    let mut future = pin!(async move { handler.incoming(session, incoming).await });
    let guarded = poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        match polled {
            Ok(polled) => polled.map(|done| done.map_err(|error| error.to_string())),
            Err(panic) => Poll::Ready(Err(describe(&*panic))),
        }
    });
    let _handled = Handled(&owner);
    if let Some(Err(error)) = unless(pin!(server.stopped()), guarded).await {
        close_failed(&owner, &error);
    }
}

/// A stream that is handled, until it is dropped.
struct Handled<'s, D>(&'s Session<D>);

impl<D> Drop for Handled<'_, D> {
    fn drop(&mut self) {
        self.0.handled().fetch_sub(1, Ordering::SeqCst);
        self.0.mailbox().wake();
    }
}

/// How full the mailbox of a session may be when its next message is handled: answered with one as
/// large, it does not overflow.
fn mark<D>(session: &Session<D>) -> usize {
    if planted!("a handler meets a full outbox") {
        return usize::MAX;
    }
    let limit = session.mailbox().limit();
    let largest = session.server().config().largest_message();
    limit.saturating_sub(largest).min(limit / 2)
}

/// Lets the other tasks of the thread run.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The handler at work on a message. The box is for the next message too, while messages come.
struct Work<F>(Option<Pin<Box<Option<F>>>>);

impl<F> Work<F> {
    /// Lets the handler have a message. A panic before its first wait is a panic like the others.
    fn begin(&mut self, f: impl FnOnce() -> F) -> Result<(), String> {
        let future = Some(call(f)?);
        match &mut self.0 {
            Some(room) => room.set(future),
            room => *room = Some(Box::pin(future)),
        }
        Ok(())
    }
}

impl<F: Future<Output = Result<(), HandlerError>>> Work<F> {
    /// What comes of it, if there is any; the connection goes on meanwhile.
    fn finish<R: Runtime, D>(
        &mut self,
        link: &mut Link<R>,
        session: &Session<D>,
    ) -> impl Future<Output = Result<(), String>> {
        poll_fn(|cx| {
            let Some(room) = &mut self.0 else {
                return Poll::Ready(Ok(()));
            };
            let Some(future) = room.as_mut().as_pin_mut() else {
                return Poll::Ready(Ok(()));
            };
            let done = match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                Ok(Poll::Ready(done)) => done.map_err(|error| error.to_string()),
                Ok(Poll::Pending) => {
                    link.poll_io(cx);
                    if !session.mailbox().lock().kill {
                        return Poll::Pending;
                    }
                    Ok(())
                }
                Err(panic) => Err(describe(&*panic)),
            };
            // What the handler kept in it may panic, too.
            let dropped = call(|| room.set(None));
            Poll::Ready(done.and(dropped))
        })
    }
}

/// Calls into the handler; a panic becomes an error.
fn call<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| describe(&*panic))
}

fn describe(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("panicked: {text}")
}
