//! Two connections and a network between them, in virtual time.

use core::time::Duration;
use std::sync::Arc;

use chat_core::{
    CloseReason, Config, Connection, Entropy, Event, Instant, Message, Role, SendError, State,
};

use super::{LONG, Link, SESSION, START};

/// One connection and its application.
pub(crate) struct End {
    pub(crate) connection: Connection,
    /// What it has reported.
    pub(crate) events: Vec<Event>,
    /// Whether its application polls events.
    pub(crate) polls: bool,
    saw_eof: bool,
}

/// A client and a server, and what is between them. The clock jumps from one wake-up to the next.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) client: End,
    pub(crate) server: End,
    /// What the client sends.
    pub(crate) up: Link,
    /// What the server sends.
    pub(crate) down: Link,
}

impl End {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            events: Vec::new(),
            polls: true,
            saw_eof: false,
        }
    }

    /// The messages that it reported.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.events.iter().filter_map(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        })
    }

    /// How it ended, if it did: the last event and the only one of its kind.
    pub(crate) fn closed(&self) -> Option<&CloseReason> {
        let mut ends = self.events.iter().enumerate().filter_map(|(i, event)| {
            if let Event::Closed(reason) = event {
                Some((i, reason))
            } else {
                None
            }
        });
        let (index, reason) = ends.next()?;
        assert_eq!(index + 1, self.events.len(), "events after the end");
        Some(reason)
    }

    /// Its application takes every event that waits.
    pub(crate) fn poll_events(&mut self) -> bool {
        let before = self.events.len();
        self.events
            .extend(core::iter::from_fn(|| self.connection.poll_event()));
        self.events.len() > before
    }
}

impl Pair {
    /// Both ends with the same settings, before anything was sent.
    pub(crate) fn new(config: Config) -> Self {
        Self::with(config.clone(), config)
    }

    /// Each end with its own settings.
    pub(crate) fn with(client: Config, server: Config) -> Self {
        Self::of(
            Connection::client(Arc::new(client), Entropy::new([1; 32]), START),
            Connection::server(Arc::new(server), SESSION, Entropy::new([2; 32]), START),
        )
    }

    /// Any two connections.
    pub(crate) fn of(client: Connection, server: Connection) -> Self {
        Self {
            now: START,
            client: End::new(client),
            server: End::new(server),
            up: Link::new(START),
            down: Link::new(START),
        }
    }

    /// Both ends after the handshake, which took no time.
    pub(crate) fn established(config: Config) -> Self {
        let mut pair = Self::new(config);
        pair.settle();
        for end in [&mut pair.client, &mut pair.server] {
            assert_eq!(end.connection.state(), State::Established);
            assert_eq!(
                core::mem::take(&mut end.events),
                [Event::Established { session: SESSION }]
            );
        }
        pair.up.sent.clear();
        pair.down.sent.clear();
        pair
    }

    /// One end.
    pub(crate) fn end(&mut self, role: Role) -> &mut End {
        match role {
            Role::Client => &mut self.client,
            Role::Server => &mut self.server,
        }
    }

    /// The other end.
    pub(crate) fn peer(&mut self, role: Role) -> &mut End {
        self.end(match role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        })
    }

    /// What one end sends.
    pub(crate) fn link(&mut self, from: Role) -> &mut Link {
        match from {
            Role::Client => &mut self.up,
            Role::Server => &mut self.down,
        }
    }

    /// One end sends a message.
    pub(crate) fn send(&mut self, from: Role, message: Message) -> Result<(), SendError> {
        let now = self.now;
        self.end(from).connection.send(now, message)
    }

    /// One end says goodbye.
    pub(crate) fn close(&mut self, from: Role, reason: &str) {
        let now = self.now;
        self.end(from).connection.close(now, reason);
    }

    /// Everything happens that takes no time.
    pub(crate) fn settle(&mut self) {
        let mut turns = 0;
        while self.turn() {
            turns += 1;
            assert!(turns < 1_000_000, "the two keep each other busy for ever");
        }
    }

    /// Time passes: everything happens that is due, when it is due.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// As [`run_for`](Self::run_for), up to a point in time.
    pub(crate) fn run_until(&mut self, end: Instant) {
        self.settle();
        while let Some(next) = self.next_wake().filter(|next| *next <= end) {
            self.wake(next);
            self.settle();
        }
        self.now = end;
    }

    /// Time passes until both ends are closed.
    pub(crate) fn run_to_end(&mut self) {
        self.settle();
        while !(self.client.connection.is_closed() && self.server.connection.is_closed()) {
            let next = self.next_wake().expect("something will happen");
            assert!(next - START < LONG, "it never ends");
            self.wake(next);
            self.settle();
        }
        self.client.poll_events();
        self.server.poll_events();
    }

    /// When something happens next.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let arrival = |link: &Link, to: &End| {
            link.arrival()
                .filter(|_| to.connection.is_closed() || to.connection.wants_input())
        };
        [
            self.client.connection.poll_timeout(),
            self.server.connection.poll_timeout(),
            arrival(&self.up, &self.server),
            arrival(&self.down, &self.client),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The clock jumps; deadlines that have passed are kept.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.now = self.now.max(now);
        for end in [&mut self.client, &mut self.server] {
            end.connection.handle_timeout(self.now);
            let next = end.connection.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a deadline is left that has passed: {next:?} at {:?}",
                self.now
            );
        }
    }

    /// Each end writes what its link takes, and reads one piece. False: nothing happened.
    pub(crate) fn turn(&mut self) -> bool {
        let Self {
            now,
            client,
            server,
            up,
            down,
        } = self;
        let moved = [
            write(*now, client, up),
            write(*now, server, down),
            read(*now, up, server),
            read(*now, down, client),
            client.polls && client.poll_events(),
            server.polls && server.poll_events(),
        ];
        moved.contains(&true)
    }
}

fn write(now: Instant, from: &mut End, link: &mut Link) -> bool {
    let mut slices = [&[][..]; 2];
    let count = from.connection.poll_transmit(&mut slices);
    let mut taken = 0;
    for slice in &slices[..count] {
        let len = link.write(now, slice);
        taken += len;
        if len < slice.len() {
            break;
        }
    }
    from.connection.consume_transmit(now, taken);
    if from.connection.is_write_finished() {
        link.end();
    }
    taken > 0
}

fn read(now: Instant, link: &mut Link, to: &mut End) -> bool {
    if to.connection.is_closed() {
        link.cut();
        return false;
    }
    if link.is_over() {
        if !to.saw_eof {
            to.saw_eof = true;
            to.connection.handle_eof(now);
            return true;
        }
        return false;
    }
    let arrived = link.arrival().is_some_and(|at| at <= now);
    if !arrived || !to.connection.wants_input() {
        return false;
    }
    let taken = to.connection.handle_input(now, link.piece());
    link.consume(now, taken);
    taken > 0
}
