//! Messages in pieces and their receivers: relays, slow and old ones, ends in the middle.

use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chat_core::driver::{ClientEvent, Handler, HandlerError, Incoming, Relay, Session};
use chat_core::{Backoff, Config, Message, OpenError, Receive, Transfer, TransferError};

use super::cancel::{let_others_run, once};
use super::streams::{all, incoming, named, reader, sessions, write_until_it_fails};
use super::{Adapter, Kind, World, end, message};
use crate::{join, pattern};

/// A relay passes on what it has before there is more.
pub async fn a_relay_forwards_while_it_arrives<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = reader(&world, &server).await;
    let others = [reader(&world, &server).await, reader(&world, &server).await];
    sessions(&world, &server, 3).await;
    let content = pattern(200_000);
    let mut stream = client.send_stream(named(content.len())).unwrap();
    let mut coming = Vec::new();
    for part in content.chunks(50_000) {
        stream.write(part.to_vec()).await.unwrap();
        if coming.is_empty() {
            coming.push(incoming(&others[0]).await);
            coming.push(incoming(&others[1]).await);
        }
        for one in &mut coming {
            let mut received = Vec::new();
            while received.len() < part.len() {
                received.extend_from_slice(&one.next().await.unwrap().unwrap());
            }
            assert!(received == part);
        }
    }
    assert_eq!(stream.finish().await, Ok(()));
    for mut one in coming {
        assert_eq!(one.next().await, None);
    }
    // What has a name does not come back to its sender; what has none does.
    let text = Message::text("x".repeat(100_000));
    client.send(text.clone()).await.unwrap();
    let back = incoming(&client).await.collect(100_000).await;
    assert_eq!(back, Ok(text));
    server.stop().await;
}

/// A receiver that does not read loses its copy, and nobody else anything.
pub async fn a_slow_receiver_loses_its_own_copy<A: Adapter>(world: World<A>) {
    const LEN: usize = 70_000_000;
    let server = world.serve(Relay).await;
    let client = reader(&world, &server).await;
    let (slow, quick) = (reader(&world, &server).await, reader(&world, &server).await);
    sessions(&world, &server, 3).await;
    let content = pattern(LEN);
    let mut stream = client.send_stream(named(LEN)).unwrap();
    let sent = async {
        stream.copy_from(&content[..]).await.unwrap();
        stream.finish().await
    };
    let received = async { all(incoming(&quick).await).await };
    let (sent, received) = join(sent, received).await;
    let unread = incoming(&slow).await;
    assert_eq!(sent, Ok(()));
    assert!(received == (content.clone(), Ok(())));

    let (part, ended) = all(unread).await;
    assert!(part.len() < LEN);
    let Err(TransferError::Peer { reason }) = ended else {
        panic!("it was too slow: {ended:?}");
    };
    assert_eq!(&*reason, "it arrives faster than you read it");
    // Only the copy.
    client.send(Message::text("still here")).await.unwrap();
    assert_eq!(message(&slow).await.as_text(), Some("still here"));
    server.stop().await;
}

/// Clients that take nothing in pieces get one frame, or hear what they missed.
pub async fn old_clients_get_one_frame_or_a_notice<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = reader(&world, &server).await;
    let endpoint = server.endpoints()[0].clone();
    let old = world.client().config(Config::default().version_1());
    let old = old.connect(endpoint).await.unwrap();
    sessions(&world, &server, 2).await;

    assert_eq!(
        old.send_stream(named(1)).unwrap_err(),
        OpenError::Unsupported
    );
    let content = pattern(1_000_000);
    let mut stream = client.send_stream(named(content.len())).unwrap();
    stream.copy_from(&content[..]).await.unwrap();
    stream.finish().await.unwrap();
    let whole = message(&old).await;
    assert!(whole == Message::new("image/png", content));

    for transfer in [
        named(20_000_000),
        Transfer::new("image/png").name("cat.png"),
    ] {
        let mut stream = client.send_stream(transfer).unwrap();
        let _ = stream.copy_from(&pattern(20_000_000)[..]).await;
        let told = message(&old).await;
        let told = told.as_text().expect("a text");
        assert!(told.contains("a message was left out"), "{told}");
        assert!(told.contains("image/png (cat.png)"), "{told}");
    }
    old.send(Message::text("still here")).await.unwrap();
    assert_eq!(message(&old).await.as_text(), Some("still here"));
    server.stop().await;
}

