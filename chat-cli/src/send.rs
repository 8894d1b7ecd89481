//! `connect --send`.

use chat_tokio::{Client, ClientEvent};

use crate::arrivals::{Arrival, Arrivals};
use crate::exit::Failure;
use crate::pipe::GOODBYE;
use crate::screen::{note, sanitize_line};
use crate::signals::Signals;
use crate::upload::{Upload, bar};

/// Sends files, one after the other, and ends when the server has them all. Meanwhile files that
/// arrive are stored, if there is a place for them; messages are not shown.
pub(crate) async fn run(
    client: Client,
    uploads: Vec<Upload>,
    mut arrivals: Arrivals,
    mut signals: Signals,
) -> Result<(), Failure> {
    let mut sending = Box::pin(async {
        for upload in uploads {
            let bar = bar(&upload);
            upload.send(&client, bar).await?;
        }
        Ok::<(), String>(())
    });
    let mut sent = false;
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
                Err(error) => break Err(match client.closed() {
                    Some(reason) => Failure::closed(&reason).after(&error),
                    None => Failure::io(error),
                }),
            },
            arrival = arrivals.next() => if let Some(failure) = told(arrival) {
                failed = Some(failure);
            },
            event = client.recv() => match event {
                Some(ClientEvent::Incoming(incoming)) => {
                    if arrivals.saves() && incoming.transfer().file_name().is_some() {
                        arrivals.accept(incoming);
                    }
                }
                Some(ClientEvent::Error(text)) => {
                    note(format_args!("the server reports: {}", sanitize_line(&text)));
                }
                Some(ClientEvent::Disconnected { reason, retry_in: None, .. }) => {
                    break Err(Failure::closed(&reason));
                }
                Some(_) => {}
                None => break Err(Failure::io("the connection is over")),
            },
        }
    };
    drop(sending);
    tokio::select! {
        _ = client.close(GOODBYE) => done.and(failed.map_or(Ok(()), Err)),
        () = signals.next() => Err(Failure::interrupted()),
    }
}

/// Says what has become of a file that came. What failed is the program's failure, in the end.
pub(crate) fn told(arrival: Arrival) -> Option<Failure> {
    match arrival {
        Arrival::Message(_) => None,
        Arrival::Saved { path, size } => {
            note(format_args!("saved {} ({size} bytes)", path.display()));
            None
        }
        Arrival::Failed(text) => {
            note(&text);
            Some(Failure::io("not everything that arrived could be stored"))
        }
    }
}
