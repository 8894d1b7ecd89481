//! Every public future, dropped at each of its waits: what its documentation says of that is so.
//!
//! | future | when it is dropped | tested by |
//! |---|---|---|
//! | `ServerBuilder::bind` | nothing listens | `binding_can_be_dropped_at_every_await` |
//! | `Server::stop`, `abort` | the stop goes on | `stopping_can_be_dropped_at_every_await` |
//! | `Server::stopped` | nothing | the same |
//! | `Server::forward` | the message and its copies are given up | `forwarding_can_be_dropped_at_every_await` |
//! | `ClientBuilder::connect` | it gives up | `connecting_can_be_dropped_at_every_await` |
//! | `Client::send` | the message was not queued | `sending_can_be_dropped_at_every_await` |
//! | `Client::flush` | nothing is reported | `flushing_can_be_dropped_at_every_await` |
//! | `Client::recv` | no event is lost | `receiving_can_be_dropped_at_every_await`, `a_receiver_that_is_gone_takes_nothing` |
//! | `Client::close` | it is closed all the same | `closing_can_be_dropped_at_every_await` |
//! | `SendStream::write` | nothing was added | `adding_bytes_can_be_dropped_at_every_await` |
//! | `SendStream::copy_from` | what was read is lost, the stream is not | `copying_can_be_dropped_at_every_await` |
//! | `SendStream::finish` | it is complete | `completing_can_be_dropped_at_every_await` |
//! | `Incoming::next` (as a `Stream` it has no other future) | nothing is lost | `taking_pieces_can_be_dropped_at_every_await` |
//! | `Incoming::collect` | the message is given up | `collecting_can_be_dropped_at_every_await` |
//! | `Listener::accept` | no connection is lost | `accepting_can_be_dropped_at_every_await` |
//!
//! A `Session` has no futures. A future that was never polled was never asked for: then nothing of
//! the above has begun.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chat_core::driver::rt::{Listener, Runtime, Stream};
use chat_core::driver::{
    Client, ClientEvent, Echo, Endpoint, Handler, HandlerError, Incoming, Relay, ServerBuilder,
    Session,
};
use chat_core::{CloseReason, Message, TransferError};

use super::cancel::{
    BOTH, When, at_last, dropped_after, is_given_up, let_others_run, once, slowly, until_it_waits,
};
use super::streams::{all, incoming, named, reader, sessions};
use super::{Adapter, Kind, World, end, message};
use crate::faulty::{Faulty, Plan};
use crate::{join, pattern};

/// Still of use.
pub(super) async fn is_alive(client: &Client) {
    client.send(Message::text("still here")).await.unwrap();
    assert_eq!(message(client).await.as_text(), Some("still here"));
}

/// Nothing listens, and nothing is left in the file system; another attempt finds its place free.
pub async fn binding_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    let path = world.dir.path().join("first.sock");
    let address = unused_address();
    let runtime = Faulty::new(world.runtime.clone(), &Plan::none());
    until_it_waits(1, async |waits| {
        let bound = at_last(waits, async |polls| {
            assert!(!path.exists() && !path.with_extension("sock.lock").exists());
            assert!(std::net::TcpStream::connect(address).is_err());
            let builder = ServerBuilder::with_runtime(runtime.clone(), Relay)
                .listen(Endpoint::unix(&path))
                .listen(Endpoint::tcp(address.to_string()))
                // By then it listens on both.
                .listen(Endpoint::tcp("127.0.0.1:0"));
            dropped_after(polls, When::Woken, builder.bind()).await
        });
        bound.await.unwrap().stop().await;
    })
    .await;
}

/// An address that no other test takes: of this machine, with a port that is never chosen for
/// anybody.
fn unused_address() -> SocketAddr {
    static NUMBER: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    (Ipv4Addr::new(127, high | 1, low, number), 4_000).into()
}

/// No session is left behind, and the next attempt succeeds.
pub async fn connecting_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    for when in BOTH {
        until_it_waits(5, async |waits| {
            let client = at_last(waits, async |polls| {
                let endpoint = server.endpoints()[0].clone();
                dropped_after(polls, when, world.client().connect(endpoint)).await
            });
            is_alive(&client.await.unwrap()).await;
        })
        .await;
    }
    world
        .until("no session", || server.sessions().is_empty())
        .await;
    is_alive(&world.connect(&server).await).await;
    server.stop().await;
}

/// What was not queued can be sent again: each message arrives once, and in order.
pub async fn sending_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    const COUNT: usize = 50;
    let server = world.serve(Echo).await;
    let endpoint = server.endpoints()[0].clone();
    let client = world.client().max_outbox(1).connect(endpoint).await;
    let client = client.unwrap();
    until_it_waits(4, async |waits| {
        let send = async {
            for number in 0..COUNT {
                let when = BOTH[number % 2];
                let sent = at_last(waits, async |polls| {
                    let text = Message::text(number.to_string());
                    dropped_after(polls, when, client.send(text)).await
                });
                sent.await.unwrap();
            }
        };
        let receive = async {
            for number in 0..COUNT {
                let reply = message(&client).await;
                assert_eq!(reply.as_text(), Some(&*number.to_string()));
            }
        };
        join(send, receive).await;
    })
    .await;
    server.stop().await;
}

