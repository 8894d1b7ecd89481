//! The one loop between a [`Connection`] and its socket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::incoming::Incoming;
use super::mailbox::{Mailbox, Outgoing, PeerLimits, Unsent};
use super::rt::{Runtime, Sleep, Socket, Stream};
use super::streams::Streams;
use crate::{
    Connection, Event, Instant, Message, SendError, State, Transfer, TransferError, TransferId,
};

/// How much is read at once, into a buffer of the thread: a connection that waits owns none.
const READ_BUFFER: usize = 64 * 1024;
/// How many writes are made before the task looks at its other duties.
const WRITES_PER_TURN: usize = 64;
/// How many slices are written at once, to a peer that takes frames in any number.
const SLICES: usize = 16;
/// How many turns a task takes before it lets others run.
const TURNS_PER_POLL: u32 = 16;

/// What is said of a socket that took no more and whose peer ended without a goodbye.
const CANNOT_WRITE: &str = "the connection takes no more";

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection and the socket under it.
///
/// All state is here, none in a future: whatever polls it may be dropped and polled again by
/// another without a byte lost.
pub(super) struct Link<R: Runtime> {
    connection: Connection,
    /// `None` when the connection is over.
    socket: Option<Socket<R>>,
    runtime: R,
    mailbox: Arc<Mailbox>,
    sleep: Option<R::Sleep>,
    /// When `sleep` fires: no later than the next deadline.
    armed: Option<Instant>,
    /// Bytes that were read and that the connection did not take yet.
    rest: Vec<u8>,
    /// Messages for which the connection has had no room yet.
    waiting: VecDeque<Outgoing>,
    /// The same, of those that go out in chunks.
    waiting_large: Option<Box<Message>>,
    /// Messages for which there are handles.
    streams: Streams,
    /// When the connection ends that is to be closed, whatever waits.
    close_by: Option<Instant>,
    /// The mailbox knows what the peer takes.
    introduced: bool,
    /// The connection was told to close.
    closing: bool,
    /// Messages handed to the connection.
    handed: u64,
    /// Messages that earlier connections of the same mailbox sent.
    sent_before: u64,
    reading: bool,
    writing: Writing,
    turns: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// Ended by this end.
    Done,
    /// The socket takes no more. What the peer said last may still be there to read.
    Failed,
}

impl<R: Runtime> Drop for Link<R> {
    /// Nobody is to wait for a task that is gone.
    fn drop(&mut self) {
        let now = self.runtime.now();
        self.connection.handle_transport_error(now, "dropped");
        self.streams.close(&mut self.connection, now);
    }
}

impl<R: Runtime> Link<R> {
    /// In a box, for a future keeps room for each place where it is moved to.
    pub(super) fn boxed(
        connection: Connection,
        socket: Socket<R>,
        runtime: R,
        mailbox: Arc<Mailbox>,
    ) -> Box<Self> {
        let sent_before = mailbox.lock().sent();
        Box::new(Self {
            sleep: None,
            connection,
            socket: Some(socket),
            runtime,
            mailbox,
            armed: None,
            rest: Vec::new(),
            waiting: VecDeque::new(),
            waiting_large: None,
            streams: Streams::default(),
            close_by: None,
            introduced: false,
            closing: false,
            handed: 0,
            sent_before,
            reading: true,
            writing: Writing::Open,
            turns: 0,
        })
    }

