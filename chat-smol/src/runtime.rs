//! What the driver needs, from smol.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use chat_core::Instant;
use chat_core::driver::futures_io::FuturesIo;
use chat_core::driver::rt::{Clock, Listener, Runtime, Sleep};
use chat_core::driver::{Peer, UnixCredentials};
use smol::{Async, Timer};

/// The smol runtime, as the driver sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Smol(Clock);

// The sockets of the standard library under `Async`, and not those of `smol::net`: that one's
// `UnixStream` does not pass vectored writes on.
impl Runtime for Smol {
    type TcpStream = FuturesIo<Async<TcpStream>>;
    type UnixStream = FuturesIo<Async<UnixStream>>;
    type TcpListener = Accept<TcpListener>;
    type UnixListener = Accept<UnixListener>;
    type Sleep = Alarm;

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn sleep(&self) -> Alarm {
        Alarm {
            clock: self.0,
            deadline: None,
            timer: Timer::never(),
        }
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(future).detach();
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        smol::net::resolve(host).await
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<Self::TcpStream> {
        Async::<TcpStream>::connect(address).await.map(tcp)
    }

    async fn connect_unix(&self, path: &Path) -> io::Result<Self::UnixStream> {
        Async::<UnixStream>::connect(path).await.map(unix)
    }

    fn unix_peer(&self, stream: &Self::UnixStream) -> Option<UnixCredentials> {
        UnixCredentials::of(stream.get_ref()).ok()
    }

    fn tcp_listener(&self, listener: TcpListener) -> io::Result<Accept<TcpListener>> {
        Async::new_nonblocking(listener).map(Accept)
    }

    fn unix_listener(&self, listener: UnixListener) -> io::Result<Accept<UnixListener>> {
        Async::new_nonblocking(listener).map(Accept)
    }
}

fn tcp(stream: Async<TcpStream>) -> FuturesIo<Async<TcpStream>> {
    // Fails only where the connection is gone already, and reading will tell.
    let _ = stream.get_ref().set_nodelay(true);
    FuturesIo::new(stream, |stream, how: Shutdown| {
        stream.get_ref().shutdown(how)
    })
}

fn unix(stream: Async<UnixStream>) -> FuturesIo<Async<UnixStream>> {
    FuturesIo::new(stream, |stream, how: Shutdown| {
        stream.get_ref().shutdown(how)
    })
}

/// A listening socket.
pub struct Accept<L>(Async<L>);

impl Listener for Accept<TcpListener> {
    type Stream = FuturesIo<Async<TcpStream>>;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, address) = self.0.accept().await?;
        Ok((tcp(stream), Peer::Tcp(address)))
    }
}

impl Listener for Accept<UnixListener> {
    type Stream = FuturesIo<Async<UnixStream>>;

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
    timer: Timer,
}

impl Sleep for Alarm {
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if self.deadline.replace(deadline) != Some(deadline) {
            self.timer.set_at(self.clock.at(deadline));
        }
        let fired = Pin::new(&mut self.timer).poll(cx);
        if fired.is_ready() {
            // It fires once for each time that it is set.
            self.deadline = None;
        }
        fired.map(|_| ())
    }
}
