//! Messages in pieces: sent from whatever is read, received as they come, forwarded to everybody.

use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chat_core::driver::{
    Client, ClientEvent, Echo, Handler, HandlerError, Incoming, Relay, SendStream, Server, Session,
};
use chat_core::{
    Backoff, Config, ContentType, Message, OpenError, Receive, SendError, Transfer, TransferError,
};

use super::cancel::{let_others_run, once};
use super::{Adapter, World, end, message};
use crate::{join, pattern};

fn named(len: usize) -> Transfer {
    Transfer::new("image/png").total(len as u64).name("cat.png")
}

async fn reader<A: Adapter, D>(world: &World<A>, server: &Server<D>) -> Client {
    let config = Config::default().receive(Receive::Pieces);
    let endpoint = server.endpoints()[0].clone();
    let client = world.client().config(config).connect(endpoint).await;
    client.expect("it connects")
}

async fn sessions<A: Adapter, D>(world: &World<A>, server: &Server<D>, count: usize) {
    let there = || server.sessions().len() == count;
    world.until("the sessions", there).await;
}

async fn incoming(client: &Client) -> Incoming {
    match client.recv().await {
        Some(ClientEvent::Incoming(incoming)) => incoming,
        other => panic!("expected a stream, not {other:?}"),
    }
}

/// Everything that comes, and how that ended.
async fn all(mut incoming: Incoming) -> (Vec<u8>, Result<(), TransferError>) {
    let mut content = Vec::new();
    while let Some(piece) = incoming.next().await {
        match piece {
            Ok(piece) => content.extend_from_slice(&piece),
            Err(error) => {
                assert_eq!(incoming.next().await, None, "something follows an error");
                return (content, Err(error));
            }
        }
    }
    assert_eq!(incoming.received(), content.len() as u64);
    (content, Ok(()))
}

/// Streams every message back.
struct Reflect;

impl Handler for Reflect {
    type Data = ();

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        // Waiting here for the client holds up neither heartbeats nor the stream itself.
        let transfer = Transfer::new(message.content_type().clone());
        let mut stream = session.send_stream(transfer)?;
        stream.write(message.into_content()).await?;
        stream.finish().await?;
        Ok(())
    }

    fn streams(&self) -> bool {
        true
    }

    async fn incoming(&self, session: Session, mut incoming: Incoming) -> Result<(), HandlerError> {
        let mut stream = session.send_stream(incoming.transfer().clone())?;
        while let Some(piece) = incoming.next().await {
            stream.write(piece?).await?;
        }
        stream.finish().await?;
        Ok(())
    }
}

/// Content of every size arrives as it was, with what is said about it.
pub async fn streams_arrive_whole<A: Adapter>(world: World<A>) {
    let server = world.serve(Reflect).await;
    let client = reader(&world, &server).await;
    for len in [0, 1, 65_535, 65_536, 65_537, 1_000_000] {
        let content = pattern(len);
        for transfer in [named(len), Transfer::new("text/plain").name("of any size")] {
            let mut stream = client.send_stream(transfer.clone()).unwrap();
            let received = async {
                let incoming = incoming(&client).await;
                assert_eq!(incoming.transfer(), &transfer);
                all(incoming).await
            };
            let finished = async {
                assert_eq!(stream.copy_from(&content[..]).await.unwrap(), len as u64);
                assert_eq!(stream.written(), len as u64);
                stream.finish().await
            };
            let (finished, received) = join(finished, received).await;
            assert_eq!(finished, Ok(()));
            assert!(received == (content.clone(), Ok(())), "{len} bytes");
        }
    }
    server.stop().await;
}

/// Messages larger than any frame go out in chunks, and are put together again.
pub async fn large_messages_come_back_whole<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    for len in [8 * 1024 + 1, 1_000_000, 20 * 1024 * 1024] {
        let sent = Message::binary(pattern(len));
        client.send(sent.clone()).await.unwrap();
        assert!(message(&client).await == sent, "{len} bytes");
    }
    assert_eq!(client.flush().await, Ok(()));
    server.stop().await;
}

