//! One conversation, again and again: with one thing that goes wrong, at every operation of the
//! socket of either end.

use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use chat_core::driver::{ClientEvent, ServerBuilder};
use chat_core::{CloseReason, Config, Message, Uuid};
use rustix::io::Errno;

use super::raw::RawListener;
use super::talk::{DONE, Run, Side, TEXTS, Talk, config, flushed, whole};
use super::{Adapter, World};
use crate::faulty::{Fails, Fault, Faulty, Operation, Plan, TEXT};

/// Conversations at a time.
const AT_ONCE: u32 = 8;
/// A conversation that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

type Judge = fn(Fault, &Run, Side);

impl<A: Adapter> World<A> {
    /// The conversation with a fault at each operation, until one is not reached. Each is judged;
    /// returns how many faults there were.
    async fn at_every_operation(
        &self,
        side: Side,
        fault: Fault,
        config: &Config,
        judge: Judge,
    ) -> u32 {
        let (mut next, mut count) = (0, 0);
        loop {
            let runs = (next..next + AT_ONCE).map(|number| {
                let talk = self.talk(side, Plan::new(number, fault), config.clone());
                self.in_time(format!("{fault:?} at {number}, {side:?}"), talk)
            });
            let mut is_last = false;
            for run in together(runs).await {
                if run.plan.struck().is_some() {
                    count += 1;
                    judge(fault, &run, side);
                } else {
                    is_last = true;
                    nothing_happened(&run);
                }
            }
            if is_last {
                return count;
            }
            next += AT_ONCE;
        }
    }

    /// A fault at every operation of both sides.
    async fn everywhere(&self, faults: &[Fault], judge: Judge) {
        for side in [Side::Client, Side::Server] {
            let plain = self.talk(side, Plan::none(), config()).await;
            nothing_happened(&plain);
            let operations = plain.plan.operations();
            assert!(operations >= 10, "only {operations} operations");
            for fault in faults {
                let config = config();
                let count = self.at_every_operation(side, *fault, &config, judge);
                let count = count.await;
                assert!(count >= 3, "{fault:?}: only {count} faults, {side:?}");
            }
        }
    }

    async fn in_time<T>(&self, what: String, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut late = pin!(self.pause(PATIENCE));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = future.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            assert!(late.as_mut().poll(cx).is_pending(), "it hangs: {what}");
            Poll::Pending
        })
        .await
    }
}

/// Awaits several futures at the same time.
async fn together<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<(Pin<Box<_>>, Option<T>)> =
        futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in &mut futures {
            if done.is_none()
                && let Poll::Ready(answer) = future.as_mut().poll(cx)
            {
                *done = Some(answer);
            }
        }
        let all = futures.iter().all(|(_, done)| done.is_some());
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, done)| done).collect()
}

fn done_here() -> CloseReason {
    CloseReason::Local {
        reason: DONE.into(),
    }
}

fn done_there() -> CloseReason {
    CloseReason::Peer {
        reason: DONE.into(),
    }
}

/// Everything came, and both ends say so.
fn nothing_happened(run: &Run) {
    let client = run.client.as_ref().expect("it connects");
    let server = run.server.as_ref().expect("a session");
    client.heard.check("re: ");
    server.check("");
    assert!(client.heard.is_whole() && server.is_whole());
    assert_eq!(client.heard.fates, [Ok(())]);
    assert_eq!(server.fates, [Ok(())]);
    let reported = (client.flushed, client.lost, client.undelivered);
    assert_eq!(reported, (0, 0, 0));
    assert_eq!(client.queued, TEXTS.len() as u64 + 1);
    assert_eq!(client.heard.ends, [done_here()]);
    assert_eq!(server.ends, [done_there()]);
}

fn is_harmless(_: Fault, run: &Run, _: Side) {
    nothing_happened(run);
}

/// What must be so, however a connection was cut off.
fn is_consistent(run: &Run) {
    let Ok(client) = &run.client else {
        // The server may have been further: it does not wait for an answer to its proof.
        if let Some(server) = &run.server {
            assert!(server.texts.is_empty() && server.large.is_empty());
            assert_eq!(server.ends.len(), 1);
        }
        return;
    };
    client.heard.check("re: ");
    let server = run.server.as_ref().expect("a session on both ends");
    server.check("");
    assert_eq!((client.heard.ends.len(), server.ends.len()), (1, 1));
    // An end that calls it clean had everything.
    let clean = client.heard.ends == [done_here()];
    assert!(!clean || client.heard.is_whole() && client.lost == 0);
    assert!(server.ends != [done_there()] || clean && server.is_whole());

    // What the socket had taken may have arrived or not; what is reported as lost has not.
    let arrived = (server.texts.len() + whole(&server.large)) as u64;
    assert!(arrived + client.lost <= client.queued, "{client:?}");
    assert_eq!(client.flushed, client.lost + client.undelivered);
    // A stream that is said to be taken whole is so on the other end.
    for fate in &client.heard.fates {
        assert!(fate.is_err() || whole(&server.streams) == 1);
    }
    for fate in &server.fates {
        assert!(fate.is_err() || whole(&client.heard.streams) == 1);
    }
}

