//! Peers that take more than their share: places, time, attention.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chat_core::driver::{Client, ClientEvent, ConnectError, Echo};
use chat_core::frame::FrameKind;
use chat_core::{CloseReason, Config, Message, Rate};

use super::raw::Raw;
use super::{Adapter, Kind, World, message};

/// Messages come back.
async fn is_served(client: &Client) {
    client.send(Message::text("still here")).await.unwrap();
    assert_eq!(message(client).await.as_text(), Some("still here"));
}

#[track_caller]
fn is_refused(connected: Result<Client, ConnectError>, expected: &str) {
    let Err(ConnectError::Handshake(CloseReason::Refused { reason })) = connected else {
        panic!("expected to be refused, not {connected:?}");
    };
    assert_eq!(&*reason, expected);
}

/// Whoever connects and says nothing holds a place for as long as a handshake may take, and no place
/// of those who are established.
pub async fn silent_connections_hold_a_bounded_number_of_places<A: Adapter>(world: World<A>) {
    const LIMIT: &str = "Too many connections begin at the same time (limit 3): try again";
    // Time enough for all of this.
    let config = Config::default().handshake_timeout(Duration::from_mins(5));
    let server = world.server(Echo).config(config).max_handshakes(3);
    let server = server.bind().await.unwrap();
    let endpoint = server.endpoints()[0].clone();
    // As many as one likes, one after the other.
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(world.connect(&server).await);
    }
    let mut silent: Vec<Raw> = (0..3).map(|_| Raw::connect(&endpoint)).collect();
    for raw in &mut silent {
        assert_eq!(raw.frame().unwrap().kind, FrameKind::SessionInit);
    }
    is_refused(world.client().connect(endpoint.clone()).await, LIMIT);
    assert_eq!(server.stats().refused_handshakes, 1);
    is_served(&clients[0]).await;

    // One is established, one goes away: two places.
    silent[0].send(FrameKind::Heartbeat, None, b"not what is expected");
    assert_eq!(silent[0].frame(), None);
    drop(silent.remove(1));
    let ended = || server.stats().failed_handshakes == 2;
    world.until("two places", ended).await;
    clients.push(world.connect(&server).await);
    let mut raw = Raw::connect(&endpoint);
    raw.establish();
    world.until("eight", || server.sessions().len() == 8).await;
    clients.push(world.connect(&server).await);
    for client in &clients {
        is_served(client).await;
    }
    let stats = server.stats();
    assert_eq!((stats.refused_handshakes, stats.refused), (1, 0));
    assert_eq!(stats.accepted, 6 + 3 + 1 + 1 + 1);
    drop((raw, silent));
    server.stop().await;
}

/// A silent connection that has had its share of time gives way to one that comes, the oldest first.
pub async fn the_oldest_silent_connection_gives_way<A: Adapter>(world: World<A>) {
    const LIMIT: &str = "Too many connections begin at the same time (limit 2): try again";
    let config = Config::default().handshake_timeout(Duration::from_secs(20));
    let server = world.server(Echo).config(config).max_handshakes(2);
    let server = server.bind().await.unwrap();
    let endpoint = server.endpoints()[0].clone();
    let begin = || {
        let mut raw = Raw::connect(&endpoint);
        assert_eq!(raw.frame().unwrap().kind, FrameKind::SessionInit);
        raw
    };
    let silent = [begin(), begin()];
    // A tenth of what a handshake may take.
    world.pause(Duration::from_millis(2_100)).await;
    let mut later = Vec::new();
    for mut raw in silent {
        later.push(begin());
        assert_eq!(raw.frame(), None);
    }
    // These have had no time yet.
    is_refused(world.client().connect(endpoint.clone()).await, LIMIT);
    assert_eq!(server.stats().refused_handshakes, 3);
    world.pause(Duration::from_millis(2_100)).await;
    let client = world.connect(&server).await;
    assert_eq!(later[0].frame(), None);
    is_served(&client).await;
    drop(later);
    server.stop().await;
}

/// So many from one TCP address; a place is given back by whoever leaves. Unix sockets have none.
pub async fn connections_of_one_address_are_bounded<A: Adapter>(world: World<A>) {
    const LIMIT: &str = "Too many connections from your address (limit 2)";
    let server = world.server(Echo).max_per_address(2).bind().await.unwrap();
    let endpoint = server.endpoints()[0].clone();
    let one = world.connect(&server).await;
    // A place is a place in the handshake too.
    let mut silent = Raw::connect(&endpoint);
    assert_eq!(silent.frame().unwrap().kind, FrameKind::SessionInit);
    if world.kind == Kind::Unix {
        let many = [world.connect(&server).await, world.connect(&server).await];
        for client in &many {
            is_served(client).await;
        }
        assert_eq!(server.stats().refused_addresses, 0);
        return server.stop().await;
    }
    for refused in 1..=3 {
        is_refused(world.client().connect(endpoint.clone()).await, LIMIT);
        assert_eq!(server.stats().refused_addresses, refused);
    }
    drop(silent);
    let ended = || server.stats().failed_handshakes == 1;
    world.until("a place", ended).await;
    let two = connect_again(&world, &endpoint).await;
    is_refused(world.client().connect(endpoint.clone()).await, LIMIT);
    two.close("making room").await;
    world
        .until("a place", || server.sessions().len() == 1)
        .await;
    let two = connect_again(&world, &endpoint).await;
    for client in [&one, &two] {
        is_served(client).await;
    }
    server.stop().await;
}

