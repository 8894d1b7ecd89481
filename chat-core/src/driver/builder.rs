//! From settings to a running server.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Type};

use super::rt::{Runtime, Socket};
use super::security::Configs;
use super::server::{Limits, Server};
use super::{Endpoint, Handler, serve, unix};
use crate::{Config, Receive};

const BACKLOG: i32 = 1024;

/// The settings of a server, each with its default.
#[derive(Clone, Debug)]
pub struct ServerBuilder<R, H> {
    runtime: R,
    handler: H,
    endpoints: Vec<Endpoint>,
    config: Config,
    limits: Limits,
}

impl<R: Runtime + Default, H: Handler> ServerBuilder<R, H> {
    /// A server that does what `handler` says, with default settings, and that listens nowhere yet.
    pub fn new(handler: H) -> Self {
        Self::with_runtime(R::default(), handler)
    }
}

impl<R: Runtime, H: Handler> ServerBuilder<R, H> {
    /// The same on a runtime of one's own.
    pub fn with_runtime(runtime: R, handler: H) -> Self {
        Self {
            runtime,
            handler,
            endpoints: Vec::new(),
            config: Config::default(),
            limits: Limits {
                connections: 10_000,
                handshakes: 1_024,
                per_address: 1_024,
                uids: None,
                outbox: 96 * 1024 * 1024,
                grace: Duration::from_secs(5),
            },
        }
    }

    /// Listens on one more endpoint, TCP or Unix; any number is fine. TCP port 0 lets the system
    /// choose one. A host name is listened on at each of its addresses.
    #[must_use]
    pub fn listen(mut self, endpoint: Endpoint) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// The settings of the connections, the key among them. How messages in chunks are received the
    /// handler says: [`Handler::streams`].
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The most connections at a time, handshakes included: 10,000. One more is told that the
    /// server is full.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections;
        self
    }

    /// The most connections that are in their handshakes, that is, have not shown that they hold the
    /// key: 1,024. Where there is one more, the oldest is closed, if it has had a tenth of
    /// [`Config::handshake_timeout`](crate::Config::handshake_timeout); if none has, the new one is told
    /// to try again. Those that are established do not notice.
    #[must_use]
    pub fn max_handshakes(mut self, handshakes: usize) -> Self {
        self.limits.handshakes = handshakes;
        self
    }

    /// The most TCP connections from one address: 1,024. One more is told so. With IPv6, a network of
    /// 64 bits counts as one address. Where all clients come through one proxy, this is a limit for all
    /// of them.
    #[must_use]
    pub fn max_per_address(mut self, connections: usize) -> Self {
        self.limits.per_address = connections;
        self
    }

    /// Lets only these users connect to Unix sockets, by the ids that the kernel says they have; others
    /// are told so before the handshake. The sockets are then created with mode 0666, for the mode of a
    /// file cannot say as much. By default whoever can open the socket is let in: its owner.
    #[must_use]
    pub fn allow_uids(mut self, uids: impl IntoIterator<Item = u32>) -> Self {
        self.limits.uids = Some(uids.into_iter().collect());
        self
    }

    /// The most bytes of messages that wait for one session, overhead included, beyond what its
    /// connection holds ready: 96 MiB, the largest message and half as much. A single message is
    /// always taken, and messages that go out in chunks have as much room again. Contents that
    /// several sessions wait for are in memory once.
    #[must_use]
    pub fn max_outbox(mut self, bytes: usize) -> Self {
        self.limits.outbox = bytes;
        self
    }

    /// How long stopping may take: 5 s. Whoever is not done then is cut off.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.limits.grace = grace;
        self
    }

    /// Listens on every endpoint and starts to serve.
    ///
    /// Fails, and listens nowhere, if it cannot listen on one of them. Unix sockets are created
    /// with mode 0600 (see [`allow_uids`](Self::allow_uids)), and with a lock file `PATH.lock` beside
    /// them; a socket left behind by a server that was killed is replaced.
    ///
    /// Cancel safety: nothing listens if the future is dropped.
    pub async fn bind(self) -> Result<Server<H::Data>, BindError> {
        let mut bound = Vec::new();
        for endpoint in &self.endpoints {
            let fail = |source| BindError {
                endpoint: endpoint.clone(),
                source,
            };
            match endpoint {
                Endpoint::Tcp(host) => {
                    let addresses = self.runtime.resolve(host).await.map_err(fail)?;
                    bound.extend(listen_tcp(&addresses).map_err(fail)?);
                }
                Endpoint::Unix(path) => {
                    let mode = if self.limits.uids.is_some() {
                        0o666
                    } else {
                        0o600
                    };
                    bound.push(listen_unix(path, mode).map_err(fail)?);
                }
            }
        }
        let mut listening = Vec::new();
        for Bound { endpoint, listener } in bound {
            let taken = match listener {
                Bind::Tcp(listener) => self.runtime.tcp_listener(listener).map(Listening::Tcp),
                Bind::Unix(listener, file) => {
                    let listener = self.runtime.unix_listener(listener);
                    listener.map(|listener| Listening::Unix(listener, file))
                }
            };
            match taken {
                Ok(listener) => listening.push((endpoint, listener)),
                Err(source) => return Err(BindError { endpoint, source }),
            }
        }
        Ok(self.start(listening))
    }

    /// Starts to serve what a listener of one's own accepts, in place of
    /// [listening](Self::listen): a socket that was inherited, or a simulated one. `endpoint` is what
    /// [`Server::endpoints`] gives.
    pub fn serve(self, endpoint: Endpoint, listener: R::TcpListener) -> Server<H::Data> {
        self.start(vec![(endpoint, Listening::Tcp(listener))])
    }

    fn start(self, listeners: Vec<(Endpoint, Listening<R>)>) -> Server<H::Data> {
        let config = self.config.receive(if self.handler.streams() {
            Receive::Pieces
        } else {
            Receive::Whole
        });
        let (endpoints, listeners): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
        let clock = self.runtime.clone();
        let server = Server::new(Configs::new(config), self.limits, endpoints, move || {
            clock.now()
        });
        let handler = Arc::new(self.handler);
        self.runtime
            .spawn(serve::supervise(self.runtime.clone(), server.clone()));
        // All of them, before the first is served.
        let tallies = listeners.iter().map(|_| server.begin_listening());
        let tallies: Vec<_> = tallies.collect();
        for (listener, tally) in listeners.into_iter().zip(tallies) {
            let (runtime, server) = (self.runtime.clone(), server.clone());
            let handler = Arc::clone(&handler);
            match listener {
                Listening::Tcp(listener) => {
                    let wrap = Socket::<R>::Tcp;
                    self.runtime.spawn(serve::accept(
                        runtime, listener, wrap, None, tally, server, handler,
                    ));
                }
                Listening::Unix(listener, file) => {
                    let (wrap, file) = (Socket::<R>::Unix, Some(file));
                    self.runtime.spawn(serve::accept(
                        runtime, listener, wrap, file, tally, server, handler,
                    ));
                }
            }
        }
        for endpoint in server.endpoints() {
            tracing::info!(%endpoint, "listening");
        }
        server
    }
}

