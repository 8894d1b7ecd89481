//! What comes back, printed: in a thread of its own, for whoever reads it may take its time.

use std::io::{self, IsTerminal, Write};

use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinHandle;

use crate::arrivals::Shown;
use crate::exit::Failure;
use crate::screen::sanitize;
use crate::tasks::joined;

/// How many messages may wait to be printed.
const WAITING: usize = 64;

/// Prints messages.
pub(crate) struct Printer {
    /// What is to be printed. Closed when printing has failed.
    pub(crate) messages: Sender<Shown>,
    task: JoinHandle<Result<(), Failure>>,
}

impl Printer {
    pub(crate) fn start() -> Self {
        let (messages, mut waiting) = mpsc::channel(WAITING);
        let task = tokio::task::spawn_blocking(move || {
            while let Some(message) = waiting.blocking_recv() {
                print(message)?;
            }
            Ok(())
        });
        Self { messages, task }
    }

    /// Waits until everything is printed, or that has failed.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        drop(self.messages);
        joined(self.task.await)
    }
}

/// Text as it is, a line each, unless a terminal shows it.
fn print(shown: Shown) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let terminal = stdout.is_terminal();
    let written = match shown {
        Shown::Message(message) if terminal => {
            let describe = || {
                let size = message.content().len() as u64;
                Shown::describe(message.content_type(), size).into()
            };
            let text = message.as_text().map_or_else(describe, sanitize);
            writeln!(stdout, "{text}")
        }
        Shown::Large {
            content_type, size, ..
        } if terminal => writeln!(stdout, "{}", Shown::describe(&content_type, size)),
        Shown::Message(message) => stdout
            .write_all(message.content())
            .and_then(|()| stdout.write_all(b"\n")),
        Shown::Large { mut file, .. } => {
            io::copy(&mut file, &mut stdout).and_then(|_| stdout.write_all(b"\n"))
        }
    };
    written.map_err(|error| Failure::io(format!("cannot write to standard output: {error}")))
}
