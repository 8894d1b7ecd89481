//! `bench connect`: connections that come and go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chat_core::CloseReason;
use tokio::task::JoinSet;

use super::args::Bench;
use super::meter::Time;
use super::report::{Costs, Report};
use super::run::Run;
use super::{Dialer, GOODBYE, Measured, Server};
use crate::exit::Failure;
use crate::signals::Signals;

/// Whoever failed waits a little; failing is quicker than anything.
const PAUSE: Duration = Duration::from_millis(10);

/// Whoever fails so often in a row gives up.
const ATTEMPTS: u32 = 10;

pub(super) async fn run(
    args: &Bench,
    dialer: &Arc<Dialer>,
    signals: &mut Signals,
) -> Result<Measured, Failure> {
    let first = dialer.dial_all(1, signals).await?;
    let server = Server::find(args);
    let mut report = Report::new(args, first.first(), &server);
    drop(first);
    let run = Run::new(args);
    let failures = Arc::new(Failures::default());
    let mut tasks = JoinSet::new();
    for number in 0..args.connections {
        let (dialer, run) = (Arc::clone(dialer), Arc::clone(&run));
        let failures = Arc::clone(&failures);
        tasks.spawn(async move {
            visit(number, &dialer, &run, &failures).await;
            Ok(())
        });
    }
    let costs = Costs::begin(&server, &run);
    let interrupted = run.supervise(tasks, signals).await?;
    report.cost(costs.end(&server).await);
    report.done("visits", &run);
    let failed = failures.count.load(Ordering::Relaxed);
    report.count("failures", failed);
    report.time("latency", Some(run.meter.sum(Time::Main)));
    report.time("visit", Some(run.meter.sum(Time::Other)));
    let (report, outcome) = report.end(&run, interrupted);
    let first = failures
        .first
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let outcome = match first {
        Some(failure) => {
            Err(failure.after(&format!("{failed} connections failed, the first one with")))
        }
        None => outcome,
    };
    Ok((report, outcome))
}

/// Those that failed, during the warm-up too.
#[derive(Default)]
struct Failures {
    count: AtomicU64,
    first: Mutex<Option<Failure>>,
}

impl Failures {
    fn add(&self, failure: Failure) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
    }
}

/// Comes and goes, again and again.
async fn visit(number: usize, dialer: &Dialer, run: &Run, failures: &Failures) {
    let mut in_a_row = 0;
    while in_a_row < ATTEMPTS {
        let begin = Instant::now();
        if !run.admits(begin) {
            return;
        }
        match once(dialer).await {
            Ok((established, ended)) => {
                in_a_row = 0;
                if run.counts(begin) {
                    run.meter.record(number, Time::Main, begin, established);
                    run.meter.record(number, Time::Other, begin, ended);
                }
            }
            Err(failure) => {
                in_a_row += 1;
                failures.add(failure);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// When the session was established, and when it was over.
async fn once(dialer: &Dialer) -> Result<(Instant, Instant), Failure> {
    let client = dialer
        .dial()
        .await
        .map_err(|error| Failure::connect(&error))?;
    let established = Instant::now();
    match client.close(GOODBYE).await {
        CloseReason::Local { .. } => Ok((established, Instant::now())),
        reason => Err(Failure::closed(&reason)),
    }
}
