//! `bench echo`: messages that come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chat_core::driver::{Client, ClientEvent};
use chat_core::{Message, SendError};
use tokio::task::JoinSet;

use super::args::Bench;
use super::meter::Time;
use super::pace::Pace;
use super::payload::{Expected, Payload};
use super::report::{Costs, Report, UNSENT};
use super::run::Run;
use super::{Dialer, GOODBYE, Measured, Server, check_size};
use crate::exit::Failure;
use crate::signals::Signals;

pub(super) async fn run(
    args: &Bench,
    dialer: &Arc<Dialer>,
    signals: &mut Signals,
) -> Result<Measured, Failure> {
    let clients = dialer.dial_all(args.connections, signals).await?;
    check_size(&clients[0], args.size())?;
    let server = Server::find(args);
    let mut report = Report::new(args, Some(&clients[0]), &server);
    let run = Run::new(args);
    let pace = Pace::new(&run, args.rate, clients.len());
    let unsent = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for (number, client) in clients.into_iter().enumerate() {
        let payload = Payload::new(number, args.size());
        let talk = Talk {
            client,
            number,
            run: Arc::clone(&run),
            pace: Arc::clone(&pace),
            expected: Expected::new(payload.clone(), args.window()),
            payload,
            due: vec![(run.begin, false); args.window()],
            sent: 0,
            waiting: None,
        };
        let unsent = Arc::clone(&unsent);
        tasks.spawn(async move {
            let late = talk.run().await?;
            unsent.fetch_add(late, Ordering::Relaxed);
            Ok(())
        });
    }
    let costs = Costs::begin(&server, &run);
    let interrupted = run.supervise(tasks, signals).await?;
    report.cost(costs.end(&server).await);
    report.done("messages", &run);
    let latency = run.meter.sum(Time::Main);
    let corrected = (!pace.is_open()).then(|| latency.corrected());
    let late = pace.is_open().then(|| run.meter.sum(Time::Other));
    report.time("latency", Some(latency));
    report.time("corrected", corrected);
    report.time("late", late);
    report.count(UNSENT, unsent.load(Ordering::Relaxed));
    Ok(report.end(&run, interrupted))
}

/// One connection.
struct Talk {
    client: Client,
    number: usize,
    run: Arc<Run>,
    pace: Arc<Pace>,
    payload: Payload,
    expected: Expected,
    /// When those of the window were due, and whether they count.
    due: Vec<(Instant, bool)>,
    sent: u64,
    /// It finds no room in the outbox.
    waiting: Option<Message>,
}

impl Talk {
    /// Talks until it is over and all has come back. Returns how many were due and never went out.
    async fn run(mut self) -> Result<u64, Failure> {
        let mut ticks = self.run.ticks();
        let mut at_tick = None;
        loop {
            self.send_all();
            let is_over = self.run.is_over();
            if is_over && !self.is_open() {
                break;
            }
            tokio::select! {
                biased;
                event = self.client.recv() => self.handle(event)?,
                // Dropped before it is ready, it has queued nothing.
                sent = self.client.send(self.waiting.clone().unwrap_or_else(nothing)),
                    if self.waiting.is_some() =>
                {
                    // Why not, an event says.
                    let _ = sent;
                    self.waiting = None;
                }
                () = self.pace.wait(self.number), if self.pace.is_open() && !is_over => {}
                () = self.run.over(), if !is_over && !self.is_open() => {}
                _ = ticks.tick() => {
                    let now = self.is_open().then(|| self.expected.base());
                    if now.is_some() && now == at_tick {
                        return Err(self.run.missing("a message did not come back"));
                    }
                    at_tick = now;
                }
            }
        }
        let due = self.pace.due_until(self.number, self.run.stopped());
        self.client.close(GOODBYE).await;
        Ok(due.saturating_sub(self.sent))
    }

    /// Whether something is on its way.
    fn is_open(&self) -> bool {
        self.expected.base() < self.sent
    }

    /// Sends what is due, as far as there is room.
    fn send_all(&mut self) {
        while self.waiting.is_none() && self.sent - self.expected.base() < self.due.len() as u64 {
            let now = Instant::now();
            let due = self.pace.due(self.number, self.sent, now);
            if due > now || !self.run.admits(now) {
                return;
            }
            let (index, counts) = (self.index(self.sent), self.run.counts(now));
            self.due[index] = (due, counts);
            if self.pace.is_open() && counts {
                self.run.meter.record(self.number, Time::Other, due, now);
            }
            let message = self.payload.message(self.sent);
            self.sent += 1;
            if let Err(SendError::Full(message)) = self.client.try_send(message) {
                self.waiting = Some(message);
            }
        }
    }

    fn handle(&mut self, event: Option<ClientEvent>) -> Result<(), Failure> {
        let Some(ClientEvent::Message(message)) = event else {
            return self.run.handle(event);
        };
        let now = Instant::now();
        let Some(number) = self.expected.take(&message, self.sent) else {
            return Err(Failure::protocol(
                "a message came that is not the one that was sent; does the server run with --echo?",
            ));
        };
        let (due, counts) = self.due[self.index(number)];
        if counts {
            self.run.meter.record(self.number, Time::Main, due, now);
        }
        Ok(())
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number % self.due.len() as u64).unwrap_or(0)
    }
}

/// What is never sent.
fn nothing() -> Message {
    Message::binary("")
}
