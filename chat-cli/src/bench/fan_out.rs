//! `bench fan-out`: messages of one for all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chat_core::driver::{Client, ClientEvent};
use chat_core::{Message, SendError};
use tokio::sync::{Notify, watch};
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
    // The last of them is the sender. It hears itself, too.
    let mut clients = dialer.dial_all(args.connections + 1, signals).await?;
    check_size(&clients[0], args.size())?;
    let server = Server::find(args);
    let mut report = Report::new(args, Some(&clients[0]), &server);
    let run = Run::new(args);
    let slot = || Slot {
        due: AtomicU64::new(0),
        counts: AtomicBool::new(false),
        missing: AtomicUsize::new(0),
    };
    let room = Arc::new(Room {
        run: Arc::clone(&run),
        hearers: clients.len(),
        slots: (0..args.window()).map(|_| slot()).collect(),
        sent: AtomicU64::new(0),
        heard: Notify::new(),
        total: watch::Sender::new(None),
        unsent: AtomicU64::new(0),
    });
    let payload = Payload::new(0, args.size());
    let mut tasks = JoinSet::new();
    let hear = |number, client| Hear {
        client,
        number,
        room: Arc::clone(&room),
        expected: Expected::new(payload.clone(), args.window()),
    };
    let sender = Speak {
        pace: Pace::new(&run, args.rate, 1),
        hear: clients
            .pop()
            .map(|client| hear(SENDER, client))
            .expect("at least the sender"),
        payload: payload.clone(),
        sent: 0,
        waiting: None,
    };
    tasks.spawn(sender.run());
    for (number, client) in clients.into_iter().enumerate() {
        tasks.spawn(hear(number, client).run());
    }
    let costs = Costs::begin(&server, &run);
    let interrupted = run.supervise(tasks, signals).await?;
    report.cost(costs.end(&server).await);
    report.done("deliveries", &run);
    report.time("latency", Some(run.meter.sum(Time::Main)));
    let is_open = args.rate.is_some();
    report.time("late", is_open.then(|| run.meter.sum(Time::Other)));
    report.count(UNSENT, room.unsent.load(Ordering::Relaxed));
    Ok(report.end(&run, interrupted))
}

/// The number of the sender, whose own copies do not count.
const SENDER: usize = usize::MAX;

/// What those who hear and the one who speaks share.
struct Room {
    run: Arc<Run>,
    hearers: usize,
    /// Of the messages on their way, by their number modulo the window.
    slots: Vec<Slot>,
    sent: AtomicU64,
    /// A slot is free.
    heard: Notify,
    /// How many there were, when there are no more.
    total: watch::Sender<Option<u64>>,
    unsent: AtomicU64,
}

/// A message on its way.
struct Slot {
    /// When it was due, in nanoseconds after the beginning.
    due: AtomicU64,
    counts: AtomicBool,
    /// How many have not heard it.
    missing: AtomicUsize,
}

impl Room {
    fn slot(&self, number: u64) -> &Slot {
        &self.slots[usize::try_from(number % self.slots.len() as u64).unwrap_or(0)]
    }

    /// Whether the message with this number may go out.
    fn has_room(&self, number: u64) -> bool {
        self.slot(number).missing.load(Ordering::Acquire) == 0
    }

    /// The message with this number goes out.
    fn begin(&self, number: u64, due: Instant, counts: bool) {
        let slot = self.slot(number);
        let nanos = due.saturating_duration_since(self.run.begin).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        slot.due.store(nanos, Ordering::Relaxed);
        slot.counts.store(counts, Ordering::Relaxed);
        slot.missing.store(self.hearers, Ordering::Release);
        self.sent.store(number + 1, Ordering::Release);
    }

    /// Somebody has heard the message with this number: when it was due, and whether it counts.
    fn end(&self, number: u64) -> (Instant, bool) {
        let slot = self.slot(number);
        let due = self.run.begin + Duration::from_nanos(slot.due.load(Ordering::Relaxed));
        let counts = slot.counts.load(Ordering::Relaxed);
        if slot.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.heard.notify_one();
        }
        (due, counts)
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }
}