/// More messages than may be under way at a time take their turns.
pub async fn many_large_messages_take_turns<A: Adapter>(world: World<A>) {
    const COUNT: u8 = 150;
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    let sender = client.clone();
    world.runtime_spawn(async move {
        for number in 0..COUNT {
            let content = vec![number; 20_000 + 100 * usize::from(number)];
            sender.send(Message::binary(content)).await.unwrap();
        }
    });
    let mut came = Vec::new();
    for _ in 0..COUNT {
        let content = message(&client).await.into_content();
        let number = content[0];
        assert_eq!(content.len(), 20_000 + 100 * usize::from(number));
        assert!(content.iter().all(|byte| *byte == number));
        came.push(number);
    }
    came.sort_unstable();
    assert!(came.into_iter().eq(0..COUNT));
    server.stop().await;
}

/// A small message does not wait for a large one that was sent before.
pub async fn small_messages_overtake_large_ones<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    let large = Message::binary(pattern(30 * 1024 * 1024));
    client.send(large.clone()).await.unwrap();
    client.send(Message::text("small")).await.unwrap();
    assert_eq!(message(&client).await.as_text(), Some("small"));
    assert!(message(&client).await == large);
    server.stop().await;
}

/// A stream that is dropped is given up, by either side, and the connection lives on.
pub async fn a_dropped_stream_is_given_up<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let (client, other) = (reader(&world, &server).await, reader(&world, &server).await);
    sessions(&world, &server, 2).await;

    let mut stream = client.send_stream(named(100_000)).unwrap();
    stream.write(pattern(70_000)).await.unwrap();
    let mut coming = incoming(&other).await;
    assert!(matches!(coming.next().await, Some(Ok(_))));
    drop(stream);
    let (content, ended) = all(coming).await;
    assert!(content.len() < 70_000);
    let Err(TransferError::Peer { reason }) = ended else {
        panic!("it was given up: {ended:?}");
    };
    assert!(reason.contains("cancelled by its sender"), "{reason}");

    let mut stream = client.send_stream(named(50_000_000)).unwrap();
    stream.write(pattern(1)).await.unwrap();
    drop(incoming(&other).await);
    let given_up = write_until_it_fails(stream).await;
    let TransferError::Peer { reason } = given_up else {
        panic!("nobody was left to take it: {given_up}");
    };
    assert_eq!(&*reason, "nobody is there to take it");

    client.send(Message::text("still here")).await.unwrap();
    assert_eq!(message(&other).await.as_text(), Some("still here"));
    server.stop().await;
}

async fn write_until_it_fails(mut stream: SendStream) -> TransferError {
    loop {
        if let Err(error) = stream.write(vec![7; 65_536]).await {
            return error;
        }
        assert!(stream.written() < 50_000_000, "nothing stops it");
    }
}

/// Whoever does not take the pieces of a message makes its sender wait, and nothing else.
pub async fn an_unread_stream_waits_alone<A: Adapter>(world: World<A>) {
    const LEN: usize = 3_000_000;
    let server = world.serve(Relay).await;
    let (client, other) = (reader(&world, &server).await, reader(&world, &server).await);
    sessions(&world, &server, 2).await;
    let content = pattern(LEN);
    let mut stream = client.send_stream(named(LEN)).unwrap();
    let mut sent = Box::pin(async {
        stream.copy_from(&content[..]).await.unwrap();
        stream.finish().await
    });
    assert!(once(sent.as_mut()).await.is_none());
    let coming = incoming(&other).await;

    // What fits between the two ends, and no more.
    for _ in 0..200 {
        assert!(once(sent.as_mut()).await.is_none(), "nothing holds it up");
        world.pause(Duration::from_millis(1)).await;
    }
    client.send(Message::text("meanwhile")).await.unwrap();
    assert_eq!(message(&other).await.as_text(), Some("meanwhile"));
    assert_eq!(message(&client).await.as_text(), Some("meanwhile"));

    let (sent, received) = join(sent, all(coming)).await;
    assert_eq!(sent, Ok(()));
    assert!(received == (content.clone(), Ok(())));
    server.stop().await;
}

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
    const LEN: usize = 40_000_000;
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

