//! Messages in pieces: sent from whatever is read, received as they come, forwarded to everybody.

use std::time::Duration;

use chat_core::driver::{
    Client, ClientEvent, Echo, Handler, HandlerError, Incoming, Relay, SendStream, Server, Session,
};
use chat_core::{
    Config, ContentType, Message, OpenError, Receive, SendError, Transfer, TransferError,
};

use super::cancel::{let_others_run, once};
use super::{Adapter, World, message};
use crate::{join, pattern};

pub(super) fn named(len: usize) -> Transfer {
    Transfer::new("image/png").total(len as u64).name("cat.png")
}

pub(super) async fn reader<A: Adapter, D>(world: &World<A>, server: &Server<D>) -> Client {
    let config = Config::default().receive(Receive::Pieces);
    let endpoint = server.endpoints()[0].clone();
    let client = world.client().config(config).connect(endpoint).await;
    client.expect("it connects")
}

pub(super) async fn sessions<A: Adapter, D>(world: &World<A>, server: &Server<D>, count: usize) {
    let there = || server.sessions().len() == count;
    world.until("the sessions", there).await;
}

pub(super) async fn incoming(client: &Client) -> Incoming {
    match client.recv().await {
        Some(ClientEvent::Incoming(incoming)) => incoming,
        other => panic!("expected a stream, not {other:?}"),
    }
}

/// Everything that comes, and how that ended.
pub(super) async fn all(mut incoming: Incoming) -> (Vec<u8>, Result<(), TransferError>) {
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

pub(super) async fn write_until_it_fails(mut stream: SendStream) -> TransferError {
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
    while received.len() < LEN || dropped == 0 {
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
