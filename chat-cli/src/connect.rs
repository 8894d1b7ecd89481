//! `chat-cli connect`.

use std::io::{self, IsTerminal};

use chat_core::driver::{Client, ClientBuilder, ConnectError, rt};
use chat_core::{Backoff, Config};

use crate::args::{Connect, Runtime};
use crate::editor::Editor;
use crate::exit::Failure;
use crate::lines::Source;
use crate::signals::Signals;
use crate::{interactive, pipe};

pub(crate) async fn run(args: Connect) -> Result<(), Failure> {
    let mut signals =
        Signals::new().map_err(|error| Failure::io(format!("cannot handle signals: {error}")))?;
    let (source, client) = tokio::select! {
        opened = open(&args) => opened?,
        () = signals.next() => return Err(Failure::interrupted()),
    };
    let Some(source) = source else {
        return interactive::run(client, signals).await;
    };
    let commands = args.file.is_none();
    pipe::run(client, source.start(), args.wait, commands, signals).await
}

/// Where lines come from, unless it is the terminal, and the connection.
async fn open(args: &Connect) -> Result<(Option<Source>, Client), Failure> {
    // What cannot be sent is found before anybody is bothered. In a thread of its own: opening a
    // pipe waits for its writer.
    let source = match args.file.clone() {
        Some(path) => {
            let opened = tokio::task::spawn_blocking(move || Source::open(&path)).await;
            Some(opened.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?)
        }
        None if is_terminal() => None,
        None => Some(Source::stdin()),
    };
    let config = args.common.config()?;
    let connected = match args.common.runtime {
        Runtime::Tokio => connect::<chat_tokio::Tokio>(args, config).await,
        #[cfg(feature = "async-std")]
        Runtime::AsyncStd => connect::<chat_async_std::AsyncStd>(args, config).await,
        #[cfg(feature = "smol")]
        Runtime::Smol => connect::<chat_smol::Smol>(args, config).await,
    };
    Ok((source, connected.map_err(|error| Failure::connect(&error))?))
}

async fn connect<R: rt::Runtime + Default>(
    args: &Connect,
    config: Config,
) -> Result<Client, ConnectError> {
    let mut builder = ClientBuilder::<R>::new().config(config);
    if args.reconnect {
        builder = builder.reconnect(Backoff::default());
    }
    builder.connect(args.endpoint()).await
}

fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && Editor::is_possible()
}
