//! Messages arrive: whole, once, in order.

use std::time::Duration;

use chat_core::driver::{Client, ClientBuilder, Echo, Relay, ServerBuilder};
use chat_core::{ContentType, Message, SendError};

use super::{Adapter, World, end, message};
use crate::dribble::Dribble;

/// A message comes back from an echo.
pub async fn echo<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    client.send(Message::text("Hello, World!")).await.unwrap();
    let reply = message(&client).await;
    assert_eq!(reply.as_text(), Some("Hello, World!"));
    assert_eq!(reply.content_type().as_str(), "text/plain");
    let image = Message::new("image/png", vec![0_u8, 1, 2]);
    client.send(image.clone()).await.unwrap();
    assert_eq!(message(&client).await, image);
    client.close("done").await;
    server.stop().await;
}

/// A relay sends each message to every session, its sender included.
pub async fn relay_reaches_everybody<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(world.connect(&server).await);
    }
    world
        .until("five sessions", || server.sessions().len() == 5)
        .await;
    for (number, client) in clients.iter().enumerate() {
        let text = Message::text(format!("from {number}"));
        client.send(text.clone()).await.unwrap();
        for client in &clients {
            assert_eq!(message(client).await, text);
        }
    }
    server.stop().await;
}

/// Thousands of messages in flight keep their order.
pub async fn order_is_kept<A: Adapter>(world: World<A>) {
    const COUNT: usize = 3_000;
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    exchange(&client, COUNT).await;
    server.stop().await;
}

async fn exchange(client: &Client, count: usize) {
    let sender = client.clone();
    let send = async {
        for number in 0..count {
            sender
                .send(Message::text(number.to_string()))
                .await
                .unwrap();
        }
    };
    let receive = async {
        for number in 0..count {
            let reply = message(client).await;
            assert_eq!(reply.as_text(), Some(&*number.to_string()));
        }
    };
    crate::join(send, receive).await;
}

/// The largest message passes.
pub async fn ten_mebibytes<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    let large = Message::binary(content(10_485_760));
    client.send(large.clone()).await.unwrap();
    assert!(message(&client).await == large, "the content differs");
    server.stop().await;
}

/// Sizes where buffers and frames have their borders.
pub async fn sizes_around_the_limits<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    for size in [
        1, 800, 900, 1023, 1024, 4095, 4096, 4097, 8191, 8192, 8193, 65_535, 65_536, 65_537,
        102_400, 1_048_577,
    ] {
        let one = Message::binary(content(size));
        client.send(one.clone()).await.unwrap();
        assert!(
            message(&client).await == one,
            "{size} bytes come back as others"
        );
    }
    server.stop().await;
}

/// Bytes that no shift or mix-up of blocks leaves the same.
fn content(size: u32) -> Vec<u8> {
    let word = |i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    (0..size).map(word).collect()
}

/// Both ends write a lot before either application reads: nobody waits for the other.
pub async fn both_peers_only_write<A: Adapter>(world: World<A>) {
    const COUNT: usize = 200;
    const SIZE: usize = 10_000;
    let server = world.serve(Echo).await;
    let builder = world.client().max_outbox(COUNT * (SIZE + 1_000));
    let client = builder
        .connect(server.endpoints()[0].clone())
        .await
        .unwrap();
    let session = world.session(&server).await;
    for _ in 0..COUNT {
        session.send(Message::binary(vec![1; SIZE])).unwrap();
        client.try_send(Message::binary(vec![2; SIZE])).unwrap();
    }
    let mut counts = [0; 3];
    for _ in 0..2 * COUNT {
        let content = message(&client).await.into_content();
        assert_eq!(content.len(), SIZE);
        counts[usize::from(content[0])] += 1;
    }
    assert_eq!(counts, [0, COUNT, COUNT]);
    server.stop().await;
}

/// The same over sockets that give and take one byte at a time, with false wake-ups in between.
pub async fn one_byte_at_a_time<A: Adapter>(world: World<A>) {
    let runtime = Dribble::new(world.runtime.clone());
    let server = ServerBuilder::with_runtime(runtime.clone(), Echo)
        .listen(world.endpoint())
        .bind()
        .await
        .unwrap();
    let client = ClientBuilder::with_runtime(runtime)
        .connect(server.endpoints()[0].clone())
        .await
        .unwrap();
    exchange(&client, 20).await;
    client.close("done").await;
    server.stop().await;
}

/// Whatever was sent before the goodbye has arrived when it is done.
pub async fn piped_messages_survive_the_goodbye<A: Adapter>(world: World<A>) {
    const COUNT: u64 = 10_000;
    let server = world.serve(Relay).await;
    let client = world.connect(&server).await;
    let session = world.session(&server).await;
    for number in 0..COUNT {
        client
            .send(Message::text(number.to_string()))
            .await
            .unwrap();
    }
    client.close("done").await;
    world
        .until("the session is over", || server.sessions().is_empty())
        .await;
    assert_eq!(session.stats().messages_received, COUNT);
    server.stop().await;
}

/// Two tasks that wait for one message each get one each.
pub async fn two_receivers_share<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = world.connect(&server).await;
    world.session(&server).await;
    let other = client.clone();
    let receive = async |client: Client| _ = message(&client).await;
    let send = async {
        for _ in 0..2 {
            server.broadcast(&Message::text("x")).unwrap();
        }
    };
    crate::join(crate::join(receive(client), receive(other)), send).await;
    server.stop().await;
}

/// `flush` returns when the socket has taken everything.
pub async fn flush_waits_for_the_socket<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = world.connect(&server).await;
    for _ in 0..50 {
        client.send(Message::binary(vec![7; 5_000])).await.unwrap();
    }
    client.flush().await.unwrap();
    assert_eq!(client.stats().messages_sent, 50);
    client.flush().await.unwrap();
    client.close("done").await;
    assert_eq!(
        client.send(Message::text("too late")).await,
        Err(SendError::Closed(Message::text("too late")))
    );
    server.stop().await;
}

/// What cannot be sent is handed back, and the connection goes on.
pub async fn refused_messages_are_handed_back<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    let empty = Message::text("");
    assert_eq!(
        client.send(empty.clone()).await,
        Err(SendError::Empty(empty))
    );
    let large = Message::binary(vec![0; 67_108_865]);
    let refused = client.send(large).await.unwrap_err();
    assert!(matches!(refused, SendError::TooLarge(_)));
    assert_eq!(refused.into_message().content().len(), 67_108_865);
    let odd = Message::new(ContentType::from("x".repeat(10_000)), "content");
    assert!(matches!(
        client.send(odd).await,
        Err(SendError::TooLarge(_))
    ));
    client.send(Message::text("still here")).await.unwrap();
    assert_eq!(message(&client).await.as_text(), Some("still here"));
    server.stop().await;
    assert!(end(&client).await.to_string().contains("shutting down"));
    world.pause(Duration::ZERO).await;
}
