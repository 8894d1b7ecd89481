//! What all connections of a load share, and how it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chat_tokio::ClientEvent;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Interval, interval_at, sleep_until};

use super::args::Bench;
use super::meter::Meter;
use crate::exit::Failure;
use crate::screen::{note, sanitize_line};
use crate::signals::Signals;
use crate::tasks::joined;

/// How long an interrupted load may wait for what is on its way.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// A year: the end of a time that has none.
const NEVER: Duration = Duration::from_hours(365 * 24);

pub(super) struct Run {
    pub(super) meter: Meter,
    pub(super) begin: Instant,
    /// What goes out before it does not count.
    pub(super) counts_from: Instant,
    until: Instant,
    wait: Duration,
    /// How many more may be sent that count.
    left: Option<AtomicU64>,
    is_over: AtomicBool,
    over: watch::Sender<bool>,
    stopped: OnceLock<Instant>,
    is_throttled: AtomicBool,
}

impl Run {
    /// One that begins now.
    pub(super) fn new(args: &Bench) -> Arc<Self> {
        let begin = Instant::now();
        let counts_from = begin + args.warm_up().min(NEVER);
        Arc::new(Self {
            meter: Meter::new(),
            begin,
            counts_from,
            until: counts_from + args.duration().unwrap_or(NEVER).min(NEVER),
            wait: args.wait,
            left: args.messages.map(AtomicU64::new),
            is_over: AtomicBool::new(false),
            over: watch::Sender::new(false),
            stopped: OnceLock::new(),
            is_throttled: AtomicBool::new(false),
        })
    }

    /// Whether something may still begin now. The last of `--messages` ends the load.
    pub(super) fn admits(&self, now: Instant) -> bool {
        if self.is_over() || now >= self.until {
            return false;
        }
        match &self.left {
            Some(left) if self.counts(now) => {
                let less = |left: u64| left.checked_sub(1);
                let admitted = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                if admitted.is_err() {
                    self.stop();
                }
                admitted.is_ok()
            }
            _ => true,
        }
    }

    /// Whether what begins now counts.
    pub(super) fn counts(&self, now: Instant) -> bool {
        now >= self.counts_from
    }

    /// Nothing new begins.
    pub(super) fn stop(&self) {
        self.stopped.get_or_init(Instant::now);
        self.is_over.store(true, Ordering::SeqCst);
        self.over.send_replace(true);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// When that was, or is.
    pub(super) fn stopped(&self) -> Instant {
        self.stopped.get().copied().unwrap_or_else(Instant::now)
    }

    /// Waits until nothing new begins.
    pub(super) async fn over(&self) {
        // It cannot fail: the sender is here.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Whether the server said that it reads more slowly than was sent.
    pub(super) fn is_throttled(&self) -> bool {
        self.is_throttled.load(Ordering::Relaxed)
    }

    /// How long what counts has taken: up to the last of it.
    pub(super) fn elapsed(&self) -> Duration {
        let last = self.meter.last().unwrap_or(self.counts_from);
        last.saturating_duration_since(self.counts_from)
    }

    /// Ticks that tell when nothing came for too long.
    pub(super) fn ticks(&self) -> Interval {
        interval_at(tokio::time::Instant::now() + self.wait, self.wait)
    }

    /// Nothing came for too long.
    pub(super) fn missing(&self, what: &str) -> Failure {
        let wait = humantime::format_duration(self.wait);
        Failure::timeout(format!("{what} for {wait}"))
    }

    /// What is no message: the server's complaint, or the end.
    pub(super) fn handle(&self, event: Option<ClientEvent>) -> Result<(), Failure> {
        match event {
            Some(ClientEvent::Error(text)) if text.contains("a second: you are read from more") => {
                if !self.is_throttled.swap(true, Ordering::Relaxed) {
                    note(format_args!("the server reports: {}", sanitize_line(&text)));
                    note(
                        "hint: it limits what it takes from each connection; serve --max-rate 0 lifts that, \
                         and --max-bandwidth 0",
                    );
                }
                Ok(())
            }
            Some(ClientEvent::Error(text)) => Err(Failure::protocol(format!(
                "the server reports: {}",
                sanitize_line(&text)
            ))),
            Some(ClientEvent::Disconnected { reason, .. }) => {
                Err(Failure::closed(&reason).after("a connection was lost"))
            }
            Some(ClientEvent::Undelivered { error, .. }) => Err(Failure::protocol(format!(
                "a message did not arrive: {error}"
            ))),
            Some(ClientEvent::Incoming(_)) => {
                Err(Failure::protocol("a stream came that nobody asked for"))
            }
            Some(_) => Ok(()),
            None => Err(Failure::io("a connection was lost")),
        }
    }

    /// Waits for the end of a load, whichever comes first: its time, its tasks, an interrupt, or a failure.
    /// True if it was interrupted.
    pub(super) async fn supervise(
        &self,
        mut tasks: JoinSet<Result<(), Failure>>,
        signals: &mut Signals,
    ) -> Result<bool, Failure> {
        let mut end = self.until;
        let mut interrupted = false;
        let outcome = loop {
            let may_stop = interrupted || !self.is_over();
            tokio::select! {
                done = tasks.join_next() => match done {
                    Some(done) => if let Err(failure) = joined(done) {
                        break Err(failure);
                    },
                    None => break Ok(()),
                },
                () = sleep_until(end.into()), if may_stop => {
                    self.stop();
                    if interrupted {
                        // What is still on its way is left.
                        break Ok(());
                    }
                }
                () = signals.next() => {
                    if interrupted {
                        break Ok(());
                    }
                    interrupted = true;
                    self.stop();
                    end = Instant::now() + LAST_WAIT;
                }
            }
        };
        self.stop();
        outcome.map(|()| interrupted)
    }
}