/// Each event comes once, and in order.
pub async fn receiving_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    const COUNT: usize = 50;
    let server = world.serve(Echo).await;
    let client = world.connect(&server).await;
    until_it_waits(4, async |waits| {
        for number in 0..COUNT {
            let text = number.to_string();
            client.send(Message::text(&*text)).await.unwrap();
            let when = BOTH[number % 2];
            let event = at_last(waits, async |polls| {
                dropped_after(polls, when, client.recv()).await
            });
            let expected = Message::new("text/plain", text);
            assert_eq!(event.await, Some(ClientEvent::Message(expected)));
        }
    })
    .await;
    server.stop().await;
}

/// One of two receivers is told of an event and dropped: the other one gets it.
pub async fn a_receiver_that_is_gone_takes_nothing<A: Adapter>(world: World<A>) {
    let server = world.serve(Relay).await;
    let client = world.connect(&server).await;
    let other = client.clone();
    let session = world.session(&server).await;
    for number in 0..50 {
        let text = number.to_string();
        let mut gone = Box::pin(dropped_after(1, When::Woken, client.recv()));
        // The first in the row.
        assert!(once(gone.as_mut()).await.is_none());
        let mut patient = pin!(message(&other));
        assert!(once(patient.as_mut()).await.is_none());
        session.send(Message::text(&*text)).unwrap();
        assert_eq!(gone.await, None);
        assert_eq!(patient.await.as_text(), Some(&*text));
    }
    server.stop().await;
}

/// What was lost is still to be reported, once.
pub async fn flushing_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    let server = world.serve(Stuck).await;
    let endpoint = server.endpoints()[0].clone();
    let builder = world.client().max_outbox(usize::MAX);
    let client = builder.connect(endpoint).await.unwrap();
    // More than any socket takes.
    for _ in 0..300 {
        client.try_send(Message::binary(vec![4; 100_000])).unwrap();
    }
    assert!(
        dropped_after(0, When::Waiting, client.flush())
            .await
            .is_none()
    );
    assert!(
        dropped_after(1, When::Waiting, client.flush())
            .await
            .is_none()
    );
    let mut told = Box::pin(dropped_after(1, When::Woken, client.flush()));
    assert!(once(told.as_mut()).await.is_none());
    join(server.abort(), async {
        assert_eq!(told.await, None);
    })
    .await;
    end(&client).await;
    let mut reported = Vec::new();
    for polls in 0..3 {
        reported.extend(dropped_after(polls, When::Waiting, client.flush()).await);
    }
    let [Err(error), Ok(())] = reported[..] else {
        panic!("once, and no more: {reported:?}");
    };
    assert!(error.lost > 0, "nothing was lost");
}

/// Takes its first message, and no other.
struct Stuck;

impl Handler for Stuck {
    type Data = ();

    async fn message(&self, _: &Session, _: Message) -> Result<(), HandlerError> {
        std::future::pending().await
    }
}

/// It is closed, after what was queued.
pub async fn closing_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    let server = world.serve(Echo).await;
    for when in BOTH {
        until_it_waits(5, async |waits| {
            let closed = at_last(waits, async |polls| {
                let client = world.connect(&server).await;
                let session = world.session(&server).await;
                for _ in 0..20 {
                    client.send(Message::text("last words")).await.unwrap();
                }
                // Once, at least: what is never polled is not asked for.
                let closed = dropped_after(polls.max(1), when, client.close("done")).await;
                let is_over = || server.sessions().is_empty();
                world.until("no session", is_over).await;
                assert_eq!(session.stats().messages_received, 20);
                let reason = client.close("again").await;
                assert!(matches!(&reason, CloseReason::Local { reason } if &**reason == "done"));
                closed.map(|closed| (closed, reason))
            });
            let (closed, reason) = closed.await;
            assert_eq!(closed, reason);
        })
        .await;
    }
    server.stop().await;
}

/// What has begun to stop stops; waiting for it changes nothing.
pub async fn stopping_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    let stop_after = async |polls: usize, when: When, abort: bool| {
        let server = world.serve(Relay).await;
        let client = world.connect(&server).await;
        world.session(&server).await;
        let waiting = dropped_after(1, When::Waiting, server.stopped());
        assert!(waiting.await.is_none());
        is_alive(&client).await;
        let stopped = if abort {
            dropped_after(polls, when, server.abort()).await
        } else {
            dropped_after(polls, when, server.stop()).await
        };
        if polls == 0 {
            is_alive(&client).await;
            server.stop().await;
        }
        server.stopped().await;
        assert!(server.sessions().is_empty());
        let reason = end(&client).await;
        assert!(abort || matches!(reason, CloseReason::Peer { .. }));
        stopped
    };
    for when in BOTH {
        for abort in [false, true] {
            until_it_waits(3, async |waits| {
                let stop = async |polls: usize| stop_after(polls, when, abort).await;
                at_last(waits, stop).await;
            })
            .await;
        }
    }
}