/// One who hears.
struct Hear {
    client: Client,
    number: usize,
    room: Arc<Room>,
    expected: Expected,
}

impl Hear {
    async fn run(mut self) -> Result<(), Failure> {
        let mut ticks = self.room.run.ticks();
        let mut total = self.room.total.subscribe();
        let mut at_tick = None;
        while total
            .borrow_and_update()
            .is_none_or(|total| self.expected.base() < total)
        {
            tokio::select! {
                biased;
                event = self.client.recv() => self.handle(event)?,
                _ = total.changed() => {}
                _ = ticks.tick() => self.check(&mut at_tick)?,
            }
        }
        self.client.close(GOODBYE).await;
        Ok(())
    }

    /// Whether anything came since the last tick, if something was on its way.
    fn check(&self, at_tick: &mut Option<u64>) -> Result<(), Failure> {
        let base = self.expected.base();
        let now = (base < self.room.sent()).then_some(base);
        if now.is_some() && now == *at_tick {
            return Err(self.room.run.missing(if base == 0 {
                "does the server run with --echo? Nothing came to a receiver"
            } else {
                "a message did not come to a receiver"
            }));
        }
        *at_tick = now;
        Ok(())
    }

    fn handle(&mut self, event: Option<ClientEvent>) -> Result<(), Failure> {
        let Some(ClientEvent::Message(message)) = event else {
            return self.room.run.handle(event);
        };
        let now = Instant::now();
        let Some(number) = self.expected.take(&message, self.room.sent()) else {
            return Err(Failure::protocol(
                "a message came that is none of those that were sent; is somebody else there?",
            ));
        };
        let (due, counts) = self.room.end(number);
        if counts && self.number != SENDER {
            let meter = &self.room.run.meter;
            meter.record(self.number, Time::Main, due, now);
        }
        Ok(())
    }
}

/// The one who speaks.
struct Speak {
    hear: Hear,
    pace: Arc<Pace>,
    payload: Payload,
    sent: u64,
    /// It finds no room in the outbox.
    waiting: Option<Message>,
}

impl Speak {
    async fn run(mut self) -> Result<(), Failure> {
        let room = Arc::clone(&self.hear.room);
        let mut ticks = room.run.ticks();
        let mut at_tick = None;
        loop {
            self.send_all();
            if room.run.is_over() && self.waiting.is_none() {
                break;
            }
            tokio::select! {
                biased;
                event = self.hear.client.recv() => self.hear.handle(event)?,
                sent = self.hear.client.send(self.waiting.clone().unwrap_or_else(nothing)),
                    if self.waiting.is_some() =>
                {
                    // Why not, an event says.
                    let _ = sent;
                    self.waiting = None;
                }
                () = room.heard.notified() => {}
                () = self.pace.wait(0), if self.pace.is_open() => {}
                () = room.run.over(), if !room.run.is_over() => {}
                _ = ticks.tick() => self.hear.check(&mut at_tick)?,
            }
        }
        let due = self.pace.due_until(0, room.run.stopped());
        room.unsent
            .store(due.saturating_sub(self.sent), Ordering::Relaxed);
        room.total.send_replace(Some(self.sent));
        self.hear.run().await
    }

    /// Sends what is due, as far as there is room.
    fn send_all(&mut self) {
        let room = &self.hear.room;
        while self.waiting.is_none() && room.has_room(self.sent) {
            let now = Instant::now();
            let due = self.pace.due(0, self.sent, now);
            if due > now || !room.run.admits(now) {
                return;
            }
            let counts = room.run.counts(now);
            if self.pace.is_open() && counts {
                room.run.meter.record(0, Time::Other, due, now);
            }
            room.begin(self.sent, due, counts);
            let message = self.payload.message(self.sent);
            self.sent += 1;
            if let Err(SendError::Full(message)) = self.hear.client.try_send(message) {
                self.waiting = Some(message);
            }
        }
    }
}

/// What is never sent.
fn nothing() -> Message {
    Message::binary("")
}
