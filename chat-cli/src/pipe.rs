//! Lines in, messages out: `connect --file`, and without a terminal.

use std::collections::{HashMap, VecDeque};
use std::io::{Seek, SeekFrom};
use std::time::Duration;

use chat_tokio::{
    Client, ClientEvent, ContentType, Message, OpenError, SendError, Stats, Transfer,
};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::arrivals::{Arrival, Arrivals, Shown, read_through};
use crate::exit::Failure;
use crate::lines::{Batch, LargeLine, Line};
use crate::printer::Printer;
use crate::screen::{note, sanitize_line};
use crate::send::told;
use crate::signals::Signals;
use crate::upload::{self, SendFailure};

/// How many bytes may be under way at a time, unless a single message is larger.
const WINDOW: u64 = 8 * 1024 * 1024;
/// Lines up to this size keep their order by themselves; a longer one travels alone.
const SMALL: usize = 8 * 1024;
/// The longest wait that makes a difference.
const LONGEST: Duration = Duration::from_hours(24 * 365);
pub(crate) const GOODBYE: &str = "Client disconnecting";

/// How a client that reads no terminal does its work.
pub(crate) struct Manner {
    /// How long to wait for messages to come back.
    pub(crate) wait: Duration,
    /// The lines `/quit` and `/help` are not sent.
    pub(crate) commands: bool,
    /// To go on when there is nothing more to send.
    pub(crate) stay: bool,
}

/// Sends the lines, prints what comes, and ends when every message has come back or none has for
/// too long.
pub(crate) async fn run(
    client: Client,
    mut input: Receiver<Batch>,
    manner: Manner,
    mut arrivals: Arrivals,
    mut signals: Signals,
) -> Result<(), Failure> {
    let Manner {
        wait,
        commands,
        mut stay,
    } = manner;
    let printer = Printer::start();
    // What came and has no place at the printer yet: until it has, nothing more is received.
    let mut arrived: Option<Shown> = None;
    let mut pending = Pending::default();
    // A line that is on its way by itself.
    let mut upload: Option<Uploading> = None;
    let mut failed = None;
    let mut open = true;
    // Connecting again: nothing can come back.
    let mut offline = false;
    // What comes later than this never comes; a clock can be at its end before.
    let wait = wait.min(LONGEST);
    let mut deadline = Instant::now() + wait;
    let done = 'run: loop {
        let blocked = loop {
            match pending.next() {
                _ if upload.is_some() => break None,
                None => break None,
                Some(Next::Large(_)) if offline => break None,
                Some(Next::Large(line)) => match begin(&client, line) {
                    Ok(begun) => {
                        upload = Some(begun);
                        pending.begun();
                    }
                    // The reason is in an event.
                    Err(None) => break None,
                    Err(Some(error)) => break 'run Err(pending.explain(Failure::io(error))),
                },
                Some(Next::Message(message)) => match client.try_send(message) {
                    Ok(()) => {
                        if pending.returned() {
                            deadline = Instant::now() + wait;
                        }
                        pending.sent();
                    }
                    Err(SendError::Full(message)) => break Some(message),
                    // The reason is in the last event.
                    Err(_) => break None,
                },
            }
        };
        let done = !open && pending.lines.is_empty() && pending.returned();
        if done && !stay && arrived.is_none() && arrivals.is_idle() {
            break failed.map_or(Ok(()), Err);
        }
        tokio::select! {
            () = signals.next() => break Err(Failure::interrupted()),
            batch = input.recv(), if open && pending.lines.is_empty() => match batch {
                None => open = false,
                Some(Err(failure)) => break Err(failure),
                Some(Ok(mut lines)) => {
                    let is_quit = |line: &Line| matches!(line, Line::Small(line) if line == b"/quit");
                    if let Some(quit) = lines.iter().position(|line| commands && is_quit(line)) {
                        lines.truncate(quit);
                        (open, stay) = (false, false);
                    }
                    pending.take(lines, commands);
                }
            },
            true = send(&client, blocked.as_ref()), if blocked.is_some() => pending.sent(),
            // Printing has failed; why is said at the end.
            () = printer.messages.closed() => break Ok(()),
            Ok(place) = printer.messages.reserve(), if arrived.is_some() => {
                if let Some(message) = arrived.take() {
                    place.send(message);
                }
            }
            sent = finished(&mut upload), if upload.is_some() => {
                upload = None;
                match sent {
                    Ok(()) => {
                        deadline = Instant::now() + wait;
                        pending.uploaded();
                    }
                    // The reason is in an event, and the next connection may do better.
                    Err(SendFailure::Lost) => pending.not_sent(),
                    Err(SendFailure::Other(error)) => break Err(pending.explain(Failure::io(error))),
                }
            },
            arrival = arrivals.next(), if arrived.is_none() => match arrival {
                Arrival::Message(mut shown) => {
                    if pending.came_back(key(&mut shown)) {
                        deadline = Instant::now() + wait;
                    }
                    arrived = Some(shown);
                }
                other => failed = told(other).or(failed),
            },
            event = client.recv(), if arrived.is_none() => match event {
                Some(ClientEvent::Message(message)) => {
                    let mut shown = Shown::Message(message);
                    if pending.came_back(key(&mut shown)) {
                        deadline = Instant::now() + wait;
                    }
                    arrived = Some(shown);
                }
                Some(ClientEvent::Incoming(incoming)) => {
                    let is_file = incoming.transfer().file_name().is_some();
                    if let Some(text) = arrivals.accept(incoming) && is_file && !arrivals.saves() {
                        note(text);
                    }
                }
                Some(ClientEvent::Undelivered { size, error, .. }) => {
                    let error = sanitize_line(&error.to_string());
                    let text = format!("a message of {size} bytes did not arrive: {error}");
                    break Err(pending.explain(Failure::io(text)));
                }
                Some(ClientEvent::Error(text)) => {
                    note(format_args!("the server reports: {}", sanitize_line(&text)));
                }
                Some(ClientEvent::Disconnected { reason, retry_in: Some(delay), .. }) => {
                    let reason = sanitize_line(&reason.to_string());
                    note(format_args!("{reason}; connecting again in {delay:.1?}"));
                    offline = true;
                }
                Some(ClientEvent::Disconnected { reason, .. }) => {
                    let failure = Failure::closed(&reason);
                    break Err(pending.explain(failure));
                }
                Some(ClientEvent::Connected { .. }) => {
                    offline = false;
                    deadline = Instant::now() + wait;
                }
                Some(_) => {}
                None => break Err(Failure::io("the connection is over")),
            },
            () = tokio::time::sleep_until(deadline), if !offline && !pending.returned() && upload.is_none() => {
                // Over a slow line a message takes longer than an answer.
                if !pending.is_moving(client.stats()) {
                    break Err(pending.explain(Failure::timeout(format!("none came back for {wait:?}"))));
                }
                deadline = Instant::now() + wait;
            }
        }
    };
    let end = async {
        client.close(GOODBYE).await;
        match done {
            // Whoever wants to leave does not wait for those who read.
            Err(failure) if failure.is_interrupted() => Err(failure),
            done => printer.finish().await.and(done),
        }
    };
    tokio::select! {
        done = end => done,
        () = signals.next() => Err(Failure::interrupted()),
    }
}

