//! One connection that asks at a fixed pace how long an echo takes.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chat_core::driver::{Client, ClientBuilder, ClientEvent, Endpoint};
use chat_core::{CloseReason, Message};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::line::{CONNECT, Line};

/// It asks so often.
const PACE: Duration = Duration::from_millis(50);
/// The longest that an answer may take.
const ANSWER: Duration = Duration::from_mins(1);
/// How many are connected when the server stops.
const LAST: usize = 20;

/// A thread of its own, so that nothing but the server is in its way.
pub struct Prober {
    thread: JoinHandle<Result<(), String>>,
    leave: watch::Sender<bool>,
    latencies: Latencies,
}

/// When each question was due, and how much later its answer was there.
type Latencies = Arc<Mutex<Vec<(Instant, Duration)>>>;

impl Prober {
    /// Begins to ask.
    pub fn start(server: SocketAddr) -> io::Result<Self> {
        let (leave, left) = watch::channel(false);
        let latencies = Latencies::default();
        let found = Arc::clone(&latencies);
        let runtime = runtime()?;
        let thread = thread::spawn(move || runtime.block_on(probe(server, &found, left)));
        Ok(Self {
            thread,
            leave,
            latencies,
        })
    }

    /// What it has measured since this was asked last.
    pub fn take(&self) -> Vec<(Instant, Duration)> {
        let mut latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *latencies)
    }

    /// Waits for the last answers and says goodbye.
    pub fn leave(self) -> Result<(), String> {
        // It may be gone already, and then says why.
        let _ = self.leave.send(true);
        let done = self.thread.join();
        done.unwrap_or_else(|_| Err("the prober panicked".into()))
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

async fn connect(server: SocketAddr) -> Result<Client, String> {
    let line = Line::from(Ipv4Addr::new(127, 2, 0, 1));
    let builder = ClientBuilder::with_runtime(line).connect_timeout(CONNECT);
    let connected = builder.connect(Endpoint::tcp(server.to_string())).await;
    connected.map_err(|error| error.to_string())
}

async fn probe(
    server: SocketAddr,
    found: &Latencies,
    mut left: watch::Receiver<bool>,
) -> Result<(), String> {
    let client = connect(server).await?;
    let mut ticks = interval(PACE);
    // The time counts from when a question was due, not from when there was time for it: whatever
    // holds one up holds up those behind it.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asked = BTreeMap::new();
    let mut number = 0_u64;
    let mut leaving = false;
    while !(leaving && asked.is_empty()) {
        tokio::select! {
            due = ticks.tick(), if !leaving => {
                let sent = client.try_send(Message::text(format!("probe {number}")));
                sent.map_err(|error| error.to_string())?;
                asked.insert(number, due.into_std());
                number += 1;
            }
            event = timeout(ANSWER, client.recv()) => {
                let (number, due) = asked.pop_first().ok_or("an answer without a question")?;
                let message = match event {
                    Ok(Some(ClientEvent::Message(message))) => message,
                    Ok(other) => return Err(format!("{other:?} came for probe {number}")),
                    Err(_) => return Err(format!("probe {number} was not answered")),
                };
                if message.as_text() != Some(&format!("probe {number}")) {
                    return Err(format!("{:?} came for probe {number}", message.as_text()));
                }
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.push((due, due.elapsed()));
            }
            _ = left.wait_for(|left| *left), if !leaving => leaving = true,
        }
    }
    match client.close("done").await {
        CloseReason::Local { .. } => Ok(()),
        reason => Err(format!("no goodbye: {reason}")),
    }
}

/// Those who are connected when a server stops.
pub struct Last {
    runtime: tokio::runtime::Runtime,
    clients: Vec<Client>,
}

impl Last {
    /// Connects them.
    pub fn connect(server: SocketAddr) -> Result<Self, String> {
        let runtime = runtime().map_err(|error| error.to_string())?;
        let mut clients = Vec::new();
        for _ in 0..LAST {
            clients.push(runtime.block_on(connect(server))?);
        }
        Ok(Self { runtime, clients })
    }

    /// Waits until each has been told that the server stops.
    pub fn are_told(self) -> Result<(), String> {
        let Self { runtime, clients } = self;
        for client in clients {
            let event = runtime.block_on(async { timeout(ANSWER, client.recv()).await });
            match event {
                Ok(Some(ClientEvent::Disconnected {
                    reason: CloseReason::Peer { .. },
                    ..
                })) => {}
                other => return Err(format!("{other:?} in place of a goodbye")),
            }
        }
        Ok(())
    }
}
