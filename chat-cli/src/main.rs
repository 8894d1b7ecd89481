//! `chat-cli`: a chat server and its clients, over TCP and Unix sockets.

mod args;
mod arrivals;
mod bench;
mod connect;
mod editor;
mod exit;
mod interactive;
mod keys;
mod lines;
mod pending;
mod pipe;
mod printer;
mod screen;
mod send;
mod serve;
mod signals;
mod store;
mod tasks;
mod upload;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command};
use crate::exit::Failure;

fn main() -> ExitCode {
    let args = Args::parse();
    let default_log = match args.command {
        Command::Serve(_) => "info",
        Command::Connect(_) | Command::Bench(_) | Command::Keygen(_) => "warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_log));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // Whether somebody reads the log makes no difference; the default is to panic.
        .log_internal_errors(false)
        .init();

    let done = match args.command {
        Command::Keygen(args) => keys::generate(&args.path),
        Command::Serve(args) => run(serve::run(args)),
        Command::Connect(args) => run(connect::run(args)),
        Command::Bench(args) => run(bench::run(*args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            screen::note(&failure);
            failure.code()
        }
    }
}

fn run(future: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io(format!("cannot start the runtime: {error}")))?;
    let done = runtime.block_on(future);
    // A thread may still wait for a line of standard input: nobody needs it.
    runtime.shutdown_background();
    done
}
