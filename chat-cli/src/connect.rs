//! `chat-cli connect`.

use std::io::{self, IsTerminal};

use chat_tokio::{Backoff, Client};

use crate::args::Connect;
use crate::exit::Failure;
use crate::lines::Source;
use crate::signals::Signals;
use crate::{interactive, pipe};

pub(crate) async fn run(args: Connect) -> Result<(), Failure> {
    let mut signals =
        Signals::new().map_err(|error| Failure::io(format!("cannot handle signals: {error}")))?;
    // What cannot be sent is found before anybody is bothered.
    let source = match &args.file {
        Some(path) => Some(Source::open(path)?),
        None if io::stdin().is_terminal() && io::stdout().is_terminal() => None,
        None => Some(Source::stdin()),
    };
    let client = tokio::select! {
        client = open(&args) => client?,
        () = signals.next() => return Err(Failure::interrupted()),
    };
    let Some(source) = source else {
        return interactive::run(client, signals).await;
    };
    let commands = args.file.is_none();
    pipe::run(client, source.start(), args.wait, commands, signals).await
}

async fn open(args: &Connect) -> Result<Client, Failure> {
    let mut builder = chat_tokio::client().config(args.common.config()?);
    if args.reconnect {
        builder = builder.reconnect(Backoff::default());
    }
    let connected = builder.connect(args.endpoint()).await;
    connected.map_err(|error| Failure::connect(&error))
}
