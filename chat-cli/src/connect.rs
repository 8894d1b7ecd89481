//! `chat-cli connect`.

use std::io::{self, IsTerminal};

use chat_core::driver::{Client, ClientBuilder, ConnectError, rt};
use chat_core::{Backoff, Config, Receive};

use crate::args::{Connect, Runtime};
use crate::arrivals::Arrivals;
use crate::editor::Editor;
use crate::exit::Failure;
use crate::lines::Source;
use crate::pipe::{GOODBYE, Manner};
use crate::signals::Signals;
use crate::store::SaveDir;
use crate::tasks::joined;
use crate::upload::Upload;
use crate::{interactive, pipe, send};

pub(crate) async fn run(args: Connect) -> Result<(), Failure> {
    let mut signals =
        Signals::new().map_err(|error| Failure::io(format!("cannot handle signals: {error}")))?;
    let (work, arrivals, client) = tokio::select! {
        opened = open(&args) => opened?,
        () = signals.next() => return Err(Failure::interrupted()),
    };
    match work {
        Work::Talk => interactive::run(client, arrivals, signals).await,
        Work::Send(uploads) => send::run(client, uploads, arrivals, signals).await,
        Work::Lines(source) => {
            let max = client.max_message().max(client.max_stream().unwrap_or(0));
            let checked = tokio::task::spawn_blocking(move || source.check(max).map(|()| source));
            let source = tokio::select! {
                checked = checked => joined(checked),
                () = signals.next() => Err(Failure::interrupted()),
            };
            let source = match source {
                Ok(source) => source,
                Err(failure) => {
                    client.close(GOODBYE).await;
                    return Err(failure);
                }
            };
            let manner = Manner {
                wait: args.wait,
                commands: args.file.is_none(),
                stay: args.file.is_none() && arrivals.saves(),
            };
            pipe::run(client, source.start(max), manner, arrivals, signals).await
        }
    }
}

/// What there is to do.
enum Work {
    /// Messages are typed at the terminal.
    Talk,
    /// Messages are lines.
    Lines(Source),
    /// Files are sent.
    Send(Vec<Upload>),
}

/// What there is to do, a place for what arrives, and the connection.
async fn open(args: &Connect) -> Result<(Work, Arrivals, Client), Failure> {
    // What cannot be sent is found before anybody is bothered. In a thread of its own: opening a
    // pipe waits for its writer.
    let (file, paths, dir) = (args.file.clone(), args.send.clone(), args.save_dir.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let dir = dir.map(|dir| SaveDir::open(&dir)).transpose()?;
        let work = match file {
            Some(path) => Work::Lines(Source::open(&path)?),
            None if !paths.is_empty() => {
                let uploads = paths.iter().map(|path| Upload::check(path));
                Work::Send(uploads.collect::<Result<_, _>>()?)
            }
            None if is_terminal() => Work::Talk,
            None => Work::Lines(Source::stdin()),
        };
        Ok((work, Arrivals::new(dir)))
    });
    let (work, arrivals) = joined(opened.await)?;
    let config = args
        .common
        .config(args.common.key()?, &[args.target.endpoint()])?;
    let config = config.receive(Receive::Pieces);
    let connected = match args.common.runtime {
        Runtime::Tokio => connect::<chat_tokio::Tokio>(args, config).await,
        #[cfg(feature = "async-std")]
        Runtime::AsyncStd => connect::<chat_async_std::AsyncStd>(args, config).await,
        #[cfg(feature = "smol")]
        Runtime::Smol => connect::<chat_smol::Smol>(args, config).await,
    };
    let client = connected.map_err(|error| Failure::connect(&error))?;
    Ok((work, arrivals, client))
}

async fn connect<R: rt::Runtime + Default>(
    args: &Connect,
    config: Config,
) -> Result<Client, ConnectError> {
    let mut builder = ClientBuilder::<R>::new().config(config);
    if args.reconnect {
        builder = builder.reconnect(Backoff::default());
    }
    builder.connect(args.target.endpoint()).await
}

fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && Editor::is_possible()
}