/// A stop lets go out what is complete, and ends what is not.
pub async fn stopping_ends_streams<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = reader(&world, &server).await;
    let session = world.session(&server).await;
    let content = pattern(1_000_000);
    let whole = session.send_stream(named(content.len())).unwrap();
    let coming = incoming(&client).await;
    let part = session.send_stream(Transfer::new("text/plain")).unwrap();
    let unfinished = incoming(&client).await;
    let sent = async {
        let mut whole = whole;
        whole.copy_from(&content[..]).await.unwrap();
        // Complete, though nobody waits for it.
        let _ = once(whole.finish()).await;
        server.stop().await;
    };
    let ((), received) = join(sent, all(coming)).await;
    assert_eq!((received.0.len(), &received.1), (content.len(), &Ok(())));
    assert!(received == (content.clone(), Ok(())));
    assert!(all(unfinished).await.1.is_err());
    assert!(end(&client).await.to_string().contains("shutting down"));
    assert!(write_until_it_fails(part).await == TransferError::Closed);
    let late = client.send_stream(named(1)).unwrap_err();
    assert!(matches!(late, OpenError::Closed), "{late}");
}

/// Fails on every stream, one way or another.
struct Fails;

impl Handler for Fails {
    type Data = ();

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        session.send(message)?;
        Ok(())
    }

    fn streams(&self) -> bool {
        true
    }

    async fn incoming(&self, _: Session, incoming: Incoming) -> Result<(), HandlerError> {
        match incoming.transfer().file_name() {
            Some("panic") => panic!("as the test wants it"),
            _ => Err("as the test wants it".into()),
        }
    }
}

/// A handler that fails on a stream, or panics, ends its session and no other.
pub async fn a_handler_that_fails_on_a_stream_ends_its_session<A: Adapter>(world: World<A>) {
    let server = world.serve(Fails).await;
    let other = world.connect(&server).await;
    for name in ["error", "panic"] {
        let client = world.connect(&server).await;
        let stream = client.send_stream(named(50_000_000).name(name)).unwrap();
        write_until_it_fails(stream).await;
        assert!(end(&client).await.to_string().contains("Internal error"));
        other.send(Message::text(name)).await.unwrap();
        assert_eq!(message(&other).await.as_text(), Some(name));
    }
    server.stop().await;
}

/// A client whose application takes nothing for a while says that it lives: it is not gone.
pub async fn a_busy_client_is_not_gone<A: Adapter>(world: World<A>) {
    const COUNT: usize = 300;
    let patience = Duration::from_secs(3);
    let config = Config::default()
        .heartbeat(Some(Duration::from_millis(200)))
        .ping_timeout(Some(patience))
        .idle_timeout(Some(patience));
    let server = world.server(Relay).config(config).bind().await.unwrap();
    let endpoint = server.endpoints()[0].clone();
    let client = world.client().max_inbox(1).connect(endpoint).await.unwrap();
    let session = world.session(&server).await;
    // More than the client takes without its application.
    for _ in 0..COUNT {
        session.send(Message::binary(vec![1; 8_000])).unwrap();
    }
    world.pause(patience + Duration::from_secs(1)).await;
    for _ in 0..COUNT {
        message(&client).await;
    }
    client.send(Message::text("still here")).await.unwrap();
    assert_eq!(message(&client).await.as_text(), Some("still here"));
    server.stop().await;
}

/// A client that takes less than any notice about that has is left alone, and harms nobody.
pub async fn a_client_that_takes_next_to_nothing_harms_nobody<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let endpoint = server.endpoints()[0].clone();
    let config = Config::default().max_content(1).chunks(false);
    let tiny = world.client().config(config).connect(endpoint).await;
    let tiny = tiny.unwrap();
    let client = world.connect(&server).await;
    sessions(&world, &server, 2).await;
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(message(&client).await.as_text(), Some("hello"));
    client.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&tiny).await.as_text(), Some("x"));
    server.stop().await;
}

