//! A runtime whose connections fail at an operation of one's choice.
//!
//! [`Faulty`] wraps another runtime, and counts what is asked of its first connection: every call
//! that reads, writes or ends a direction. One of these calls, by its number, goes wrong. Later
//! connections are as they should be.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use chat_core::Instant;
use chat_core::driver::Peer;
use chat_core::driver::rt::{Listener, Runtime, Stream};

use crate::conformance::cancel::let_others_run;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One byte is read, or written; so many times in a row.
    Short(u32),
    /// The task is woken for nothing, so many times in a row.
    Woken(u32),
    /// Reading fails, or ending a direction. The socket is as it was.
    Error(ErrorKind),
    /// Writing fails, or takes nothing. The socket is as it was.
    Unwritable(Option<ErrorKind>),
    /// The socket under it is closed. As on Linux the first call says so; from then on there is
    /// nothing to read, and writing fails.
    Reset(ErrorKind),
    /// The peer's direction ends here.
    Eof,
}

/// What is asked of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `poll_read`
    Read,
    /// `poll_write`
    Write,
    /// `poll_shutdown`
    Shutdown,
}

impl Fault {
    /// A fault that does not fit waits for an operation that it can happen to.
    fn fits(self, operation: Operation) -> bool {
        match self {
            Self::Short(_) => operation != Operation::Shutdown,
            Self::Woken(_) | Self::Reset(_) => true,
            Self::Error(_) => operation != Operation::Write,
            Self::Unwritable(_) => operation == Operation::Write,
            Self::Eof => operation == Operation::Read,
        }
    }

    fn times(self) -> u32 {
        match self {
            Self::Short(times) | Self::Woken(times) => times,
            _ => 1,
        }
    }
}

/// The text of every error of a connection that is made here.
pub const TEXT: &str = "a fault on purpose";

fn error(kind: ErrorKind) -> io::Error {
    io::Error::new(kind, TEXT)
}

/// What is to happen, and what has.
#[derive(Debug, Default)]
pub struct Plan {
    fault: Option<(u32, Fault)>,
    /// Calls of `accept` that fail: with the number of the first.
    accepting: Option<(u32, Fails)>,
    accepts: AtomicU32,
    connections: AtomicU32,
    progress: Mutex<Progress>,
}

/// How `accept` fails.
#[derive(Clone, Copy, Debug)]
pub struct Fails {
    /// So many times in a row.
    pub times: u32,
    /// With this, of the system's errors.
    pub errno: i32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    operations: u32,
    struck: u32,
    at: Option<Operation>,
}

impl Plan {
    /// Nothing goes wrong.
    pub fn none() -> Arc<Self> {
        Arc::default()
    }

    /// This goes wrong at operation `number` of the first connection, or at the first after it that
    /// it fits.
    pub fn new(number: u32, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            fault: Some((number, fault)),
            ..Self::default()
        })
    }

    /// Accepting goes wrong, from call `number` on.
    pub fn accepting(number: u32, fails: Fails) -> Arc<Self> {
        Arc::new(Self {
            accepting: Some((number, fails)),
            ..Self::default()
        })
    }

    /// How many operations the first connection has seen.
    pub fn operations(&self) -> u32 {
        self.lock().operations
    }

    /// What the fault happened to, if it did.
    pub fn struck(&self) -> Option<Operation> {
        self.lock().at
    }

    /// How many times something was to be accepted.
    pub fn accepts(&self) -> u32 {
        self.accepts.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation; says what goes wrong with it.
    fn strike(&self, operation: Operation) -> Option<Fault> {
        let mut progress = self.lock();
        let number = progress.operations;
        progress.operations += 1;
        let (first, fault) = self.fault?;
        if number < first || progress.struck >= fault.times() || !fault.fits(operation) {
            return None;
        }
        progress.struck += 1;
        progress.at.get_or_insert(operation);
        Some(fault)
    }

    fn wrap<S>(self: &Arc<Self>, stream: S) -> FaultyStream<S> {
        let is_first = self.connections.fetch_add(1, Ordering::SeqCst) == 0;
        FaultyStream {
            inner: Some(stream),
            plan: is_first.then(|| Arc::clone(self)),
            ended: false,
        }
    }
}

/// Another runtime, with faults.
#[derive(Clone, Debug)]
pub struct Faulty<R> {
    inner: R,
    plan: Arc<Plan>,
}

impl<R> Faulty<R> {
    /// A runtime that keeps to a plan.
    pub fn new(inner: R, plan: &Arc<Plan>) -> Self {
        let plan = Arc::clone(plan);
        Self { inner, plan }
    }
}

impl<R: Runtime> Runtime for Faulty<R> {
    type TcpStream = FaultyStream<R::TcpStream>;
    type UnixStream = FaultyStream<R::UnixStream>;
    type TcpListener = FaultyListener<R::TcpListener>;
    type UnixListener = FaultyListener<R::UnixListener>;
    type Sleep = R::Sleep;

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn sleep(&self) -> R::Sleep {
        self.inner.sleep()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.inner.spawn(future);
    }

