//! `chat-cli bench`.

mod args;
mod echo;
mod fan_out;
mod idle;
mod meter;
mod pace;
mod payload;
mod process;
mod report;
mod run;
mod visits;

use std::io::{self, Write};
use std::sync::Arc;

use chat_core::Config;
use chat_core::driver::{Client, ClientBuilder, ConnectError, Endpoint, rt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::args::Runtime;
use crate::exit::Failure;
use crate::screen::note;
use crate::signals::Signals;
use crate::tasks::joined;

pub(crate) use args::Bench;
use args::Load;
use process::Sample;
use report::Report;

/// What the server is told at the end.
const GOODBYE: &str = "The measurement is over";

/// How many connections are made at a time: servers turn away whoever comes when too many have not yet
/// shown that they hold the key.
const AT_A_TIME: usize = 64;

/// Descriptors beyond those of connections: of the terminal, the runtime, /proc.
const OTHER_DESCRIPTORS: u64 = 64;

pub(crate) async fn run(args: Bench) -> Result<(), Failure> {
    let mut signals =
        Signals::new().map_err(|error| Failure::io(format!("cannot handle signals: {error}")))?;
    args.check()?;
    let sender = usize::from(args.load == Load::FanOut);
    allow_descriptors(args.connections.saturating_add(sender))?;
    let dialer = Arc::new(Dialer {
        runtime: args.common.runtime,
        endpoint: args.endpoint(),
        config: args.common.config(args.common.key()?, &[args.endpoint()])?,
    });
    let (report, outcome) = match args.load {
        Load::Echo => echo::run(&args, &dialer, &mut signals).await?,
        Load::FanOut => fan_out::run(&args, &dialer, &mut signals).await?,
        Load::Connect => visits::run(&args, &dialer, &mut signals).await?,
        Load::Idle => idle::run(&args, &dialer, &mut signals).await?,
    };
    print(&report, args.json)?;
    outcome
}

/// What a load comes to: what is reported, and the failure that is in it.
type Measured = (Report, Result<(), Failure>);

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = if json {
        writeln!(stdout, "{}", report.json())
    } else {
        write!(stdout, "{report}")
    };
    let written = written.and_then(|()| stdout.flush());
    written.map_err(|error| Failure::io(format!("cannot write to standard output: {error}")))
}

/// Raises what this process may open, if that is too little for so many connections.
fn allow_descriptors(connections: usize) -> Result<(), Failure> {
    let needed = (connections as u64).saturating_add(OTHER_DESCRIPTORS);
    let limit = getrlimit(Resource::Nofile);
    let allowed = |limit: &Rlimit| limit.current.unwrap_or(u64::MAX);
    if allowed(&limit) >= needed {
        return Ok(());
    }
    let most = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // If that fails, what there is says so.
    let _ = setrlimit(Resource::Nofile, most);
    let allowed = allowed(&getrlimit(Resource::Nofile));
    if allowed >= needed {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "a process may have {allowed} files open here, enough for about {} connections; \
         raise that (ulimit -n) or lower --connections",
        allowed.saturating_sub(OTHER_DESCRIPTORS)
    )))
}

/// Refuses what a server does not take.
fn check_size(client: &Client, size: usize) -> Result<(), Failure> {
    let most = client.max_message();
    if size as u64 <= most {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "a message of {size} bytes is too large: the server takes up to {most}"
    )))
}

/// What connects.
struct Dialer {
    runtime: Runtime,
    endpoint: Endpoint,
    config: Config,
}

impl Dialer {
    async fn dial(&self) -> Result<Client, ConnectError> {
        match self.runtime {
            Runtime::Tokio => self.dial_on::<chat_tokio::Tokio>().await,
            #[cfg(feature = "async-std")]
            Runtime::AsyncStd => self.dial_on::<chat_async_std::AsyncStd>().await,
            #[cfg(feature = "smol")]
            Runtime::Smol => self.dial_on::<chat_smol::Smol>().await,
        }
    }

    async fn dial_on<R: rt::Runtime + Default>(&self) -> Result<Client, ConnectError> {
        let builder = ClientBuilder::<R>::new().config(self.config.clone());
        builder.connect(self.endpoint.clone()).await
    }

    /// So many connections, or the reason why there are not as many.
    async fn dial_all(
        self: &Arc<Self>,
        count: usize,
        signals: &mut Signals,
    ) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::new();
        let mut tasks = JoinSet::new();
        while clients.len() < count {
            while tasks.len() < AT_A_TIME && clients.len() + tasks.len() < count {
                let dialer = Arc::clone(self);
                tasks.spawn(async move { dialer.dial().await });
            }
            tokio::select! {
                Some(dialed) = tasks.join_next() => match joined(dialed) {
                    Ok(client) => clients.push(client),
                    Err(error) => {
                        let failure = Failure::connect(&error);
                        return Err(if clients.is_empty() {
                            failure
                        } else {
                            let made = clients.len();
                            failure.after(&format!("after {made} of {count} connections"))
                        });
                    }
                },
                () = signals.next() => return Err(Failure::interrupted()),
            }
        }
        Ok(clients)
    }
}

/// The server's process, if it is known.
struct Server {
    process: Option<u32>,
    before: Option<Sample>,
}

impl Server {
    /// Looks for it. Where it cannot be seen, one line says so.
    fn find(args: &Bench) -> Self {
        let found = match (args.server_pid, args.socket()) {
            (Some(process), _) => Ok(process),
            (None, Some(path)) => process::listener(&path).map_err(|error| error.to_string()),
            (None, None) => Err("--server-pid tells which process it is, on this machine".into()),
        };
        let sampled = found.and_then(|process| {
            let sample = Sample::of(&process.to_string());
            let sample = sample.map_err(|error| format!("/proc/{process}: {error}"));
            sample.map(|sample| (process, sample))
        });
        match sampled {
            Ok((process, sample)) => Self {
                process: Some(process),
                before: Some(sample),
            },
            Err(why) => {
                note(format_args!("what it costs the server is not known: {why}"));
                Self {
                    process: None,
                    before: None,
                }
            }
        }
    }

    /// What it has had up to now, if it is known.
    fn sample(&self) -> Option<Sample> {
        Sample::of(&self.process?.to_string()).ok()
    }
}
