//! How to write an adapter: what the driver needs from a runtime.
//!
//! An adapter implements [`Runtime`] for a type of its own, with the streams, listeners and timers
//! of its runtime under it; re-exports [`prelude`](super::prelude); and names the builders:
//!
//! ```text
//! pub use chat_core::driver::prelude::*;
//!
//! pub type ServerBuilder<H> = chat_core::driver::ServerBuilder<MyRuntime, H>;
//! pub type ClientBuilder = chat_core::driver::ClientBuilder<MyRuntime>;
//! ```
//!
//! That is all: the loop, the server, the client and the sessions are the driver's. If the runtime's
//! streams implement the traits of `futures-io`,
//! [`FuturesIo`](super::futures_io::FuturesIo) makes them a [`Stream`]. The crates `chat-tokio` and `chat-smol` are examples of the two ways.
//!
//! # What each method has to keep
//!
//! | method | contract |
//! |---|---|
//! | [`Runtime::now`] | never runs backwards; the clock that [`Sleep`] goes by; cheap, for it is read at every turn of every connection |
//! | [`Runtime::fill_random`] | there already; a simulation may bring its own |
//! | [`Runtime::spawn`] | runs the future to its end though nobody holds a handle to it; a panic in it stays in it |
//! | [`Runtime::resolve`] | names and literals, with a port; does not block the executor; an error, not a panic, for nonsense |
//! | [`Runtime::connect_tcp`], [`Runtime::connect_unix`] | dropping the future gives the attempt up; `TCP_NODELAY` is set |
//! | [`Runtime::unix_peer`] | what [`UnixCredentials::of`] says of the stream's socket |
//! | [`Runtime::tcp_listener`], [`Runtime::unix_listener`] | take over a socket that is bound, listening and non-blocking already |
//! | [`Listener::accept`] | cancel-safe; an error says whether the next call may succeed, by its kind: a connection that was reset before it was accepted is no error of the listener; `TCP_NODELAY` is set |
//! | [`Stream::poll_read`] | 0 is the end; after an error it may be called again |
//! | [`Stream::poll_write`] | one system call for all slices where there is one (peers that negotiated nothing want a frame in one write, PROTOCOL.md §6); may take less than all |
//! | [`Stream::poll_shutdown`] | a real half-close, which the peer reads as the end while it still can write: `shutdown(SHUT_WR)`. A method called `close` often only flushes |
//! | dropping a [`Stream`] | closes the socket |
//! | [`Sleep::poll_until`] | ready at or after the deadline, never before; the deadline may change with each call, and stay the same after it was ready: then it is ready again |
//!
//! Every `poll_*` that returns `Pending` has arranged for the task to be woken. One task polls
//! reading, writing and the timer of a connection, so each needs a waker of its own.
//!
//! # How to test one
//!
//! The member `tests` of the repository has a conformance suite, generic over an adapter, which runs
//! on TCP and on Unix sockets: `chat_tests::conformance` says how to instantiate it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Peer, UnixCredentials, entropy};
use crate::Instant;

/// An asynchronous runtime: clock, timers, tasks and sockets.
///
/// This is all that an adapter implements. A clone is another handle to the same runtime.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// A connected TCP socket.
    type TcpStream: Stream;
    /// A connected Unix socket.
    type UnixStream: Stream;
    /// A listening TCP socket.
    type TcpListener: Listener<Stream = Self::TcpStream>;
    /// A listening Unix socket.
    type UnixListener: Listener<Stream = Self::UnixStream>;
    /// A timer.
    type Sleep: Sleep;

    /// The time. Must not run backwards, and must be the one that [`Sleep`] goes by.
    fn now(&self) -> Instant;

    /// A timer that is not set.
    fn sleep(&self) -> Self::Sleep;

    /// Fills a buffer with random bytes that nobody can foresee: for session ids, nonces and the jitter
    /// of reconnects.
    ///
    /// By default the operating system gives them. Only a simulation that is to be repeated brings its
    /// own: whoever knows these bytes can replay what was said.
    ///
    /// # Panics
    ///
    /// If the operating system has none to give: no session could be told from another.
    fn fill_random(&self, buffer: &mut [u8]) {
        entropy::fill(buffer);
    }

    /// Runs a future to its end in the background.
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static);

    /// The addresses of `host:port`, a name or a literal, in the order in which to try them.
    fn resolve(&self, host: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Connects to a TCP address. The stream must have `TCP_NODELAY` set: frames go out when they
    /// are ready.
    fn connect_tcp(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send;

    /// Connects to a Unix socket.
    fn connect_unix(
        &self,
        path: &Path,
    ) -> impl Future<Output = io::Result<Self::UnixStream>> + Send;

    /// Who listens at the other end of a Unix socket that [`connect_unix`](Self::connect_unix) gave:
    /// what [`UnixCredentials::of`] says. By default nobody knows, and then the channel is not
    /// [trusted](crate::Config::trust_channel).
    fn unix_peer(&self, _stream: &Self::UnixStream) -> Option<UnixCredentials> {
        None
    }

    /// Takes over a listening socket, which is non-blocking already.
    fn tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Self::TcpListener>;

    /// Takes over a listening socket, which is non-blocking already.
    fn unix_listener(
        &self,
        listener: std::os::unix::net::UnixListener,
    ) -> io::Result<Self::UnixListener>;
}

/// A connected socket, in both directions.
///
/// Where a method returns `Poll::Pending` the task must be woken when it is worth calling again;
/// reading and writing may wait at the same time, in the same task.
pub trait Stream: Send + 'static {
    /// Reads into `buffer`; 0 bytes mean that the peer's direction has ended.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes what the socket takes of `slices`, in order, with one system call where it can.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Ends this direction for real: the peer reads the end of the stream, and can still write.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A listening socket.
pub trait Listener: Send + 'static {
    /// What it accepts.
    type Stream;

    /// Accepts a connection. A TCP stream must have `TCP_NODELAY` set.
    ///
    /// Cancel safety: no connection may be lost if the future is dropped before it is ready.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

/// A timer.
pub trait Sleep: Send + 'static {
    /// Ready once the runtime's clock has reached `deadline`. Each call may name another deadline;
    /// the last one counts.
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()>;
}

/// The clock of the standard library, for runtimes that have no other.
#[derive(Clone, Copy, Debug)]
pub struct Clock(std::time::Instant);

impl Default for Clock {
    /// A clock that begins now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the driver is what brings time to the core"
    )]
    fn default() -> Self {
        Self(std::time::Instant::now())
    }
}

impl Clock {
    /// The time since it began.
    pub fn now(&self) -> Instant {
        Instant::EPOCH + self.0.elapsed()
    }

    /// A time of this clock as the standard library has it.
    pub fn at(&self, time: Instant) -> std::time::Instant {
        self.0 + Duration::from_nanos(time.as_nanos())
    }
}

/// A socket of either kind: what the driver works on.
pub(super) enum Socket<R: Runtime> {
    Tcp(R::TcpStream),
    Unix(R::UnixStream),
}

impl<R: Runtime> Stream for Socket<R> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => stream.poll_read(cx, buffer),
            Self::Unix(stream) => stream.poll_read(cx, buffer),
        }
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => stream.poll_write(cx, slices),
            Self::Unix(stream) => stream.poll_write(cx, slices),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_shutdown(cx),
            Self::Unix(stream) => stream.poll_shutdown(cx),
        }
    }
}
