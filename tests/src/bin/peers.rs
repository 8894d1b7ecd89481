//! Measures our servers beside what could be used instead: see `chat_tests::peers`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use chat_tests::peers::serve::{self, Orders};
use chat_tests::peers::{Plan, chart, run};
use clap::{Parser, Subcommand};

/// Measure our servers beside what could be used instead.
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
    /// Be one of the servers.
    #[command(hide = true)]
    Serve(Orders),
}

fn main() -> ExitCode {
    let Args { plan, role } = Args::parse();
    let done = match role {
        Some(Role::Serve(orders)) => serve::run(&orders).map_err(|error| error.to_string()),
        None => measure(&plan),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(plan: &Plan) -> Result<(), String> {
    let this = std::env::current_exe().map_err(|error| format!("where is this? {error}"))?;
    let report = run(plan, &this).map_err(|error| error.to_string())?;
    let _ = write!(io::stdout(), "{report}");
    if let Some(path) = &plan.json {
        write(path, &format!("{:#}\n", report.json()))?;
    }
    if let Some(path) = &plan.svg {
        write(path, &chart::draw(&report))?;
    }
    if report.failures.is_empty() {
        return Ok(());
    }
    Err(report.failures.join("; "))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