/// A listener that the runtime has taken over.
enum Listening<R: Runtime> {
    Tcp(R::TcpListener),
    Unix(R::UnixListener, unix::SocketFile),
}

struct Bound {
    endpoint: Endpoint,
    listener: Bind,
}

enum Bind {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, unix::SocketFile),
}

fn listen_unix(path: &Path, mode: u32) -> io::Result<Bound> {
    let (listener, file) = unix::listen(path, mode)?;
    Ok(Bound {
        endpoint: Endpoint::unix(path),
        listener: Bind::Unix(listener, file),
    })
}

/// Listens on every address of a name. One of an address family that the machine does not have is
/// passed over, as long as there is another.
fn listen_tcp(addresses: &[SocketAddr]) -> io::Result<Vec<Bound>> {
    let mut bound = Vec::new();
    let mut failed = None;
    for address in addresses {
        match listen_at(*address) {
            Ok(listener) => bound.push(Bound {
                endpoint: Endpoint::tcp(listener.local_addr()?.to_string()),
                listener: Bind::Tcp(listener),
            }),
            Err(error)
                if error.kind() == io::ErrorKind::AddrNotAvailable
                    || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) =>
            {
                failed = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match failed {
        Some(error) if bound.is_empty() => Err(error),
        _ => Ok(bound),
    }
}

fn listen_at(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A port of a server that has just stopped can be taken at once; one in use cannot.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` beside `0.0.0.0`, not in place of it.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A server could not listen.
#[derive(Debug)]
pub struct BindError {
    /// Where.
    pub endpoint: Endpoint,
    /// Why.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.endpoint, self.source)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