/// `None`: it was dropped before.
type Forwarded = Option<Result<(), TransferError>>;

/// Forwards, for so many polls; says whether that was enough.
#[derive(Clone, Default)]
struct Forward {
    polls: Arc<AtomicUsize>,
    done: Arc<Mutex<Vec<Forwarded>>>,
    when: Arc<AtomicBool>,
}

impl Handler for Forward {
    type Data = ();

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        session.server().broadcast(&message)?;
        Ok(())
    }

    fn streams(&self) -> bool {
        true
    }

    async fn incoming(&self, session: Session, incoming: Incoming) -> Result<(), HandlerError> {
        let when = BOTH[usize::from(self.when.load(Ordering::SeqCst))];
        let forward = session.server().forward(session.id(), incoming);
        let polls = self.polls.load(Ordering::SeqCst);
        let done = dropped_after(polls, when, forward).await;
        self.done.lock().unwrap().push(done);
        Ok(())
    }
}

/// The sender is told, no copy is complete, and the sessions go on.
pub async fn forwarding_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    const LEN: usize = 200_000;
    let handler = Forward::default();
    let server = world.serve(handler.clone()).await;
    let (client, other) = (reader(&world, &server).await, reader(&world, &server).await);
    sessions(&world, &server, 2).await;
    let forward = async |polls: usize| {
        handler.polls.store(polls, Ordering::SeqCst);
        let mut stream = client.send_stream(named(LEN)).unwrap();
        let send = async {
            let fate = slowly(&mut stream, LEN).await;
            let fate = if fate.is_ok() {
                stream.finish().await
            } else {
                fate
            };
            let is_known = || !handler.done.lock().unwrap().is_empty();
            world.until("the end of it", is_known).await;
            client.send(Message::text("next")).await.unwrap();
            message(&client).await;
            fate
        };
        let receive = async {
            let mut came = Vec::new();
            loop {
                match other.recv().await {
                    Some(ClientEvent::Incoming(incoming)) => came.push(all(incoming).await),
                    Some(ClientEvent::Message(_)) => return came,
                    more => panic!("not expected: {more:?}"),
                }
            }
        };
        let (fate, mut came) = join(send, receive).await;
        let done = handler.done.lock().unwrap().pop().expect("it was handled");
        assert!(came.len() <= 1, "it came more than once");
        if done.is_some() {
            assert_eq!((done, fate), (Some(Ok(())), Ok(())));
            // A small message may overtake it.
            if came.is_empty() {
                came.push(all(incoming(&other).await).await);
            }
            assert!(came == [(pattern(LEN), Ok(()))]);
            return Some(());
        }
        is_given_up(polls, &fate);
        assert!(came.iter().all(|(_, end)| end.is_err()));
        None
    };
    for when in [false, true] {
        handler.when.store(when, Ordering::SeqCst);
        until_it_waits(3, async |waits| at_last(waits, &forward).await).await;
    }
    server.stop().await;
}

/// Every connection is accepted, in the order in which they came.
pub async fn accepting_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    match world.kind {
        Kind::Tcp => {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            listener.set_nonblocking(true).unwrap();
            let listener = world.runtime.tcp_listener(listener).unwrap();
            let connect = || std::net::TcpStream::connect(address).unwrap();
            accepts_all(listener, connect).await;
        }
        Kind::Unix => {
            let path = world.dir.path().join("chat.sock");
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            let listener = world.runtime.unix_listener(listener).unwrap();
            let connect = || std::os::unix::net::UnixStream::connect(&path).unwrap();
            accepts_all(listener, connect).await;
        }
    }
}

async fn accepts_all<L, C>(mut listener: L, connect: impl Fn() -> C)
where
    L: Listener<Stream: Stream>,
    C: std::io::Write,
{
    let mut waits = 0;
    for number in 0..50_u8 {
        // Nobody is there yet.
        assert!(once(listener.accept()).await.is_none());
        let mut client = None;
        let when = BOTH[usize::from(number) % 2];
        let accepted = at_last(&mut waits, async |polls| {
            let accept = dropped_after(polls, when, listener.accept());
            let arrive = async {
                let_others_run().await;
                if polls > 0 {
                    client.get_or_insert_with(&connect);
                }
            };
            join(accept, arrive).await.0
        });
        let (stream, _) = accepted.await.unwrap();
        assert_is_of(stream, client, number).await;
    }
    assert!(waits > 0, "it never waits");
}

/// What is accepted is the connection of that client.
async fn assert_is_of<C: std::io::Write>(mut stream: impl Stream, client: Option<C>, number: u8) {
    let mut client = client.expect("somebody came");
    client.write_all(&[number]).unwrap();
    let mut buffer = [0; 2];
    let read = std::future::poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await;
    assert_eq!((read.unwrap(), buffer[0]), (1, number));
}
