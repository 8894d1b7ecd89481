//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chat_tokio::{Config, Endpoint, Key, Rate, Security};
use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::bench::Bench;
use crate::exit::Failure;
use crate::keys;

const TCP: &str = "127.0.0.1:9999";
const UNIX: &str = "/tmp/chat.sock";

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    2  the arguments, or the input, cannot be used
   69  cannot connect, cannot listen, or the server has ended the session
   74  reading or writing failed, the connection included
   76  the other end does not keep to the protocol
   77  the key was refused, here or there, or one is needed, or the other end
       offers less than --min-security
  124  timed out
  130  interrupted

RUST_LOG sets what is logged on stderr: error, warn, info, debug.";

/// A chat server and its clients, over TCP and Unix sockets.
#[derive(Parser)]
#[command(version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a server: each message goes to every client, its sender included.
    Serve(Serve),
    /// Talk to a server, from a terminal or from a file.
    Connect(Connect),
    /// Measure a server under load.
    Bench(Box<Bench>),
    /// Make a key file.
    Keygen(Keygen),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  chat-cli serve
      listen on 127.0.0.1:9999 and on /tmp/chat.sock, with the public default key
  chat-cli serve --tcp 0.0.0.0:9999 --key-file chat.key
      let others in, who must hold the same key
  chat-cli serve --tcp 0.0.0.0:9999 --key-dir keys
      let others in, each with a key of their own; the log says who is who
  chat-cli serve --unix /run/chat.sock --allow-uid 1000,1001
      let two users of this machine in, and nobody else
  chat-cli serve --unix ./chat.sock --trust-unix
      do without signing messages for clients that are told the same
  chat-cli serve --unix ./chat.sock --echo
      send each message back to its sender only

SIGINT, SIGTERM or SIGHUP stop the server: every client is told and gets what is queued for it. A \
second one ends it at once. A signal that is ignored when it starts (nohup) stays ignored.

DURATION is a number with a unit: 500ms, 5s, 1m.";

#[derive(clap::Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct Serve {
    /// Listen on a TCP address, or on each address of a host name; port 0 picks a free one
    /// [without an address: 127.0.0.1:9999]
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = TCP,
          action = ArgAction::Append, value_parser = parse_address)]
    tcp: Vec<String>,
    /// Listen on a Unix socket [without a path: /tmp/chat.sock]
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = UNIX,
          action = ArgAction::Append)]
    unix: Vec<PathBuf>,
    /// Send each message back to its sender only
    #[arg(long)]
    pub(crate) echo: bool,
    /// Stop waiting for clients this long after being told to stop
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) grace: Duration,
    /// Turn away whoever comes when this many are connected
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) max_connections: usize,
    /// Let in whoever holds one of the keys in this directory, and call them by it: NAME.key is the key
    /// of NAME. Without --key-file nobody else is let in, version 1 clients neither. Read at the start
    #[arg(long, value_name = "DIR")]
    pub(crate) key_dir: Option<PathBuf>,
    /// Let only these users, by number, connect to Unix sockets; others of the machine can then open
    /// them, and are turned away. Nothing else is listened on unless --tcp says so
    #[arg(long, value_name = "UID", value_delimiter = ',')]
    pub(crate) allow_uid: Vec<u32>,
    /// Turn away whoever comes when this many have not yet shown that they hold the key
    #[arg(long, value_name = "N", default_value_t = 1_024,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) max_handshakes: usize,
    /// Turn away whoever comes over TCP when this many are connected from the same address
    #[arg(long, value_name = "N", default_value_t = 1_024,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(crate) max_per_address: usize,
    /// Read no more than this many messages, or pieces of files, a second from each client, so that
    /// none floods the others; 0 any number
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    max_rate: u64,
    /// Read no more than this many bytes a second from each client; 0 any number
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    max_bandwidth: u64,
    /// Cut off a client that makes this many errors at once, of those that are forgiven; 0 never
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_errors: u64,
    /// Listen on addresses that others can reach with the public default key, which keeps nobody
    /// out
    #[arg(long)]
    pub(crate) allow_default_key: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

