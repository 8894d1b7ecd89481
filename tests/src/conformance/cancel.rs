//! Every public future may be dropped wherever it waits: nothing is lost, doubled or torn.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use chat_core::driver::{ClientEvent, Echo, Relay};
use chat_core::{CloseReason, Message};

use super::{Adapter, World, end, message};

/// Polls a future once, and drops it if it is not ready.
pub(super) async fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

/// Lets the other tasks of the runtime run.
pub(super) async fn let_others_run() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// `recv`, dropped after every poll, loses and doubles nothing.
pub async fn receiving_can_be_dropped<A: Adapter>(world: World<A>) {
    const COUNT: usize = 500;
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    let sender = client.clone();
    world.runtime_spawn(async move {
        for number in 0..COUNT {
            let text = Message::text(number.to_string());
            sender.send(text).await.unwrap();
        }
    });
    let mut dropped = 0;
    for number in 0..COUNT {
        let event = loop {
            match once(client.recv()).await {
                Some(event) => break event,
                None => dropped += 1,
            }
            let_others_run().await;
        };
        let expected = Message::new("text/plain", number.to_string());
        assert_eq!(event, Some(ClientEvent::Message(expected)));
    }
    assert!(dropped > 0, "no future was dropped");
    server.stop().await;
}

/// `send`, dropped after every poll, sends each message once or not at all.
pub async fn sending_can_be_dropped<A: Adapter>(world: World<A>) {
    const COUNT: usize = 500;
    let server = world.serve(Echo).await;
    let client = world
        .client()
        .max_outbox(1)
        .connect(server.endpoints()[0].clone())
        .await
        .unwrap();
    let receiver = client.clone();
    let send = async {
        let mut dropped = 0;
        for number in 0..COUNT {
            let text = Message::text(number.to_string());
            // Not ready and dropped means not sent: it may be tried again.
            while once(client.send(text.clone())).await.is_none() {
                dropped += 1;
                let_others_run().await;
            }
        }
        assert!(dropped > 0, "no future was dropped");
    };
    let receive = async {
        for number in 0..COUNT {
            let reply = message(&receiver).await;
            assert_eq!(reply.as_text(), Some(&*number.to_string()));
        }
    };
    crate::join(send, receive).await;
    server.stop().await;
}

/// `connect`, dropped wherever it waits, leaves no session behind.
pub async fn connecting_can_be_dropped<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    for polls in 1..12 {
        let endpoint = server.endpoints()[0].clone();
        let mut connect = pin!(world.client().connect(endpoint));
        for _ in 0..polls {
            if once(connect.as_mut()).await.is_some() {
                break;
            }
            let_others_run().await;
        }
    }
    world
        .until("no session", || server.sessions().is_empty())
        .await;
    let client = world.connect(&server).await;
    client.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&client).await.as_text(), Some("x"));
    server.stop().await;
}

/// `stop`, dropped, goes on by itself.
pub async fn stopping_can_be_dropped<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = world.connect(&server).await;
    world.session(&server).await;
    let _ = once(server.stop()).await;
    assert!(matches!(end(&client).await, CloseReason::Peer { .. }));
    server.stopped().await;
}

/// `close`, dropped, goes on by itself, and `flush` changes nothing.
pub async fn closing_can_be_dropped<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = world.connect(&server).await;
    let session = world.session(&server).await;
    for _ in 0..20 {
        client.send(Message::text("last words")).await.unwrap();
        let _ = once(client.flush()).await;
    }
    let _ = once(client.close("done")).await;
    world
        .until("no session", || server.sessions().is_empty())
        .await;
    assert_eq!(session.stats().messages_received, 20);
    server.stop().await;
}
