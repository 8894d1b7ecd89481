//! How connections end, and begin again.

use std::time::{Duration, Instant};

use chat_core::driver::{ClientEvent, Echo, Endpoint, Relay};
use chat_core::frame::FrameKind;
use chat_core::{Backoff, CloseReason, Config, Key, Message};

use super::raw::Raw;
use super::{Adapter, World, end, message};

fn shutting_down() -> CloseReason {
    CloseReason::Peer {
        reason: "Server shutting down".into(),
    }
}

/// Every client is told why; nothing is left behind.
pub async fn graceful_stop_tells_everybody<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(world.connect(&server).await);
    }
    world
        .until("the sessions", || server.sessions().len() == 20)
        .await;
    let start = Instant::now();
    server.stop().await;
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "the grace was used up"
    );
    for client in clients {
        assert_eq!(end(&client).await, shutting_down());
        assert!(client.recv().await.is_none());
    }
    assert!(server.sessions().is_empty());
    let endpoint = server.endpoints()[0].clone();
    if let Endpoint::Unix(path) = &endpoint {
        assert!(!path.exists());
        assert!(!path.with_extension("sock.lock").exists());
    }
    assert!(world.client().connect(endpoint).await.is_err());
    server.stop().await;
}

/// The goodbye of a server ends its direction only: the client reads the end, and the server waits
/// for the client's.
pub async fn half_close_is_real<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let mut raw = Raw::connect(&server.endpoints()[0]);
    raw.establish();
    let session = world.session(&server).await;
    session.close("enough");
    raw.expect(FrameKind::Disconnect);
    assert_eq!(raw.frame(), None);
    assert_eq!(server.sessions().len(), 1, "the connection is half open");
    // Taken and discarded, so that no reset overtakes the goodbye.
    raw.send(FrameKind::Message, Some(session.id()), b"not yet heard");
    raw.finish();
    world
        .until("no session", || server.sessions().is_empty())
        .await;
    server.stop().await;
}

/// A client that never ends its side is cut off when the grace is over.
pub async fn stop_does_not_wait_for_ever<A: Adapter>(world: World<A>) {
    let grace = Duration::from_millis(300);
    let server = world.server(Relay).grace(grace).bind().await.unwrap();
    let mut stubborn = Raw::connect(&server.endpoints()[0]);
    stubborn.establish();
    world.session(&server).await;
    let start = Instant::now();
    server.stop().await;
    assert!(start.elapsed() >= grace);
    stubborn.expect(FrameKind::Disconnect);
    assert!(stubborn.frame().is_none());
}

/// Nor does a server that is told to end at once, also if it is stopping already; and it leaves no
/// socket.
pub async fn an_abort_waits_for_nobody<A: Adapter>(world: World<A>) {
    for is_stopping in [false, true] {
        let patient = Duration::from_hours(1);
        let server = world.server(Relay).grace(patient).bind().await.unwrap();
        let mut stubborn = Raw::connect(&server.endpoints()[0]);
        stubborn.establish();
        world.session(&server).await;
        if is_stopping {
            let server = server.clone();
            world.runtime_spawn(async move { server.stop().await });
            stubborn.expect(FrameKind::Disconnect);
        }
        server.abort().await;
        assert!(server.sessions().is_empty());
        if let Endpoint::Unix(path) = &server.endpoints()[0] {
            assert!(!path.exists());
        }
    }
}

/// What was queued when the server was told to stop arrives, and the goodbye after it.
pub async fn queued_messages_go_out_before_the_goodbye<A: Adapter>(world: World<A>) {
    const COUNT: u32 = 500;
    let server = world.serve(Relay).await;
    let mut client = Raw::connect(&server.endpoints()[0]);
    client.establish();
    world.session(&server).await;
    for number in 0..COUNT {
        let mut content = vec![0; 9_000];
        content[..4].copy_from_slice(&number.to_be_bytes());
        server.broadcast(&Message::binary(content)).unwrap();
    }
    let stopping = server.clone();
    world.runtime_spawn(async move { stopping.stop().await });
    for number in 0..COUNT {
        let frame = client.expect(FrameKind::Message);
        assert_eq!(frame.content[..4], number.to_be_bytes());
    }
    let goodbye = client.expect(FrameKind::Disconnect);
    assert!(goodbye.content.ends_with(b"\"Server shutting down\"}"));
    assert!(client.frame().is_none());
    client.finish();
    server.stopped().await;
}

/// Clients that send all the time do not delay the stop.
pub async fn stop_is_fast_under_load<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    for _ in 0..4 {
        let client = world.connect(&server).await;
        let sender = client.clone();
        world.runtime_spawn(async move {
            while sender.send(Message::binary(vec![3; 2_000])).await.is_ok() {}
        });
        world.runtime_spawn(async move { while client.recv().await.is_some() {} });
    }
    world
        .until("load", || {
            let sessions = server.sessions();
            let busy = |one: &chat_core::driver::Session| one.stats().messages_received > 50;
            sessions.len() == 4 && sessions.iter().all(busy)
        })
        .await;
    let start = Instant::now();
    server.stop().await;
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "the grace was used up"
    );
}

