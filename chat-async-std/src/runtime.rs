//! What the driver needs, from async-std.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_std::net::{TcpListener, TcpStream, ToSocketAddrs};
use async_std::os::unix::net::{UnixListener, UnixStream};
use async_std::task;
use chat_core::Instant;
use chat_core::driver::futures_io::FuturesIo;
use chat_core::driver::rt::{Clock, Listener, Runtime, Sleep};
use chat_core::driver::{Peer, UnixCredentials};

/// The async-std runtime, as the driver sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStd(Clock);

impl Runtime for AsyncStd {
    type TcpStream = FuturesIo<TcpStream>;
    type UnixStream = FuturesIo<UnixStream>;
    type TcpListener = TcpAccept;
    type UnixListener = UnixAccept;
    type Sleep = Alarm;

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep(&self) -> Alarm {
        Alarm {
            clock: self.0,
            deadline: None,
            sleep: Box::pin(std::future::pending()),
        }
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        // Dropping the handle detaches the task.
        drop(task::spawn(future));
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(host.to_socket_addrs().await?.collect())
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<FuturesIo<TcpStream>> {
        TcpStream::connect(address).await.map(tcp)
    }

    async fn connect_unix(&self, path: &Path) -> io::Result<FuturesIo<UnixStream>> {
        UnixStream::connect(path).await.map(unix)
    }

    fn unix_peer(&self, stream: &FuturesIo<UnixStream>) -> Option<UnixCredentials> {
        UnixCredentials::of(stream.get_ref()).ok()
    }

    fn tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<TcpAccept> {
        Ok(TcpAccept(listener.into()))
    }

    fn unix_listener(&self, listener: std::os::unix::net::UnixListener) -> io::Result<UnixAccept> {
        Ok(UnixAccept(listener.into()))
    }
}

fn tcp(stream: TcpStream) -> FuturesIo<TcpStream> {
    // Fails only where the connection is gone already, and reading will tell.
    let _ = stream.set_nodelay(true);
    FuturesIo::new(stream, TcpStream::shutdown)
}

/// async-std's Unix stream does not pass vectored writes on.
fn unix(stream: UnixStream) -> FuturesIo<UnixStream> {
    FuturesIo::gathering(stream, UnixStream::shutdown)
}

/// A listening TCP socket.
pub struct TcpAccept(TcpListener);

impl Listener for TcpAccept {
    type Stream = FuturesIo<TcpStream>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, address) = self.0.accept().await?;
        Ok((tcp(stream), Peer::Tcp(address)))
    }
}

/// A listening Unix socket.
pub struct UnixAccept(UnixListener);

impl Listener for UnixAccept {
    type Stream = FuturesIo<UnixStream>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, _) = self.0.accept().await?;
        let peer = Peer::unix(&stream);
        Ok((unix(stream), peer))
    }
}

/// A timer.
pub struct Alarm {
    clock: Clock,
    deadline: Option<Instant>,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Sleep for Alarm {
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if self.deadline.replace(deadline) != Some(deadline) {
            // async-std's timer cannot be set again.
            self.sleep = Box::pin(task::sleep(deadline - self.clock.now()));
        }
        let fired = self.sleep.as_mut().poll(cx);
        if fired.is_ready() {
            // Nor asked again.
            self.deadline = None;
        }
        fired
    }
}
