//! Futures that are dropped: the tools, and the futures of messages in pieces. The list of all is in
//! [`awaits`](super::awaits).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use chat_core::driver::{Handler, HandlerError, Incoming, Relay, SendStream, Session};
use chat_core::{Message, TransferError};

use super::awaits::is_alive;
use super::streams::{all, incoming, named, reader};
use super::{Adapter, World};
use crate::{join, pattern};

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
pub(crate) async fn let_others_run() {
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

/// When a future is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// While it waits.
    Waiting,
    /// When it was woken, before it is polled again: what it was told must not be lost with it.
    Woken,
}

pub(super) const BOTH: [When; 2] = [When::Waiting, When::Woken];

/// Passes a wake-up on, and remembers it.
struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.task.lock().unwrap().wake_by_ref();
    }
}

/// Polls a future so many times, each when it was woken since the last, and drops it if it is not
/// ready then.
pub(super) async fn dropped_after<T>(
    polls: usize,
    when: When,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    let bell = Arc::new(Bell {
        rung: AtomicBool::new(true),
        task: Mutex::new(Waker::noop().clone()),
    });
    let waker = Waker::from(Arc::clone(&bell));
    let mut left = polls;
    poll_fn(move |cx| {
        bell.task.lock().unwrap().clone_from(cx.waker());
        let woken = bell.rung.swap(false, Ordering::SeqCst);
        if left == 0 && (when == When::Waiting || woken) {
            return Poll::Ready(None);
        }
        if !woken {
            return Poll::Pending;
        }
        left -= 1;
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if left == 0 && when == When::Waiting => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Repeats a test, at least so many times, until its future was dropped at a wait: where other threads
/// are fast, what it waits for may be there at once. `round` adds to the number of waits.
pub(super) async fn until_it_waits(least: usize, mut round: impl AsyncFnMut(&mut usize)) {
    let (mut waits, mut rounds) = (0, 0);
    while rounds < least || waits == 0 {
        round(&mut waits).await;
        rounds += 1;
        assert!(rounds < 500, "it never waits");
    }
}

/// Tries something again and again, dropped one wait later each time, until it is done. Adds to `waits`
/// how often it was dropped.
pub(super) async fn at_last<T>(
    waits: &mut usize,
    mut attempt: impl AsyncFnMut(usize) -> Option<T>,
) -> T {
    let mut polls = 0;
    loop {
        if let Some(done) = attempt(polls).await {
            return done;
        }
        *waits += usize::from(polls > 0);
        polls += 1;
    }
}

/// Sends back what comes in pieces, at its pace.
struct Reflect;

impl Handler for Reflect {
    type Data = ();

    async fn message(&self, session: &Session, message: Message) -> Result<(), HandlerError> {
        session.send(message)?;
        Ok(())
    }

    fn streams(&self) -> bool {
        true
    }

    async fn incoming(&self, session: Session, mut incoming: Incoming) -> Result<(), HandlerError> {
        let mut stream = session.send_stream(incoming.transfer().clone())?;
        while let Some(piece) = incoming.next().await {
            match piece {
                Ok(piece) => stream.write(piece).await?,
                // Given up on the way here, so on the way back.
                Err(_) => return Ok(()),
            }
        }
        // It may be given up by its receiver.
        let _ = stream.finish().await;
        Ok(())
    }
}

/// More than windows and buffers hold on the way there and back.
const LONG: usize = 2_000_000;

/// What was not added can be added again: the content is what it was.
pub async fn adding_bytes_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    let server = world.serve(Reflect).await;
    let client = reader(&world, &server).await;
    let mut stream = client.send_stream(named(LONG)).unwrap();
    let content = pattern(LONG);
    let send = async {
        let mut waits = 0;
        for (number, piece) in content.chunks(30_000).enumerate() {
            let when = BOTH[number % 2];
            let added = at_last(&mut waits, async |polls| {
                dropped_after(polls, when, stream.write(piece.to_vec())).await
            });
            added.await.unwrap();
        }
        assert!(waits > 0, "it never waits");
        stream.finish().await
    };
    let (fate, came) = join(send, async { all(incoming(&client).await).await }).await;
    assert!((fate, came) == (Ok(()), (content.clone(), Ok(()))));
    server.stop().await;
}

/// What was added stays; whoever knows how much that is can go on.
pub async fn copying_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    let server = world.serve(Reflect).await;
    let client = reader(&world, &server).await;
    let mut stream = client.send_stream(named(LONG)).unwrap();
    let content = pattern(LONG);
    let send = async {
        let mut waits = 0;
        for polls in 0.. {
            let rest = &content[usize::try_from(stream.written()).unwrap()..];
            let copy = stream.copy_from(rest);
            match dropped_after(polls, BOTH[polls % 2], copy).await {
                Some(copied) => {
                    assert_eq!(copied.unwrap(), rest.len() as u64);
                    break;
                }
                None => waits = polls,
            }
        }
        assert!(waits > 0, "it never waits");
        stream.finish().await
    };
    let (fate, came) = join(send, async { all(incoming(&client).await).await }).await;
    assert!((fate, came) == (Ok(()), (content.clone(), Ok(()))));
    server.stop().await;
}

/// It is complete: the other end gets all of it.
pub async fn completing_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    const LEN: usize = 100_000;
    let server = world.serve(Relay).await;
    let client = reader(&world, &server).await;
    let session = world.session(&server).await;
    for when in BOTH {
        until_it_waits(1, async |waits| {
            let fate = at_last(waits, async |polls| {
                let mut stream = session.send_stream(named(LEN)).unwrap();
                stream.write(pattern(LEN)).await.unwrap();
                // Once, at least: a stream that is dropped as it is is given up.
                let finish = dropped_after(polls.max(1), when, stream.finish());
                let receive = async { all(incoming(&client).await).await };
                let (finished, came) = join(finish, receive).await;
                assert!(came == (pattern(LEN), Ok(())));
                finished
            });
            assert_eq!(fate.await, Ok(()));
        })
        .await;
    }
    server.stop().await;
}

