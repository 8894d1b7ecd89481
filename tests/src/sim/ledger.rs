//! Who sent what, who got what, and how it ended: the books that must balance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chat_core::{CloseReason, Message, Uuid};

use super::executor::Simulation;

/// The longest first line of a content.
const TAG: usize = 24;

/// One message: who sent it, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Letter {
    /// The number of the client.
    pub client: usize,
    /// Counted from 0.
    pub number: usize,
    /// Its size in bytes.
    pub size: usize,
}

impl Letter {
    /// Its content: who, which, how long, and letters of one to four bytes. No part of it looks like
    /// the part where another chunk begins.
    pub(super) fn content(self) -> String {
        const LETTERS: &str = "aé€😀\nzb€€y😀xé\tn.éàü€ö😀q";
        let Self {
            client,
            number,
            size,
        } = self;
        let mut text = format!("{client} {number} {size}\n");
        text.reserve(size + LETTERS.len());
        let from = LETTERS.char_indices().nth((client + number) % 16);
        text.push_str(&LETTERS[from.map_or(0, |(index, _)| index)..]);
        while text.len() < size {
            text.push_str(LETTERS);
        }
        while text.len() > size {
            text.pop();
        }
        let missing = size.saturating_sub(text.len());
        text.extend(std::iter::repeat_n('.', missing));
        text
    }

    /// The size of a message that is to have about this one.
    pub(super) fn sized(client: usize, number: usize, size: usize) -> Self {
        let size = size.max(TAG);
        Self {
            client,
            number,
            size,
        }
    }

    /// Reads a content, if it is one of these, whole and unchanged.
    pub(super) fn read(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?;
        let (first, _) = text.split_once('\n')?;
        let mut numbers = first.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        let letter = Self {
            client: next()?,
            number: next()?,
            size: next()?,
        };
        (letter.content() == text).then_some(letter)
    }
}

/// The books of a world.
#[derive(Clone)]
pub(super) struct Ledger {
    simulation: Simulation,
    books: Arc<Mutex<Books>>,
}

/// What is in them.
#[derive(Default)]
pub(super) struct Books {
    /// By client.
    pub clients: BTreeMap<usize, ClientBook>,
    /// By session.
    pub sessions: BTreeMap<Uuid, SessionBook>,
}

/// What a client did and saw.
#[derive(Default)]
pub(super) struct ClientBook {
    /// Whether the channel of its first connection was trusted, if that was still there to be asked.
    pub trusted: Option<bool>,
    /// What the library took to send, in order, and whether as a stream.
    pub accepted: Vec<(Letter, bool)>,
    /// Streams that were given up, or of which it was said that they did not arrive.
    pub given_up: BTreeSet<Letter>,
    /// What came.
    pub received: Vec<Letter>,
    /// How its connections ended.
    pub ends: Vec<CloseReason>,
    /// Messages of which it was told that they are lost.
    pub lost: u64,
    /// Messages of which it was told that they were not taken.
    pub undelivered: usize,
    /// Messages of which it was told that it does not take them.
    pub left_out: usize,
    /// It has been told that no event follows.
    pub finished: bool,
    /// Why there was no first connection.
    pub failed: Option<String>,
    /// It has begun to close.
    pub closing: bool,
    /// What it has said in closing.
    pub goodbye: Option<CloseReason>,
}

/// What the server saw of a session.
#[derive(Default)]
pub(super) struct SessionBook {
    /// The number of its client.
    pub client: usize,
    /// The messages that arrived.
    pub arrived: Vec<Letter>,
    /// What was queued for it, in order; streams that are forwarded are not among it.
    pub queued: Vec<Letter>,
    /// How it ended.
    pub end: Option<CloseReason>,
}

impl Ledger {
    /// Empty books.
    pub(super) fn new(simulation: &Simulation) -> Self {
        Self {
            simulation: simulation.clone(),
            books: Arc::default(),
        }
    }

    /// The books.
    pub(super) fn open(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page of a client.
    pub(super) fn client<T>(&self, number: usize, write: impl FnOnce(&mut ClientBook) -> T) -> T {
        write(self.open().clients.entry(number).or_default())
    }

    /// The page of a session.
    pub(super) fn session<T>(&self, id: Uuid, write: impl FnOnce(&mut SessionBook) -> T) -> T {
        write(self.open().sessions.entry(id).or_default())
    }

    /// Says that something is wrong.
    pub(super) fn broken(&self, what: impl Into<String>) {
        self.simulation.broken(what);
    }

    /// Reads a message that came. One that nobody sent like this breaks the world.
    pub(super) fn read(&self, whose: &str, content: &Bytes) -> Option<Letter> {
        let Some(letter) = Letter::read(content) else {
            let start = String::from_utf8_lossy(&content[..content.len().min(60)]);
            self.broken(format!(
                "{whose}: nobody sent {} bytes {start:?}",
                content.len()
            ));
            return None;
        };
        let was_sent = {
            let books = self.open();
            let client = books.clients.get(&letter.client);
            client.is_some_and(|client| client.accepted.iter().any(|(sent, _)| *sent == letter))
        };
        if !was_sent {
            self.broken(format!("{whose}: {letter:?} was not sent"));
        }
        Some(letter)
    }

    /// A message arrived at the server.
    pub(super) fn arrived(&self, session: Uuid, content: &Bytes) -> Option<Letter> {
        let letter = self.read("the server", content)?;
        let twice = self
            .open()
            .sessions
            .values()
            .any(|it| it.arrived.contains(&letter));
        if twice {
            self.broken(format!("the server: {letter:?} arrived twice"));
        }
        self.session(session, |it| it.arrived.push(letter));
        Some(letter)
    }

    /// A message arrived at a client. What the server says itself is no letter.
    pub(super) fn received(&self, client: usize, message: &Message) {
        if message
            .as_text()
            .is_some_and(|text| text.starts_with("[a message was left out"))
        {
            return self.client(client, |it| it.left_out += 1);
        }
        let whose = format!("client {client}");
        let Some(letter) = self.read(&whose, message.content()) else {
            return;
        };
        let twice = self.client(client, |it| {
            let twice = it.received.contains(&letter);
            it.received.push(letter);
            twice
        });
        if twice {
            self.broken(format!("{whose}: {letter:?} came twice"));
        }
    }
}
