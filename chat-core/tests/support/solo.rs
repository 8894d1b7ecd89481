//! One connection; its peer is the test.

use core::time::Duration;
use std::sync::Arc;

use chat_core::frame::{Decoder, Frame, FrameKind, Limits};
use chat_core::{
    CloseReason, Config, Connection, Entropy, Event, Instant, Key, Message, Role, State,
};

use super::wire::{decode, encode, frame};
use super::{SESSION, START};

/// A connection, a clock, and what a peer would do to it.
pub(crate) struct Solo {
    pub(crate) connection: Connection,
    pub(crate) now: Instant,
}

impl Solo {
    /// A connection that has just been made. A server's `session_init` waits to be sent.
    pub(crate) fn new(role: Role, config: Config) -> Self {
        let config = Arc::new(config);
        let connection = match role {
            Role::Client => Connection::client(config, Entropy::new([1; 32]), START),
            Role::Server => Connection::server(config, SESSION, Entropy::new([2; 32]), START),
        };
        Self::of(connection)
    }

    /// Any connection that has just been made.
    pub(crate) fn of(connection: Connection) -> Self {
        Self {
            connection,
            now: START,
        }
    }

    /// A connection whose handshake is done, with nothing to send and nothing to report.
    pub(crate) fn established(role: Role, config: Config) -> Self {
        let mut solo = Self::new(role, config);
        solo.feed(&match role {
            Role::Client => frame(FrameKind::SessionInit, "Session established"),
            Role::Server => frame(FrameKind::SessionAck, "Session acknowledged"),
        });
        solo.sent();
        assert_eq!(solo.events(), [Event::Established { session: SESSION }]);
        assert_eq!(solo.connection.state(), State::Established);
        solo
    }

    /// A frame arrives.
    pub(crate) fn feed(&mut self, frame: &Frame) {
        self.feed_bytes(&encode(frame));
    }

    /// Bytes arrive, and all of them are taken.
    pub(crate) fn feed_bytes(&mut self, bytes: &[u8]) {
        let taken = self.connection.handle_input(self.now, bytes);
        assert_eq!(taken, bytes.len(), "the connection took less");
    }

    /// Queues a message that fits.
    pub(crate) fn send(&mut self, message: Message) {
        self.connection
            .send(self.now, message)
            .expect("the message fits");
    }

    /// The bytes that one call shows: a frame, or what is left of it.
    pub(crate) fn shown(&self) -> Vec<u8> {
        let mut slices = [&[][..]; 2];
        let count = self.connection.poll_transmit(&mut slices);
        slices[..count].concat()
    }

    /// The transport takes `len` bytes of what is shown.
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = self.shown();
        bytes.truncate(len);
        self.connection.consume_transmit(self.now, bytes.len());
        bytes
    }

    /// The transport takes everything: each frame as the bytes of one call.
    pub(crate) fn sent_bytes(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while !self.shown().is_empty() {
            frames.push(self.take(usize::MAX));
            assert!(frames.len() < 10_000, "it sends for ever");
        }
        frames
    }

    /// The transport takes everything: the frames, each of which must be whole.
    pub(crate) fn sent(&mut self) -> Vec<Frame> {
        let bytes = self.sent_bytes();
        let mut reader = Decoder::new(Key::default(), Limits::default());
        let sent = decode(&mut reader, bytes.iter().map(Vec::as_slice));
        assert_eq!(sent.end, Ok(0), "what was sent is not whole frames");
        sent.frames
    }

    /// What the connection has reported since the last call.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.connection.poll_event()).collect()
    }

    /// The one event that is left, which must be the end.
    pub(crate) fn closed(&mut self) -> CloseReason {
        match &self.events()[..] {
            [Event::Closed(reason)] => reason.clone(),
            other => panic!("not only an end: {other:?}"),
        }
    }

    /// Time passes, and every deadline in it is kept.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.connection.poll_timeout().filter(|due| *due <= end) {
            self.now = due;
            self.connection.handle_timeout(due);
            let next = self.connection.poll_timeout();
            assert!(next.is_none_or(|next| next > due), "{next:?} after {due:?}");
        }
        self.now = end;
    }

    /// How long until the next deadline.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.connection.poll_timeout().map(|due| due - self.now)
    }
}
