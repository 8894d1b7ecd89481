//! Soaks `chat-cli serve` with thousands of clients, and judges what becomes of it: see
//! `chat_tests::soak`.

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use chat_tests::soak::worker::Orders;
use chat_tests::soak::{Plan, run, worker};
use clap::{Parser, Subcommand};

/// Soak `chat-cli serve` with thousands of clients, and judge what becomes of it.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(flatten)]
    plan: Plan,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Be one of the processes with clients.
    #[command(hide = true)]
    Worker(Orders),
}

fn main() -> ExitCode {
    let Args { plan, role } = Args::parse();
    let done = match role {
        Some(Role::Worker(orders)) => worker::run(orders).map_err(|error| error.to_string()),
        None => soak(&plan),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "soak: {error}");
            ExitCode::FAILURE
        }
    }
}

fn soak(plan: &Plan) -> Result<(), String> {
    let this = std::env::current_exe().map_err(|error| format!("where is this? {error}"))?;
    let report = run(plan, &this)?;
    // Whether somebody reads it or not, it counts how it ends.
    let _ = write!(io::stdout(), "{report}");
    if let Some(path) = &plan.json {
        let written = fs::write(path, report.json().to_string());
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let judgements = report.judgements().into_iter();
    let failed: Vec<_> = judgements
        .filter(|it| !it.holds)
        .map(|it| it.name)
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("failed: {}", failed.join(", ")))
}
