//! `connect --send`.

use std::cell::RefCell;
use std::time::Duration;

use chat_tokio::{Client, ClientEvent, CloseReason};

use crate::arrivals::{Arrival, Arrivals};
use crate::exit::Failure;
use crate::pipe::GOODBYE;
use crate::screen::{note, sanitize_line};
use crate::signals::Signals;
use crate::upload::{Upload, bar};

/// How long after a transfer the connection may end for the same reason.
const SOON: Duration = Duration::from_millis(200);

/// Sends files, one after the other, and ends when the server has them all. Meanwhile files that
/// arrive are stored, if there is a place for them; messages are not shown.
pub(crate) async fn run(
    client: Client,
    uploads: Vec<Upload>,
    mut arrivals: Arrivals,
    mut signals: Signals,
) -> Result<(), Failure> {
    let current = RefCell::default();
    let mut sending = Box::pin(async {
        for upload in uploads {
            current.replace(sanitize_line(&upload.name));
            let bar = bar(&upload);
            upload.send(&client, bar).await?;
        }
        Ok::<(), String>(())
    });
    let (mut sent, mut ended) = (false, false);
    let mut failed = None;
    let done = loop {
        if sent && arrivals.is_idle() {
            break Ok(());
        }
        tokio::select! {
            () = signals.next() => break Err(Failure::interrupted()),
            outcome = &mut sending, if !sent => match outcome {
                Ok(()) => sent = true,
                // Why, the end of the connection may say better.
                Err(error) => break Err(match ended_soon(&client).await {
                    Some(reason) => Failure::closed(&reason).after(&error),
                    None => Failure::io(error),
                }),
            },
            arrival = arrivals.next() => if let Some(failure) = told(arrival) {
                failed = Some(failure);
            },
            event = client.recv(), if !ended => match event {
                Some(ClientEvent::Incoming(incoming)) => {
                    if arrivals.saves() && incoming.transfer().file_name().is_some() {
                        arrivals.accept(incoming);
                    }
                }
                Some(ClientEvent::Error(text)) => {
                    note(format_args!("the server reports: {}", sanitize_line(&text)));
                }
                Some(ClientEvent::Disconnected { reason, retry_in: None, .. }) if !sent => {
                    let name = current.borrow();
                    let failure = Failure::closed(&reason);
                    break Err(failure.after(&format!("{name} was not sent")));
                }
                Some(ClientEvent::Disconnected { retry_in: None, .. }) | None => ended = true,
                Some(_) => {}
            },
        }
    };
    drop(sending);
    let end = async {
        client.close(GOODBYE).await;
        for arrival in arrivals.finish().await {
            failed = told(arrival).or(failed.take());
        }
        done.and(failed.map_or(Ok(()), Err))
    };
    tokio::select! {
        done = end => done,
        () = signals.next() => Err(Failure::interrupted()),
    }
}

/// Why the connection is over, if it is, or is about to be: a server that ends gives transfers up
/// just before.
async fn ended_soon(client: &Client) -> Option<CloseReason> {
    let end = async {
        while let Some(event) = client.recv().await {
            if let ClientEvent::Disconnected { retry_in: None, .. } = event {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(SOON, end).await;
    client.closed()
}

/// Says what has become of a file that came. What failed is the program's failure, in the end.
pub(crate) fn told(arrival: Arrival) -> Option<Failure> {
    match arrival {
        Arrival::Message(_) => None,
        Arrival::Saved { path, size } => {
            note(format_args!("saved {} ({size} bytes)", path.display()));
            None
        }
        Arrival::Failed { text, file } => {
            note(&text);
            file.then(|| Failure::io("not every file that came could be stored"))
        }
    }
}
