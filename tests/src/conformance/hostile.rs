//! Peers that do not keep to the protocol, or do not keep alive.

use std::time::{Duration, Instant};

use chat_core::driver::{Client, ConnectError, Echo, Server};
use chat_core::frame::{FrameError, FrameKind};
use chat_core::{CloseReason, Config, Key, Message, ProtocolError, Timeout, Uuid};

use super::raw::{Raw, RawListener};
use super::{Adapter, World, end, message};

/// Somebody else's connection is not touched.
async fn is_untouched(client: &Client) {
    client.send(Message::text("still here")).await.unwrap();
    assert_eq!(message(client).await.as_text(), Some("still here"));
}

/// A handshake that ended without a session.
async fn no_session<A: Adapter, D>(
    world: &World<A>,
    server: &Server<D>,
    mut raw: Raw,
    before: u64,
) {
    assert_eq!(raw.frame(), None, "an answer to who knows whom");
    world
        .until("only the other session", || server.sessions().len() == 1)
        .await;
    assert_eq!(server.stats().accepted, before + 1);
}

/// Another key is refused on both sides.
pub async fn a_wrong_key_is_refused<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let other = world.connect(&server).await;
    let endpoint = server.endpoints()[0].clone();
    let wrong = CloseReason::Protocol(ProtocolError::Frame(FrameError::Mac));
    for (sec, reason) in [(true, CloseReason::Unproven), (false, wrong)] {
        let config = Config::new(Key::new(b"another key")).sec(sec);
        let refused = world.client().config(config);
        let refused = refused.connect(endpoint.clone()).await;
        let Err(ConnectError::Handshake(found)) = refused else {
            panic!("expected to be refused, not {refused:?}");
        };
        assert_eq!(found, reason);
    }
    is_untouched(&other).await;
    server.stop().await;
}

/// So is whatever is not this protocol.
pub async fn another_protocol_is_refused<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let other = world.connect(&server).await;
    let mut raw = Raw::connect(&server.endpoints()[0]);
    assert_eq!(raw.frame().unwrap().kind, FrameKind::SessionInit);
    raw.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    no_session(&world, &server, raw, 1).await;
    is_untouched(&other).await;
    server.stop().await;
}

fn impatient() -> Config {
    Config::default().handshake_timeout(Duration::from_millis(300))
}

/// Who connects and says nothing is cut off.
pub async fn silence_in_the_handshake_is_bounded<A: Adapter>(world: World<A>) {
    let server = world.server(Echo).config(impatient()).bind().await.unwrap();
    let other = world.connect(&server).await;
    let mut raw = Raw::connect(&server.endpoints()[0]);
    assert_eq!(raw.frame().unwrap().kind, FrameKind::SessionInit);
    no_session(&world, &server, raw, 1).await;
    is_untouched(&other).await;
    server.stop().await;

    // The other way round.
    let listener = RawListener::bind(&world);
    let endpoint = listener.endpoint();
    let silent = std::thread::spawn(move || assert!(listener.accept().frame().is_none()));
    let refused = world.client().config(impatient()).connect(endpoint).await;
    assert!(
        matches!(
            refused,
            Err(ConnectError::Handshake(CloseReason::Timeout(
                Timeout::Handshake
            )))
        ),
        "{refused:?}"
    );
    silent.join().unwrap();
}

/// So is who says it byte by byte: there is one deadline for the whole handshake.
pub async fn a_dribbled_handshake_is_bounded<A: Adapter>(world: World<A>) {
    let server = world.server(Echo).config(impatient()).bind().await.unwrap();
    let other = world.connect(&server).await;
    let mut raw = Raw::connect(&server.endpoints()[0]);
    let session = raw.frame().unwrap().session;
    let ack = raw.encode(FrameKind::SessionAck, session, b"Session acknowledged");
    let start = Instant::now();
    let cut = ack.iter().position(|byte| {
        std::thread::sleep(Duration::from_millis(20));
        raw.write(&[*byte]).is_err()
    });
    assert!(cut.is_some(), "the whole handshake was waited for");
    assert!(start.elapsed() < Duration::from_secs(3));
    is_untouched(&other).await;
    server.stop().await;
}

/// A frame of another session ends the connection, with an explanation.
pub async fn another_session_id_is_refused<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let other = world.connect(&server).await;
    let mut raw = Raw::connect(&server.endpoints()[0]);
    raw.establish();
    raw.send(FrameKind::Message, Some(Uuid::from_u128(1)), b"hello");
    let told = raw.expect(FrameKind::Error);
    assert_eq!(told.content, "message frame of another session");
    raw.expect(FrameKind::Disconnect);
    assert!(raw.frame().is_none());
    drop(raw);
    is_untouched(&other).await;
    server.stop().await;
}

/// An echo and a client of it, with the same settings.
async fn echo_with<A: Adapter>(world: &World<A>, config: Config) -> (Server, Client) {
    let builder = world.server(Echo).config(config.clone());
    let server = builder.bind().await.unwrap();
    let endpoint = server.endpoints()[0].clone();
    let client = world.client().config(config).connect(endpoint).await;
    (server, client.unwrap())
}

