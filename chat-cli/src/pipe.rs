//! Lines in, messages out: `connect --file`, and without a terminal.

use std::io::{Seek, SeekFrom};
use std::time::Duration;

use chat_tokio::{Client, ClientEvent, Message, OpenError, SendError, Transfer};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::arrivals::{Arrival, Arrivals, Shown};
use crate::exit::Failure;
use crate::lines::{Batch, LargeLine, Line};
use crate::pending::{Next, Pending, content_type, key};
use crate::printer::Printer;
use crate::screen::{note, sanitize_line};
use crate::send::told;
use crate::signals::Signals;
use crate::tasks::joined;
use crate::upload::{self, SendFailure};

/// The longest wait that makes a difference.
const LONGEST: Duration = Duration::from_hours(24 * 365);
pub(crate) const GOODBYE: &str = "Client disconnecting";

/// How a client that reads no terminal does its work.
#[derive(Clone, Copy)]
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
    arrivals: Arrivals,
    mut signals: Signals,
) -> Result<(), Failure> {
    let printer = Printer::start();
    let mut work = Work::new(client, manner, arrivals);
    let done = loop {
        let blocked = match work.send() {
            Ok(blocked) => blocked,
            Err(failure) => break Err(failure),
        };
        if work.is_done() {
            let ended = work.ended.take().map(|end| work.pending.explain(end));
            let failed = ended.or(work.failed.take());
            break failed.map_or(Ok(()), Err);
        }
        let next = tokio::select! {
            () = signals.next() => break Err(Failure::interrupted()),
            batch = input.recv(), if work.open && work.pending.wants_lines() => {
                work.handle_lines(batch)
            }
            true = send(&work.client, blocked.as_ref()), if blocked.is_some() => {
                work.pending.sent();
                Ok(())
            }
            // Printing has failed; why is said at the end.
            () = printer.messages.closed() => break Ok(()),
            Ok(place) = printer.messages.reserve(), if work.arrived.is_some() => {
                if let Some(message) = work.arrived.take() {
                    place.send(message);
                }
                Ok(())
            }
            sent = finished(&mut work.upload), if work.upload.is_some() => {
                work.handle_uploaded(sent)
            }
            arrival = work.arrivals.next(), if work.arrived.is_none() => {
                work.handle_arrival(arrival);
                Ok(())
            }
            event = work.client.recv(), if work.arrived.is_none() && work.ended.is_none() => {
                work.handle_event(event)
            }
            () = tokio::time::sleep_until(work.deadline), if work.waits() => work.handle_timeout(),
        };
        if let Err(failure) = next {
            break Err(failure);
        }
    };
    let end = async {
        work.client.close(GOODBYE).await;
        for arrival in work.arrivals.finish().await {
            work.handle_leftover(arrival);
        }
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

/// What is under way.
struct Work {
    client: Client,
    manner: Manner,
    arrivals: Arrivals,
    pending: Pending,
    /// What came and has no place at the printer yet: until it has, nothing more is received.
    arrived: Option<Shown>,
    /// A line that is on its way by itself.
    upload: Option<Uploading>,
    /// Something that arrived could not be stored.
    failed: Option<Failure>,
    /// The connection is over; what has arrived is still printed.
    ended: Option<Failure>,
    /// There may be more lines.
    open: bool,
    /// Connecting again: nothing can come back.
    offline: bool,
    /// When a message should have come back.
    deadline: Instant,
}

impl Work {
    fn new(client: Client, manner: Manner, arrivals: Arrivals) -> Self {
        // What comes later than this never comes; a clock can be at its end before.
        let wait = manner.wait.min(LONGEST);
        Self {
            client,
            manner: Manner { wait, ..manner },
            arrivals,
            pending: Pending::default(),
            arrived: None,
            upload: None,
            failed: None,
            ended: None,
            open: true,
            offline: false,
            deadline: Instant::now() + wait,
        }
    }

    /// A message should come back within the usual time from now on.
    fn wait_again(&mut self) {
        self.deadline = Instant::now() + self.manner.wait;
    }

    /// Sends what can be sent now. Returns the message that there was no room for.
    fn send(&mut self) -> Result<Option<Message>, Failure> {
        while self.upload.is_none() && self.ended.is_none() {
            match self.pending.next() {
                None => break,
                Some(Next::Large(_)) if self.offline => break,
                Some(Next::Large(line)) => match begin(&self.client, line) {
                    Ok(begun) => {
                        self.arrivals.expect(line.size);
                        self.upload = Some(begun);
                        self.pending.begun();
                    }
                    // The reason is in an event.
                    Err(None) => break,
                    Err(Some(error)) => return Err(self.pending.explain(Failure::io(error))),
                },
                Some(Next::Message(message)) => match self.client.try_send(message) {
                    Ok(()) => {
                        if self.pending.returned() {
                            self.wait_again();
                        }
                        self.pending.sent();
                    }
                    Err(SendError::Full(message)) => return Ok(Some(message)),
                    // The reason is in the last event.
                    Err(SendError::Closed(_)) => break,
                    // Connected again, to another server.
                    Err(error) => {
                        return Err(self.pending.explain(Failure::io(error.to_string())));
                    }
                },
            }
        }
        Ok(None)
    }

    fn is_done(&self) -> bool {
        if self.ended.is_some() {
            return self.arrived.is_none() && self.arrivals.is_empty();
        }
        let sent = !self.open && self.pending.wants_lines() && self.pending.returned();
        sent && !self.manner.stay && self.arrived.is_none() && self.arrivals.is_idle()
    }

    /// Whether a message is to come back, and can.
    fn waits(&self) -> bool {
        !self.offline && !self.pending.returned() && self.upload.is_none() && self.ended.is_none()
    }

    fn handle_lines(&mut self, batch: Option<Batch>) -> Result<(), Failure> {
        let Some(batch) = batch else {
            self.open = false;
            return Ok(());
        };
        let mut lines = batch?;
        let commands = self.manner.commands;
        let is_quit = |line: &Line| matches!(line, Line::Small(line) if line == b"/quit");
        if let Some(quit) = lines.iter().position(|line| commands && is_quit(line)) {
            lines.truncate(quit);
            self.open = false;
            self.manner.stay = false;
        }
        self.pending.take(lines, commands);
        Ok(())
    }

    /// The line that was on its way by itself has arrived, or has not.
    fn handle_uploaded(&mut self, sent: Result<(), SendFailure>) -> Result<(), Failure> {
        self.upload = None;
        match sent {
            Ok(()) => {
                self.wait_again();
                self.pending.uploaded();
            }
            // The reason is in an event, and the next connection may do better.
            Err(SendFailure::Lost) => self.pending.not_sent(),
            Err(SendFailure::Other(error)) => {
                return Err(self.pending.explain(Failure::io(error)));
            }
        }
        Ok(())
    }

    fn handle_arrival(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Message(shown) => self.handle_message(shown),
            other => self.failed = told(other).or(self.failed.take()),
        }
    }

    /// What the end of the connection has cut off.
    fn handle_leftover(&self, arrival: Arrival) {
        // Others' messages are nobody's business any more.
        if self.arrivals.saves() && !matches!(arrival, Arrival::Message(_)) {
            told(arrival);
        }
    }

    fn handle_message(&mut self, shown: Shown) {
        if self.pending.came_back(&key(&shown)) {
            self.wait_again();
        }
        self.arrived = Some(shown);
    }

    fn handle_event(&mut self, event: Option<ClientEvent>) -> Result<(), Failure> {
        match event {
            Some(ClientEvent::Message(message)) => self.handle_message(Shown::Message(message)),
            Some(ClientEvent::Incoming(incoming)) => {
                let is_file = incoming.transfer().file_name().is_some();
                let text = self.arrivals.accept(incoming);
                if let Some(text) = text.filter(|_| is_file && !self.arrivals.saves()) {
                    note(text);
                }
            }
            Some(ClientEvent::Undelivered { size, error, .. }) => {
                let error = sanitize_line(&error.to_string());
                let text = format!("a message of {size} bytes did not arrive: {error}");
                return Err(self.pending.explain(Failure::io(text)));
            }
            Some(ClientEvent::Error(text)) => {
                note(format_args!("the server reports: {}", sanitize_line(&text)));
            }
            Some(ClientEvent::Disconnected {
                reason,
                retry_in: Some(delay),
                ..
            }) => {
                let reason = sanitize_line(&reason.to_string());
                note(format_args!("{reason}; connecting again in {delay:.1?}"));
                self.offline = true;
            }
            Some(ClientEvent::Disconnected { reason, .. }) => {
                self.ended = Some(Failure::closed(&reason));
            }
            Some(ClientEvent::Connected { .. }) => {
                self.offline = false;
                self.wait_again();
            }
            Some(_) => {}
            None => self.ended = Some(Failure::io("the connection is over")),
        }
        Ok(())
    }

    fn handle_timeout(&mut self) -> Result<(), Failure> {
        // Over a slow line a message takes longer than an answer.
        if !self.pending.is_moving(self.client.stats()) {
            let wait = self.manner.wait;
            let failure = Failure::timeout(format!("none came back for {wait:?}"));
            return Err(self.pending.explain(failure));
        }
        self.wait_again();
        Ok(())
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
        file.seek(SeekFrom::Start(0))
            .map_err(|error| SendFailure::read(&error))?;
        handle.block_on(upload::copy(&mut file, size, stream, |_| {}))
    }))
}

/// A line that is on its way by itself.
type Uploading = JoinHandle<Result<(), SendFailure>>;

/// Waits for the line that is on its way by itself.
async fn finished(upload: &mut Option<Uploading>) -> Result<(), SendFailure> {
    match upload {
        Some(upload) => joined(upload.await),
        None => std::future::pending().await,
    }
}

/// Sends a message as soon as there is room; false if it can no longer be sent.
async fn send(client: &Client, message: Option<&Message>) -> bool {
    match message {
        Some(message) => client.send(message.clone()).await.is_ok(),
        None => false,
    }
}
