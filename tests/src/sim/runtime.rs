//! A node as the driver sees it: a runtime whose network and clocks are simulated.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::task::{Context, Poll};

use chat_core::Instant;
use chat_core::driver::rt::{Listener, Runtime, Sleep, Stream};
use chat_core::driver::{Peer, UnixCredentials};

use super::executor::{Alarm, Node};
use super::network::Wire;

impl Runtime for Node {
    type TcpStream = Wire;
    type UnixStream = Wire;
    type TcpListener = Port;
    type UnixListener = Port;
    type Sleep = Alarm;

    fn now(&self) -> Instant {
        self.time()
    }

    fn sleep(&self) -> Alarm {
        Alarm::new(self)
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        self.random(buffer);
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.start(future);
    }

    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let address = host.parse();
        address.map(|it| vec![it]).map_err(io::Error::other)
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<Wire> {
        self.connect(address)
    }

    /// The path is the address of a listener: each also listens on a Unix socket.
    async fn connect_unix(&self, path: &Path) -> io::Result<Wire> {
        let address = path.to_str().and_then(|path| path.parse().ok());
        self.connect(address.ok_or(io::ErrorKind::NotFound)?)
    }

    fn unix_peer(&self, stream: &Wire) -> Option<UnixCredentials> {
        credentials(stream.unix_peer()?)
    }

    fn tcp_listener(&self, _: std::net::TcpListener) -> io::Result<Port> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unix_listener(&self, _: std::os::unix::net::UnixListener) -> io::Result<Port> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Node {
    /// Listens, for [`ServerBuilder::serve`](chat_core::driver::ServerBuilder::serve).
    pub fn listen(&self, port: u16) -> Port {
        let address = SocketAddr::new(self.address(), port);
        self.simulation.listen(address, self.id);
        Port {
            node: self.clone(),
            address,
        }
    }

    /// Connects to a listener, without anything of the protocol.
    pub fn connect(&self, to: SocketAddr) -> io::Result<Wire> {
        self.simulation.dial(self.id, to)
    }
}

/// A socket that listens.
pub struct Port {
    node: Node,
    address: SocketAddr,
}

impl Port {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Listener for Port {
    type Stream = Wire;

    async fn accept(&mut self) -> io::Result<(Wire, Peer)> {
        let simulation = &self.node.simulation;
        let accepted = poll_fn(|cx| simulation.poll_accept(cx, self.address)).await;
        let (wire, from) = accepted?;
        let peer = match wire.unix_peer() {
            Some(machine) => Peer::Unix(credentials(machine)),
            None => Peer::Tcp(from),
        };
        Ok((wire, peer))
    }
}

/// What a kernel would say of a machine's process, whose id is the machine's number.
fn credentials(machine: usize) -> Option<UnixCredentials> {
    // They cannot be made, only asked for.
    let (socket, _other) = UnixStream::pair().ok()?;
    let mut known = UnixCredentials::of(&socket).ok()?;
    known.pid = i32::try_from(machine).ok();
    Some(known)
}

impl Drop for Port {
    fn drop(&mut self) {
        self.node.simulation.unlisten(self.address);
    }
}

impl Stream for Wire {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.read(cx, buffer)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, slices)
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Sleep for Alarm {
    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.poll(cx, deadline)
    }
}