/// A client from which nothing comes is asked, told and dropped.
pub async fn a_silent_client_is_dropped<A: Adapter>(world: World<A>) {
    let config = Config::default()
        .heartbeat(Some(Duration::from_millis(200)))
        .idle_timeout(Some(Duration::from_secs(2)));
    let (server, lively) = echo_with(&world, config).await;
    let mut silent = Raw::connect(&server.endpoints()[0]);
    silent.establish();
    let asked = silent.frame().unwrap();
    assert_eq!(
        (asked.kind, &asked.content[..]),
        (FrameKind::Heartbeat, &b"ping"[..])
    );
    silent.expect(FrameKind::Disconnect);
    assert!(silent.frame().is_none());
    drop(silent);
    is_untouched(&lively).await;
    server.stop().await;
}

/// A client whose application only receives lives on: its heartbeats do not depend on it.
pub async fn a_client_that_only_reads_lives<A: Adapter>(world: World<A>) {
    let config = Config::default()
        .heartbeat(Some(Duration::from_millis(50)))
        .idle_timeout(Some(Duration::from_millis(300)));
    let (server, client) = echo_with(&world, config).await;
    // Many intervals, more than one timeout.
    world.pause(Duration::from_secs(1)).await;
    assert_eq!(client.closed(), None);
    server.broadcast(&Message::text("news")).unwrap();
    assert_eq!(message(&client).await.as_text(), Some("news"));
    server.stop().await;
}

/// A client that vanishes is noticed, and told apart from one that says goodbye.
pub async fn an_abrupt_end_is_noticed<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let other = world.connect(&server).await;
    for cut in [0, 1, 63, 64, 100] {
        let mut raw = Raw::connect(&server.endpoints()[0]);
        let session = raw.establish();
        let frame = raw.encode(FrameKind::Message, Some(session), b"hello");
        raw.write(&frame[..cut]).unwrap();
        drop(raw);
        world
            .until("only the other session", || server.sessions().len() == 1)
            .await;
    }
    is_untouched(&other).await;
    server.stop().await;
}

/// A connection that is reset: closed by the client with bytes in it that it did not read.
pub async fn a_reset_is_noticed<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let other = world.connect(&server).await;
    for _ in 0..5 {
        let mut raw = Raw::connect(&server.endpoints()[0]);
        let session = raw.establish();
        raw.send(FrameKind::Message, Some(session), b"an answer, please");
        world
            .until("two sessions", || server.sessions().len() == 2)
            .await;
        let of_raw = server.session(session).expect("its session");
        world
            .until("an answer", || of_raw.stats().messages_sent == 1)
            .await;
        drop(raw);
        world
            .until("only the other session", || server.sessions().len() == 1)
            .await;
    }
    is_untouched(&other).await;
    server.stop().await;
}

/// A client that ends its direction without a goodbye, and goes on reading.
pub async fn a_half_open_client_is_let_go<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let other = world.connect(&server).await;
    let mut raw = Raw::connect(&server.endpoints()[0]);
    raw.establish();
    raw.finish();
    assert_eq!(raw.frame(), None);
    world
        .until("only the other session", || server.sessions().len() == 1)
        .await;
    is_untouched(&other).await;
    server.stop().await;
}

/// A server may answer with an error in place of a session.
pub async fn a_server_that_refuses_is_heard<A: Adapter>(world: World<A>) {
    let listener = RawListener::bind(&world);
    let endpoint = listener.endpoint();
    let server = std::thread::spawn(move || {
        let mut raw = listener.accept();
        raw.send(FrameKind::Error, None, b"not today");
        raw.finish();
        assert!(raw.frame().is_none());
    });
    let refused = world.client().connect(endpoint).await;
    let Err(ConnectError::Handshake(CloseReason::Refused { reason })) = refused else {
        panic!("expected to be refused, not {refused:?}");
    };
    assert_eq!(&*reason, "not today");
    server.join().unwrap();
}

/// A server that closes in the handshake, or right after it with a goodbye.
pub async fn a_server_that_closes_is_noticed<A: Adapter>(world: World<A>) {
    let listener = RawListener::bind(&world);
    let endpoint = listener.endpoint();
    let server = std::thread::spawn(move || {
        drop(listener.accept());
        let mut raw = listener.accept();
        let session = Some(Uuid::from_u128(5));
        raw.offer(Uuid::from_u128(5));
        raw.send(FrameKind::Error, session, b"something went wrong");
        raw.send(
            FrameKind::Disconnect,
            session,
            b"{\"message\": \"Disconnecting\", \"reason\": \"bye\"}",
        );
        raw.finish();
        assert!(raw.frame().is_none());
    });
    let refused = world.client().connect(endpoint.clone()).await;
    assert!(
        matches!(refused, Err(ConnectError::Handshake(_))),
        "{refused:?}"
    );
    let client = world.client().connect(endpoint).await.unwrap();
    assert_eq!(
        client.recv().await,
        Some(chat_core::driver::ClientEvent::Error(
            "something went wrong".into()
        ))
    );
    let reason = end(&client).await;
    assert_eq!(
        reason,
        CloseReason::Peer {
            reason: "bye".into()
        }
    );
    server.join().unwrap();
}
