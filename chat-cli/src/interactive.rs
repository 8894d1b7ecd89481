//! Talking from a terminal.

use std::path::Path;

use chat_tokio::{Client, ClientEvent, Message, SendError};
use indicatif::{HumanBytes, ProgressBar};
use tokio::sync::mpsc;

use crate::arrivals::{Arrival, Arrivals, Shown};
use crate::editor::{Editor, Input, unusable};
use crate::exit::Failure;
use crate::screen::{indent, note, sanitize_line, show};
use crate::signals::Signals;
use crate::upload::Upload;

const GOODBYE: &str = "Client disconnecting";
const HELP: &str = "\
Each line is a message. Arrow keys edit it and bring back earlier ones.
  //text               the message \"/text\"
  /send PATH           send a file
  /help                this text
  /quit, exit, Ctrl-D  say goodbye and end
  Ctrl-C               the same, with exit code 130";

pub(crate) async fn run(
    client: Client,
    mut arrivals: Arrivals,
    mut signals: Signals,
) -> Result<(), Failure> {
    let mut editor = Editor::start(&format!(
        "connected to {}; /help for help, /quit to leave",
        client.endpoint()
    ))?;
    // Texts that the editor has no place for yet. As long as there are some, nothing more is taken
    // from the server.
    let mut texts: Vec<String> = Vec::new();
    // What has become of the files that were sent.
    let (sent, mut told) = mpsc::channel(1);
    let mut sending: Vec<String> = Vec::new();

    let done = loop {
        tokio::select! {
            () = signals.next() => break Err(Failure::interrupted()),
            place = editor.texts.reserve(), if !texts.is_empty() => match place {
                Ok(place) => place.send(texts.remove(0)),
                // Why is said where lines come from.
                Err(_) => texts.clear(),
            },
            input = editor.typed.recv() => match input {
                Some(Input::Line(line)) => match file_to_send(&line) {
                    Some(path) => match send_file(&client, path, sent.clone()) {
                        Ok((name, text)) => {
                            sending.push(name);
                            texts.push(star(&text));
                        }
                        Err(text) => texts.push(star(&text)),
                    },
                    None => texts.extend(handle(&client, &line).err()),
                },
                Some(Input::Interrupted) => break Err(Failure::interrupted()),
                Some(Input::End) | None => break Ok(()),
                Some(Input::Failed(error)) => break Err(unusable(&error)),
            },
            Some((name, text)) = told.recv(), if texts.is_empty() => {
                if let Some(index) = sending.iter().position(|it| *it == name) {
                    sending.swap_remove(index);
                }
                texts.push(star(&text));
            }
            arrival = arrivals.next(), if texts.is_empty() => texts.push(match arrival {
                Arrival::Message(shown) => show(&shown, Editor::columns()),
                Arrival::Saved { path, size } => {
                    star(&format!("saved {} ({})", path.display(), HumanBytes(size)))
                }
                Arrival::Failed { text, .. } => star(&text),
            }),
            event = client.recv(), if texts.is_empty() => match event {
                Some(ClientEvent::Incoming(incoming)) => {
                    texts.extend(arrivals.accept(incoming).map(|text| star(&text)));
                }
                Some(ClientEvent::Disconnected { reason, retry_in: None, .. }) => {
                    break Err(Failure::closed(&reason));
                }
                Some(event) => texts.extend(describe(&client, event)),
                None => break Err(Failure::io("the connection is over")),
            }
        }
    };
    editor.end().await;
    for name in sending {
        note(format_args!("{name} was not sent: you left before its end"));
    }
    let end = async {
        client.close(GOODBYE).await;
        for arrival in arrivals.finish().await {
            if let Arrival::Failed { text, .. } = arrival {
                note(text);
            }
        }
    };
    tokio::select! {
        () = end => done,
        () = signals.next() => Err(Failure::interrupted()),
    }
}

/// A text of the program's own, marked as such on every row that it takes.
fn star(text: &str) -> String {
    indent("* ", text, Editor::columns())
}

/// The path of `/send PATH`, if that is what a line is.
fn file_to_send(line: &str) -> Option<&str> {
    let rest = line.trim().strip_prefix("/send")?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim())
}

/// Begins to send a file. Returns its name, and what the person at the terminal is told; the error
/// is for them too.
fn send_file(
    client: &Client,
    path: &str,
    told: mpsc::Sender<(String, String)>,
) -> Result<(String, String), String> {
    if path.is_empty() {
        return Err("/send needs the path of a file".into());
    }
    let path = match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => Path::new(path).to_owned(),
    };
    let upload = Upload::check(&path)
        .map_err(|failure| format!("not sent: {}", sanitize_line(&failure.to_string())))?;
    let size = match upload.size {
        Some(size) => format!(" ({})", HumanBytes(size)),
        None => String::new(),
    };
    let name = sanitize_line(&upload.name);
    let sending = format!("sending {name}{size}");
    let (client, of) = (client.clone(), name.clone());
    tokio::spawn(async move {
        let text = match upload.send(&client, ProgressBar::hidden()).await {
            Ok(()) => format!("sent {of}{size}"),
            Err(error) => error,
        };
        // Nobody waits for it at the end of the program.
        let _ = told.send((of, text)).await;
    });
    Ok((name, sending))
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
fn describe(client: &Client, event: ClientEvent) -> Option<String> {
    Some(match event {
        ClientEvent::Message(message) => show(&Shown::Message(message), Editor::columns()),
        ClientEvent::Error(text) => star(&format!("the server reports: {}", sanitize_line(&text))),
        ClientEvent::Undelivered { size, error, .. } => {
            let error = sanitize_line(&error.to_string());
            let size = HumanBytes(size);
            star(&format!("a message of {size} did not arrive: {error}"))
        }
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
            star(&format!("{reason}{lost}; connecting again in {delay:.1?}"))
        }
        _ => return None,
    })
}
