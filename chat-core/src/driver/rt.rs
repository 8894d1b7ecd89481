//! What the driver needs from a runtime.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll};

use super::Peer;
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
