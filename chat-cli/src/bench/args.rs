//! The command line of `bench`.

use std::path::PathBuf;
use std::time::Duration;

use chat_tokio::Endpoint;
use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;

use crate::args::{Common, Target};
use crate::exit::Failure;

const MORE: &str = "\
What is measured:
  echo: from sending a message to its answer, at a server that runs with --echo. Without --rate it is a \
closed loop: a message goes out when an answer has come, so a server that pauses is asked nothing meanwhile, \
and the pause counts only for the few that were on their way. That is the line \"latency\"; \"corrected\" \
adds the messages that would have gone out meanwhile, as HdrHistogram does, with the mean latency as the \
interval that was expected between messages. With --rate it is an open loop: latency counts from the moment \
at which a message was due, however late it went out; \"late\" is by how much. --window still holds: what is \
due and finds it full waits, and that counts. \"unsent\" were due and never went out.
  fan-out: from sending a message, or from when it was due, to its delivery, for each of the receivers, at a \
server that relays. One more connection sends. There is room in the window when all have a message.
  connect: from connecting to the end of the handshake; \"visit\" is to the end of the goodbye. Each \
connection is made again as soon as it has ended.
  idle: how many connections stay, the memory that the server has for each, and its share of a processor \
while it holds them. Start the server afresh: memory that it had before is used again.

Each answer is checked. One that differs, or is nobody's, ends the program with code 76, one that does not \
come with 124, and a connection that is lost with 69 or 74: there are no numbers then. Only connect and idle \
count what failed, and fail all the same. An interrupt ends it early, with the numbers so far and code 130.

A message counts if it went out after --warm-up. MB are millions of bytes of content. Percentages are of one \
processor; the load takes its share as well, and says so. The server's is known with --server-pid, or over a \
Unix socket.

The first line says what protects the messages: \"sec\", \"legacy\", or \"sec, trust\" where --trust-unix is \
given at both ends and they are not signed. In JSON these are \"security\" and \"trust\".

A server reads no more messages a second from a client than its --max-rate, 100,000 unless told otherwise; \
a hint on stderr says when it comes to that: serve --max-rate 0 lifts it. It turns away those beyond 1,024 \
from one address: serve --max-per-address, or a Unix socket.

Examples:
  chat-cli bench echo
      10 connections to 127.0.0.1:9999, 16 messages in flight on each, for 10 seconds
  chat-cli bench echo --connections 1 --window 1
      how long one message takes, when there are no others
  chat-cli bench --unix /run/chat.sock echo --rate 20000 --json
      20,000 messages a second, however quickly they are answered; a report for programs
  chat-cli bench fan-out --connections 500 --server-pid $(pidof chat-cli)
      one sends, 500 receive
  chat-cli bench idle --connections 900 --duration 30s

DURATION is a number with a unit: 500ms, 5s, 1m.";

/// What a server is made to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Messages that come back to their sender
    Echo,
    /// Messages of one for all others
    FanOut,
    /// Connections that come and go
    Connect,
    /// Connections that stay and say nothing
    Idle,
}

impl Load {
    /// As it is called on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::FanOut => "fan-out",
            Self::Connect => "connect",
            Self::Idle => "idle",
        }
    }

    fn has_messages(self) -> bool {
        matches!(self, Self::Echo | Self::FanOut)
    }
}

/// The options of `bench`.
#[derive(clap::Args)]
#[command(after_long_help = MORE, after_help = "See --help for what is measured.")]
pub(crate) struct Bench {
    #[command(flatten)]
    target: Target,
    /// What the server is made to do
    #[arg(value_enum)]
    pub(super) load: Load,
    /// How many connections; for fan-out, that receive
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub(super) connections: usize,
    /// Messages that may be on their way, on each connection [default: 16]
    #[arg(long, value_name = "N",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=65_536))]
    window: Option<usize>,
    /// The content of a message [default: 100]
    #[arg(long, value_name = "BYTES",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    size: Option<usize>,
    /// End after this long, the warm-up aside [default: 10s, unless there is --messages]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// End after this many messages, or visits, over all connections
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) messages: Option<u64>,
    /// Send this many messages a second, over all connections, whether or not answers come
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(super) rate: Option<u64>,
    /// Do the same for this long before anything counts [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    warm_up: Option<Duration>,
    /// Give up when no answer comes for this long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(super) wait: Duration,
    /// The server's process, to tell what it costs; that of a Unix socket is found by itself
    #[arg(long, value_name = "PID")]
    pub(super) server_pid: Option<u32>,
    /// Report as JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Bench {
    /// Whether the options have a meaning for the load.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let (messages, idle) = (self.load.has_messages(), self.load == Load::Idle);
        for (name, is_given, has_meaning) in [
            ("--window", self.window.is_some(), messages),
            ("--size", self.size.is_some(), messages),
            ("--rate", self.rate.is_some(), messages),
            ("--messages", self.messages.is_some(), !idle),
            ("--warm-up", self.warm_up.is_some(), !idle),
        ] {
            if is_given && !has_meaning {
                let load = self.load.name();
                return Err(Failure::usage(format!("{name} has no meaning for {load}")));
            }
        }
        if self.wait.is_zero() {
            return Err(Failure::usage("--wait must be longer than nothing"));
        }
        Ok(())
    }

    /// Where to connect.
    pub(super) fn endpoint(&self) -> Endpoint {
        self.target.endpoint()
    }

    /// The path of the socket, if it is one.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match self.endpoint() {
            Endpoint::Unix(path) => Some(path),
            _ => None,
        }
    }

    pub(super) fn window(&self) -> usize {
        self.window.unwrap_or(16)
    }

    pub(super) fn size(&self) -> usize {
        self.size.unwrap_or(100)
    }

    pub(super) fn warm_up(&self) -> Duration {
        match self.load {
            Load::Idle => Duration::ZERO,
            _ => self.warm_up.unwrap_or(Duration::from_secs(1)),
        }
    }

    /// How long it goes on; `None`: until all messages were sent.
    pub(super) fn duration(&self) -> Option<Duration> {
        match (self.duration, self.messages) {
            (None, None) => Some(Duration::from_secs(10)),
            (duration, _) => duration,
        }
    }
}
