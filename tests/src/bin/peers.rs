//! Measures our servers beside what could be used instead: see `chat_tests::peers`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chat_tests::peers::serve::{self, Orders};
use chat_tests::peers::{Plan, chart, growth, run};
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
    /// Measure what one more costs when there are many
    Growth(growth::Orders),
}

fn main() -> ExitCode {
    let Args { plan, role } = Args::parse();
    let done = match role {
        Some(Role::Serve(orders)) => serve::run(&orders).map_err(|error| error.to_string()),
        Some(Role::Growth(orders)) => grow(&orders),
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

/// This program, which is also the servers.
fn this() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("where is this? {error}"))
}

fn grow(orders: &growth::Orders) -> Result<(), String> {
    let table = growth::run(orders, &this()?).map_err(|error| error.to_string())?;
    let _ = write!(io::stdout(), "{table}");
    Ok(())
}

fn measure(plan: &Plan) -> Result<(), String> {
    let report = run(plan, &this()?).map_err(|error| error.to_string())?;
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
