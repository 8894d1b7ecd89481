//! What a handler can do, and what it can do wrong.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use chat_core::driver::{Echo, Handler, HandlerError, Relay, Session};
use chat_core::{CloseReason, Config, Message};

use super::{Adapter, World, end, message};

/// Numbers the messages of each session.
struct Count;

impl Handler for Count {
    type Data = AtomicU64;

    async fn message(
        &self,
        session: &Session<AtomicU64>,
        message: Message,
    ) -> Result<(), HandlerError> {
        let number = session.data().fetch_add(1, Ordering::Relaxed) + 1;
        let text = message.as_text().ok_or("text only")?;
        session.send(Message::text(format!("{number}: {text}")))?;
        Ok(())
    }
}

/// Each session has data of its own, of the application's type.
pub async fn session_has_data<A: Adapter>(world: World<A>) {
    let server = world.serve(Count).await;
    let one = world.connect(&server).await;
    let two = world.connect(&server).await;
    for (client, expected) in [
        (&one, "1: x"),
        (&one, "2: x"),
        (&two, "1: x"),
        (&one, "3: x"),
    ] {
        client.send(Message::text("x")).await.unwrap();
        assert_eq!(message(client).await.as_text(), Some(expected));
    }
    let mut counts: Vec<_> = server
        .sessions()
        .iter()
        .map(|session| session.data().load(Ordering::Relaxed))
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 3]);
    server.stop().await;
}

/// Sessions know what went over them and since when.
pub async fn counters_and_times<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    for _ in 0..3 {
        client.send(Message::text("x")).await.unwrap();
        message(&client).await;
    }
    let session = server.sessions().remove(0);
    world
        .until("three messages", || session.stats().messages_sent == 3)
        .await;
    let stats = session.stats();
    assert_eq!(stats.messages_received, 3);
    assert!(stats.bytes_received > 3 * 128, "{stats:?}");
    assert!(stats.frames_sent > stats.messages_sent, "{stats:?}");
    assert!(session.age() > Duration::ZERO);
    assert!(session.idle() <= session.age());
    assert_eq!(server.stats().accepted, 1);
    server.stop().await;
}

/// Sessions can be listed, and found by their id, while they live.
pub async fn sessions_are_listed_and_found<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = world.connect(&server).await;
    world.session(&server).await;
    let id = server.sessions()[0].id();
    assert_eq!(server.session(id).unwrap().id(), id);
    client.close("done").await;
    world
        .until("no session", || server.sessions().is_empty())
        .await;
    assert!(server.session(id).is_none());
    server.stop().await;
}

/// A broadcast of the application's own.
pub async fn broadcast_counts_its_receivers<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    assert_eq!(server.broadcast(&Message::text("nobody")), Ok(0));
    let clients = [world.connect(&server).await, world.connect(&server).await];
    world
        .until("two sessions", || server.sessions().len() == 2)
        .await;
    let news = Message::text("news");
    assert_eq!(server.broadcast(&news), Ok(2));
    assert!(server.broadcast(&Message::text("")).is_err());
    for client in &clients {
        assert_eq!(message(client).await, news);
    }
    server.stop().await;
}

/// One session is closed, with a reason; the others are not.
pub async fn session_is_closed_with_a_reason<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    let one = world.connect(&server).await;
    let session = world.session(&server).await;
    let two = world.connect(&server).await;
    session.close("for you");
    let expected = CloseReason::Peer {
        reason: "for you".into(),
    };
    assert_eq!(end(&one).await, expected);
    assert!(one.recv().await.is_none());
    two.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&two).await.as_text(), Some("x"));
    server.stop().await;
}

/// Fails or panics when told to; otherwise answers.
struct Fragile {
    ends: Arc<Mutex<Vec<CloseReason>>>,
}

impl Handler for Fragile {
    type Data = ();

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        match message.as_text() {
            Some("fail") => Err("a secret of the server".into()),
            Some("panic") => panic!("as told by the test"),
            _ => Ok(session.send(message)?),
        }
    }

    fn disconnected(&self, _: &Session, reason: &CloseReason) {
        self.ends.lock().unwrap().push(reason.clone());
    }
}

/// An error of the handler ends the session that it was for; the peer is not told what it was.
pub async fn a_failing_handler_ends_its_session_only<A: Adapter>(world: World<A>) {
    ends_its_session_only(world, "fail").await;
}

/// So does a panic.
pub async fn a_panicking_handler_ends_its_session_only<A: Adapter>(world: World<A>) {
    ends_its_session_only(world, "panic").await;
}

/// And one when its future is dropped, which is done.
pub async fn a_handler_that_panics_afterwards_ends_its_session_only<A: Adapter>(world: World<A>) {
    let ends = Arc::default();
    let handler = Brittle(Fragile {
        ends: Arc::clone(&ends),
    });
    ends_only_one(world, handler, &ends, "panic afterwards").await;
}

