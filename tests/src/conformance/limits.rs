//! What is bounded, and what happens at the bound.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use chat_core::driver::rt::{Runtime, Sleep};
use chat_core::driver::{ConnectError, Echo, Relay};
use chat_core::frame::FrameKind;
use chat_core::{CloseReason, Config, Message};

use super::raw::Raw;
use super::{Adapter, World, end, message};

/// A timer that was ready for a deadline is ready for it again, and can then be set to a later one.
pub async fn a_timer_is_ready_as_often_as_it_is_asked<A: Adapter>(world: World<A>) {
    let mut sleep = world.runtime.sleep();
    for wait in [0, 5, 0, 20] {
        let deadline = world.runtime.now() + Duration::from_millis(wait);
        for _ in 0..3 {
            poll_fn(|cx| sleep.poll_until(cx, deadline)).await;
            assert!(world.runtime.now() >= deadline);
        }
    }
}

/// Whoever comes when the server is full is told so, and may come again later.
pub async fn one_more_connection_is_told<A: Adapter>(world: World<A>) {
    let server = world.server(Relay).max_connections(2).bind().await.unwrap();
    let one = world.connect(&server).await;
    let two = world.connect(&server).await;
    world
        .until("two sessions", || server.sessions().len() == 2)
        .await;
    let endpoint = server.endpoints()[0].clone();
    let refused = world.client().connect(endpoint.clone()).await;
    let Err(ConnectError::Handshake(CloseReason::Refused { reason })) = refused else {
        panic!("expected to be refused, not {refused:?}");
    };
    assert_eq!(&*reason, "The server is full (limit 2)");
    assert_eq!(server.stats().refused, 1);

    two.close("making room").await;
    world.until("room", || server.sessions().len() == 1).await;
    let three = world.connect(&server).await;
    world
        .until("two sessions", || server.sessions().len() == 2)
        .await;
    one.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&one).await.as_text(), Some("x"));
    assert_eq!(message(&three).await.as_text(), Some("x"));
    server.stop().await;
}

/// A client that does not read is told and closed when its outbox is full.
pub async fn a_slow_consumer_is_told_and_closed<A: Adapter>(world: World<A>) {
    const CAP: usize = 1024 * 1024;
    let server = world.server(Relay).max_outbox(CAP).bind().await.unwrap();
    let mut slow = Raw::connect(&server.endpoints()[0]);
    slow.establish();
    let quick = world.connect(&server).await;
    world
        .until("two sessions", || server.sessions().len() == 2)
        .await;
    let news = Message::binary(vec![9; 50_000]);
    let mut sent = 0;
    while server.stats().slow_consumers == 0 {
        server.broadcast(&news).unwrap();
        sent += 1;
        assert!(sent < 10_000, "the outbox is not bounded");
        assert_eq!(message(&quick).await, news);
    }
    // What was under way, cut short by the goodbye.
    let mut received = 0;
    let goodbye = loop {
        let frame = slow.frame().expect("a goodbye before the end");
        match frame.kind {
            FrameKind::Message => received += 1,
            FrameKind::Disconnect => break frame,
            other => panic!("unexpected {other}"),
        }
    };
    assert!(received < sent);
    assert!(
        goodbye
            .content
            .windows(13)
            .any(|part| part == b"Slow consumer"),
        "{goodbye:?}"
    );
    slow.finish();
    assert!(slow.frame().is_none());
    world
        .until("one session", || server.sessions().len() == 1)
        .await;
    quick.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&quick).await.as_text(), Some("x"));
    server.stop().await;
}

/// Messages reach the others at once while one of them reads nothing.
pub async fn a_stalled_reader_does_not_delay_others<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let mut stalled = Raw::connect(&server.endpoints()[0]);
    stalled.establish();
    let sender = world.connect(&server).await;
    let others = [world.connect(&server).await, world.connect(&server).await];
    world
        .until("four sessions", || server.sessions().len() == 4)
        .await;
    // More than any socket buffer holds, less than the outbox does.
    let start = Instant::now();
    for _ in 0..200 {
        let news = Message::binary(vec![8; 100_000]);
        sender.send(news.clone()).await.unwrap();
        for client in others.iter().chain([&sender]) {
            assert_eq!(message(client).await, news);
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "the others waited"
    );
    assert_eq!(server.sessions().len(), 4, "nobody had to go");
    drop(stalled);
    server.stop().await;
}

/// An application that receives nothing makes its client read nothing: memory stays bounded, and
/// the connection lives.
pub async fn an_unread_client_stops_reading<A: Adapter>(world: World<A>) {
    const SIZE: usize = 50_000;
    let config = Config::default()
        .heartbeat(Some(Duration::from_millis(50)))
        .idle_timeout(Some(Duration::from_millis(400)));
    let server = world.serve(Echo).await;
    let client = world
        .client()
        .max_inbox(2 * SIZE)
        .config(config)
        .connect(server.endpoints()[0].clone())
        .await
        .unwrap();
    let session = world.session(&server).await;
    let mut sent = 0;
    while session.send(Message::binary(vec![6; SIZE])).is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the outbox is not bounded");
    }
    // Longer than the idle timeout: it is this end that does not listen.
    world.pause(Duration::from_secs(1)).await;
    let received = client.stats().messages_received;
    assert!(
        received < sent / 2,
        "{received} of {sent} were read for nobody"
    );
    for _ in 0..sent {
        assert_eq!(message(&client).await.content().len(), SIZE);
    }
    session.close("done");
    assert!(matches!(end(&client).await, CloseReason::Peer { .. }));
    server.stop().await;
}
