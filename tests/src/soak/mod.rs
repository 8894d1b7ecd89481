//! A soak of the real program: thousands of connections to `chat-cli serve`, most of them idle, for
//! minutes, with clients that come and go, are killed, do not read or send nonsense.
//!
//! ```sh
//! cargo build --release -p chat-cli
//! cargo run --release -p chat-tests --bin soak -- --connections 10000 --minutes 5
//! ```
//!
//! Most of them are at a server that echoes; a room full of others is at one that relays.
//!
//! [`run`] starts the servers, and clients in processes of their own ([`worker`]) so that they can be
//! killed. Whatever a client hears is checked ([`ledger`]), what the servers cost is sampled each
//! second ([`sample`]), and how long an echo takes is measured all the time ([`prober`]). When all
//! have left, what it has come to is judged ([`report`]).
//!
//! Everything is bounded, in number and in time. All processes end with the one that started them,
//! however that ends.

mod chaos;
mod fleet;
mod interrupt;
pub mod ledger;
mod line;
pub mod prober;
pub mod random;
pub mod report;
mod room;
pub mod sample;
mod table;
pub mod tally;
pub mod worker;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::descriptors::raise_descriptors;
use crate::program::{Program, Signal};
use fleet::Fleet;
use interrupt::Interrupt;
use prober::{Last, Prober};
use report::{End, Report};
use sample::Sample;
use table::Row;

/// The server that has the thousands.
const ECHO: &str = "echo";
/// The server where all hear all.
const RELAY: &str = "relay";
/// How often the servers are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How long it may take until all have left, and until the server has let go of them.
const LEAVING: Duration = Duration::from_mins(2);
/// How long the server may take to stop: its grace, and a while for a busy machine.
const STOPPING: Duration = Duration::from_secs(5 + 10);

/// What a soak is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// The program under test [default: chat-cli beside this program]
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// How many connections stay, and talk now and then
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub connections: u64,
    /// How long they stay, when all are there
    #[arg(long, value_name = "MINUTES", default_value_t = 5.0)]
    pub minutes: f64,
    /// How many come each second and leave, or vanish, or say nothing, or nonsense; 0 none
    #[arg(long, value_name = "PER_SECOND", default_value_t = 40)]
    pub churn: u32,
    /// How many do not read, or slowly
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub slow: u64,
    /// How many connections have a process that is killed again and again; 0: none is
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub killed: u64,
    /// How many hear each other at a second server, one that relays; 0: there is none
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub room: u64,
    /// What the random numbers depend on
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How much the memory may grow from the second third to the last, in MiB, beyond 5 %
    #[arg(long, value_name = "MIB", default_value_t = 4)]
    pub growth: u64,
    /// Write the report there too, for programs
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Plan {
    fn time(&self) -> Duration {
        Duration::from_secs_f64(self.minutes.clamp(0.05, 24.0 * 60.0) * 60.0)
    }

    /// How long it may take until all are there.
    fn arriving(&self) -> Duration {
        Duration::from_secs(60 + self.connections / 50)
    }

    /// How many descriptors the server may need: those who vanish are not noticed at once.
    fn descriptors(&self) -> u64 {
        self.connections + 2 * self.killed + self.slow + 20 * u64::from(self.churn) + 200
    }
}

/// A server under test.
struct Server {
    name: &'static str,
    program: Program,
    before: Sample,
    tcp: SocketAddr,
    unix: PathBuf,
}

impl Server {
    /// Starts one; its name says what it does.
    fn start(name: &'static str, path: &Path, folder: &Path, plan: &Plan) -> Result<Self, String> {
        let unix = folder.join(name).with_extension("sock");
        let mut command = Command::new(path);
        command.args(["serve", "--tcp", "127.0.0.1:0", "--unix"]);
        command.arg(&unix);
        // Some of the clients do so too.
        command.arg("--trust-unix");
        if name == ECHO {
            command.arg("--echo");
        }
        command.arg(format!("--max-connections={}", plan.descriptors()));
        let program = Program::start(&mut command);
        let line = program.line("listening on tcp ");
        program.line("listening on unix ");
        let tcp = line.rsplit(' ').next().and_then(|word| word.parse().ok());
        let tcp = tcp.ok_or_else(|| format!("no address in {line:?}"))?;
        let mut server = Self {
            name,
            program,
            before: Sample::default(),
            tcp,
            unix,
        };
        server.before = server.sample()?;
        Ok(server)
    }

    fn sample(&mut self) -> Result<Sample, String> {
        if !self.program.is_running() {
            let log = self.program.error_output();
            let last: Vec<_> = log.lines().rev().take(10).collect();
            return Err(format!(
                "the {} server has ended; its log, backwards: {last:#?}",
                self.name
            ));
        }
        Sample::of(self.program.id()).map_err(|error| format!("no sample of the server: {error}"))
    }
}

