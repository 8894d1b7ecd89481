//! The messages of a client that reads lines: which are to be sent, and which to come back.

use std::collections::{HashMap, VecDeque};

use chat_tokio::{ContentType, Message, Stats};
use sha2::{Digest, Sha256};

use crate::arrivals::Shown;
use crate::exit::Failure;
use crate::lines::{LargeLine, Line};
use crate::screen::note;

/// How many bytes may be under way at a time, unless a single message is larger.
const WINDOW: u64 = 8 * 1024 * 1024;
/// Lines up to this size keep their order by themselves; a longer one travels alone.
const SMALL: usize = 8 * 1024;

/// The messages that are still to be sent, or to come back.
#[derive(Default)]
pub(crate) struct Pending {
    lines: VecDeque<Line>,
    /// How often each content is under way.
    away: HashMap<Key, usize>,
    away_bytes: u64,
    away_count: u64,
    /// A long line is under way.
    alone: bool,
    sent: u64,
    /// What had gone over the connection when that was last asked for.
    stats: Stats,
}

impl Pending {
    pub(crate) fn take(&mut self, lines: Vec<Line>, commands: bool) {
        for line in lines {
            if commands && matches!(&line, Line::Small(line) if line == b"/help") {
                note(
                    "each line is a message; /quit, exit or the end of the input ends the program",
                );
            } else {
                self.lines.push_back(line);
            }
        }
    }

    /// Whether more lines are wanted.
    pub(crate) fn wants_lines(&self) -> bool {
        self.lines.is_empty()
    }

    /// The next message to send, if there is one and it may go now.
    pub(crate) fn next(&self) -> Option<Next<'_>> {
        let line = match self.lines.front()? {
            _ if self.alone => return None,
            Line::Small(line) if line.len() <= SMALL => line,
            _ if !self.returned() => return None,
            Line::Small(line) => line,
            Line::Large(line) => return Some(Next::Large(line)),
        };
        let len = line.len() as u64;
        if self.away_bytes > 0 && self.away_bytes + len > WINDOW {
            return None;
        }
        let content_type = content_type(std::str::from_utf8(line).is_ok());
        Some(Next::Message(Message::new(content_type, line.clone())))
    }

    /// The next message was sent.
    pub(crate) fn sent(&mut self) {
        let key = match self.lines.pop_front() {
            Some(Line::Small(line)) => {
                self.alone = line.len() > SMALL;
                Key::of(&line)
            }
            // Those are begun, and then uploaded.
            Some(Line::Large(_)) | None => return,
        };
        self.sent += 1;
        self.leaves(key);
    }

    fn leaves(&mut self, key: Key) {
        self.away_bytes += key.len();
        self.away_count += 1;
        *self.away.entry(key).or_default() += 1;
    }

    fn large_key(&self) -> Option<Key> {
        match self.lines.front()? {
            Line::Large(line) => Some(Key::Digest(line.digest, line.size)),
            Line::Small(_) => None,
        }
    }

    /// The next line is on its way by itself. It may come back before all of it is known to have
    /// arrived.
    pub(crate) fn begun(&mut self) {
        if let Some(key) = self.large_key() {
            self.alone = true;
            self.leaves(key);
        }
    }

    /// All of it has arrived.
    pub(crate) fn uploaded(&mut self) {
        self.lines.pop_front();
        self.sent += 1;
    }

    /// It has not: it is still to be sent.
    pub(crate) fn not_sent(&mut self) {
        if let Some(key) = self.large_key() {
            self.came_back(&key);
        }
    }

    /// A message came; true if it is one of ours.
    pub(crate) fn came_back(&mut self, key: &Key) -> bool {
        let Some(count) = self.away.get_mut(key) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.away.remove(key);
        }
        self.away_bytes -= key.len();
        self.away_count -= 1;
        self.alone &= !self.returned();
        true
    }

    /// Whether every message that was sent has come back.
    pub(crate) fn returned(&self) -> bool {
        self.away_count == 0
    }

    /// Whether the connection has moved since the last call: a message of ours that left whole, or
    /// more bytes, either way, than small frames explain. Heartbeats come from a deaf server too.
    pub(crate) fn is_moving(&mut self, now: Stats) -> bool {
        const SMALL_FRAME: u64 = 2048;
        const PART: u64 = 16 * 1024;
        let before = std::mem::replace(&mut self.stats, now);
        let part = |bytes: u64, bytes_before, frames: u64, frames_before| {
            let frames = frames.saturating_sub(frames_before);
            bytes.saturating_sub(bytes_before) > PART + frames * SMALL_FRAME
        };
        now.messages_sent != before.messages_sent
            || part(
                now.bytes_sent,
                before.bytes_sent,
                now.frames_sent,
                before.frames_sent,
            )
            || part(
                now.bytes_received,
                before.bytes_received,
                now.frames_received,
                before.frames_received,
            )
    }

    /// Adds to a failure what it means for the messages.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        if self.returned() {
            return failure;
        }
        let (away, sent) = (self.away_count, self.sent);
        failure.after(&format!("{away} of {sent} messages did not come back"))
    }
}

/// What is to be sent next.
pub(crate) enum Next<'l> {
    Message(Message),
    Large(&'l LargeLine),
}

/// What tells messages apart: the content, or its digest where that is shorter.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Content(Vec<u8>),
    Digest([u8; 32], u64),
}

impl Key {
    fn of(content: &[u8]) -> Self {
        if content.len() <= 256 {
            Self::Content(content.into())
        } else {
            Self::Digest(Sha256::digest(content).into(), content.len() as u64)
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Content(content) => content.len() as u64,
            Self::Digest(_, len) => *len,
        }
    }
}

pub(crate) fn key(shown: &Shown) -> Key {
    match shown {
        Shown::Message(message) => Key::of(message.content()),
        Shown::Large { size, digest, .. } => Key::Digest(*digest, *size),
    }
}

/// What a line is sent as.
pub(crate) fn content_type(is_text: bool) -> ContentType {
    if is_text {
        ContentType::TEXT
    } else {
        ContentType::BINARY
    }
}
