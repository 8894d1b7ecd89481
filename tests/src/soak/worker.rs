//! A process full of clients, which may be killed at any time.

use std::io::{self, BufRead};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::exit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chat_core::driver::{Client, ClientBuilder, ClientEvent, Endpoint};
use chat_core::{CloseReason, Config, Message};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, sleep_until};

use super::chaos;
use super::ledger::Ledger;
use super::line::{CONNECT, Line};
use super::random::Random;
use super::room;
use super::tally::{Count, Tally};

/// How long a message may take to come back, on a machine that is busy with thousands.
pub(super) const ANSWER: Duration = Duration::from_mins(1);
/// How many connections a worker makes at the same time: those of all of them must find room in the
/// handshakes of the server.
const AT_ONCE: usize = 48;
/// How many connections come from one address; a server takes 1,024 by default.
const PER_ADDRESS: u64 = 800;
/// How often connecting is tried.
const ATTEMPTS: u32 = 5;

/// What a worker is to do.
#[derive(Clone, Debug, clap::Args)]
pub struct Orders {
    /// Where the server listens.
    #[arg(long)]
    pub tcp: SocketAddr,
    /// Where it listens too.
    #[arg(long)]
    pub unix: PathBuf,
    /// The number of this worker; its addresses and its messages have it in them.
    #[arg(long)]
    pub number: u8,
    /// What its random numbers depend on.
    #[arg(long)]
    pub seed: u64,
    /// How many connections stay, and talk now and then.
    #[arg(long, default_value_t = 0)]
    pub connections: u64,
    /// How often each of them talks, on average: every so many milliseconds.
    #[arg(long, default_value_t = 20_000)]
    pub pause: u64,
    /// How many hear each other, at a server that relays.
    #[arg(long, default_value_t = 0)]
    pub room: u64,
    /// How many connections come and go each second.
    #[arg(long, default_value_t = 0)]
    pub churn: u32,
    /// How many clients do not read, or slowly.
    #[arg(long, default_value_t = 0)]
    pub slow: u64,
    /// It ends after so many seconds, whatever it is told.
    #[arg(long)]
    pub seconds: u64,
    /// This process is ended if whoever started the worker is gone.
    #[arg(long)]
    pub orphan: Option<i32>,
}

/// What the clients of a worker share.
pub(super) struct Crew {
    pub(super) orders: Orders,
    pub(super) tally: Tally,
    /// True when all are to leave.
    leave: watch::Receiver<bool>,
    gate: Semaphore,
}

impl Crew {
    /// Waits until all are to leave.
    pub(super) async fn left(&self) {
        // Whoever is to say so may be gone, and then all leave too.
        let _ = self.leave.clone().wait_for(|leave| *leave).await;
    }

    /// Whether all are to leave.
    pub(super) fn is_left(&self) -> bool {
        *self.leave.borrow()
    }

    /// Randomness of one of them.
    pub(super) fn random(&self, who: u64) -> Random {
        Random::new(self.orders.seed, self.who(who))
    }

    /// The books of one of them.
    pub(super) fn ledger(&self, who: u64) -> Ledger {
        Ledger::new(self.who(who))
    }

    pub(super) fn who(&self, who: u64) -> u64 {
        u64::from(self.orders.number) << 48 | who
    }

    /// A line from an address of the worker.
    pub(super) fn line(&self, who: u64) -> Line {
        let host = u8::try_from(who / PER_ADDRESS % 250).unwrap_or(0);
        Line::from(Ipv4Addr::new(127, 1, self.orders.number, host + 1))
    }

    fn endpoint(&self, who: u64) -> Endpoint {
        if is_unix(who) {
            Endpoint::unix(&self.orders.unix)
        } else {
            Endpoint::tcp(self.orders.tcp.to_string())
        }
    }

    /// Connects a client that is to get through, if need be with more than one attempt.
    pub(super) async fn connect(&self, who: u64, line: Line, inbox: usize) -> Option<Client> {
        let mut attempt = 0;
        loop {
            let permit = self.gate.acquire().await;
            let builder = ClientBuilder::with_runtime(line.clone())
                .config(Config::default().trust_channel(trusts(who)))
                .connect_timeout(CONNECT)
                .max_inbox(inbox);
            let connected = builder.connect(self.endpoint(who)).await;
            drop(permit);
            attempt += 1;
            match connected {
                Ok(client) => {
                    if client.is_channel_trusted() != trusts(who) && client.closed().is_none() {
                        self.tally.fail(&format!("client {who:x}: the channel"));
                    }
                    return Some(client);
                }
                Err(error) if attempt == ATTEMPTS => {
                    self.tally.fail(&format!("client {who:x}: {error}"));
                    return None;
                }
                Err(_) => self.tally.add(Count::Retried),
            }
            sleep(Duration::from_millis(200) * attempt).await;
        }
    }

    /// Sends a message that must come back.
    pub(super) async fn send(&self, client: &Client, message: Message) -> Result<(), String> {
        let sent = client.send(message).await;
        sent.map_err(|error| error.to_string())?;
        self.tally.add(Count::Sent);
        Ok(())
    }

