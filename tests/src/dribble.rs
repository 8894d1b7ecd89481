//! A runtime whose sockets move one byte at a time.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::task::{Context, Poll, ready};

use chat_core::Instant;
use chat_core::driver::Peer;
use chat_core::driver::rt::{Listener, Runtime, Stream};

/// Another runtime, but each read and each write moves a single byte, and every other call is not
/// ready yet.
#[derive(Clone)]
pub struct Dribble<R>(R);

impl<R> Dribble<R> {
    /// Slows a runtime's sockets down.
    pub fn new(runtime: R) -> Self {
        Self(runtime)
    }
}

/// A socket, or a listener for such sockets.
pub struct OneByte<S> {
    inner: S,
    reading: Toggle,
    writing: Toggle,
}

/// Ready at every other call.
#[derive(Default)]
struct Toggle(bool);

impl Toggle {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.0 = !self.0;
        if !self.0 {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S> OneByte<S> {
    fn new(inner: S) -> Self {
        Self {
            inner,
            reading: Toggle::default(),
            writing: Toggle::default(),
        }
    }
}

impl<S: Stream> Stream for OneByte<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.reading.poll(cx));
        self.inner.poll_read(cx, &mut buffer[..1])
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.writing.poll(cx));
        let first = slices.iter().find(|slice| !slice.is_empty());
        let byte = first.map_or(&[][..], |slice| &slice[..1]);
        self.inner.poll_write(cx, &[IoSlice::new(byte)])
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }
}

impl<L: Listener> Listener for OneByte<L> {
    type Stream = OneByte<L::Stream>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, peer) = self.inner.accept().await?;
        Ok((OneByte::new(stream), peer))
    }
}

impl<R: Runtime> Runtime for Dribble<R> {
    type TcpStream = OneByte<R::TcpStream>;
    type UnixStream = OneByte<R::UnixStream>;
    type TcpListener = OneByte<R::TcpListener>;
    type UnixListener = OneByte<R::UnixListener>;
    type Sleep = R::Sleep;

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep(&self) -> R::Sleep {
        self.0.sleep()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(future);
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        self.0.resolve(host).await
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<Self::TcpStream> {
        self.0.connect_tcp(address).await.map(OneByte::new)
    }

    async fn connect_unix(&self, path: &Path) -> io::Result<Self::UnixStream> {
        self.0.connect_unix(path).await.map(OneByte::new)
    }

    fn tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Self::TcpListener> {
        self.0.tcp_listener(listener).map(OneByte::new)
    }

    fn unix_listener(
        &self,
        listener: std::os::unix::net::UnixListener,
    ) -> io::Result<Self::UnixListener> {
        self.0.unix_listener(listener).map(OneByte::new)
    }
}