/// What the other end takes is known before anything is sent.
pub async fn limits_are_known_before_sending<A: Adapter>(world: World<A>) {
    let config = Config::default().max_message(100_000);
    let server = world.server(Echo).config(config).bind().await.unwrap();
    let client = world.connect(&server).await;
    assert_eq!(client.max_message(), 100_000);
    assert_eq!(client.max_stream(), Some(100_000));
    let large = Message::binary(vec![1; 100_001]);
    assert!(matches!(
        client.try_send(large),
        Err(SendError::TooLarge(_))
    ));
    assert_eq!(
        client.send_stream(named(100_001)).unwrap_err(),
        OpenError::TooLarge { max: 100_000 }
    );
    let odd = Transfer::new(ContentType::from(""));
    assert_eq!(client.send_stream(odd).unwrap_err(), OpenError::ContentType);
    let fits = Message::binary(vec![1; 100_000]);
    client.send(fits.clone()).await.unwrap();
    assert_eq!(message(&client).await, fits);

    // More, or less, than was said.
    let mut stream = client.send_stream(named(10)).unwrap();
    assert_eq!(stream.write(vec![0; 11]).await, Err(TransferError::Size));
    stream.write(vec![0; 9]).await.unwrap();
    assert_eq!(stream.finish().await, Err(TransferError::Size));
    server.stop().await;
}

/// Adding bytes and taking them can be dropped at every poll.
pub async fn streaming_can_be_dropped<A: Adapter>(world: World<A>) {
    const LEN: usize = 2_000_000;
    let server = world.serve(Reflect).await;
    let client = reader(&world, &server).await;
    let content = pattern(LEN);
    let mut stream = client.send_stream(named(LEN)).unwrap();
    let mut coming = None;
    let (mut received, mut dropped) = (Vec::new(), 0);
    let mut parts = content.chunks(10_000).peekable();
    while received.len() < LEN {
        if let Some(part) = parts.peek()
            && let Some(done) = once(stream.write(part.to_vec())).await
        {
            done.unwrap();
            parts.next();
        }
        match &mut coming {
            None => {
                if let Some(Some(ClientEvent::Incoming(incoming))) = once(client.recv()).await {
                    coming = Some(incoming);
                }
            }
            Some(coming) => match once(coming.next()).await {
                Some(piece) => received.extend_from_slice(&piece.unwrap().unwrap()),
                None => dropped += 1,
            },
        }
        let_others_run().await;
    }
    assert!(dropped > 0, "no future was dropped");
    assert!(received == content);
    // Its fate is not asked for; it is complete all the same.
    let _ = once(stream.finish()).await;
    let mut coming = coming.expect("it came");
    assert_eq!(coming.next().await, None);
    server.stop().await;
}

/// A handler can send a stream and wait for it, while its session has other messages.
pub async fn a_handler_can_wait_for_its_stream<A: Adapter>(world: World<A>) {
    let server = world.serve(Reflect).await;
    let client = reader(&world, &server).await;
    for text in ["one", "two", "three"] {
        client.send(Message::text(text)).await.unwrap();
    }
    for text in ["one", "two", "three"] {
        let back = incoming(&client).await.collect(100).await.unwrap();
        assert_eq!(back.as_text(), Some(text));
    }
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

/// A message in chunks goes out while a stream is under way that its receiver does not take.
pub async fn large_messages_do_not_wait_for_streams<A: Adapter>(world: World<A>) {
    let server = world.serve(Reflect).await;
    let client = reader(&world, &server).await;
    let session = world.session(&server).await;
    let stuck = session.send_stream(named(50_000_000)).unwrap();
    let unread = incoming(&client).await;
    let mut stuck = stuck;
    while once(stuck.write(vec![1; 65_536])).await.is_some() {
        let_others_run().await;
    }
    let large = Message::binary(pattern(200_000));
    session.send(large.clone()).unwrap();
    let came = incoming(&client).await.collect(200_000).await;
    assert!(came == Ok(large));
    drop((stuck, unread));
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
    let sender = client.clone();
    world.runtime_spawn(async move {
        for _ in 0..2_000 {
            let message = Message::binary(vec![1; 10_000]);
            if sender.send(message).await.is_err() {
                return;
            }
        }
    });
    world.runtime_spawn(async move { while client.recv().await.is_some() {} });
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
