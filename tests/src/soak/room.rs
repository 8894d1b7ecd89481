//! A room at a server that relays: all hear all, whoever else comes, goes or does not listen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chat_core::driver::{Client, ClientEvent};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, sleep_until, timeout};

use super::chaos::{CHURN, SLOW, UNHEARD};
use super::ledger::Heard;
use super::tally::Count;
use super::worker::{ANSWER, Crew};

/// How often a member speaks, at most twice as seldom.
const PAUSE: Duration = Duration::from_millis(300);
/// The longest message, which goes out in one piece: those in chunks are not for everybody who is slow.
const LONGEST: usize = 7 * 1024;
/// A passer-by stays no longer.
const STAY: Duration = Duration::from_secs(3);

struct Room {
    members: u64,
    /// Messages of all members.
    said: AtomicU64,
    /// Reached by those who say no more.
    silence: Barrier,
}

/// Lets all members in before the first of them speaks, and then the others.
pub(super) async fn open(crew: &Arc<Crew>, tasks: &mut JoinSet<()>) {
    let mut members = Vec::new();
    for who in 0..crew.orders.room {
        if let Some(client) = crew.connect(who, crew.line(who), 1024 * 1024).await {
            members.push((who, client));
        }
    }
    let room = Arc::new(Room {
        members: members.len() as u64,
        said: AtomicU64::new(0),
        silence: Barrier::new(members.len()),
    });
    for (who, client) in members {
        let (crew, room) = (Arc::clone(crew), Arc::clone(&room));
        crew.tally.add(Count::Open);
        tasks.spawn(async move {
            if let Err(error) = member(&crew, &room, who, &client).await {
                crew.tally.fail(&format!("member {who:x}: {error}"));
            }
            crew.tally.remove(Count::Open);
        });
    }
    for number in 0..crew.orders.slow {
        tasks.spawn(deaf(Arc::clone(crew), SLOW + number * 4));
    }
    pass_by(crew, tasks).await;
}

/// Speaks now and then, and hears each word of the others, and its own.
async fn member(crew: &Crew, room: &Room, who: u64, client: &Client) -> Result<(), String> {
    let (mut random, mut heard) = (crew.random(who), Heard::default());
    let mut next = Instant::now() + random.within(PAUSE * 2);
    let mut number = 0;
    loop {
        tokio::select! {
            event = client.recv() => hear(crew, &mut heard, event)?,
            () = sleep_until(next.into()) => {
                let size = random.size(0, LONGEST);
                // Before it can be heard.
                room.said.fetch_add(1, Ordering::SeqCst);
                crew.tally.add_many(Count::Sent, room.members);
                let sent = client.try_send(Heard::message(crew.who(who), number, size));
                sent.map_err(|error| error.to_string())?;
                number += 1;
                next += random.within(PAUSE * 2);
            }
            () = crew.left() => break,
        }
    }
    let silence = timeout(ANSWER, room.silence.wait()).await;
    silence.map_err(|_| "a member is missing".to_owned())?;
    while heard.count() < room.said.load(Ordering::SeqCst) {
        let event = timeout(ANSWER, client.recv()).await;
        let event = event.map_err(|_| format!("nothing came after {}", heard.count()))?;
        hear(crew, &mut heard, event)?;
    }
    Crew::part(client).await
}

fn hear(crew: &Crew, heard: &mut Heard, event: Option<ClientEvent>) -> Result<(), String> {
    heard.enter(&Crew::message(event)?)?;
    crew.tally.add(Count::Back);
    Ok(())
}

/// Comes and does not listen, for longer than the server puts up with; and again.
async fn deaf(crew: Arc<Crew>, who: u64) {
    while !crew.is_left() {
        let line = crew.line(who).narrow().abrupt();
        // One byte of inbox: one message is in it, the others have to wait.
        let Some(_client) = crew.connect(who, line.clone(), 1).await else {
            return;
        };
        tokio::select! {
            () = sleep(UNHEARD) => {}
            () = crew.left() => {}
        }
        line.cut();
        crew.tally.add(Count::Starved);
    }
}

/// Somebody who listens for a while, now and then.
async fn pass_by(crew: &Arc<Crew>, tasks: &mut JoinSet<()>) {
    if crew.orders.churn == 0 {
        return;
    }
    let mut ticks = interval(Duration::from_secs(1) / crew.orders.churn);
    for who in CHURN.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = crew.left() => return,
        }
        let crew = Arc::clone(crew);
        tasks.spawn(async move {
            let line = crew.line(who).abrupt();
            let Some(client) = crew.connect(who, line.clone(), 1024 * 1024).await else {
                return;
            };
            let stay = crew.random(who).within(STAY);
            let _ = timeout(stay, async { while client.recv().await.is_some() {} }).await;
            if who % 3 == 0 {
                line.cut();
                crew.tally.add(Count::Vanished);
            } else if let Err(error) = Crew::part(&client).await {
                crew.tally.fail(&format!("visitor {who:x}: {error}"));
            } else {
                crew.tally.add(Count::Talked);
            }
        });
        while tasks.try_join_next().is_some() {}
    }
}