/// Dropping the last handle of a client ends its session properly, after what it sent.
pub async fn a_client_that_is_dropped_says_goodbye<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = world.connect(&server).await;
    let session = world.session(&server).await;
    for _ in 0..100 {
        client.try_send(Message::text("last words")).unwrap();
    }
    drop(client);
    world
        .until("no session", || server.sessions().is_empty())
        .await;
    assert_eq!(session.stats().messages_received, 100);
    server.stop().await;
}

/// A server that is gone without a word.
pub async fn a_lost_server_is_noticed<A: Adapter>(world: World<A>) {
    let listener = super::raw::RawListener::bind(&world);
    let endpoint = listener.endpoint();
    let server = std::thread::spawn(move || {
        let mut raw = listener.accept();
        raw.offer(SESSION);
    });
    let client = world.client().connect(endpoint).await.unwrap();
    let reason = end(&client).await;
    assert!(
        matches!(
            reason,
            CloseReason::Eof { .. } | CloseReason::Transport { .. }
        ),
        "{reason}"
    );
    assert_eq!(client.closed(), Some(reason));
    server.join().unwrap();
}

const SESSION: chat_core::Uuid = chat_core::Uuid::from_u128(7);

/// What was lost with a connection is reported by the next flush, once.
pub async fn lost_messages_are_reported<A: Adapter>(world: World<A>) {
    let listener = super::raw::RawListener::bind(&world);
    let endpoint = listener.endpoint();
    let (leave, told) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let mut raw = listener.accept();
        raw.offer(SESSION);
        raw.expect(FrameKind::Message);
        told.recv().unwrap();
    });
    let builder = world.client().max_outbox(usize::MAX);
    let client = builder.connect(endpoint).await.unwrap();
    // More than any socket takes.
    for _ in 0..300 {
        client.try_send(Message::binary(vec![4; 100_000])).unwrap();
    }
    leave.send(()).unwrap();
    server.join().unwrap();
    world.until("the end", || client.closed().is_some()).await;
    let lost = client.flush().await.unwrap_err().lost;
    assert!(lost > 0 && lost < 300, "{lost}");
    assert_eq!(client.flush().await, Ok(()));
    assert!(matches!(
        client.recv().await,
        Some(ClientEvent::Disconnected { lost: reported, .. }) if reported == lost
    ));
}

/// An application that receives nothing still learns that the connection is over.
pub async fn the_end_is_known_without_receiving<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let builder = world.client().max_inbox(1);
    let endpoint = server.endpoints()[0].clone();
    let client = builder.connect(endpoint).await.unwrap();
    world.session(&server).await;
    for _ in 0..100 {
        server.broadcast(&Message::text("unread")).unwrap();
    }
    server.stop().await;
    world.until("the end", || client.closed().is_some()).await;
    assert!(client.send(Message::text("too late")).await.is_err());
    for _ in 0..100 {
        assert_eq!(message(&client).await.as_text(), Some("unread"));
    }
    assert_eq!(end(&client).await, shutting_down());
}

fn quickly() -> Backoff {
    Backoff::new(Duration::from_millis(20), Duration::from_millis(100))
}

/// A client that reconnects goes on where a new server listens, with what was queued meanwhile.
pub async fn reconnects_and_goes_on<A: Adapter>(world: World<A>) {
    let first = world.serve(Echo).await;
    let endpoint = first.endpoints()[0].clone();
    let client = world
        .client()
        .reconnect(quickly())
        .connect(endpoint.clone())
        .await
        .unwrap();
    world.session(&first).await;
    first.stop().await;
    let Some(ClientEvent::Disconnected {
        reason,
        retry_in: Some(_),
        ..
    }) = client.recv().await
    else {
        panic!("a connection that is tried again");
    };
    assert_eq!(reason, shutting_down());
    client.send(Message::text("meanwhile")).await.unwrap();

    let builder = chat_core::driver::ServerBuilder::with_runtime(world.runtime.clone(), Echo);
    let second = builder.listen(endpoint).bind().await.unwrap();
    loop {
        match client.recv().await {
            Some(ClientEvent::Connected { .. }) => break,
            // An attempt that came too early.
            Some(ClientEvent::Disconnected {
                retry_in: Some(_), ..
            }) => {}
            other => panic!("expected to be connected again, not {other:?}"),
        }
    }
    assert_eq!(message(&client).await.as_text(), Some("meanwhile"));
    client.close("done").await;
    second.stop().await;
}

/// A client that waits for its next attempt can be closed at once.
pub async fn reconnecting_can_be_closed<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let client = world
        .client()
        .reconnect(Backoff::new(
            Duration::from_hours(1),
            Duration::from_hours(1),
        ))
        .connect(server.endpoints()[0].clone())
        .await
        .unwrap();
    server.stop().await;
    assert!(matches!(
        client.recv().await,
        Some(ClientEvent::Disconnected {
            retry_in: Some(_),
            ..
        })
    ));
    let reason = client.close("enough").await;
    assert!(matches!(reason, CloseReason::Local { .. }), "{reason}");
    assert_eq!(end(&client).await, reason);
}

/// What another attempt cannot mend is not tried again.
pub async fn no_reconnect_after_a_refused_key<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let refused = world
        .client()
        .config(Config::new(Key::new(b"another key")))
        .reconnect(quickly())
        .connect(server.endpoints()[0].clone())
        .await;
    assert!(refused.is_err());
    let accepted = server.stats().accepted;
    world.pause(Duration::from_millis(300)).await;
    assert_eq!(server.stats().accepted, accepted);
    server.stop().await;
}