/// Closing does not wait for ever for a peer that takes nothing.
pub async fn closing_does_not_wait_for_an_unread_stream<A: Adapter>(world: World<A>) {
    let server = world.serve(Unread).await;
    let endpoint = server.endpoints()[0].clone();
    let config = Config::default().close_timeout(Duration::from_millis(200));
    let config = config.min_rate(u32::MAX);
    let client = world.client().config(config).connect(endpoint).await;
    let client = client.unwrap();
    // More than fits between the two ends, and complete.
    let mut stream = client.send_stream(Transfer::new("text/plain")).unwrap();
    while once(stream.write(vec![1; 65_536])).await.is_some() {
        let_others_run().await;
    }
    let _ = once(stream.finish()).await;
    client
        .send(Message::binary(pattern(500_000)))
        .await
        .unwrap();
    client
        .send(Message::binary(pattern(500_000)))
        .await
        .unwrap();
    client.close("enough").await;
    assert!(client.flush().await.is_err());
    server.stop().await;
}

/// Keeps every stream, and reads none.
struct Unread;

impl Handler for Unread {
    type Data = Mutex<Vec<Incoming>>;

    async fn message(&self, _: &Session<Self::Data>, _: Message) -> Result<(), HandlerError> {
        Ok(())
    }

    fn streams(&self) -> bool {
        true
    }

    async fn incoming(
        &self,
        session: Session<Self::Data>,
        incoming: Incoming,
    ) -> Result<(), HandlerError> {
        session.data().lock().expect("nobody panics").push(incoming);
        Ok(())
    }
}

/// What a server keeps for a receiver that leaves everything unread is bounded, also if it is many
/// messages that are small.
pub async fn many_unread_streams_are_bounded<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = world.connect(&server).await;
    let unread = reader(&world, &server).await;
    sessions(&world, &server, 2).await;
    // One after the other, a copy is rather found to be too much when it is there, and not before.
    let one_at_a_time = world.kind == Kind::Tcp;
    let sender = client.clone();
    world.runtime_spawn(async move {
        for _ in 0..2_000 {
            let message = Message::binary(vec![1; 10_000]);
            if sender.send(message).await.is_err() {
                return;
            }
            if one_at_a_time && sender.recv().await.is_none() {
                return;
            }
        }
    });
    if !one_at_a_time {
        world.runtime_spawn(async move { while client.recv().await.is_some() {} });
    }
    let mut kept = Vec::new();
    let told = loop {
        match unread.recv().await {
            Some(ClientEvent::Incoming(incoming)) => kept.push(incoming),
            Some(ClientEvent::Message(message)) => break message,
            other => panic!("expected a stream or a notice, not {other:?}"),
        }
    };
    let told = told.as_text().expect("a text");
    assert!(
        told.starts_with("[a message was left out: 10000 bytes"),
        "{told}"
    );
    assert!(kept.len() < 600, "{}", kept.len());
    server.stop().await;
}

/// Says everything at once, and goodbye.
struct Brief;

impl Handler for Brief {
    type Data = ();

    fn connected(&self, session: &Session) {
        let stream = session.send_stream(Transfer::new("text/plain"));
        let mut stream = stream.expect("it is taken");
        assert!(unwoken(stream.write("all of it")).is_some());
        // Complete, though nobody waits for it.
        assert!(unwoken(stream.finish()).is_none());
        session.close("that was all");
    }

    async fn message(&self, _: &Session, _: Message) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// Polls a future once, with nobody to wake.
fn unwoken<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut cx = Context::from_waker(Waker::noop());
    match std::pin::pin!(future).poll(&mut cx) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// What has arrived whole can be read though its connection is over, and another one is tried.
pub async fn a_whole_stream_outlives_its_connection<A: Adapter>(world: World<A>) {
    let server = world.serve(Brief).await;
    let endpoint = server.endpoints()[0].clone();
    let backoff = Backoff::new(Duration::from_mins(1), Duration::from_mins(1));
    let config = Config::default().receive(Receive::Pieces);
    let client = world.client().config(config).reconnect(backoff);
    let client = client.connect(endpoint).await.unwrap();
    // All of it, and the goodbye, is here before anybody asks.
    world
        .until("the end of the session", || server.sessions().is_empty())
        .await;
    let whole = incoming(&client).await.collect(100).await.unwrap();
    assert_eq!(whole.as_text(), Some("all of it"));
    server.stop().await;
}
