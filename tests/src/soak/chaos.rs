//! Clients that come and go, and those that behave badly.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use super::random::Random;
use super::tally::Count;
use super::worker::Crew;

/// How long the server may keep a connection on which nothing is a frame: more than a handshake.
const KEPT: Duration = Duration::from_mins(1);
/// Slow ones count from here on.
pub(super) const SLOW: u64 = 1 << 32;
/// Those that come and go count from here on.
pub(super) const CHURN: u64 = 2 << 32;
/// What somebody sends who does not read: more than the system keeps (2.5 MiB at once for a socket of
/// this machine), and less than the server does.
const UNREAD: usize = 2048;
/// What somebody sends who reads slowly.
const MESSAGES: usize = 512;
/// How large each of these is.
const SIZE: usize = 4 * 1024;
/// How long somebody does not read: until the system keeps no more, and longer than a server waits
/// then, 30 s. A client whose inbox is full does not notice that it is over.
pub(super) const UNHEARD: Duration = Duration::from_mins(1);

/// Lets in the slow ones, who stay slow until all leave.
pub(super) fn begin(crew: &Arc<Crew>, tasks: &mut JoinSet<()>) {
    for number in 0..crew.orders.slow {
        let crew = Arc::clone(crew);
        tasks.spawn(async move {
            let who = SLOW + number * 4;
            let mut random = crew.random(who);
            while !crew.is_left() {
                if number % 2 == 0 {
                    starve(&crew, who).await;
                } else if let Err(error) = sip(&crew, who).await {
                    crew.tally.fail(&format!("slow client {who:x}: {error}"));
                }
                let pause = random.within(Duration::from_secs(2));
                let _ = timeout(pause, crew.left()).await;
            }
        });
    }
}

/// Somebody new, so many times a second, until all leave.
pub(super) async fn churn(crew: &Arc<Crew>, tasks: &mut JoinSet<()>) {
    if crew.orders.churn == 0 {
        return;
    }
    let mut ticks = interval(Duration::from_secs(1) / crew.orders.churn);
    for who in CHURN.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = crew.left() => return,
        }
        tasks.spawn(visit(Arc::clone(crew), who));
        while tasks.try_join_next().is_some() {}
    }
}

async fn visit(crew: Arc<Crew>, who: u64) {
    let mut random = crew.random(who);
    // Not the lowest bits, which say what kind of socket it is.
    let done = match random.below(8) {
        0..4 => talk(&crew, who, &mut random).await,
        4..6 => vanish(&crew, who, &mut random).await,
        6 => keep_silent(&crew, who, &mut random).await,
        _ => send_garbage(&crew, who, &mut random).await,
    };
    if let Err(error) = done {
        crew.tally.fail(&format!("visitor {who:x}: {error}"));
    }
}

/// Comes, talks, hears all of it again, and says goodbye.
async fn talk(crew: &Crew, who: u64, random: &mut Random) -> Result<(), String> {
    let Some(client) = crew.connect(who, crew.line(who), 1024 * 1024).await else {
        return Ok(());
    };
    let mut ledger = crew.ledger(who);
    for _ in 0..=random.below(5) {
        crew.send(&client, ledger.any(random)).await?;
    }
    if random.below(10) == 0 {
        crew.send(&client, ledger.large(random)).await?;
    }
    crew.settle(&client, &mut ledger).await?;
    crew.tally.add(Count::Talked);
    Ok(())
}

/// Comes, says something, and is cut off in the middle of it.
async fn vanish(crew: &Crew, who: u64, random: &mut Random) -> Result<(), String> {
    let line = crew.line(who).abrupt();
    let Some(client) = crew.connect(who, line.clone(), 1024 * 1024).await else {
        return Ok(());
    };
    let mut ledger = crew.ledger(who);
    for _ in 0..random.below(4) {
        // What is lost with the connection does not count.
        let message = match random.below(4) {
            0 => ledger.large(random),
            _ => ledger.any(random),
        };
        let sent = client.send(message).await;
        sent.map_err(|error| error.to_string())?;
    }
    sleep(random.within(Duration::from_millis(50))).await;
    line.cut();
    crew.tally.add(Count::Vanished);
    Ok(())
}

/// Comes and says nothing, for longer than a server listens or not as long.
async fn keep_silent(crew: &Crew, who: u64, random: &mut Random) -> Result<(), String> {
    let mut stream = crew
        .line(who)
        .connect(crew.orders.tcp)
        .await
        .map_err(|error| said(&error))?;
    let time = random.within(Duration::from_secs(14));
    tokio::select! {
        () = drain(&mut stream) => {}
        () = sleep(time) => {}
        () = crew.left() => {}
    }
    crew.tally.add(Count::Silent);
    Ok(())
}

/// Sends what is no frame, and waits for the server to have enough of it.
async fn send_garbage(crew: &Crew, who: u64, random: &mut Random) -> Result<(), String> {
    let mut stream = crew
        .line(who)
        .connect(crew.orders.tcp)
        .await
        .map_err(|error| said(&error))?;
    let size = random.size(1, 4096);
    // A frame begins with its length.
    let begin: &[u8] = match random.below(4) {
        0 => &[0xff; 8],
        1 => &[0; 8],
        2 => b"GET / HTTP/1.1\r\nHost: chat\r\n\r\n",
        _ => b"",
    };
    let bytes = [begin, &random.noise(size)].concat();
    // It may have had enough before all is written.
    let _ = stream.write_all(&bytes).await;
    let ended = async {
        tokio::select! {
            () = drain(&mut stream) => {}
            () = crew.left() => {}
        }
    };
    let ended = timeout(KEPT, ended).await;
    ended.map_err(|_| "garbage is listened to".to_owned())?;
    crew.tally.add(Count::Garbage);
    Ok(())
}

/// Reads to the end of a stream, a reset included.
async fn drain(stream: &mut TcpStream) {
    let mut buffer = vec![0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

fn said(error: &std::io::Error) -> String {
    format!("cannot connect: {error}")
}

/// Sends and does not read, for longer than the server puts up with.
async fn starve(crew: &Crew, who: u64) {
    // An inbox of one byte: one message is in it, the others have to wait.
    let line = crew.line(who).narrow().abrupt();
    let Some(client) = crew.connect(who, line.clone(), 1).await else {
        return;
    };
    let mut ledger = crew.ledger(who);
    let stay = async {
        for _ in 0..UNREAD {
            if client.send(ledger.message(SIZE)).await.is_err() {
                break;
            }
        }
        sleep(UNHEARD).await;
    };
    tokio::select! {
        () = stay => {}
        () = crew.left() => {}
    }
    line.cut();
    crew.tally.add(Count::Starved);
}

/// Sends a lot, and reads it slowly: nothing may be missing.
async fn sip(crew: &Crew, who: u64) -> Result<(), String> {
    let line = crew.line(who).narrow();
    let Some(client) = crew.connect(who, line, 1).await else {
        return Ok(());
    };
    let mut ledger = crew.ledger(who);
    let messages: Vec<_> = (0..MESSAGES).map(|_| ledger.message(SIZE)).collect();
    let sending = async {
        for message in messages {
            crew.send(&client, message).await?;
        }
        Ok(())
    };
    let reading = async {
        for _ in 0..MESSAGES {
            if !crew.is_left() {
                sleep(Duration::from_millis(20)).await;
            }
            let event = client.recv().await;
            crew.enter(&mut ledger, event)?;
        }
        crew.settle(&client, &mut ledger).await
    };
    let (sent, read) = crate::join(sending, reading).await;
    sent.and(read)?;
    crew.tally.add(Count::Sipped);
    Ok(())
}