/// Runs a soak to its end. `workers` is the program that runs a [`worker`] when it is told
/// `worker`; the error is why there is no report.
pub fn run(plan: &Plan, workers: &Path) -> Result<Report, String> {
    let program = find(plan, workers)?;
    let wanted = plan.descriptors();
    let allowed = raise_descriptors(wanted);
    let mut plan = plan.clone();
    let mut notes = Vec::new();
    if allowed < wanted {
        let fewer = plan.connections.saturating_sub(wanted - allowed);
        notes.push(format!(
            "a process may have {allowed} descriptors: {fewer} connections, not {}",
            plan.connections
        ));
        plan.connections = fewer;
    }
    let interrupt = Interrupt::new().map_err(|error| format!("no signals: {error}"))?;
    let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
    let mut servers = vec![Server::start(ECHO, &program, folder.path(), &plan)?];
    if plan.room > 0 {
        servers.push(Server::start(RELAY, &program, folder.path(), &plan)?);
    }
    let soak = Soak {
        rows: Vec::new(),
        begun: Instant::now(),
        interrupt,
        fleet: Fleet::new(&plan, workers, &servers[0]),
        prober: None,
        servers,
        plan,
    };
    soak.go(notes)
}

/// The program under test, which must be there.
fn find(plan: &Plan, workers: &Path) -> Result<PathBuf, String> {
    let beside = || workers.with_file_name("chat-cli");
    let program = plan.program.clone().unwrap_or_else(beside);
    if program.is_file() {
        return Ok(program);
    }
    let path = program.display();
    Err(format!(
        "there is no {path}: build it with `cargo build --release -p chat-cli`, or say --program PATH"
    ))
}

struct Soak {
    plan: Plan,
    /// The first is that of the echoes.
    servers: Vec<Server>,
    fleet: Fleet,
    prober: Option<Prober>,
    interrupt: Interrupt,
    rows: Vec<Row>,
    begun: Instant,
}

impl Soak {
    fn go(mut self, notes: Vec<String>) -> Result<Report, String> {
        let prober = Prober::start(self.servers[0].tcp);
        self.prober = Some(prober.map_err(|error| error.to_string())?);
        self.fleet.start();
        let connections = self.plan.connections;
        let arrived = self.look_until(self.plan.arriving(), |soak| {
            soak.rows.last().is_some_and(|row| row.open >= connections)
        })?;
        let reached = self.rows.last().map_or(0, |row| row.open);
        self.fleet.begin_chaos(self.servers.get(1));
        let from = self.begun.elapsed();
        self.look_until(self.plan.time(), |soak| {
            soak.fleet.kill_in_time();
            false
        })?;
        let until = self.begun.elapsed();

        self.fleet.say_leave();
        self.look_until(LEAVING, |soak| soak.fleet.is_gone())?;
        let (told, mut failures) = self.fleet.end();
        if let Some(Err(error)) = self.prober.take().map(Prober::leave) {
            failures.push(format!("the prober: {error}"));
        }
        self.look_until(LEAVING, |soak| {
            let samples = soak.rows.last().map_or(&[][..], |row| &row.servers);
            let mut both = samples.iter().zip(&soak.servers);
            both.all(|(sample, server)| sample.descriptors <= server.before.descriptors)
        })?;
        let mut ends = Vec::new();
        for mut server in self.servers {
            let after = server.sample()?;
            ends.push(stop(server, after, &self.interrupt)?);
        }
        Ok(Report {
            plan: self.plan,
            notes,
            rows: self.rows,
            load: from..until,
            arrived: (arrived, reached),
            kills: self.fleet.kills(),
            told,
            failures,
            ends,
        })
    }

    /// Looks at everything once in a while, until something is so; false if it is not in time.
    fn look_until(
        &mut self,
        limit: Duration,
        mut is_so: impl FnMut(&mut Self) -> bool,
    ) -> Result<bool, String> {
        let begun = Instant::now();
        let mut next = begun;
        while next < begun + limit {
            // To the end of the time, and not further.
            next = (next + TICK).min(begun + limit);
            thread::sleep(next.saturating_duration_since(Instant::now()));
            self.look()?;
            if is_so(self) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn look(&mut self) -> Result<(), String> {
        self.interrupt.check()?;
        let servers = self.servers.iter_mut().map(Server::sample);
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let told = self.fleet.told();
        let latencies = self.prober.as_ref().map_or_else(Vec::new, Prober::take);
        let latencies = latencies.into_iter().map(|(_, latency)| latency);
        let row = Row::new(self.begun.elapsed(), servers, &told, latencies.collect());
        self.rows.push(row);
        Ok(())
    }
}

/// Stops the server while a few are connected.
fn stop(mut server: Server, after: Sample, interrupt: &Interrupt) -> Result<End, String> {
    let last = Last::connect(server.tcp)?;
    let begun = Instant::now();
    server.program.signal(Signal::TERM);
    let told = last.are_told();
    while server.program.is_running() {
        interrupt.check()?;
        if begun.elapsed() > STOPPING {
            return Err(format!("the {} server does not stop", server.name));
        }
        thread::sleep(Duration::from_millis(10));
    }
    let took = begun.elapsed();
    let log = server.program.error_output();
    // A program that has panicked does not end like others.
    let has_panicked = log.contains("panicked at");
    let (code, log) = if has_panicked {
        (None, log)
    } else {
        let ended = server.program.wait();
        (ended.code, ended.stderr)
    };
    Ok(End {
        name: server.name,
        before: server.before,
        after,
        took,
        code,
        told,
        has_panicked,
        log,
    })
}