/// A place is free a moment after the end is known.
async fn connect_again<A: Adapter>(
    world: &World<A>,
    endpoint: &chat_core::driver::Endpoint,
) -> Client {
    let start = Instant::now();
    loop {
        match world.client().connect(endpoint.clone()).await {
            Ok(client) => return client,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(10), "{error}"),
        }
    }
}

/// A handshake that comes byte by byte ends at its deadline; meanwhile others are served.
pub async fn a_dribbled_handshake_delays_nobody<A: Adapter>(world: World<A>) {
    let config = Config::default().handshake_timeout(Duration::from_millis(400));
    let server = world.server(Echo).config(config).bind().await.unwrap();
    let client = world.connect(&server).await;
    let endpoint = server.endpoints()[0].clone();
    let is_cut = Arc::new(AtomicBool::new(false));
    let cut = Arc::clone(&is_cut);
    let dribbler = thread::spawn(move || {
        let mut raw = Raw::connect(&endpoint);
        let session = raw.frame().unwrap().session;
        let ack = raw.encode(FrameKind::SessionAck, session, b"Session acknowledged");
        let start = Instant::now();
        let at = ack.iter().position(|byte| {
            thread::sleep(Duration::from_millis(10));
            raw.write(&[*byte]).is_err()
        });
        cut.store(true, Ordering::SeqCst);
        (at, ack.len(), start.elapsed())
    });
    let mut count = 0;
    while !is_cut.load(Ordering::SeqCst) {
        is_served(&client).await;
        count += 1;
    }
    let (at, len, took) = dribbler.join().unwrap();
    assert!(at.is_some(), "all {len} bytes were waited for");
    assert!(took >= Duration::from_millis(390), "{took:?}");
    assert!(count > 10, "{count} messages in {took:?}");
    let stats = server.stats();
    assert_eq!((stats.failed_handshakes, stats.accepted), (1, 2));
    is_served(&client).await;
    server.stop().await;
}

/// Hundreds that do not go on with their handshakes do not keep a session from its messages.
pub async fn half_open_connections_delay_nobody<A: Adapter>(world: World<A>) {
    const FLOOD: u64 = 300;
    let config = Config::default().handshake_timeout(Duration::from_secs(1));
    let server = world.server(Echo).config(config).max_handshakes(200);
    let server = server.bind().await.unwrap();
    let client = world.connect(&server).await;
    let endpoint = server.endpoints()[0].clone();
    let flood = thread::spawn(move || -> Vec<Raw> {
        (0..FLOOD).map(|_| Raw::connect(&endpoint)).collect()
    });
    let mut count = 0;
    while !flood.is_finished() || count < 200 {
        is_served(&client).await;
        count += 1;
    }
    let flood = flood.join().unwrap();
    // They are let go in time, and those that come then are served.
    let ended = || {
        let stats = server.stats();
        let all_came = stats.accepted - 1 + stats.refused_handshakes >= FLOOD;
        all_came && stats.failed_handshakes == stats.accepted - 1
    };
    world.until("the end of the flood", ended).await;
    let late = world.connect(&server).await;
    is_served(&late).await;
    is_served(&client).await;
    assert_eq!(server.sessions().len(), 2);
    drop(flood);
    server.stop().await;
}

/// Nothing is lost of what comes too fast: it comes back later, and the client is told once.
pub async fn a_client_over_its_rate_gets_everything<A: Adapter>(world: World<A>) {
    const COUNT: u32 = 120;
    let rate = Rate::per_second(200).burst(20);
    let config = Config::default().message_rate(Some(rate));
    let server = world.server(Echo).config(config).bind().await.unwrap();
    let quiet = world.connect(&server).await;
    let client = world.connect(&server).await;
    let start = Instant::now();
    for number in 0..COUNT {
        client
            .send(Message::text(number.to_string()))
            .await
            .unwrap();
    }
    let (mut number, mut told) = (0, Vec::new());
    while number < COUNT {
        match client.recv().await {
            Some(ClientEvent::Message(message)) => {
                assert_eq!(message.as_text(), Some(&*number.to_string()));
                number += 1;
            }
            Some(ClientEvent::Error(text)) => told.push(text),
            other => panic!("unexpected: {other:?}"),
        }
    }
    // All but the burst and one, at the rate.
    let least = Duration::from_millis(5) * (COUNT - 21);
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
    let text = "You send more than 200 messages a second: you are read from more slowly";
    assert_eq!(told, [text]);
    assert_eq!(server.stats().throttled, 0, "it counts at its end");
    client.close("done").await;
    quiet.close("done").await;
    world
        .until("the ends", || server.sessions().is_empty())
        .await;
    let stats = server.stats();
    assert_eq!((stats.throttled, stats.too_many_errors), (1, 0));
    server.stop().await;
}

/// A client that complains without an end is told and cut off; others are not touched.
pub async fn too_many_errors_end_a_session_only<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let other = world.connect(&server).await;
    let mut raw = Raw::connect(&server.endpoints()[0]);
    let session = raw.establish();
    for _ in 0..33 {
        raw.send(FrameKind::Error, Some(session), b"I do not like this");
    }
    assert_eq!(raw.expect(FrameKind::Error).content, "too many errors");
    raw.expect(FrameKind::Disconnect);
    assert_eq!(raw.frame(), None);
    drop(raw);
    world
        .until("the other", || server.sessions().len() == 1)
        .await;
    let stats = server.stats();
    assert_eq!((stats.too_many_errors, stats.failed_handshakes), (1, 0));
    is_served(&other).await;
    server.stop().await;
}
