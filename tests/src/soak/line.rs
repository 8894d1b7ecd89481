//! Tokio with lines of one's own: from a chosen address, cut off without a word, narrow.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chat_core::Instant;
use chat_core::driver::rt::{Listener, Runtime, Stream};
use chat_core::driver::{Peer, UnixCredentials};
use chat_tokio::Tokio;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::AbortHandle;

/// The line of one client. A clone is the same line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    tokio: Tokio,
    source: Ipv4Addr,
    receive_buffer: Option<u32>,
    abrupt: bool,
    task: Arc<Mutex<Option<AbortHandle>>>,
}

impl Line {
    /// A line from this address.
    pub(super) fn from(source: Ipv4Addr) -> Self {
        Self {
            tokio: Tokio::default(),
            source,
            receive_buffer: None,
            abrupt: false,
            task: Arc::default(),
        }
    }

    /// The system keeps little of what is not read.
    #[must_use]
    pub(super) fn narrow(mut self) -> Self {
        self.receive_buffer = Some(8 * 1024);
        self
    }

    /// It ends with a reset, whatever is on its way.
    #[must_use]
    pub(super) fn abrupt(mut self) -> Self {
        self.abrupt = true;
        self
    }

    /// Ends it as if the client had died.
    pub(super) fn cut(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &*task {
            task.abort();
        }
    }

    /// Connects, for whoever speaks no frames.
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(self.source), 0))?;
        if let Some(size) = self.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        if self.abrupt {
            stream.set_zero_linger()?;
        }
        Ok(stream)
    }
}

impl Runtime for Line {
    type TcpStream = Tcp;
    type UnixStream = <Tokio as Runtime>::UnixStream;
    type TcpListener = Nobody;
    type UnixListener = <Tokio as Runtime>::UnixListener;
    type Sleep = <Tokio as Runtime>::Sleep;

    fn now(&self) -> Instant {
        self.tokio.now()
    }

    fn sleep(&self) -> Self::Sleep {
        self.tokio.sleep()
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(future).abort_handle();
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        self.tokio.resolve(host).await
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<Tcp> {
        self.connect(address).await.map(Tcp)
    }

    async fn connect_unix(&self, path: &Path) -> io::Result<Self::UnixStream> {
        self.tokio.connect_unix(path).await
    }

    fn unix_peer(&self, stream: &Self::UnixStream) -> Option<UnixCredentials> {
        self.tokio.unix_peer(stream)
    }

    fn tcp_listener(&self, _: std::net::TcpListener) -> io::Result<Nobody> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unix_listener(
        &self,
        listener: std::os::unix::net::UnixListener,
    ) -> io::Result<Self::UnixListener> {
        self.tokio.unix_listener(listener)
    }
}

/// A TCP stream of tokio.
pub(super) struct Tcp(TcpStream);

impl Stream for Tcp {
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

/// A listener to which nobody comes: lines are for clients.
pub(super) struct Nobody;

impl Listener for Nobody {
    type Stream = Tcp;

    async fn accept(&mut self) -> io::Result<(Tcp, Peer)> {
        std::future::pending().await
    }
}

/// How long connecting may take on a machine that is busy with thousands of others.
pub(super) const CONNECT: Duration = Duration::from_secs(30);