    /// Works until there is an event for the application.
    ///
    /// While more than `mark` bytes wait in the mailbox there is none: someone who answers each
    /// event then never meets a full one, and a peer that does not take its answers is not read
    /// from.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>, mark: usize) -> Poll<Event> {
        loop {
            if let Some(event) = self.take_event(mark) {
                return Poll::Ready(event);
            }
            if !self.turn(cx) {
                // A command may end the connection without a byte moving.
                return self.take_event(mark).map_or(Poll::Pending, Poll::Ready);
            }
        }
    }

    fn take_event(&mut self, mark: usize) -> Option<Event> {
        if !self.is_over() && self.mailbox.bytes() > mark {
            return None;
        }
        let event = self.connection.poll_event()?;
        // Who hears of it may send, and is to know what is taken.
        if matches!(event, Event::Established { .. })
            && let Some(peer) = self.introduction()
        {
            self.mailbox.lock().set_peer(peer);
        }
        Some(event)
    }

    /// Works without giving events: while the application is busy with one.
    pub(super) fn poll_io(&mut self, cx: &mut Context<'_>) {
        while self.turn(cx) {}
    }

    /// The connection has ended, and its socket is closed; events may still wait.
    pub(super) fn is_over(&self) -> bool {
        self.connection.is_closed()
    }

    /// What did not leave. Asked after the end.
    pub(super) fn take_unsent(&mut self) -> Unsent {
        let stats = self.connection.stats();
        let large = self.waiting_large.take();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.extend(large.map(|large| Outgoing::Message(*large)));
        Unsent {
            lost: self.handed - stats.messages_sent - stats.messages_aborted,
            waiting,
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn runtime(&self) -> &R {
        &self.runtime
    }

    /// Takes in the message that an [`Event::Transfer`] announces.
    pub(super) fn accept(&mut self, id: TransferId, transfer: Transfer) -> Incoming {
        let incoming = self.streams.accept(id, transfer, &self.mailbox);
        if self.is_over() {
            let now = self.runtime.now();
            self.streams.close(&mut self.connection, now);
        } else {
            // Some of it may be here already.
            self.mailbox.wake();
        }
        incoming
    }

    /// Everything once: commands in, bytes out, bytes in, timers. True if it is worth another
    /// turn; otherwise the task will be woken.
    fn turn(&mut self, cx: &mut Context<'_>) -> bool {
        if self.turns == TURNS_PER_POLL {
            self.turns = 0;
            cx.waker().wake_by_ref();
            return false;
        }
        self.turns += 1;
        let now = self.runtime.now();
        self.pump(now);
        self.take_commands(cx, now);
        self.pump(now);
        let mut progress = self.write(cx, now);
        progress |= self.read(cx, now);
        progress |= self.keep_time(cx, now);
        self.publish();
        if self.pump(now) {
            self.publish();
        }
        if self.is_over() {
            debug_assert!(
                self.connection.poll_transmit(&mut [&[]]) == 0
                    && self.connection.poll_timeout().is_none(),
                "a closed connection has nothing more to do"
            );
            // The peer is not to wait for what the application still does.
            self.socket = None;
            self.streams.close(&mut self.connection, now);
        }
        if !progress {
            self.turns = 0;
        }
        progress
    }

    /// Does what there is to do for the messages that have handles. True if there are any.
    fn pump(&mut self, now: Instant) -> bool {
        let mut any = !self.streams.is_empty();
        while let Some(notice) = self.connection.poll_notice() {
            any = true;
            match notice {
                Event::Sent { id } => self.streams.end(id, Ok(())),
                Event::Aborted { id, error } => self.streams.end(id, Err(error)),
                _ => {}
            }
        }
        if !self.streams.is_empty() {
            self.streams.pump(&mut self.connection, now);
        }
        any
    }

    /// What the peer takes, when that is known and the mailbox does not know it yet.
    fn introduction(&mut self) -> Option<PeerLimits> {
        if self.introduced || self.connection.state() != State::Established {
            return None;
        }
        self.introduced = true;
        Some(PeerLimits {
            threshold: self.connection.largest_in_one(),
            message: self.connection.max_message(),
            stream: self.connection.max_stream(),
            security: self.connection.security(),
            trusted: self.connection.peer_extensions().trust,
        })
    }

    fn take_commands(&mut self, cx: &mut Context<'_>, now: Instant) {
        let introduction = self.introduction();
        let mut inner = self.mailbox.lock();
        let mut changed = false;
        if let Some(peer) = introduction {
            inner.set_peer(peer);
        }
        for outlet in inner.pop_opening() {
            self.streams.begin(outlet);
        }
        inner.register(cx);
        if inner.kill || inner.close.as_ref().is_some_and(|close| close.abort) {
            let reason = inner.close.as_ref().map(|close| Arc::clone(&close.reason));
            let kill = inner.kill;
            inner.clear();
            drop(inner);
            self.abort(now, reason.as_deref().unwrap_or(""));
            if kill {
                self.connection
                    .handle_transport_error(now, "ended by this end");
            }
            return self.mailbox.notify();
        }
        drop(inner);

        // Signing takes its time: nobody who has a message for this session is to wait for it.
        while self.connection.state() == State::Established && !self.connection.has_a_write() {
            if self.waiting.is_empty() {
                self.mailbox.pop_some(&mut self.waiting);
            }
            let Some(outgoing) = self.waiting.pop_front() else {
                break;
            };
            changed = true;
            match outgoing {
                Outgoing::Error(text) => self.connection.send_error(now, &text),
                Outgoing::Message(message) => {
                    if let Some(message) = self.send(now, message) {
                        self.waiting.push_front(Outgoing::Message(message));
                        break;
                    }
                }
            }
        }
        while self.connection.state() == State::Established {
            let next = self.waiting_large.take().map(|next| *next);
            let next = next.or_else(|| self.mailbox.lock().pop_large());
            let Some(message) = next else { break };
            changed = true;
            self.waiting_large = self.send(now, message).map(Box::new);
            if self.waiting_large.is_some() {
                break;
            }
        }
        self.close_in_time(now);
        if (self.waiting.is_empty() || planted!("closing loses the tail"))
            && self.waiting_large.is_none()
            && !self.streams.has_queued()
            && !self.closing
            && let Some(reason) = self.mailbox.lock().reason_to_close()
        {
            self.closing = true;
            self.connection.close(now, &reason);
        }
        if changed {
            self.mailbox.notify();
        }
    }

    /// Ends the connection without sending what waits.
    fn abort(&mut self, now: Instant, reason: &str) {
        let waiting = self.waiting.drain(..).filter(Outgoing::is_message).count() as u64;
        let dropped = waiting + u64::from(self.waiting_large.take().is_some());
        self.mailbox.lock().add_dropped(dropped);
        self.closing = true;
        self.connection.abort(now, reason);
    }

    /// What is queued has its time to go out, and no more, when the connection is to be closed.
    fn close_in_time(&mut self, now: Instant) {
        if self.closing {
            return;
        }
        let mut inner = self.mailbox.lock();
        let Some(reason) = inner.close.as_ref().map(|close| Arc::clone(&close.reason)) else {
            return;
        };
        match self.close_by {
            None => {
                let streaming = usize::try_from(self.mailbox.streaming()).unwrap_or(usize::MAX);
                let queued = inner.queued_bytes().saturating_add(streaming);
                let time = self.connection.time_to_close(queued);
                self.close_by = now.checked_add(time);
            }
            Some(due) if due <= now => {
                inner.clear();
                drop(inner);
                self.abort(now, &reason);
                self.mailbox.notify();
            }
            Some(_) => {}
        }
    }

    /// Hands a message to the connection, which gives it back if it has no room.
    fn send(&mut self, now: Instant, message: Message) -> Option<Message> {
        match self.connection.send(now, message) {
            Ok(()) => self.handed += 1,
            Err(SendError::Full(message)) => return Some(message),
            // Queued before there was a peer.
            Err(SendError::TooLarge(message)) => {
                self.mailbox.lock().add_lost(1);
                let max = self.connection.max_message();
                self.connection.push_event(Event::Undelivered {
                    content_type: message.content_type().clone(),
                    size: message.content().len() as u64,
                    error: TransferError::TooLarge { max },
                });
            }
            // The mailbox takes no message that the connection does not.
            Err(error) => unreachable!("{error}"),
        }
        None
    }

    /// Lets the handles see how far the connection is, before anybody is told what has arrived.
    fn publish(&self) {
        let stats = self.connection.stats();
        let mut inner = self.mailbox.lock();
        inner.stats = stats;
        inner.heard = self.connection.last_heard();
        let sent = self.sent_before + stats.messages_sent;
        let has_sent = inner.set_sent(sent, stats.messages_aborted);
        drop(inner);
        if has_sent {
            self.mailbox.notify();
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(socket) = &mut self.socket else {
            return false;
        };
        let mut progress = false;
        for _ in 0..WRITES_PER_TURN {
            if self.writing != Writing::Open {
                return progress;
            }
            let mut parts = [&[][..]; SLICES];
            let count = self.connection.poll_transmit(&mut parts);
            if count == 0 {
                break;
            }
            let slices = parts.map(IoSlice::new);
            match socket.poll_write(cx, &slices[..count]) {
                Poll::Pending => {
                    if planted!("a write is torn") {
                        self.connection.consume_transmit(now, 1);
                    }
                    return progress;
                }
                Poll::Ready(Ok(bytes)) if bytes > 0 => {
                    self.connection.consume_transmit(now, bytes);
                    progress = true;
                }
                Poll::Ready(_) => {
                    self.writing = Writing::Failed;
                    if !self.reading {
                        self.connection.handle_transport_error(now, CANNOT_WRITE);
                    }
                    return true;
                }
            }
        }
        if planted!("the tail is reset") && self.closing && self.connection.is_write_finished() {
            self.connection.handle_transport_error(now, CANNOT_WRITE);
        }
        if self.connection.is_write_finished()
            && !self.connection.is_closed()
            && socket.poll_shutdown(cx).is_ready()
        {
            self.writing = Writing::Done;
            progress = true;
        }
        progress
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        if !self.rest.is_empty() {
            let taken = self.connection.handle_input(now, &self.rest);
            self.rest.drain(..taken);
            if !self.rest.is_empty() {
                return taken > 0;
            }
            self.rest = Vec::new();
        }
        if !self.reading || !self.connection.wants_input() {
            return false;
        }
        let Some(socket) = &mut self.socket else {
            return false;
        };
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(READ_BUFFER, 0);
            match socket.poll_read(cx, buffer) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0)) => {
                    self.reading = false;
                    self.connection.handle_eof(now);
                    if self.writing == Writing::Failed {
                        // Nothing will leave any more: there is nothing to wait for.
                        self.connection.handle_transport_error(now, CANNOT_WRITE);
                    }
                }
                Poll::Ready(Ok(bytes)) => {
                    let taken = self.connection.handle_input(now, &buffer[..bytes]);
                    if !planted!("a read forgets") {
                        self.rest.extend_from_slice(&buffer[taken..bytes]);
                    }
                    if planted!("idle buffers are kept") {
                        self.rest.reserve(READ_BUFFER);
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.reading = false;
                    self.connection
                        .handle_transport_error(now, &error.to_string());
                }
            }
            true
        })
    }

    /// An idle connection holds no buffers: those that are empty are kept until a timer fires.
    fn release_buffers(&mut self) {
        self.mailbox.release_buffers();
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
    }

    fn keep_time(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let close_by = self.close_by.filter(|_| !self.closing);
        let due = self.connection.poll_timeout().into_iter().chain(close_by);
        let Some(due) = due.min() else {
            // Whoever has nothing to wait for holds no timer.
            self.armed = None;
            self.sleep = None;
            return false;
        };
        // A deadline that moved away is looked at when the timer fires, not before.
        let armed = *self
            .armed
            .insert(self.armed.map_or(due, |armed| armed.min(due)));
        let sleep = self.sleep.get_or_insert_with(|| self.runtime.sleep());
        if sleep.poll_until(cx, armed).is_pending() {
            return false;
        }
        self.armed = None;
        let now = now.max(armed);
        self.connection.handle_timeout(now);
        self.release_buffers();
        debug_assert!(
            self.connection.poll_timeout().is_none_or(|next| next > now),
            "a deadline that has passed is set again"
        );
        true
    }
}
