//! The line that is being typed, and what appears above it.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::{Cmd, DefaultEditor, ExternalPrinter, KeyEvent, Prompt};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver};

use crate::exit::Failure;

/// Terminals that rustyline cannot edit lines on.
const PLAIN: [&str; 3] = ["dumb", "cons25", "emacs"];
/// How many texts may wait to be shown.
const WAITING: usize = 64;
/// How long the end waits for the last of them to be shown: someone may be searching the history,
/// and then nothing is.
const PATIENCE: Duration = Duration::from_millis(500);
/// One row up and down again: a text that shows nothing.
const NOTHING: &str = "\x1b[A\n";

/// What was typed.
pub(crate) enum Input {
    /// A line.
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// The wish to leave.
    End,
    /// The terminal failed.
    Failed(ReadlineError),
}

/// A line editor on standard input and output.
///
/// Two threads belong to it. One reads lines, and never waits for the program: otherwise each could
/// wait for the other when much is typed ahead. The other hands over the texts to be shown, which
/// waits for the first.
pub(crate) struct Editor {
    /// What is typed.
    pub(crate) typed: UnboundedReceiver<Input>,
    /// What is to be shown above it. Closed when nothing can be shown any more.
    pub(crate) texts: Sender<String>,
    /// The terminal's mode when the program began.
    mode: Termios,
    /// Says when both threads leave the terminal alone.
    left: Receiver<()>,
}

impl Editor {
    /// Whether lines can be edited on this kind of terminal.
    pub(crate) fn is_possible() -> bool {
        let term = std::env::var("TERM").unwrap_or_default();
        !PLAIN.iter().any(|plain| term.eq_ignore_ascii_case(plain))
    }

    /// Shows `greeting` and starts to read, until someone wants to leave.
    pub(crate) fn start(greeting: &str) -> Result<Self, Failure> {
        let mode = tcgetattr(io::stdin()).map_err(|error| unusable(&error))?;
        let mut editor = DefaultEditor::new().map_err(|error| unusable(&error))?;
        // Rustyline would stop the program, and leave the terminal as it should not be afterwards.
        editor.bind_sequence(KeyEvent::ctrl('Z'), Cmd::Noop);
        let mut printer = editor
            .create_external_printer()
            .map_err(|error| unusable(&error))?;
        printer
            .print(format!("{greeting}\n"))
            .map_err(|error| unusable(&error))?;
        // Between two lines it is the terminal's mode that counts, and what is typed then would be
        // shown twice: by the terminal, and with the prompt.
        let mut silent = mode.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &silent).map_err(|error| unusable(&error))?;
        let (lines, typed) = mpsc::unbounded_channel();
        let (texts, mut waiting) = mpsc::channel::<String>(WAITING);
        let (leaving, left) = mpsc::channel(1);
        let over = Arc::new(AtomicBool::new(false));
        let prompt = Typing {
            over: Arc::clone(&over),
            leaving: leaving.clone(),
        };

        thread::spawn(move || {
            loop {
                let input = match editor.readline(&prompt) {
                    Ok(line) if matches!(line.trim(), "/quit" | "exit") => Input::End,
                    Ok(line) => {
                        // History is a convenience: the line is sent all the same.
                        let _ = editor.add_history_entry(&line);
                        Input::Line(line)
                    }
                    Err(ReadlineError::Interrupted) => Input::Interrupted,
                    Err(ReadlineError::Eof) => Input::End,
                    Err(error) => Input::Failed(error),
                };
                let last = !matches!(input, Input::Line(_));
                if lines.send(input).is_err() || last {
                    return;
                }
            }
        });
        thread::spawn(move || {
            let _leaving = leaving;
            while let Some(text) = waiting.blocking_recv() {
                if printer.print(text + "\n").is_err() {
                    return;
                }
            }
            // The printer holds one text. So when it has taken this one, the reading thread has
            // taken the last of the others, and shows it before it draws the prompt again.
            let _ = printer.print(NOTHING.into());
            over.store(true, Ordering::SeqCst);
            // Has the prompt drawn, should that have happened already.
            let _ = printer.print(NOTHING.into());
        });
        Ok(Self {
            typed,
            texts,
            mode,
            left,
        })
    }

    /// How many columns there are.
    pub(crate) fn columns() -> usize {
        tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col.into())
    }

    /// Shows what is still to be shown, puts the terminal's mode back, and the cursor on an empty
    /// line.
    pub(crate) async fn end(mut self) {
        drop(self.texts);
        let _ = tokio::time::timeout(PATIENCE, self.left.recv()).await;
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.mode);
        // Rustyline asks for pasted text in brackets, and for updates in one piece.
        let mut stdout = io::stdout();
        let _ = stdout
            .write_all(b"\x1b[?2026l\x1b[?2004l\r\x1b[K")
            .and_then(|()| stdout.flush());
    }
}

pub(crate) fn unusable(error: &dyn Display) -> Failure {
    Failure::io(format!("cannot use the terminal: {error}"))
}

/// The prompt. It is asked for whenever the line is drawn: the place where the thread that reads
/// can be kept from drawing it again.
struct Typing {
    over: Arc<AtomicBool>,
    /// Dropped with the thread.
    leaving: Sender<()>,
}

impl Prompt for Typing {
    fn raw(&self) -> &'static str {
        while self.over.load(Ordering::SeqCst) {
            let _ = self.leaving.try_send(());
            thread::park();
        }
        "> "
    }
}
