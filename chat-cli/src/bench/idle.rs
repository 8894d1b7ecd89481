//! `bench idle`: connections that stay and say nothing.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use chat_core::driver::Client;
use tokio::task::JoinSet;

use super::args::Bench;
use super::report::{Costs, Report};
use super::run::Run;
use super::{Dialer, GOODBYE, Measured, Server};
use crate::exit::Failure;
use crate::signals::Signals;

pub(super) async fn run(
    args: &Bench,
    dialer: &Arc<Dialer>,
    signals: &mut Signals,
) -> Result<Measured, Failure> {
    let server = Server::find(args);
    let clients = dialer.dial_all(args.connections, signals).await?;
    let mut report = Report::new(args, clients.first(), &server);
    let opened = clients.len() as u64;
    let run = Run::new(args);
    let left = Arc::new(Mutex::new(Left::default()));
    let mut tasks = JoinSet::new();
    for client in clients {
        let (run, left) = (Arc::clone(&run), Arc::clone(&left));
        tasks.spawn(async move {
            let lost = tokio::select! {
                Err(lost) = hold(&client, &run) => Some(lost),
                () = run.over() => None,
            };
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            match lost {
                // Nobody leaves before it is known what it costs that all are there.
                None => left.stayed.push(client),
                Some(failure) => _ = left.first_lost.get_or_insert(failure),
            }
            Ok(())
        });
    }
    let costs = Costs::begin(&server, &run);
    let interrupted = run.supervise(tasks, signals).await?;
    report.held(run.begin.elapsed());
    report.cost(costs.end(&server).await);
    let left = std::mem::take(&mut *left.lock().unwrap_or_else(PoisonError::into_inner));
    let stayed = left.stayed.len() as u64;
    report.count("opened", opened);
    report.count("stayed", stayed);
    let goodbyes = left.stayed.into_iter();
    let mut goodbyes: JoinSet<_> = goodbyes
        .map(|client| async move { client.close(GOODBYE).await })
        .collect();
    let goodbyes = async { while goodbyes.join_next().await.is_some() {} };
    tokio::select! {
        () = goodbyes => {}
        () = signals.next() => {}
    }
    let (report, outcome) = report.end(&run, interrupted);
    let outcome = match left.first_lost {
        Some(failure) => {
            let lost = opened - stayed;
            Err(failure.after(&format!("{lost} of {opened} did not stay, the first one")))
        }
        None => outcome,
    };
    Ok((report, outcome))
}

/// What has become of the connections.
#[derive(Default)]
struct Left {
    stayed: Vec<Client>,
    first_lost: Option<Failure>,
}

/// Waits for the end of a connection.
async fn hold(client: &Client, run: &Run) -> Result<Infallible, Failure> {
    loop {
        run.handle(client.recv().await)?;
    }
}