/// Begins to send a line that is not kept in memory.
fn begin(client: &Client, line: &LargeLine) -> Result<Uploading, Option<String>> {
    let content_type = content_type(line.is_text);
    let transfer = Transfer::new(content_type).total(line.size);
    let stream = match client.send_stream(transfer) {
        Ok(stream) => stream,
        Err(OpenError::NotEstablished | OpenError::Closed) => return Err(None),
        Err(error) => return Err(Some(error.to_string())),
    };
    let file = line.file.try_clone();
    let mut file = file.map_err(|error| format!("cannot read a long line again: {error}"))?;
    let (handle, size) = (Handle::current(), Some(line.size));
    Ok(tokio::task::spawn_blocking(move || {
        file.seek(SeekFrom::Start(0)).map_err(SendFailure::read)?;
        handle.block_on(upload::copy(&mut file, size, stream, |_| {}))
    }))
}

/// A line that is on its way by itself.
type Uploading = JoinHandle<Result<(), SendFailure>>;

/// Waits for the line that is on its way by itself.
async fn finished(upload: &mut Option<Uploading>) -> Result<(), SendFailure> {
    match upload {
        Some(upload) => match upload.await {
            Ok(sent) => sent,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        },
        None => std::future::pending().await,
    }
}

fn content_type(is_text: bool) -> ContentType {
    if is_text {
        ContentType::TEXT
    } else {
        ContentType::BINARY
    }
}

/// What tells messages apart: the content, or its digest where that is shorter.
#[derive(PartialEq, Eq, Hash)]
enum Key {
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

fn key(shown: &mut Shown) -> Option<Key> {
    Some(match shown {
        Shown::Message(message) => Key::of(message.content()),
        Shown::Large { file, size, .. } => {
            let mut digest = Sha256::new();
            read_through(file, |part| digest.update(part)).ok()?;
            Key::Digest(digest.finalize().into(), *size)
        }
    })
}

/// What is to be sent next.
enum Next<'l> {
    Message(Message),
    Large(&'l LargeLine),
}

/// Sends a message as soon as there is room; false if it can no longer be sent.
async fn send(client: &Client, message: Option<&Message>) -> bool {
    match message {
        Some(message) => client.send(message.clone()).await.is_ok(),
        None => false,
    }
}

/// The messages that are still to be sent, or to come back.
#[derive(Default)]
struct Pending {
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
    fn take(&mut self, lines: Vec<Line>, commands: bool) {
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

    /// The next message to send, if there is one and it may go now.
    fn next(&self) -> Option<Next<'_>> {
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
    fn sent(&mut self) {
        let key = match self.lines.pop_front() {
            None => return,
            Some(Line::Small(line)) => {
                self.alone = line.len() > SMALL;
                Key::of(&line)
            }
            // Those are begun, and then uploaded.
            Some(Line::Large(_)) => return,
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
    fn begun(&mut self) {
        if let Some(key) = self.large_key() {
            self.alone = true;
            self.leaves(key);
        }
    }

    /// All of it has arrived.
    fn uploaded(&mut self) {
        self.lines.pop_front();
        self.sent += 1;
    }

    /// It has not: it is still to be sent.
    fn not_sent(&mut self) {
        let key = self.large_key();
        self.came_back(key);
    }

    /// A message came; true if it is one of ours.
    fn came_back(&mut self, key: Option<Key>) -> bool {
        let Some(key) = key else { return false };
        let Some(count) = self.away.get_mut(&key) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.away.remove(&key);
        }
        self.away_bytes -= key.len();
        self.away_count -= 1;
        self.alone &= !self.returned();
        true
    }

    /// Whether every message that was sent has come back.
    fn returned(&self) -> bool {
        self.away_count == 0
    }

    /// Whether the connection has moved since the last call: a message of ours that left whole, or
    /// more bytes, either way, than small frames explain. Heartbeats come from a deaf server too.
    fn is_moving(&mut self, now: Stats) -> bool {
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
    fn explain(&self, failure: Failure) -> Failure {
        if self.returned() {
            return failure;
        }
        let (away, sent) = (self.away_count, self.sent);
        failure.after(&format!("{away} of {sent} messages did not come back"))
    }
}