    /// Not at once, also where the other runtime is so fast.
    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let_others_run().await;
        self.inner.resolve(host).await
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<Self::TcpStream> {
        let stream = self.inner.connect_tcp(address).await?;
        Ok(self.plan.wrap(stream))
    }

    async fn connect_unix(&self, path: &Path) -> io::Result<Self::UnixStream> {
        let stream = self.inner.connect_unix(path).await?;
        Ok(self.plan.wrap(stream))
    }

    fn tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Self::TcpListener> {
        let inner = self.inner.tcp_listener(listener)?;
        let plan = Arc::clone(&self.plan);
        Ok(FaultyListener { inner, plan })
    }

    fn unix_listener(
        &self,
        listener: std::os::unix::net::UnixListener,
    ) -> io::Result<Self::UnixListener> {
        let inner = self.inner.unix_listener(listener)?;
        let plan = Arc::clone(&self.plan);
        Ok(FaultyListener { inner, plan })
    }
}

/// A listener whose connections are counted, and that may fail itself.
pub struct FaultyListener<L> {
    inner: L,
    plan: Arc<Plan>,
}

impl<L: Listener> Listener for FaultyListener<L> {
    type Stream = FaultyStream<L::Stream>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let number = self.plan.accepts.fetch_add(1, Ordering::SeqCst);
        if let Some((first, fails)) = self.plan.accepting
            && number >= first
            && number - first < fails.times
        {
            return Err(io::Error::from_raw_os_error(fails.errno));
        }
        let (stream, peer) = self.inner.accept().await?;
        Ok((self.plan.wrap(stream), peer))
    }
}

/// A stream whose operations are counted.
pub struct FaultyStream<S> {
    /// `None` once it was reset.
    inner: Option<S>,
    /// `None` where nothing goes wrong.
    plan: Option<Arc<Plan>>,
    /// The peer's direction has ended, as far as this side sees.
    ended: bool,
}

/// What is left of an operation.
enum Left<T> {
    /// The socket is asked, for no more than one byte if that is set.
    Ask { short: bool },
    /// This is the answer.
    Answer(Poll<io::Result<T>>),
}

impl<S> FaultyStream<S> {
    fn begin<T>(&mut self, cx: &Context<'_>, operation: Operation, nothing: T) -> Left<T> {
        let is_read = operation == Operation::Read;
        let fault = self.plan.as_ref().and_then(|it| it.strike(operation));
        let answer = match fault {
            None if is_read && (self.ended || self.inner.is_none()) => Ok(nothing),
            None if self.inner.is_none() => Err(error(ErrorKind::BrokenPipe)),
            None => return Left::Ask { short: false },
            Some(Fault::Short(_)) => return Left::Ask { short: true },
            Some(Fault::Woken(_)) => {
                cx.waker().wake_by_ref();
                return Left::Answer(Poll::Pending);
            }
            Some(Fault::Error(kind) | Fault::Unwritable(Some(kind))) => Err(error(kind)),
            Some(Fault::Unwritable(None)) => Ok(nothing),
            Some(Fault::Reset(kind)) => {
                self.inner = None;
                Err(error(kind))
            }
            Some(Fault::Eof) => {
                self.ended = true;
                Ok(nothing)
            }
        };
        Left::Answer(Poll::Ready(answer))
    }
}

/// The first byte of several slices.
fn first_byte<'s>(slices: &'s [IoSlice<'_>]) -> &'s [u8] {
    let slice = slices.iter().find(|slice| !slice.is_empty());
    slice.map_or(&[], |slice| &slice[..1])
}

impl<S: Stream> Stream for FaultyStream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let short = match self.begin(cx, Operation::Read, 0) {
            Left::Answer(answer) => return answer,
            Left::Ask { short } => short,
        };
        let len = if short { 1 } else { buffer.len() };
        match &mut self.inner {
            Some(inner) => inner.poll_read(cx, &mut buffer[..len]),
            None => Poll::Ready(Ok(0)),
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let short = match self.begin(cx, Operation::Write, 0) {
            Left::Answer(answer) => return answer,
            Left::Ask { short } => short,
        };
        match &mut self.inner {
            Some(inner) if short => inner.poll_write(cx, &[IoSlice::new(first_byte(slices))]),
            Some(inner) => inner.poll_write(cx, slices),
            None => Poll::Ready(Err(error(ErrorKind::BrokenPipe))),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.begin(cx, Operation::Shutdown, ()) {
            Left::Answer(answer) => answer,
            Left::Ask { .. } => match &mut self.inner {
                Some(inner) => inner.poll_shutdown(cx),
                None => Poll::Ready(Err(error(ErrorKind::BrokenPipe))),
            },
        }
    }
}