/// A handler whose futures may panic when they are dropped.
struct Brittle(Fragile);

struct Bomb<F>(Pin<Box<F>>, bool);

impl<F: Future> Future for Bomb<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<F> Drop for Bomb<F> {
    fn drop(&mut self) {
        assert!(!self.1, "as told by the test");
    }
}

impl Handler for Brittle {
    type Data = ();

    fn message(
        &self,
        session: &Session,
        message: Message,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        let goes_off = message.as_text() == Some("panic afterwards");
        let answer = async move {
            if goes_off {
                return Ok(());
            }
            self.0.message(session, message).await
        };
        Bomb(Box::pin(answer), goes_off)
    }

    fn disconnected(&self, session: &Session, reason: &CloseReason) {
        self.0.disconnected(session, reason);
    }
}

async fn ends_its_session_only<A: Adapter>(world: World<A>, order: &str) {
    let ends = Arc::default();
    let handler = Fragile {
        ends: Arc::clone(&ends),
    };
    ends_only_one(world, handler, &ends, order).await;
}

async fn ends_only_one<A: Adapter>(
    world: World<A>,
    handler: impl Handler<Data = ()>,
    ends: &Mutex<Vec<CloseReason>>,
    order: &str,
) {
    let server = world.serve(handler).await;
    let victim = world.connect(&server).await;
    let other = world.connect(&server).await;
    victim.send(Message::text(order)).await.unwrap();
    let reason: Box<str> = "Internal error".into();
    assert_eq!(
        end(&victim).await,
        CloseReason::Peer {
            reason: reason.clone()
        }
    );
    other.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&other).await.as_text(), Some("x"));
    world
        .until("one session", || server.sessions().len() == 1)
        .await;
    assert_eq!(*ends.lock().unwrap(), [CloseReason::Local { reason }]);
    server.stop().await;
}

/// Says goodbye when told to; otherwise answers.
struct Polite;

impl Handler for Polite {
    type Data = ();

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        if message.as_text() == Some("quit") {
            session.send(Message::text("bye"))?;
            session.close("as you wish");
        } else {
            session.send(message)?;
        }
        Ok(())
    }
}

/// What a handler sent before it closed goes out, whatever the next messages make it fail with.
pub async fn a_closing_handler_keeps_its_last_words<A: Adapter>(world: World<A>) {
    let server = world.serve(Polite).await;
    let client = world.connect(&server).await;
    for text in ["one", "quit", "two", "three"] {
        // The last ones may find the connection closed already.
        let _ = client.try_send(Message::text(text));
    }
    assert_eq!(message(&client).await.as_text(), Some("one"));
    assert_eq!(message(&client).await.as_text(), Some("bye"));
    let reason = "as you wish".into();
    assert_eq!(end(&client).await, CloseReason::Peer { reason });
    server.stop().await;
}

/// Waits for as long as the test says.
struct Slow<A: Adapter>(Duration, A::Runtime);

impl<A: Adapter> Handler for Slow<A> {
    type Data = ();

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        use chat_core::driver::rt::{Runtime, Sleep};

        let deadline = self.1.now() + self.0;
        let mut sleep = self.1.sleep();
        std::future::poll_fn(|cx| sleep.poll_until(cx, deadline)).await;
        Ok(session.send(message)?)
    }
}

/// While a handler waits, its session's heartbeats are answered.
pub async fn a_waiting_handler_does_not_stop_heartbeats<A: Adapter>(world: World<A>) {
    let handler = Slow::<A>(Duration::from_millis(600), world.runtime.clone());
    let server = world.serve(handler).await;
    let config = Config::default()
        .heartbeat(Some(Duration::from_millis(50)))
        .idle_timeout(Some(Duration::from_millis(300)));
    let client = world
        .client()
        .config(config)
        .connect(server.endpoints()[0].clone())
        .await
        .unwrap();
    client.send(Message::text("x")).await.unwrap();
    assert_eq!(message(&client).await.as_text(), Some("x"));
    server.stop().await;
}

/// An echo whose outbox holds a single message neither blocks nor fails.
pub async fn an_echo_with_the_smallest_outbox<A: Adapter>(world: World<A>) {
    const COUNT: usize = 300;
    let builder = world.server(Echo).max_outbox(1);
    let config = Config::default().max_outbox(1).max_inbox(1);
    let server = builder.config(config).bind().await.unwrap();
    let client = world.connect(&server).await;
    let sender = client.clone();
    let send = async {
        for _ in 0..COUNT {
            sender.send(Message::binary(vec![5; 3_000])).await.unwrap();
        }
    };
    let receive = async {
        for _ in 0..COUNT {
            assert_eq!(message(&client).await.content().len(), 3_000);
        }
    };
    crate::join(send, receive).await;
    server.stop().await;
}