/// The reasons of both ends: that of the faulty one first. Those are left out that need no fault:
/// the goodbye was under way, or the client was still in its handshake, where a cut says nothing
/// about the line (PROTOCOL.md §7).
fn reasons(run: &Run, side: Side) -> (Option<&CloseReason>, Option<&CloseReason>) {
    let client = match &run.client {
        Ok(seen) => seen.heard.ends.first(),
        Err(reason) => Some(reason),
    };
    let server = run.server.as_ref().and_then(|heard| heard.ends.first());
    let client = client.filter(|it| **it != done_here() && **it != CloseReason::Unproven);
    let server = server.filter(|it| **it != done_there());
    match side {
        Side::Client => (client, server),
        Side::Server => (server, client),
    }
}

/// The end whose socket failed says how; the other one that the stream ended.
fn is_cut_off(fault: Fault, run: &Run, side: Side) {
    is_consistent(run);
    let struck = run.plan.struck();
    let eof = |reason: &CloseReason| matches!(reason, CloseReason::Eof { .. });
    let (faulty, other) = reasons(run, side);
    if let Some(reason) = faulty {
        let failed = CloseReason::Transport { error: TEXT.into() };
        let is_true = match fault {
            Fault::Eof => eof(reason),
            // After an error of a write, what is left is read to its end.
            Fault::Reset(_) if struck == Some(Operation::Write) => *reason == failed || eof(reason),
            _ => *reason == failed,
        };
        assert!(is_true, "{fault:?} at {struck:?}, {side:?}: {reason}");
    }
    if let Some(reason) = other {
        let is_true = eof(reason) || matches!(reason, CloseReason::Transport { .. });
        assert!(is_true, "the other of {fault:?}, {side:?}: {reason}");
    }
}

/// The end whose socket takes nothing notices it when it has had its time.
fn is_let_go(_: Fault, run: &Run, side: Side) {
    is_consistent(run);
    let late = |reason: &CloseReason| matches!(reason, CloseReason::Timeout(_));
    let (faulty, other) = reasons(run, side);
    if let Some(reason) = faulty {
        assert!(late(reason), "{side:?}: {reason}");
    }
    if let Some(reason) = other {
        let is_true = match reason {
            CloseReason::Eof { .. } | CloseReason::Transport { .. } => true,
            reason => late(reason),
        };
        assert!(is_true, "the other of {side:?}: {reason}");
    }
}

/// Fewer bytes than there could be, and waking for nothing, change nothing at all.
pub async fn harmless_faults_change_nothing<A: Adapter>(world: World<A>) {
    let faults = [
        Fault::Short(1),
        Fault::Short(50),
        Fault::Woken(1),
        Fault::Woken(5),
    ];
    world.everywhere(&faults, is_harmless).await;
}

/// Reading that fails ends the connection, at once.
pub async fn an_error_at_any_operation_ends_one_connection<A: Adapter>(world: World<A>) {
    let kinds = [
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
        ErrorKind::TimedOut,
        ErrorKind::Interrupted,
        ErrorKind::Other,
    ];
    world.everywhere(&kinds.map(Fault::Error), is_cut_off).await;
}

/// A socket that is gone is noticed, whatever was asked of it.
pub async fn a_reset_at_any_operation_is_noticed_by_both_ends<A: Adapter>(world: World<A>) {
    let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    world.everywhere(&kinds.map(Fault::Reset), is_cut_off).await;
}

/// So is a stream that ends.
pub async fn the_end_of_the_stream_at_any_operation_is_noticed<A: Adapter>(world: World<A>) {
    world.everywhere(&[Fault::Eof], is_cut_off).await;
}

