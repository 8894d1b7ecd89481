//! The servers, each in a process and on a core of its own.

use std::fmt::Display;
use std::future::pending;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use chat_core::Config;
use chat_core::driver::{Echo, Endpoint, Handler, Relay, ServerBuilder, rt};
use clap::ValueEnum;
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::runtime::Builder;

use super::{others, process};

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Ours on tokio.
    Tokio,
    /// Ours on async-std.
    AsyncStd,
    /// Ours on smol.
    Smol,
    /// tokio-tungstenite as its examples have it: each answer is flushed.
    Tungstenite,
    /// tokio-tungstenite that flushes when nothing more has come.
    TungsteniteTuned,
    /// `LengthDelimitedCodec` as its documentation has it: each answer is flushed.
    Delimited,
    /// `LengthDelimitedCodec` that flushes when nothing more has come.
    DelimitedTuned,
    /// nats-server.
    Nats,
    /// No protocol at all: bytes are sent back as they come.
    Bare,
}

/// What a server is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Orders {
    /// Which one it is
    #[arg(value_enum)]
    pub kind: Kind,
    /// Give each message to all instead of back to its sender
    #[arg(long)]
    pub room: bool,
    /// Leave idle connections alone, and take very many
    #[arg(long)]
    pub idle: bool,
    /// Listen on a Unix socket, which is trusted if clients do so too
    #[arg(long)]
    pub unix: bool,
    /// Which core to run on
    #[arg(long, default_value_t = 0)]
    pub core: usize,
    /// A folder for what it has to write
    #[arg(long)]
    pub folder: PathBuf,
}

impl Orders {
    /// Where to listen, if not on a TCP address.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        self.unix.then(|| self.folder.join("socket"))
    }
}

/// Serves until it is killed, or until the process that started it ends.
pub fn run(orders: &Orders) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    process::pin(orders.core);
    match orders.kind {
        Kind::Tokio => current_thread()?.block_on(chat::<chat_tokio::Tokio>(orders)),
        Kind::AsyncStd => async_std::task::block_on(chat::<chat_async_std::AsyncStd>(orders)),
        Kind::Smol => smol::block_on(chat::<chat_smol::Smol>(orders)),
        Kind::Nats => nats(orders),
        _ => current_thread()?.block_on(others::serve(orders)),
    }
}

/// Says where a server listens.
pub(super) fn announce(address: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{address}")?;
    stdout.flush()
}

fn current_thread() -> io::Result<tokio::runtime::Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn chat<R: rt::Runtime + Default>(orders: &Orders) -> io::Result<()> {
    if orders.room {
        start::<R, _>(Relay, orders).await
    } else {
        start::<R, _>(Echo, orders).await
    }
}

async fn start<R: rt::Runtime + Default, H: Handler>(
    handler: H,
    orders: &Orders,
) -> io::Result<()> {
    let endpoint = match orders.socket() {
        Some(path) => Endpoint::unix(path),
        None => Endpoint::tcp("127.0.0.1:0"),
    };
    let config = Config::default().trust_channel(orders.unix);
    let mut builder = ServerBuilder::<R, H>::new(handler)
        .listen(endpoint)
        .config(config.clone());
    if orders.idle {
        builder = builder
            .config(config.heartbeat(None).idle_timeout(None))
            .max_connections(usize::MAX)
            .max_handshakes(usize::MAX)
            .max_per_address(usize::MAX);
    }
    let server = builder.bind().await.map_err(io::Error::other)?;
    match server.endpoints() {
        [Endpoint::Tcp(address)] => announce(address)?,
        [Endpoint::Unix(path)] => announce(path.display())?,
        _ => return Err(io::Error::other("it does not listen in one place")),
    }
    pending().await
}

/// Becomes nats-server, which says in a file where it listens.
fn nats(orders: &Orders) -> io::Result<()> {
    let config = orders.folder.join("nats.conf");
    // What the others take, and no question to whoever is idle for a while.
    let settings = "max_payload: 16777216\nmax_pending: 268435456\nping_interval: \"10m\"\n\
                    max_connections: 200000\nwrite_deadline: \"30s\"\n";
    std::fs::write(&config, settings)?;
    let error = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", "-1", "-l", "/dev/null", "-c"])
        .arg(&config)
        .arg("--ports_file_dir")
        .arg(&orders.folder)
        .exec();
    Err(error)
}
