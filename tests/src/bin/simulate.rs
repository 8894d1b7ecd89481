//! Runs simulated worlds, one for each seed, and says which went wrong and how to see it again.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use chat_tests::sim::{Plan, Watch, run, shrink};
use clap::Parser;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs simulated worlds and looks whether everything in them is as it must be.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Args {
    /// How many seeds to try
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many processes share the work
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// Only say which seed goes wrong, without the least of it that does
    #[arg(long)]
    no_shrink: bool,
    /// Run this seed alone, twice, and show what happens
    #[arg(long)]
    seed: Option<u64>,
    /// Only these items of its plan
    #[arg(long, value_delimiter = ',', requires = "seed")]
    only: Option<Vec<usize>>,
    /// Show every step of it
    #[arg(long, requires = "seed")]
    trace: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // What is allocated once and for all is not to count.
    warm_up();
    if let Some(seed) = args.seed {
        let plan = Plan::of(seed);
        let plan = args
            .only
            .map_or_else(|| plan.clone(), |only| plan.only(&only));
        return show(&plan, args.trace);
    }
    if args.jobs > 1 {
        return share(&args);
    }
    let began = Instant::now();
    let (mut messages, mut all) = (0, 0_u64);
    for seed in args.from..args.from.saturating_add(args.seeds) {
        let plan = Plan::of(seed);
        let before = MEMORY.current_usage();
        let outcome = run(&plan, watch());
        messages += outcome.messages;
        let hash = u64::from_str_radix(&outcome.hash, 16).unwrap_or(0);
        all = all.rotate_left(1) ^ hash;
        let failure = outcome.failure.map(|it| it.to_string());
        drop(plan);
        drop(outcome.hash);
        let left = MEMORY.current_usage().saturating_sub(before);
        let leak = (left > 0 && failure.is_none()).then(|| format!("{left} bytes are left"));
        if let Some(what) = failure.or(leak) {
            report(seed, &what, !args.no_shrink);
            return ExitCode::FAILURE;
        }
    }
    println!(
        "{} worlds from seed {}: {messages} messages, hash {all:016x}, {:.1?}",
        args.seeds,
        args.from,
        began.elapsed()
    );
    ExitCode::SUCCESS
}

fn watch() -> Watch {
    Watch {
        prints: false,
        memory: Some(|| MEMORY.current_usage()),
    }
}

fn warm_up() {
    for seed in 0..8 {
        run(&Plan::of(seed), Watch::default());
    }
}

/// Says which world went wrong, and the least of it that does.
fn report(seed: u64, what: &str, shrinks: bool) {
    eprintln!("seed {seed}: {what}");
    if !shrinks {
        return;
    }
    let plan = Plan::of(seed);
    let left = shrink(&plan, watch());
    let numbers: Vec<String> = left.iter().map(usize::to_string).collect();
    eprintln!(
        "again, with {} of {} items: cargo run -p chat-tests --bin simulate -- --seed {seed} --only {}",
        left.len(),
        plan.items.len(),
        numbers.join(",")
    );
}

/// Runs one world twice: it must do the same again.
fn show(plan: &Plan, trace: bool) -> ExitCode {
    println!("{plan:#?}");
    let first = run(
        plan,
        Watch {
            prints: trace,
            ..watch()
        },
    );
    let again = run(plan, watch());
    println!("hash {}, {} messages", first.hash, first.messages);
    if first != again {
        eprintln!("the second run differs: hash {}", again.hash);
        return ExitCode::FAILURE;
    }
    match first.failure {
        None => ExitCode::SUCCESS,
        Some(failure) => {
            eprintln!("seed {}: {failure}", plan.seed);
            ExitCode::FAILURE
        }
    }
}

/// Lets processes of their own do the work: what a world allocates is counted by process.
fn share(args: &Args) -> ExitCode {
    let program = std::env::current_exe().expect("a program knows where it is");
    let each = args.seeds.div_ceil(args.jobs);
    let last = args.from.saturating_add(args.seeds);
    let mut children = Vec::new();
    for job in 0..args.jobs {
        let from = args.from.saturating_add(job * each).min(last);
        let seeds = each.min(last - from);
        let child = Command::new(&program)
            .args(["--from", &from.to_string(), "--seeds", &seeds.to_string()])
            .args(args.no_shrink.then_some("--no-shrink"))
            .stdin(Stdio::null())
            .spawn();
        children.push(child.expect("the program that runs can be run"));
    }
    let mut code = ExitCode::SUCCESS;
    for mut child in children {
        if !child.wait().is_ok_and(|status| status.success()) {
            code = ExitCode::FAILURE;
        }
    }
    code
}