impl Serve {
    /// The settings of connections.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let key = match (&self.common.key_file, &self.key_dir) {
            // A key that nobody else holds: only those in the directory are let in.
            (None, Some(_)) => keys::random()?,
            _ => self.common.key()?,
        };
        let rate = |number: u64| (number > 0).then(|| Rate::per_second(number));
        let mut config = self
            .common
            .config(key, &self.endpoints())?
            .message_rate(rate(self.max_rate))
            .byte_rate(rate(self.max_bandwidth))
            .error_rate(rate(self.max_errors).map(|_| Rate::per_second(1).burst(self.max_errors)));
        if let Some(dir) = &self.key_dir {
            for (name, key) in keys::load_dir(dir)? {
                config = config.identity(&name, key);
            }
        }
        Ok(config)
    }

    /// Whether nobody is kept out.
    pub(crate) fn uses_default_key(&self) -> bool {
        self.common.key_file.is_none() && self.key_dir.is_none()
    }

    /// Where to listen.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let tcp = self.tcp.iter().map(Endpoint::tcp);
        let unix = self.unix.iter().map(Endpoint::unix);
        let endpoints: Vec<_> = tcp.chain(unix).collect();
        if endpoints.is_empty() && !self.allow_uid.is_empty() {
            // Over TCP nobody's user is known.
            vec![Endpoint::unix(UNIX)]
        } else if endpoints.is_empty() {
            vec![Endpoint::tcp(TCP), Endpoint::unix(UNIX)]
        } else {
            endpoints
        }
    }
}

const CONNECT_EXAMPLES: &str = "\
Examples:
  chat-cli connect
      talk to 127.0.0.1:9999 from the terminal
  chat-cli connect --unix --file notes.txt
      send each line of a file, print what comes back
  printf 'one\\ntwo\\n' | chat-cli connect --tcp chat.example:9999 --key-file chat.key --file -
      the same from a pipe
  chat-cli connect --send cat.png dog.png
      send files, of any size, to everybody else
  chat-cli connect --save-dir ~/Downloads
      talk, and keep the files that others send

With --file, each line that is not blank is a message, without the blanks around it; the line \
\"exit\" ends the file. The program ends when every message has come back, or when none has for \
--wait. Without a terminal, standard input is read like a file, and /quit ends it too.

With --send, the program ends when the server has all files; it fails if nobody else is there, but \
does not say who keeps them. Whoever reads too slowly for the others loses its copy. A pipe can be sent \
too (/dev/stdin); it must not pause for a minute. What the end of a connection cuts off is not sent \
again, with --reconnect either.

Files that arrive are stored with --save-dir under their own names, or under similar ones if those are \
taken, hidden or unprintable; without it they are left out. Without a terminal and without --file and \
--send, --save-dir makes the program stay until it is interrupted or the server ends.

DURATION is a number with a unit: 500ms, 5s, 1m.";

#[derive(clap::Args)]
#[command(after_help = CONNECT_EXAMPLES)]
pub(crate) struct Connect {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Talk from the terminal; the default
    #[arg(long, conflicts_with_all = ["file", "send"])]
    interactive: bool,
    /// Send the lines of a file, or of standard input for "-"
    #[arg(long, value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// Send files as they are
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "file")]
    pub(crate) send: Vec<PathBuf>,
    /// Store files that arrive in this directory, which is made if need be
    #[arg(long, value_name = "DIR")]
    pub(crate) save_dir: Option<PathBuf>,
    /// Wait this long for the next of the messages sent to come back
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(crate) wait: Duration,
    /// Connect again when the connection is lost
    #[arg(long)]
    pub(crate) reconnect: bool,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Where the server is.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Connect to a TCP address or host name [without one: 127.0.0.1:9999; the default]
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = TCP,
          conflicts_with = "unix", value_parser = parse_address)]
    tcp: Option<String>,
    /// Connect to a Unix socket [without a path: /tmp/chat.sock]
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = UNIX)]
    unix: Option<PathBuf>,
}

