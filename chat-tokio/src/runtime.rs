//! What the driver needs, from tokio.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chat_core::Instant;
use chat_core::driver::rt::{Listener, Runtime, Sleep, Stream};
use chat_core::driver::{Peer, UnixCredentials};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The tokio runtime of the current task, as the driver sees it.
#[derive(Clone, Copy, Debug)]
pub struct Tokio {
    epoch: tokio::time::Instant,
}

impl Default for Tokio {
    /// The runtime; its clock begins now. What it does must happen inside tokio.
    fn default() -> Self {
        Self {
            epoch: tokio::time::Instant::now(),
        }
    }
}

impl Runtime for Tokio {
    type TcpStream = Io<TcpStream>;
    type UnixStream = Io<UnixStream>;
    type TcpListener = TcpAccept;
    type UnixListener = UnixAccept;
    type Sleep = Alarm;

    fn now(&self) -> Instant {
        Instant::EPOCH + self.epoch.elapsed()
    }

    fn sleep(&self) -> Alarm {
        Alarm {
            epoch: self.epoch,
            sleep: None,
        }
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(future);
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host(host).await?.collect())
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<Io<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Io(stream))
    }

    async fn connect_unix(&self, path: &Path) -> io::Result<Io<UnixStream>> {
        UnixStream::connect(path).await.map(Io)
    }

    fn unix_peer(&self, stream: &Io<UnixStream>) -> Option<UnixCredentials> {
        UnixCredentials::of(&stream.0).ok()
    }

    fn tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<TcpAccept> {
        TcpListener::from_std(listener).map(TcpAccept)
    }

    fn unix_listener(&self, listener: std::os::unix::net::UnixListener) -> io::Result<UnixAccept> {
        UnixListener::from_std(listener).map(UnixAccept)
    }
}

/// A tokio stream. Its `poll_shutdown` is a real half-close, and its writes are vectored.
pub struct Io<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for Io<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A listening TCP socket.
pub struct TcpAccept(TcpListener);

impl Listener for TcpAccept {
    type Stream = Io<TcpStream>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, address) = self.0.accept().await?;
        // Fails only where the connection is gone already, and reading will tell.
        let _ = stream.set_nodelay(true);
        Ok((Io(stream), Peer::Tcp(address)))
    }
}

/// A listening Unix socket.
pub struct UnixAccept(UnixListener);

impl Listener for UnixAccept {
    type Stream = Io<UnixStream>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = self.0.accept().await?;
        let peer = Peer::unix(&stream);
        Ok((Io(stream), peer))
    }
}

/// A timer.
pub struct Alarm {
    epoch: tokio::time::Instant,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Sleep for Alarm {
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let at = self.epoch + Duration::from_nanos(deadline.as_nanos());
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx)
    }
}
