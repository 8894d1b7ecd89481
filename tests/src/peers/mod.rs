//! Our servers beside what could be used instead, in one run on one machine.
//!
//! ```sh
//! cargo run --release -p chat-tests --bin peers
//! ```
//!
//! Each server has a process of its own ([`serve`]) and the first core; the load ([`load`]) is one
//! thread on the second. How it is measured, and what came of it, is in `BENCHMARKS.md`.

pub mod cases;
pub mod chart;
pub mod growth;
mod guests;
pub mod hello;
pub mod load;
pub mod machine;
mod others;
pub mod process;
pub mod report;
pub mod serve;
pub mod solo;
pub mod wire;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cases::{CASES, Case, TARGETS, Target, What};
use load::{Load, Run};
use process::Server;
use report::{Report, Row};
use serve::Kind;

use crate::descriptors::raise_descriptors;

/// The load has its core for itself when it waits for it less than so much of the time.
const CROWDED: f64 = 0.05;
/// Descriptors beyond those of connections.
const SPARE: u64 = 200;

/// What is to be measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Plan {
    /// Only these cases and these servers, separated by commas; the beginning of names stands for all
    /// that begin so
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// How often each is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rounds: usize,
    /// How long each time, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.7)]
    pub time: f64,
    /// How many connections are idle, where those are measured
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub idle: usize,
    /// A look only: once, shortly, and few idle connections
    #[arg(long)]
    pub quick: bool,
    /// Write the report there too, for programs
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw it there
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

impl Plan {
    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.max(1) }
    }

    fn time(&self) -> Duration {
        let time = if self.quick { 0.25 } else { self.time };
        Duration::from_secs_f64(time.clamp(0.01, 60.0))
    }

    fn idle(&self) -> usize {
        let idle = if self.quick {
            self.idle.min(1_000)
        } else {
            self.idle
        };
        idle.max(1)
    }

    fn warm_up(&self) -> Duration {
        self.time() / 5
    }

    /// Which of one sort of names are asked for: if none is, all of them.
    fn takes(&self, all: &[&str]) -> impl Fn(&str) -> bool {
        let mut asked: Vec<String> = Vec::new();
        for only in &self.only {
            asked.extend(meant(only, all).map(str::to_owned));
        }
        move |name| asked.is_empty() || asked.iter().any(|asked| asked == name)
    }
}

/// The names that are meant: this one, or else those that begin like it.
fn meant<'a>(only: &str, all: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let exact = all.contains(&only);
    let fits = move |name: &&str| *name == only || !exact && name.starts_with(only);
    all.iter().copied().filter(fits)
}

/// Measures all; `program` is this one, that starts the servers.
pub fn run(plan: &Plan, program: &Path) -> io::Result<Report> {
    let (cases, names) = (CASES.map(|it| it.name), TARGETS.map(|it| it.name));
    let (takes_case, takes_target) = (plan.takes(&cases), plan.takes(&names));
    for only in &plan.only {
        if meant(only, &cases).chain(meant(only, &names)).count() == 0 {
            return Err(io::Error::other(format!("nothing is called {only}")));
        }
    }
    let mut report = Report {
        hash: machine::hash_speed(),
        machine: machine::describe(),
        ..Report::default()
    };
    if report.hash < machine::EXPECTED_HASH {
        report.notes.push(format!(
            "SHA-256 runs at {:.2} GB/s, not above {:.0} as with the instructions for it (or \
             `-C target-cpu=native` has made it slow): what is ours is measured too slow.",
            report.hash / 1e9,
            machine::EXPECTED_HASH / 1e9
        ));
    }
    let mut targets = TARGETS.to_vec();
    targets.retain(|target| takes_target(target.name));
    if targets.iter().any(|it| it.kind == Kind::Nats) && !process::is_installed("nats-server") {
        targets.retain(|target| target.kind != Kind::Nats);
        let note = "nats is left out: there is no nats-server in the PATH.";
        report.notes.push(note.into());
    }
    if thread::available_parallelism()?.get() < 2 {
        let note = "There is one core only: servers and load share it, and what is a second worth?";
        report.notes.push(note.into());
    }
    let wanted = plan.idle() as u64 + SPARE;
    let descriptors = raise_descriptors(wanted);
    process::pin(1);
    let (begun, before) = (Instant::now(), process::own_wait());
    for case in CASES {
        if takes_case(case.name) {
            // Whether somebody reads it or not.
            let _ = writeln!(io::stderr(), "peers: {}", case.name);
            let mut plan = plan.clone();
            if matches!(case.what, What::Idle) && descriptors < wanted {
                plan.idle = usize::try_from(descriptors.saturating_sub(SPARE)).unwrap_or(0);
                let note = format!("Only {} connections are idle: see ulimit -n.", plan.idle());
                report.notes.push(note);
            }
            measure(&plan, program, case, &targets, &mut report)?;
        }
    }
    let crowded = process::own_wait().saturating_sub(before);
    if crowded > begun.elapsed().mul_f64(CROWDED) {
        let note = "Others used this machine meanwhile: what is per second says little.";
        report.notes.push(note.into());
    }
    Ok(report)
}

/// A server, and what was found out about it.
struct Subject {
    target: Target,
    server: Server,
    runs: Vec<Run>,
    took: Vec<u64>,
    memory: Option<f64>,
}

/// One case with all servers, in turns: what else the machine does meets all of them.
fn measure(
    plan: &Plan,
    program: &Path,
    case: Case,
    targets: &[Target],
    report: &mut Report,
) -> io::Result<()> {
    let mut subjects = Vec::new();
    for target in targets.iter().filter(|target| case.what.is_for(target)) {
        let mut flags = case.what.flags().to_vec();
        flags.extend(target.unix.then_some("--unix"));
        subjects.push(Subject {
            target: *target,
            server: Server::start(program, target.kind, &flags)?,
            runs: Vec::new(),
            took: Vec::new(),
            memory: None,
        });
    }
    let rounds = match case.what {
        // Memory that was given back is not given back to the system.
        What::Idle => 1,
        _ => plan.rounds(),
    };
    for _ in 0..rounds {
        // One that fails takes nobody else with it.
        subjects.retain_mut(|subject| {
            let done = turn(plan, case, subject);
            if let Err(error) = &done {
                let name = subject.target.name;
                report
                    .failures
                    .push(format!("{}, {name}: {error}", case.name));
            }
            done.is_ok()
        });
    }
    for mut subject in subjects {
        let mut row = Row::of(case.name, subject.target.name, &subject.runs);
        if subject.memory.is_some() {
            (row.memory, row.runs) = (subject.memory, 1);
        }
        if !subject.took.is_empty() {
            let mut part = |part| solo::percentile(&mut subject.took, part);
            row.latency = Some((part(0.5), part(0.99)));
        }
        report.rows.push(row);
    }
    Ok(())
}

fn turn(plan: &Plan, case: Case, subject: &mut Subject) -> io::Result<()> {
    let (server, protocol) = (&subject.server, subject.target.protocol);
    let (warm_up, time) = (plan.warm_up(), plan.time());
    subject.runs.push(match case.what {
        What::Flood(shape) => {
            Load::connect(server.address(), protocol, shape)?.run(server, warm_up, time)?
        }
        What::PingPong(len) => {
            let took = &mut subject.took;
            solo::ping_pong(server, protocol, len, warm_up, time, took)?
        }
        What::Visits => solo::visits(server, protocol, time)?,
        What::Idle => {
            subject.memory = Some(solo::idle(server, protocol, plan.idle())?);
            return Ok(());
        }
    });
    Ok(())
}