    /// Takes in what came.
    pub(super) fn enter(
        &self,
        ledger: &mut Ledger,
        event: Option<ClientEvent>,
    ) -> Result<(), String> {
        ledger.enter(&Self::message(event)?)?;
        self.tally.add(Count::Back);
        Ok(())
    }

    /// The message that came, if it is one.
    pub(super) fn message(event: Option<ClientEvent>) -> Result<Message, String> {
        match event {
            Some(ClientEvent::Message(message)) => Ok(message),
            Some(ClientEvent::Disconnected { reason, .. }) => Err(reason.to_string()),
            other => Err(format!("{other:?} came")),
        }
    }

    /// Waits until all has come back, and says goodbye.
    pub(super) async fn settle(&self, client: &Client, ledger: &mut Ledger) -> Result<(), String> {
        let by = tokio::time::Instant::now() + ANSWER;
        while !ledger.is_settled() {
            let event = tokio::time::timeout_at(by, client.recv()).await;
            let event = event.map_err(|_| missing(ledger))?;
            self.enter(ledger, event)?;
        }
        Self::part(client).await
    }

    /// Says goodbye.
    pub(super) async fn part(client: &Client) -> Result<(), String> {
        match client.close("done").await {
            CloseReason::Local { .. } => Ok(()),
            reason => Err(format!("no goodbye: {reason}")),
        }
    }
}

/// Every fourth is on the Unix socket.
fn is_unix(who: u64) -> bool {
    who % 4 == 3
}

/// Every second of these trusts it, as the servers do: their frames have no codes (PROTOCOL.md §4.8).
fn trusts(who: u64) -> bool {
    is_unix(who) && who % 8 == 7
}

fn missing(ledger: &Ledger) -> String {
    let number = ledger.overdue(Duration::ZERO).unwrap_or_default();
    format!("message {number} did not come back")
}

/// Runs a worker to its end.
///
/// It tells its tally on standard output, leaves when it reads the line `leave`, and ends at once
/// when its standard input does: nobody is there any more.
pub fn run(orders: Orders) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let (told, leave) = watch::channel(false);
    let orphan = orders.orphan;
    std::thread::spawn(move || {
        let left = io::stdin()
            .lock()
            .lines()
            .any(|line| line.is_ok_and(|line| line == "leave"));
        if left {
            return told.send(true);
        }
        if let Some(orphan) = orphan.and_then(Pid::from_raw) {
            let _ = kill_process(orphan, Signal::KILL);
        }
        exit(1)
    });
    let by = Duration::from_secs(orders.seconds);
    let crew = Arc::new(Crew {
        orders,
        tally: Tally::default(),
        leave,
        gate: Semaphore::new(AT_ONCE),
    });
    let done = runtime.block_on(async {
        tokio::select! {
            () = work(Arc::clone(&crew)) => Ok(()),
            () = sleep(by) => Err(io::Error::other("it was never told to leave")),
            () = tell(&crew.tally) => Ok(()),
        }
    });
    crew.tally.tell();
    runtime.shutdown_background();
    done
}

async fn tell(tally: &Tally) {
    loop {
        tally.tell();
        sleep(Duration::from_millis(500)).await;
    }
}

async fn work(crew: Arc<Crew>) {
    let mut tasks = tokio::task::JoinSet::new();
    for who in 0..crew.orders.connections {
        tasks.spawn(regular(Arc::clone(&crew), who));
    }
    if crew.orders.room > 0 {
        room::open(&crew, &mut tasks).await;
    } else {
        chaos::begin(&crew, &mut tasks);
        chaos::churn(&crew, &mut tasks).await;
    }
    while let Some(done) = tasks.join_next().await {
        if let Err(error) = done {
            crew.tally.fail(&error.to_string());
        }
    }
    // Nobody is to be left, but it is not for those who did not come to say that it is over.
    crew.left().await;
}

/// A connection that stays to the end, and talks now and then.
async fn regular(crew: Arc<Crew>, who: u64) {
    let Some(client) = crew.connect(who, crew.line(who), 1024 * 1024).await else {
        return;
    };
    crew.tally.add(Count::Open);
    if let Err(error) = converse(&crew, who, &client).await {
        crew.tally.fail(&format!("client {who:x}: {error}"));
    }
    crew.tally.remove(Count::Open);
}

async fn converse(crew: &Crew, who: u64, client: &Client) -> Result<(), String> {
    let (mut random, mut ledger) = (crew.random(who), crew.ledger(who));
    let pause = Duration::from_millis(crew.orders.pause) * 2;
    let mut next = Instant::now() + random.within(pause);
    loop {
        tokio::select! {
            event = client.recv() => crew.enter(&mut ledger, event)?,
            () = sleep_until(next.into()) => {
                if let Some(number) = ledger.overdue(ANSWER) {
                    return Err(format!("message {number} did not come back"));
                }
                for _ in 0..=random.below(4) {
                    crew.send(client, ledger.any(&mut random)).await?;
                }
                next = Instant::now() + random.within(pause);
            }
            () = crew.left() => break,
        }
    }
    // Not all at the same moment: some thousands in a second.
    sleep(random.within(Duration::from_millis(crew.orders.connections))).await;
    crew.settle(client, &mut ledger).await
}