impl Target {
    /// Where to connect.
    pub(crate) fn endpoint(&self) -> Endpoint {
        match (&self.tcp, &self.unix) {
            (_, Some(path)) => Endpoint::unix(path),
            (Some(address), None) => Endpoint::tcp(address),
            (None, None) => Endpoint::tcp(TCP),
        }
    }
}

/// What can carry the connections; signals and the terminal are always tokio's.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Runtime {
    Tokio,
    #[cfg(feature = "async-std")]
    AsyncStd,
    #[cfg(feature = "smol")]
    Smol,
}

/// What a connection must be worth.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MinSecurity {
    /// The shared key shows damage, and keeps out who never heard a session
    Legacy,
    /// Each message is authenticated for its connection and its place
    Sec,
}

/// What both sides can be told.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// The file whose bytes are the shared key; see keygen [default: a public key]
    #[arg(long, value_name = "PATH")]
    pub(crate) key_file: Option<PathBuf>,
    /// Refuse the other end if it offers less than this [default: sec over a network, legacy on this
    /// machine]
    #[arg(long, value_name = "LEVEL")]
    min_security: Option<MinSecurity>,
    /// Do not sign messages over Unix sockets where the other end does not either: only the handshake
    /// is. Not for the socket of a bridge, such as those of socat or ssh -L: whoever is behind it could
    /// change messages unnoticed
    #[arg(long)]
    trust_unix: bool,
    /// What carries the connections; "cargo run --features async-std,smol" builds the others in
    #[arg(long, value_name = "NAME", default_value = "tokio")]
    pub(crate) runtime: Runtime,
    /// Ask the other end for a sign of life this often; 0s never
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    heartbeat: Duration,
    /// Give the other end up after this long without a sign of life; 0s never
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    idle_timeout: Duration,
}

impl Common {
    /// The key of --key-file, or the public one.
    pub(crate) fn key(&self) -> Result<Key, Failure> {
        match &self.key_file {
            Some(path) => keys::load(path),
            None => Ok(Key::default()),
        }
    }

    /// The settings of connections over these.
    pub(crate) fn config(&self, key: Key, endpoints: &[Endpoint]) -> Result<Config, Failure> {
        let is_unix = |it: &Endpoint| matches!(it, Endpoint::Unix(_));
        if self.trust_unix && !endpoints.iter().any(is_unix) {
            return Err(Failure::usage(
                "--trust-unix is for Unix sockets, and there is none; give --unix, or leave it out: over \
                 TCP every message is signed",
            ));
        }
        if !self.idle_timeout.is_zero() && self.idle_timeout <= self.heartbeat {
            return Err(Failure::usage(
                "--idle-timeout must be longer than --heartbeat, or 0s for none",
            ));
        }
        let config = Config::new(key)
            .trust_channel(self.trust_unix)
            .heartbeat(Some(self.heartbeat))
            .idle_timeout(Some(self.idle_timeout));
        Ok(match self.min_security {
            None => config,
            Some(MinSecurity::Legacy) => config.min_security(Security::Legacy),
            Some(MinSecurity::Sec) => config.min_security(Security::Sec),
        })
    }
}

const KEYGEN_EXAMPLES: &str = "\
Examples:
  chat-cli keygen
      make chat.key, which only its owner can read
  chat-cli keygen ~/.config/chat.key
      make it elsewhere; copy it to whoever is to be let in
  chat-cli keygen keys/alice.key
      make a key of her own for Alice, for a server with --key-dir keys";

#[derive(clap::Args)]
#[command(after_help = KEYGEN_EXAMPLES)]
pub(crate) struct Keygen {
    /// The file to make; it must not exist yet
    #[arg(default_value = "chat.key")]
    pub(crate) path: PathBuf,
}

fn parse_address(text: &str) -> Result<String, String> {
    let valid = text.parse::<SocketAddr>().is_ok()
        || text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains([':', '[', ']', '/']) && port.parse::<u16>().is_ok()
        });
    if valid {
        Ok(text.into())
    } else {
        Err("expected HOST:PORT, as in 127.0.0.1:9999, localhost:9999 or [::1]:9999".into())
    }
}
