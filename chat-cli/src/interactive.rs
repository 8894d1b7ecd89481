//! Talking from a terminal.

use chat_tokio::{Client, ClientEvent, Message, SendError};

use crate::editor::{Editor, Input, unusable};
use crate::exit::Failure;
use crate::screen::{sanitize_line, show};
use crate::signals::Signals;

const GOODBYE: &str = "Client disconnecting";
const HELP: &str = "\
Each line is a message. Arrow keys edit it and bring back earlier ones.
  //text               the message \"/text\"
  /help                this text
  /quit, exit, Ctrl-D  say goodbye and end
  Ctrl-C               the same, with exit code 130";

pub(crate) async fn run(client: Client, mut signals: Signals) -> Result<(), Failure> {
    let mut editor = Editor::start(&format!(
        "connected to {}; /help for help, /quit to leave",
        client.endpoint()
    ))?;
    // Texts that the editor has no place for yet. As long as there are some, nothing more is taken
    // from the server.
    let mut texts: Vec<String> = Vec::new();

    let done = loop {
        tokio::select! {
            () = signals.next() => break Err(Failure::interrupted()),
            place = editor.texts.reserve(), if !texts.is_empty() => match place {
                Ok(place) => place.send(texts.remove(0)),
                // Why is said where lines come from.
                Err(_) => texts.clear(),
            },
            input = editor.typed.recv() => match input {
                Some(Input::Line(line)) => texts.extend(handle(&client, &line).err()),
                Some(Input::Interrupted) => break Err(Failure::interrupted()),
                Some(Input::End) | None => break Ok(()),
                Some(Input::Failed(error)) => break Err(unusable(&error)),
            },
            event = client.recv(), if texts.is_empty() => match event {
                Some(ClientEvent::Disconnected { reason, retry_in: None, .. }) => {
                    break Err(Failure::closed(&reason));
                }
                Some(event) => texts.extend(describe(&client, &event)),
                None => break Err(Failure::io("the connection is over")),
            }
        }
    };
    editor.end().await;
    tokio::select! {
        _ = client.close(GOODBYE) => done,
        () = signals.next() => Err(Failure::interrupted()),
    }
}

/// Does what a line says; the error is for the person at the terminal.
fn handle(client: &Client, line: &str) -> Result<(), String> {
    match line.trim() {
        "" => Ok(()),
        "/help" => Err(HELP.into()),
        command if command.starts_with('/') && !command.starts_with("//") => Err(format!(
            "* {} is not a command; /help lists them",
            sanitize_line(command)
        )),
        text => client
            .try_send(Message::text(text.strip_prefix('/').unwrap_or(text)))
            .map_err(|error| match error {
                SendError::Full(_) => {
                    "* not sent: the server takes no more at the moment; try again".into()
                }
                error => format!("* not sent: {error}"),
            }),
    }
}

/// What the person at the terminal sees of an event.
fn describe(client: &Client, event: &ClientEvent) -> Option<String> {
    Some(match event {
        ClientEvent::Message(message) => show(message, Editor::columns()),
        ClientEvent::Error(text) => format!("* the server reports: {}", sanitize_line(text)),
        ClientEvent::Connected { .. } => format!("* connected to {}", client.endpoint()),
        ClientEvent::Disconnected {
            reason,
            lost,
            retry_in: Some(delay),
        } => {
            let lost = match lost {
                0 => String::new(),
                lost => format!("; {lost} messages may be lost"),
            };
            let reason = sanitize_line(&reason.to_string());
            format!("* {reason}{lost}; connecting again in {delay:.1?}")
        }
        _ => return None,
    })
}
