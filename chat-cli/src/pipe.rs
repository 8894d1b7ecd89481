//! Lines in, messages out: `connect --file`, and without a terminal.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use chat_tokio::{Client, ClientEvent, ContentType, Message, SendError, Stats};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use crate::exit::Failure;
use crate::lines::Batch;
use crate::printer::Printer;
use crate::screen::{note, sanitize_line};
use crate::signals::Signals;

/// How many bytes may be under way at a time, unless a single message is larger.
const WINDOW: usize = 8 * 1024 * 1024;
/// The longest wait that makes a difference.
const LONGEST: Duration = Duration::from_hours(24 * 365);
const GOODBYE: &str = "Client disconnecting";

/// Sends the lines, prints what comes, and ends when every message has come back or none has for
/// `wait`. With `commands`, the lines `/quit` and `/help` are not sent.
pub(crate) async fn run(
    client: Client,
    mut input: Receiver<Batch>,
    wait: Duration,
    commands: bool,
    mut signals: Signals,
) -> Result<(), Failure> {
    let printer = Printer::start();
    // What came and has no place at the printer yet: until it has, nothing more is received.
    let mut arrived: Option<Message> = None;
    let mut pending = Pending::default();
    let mut open = true;
    // Connecting again: nothing can come back.
    let mut offline = false;
    // What comes later than this never comes; a clock can be at its end before.
    let wait = wait.min(LONGEST);
    let mut deadline = Instant::now() + wait;
    let done = loop {
        let blocked = loop {
            match pending.next() {
                None => break None,
                Some(message) => match client.try_send(message) {
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
        if !open && pending.lines.is_empty() && pending.returned() && arrived.is_none() {
            break Ok(());
        }
        tokio::select! {
            () = signals.next() => break Err(Failure::interrupted()),
            batch = input.recv(), if open && pending.lines.is_empty() => match batch {
                None => open = false,
                Some(Err(failure)) => break Err(failure),
                Some(Ok(mut lines)) => {
                    if let Some(quit) = lines.iter().position(|line| commands && line == b"/quit") {
                        lines.truncate(quit);
                        open = false;
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
            event = client.recv(), if arrived.is_none() => match event {
                Some(ClientEvent::Message(message)) => {
                    if pending.came_back(&message) {
                        deadline = Instant::now() + wait;
                    }
                    arrived = Some(message);
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
            () = tokio::time::sleep_until(deadline), if !offline && !pending.returned() => {
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
    lines: VecDeque<Vec<u8>>,
    /// How often each content is under way.
    away: HashMap<Vec<u8>, usize>,
    away_bytes: usize,
    away_count: u64,
    sent: u64,
    /// What had gone over the connection when that was last asked for.
    stats: Stats,
}

impl Pending {
    fn take(&mut self, lines: Vec<Vec<u8>>, commands: bool) {
        for line in lines {
            if commands && line == b"/help" {
                note(
                    "each line is a message; /quit, exit or the end of the input ends the program",
                );
            } else {
                self.lines.push_back(line);
            }
        }
    }

    /// The next message to send, if there is one and it may go now.
    fn next(&self) -> Option<Message> {
        let line = self.lines.front()?;
        if self.away_bytes > 0 && self.away_bytes + line.len() > WINDOW {
            return None;
        }
        let content_type = match std::str::from_utf8(line) {
            Ok(_) => ContentType::TEXT,
            Err(_) => ContentType::BINARY,
        };
        Some(Message::new(content_type, line.clone()))
    }

    /// The next message was sent.
    fn sent(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            self.away_bytes += line.len();
            self.away_count += 1;
            self.sent += 1;
            *self.away.entry(line).or_default() += 1;
        }
    }

    /// A message came; true if it is one of ours.
    fn came_back(&mut self, message: &Message) -> bool {
        let content = message.content();
        let Some(count) = self.away.get_mut(&content[..]) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.away.remove(&content[..]);
        }
        self.away_bytes -= content.len();
        self.away_count -= 1;
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
