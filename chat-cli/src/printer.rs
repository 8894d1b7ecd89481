//! What comes back, printed: in a thread of its own, for whoever reads it may take its time.

use std::io::{self, IsTerminal, Write};

use chat_tokio::Message;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinHandle;

use crate::exit::Failure;
use crate::screen::{sanitize, sanitize_line};

/// How many messages may wait to be printed.
const WAITING: usize = 64;

/// Prints messages.
pub(crate) struct Printer {
    /// What is to be printed. Closed when printing has failed.
    pub(crate) messages: Sender<Message>,
    task: JoinHandle<Result<(), Failure>>,
}

impl Printer {
    pub(crate) fn start() -> Self {
        let (messages, mut waiting) = mpsc::channel(WAITING);
        let task = tokio::task::spawn_blocking(move || {
            while let Some(message) = waiting.blocking_recv() {
                print(&message)?;
            }
            Ok(())
        });
        Self { messages, task }
    }

    /// Waits until everything is printed, or that has failed.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        drop(self.messages);
        match self.task.await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Text as it is, a line each, unless a terminal shows it.
fn print(message: &Message) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = if stdout.is_terminal() {
        match message.as_text() {
            Some(text) => writeln!(stdout, "{}", sanitize(text)),
            None => writeln!(
                stdout,
                "[{}, {} bytes]",
                sanitize_line(message.content_type()),
                message.content().len()
            ),
        }
    } else {
        stdout
            .write_all(message.content())
            .and_then(|()| stdout.write_all(b"\n"))
    };
    written.map_err(|error| Failure::io(format!("cannot write to standard output: {error}")))
}
