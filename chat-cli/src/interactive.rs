//! Talking from a terminal.

use std::io::{self, Write};

use chat_tokio::{Client, ClientEvent, Message, SendError};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc::{self, Receiver};

use crate::exit::Failure;
use crate::screen::{sanitize, show};
use crate::signals::Signals;

const PROMPT: &str = "> ";
const GOODBYE: &str = "Client disconnecting";
const HELP: &str = "\
Each line is a message. Arrow keys edit it and bring back earlier ones.
  /help                this text
  /quit, exit, Ctrl-D  say goodbye and end
  Ctrl-C               the same, with exit code 130";

pub(crate) async fn run(client: Client, mut signals: Signals) -> Result<(), Failure> {
    let fail =
        |error: &dyn std::fmt::Display| Failure::io(format!("cannot use the terminal: {error}"));
    let terminal = Terminal(tcgetattr(io::stdin()).map_err(|error| fail(&error))?);
    let mut editor = DefaultEditor::new().map_err(|error| fail(&error))?;
    let mut printer = editor
        .create_external_printer()
        .map_err(|error| fail(&error))?;
    let mut say = move |text: String| {
        printer
            .print(text + "\n")
            .map_err(|error| Failure::io(format!("cannot write to the terminal: {error}")))
    };
    say(format!(
        "connected to {}; /help for help, /quit to leave",
        client.endpoint()
    ))?;
    let mut input = read(editor);

    let done = loop {
        tokio::select! {
            () = signals.next() => break Err(Failure::interrupted()),
            line = input.recv() => match line {
                Some(Input::Line(line)) => if let Err(text) = handle(&client, line) {
                    say(text)?;
                },
                Some(Input::Interrupted) => break Err(Failure::interrupted()),
                Some(Input::End) | None => break Ok(()),
                Some(Input::Failed(error)) => break Err(fail(&error)),
            },
            event = client.recv() => match event {
                Some(ClientEvent::Message(message)) => say(show(&message))?,
                Some(ClientEvent::Error(text)) => say(format!("* the server reports: {}", sanitize(&text)))?,
                Some(ClientEvent::Connected { .. }) => say(format!("* connected to {}", client.endpoint()))?,
                Some(ClientEvent::Disconnected { reason, lost, retry_in: Some(delay) }) => {
                    let lost = if lost > 0 { format!("; {lost} messages may be lost") } else { String::new() };
                    let reason = reason.to_string();
                    say(format!("* {}{lost}; connecting again in {delay:.1?}", sanitize(&reason)))?;
                }
                Some(ClientEvent::Disconnected { reason, .. }) => {
                    terminal.restore();
                    return Err(Failure::closed(&reason));
                }
                Some(_) => {}
                None => break Err(Failure::io("the connection is over")),
            }
        }
    };
    terminal.restore();
    tokio::select! {
        _ = client.close(GOODBYE) => done,
        () = signals.next() => Err(Failure::interrupted()),
    }
}

/// Does what a line says; the error is for the person at the terminal.
fn handle(client: &Client, line: String) -> Result<(), String> {
    match line.trim() {
        "" => Ok(()),
        "/help" => Err(HELP.into()),
        command if command.starts_with('/') => {
            Err(format!("* {command} is not a command; /help lists them"))
        }
        _ => client
            .try_send(Message::text(line))
            .map_err(|error| match error {
                SendError::Full(_) => {
                    "* not sent: the server takes no more at the moment; try again".into()
                }
                error => format!("* not sent: {error}"),
            }),
    }
}

enum Input {
    Line(String),
    Interrupted,
    End,
    Failed(ReadlineError),
}

/// Reads lines in a thread of its own, until the person wants to leave.
fn read(mut editor: DefaultEditor) -> Receiver<Input> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        loop {
            let input = match editor.readline(PROMPT) {
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
            if sender.blocking_send(input).is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// The terminal's mode when the program began: the thread that reads may still have changed it when
/// the program ends.
struct Terminal(Termios);

impl Terminal {
    /// Puts the mode back, and the cursor on an empty line.
    fn restore(&self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
        let mut stdout = io::stdout();
        let _ = stdout.write_all(b"\r\x1b[K").and_then(|()| stdout.flush());
    }
}