/// Each piece comes once, and in order.
pub async fn taking_pieces_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    let server = world.serve(Reflect).await;
    let client = reader(&world, &server).await;
    until_it_waits(1, async |waits| {
        let mut stream = client.send_stream(named(LONG)).unwrap();
        let send = async {
            slowly(&mut stream, LONG).await?;
            stream.finish().await
        };
        let take = async {
            let mut incoming = incoming(&client).await;
            let (mut taken, mut number) = (Vec::new(), 0);
            loop {
                number += 1;
                let piece = at_last(waits, async |polls| {
                    dropped_after(polls, BOTH[number % 2], incoming.next()).await
                });
                let Some(piece) = piece.await else {
                    return taken;
                };
                taken.extend_from_slice(&piece.unwrap());
            }
        };
        let (fate, taken) = join(send, take).await;
        assert_eq!(fate, Ok(()));
        assert!(taken == pattern(LONG));
    })
    .await;
    server.stop().await;
}

/// Adds a content piece by piece, while others run.
pub(super) async fn slowly(stream: &mut SendStream, len: usize) -> Result<(), TransferError> {
    for piece in pattern(len).chunks(30_000) {
        stream.write(piece.to_vec()).await?;
        let_others_run().await;
    }
    Ok(())
}

/// A stream whose receiver was dropped after so many polls. One that had taken everything by then
/// may have said so before.
pub(super) fn is_given_up(polls: usize, fate: &Result<(), TransferError>) {
    let refused = matches!(fate, Err(TransferError::Peer { .. }));
    assert!(refused || polls > 0 && fate.is_ok(), "{fate:?}");
}

/// The sender is told that it was given up, and the connection goes on.
pub async fn collecting_can_be_dropped_at_every_await<A: Adapter>(world: World<A>) {
    const LEN: usize = 200_000;
    let server = world.serve(Relay).await;
    let client = reader(&world, &server).await;
    let session = world.session(&server).await;
    for when in BOTH {
        until_it_waits(3, async |waits| {
            let collected = at_last(waits, async |polls| {
                let mut stream = session.send_stream(named(LEN)).unwrap();
                let send = async {
                    slowly(&mut stream, LEN).await?;
                    stream.finish().await
                };
                let collect = async {
                    let incoming = incoming(&client).await;
                    dropped_after(polls, when, incoming.collect(LEN as u64)).await
                };
                let (fate, collected) = join(send, collect).await;
                is_alive(&client).await;
                if collected.is_none() {
                    is_given_up(polls, &fate);
                }
                collected
            });
            let content = collected.await.unwrap().into_content();
            assert!(content == pattern(LEN));
        })
        .await;
    }
    server.stop().await;
}