/// Nobody waits for ever on a socket that takes nothing more and says nothing else.
pub async fn a_socket_that_takes_no_more_is_let_go_in_time<A: Adapter>(world: World<A>) {
    let config = config()
        .handshake_timeout(Duration::from_secs(1))
        .stall_timeout(Some(Duration::from_millis(300)))
        .close_timeout(Duration::from_millis(300));
    let faults = [None, Some(ErrorKind::Other)].map(Fault::Unwritable);
    let every = [Side::Client, Side::Server].map(|side| faults.map(|fault| (side, fault)));
    let tests = every
        .as_flattened()
        .iter()
        .map(|(side, fault)| world.at_every_operation(*side, *fault, &config, is_let_go));
    for count in together(tests).await {
        assert!(count >= 3, "only {count} faults");
    }
}

/// Errors of single connections do not stop a listener; without descriptors it tries again after a
/// while.
pub async fn accepting_goes_on_after_errors<A: Adapter>(world: World<A>) {
    let mut cases = Vec::new();
    for errno in [Errno::CONNABORTED, Errno::CONNRESET, Errno::INTR] {
        cases.extend([(errno, 1, 0), (errno, 20, 0)]);
    }
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
        cases.extend([(errno, 1, 50), (errno, 2, 50 + 100)]);
    }
    let world = &world;
    let tests = cases.iter().flat_map(|(errno, times, pauses)| {
        (0..CLIENTS).map(move |first| {
            let (times, errno) = (*times, errno.raw_os_error());
            let pauses = Duration::from_millis(*pauses);
            accept_in_spite_of(world, first, Fails { times, errno }, pauses)
        })
    });
    let all = together(tests);
    world.in_time("accepting".into(), all).await;
}

const CLIENTS: u32 = 3;

async fn accept_in_spite_of<A: Adapter>(
    world: &World<A>,
    first: u32,
    fails: Fails,
    pauses: Duration,
) {
    let start = Instant::now();
    let plan = Plan::accepting(first, fails);
    let runtime = Faulty::new(world.runtime.clone(), &plan);
    let server = ServerBuilder::with_runtime(runtime, Talk::default());
    let server = server.listen(world.another_endpoint());
    let server = server.bind().await.expect("it listens");
    for _ in 0..CLIENTS {
        world.serves(&server).await;
    }
    // Each client once, each failure once, and one that waits.
    let accepts = || plan.accepts() == CLIENTS + fails.times + 1;
    world.until("the next", accepts).await;
    assert!(start.elapsed() >= pauses, "it does not wait");
    let longest = pauses + Duration::from_secs(10);
    assert!(start.elapsed() < longest, "it waits too long");
    assert_eq!(server.stats().accepted, u64::from(CLIENTS));
    server.stop().await;
}

/// A server that cannot accept anything can still be stopped, at once.
pub async fn a_listener_that_fails_can_be_stopped<A: Adapter>(world: World<A>) {
    let fails = Fails {
        times: u32::MAX,
        errno: Errno::MFILE.raw_os_error(),
    };
    let plan = Plan::accepting(0, fails);
    let runtime = Faulty::new(world.runtime.clone(), &plan);
    let server = ServerBuilder::with_runtime(runtime, Talk::default());
    let server = server.listen(world.endpoint()).bind().await;
    let server = server.expect("it listens");
    // From now on it waits for 0.8 s and more.
    world.until("attempts", || plan.accepts() == 5).await;
    let start = Instant::now();
    server.stop().await;
    assert!(start.elapsed() < Duration::from_millis(500));
}

/// What is given up when a close has had its time is in both reports.
pub async fn what_a_close_gives_up_is_counted<A: Adapter>(world: World<A>) {
    const COUNT: u64 = 300;
    let listener = RawListener::bind(&world);
    let endpoint = listener.endpoint();
    let (leave, told) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let mut raw = listener.accept();
        raw.offer(Uuid::from_u128(7));
        told.recv().unwrap();
    });
    let config = Config::default()
        .close_timeout(Duration::from_millis(100))
        .min_rate(u32::MAX);
    let builder = world.client().config(config).max_outbox(usize::MAX);
    let client = builder.connect(endpoint).await.unwrap();
    // More than any socket takes.
    for _ in 0..COUNT {
        client.try_send(Message::binary(vec![4; 100_000])).unwrap();
    }
    let reason = client.close("enough").await;
    assert!(matches!(reason, CloseReason::Local { .. }), "{reason}");
    leave.send(()).unwrap();
    server.join().unwrap();
    let flushed = flushed(&client).await;
    assert!(0 < flushed && flushed < COUNT, "{flushed}");
    let Some(ClientEvent::Disconnected { lost, .. }) = client.recv().await else {
        panic!("the end comes last");
    };
    assert_eq!(lost, flushed);
}
